"""What a report makes true that came in about a message which had gone out: a bounce that comes later, a complaint.

Pure functions from views, story, reading and time to events, or a Refusal. Who calls
them has proved that the report shows a token of the message. To whom that was, the message's own record says.

The contract. A message's status stays as it is. The same mail again (by its SHA-256) changes nothing, so that whoever
gets no answer may hand it in again. Of mail that was passed on the first report is recorded, and no other. What came by
mail is recorded REPORTS_MAX times for one message, whatever it says, because only the log's size bounds what its
receiver could send: then it is Refusal(TOO_MANY_REPORTS). The operator's hand has no bound.

A message *fails* once: said in the form for it (RFC 3464, RFC 6533), of a message that was tried, has not bounced, and
is no notice. Then the report makes one DSN. Where it failed for good (5.x), and not because a receiver gave up trying
(4.x), it *counts*: it is in the domain's rate (`relay.views.reputation`), and suppresses the recipient where it tells
of the mailbox. What only a practised eye takes for a bounce is recorded and shown. A complaint counts only if it is
authenticated; else it is what a click on the unsubscribe link is.

A report may come before the outcome of the attempt that caused it: the receiver had the mail before we had its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.codec import Recorded
from relay.config import Config
from relay.decisions.suppression import is_operators_mail, suppress
from relay.events import (
    RECIPIENT_CLASSES,
    Event,
    MessageBounceReported,
    MessageComplained,
    MessageQueued,
    Notice,
    ReportDetails,
)
from relay.mail_reading import DELIVERY_REPORTS, RAW_OCTETS_MAX, Reading
from relay.message.dsn import dsn_for
from relay.refusals import Refusal
from relay.views import messages
from spool.views import Snapshot

#: About one message, by mail.
REPORTS_MAX: Final = 20


class Came(NamedTuple):
    """How a report came in."""

    #: Hex, of the mail as it came.
    sha256: str
    size: int
    #: Cut to RAW_OCTETS_MAX.
    raw: bytes
    client_address: str | None = None
    #: Where the DNS has it both ways.
    client_name: str | None = None
    #: Domains whose DKIM signature on it verifies.
    signed_by: tuple[str, ...] = ()
    #: The Unix user who recorded it by hand, and why; None: it came by mail.
    by: str | None = None
    why: str | None = None


def bounce_report(
    view: Snapshot,
    message_id: int,
    story: Sequence[Recorded],
    reading: Reading,
    came: Came,
    *,
    mail_from_null: bool = False,
    config: Config,
    operator_stem: str,
    message_id_entropy: str,
    now_us: int,
) -> list[Event]:
    """`message.bounce_reported`, and, of a failure, the DSN and the suppression right behind it. [] for a repeat.

    `story` is the message's timeline, empty where there is no such message: Refusal(NOT_FOUND). Of whatever reading,
    but a complaint. `mail_from_null`: the message was submitted with the null sender, and wants no DSN.
    """
    state, queued = _message_of(view, message_id, story)
    if _is_known(story, came) or (state.is_forward and came.by is None and _reports(story)):
        return []
    _check_count(story, came)
    reported = MessageBounceReported(
        did=state.did,
        message_id=message_id,
        kind=reading.kind,
        action=reading.action,
        enhanced=reading.enhanced,
        code=reading.code,
        bounce_class=reading.bounce_class,
        feedback_type=reading.feedback_type,
        is_failure=_is_failure(state, reading),
        sha256=came.sha256,
        size=came.size,
        by=came.by,
        personal=_details(reading, came),
    )
    # Without its personal data nobody knows any more whom to suppress, and there is nothing to quote.
    if not reported.is_failure or queued.personal is None or not messages.has_personal_data(view, message_id):
        return [reported]
    dsn = dsn_for(
        view,
        reported,
        mail_from_null=mail_from_null,
        config=config,
        operator_stem=operator_stem,
        message_id_entropy=message_id_entropy,
        now_us=now_us,
    )
    events: list[Event] = [reported] if dsn is None else [reported, dsn]
    if reported.counts and reported.bounce_class in RECIPIENT_CLASSES:
        events += suppress(view, state.did, queued.personal.address, "bounced", message_id=message_id)
    return events


def complaint_report(
    view: Snapshot,
    message_id: int,
    story: Sequence[Recorded],
    reading: Reading,
    came: Came,
    *,
    provider: str | None,
    call_at: int | None = None,
) -> list[Event]:
    """`message.complained`, and the suppression that follows. [] for a repeat.

    `provider`: of those that are believed, the one whose signature on it verifies; None: none of them signed it.
    `story` as in `bounce_report`. A complaint about a notice counts in no rate, but nobody writes to that mailbox
    again; only the operator's own mailbox is never closed to the operator's mail. `call_at`: when the member's own
    unsubscribe URL, kept with the message, is to be called where this is no more than an unsubscribe; None: there is
    none.
    """
    state, queued = _message_of(view, message_id, story)
    if _is_known(story, came):
        return []
    _check_count(story, came)
    authenticated = provider is not None or came.by is not None
    events: list[Event] = [
        MessageComplained(
            did=state.did,
            message_id=message_id,
            via="report" if came.by is None else "operator",
            feedback_type=reading.feedback_type,
            provider=provider,
            authenticated=authenticated,
            sha256=came.sha256,
            size=came.size,
            by=came.by,
            personal=_details(reading, came),
        )
    ]
    if (
        queued.personal is not None
        and messages.has_personal_data(view, message_id)
        and not is_operators_mail(queued)
    ):
        events += suppress(
            view,
            state.did,
            queued.personal.address,
            "complaint" if authenticated else "unsubscribe",
            message_id=message_id,
            call_at=None if authenticated else call_at,
        )
    return events


def _message_of(
    view: Snapshot, message_id: int, story: Sequence[Recorded]
) -> tuple[messages.MessageState, MessageQueued | Notice]:
    state = messages.message(view, message_id)
    if not story or state is None:
        raise Refusal("NOT_FOUND", f"message: there is no message {message_id}")
    queued = story[0].event
    assert isinstance(queued, MessageQueued | Notice)
    return state, queued


def _reports(story: Sequence[Recorded]) -> list[MessageBounceReported | MessageComplained]:
    """Those that came as a mail."""
    return [
        entry.event
        for entry in story
        if isinstance(entry.event, MessageBounceReported | MessageComplained) and entry.event.sha256
    ]


def _is_known(story: Sequence[Recorded], came: Came) -> bool:
    return any(report.sha256 == came.sha256 for report in _reports(story))


def has_all_its_reports(story: Sequence[Recorded]) -> bool:
    """Whether no more reports about the message are taken by mail."""
    return sum(report.by is None for report in _reports(story)) >= REPORTS_MAX


def _check_count(story: Sequence[Recorded], came: Came) -> None:
    if came.by is None and has_all_its_reports(story):
        raise Refusal(
            "TOO_MANY_REPORTS", f"message: {REPORTS_MAX} reports about it are recorded, the most for one"
        )


def _is_failure(state: messages.MessageState, reading: Reading) -> bool:
    """Whether the report is the one by which the message fails, once for each."""
    return (
        reading.kind in DELIVERY_REPORTS
        and reading.action == "failed"
        and not (reading.enhanced or "").startswith("2.")
        and not state.is_notice
        and state.attempts > 0
        and state.status != "bounced"
        and state.reported_seq is None
    )


def _details(reading: Reading, came: Came) -> ReportDetails:
    return ReportDetails(
        diagnostic=reading.diagnostic or None,
        reporting_mta=reading.reporting_mta,
        remote_mta=reading.remote_mta,
        client_address=came.client_address,
        client_name=came.client_name,
        signed_by=list(came.signed_by),
        raw=came.raw[:RAW_OCTETS_MAX],
        why=came.why,
    )
