"""Mail that came in, from the door to events that are durable: reports about what went out, and mail that is passed on.

Who brings it is a stranger. That a report is about a message of ours was proved by the message's token before it gets
here; where mail is passed on to, is looked up here again.

The contract. Returned: durable and in the views, or a repeat, which changes nothing and is returned as well: whoever
got no answer sends again, and neither a full disk nor a spent budget keeps a repeat from being answered. Cancelled: not
written. Raises Refusal: TOO_MANY_REPORTS, RATE_LIMITED (a budget of strangers is spent, `relay.quota`), QUEUE_FULL
(`relay.space`), NOT_FOUND (the message, or where mail was passed on to, is there no more); or an error of `spool`.

It knows no SMTP. A mail that is being decided when the relay stops is decided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from relay.core import Core
from relay.decisions.inbound_mail import Incoming, forward_address, pass_on
from relay.decisions.reports import Came, bounce_report, complaint_report
from relay.events import NOBODY, Event
from relay.mail_reading import RAW_OCTETS_MAX, Reading
from relay.message.dsn import has_null_sender
from relay.principals import Stranger
from relay.quota import MailKind
from relay.refusals import Refusal
from relay.registry import Arguments, decision
from relay.space import EVENT_BYTES, MAIL, POSTMASTER, Claim
from relay.unsubscribe_calls import members_url
from relay.views import messages
from spool.views import Snapshot

#: Mail for the postmaster that is taken although the disk is nearly full (SPEC 13).
LAST_MAIL_BYTES_MAX: Final = 1024 * 1024
_DIGEST_LABEL: Final = b"atmos-relay inbound 2"
_DIGEST_OCTETS_MAX: Final = 64 * 1024


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail as it came in, and what was read of it."""

    octets: bytes
    #: Of the octets, hex.
    sha256: str
    #: As it was said; "" is the null sender.
    mail_from: str
    rcpt_to: tuple[str, ...]
    client_address: str
    ehlo_name: str
    #: A word of RFC 3848.
    received_with: str
    reading: Reading


class Report(Arguments, frozen=True, kw_only=True):
    """The arguments of `take_report`."""

    #: The mail shows its token.
    message_id: int
    mail: Mail
    #: Of who brought it, where the DNS has it both ways.
    client_name: str | None = None
    #: Domains whose signature on it verifies.
    signed_by: tuple[str, ...] = ()
    #: Of a complaint: who of them is believed.
    provider: str | None = None


class ToPassOn(Arguments, frozen=True, kw_only=True):
    """The arguments of `take_mail`."""

    mail: Mail
    kind: Literal["operator", "reply", "other"]
    #: Whose domain it is for; NOBODY: it goes to the operator's mailbox.
    did: str
    domain: str
    #: It is for the operator's postmaster@ or abuse@.
    is_for_postmaster: bool = False


def _always(wanted: Any) -> bool:
    # When the relay stops, its ports hear nobody out but those who are in the middle of a message.
    return True


@decision(by=Stranger, ends_what_was_begun=_always)
async def take_report(core: Core, report: Report, stranger: Stranger) -> None:
    """Record what a mail says of a message of ours. See the module docstring."""
    mail, message_id = report.mail, report.message_id
    is_complaint = mail.reading.verdict == "complaint"
    entropy = f"{core.surroundings.dice.getrandbits(64):016x}"
    came = Came(
        sha256=mail.sha256,
        size=len(mail.octets),
        raw=mail.octets[:RAW_OCTETS_MAX],
        client_address=mail.client_address,
        client_name=report.client_name,
        signed_by=report.signed_by,
    )

    def decide(view: Snapshot) -> Sequence[Event]:
        story = [core.store.get(seq) for seq in messages.timeline(view, message_id)]
        if is_complaint:
            state = messages.message(view, message_id)
            calls = state is not None and members_url(core.store, state) is not None
            call_at = core.store.now_us() if calls else None
            return complaint_report(
                view, message_id, story, mail.reading, came, provider=report.provider, call_at=call_at
            )
        return bounce_report(
            view,
            message_id,
            story,
            mail.reading,
            came,
            mail_from_null=has_null_sender(view, message_id, core.store.get),
            config=core.config,
            operator_stem=core.operator_stem,
            message_id_entropy=entropy,
            now_us=core.store.now_us(),
        )

    with core.store.read() as view:
        if not decide(view):
            return
        state = messages.message(view, message_id)
        assert state is not None
        domain = state.domain
    size = len(came.raw) + 4 * EVENT_BYTES
    await _write(core, stranger, decide, "report", domain, size, MAIL)


@decision(by=Stranger, ends_what_was_begun=_always)
async def take_mail(core: Core, wanted: ToPassOn, stranger: Stranger) -> None:
    """Take a mail and pass it on. See the module docstring."""
    mail, is_operators = wanted.mail, wanted.did == NOBODY
    incoming = Incoming(
        kind=wanted.kind,
        did=wanted.did,
        domain=wanted.domain,
        reading=mail.reading.kind,
        mail_from=mail.mail_from,
        rcpt_to=mail.rcpt_to,
        client_address=mail.client_address,
        ehlo_name=mail.ehlo_name,
        received_by=core.config.ehlo_name,
        received_with=mail.received_with,
        raw=mail.octets,
        sha256=mail.sha256,
        digest=_digest(mail),
    )

    def decide(view: Snapshot) -> Sequence[Event]:
        if is_operators:
            to_address = core.config.inbound.operator_mailbox or None
        else:
            to_address = forward_address(view, wanted.did, wanted.domain, config=core.config)
        if to_address is None:
            raise Refusal("NOT_FOUND", "address not available: there is nobody here to pass mail on to")
        return pass_on(view, incoming, to_address, config=core.config, now_us=core.store.now_us())

    with core.store.read() as view:
        if not decide(view):
            return
    # The operator's mailbox is one, whichever domain's postmaster@ was written to.
    kind: MailKind = "operator" if is_operators else "member"
    whose = core.config.operator_domain if is_operators else wanted.domain
    size = len(mail.octets) + 2 * EVENT_BYTES
    claim = MAIL
    if wanted.is_for_postmaster and len(mail.octets) <= LAST_MAIL_BYTES_MAX:
        claim = _claim_of_postmaster(core, stranger, size)
    await _write(core, stranger, decide, kind, whose, size, claim)


async def _write(
    core: Core,
    stranger: Stranger,
    decide: Callable[[Snapshot], Sequence[Event]],
    kind: MailKind,
    whose: str,
    size: int,
    claim: Claim,
) -> None:
    with core.quota.budget(kind, whose, size) as spending:
        spending.was_written = bool(await core.writes.decide(stranger, decide, size=size, claim=claim))


def _claim_of_postmaster(core: Core, stranger: Stranger, size: int) -> Claim:
    """Where the disk is too full for other mail, there is room for a few of these: with a provider's first question to
    postmaster@ it begins, and one that finds no postmaster takes no more mail of ours."""
    try:
        core.space.check(stranger, size, claim=MAIL)
    except Refusal:
        return POSTMASTER if core.quota.take_last_mail() else MAIL
    return MAIL


def _digest(mail: Mail) -> str:
    """SHA-256, hex, of envelope and mail: each part behind its length.

    It is kept for good, beside the mail's own SHA-256. So it has the beginning of the mail in it as well: once that was
    erased, nobody can try addresses until one of them fits.
    """
    digest = hashlib.sha256(_DIGEST_LABEL)
    envelope = [part.encode() for part in (mail.mail_from, *sorted(mail.rcpt_to))]
    for octets in (*envelope, mail.octets[:_DIGEST_OCTETS_MAX]):
        digest.update(len(octets).to_bytes(4, "big") + octets)
    digest.update(bytes.fromhex(mail.sha256))
    return digest.hexdigest()
