"""What the views say, as rows that people and programs can read. Pure.

The invariant: **a view's rows come in the order of their keys, and a key says whose row it is for good.** So two
moments of a log are compared by walking both at once (`differences`), however large they are: memory holds one row of
each. Nothing is decided here; the rows are those of the tables, decoded by the modules that own them.

The views hold nothing personal of a message; `log audit` tells that from the log. Suppressions have their address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from relay.presentation import suppressed_address
from relay.times import DAY_US, HOUR_US, rfc3339, rfc3339_or_none
from relay.views import (
    calls,
    due,
    handles,
    idempotency,
    members,
    messages,
    reputation,
    suppressions,
    warming,
    webhooks,
)
from relay.views.keys import owned, u64
from spool.views import Snapshot

Row = dict[str, Any]
#: (key, row), in the order of the keys.
Rows = Iterator[tuple[bytes, Row]]


class Moment(NamedTuple):
    """The views right after one record of the log."""

    seq: int
    time_us: int
    view: Snapshot


class View(NamedTuple):
    meaning: str
    rows: Callable[[Moment], Rows]
    #: The fields that say which row it is.
    identity: tuple[str, ...]
    #: The fields that a table for people has, in its order.
    columns: tuple[str, ...]


class Change(NamedTuple):
    what: Literal["added", "removed", "changed"]
    before: Row | None
    after: Row | None


def differences(before: Rows, after: Rows) -> Iterator[Change]:
    """What became of the rows of one view between two moments, in the order of their keys."""
    old, new = next(before, None), next(after, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old[0] < new[0]):
            assert old is not None
            yield Change("removed", old[1], None)
            old = next(before, None)
        elif old is None or new[0] < old[0]:
            yield Change("added", None, new[1])
            new = next(after, None)
        else:
            if old[1] != new[1]:
                yield Change("changed", old[1], new[1])
            old, new = next(before, None), next(after, None)


def _messages(moment: Moment) -> Rows:
    for state in messages.all_messages(moment.view):
        yield (
            u64(state.message_id),
            {
                "messageId": state.message_id,
                "status": state.status,
                "did": state.did,
                "domain": state.domain,
                "category": state.category,
                "acceptedAt": rfc3339(state.accepted_at),
                "giveUpAt": rfc3339(state.give_up_at),
                "nextAttemptAt": rfc3339_or_none(state.next_attempt_at),
                "attempts": state.attempts,
                "attempting": state.attempting,
                "outcomeSeq": state.outcome_seq,
                "finalAt": rfc3339_or_none(state.final_at),
                "about": state.about,
                "reportedSeq": state.reported_seq,
                "complainedSeq": state.complained_seq,
            },
        )


def _statuses(moment: Moment) -> Rows:
    counts = messages.status_counts(moment.view)
    for status in sorted(counts):
        yield status.encode(), {"status": status, "messages": counts[status]}


def _due(moment: Moment) -> Rows:
    attempting = dict(due.in_flight(moment.view))
    for waiting in due.waiting_after(moment.view, 0):
        state = messages.message(moment.view, waiting.message_id)
        assert state is not None, f"message {waiting.message_id} waits, and was never queued"
        yield (
            u64(waiting.message_id),
            {
                "messageId": waiting.message_id,
                "did": state.did,
                "recipientDomain": waiting.lane.domain or None,
                "class": "bulk" if waiting.lane.bulk else "transactional",
                "nextAttemptAt": rfc3339(waiting.next_attempt_at),
                "heldBy": waiting.held_by,
                "attempting": attempting.get(waiting.message_id),
            },
        )


def _suppressions(moment: Moment) -> Rows:
    for key, did, state in suppressions.by_address(moment.view):
        shown = suppressed_address(state)
        yield (
            key,
            {
                "did": did,
                "recipient": shown.recipient,
                "reason": shown.reason,
                "since": shown.since,
                "seq": shown.seq,
                "reasons": [
                    {"reason": one.reason, "since": one.since, "seq": one.seq, "note": one.note}
                    for one in shown.reasons
                ],
            },
        )


def _counters(moment: Moment) -> Rows:
    """What limits and rates are judged by: rolling windows that end with the moment's record."""
    view, now = moment.view, moment.time_us
    for name in members.names(view):
        domain = members.domain(view, name)
        assert domain is not None
        rates = reputation.evidence(view, name, now - DAY_US, now)
        yield (
            name.encode(),
            {
                "domain": name,
                "did": domain.did,
                "acceptedLastHour": warming.used(view, name, now, HOUR_US),
                "acceptedLastDay": warming.used(view, name, now, DAY_US),
                "accepted": warming.total_until(view, name, now),
                "finalLastDay": rates.final,
                "bouncedLastDay": rates.bounced,
                "complaintsLastDay": rates.complaints,
            },
        )


def _members(moment: Moment) -> Rows:
    for state in members.members(moment.view):
        held = handles.held_by(moment.view, state.did)
        yield (
            state.did.encode(),
            {
                "did": state.did,
                "handle": None if held is None else held.handle,
                "handleProvedAt": None if held is None else rfc3339_or_none(held.proved_at),
                "handleCheckedAt": None if held is None else rfc3339_or_none(held.checked_at),
                "handleFailingSince": None if held is None else rfc3339_or_none(held.failing_since),
                "status": state.status,
                "addedAt": rfc3339(state.added_at),
                "hourLimit": state.hour_limit,
                "dayLimit": state.day_limit,
                "domains": [domain.domain for domain in members.domains_of(moment.view, state.did)],
            },
        )


def _domains(moment: Moment) -> Rows:
    for key, state in members.by_name(moment.view):
        yield (
            key,
            {
                "domain": state.domain,
                "did": state.did,
                "status": state.status,
                "verified": state.verified,
                "selectorStem": state.selector_stem,
                "addedAt": rfc3339(state.added_at),
                "firstVerifiedAt": rfc3339_or_none(state.first_verified_at),
                "failingSince": rfc3339_or_none(state.failing_since),
                "checkedAt": rfc3339_or_none(state.checked_at),
                "resumedAt": rfc3339_or_none(state.resumed_at or None),
                "forwardTo": state.forward_to,
                "forwardConfirmed": state.forward_confirmed,
            },
        )


def _keys(moment: Moment) -> Rows:
    """Without their hashes: nobody reads those, and they are nobody's business."""
    for member in members.members(moment.view):
        for state in members.keys_of(moment.view, member.did):
            yield (
                owned(member.did) + state.key_id.encode(),
                {
                    "did": member.did,
                    "keyId": state.key_id,
                    "scope": state.scope,
                    "category": state.category,
                    "issuedBy": state.issued_by,
                    "issuedAt": rfc3339(state.issued_at),
                    "revokedAt": rfc3339_or_none(state.revoked_at),
                },
            )


def _idempotency(moment: Moment) -> Rows:
    for key, did, key_sha256, first in idempotency.all_first_uses(moment.view):
        yield (
            key,
            {"did": did, "keySha256": key_sha256, "seq": first.seq, "time": rfc3339(first.time_us)},
        )


def _days(moment: Moment) -> Rows:
    for key, did, day_us, day in reputation.all_days(moment.view):
        # The day as its beginning, cut to the date.
        yield key, {"did": did, "day": rfc3339(day_us)[:10], **day._asdict()}


def _calls(moment: Moment) -> Rows:
    for call in calls.all_calls(moment.view):
        yield (
            u64(call.suppressed_seq),
            {
                "suppressedSeq": call.suppressed_seq,
                "nextAttemptAt": rfc3339(call.at_us),
                "attempts": call.attempts,
            },
        )


def _webhooks(moment: Moment) -> Rows:
    """Without their URLs, which may carry a token: `webhook list` shows them."""
    for state in webhooks.all_webhooks(moment.view):
        replay = state.replay
        yield (
            state.webhook_id.encode(),
            {
                "webhookId": state.webhook_id,
                "did": state.did or None,
                "status": state.status,
                "disabledBecause": state.disabled_because,
                "types": list(state.types),
                "batch": state.batch,
                "cursor": state.cursor,
                "replay": None if replay is None else {"from": replay.position, "to": replay.until},
                "secretVersion": state.secret.version,
                "pepper": state.secret.pepper,
                "keyId": state.key_id,
                "addedAt": rfc3339(state.added_at),
                "failures": state.failures,
                "failingSince": rfc3339_or_none(state.failing_since),
                "refusedSince": rfc3339_or_none(state.refused_since),
                "failedAt": rfc3339_or_none(state.failed_at),
                "httpStatus": state.http_status,
                "error": state.error,
            },
        )


VIEWS: dict[str, View] = {
    "messages": View(
        "every message and how it stands",
        _messages,
        ("messageId",),
        ("messageId", "status", "category", "domain", "acceptedAt", "attempts", "nextAttemptAt", "finalAt"),
    ),
    "suppressions": View(
        "to whom a member's mail may not go, and why",
        _suppressions,
        ("did", "recipient"),
        ("did", "recipient", "reason", "since", "seq"),
    ),
    "counters": View(
        "what limits and rates are judged by, for each domain",
        _counters,
        ("domain",),
        (
            "domain",
            "acceptedLastHour",
            "acceptedLastDay",
            "finalLastDay",
            "bouncedLastDay",
            "complaintsLastDay",
        ),
    ),
    "members": View(
        "the members, their handles and their own limits",
        _members,
        ("did",),
        ("did", "status", "addedAt", "hourLimit", "dayLimit", "domains", "handle"),
    ),
    "domains": View(
        "the sending domains",
        _domains,
        ("domain", "did"),
        ("domain", "did", "status", "verified", "firstVerifiedAt", "forwardTo"),
    ),
    "keys": View(
        "the API keys, without their secrets",
        _keys,
        ("did", "keyId"),
        ("did", "keyId", "scope", "category", "issuedAt", "revokedAt"),
    ),
    "statuses": View("how many messages have each status", _statuses, ("status",), ("status", "messages")),
    "due": View(
        "what waits for its next attempt, and what holds it",
        _due,
        ("messageId",),
        ("messageId", "recipientDomain", "class", "nextAttemptAt", "heldBy", "attempting"),
    ),
    "days": View(
        "what became of each member's mail, by day",
        _days,
        ("did", "day"),
        ("did", "day", "accepted", "sent", "bounced", "complaints", "reported"),
    ),
    "idempotency": View(
        "which send each Idempotency-Key stands for",
        _idempotency,
        ("did", "keySha256"),
        ("did", "keySha256", "seq", "time"),
    ),
    "calls": View(
        "members' unsubscribe URLs that are still to be called",
        _calls,
        ("suppressedSeq",),
        ("suppressedSeq", "nextAttemptAt", "attempts"),
    ),
    "webhooks": View(
        "endpoints that are told of events, and how far",
        _webhooks,
        ("webhookId",),
        ("webhookId", "did", "status", "cursor", "failures", "failingSince"),
    ),
}
