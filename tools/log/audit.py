"""`log audit`: what happened to one message, as a report that a postmaster can send to the member who asks.

`relay.past.audit` finds the facts; here they are told. What strangers wrote (a receiver's reply, a subject) is escaped
before it is printed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from msgspec import to_builtins

from relay.codec import Recorded
from relay.events import (
    NOBODY,
    AlarmQueued,
    AttemptInterrupted,
    AttemptStarted,
    ConfirmationQueued,
    DomainPaused,
    DomainResumed,
    DsnQueued,
    Event,
    ForwardQueued,
    MailReceived,
    MemberResumed,
    MemberSuspended,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageDeferred,
    MessageHeld,
    MessageQueued,
    MessageReleased,
    MessageRescheduled,
    MessageSent,
    Outcome,
    PayloadErased,
    RecipientSuppressed,
    ReportDetails,
    SendAccepted,
    UnsubscribeCalled,
    WebhookNoticeQueued,
)
from relay.past.audit import Audit, DecisionThen, LimitsThen, Told, Window, audit
from relay.presentation import report_of
from relay.times import rfc3339
from spool.reader import LogReader
from tools.log.audited import recipient_options, which_message
from tools.log.directory import log_directory
from tools.log.event_text import as_object, show
from tools.meter import open_meter
from tools.naming import one_message
from tools.output import (
    counted,
    directory_argument,
    json_option,
    print_json,
    printable,
    quiet_when_nobody_reads,
    report_line,
)

#: By whom and why is told where it was done, by its `payload.erased`.
_REMOVED = "(removed)"


@click.command("audit")
@directory_argument
@one_message(required=False)
@recipient_options
@json_option
@click.pass_context
def audit_command(
    context: click.Context,
    directory: Path,
    message_id: int | None,
    recipient: str | None,
    since: str | None,
    as_json: bool,
) -> None:
    """Tell one message's whole story, and prove it.

    Where its id is not known, --recipient names whom it went to; of several the newest is told, and the others are
    named.

    When it was accepted, under which key, and with which counts of its limits; every attempt and what was answered;
    every order and why. The message is composed again and compared with the SHA-256 of each attempt, and its signatures
    are verified. Reads the whole log. Exit status 1 if a hash or a signature does not hold.
    """
    named = which_message(directory, message_id, recipient, since)
    with LogReader(log_directory(directory)) as reader, open_meter() as meter:
        last_seq = max((segment.last_seq for segment in reader.segments()), default=0)
        found = audit(directory, reader, named.message_id, meter.decoding("reading the log", last_seq))
    with quiet_when_nobody_reads():
        if as_json:
            print_json({**as_json_object(found), **named.for_programs()})
        else:
            for line in (*named.for_people(), *report(found)):
                click.echo(line)
    if found.problems:
        context.exit(1)


# ------------------------------------------------------------------------------------------------ for programs


def as_json_object(found: Audit) -> dict[str, Any]:
    state, summary = found.state, found.summary
    return {
        "messageId": state.message_id,
        "status": state.status,
        "category": state.category,
        "did": state.did,
        "domain": state.domain,
        "from": summary.sender,
        "recipient": summary.recipient,
        "subject": summary.subject,
        "messageIdHeader": found.message_id_header,
        "acceptedAt": rfc3339(state.accepted_at),
        "attempts": state.attempts,
        "nextAttemptAt": summary.next_attempt_at,
        "about": state.about,
        "decision": None if found.decision is None else _decision_object(found.decision),
        "events": [as_object(show(told.record)) for told in found.story],
        "interrupted": [
            told.event.attempt for told in found.story if isinstance(told.event, AttemptInterrupted)
        ],
        "compositions": [
            {"attempt": one.attempt, "seq": one.seq, "sha256": one.sha256, "match": one.match}
            for one in found.compositions
        ],
        "composedSha256": None if found.outgoing is None else found.outgoing.sha256,
        "notComposed": found.not_composed,
        "signatures": [one._asdict() for one in found.signatures],
        "problems": found.problems,
        "records": found.records,
    }


def _decision_object(decision: DecisionThen) -> dict[str, Any]:
    key, domain, limits = decision.key, decision.domain, decision.limits
    return {
        "memberStatus": None if decision.member is None else decision.member.status,
        "domainStatus": None if domain is None else domain.status,
        "domainVerified": None if domain is None else domain.verified,
        "keyIssuedAt": None if key is None else rfc3339(key.issued_at),
        "keySeq": decision.key_seq,
        "keyActive": key is not None and key.revoked_at is None,
        "limits": None if limits is None else _limits_object(limits),
        "limitsUnknown": decision.limits_unknown,
        "suppressedFor": decision.suppressed_for,
    }


def _limits_object(limits: LimitsThen) -> dict[str, Any]:
    return {
        "hour": limits.hour._asdict(),
        "day": limits.day._asdict(),
        "warmingDay": limits.warming_day,
        "setBySeq": limits.set_by_seq,
        "refusedNow": limits.refused_now,
    }


# ------------------------------------------------------------------------------------------------ for people


def report(found: Audit) -> Iterator[str]:
    """The lines of the report, fit for a terminal."""
    for line in _lines(found):
        yield printable(line)


def _lines(found: Audit) -> Iterator[str]:
    yield f"Message {found.state.message_id}: {found.state.status}"
    yield ""
    yield from _letter(found)
    for told in found.story:
        yield ""
        yield from _told(found, told)
    yield ""
    if found.state.attempting:
        yield f"Attempt {found.state.attempts} has no outcome yet: it is under way, or the relay stopped meanwhile and"
        yield "will name it interrupted when it starts again."
        yield ""
    yield from _proof(found)


def _letter(found: Audit) -> Iterator[str]:
    state, summary = found.state, found.summary
    yield f"  From        {_or_removed(summary.sender)}"
    yield f"  To          {_or_removed(summary.recipient)}"
    yield f"  Subject     {_or_removed(summary.subject)}"
    if found.message_id_header is not None:
        yield f"  Message-ID  {found.message_id_header}"
    yield f"  Category    {state.category}"
    yield f"  Member      {state.did}"


def _or_removed(text: str | None) -> str:
    return _REMOVED if text is None else text


def _told(found: Audit, told: Told) -> Iterator[str]:
    """The event's time and what it was in a sentence; what more there is to say of it below."""
    sentence, *details = _tell(found, told)
    removed = " (personal data removed)" if told.record.stripped else ""
    yield f"{rfc3339(told.recorded.time_us)}  {sentence}{removed} [sequence {told.recorded.seq}]"
    for detail in details:
        yield f"    {detail}"


def _tell(found: Audit, told: Told) -> Iterator[str]:
    event = told.event
    match event:
        case PayloadErased(because="operator"):
            yield f"Personal data removed by order of {event.by}: {event.reason}"
        case PayloadErased():
            yield "Personal data removed by retention: their time was over"
        case SendAccepted():
            yield from _tell_send(found, event)
        case MessageQueued():
            yield f"Queued as recipient {event.index} of the send"
            if event.scheduled:
                yield f"scheduled by its member for {rfc3339(event.next_attempt_at)}"
            yield f"given up at {rfc3339(event.give_up_at)} if it is not final by then"
        case DsnQueued() if told.recorded.seq == found.state.message_id:
            told_of = found.story[0].event
            what = "was reported" if isinstance(told_of, MessageBounceReported) else "bounced"
            yield f"Queued, because message {event.about} {what} and its domain wants to hear of it"
        case DsnQueued():
            to = "" if event.personal is None else f" to {event.personal.address}"
            yield f"The bounce is made known{to}, by message {told.recorded.seq}"
        case MailReceived():
            yield from _tell_received(event)
        case ForwardQueued():
            to = "" if event.personal is None else f" to {event.personal.address}"
            yield f"Queued, to be passed on{to}"
        case MessageBounceReported():
            yield from _tell_report(found, told.recorded, event)
        case MessageComplained():
            yield from _tell_complaint(event)
        case ConfirmationQueued():
            yield f"Queued, to ask whether the bounces of {event.domain} may be told there"
        case WebhookNoticeQueued():
            yield f"Queued, to tell that webhook {event.webhook_id} is disabled"
        case AlarmQueued():
            yield f"Queued, to tell of the alarm {event.alarm} about {event.about}"
        case AttemptStarted():
            yield f"Attempt {event.attempt} begins"
        case AttemptInterrupted():
            yield f"Attempt {event.attempt} was interrupted"
            yield "The relay stopped when it may have given the whole message and had not recorded the answer:"
            yield "the receiver may have it. What is tried again are the same bytes with the same Message-ID."
            yield f"next attempt at {rfc3339(event.next_attempt_at)}"
        case Outcome():
            yield from _tell_outcome(found, event)
        case _:
            yield from _tell_order(event)


def _tell_received(event: MailReceived) -> Iterator[str]:
    whose = "the operator" if event.did == NOBODY else f"the domain {event.domain}"
    yield f"Came in for {whose}, as {event.kind}"
    mail = event.personal
    if mail is not None:
        yield f"from {mail.mail_from or 'the null sender'} for {', '.join(mail.rcpt_to)}"
        where = mail.client_address or "an address that is not known"
        yield f"by {event.received_with} from {where} ({mail.ehlo_name})"
    yield f"{event.size:,} bytes, SHA-256 {event.sha256}"


def _tell_report(found: Audit, recorded: Recorded, event: MessageBounceReported) -> Iterator[str]:
    about = "" if event.message_id == found.state.message_id else f"Message {event.message_id}: "
    by = "" if event.by is None else f", recorded by {event.by}"
    counts = "it counts as a bounce" if event.counts else "it counts for nothing"
    yield f"{about}A report came in ({event.kind}){by}; {counts}, and the status stays"
    yield report_line(to_builtins(report_of(recorded)))
    details = event.personal
    if details is not None:
        yield from _tell_reporter(details)
    yield f"{event.size:,} bytes, SHA-256 {event.sha256}"


def _tell_complaint(event: MessageComplained) -> Iterator[str]:
    by = "" if event.provider is None else f", says {event.provider}"
    if event.authenticated:
        yield f"The recipient called it spam{by}; its status stays"
    else:
        yield "Somebody says that the recipient called it spam; it counts as an unsubscribe, and its status stays"
    if event.personal is not None:
        yield from _tell_reporter(event.personal)
    if event.sha256 is not None:
        yield f"{event.size:,} bytes, SHA-256 {event.sha256}"


def _tell_reporter(details: ReportDetails) -> Iterator[str]:
    """Without where it was handed in, which is no member's business; `log cat` has it."""
    if details.signed_by:
        yield f"signed by {', '.join(details.signed_by)}"
    if details.why is not None:
        yield f"why: {details.why}"


def _tell_send(found: Audit, event: SendAccepted) -> Iterator[str]:
    recipients = counted(event.recipients, "recipient")
    yield f"Accepted{' by SMTP' if event.via == 'smtp' else ''}, a send to {recipients}"
    decision = found.decision
    assert decision is not None
    yield from _tell_request(event, decision)
    member, domain = decision.member, decision.domain
    if member is not None and domain is not None:
        verified = "its DNS records verified" if domain.verified else "its DNS records not verified"
        yield f"the member was {member.status}, the domain {domain.domain} {domain.status}, {verified}"
    if decision.limits is None:
        yield f"what its limits were is not known: {decision.limits_unknown}"
    else:
        yield from _tell_limits(decision.limits)
    yield _tell_suppression(decision.suppressed_for)


def _tell_request(event: SendAccepted, decision: DecisionThen) -> Iterator[str]:
    key = decision.key
    if key is None:
        issued = "of which the log does not have the issue"
    else:
        issued = f"issued {rfc3339(key.issued_at)}, sequence {decision.key_seq}"
        issued += ", active then" if key.revoked_at is None else f", revoked {rfc3339(key.revoked_at)}"
    content = event.personal
    came_from = "" if content is None or content.client_address is None else f" from {content.client_address}"
    yield f"under API key {event.key_id} ({issued}){came_from}"
    if event.idempotency_key is not None:
        yield f"with an Idempotency-Key, SHA-256 {event.idempotency_key}"
    if content is None:
        return
    for recipient, reason in content.rejected:
        yield f"rejected in the same answer: {recipient} ({reason})"
    for field, shown in (("To", content.to_shown), ("Cc", content.cc)):
        if shown:
            yield f"all its recipients see {field}: {', '.join(address for _, address in shown)}"
    for one in content.attachments:
        octets, digest = counted(len(one.content), "byte"), hashlib.sha256(one.content).hexdigest()
        yield f"with the file {one.filename} ({one.content_type}), {octets}, SHA-256 {digest}"
    if content.calendar is not None:
        yield f"with an invitation ({content.calendar.method})"


def _tell_limits(limits: LimitsThen) -> Iterator[str]:
    yield f"counted before it and with it: {_window(limits.hour, 'hour')}; {_window(limits.day, 'day')}"
    if limits.warming_day is not None:
        yield f"the limits are those of a domain on day {limits.warming_day}, as today's configuration has them"
    elif limits.set_by_seq is not None:
        yield f"the limits are the member's own, set by sequence {limits.set_by_seq}"
    if limits.refused_now is not None:
        yield f"today's configuration would refuse it: {limits.refused_now}"


def _window(window: Window, name: str) -> str:
    return f"{window.before:,} and {window.after:,} of {window.limit:,} in the {name}"


def _tell_suppression(reasons: list[str] | None) -> str:
    if reasons is None:
        return "whether the recipient was suppressed cannot be told: its address has been removed"
    if reasons:
        return f"the recipient was suppressed for {', '.join(reasons)}, which does not stop this category"
    return "the recipient was on no suppression list of the member's"


def _tell_outcome(found: Audit, event: Outcome) -> Iterator[str]:
    about = "" if event.message_id == found.state.message_id else f"Message {event.message_id}: "
    at = f" at attempt {event.attempt}" if event.attempt else " without an attempt"
    match event:
        case MessageSent():
            sentence = f"Sent{at}"
        case MessageDeferred():
            sentence = f"Deferred{at}{_class(event)}"
        case MessageBounced():
            by = "" if event.by is None else f" by {event.by}"
            if event.key_id is not None:
                by = f" by its member, key {event.key_id}"
            sentence = f"Bounced{at}, {event.reason}{by}{_class(event)}"
        case _:
            raise AssertionError(f"{event.TYPE} is no outcome")
    yield about + sentence
    yield from _tell_remote(event)
    if event.attempt:
        yield f"took {event.duration_us / 1_000_000:.3f} s"
    if event.sha256 is not None:
        yield f"{event.size:,} bytes, SHA-256 {event.sha256}"
    elif event.attempt:
        yield "no byte of the message was sent"
    if isinstance(event, MessageDeferred):
        yield f"next attempt at {rfc3339(event.next_attempt_at)}"


def _class(event: Outcome) -> str:
    return "" if event.bounce_class is None else f" ({event.bounce_class})"


def _tell_remote(event: Outcome) -> Iterator[str]:
    """Whom we talked to, how, and what they said."""
    remote = event.personal
    if remote is not None and remote.mx is not None:
        where = remote.mx if remote.address in (None, remote.mx) else f"{remote.mx} ({remote.address})"
        yield f"receiver {where}, {_protection(event)}"
    elif event.attempt and event.tls_version is not None:
        yield f"receiver {_REMOVED}, {_protection(event)}"
    codes = " ".join(str(part) for part in (event.code, event.enhanced) if part is not None)
    text = "" if remote is None or not remote.text else remote.text
    said = " ".join(filter(None, (codes, text)))
    if said and event.code is not None:
        asked = "" if event.command is None else f" to {event.command}"
        yield f"answer{asked}: {said}"
    elif said:
        # Nobody answered: the words and the enhanced code are the relay's own.
        when = "" if event.command is None else f" at {event.command}"
        yield f"no answer{when}: {said}"


def _protection(event: Outcome) -> str:
    if event.tls_version is None:
        return "without TLS"
    return ", ".join(filter(None, (event.tls_version, event.tls_cipher, event.tls_certificate)))


def _tell_order(event: Event) -> Iterator[str]:
    """What people and circumstances did."""
    match event:
        case MessageHeld(because="operator"):
            yield f"Held by {event.by}{_why(event)}"
        case MessageHeld():
            yield f"Held: its {event.because} may not send now"
        case MessageReleased():
            yield f"Released by {event.by}{_why(event)}"
        case MessageRescheduled():
            yield f"Rescheduled by {f'its member, key {event.key_id}' if event.by is None else event.by + _why(event)}"
            yield f"next attempt at {rfc3339(event.next_attempt_at)}"
        case RecipientSuppressed():
            yield f"The recipient is suppressed from now on: {event.reason}"
        case UnsubscribeCalled():
            answer = "no answer" if event.status is None else f"HTTP status {event.status}"
            yield f"The member's own unsubscribe URL was called, attempt {event.attempt}: {answer}"
        case DomainPaused():
            yield f"The domain {event.domain} is {event.status}{_reason(event.reason)}"
            if event.evidence is not None:
                counts = event.evidence
                yield f"{counts.bounced} bounced and {counts.complaints} complaints of {counts.final} final messages"
        case DomainResumed():
            yield f"The domain {event.domain} may send again{_reason(event.reason)}"
        case MemberSuspended():
            yield f"The member is suspended{_reason(event.reason)}"
        case MemberResumed():
            yield f"The member may send again{_reason(event.reason)}"
        case _:
            yield event.TYPE


def _why(event: MessageHeld | MessageReleased | MessageRescheduled) -> str:
    return f": {_REMOVED}" if event.personal is None else f": {event.personal.why}"


def _reason(reason: str | None) -> str:
    return "" if reason is None else f" ({reason})"


def _proof(found: Audit) -> Iterator[str]:
    yield "Proof"
    yield f"    all {found.records:,} records of the log were read; their checksums and their chain hold"
    if found.outgoing is None:
        yield f"    the message cannot be composed again: {found.not_composed}"
    elif not found.compositions:
        yield "    no attempt has sent anything, so there is nothing to compare the message with"
    for one in found.compositions:
        if one.match is None:
            yield f"    attempt {one.attempt}: not compared, SHA-256 {one.sha256} was sent"
        elif one.match:
            yield f"    attempt {one.attempt}: composed again, the bytes are those that were sent"
        else:
            assert found.outgoing is not None
            yield f"    attempt {one.attempt}: DIFFERENT BYTES: composed again, SHA-256 is {found.outgoing.sha256}"
    for signature in found.signatures:
        verdict = {True: "valid", False: "NOT VALID", None: "not checked"}[signature.valid]
        yield f"    signature d={signature.d} s={signature.s}: {verdict} (public key: {signature.key})"
    yield (
        f"    {len(found.problems)} of this contradict the log"
        if found.problems
        else "    nothing contradicts the log"
    )
