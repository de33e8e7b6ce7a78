"""The views are the fold of the log, however it is cut: at once, record by record, or with the views closed between.

The histories are legal ones, drawn by hypothesis: members, domains, keys, sends, attempts with every outcome and every
interruption, in any order that the relay could bring about. What the views then say is compared with a recount
that knows nothing of tables: it reads the whole history for every question.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from itertools import pairwise, takewhile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events import (
    AttemptStarted,
    DomainAdded,
    DomainForwardSet,
    DomainPaused,
    DomainResumed,
    DomainVerified,
    DsnQueued,
    Event,
    KeyIssued,
    KeyRevoked,
    MemberAdded,
    MemberRemoved,
    MemberResumed,
    MemberSuspended,
    MessageBounceReported,
    MessageComplained,
    MessageHeld,
    MessageQueued,
    MessageReleased,
    MessageRescheduled,
    Notice,
    Outcome,
    RecipientSuppressed,
    RecipientUnsuppressed,
    SendAccepted,
)
from relay.views import due, members, messages, suppressions
from tests.world.drafts import DIDS, domain_of
from tests.world.folding import STORY, address_of, attempted, digests_at_once, events_of, queued_of, status_of
from tests.world.histories import RECIPIENTS, histories, repeatable, repeatable_and_few
from tests.world.history_views import START_US, History, LogOf, fold, opened, records_of

# ------------------------------------------------------------------------------------------------ folding


@repeatable_and_few
@given(histories(), st.data())
def test_cut_in_two_with_the_views_closed_between(history: History, data: st.DataObject) -> None:
    records = records_of(history)
    cut = data.draw(st.integers(1, len(records) - 1))
    with tempfile.TemporaryDirectory() as name:
        with opened(Path(name)) as views:
            views.apply(records[:cut])
        with opened(Path(name)) as views:
            assert views.rebuilt_because is None
            assert views.position == cut
            views.catch_up(LogOf(records))  # type: ignore[arg-type]
            assert views.digests() == digests_at_once(records)


@repeatable_and_few
@given(histories(), st.data())
def test_in_batches_of_any_size(history: History, data: st.DataObject) -> None:
    records = records_of(history)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(records) - 1), max_size=8)))
    bounds = [0, *cuts, len(records)]
    with tempfile.TemporaryDirectory() as name, opened(Path(name)) as views:
        for begin, end in pairwise(bounds):
            views.apply(records[begin:end])
        assert views.digests() == digests_at_once(records)


@repeatable_and_few
@given(histories())
def test_rebuilt_from_nothing(history: History) -> None:
    records = records_of(history)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "views"
        with opened(directory) as views:
            views.apply(records)
            before = views.digests()
        (directory / "data.mdb").unlink()
        with opened(directory) as views:
            assert views.rebuilt_because is not None
            views.catch_up(LogOf(records))  # type: ignore[arg-type]
            assert views.digests() == before


def test_the_comparison_of_digests_can_see() -> None:
    """Any two different histories have different digests, or the tests above would prove nothing."""
    records = records_of(STORY)
    seen = {tuple(digests_at_once(records[:end]).values()) for end in range(1, len(records) + 1)}
    assert len(seen) == len(records)


# ------------------------------------------------------------------------------------------------ the recount


def dsns_about(history: History, message_id: int) -> list[int]:
    return [seq for seq, event in enumerate(history, 1) if getattr(event, "about", None) == message_id]


def timed(history: History, message_id: int) -> list[Event]:
    """A message's events but those by which it is held and released, which leave its time as it was."""
    own = [event for _, event in attempted(history, message_id)]
    return [event for event in own if not isinstance(event, MessageHeld | MessageReleased)]


def next_attempt_of(history: History, message_id: int) -> int | None:
    return getattr(timed(history, message_id)[-1], "next_attempt_at", None)


def give_up_of(history: History, message_id: int, queued: MessageQueued | Notice) -> int:
    """As it was queued, or as it was moved to last."""
    moved = [event for event in timed(history, message_id) if isinstance(event, MessageRescheduled)]
    return [queued.give_up_at, *(event.give_up_at for event in moved if event.give_up_at is not None)][-1]


def scheduled_at_of(history: History, message_id: int, queued: MessageQueued | Notice) -> int | None:
    """Its Date: the member's time, as it stood at the first attempt."""
    if not isinstance(queued, MessageQueued) or not queued.scheduled:
        return None
    before_first = takewhile(lambda event: not isinstance(event, AttemptStarted), timed(history, message_id))
    moved = [event.next_attempt_at for event in before_first if isinstance(event, MessageRescheduled)]
    return [queued.next_attempt_at, *moved][-1]


def untimed(history: History, message_id: int) -> list[tuple[int, Event]]:
    """A message's events but those by which it has another time: they leave whoever holds it."""
    own = attempted(history, message_id)
    return [(seq, event) for seq, event in own if not isinstance(event, MessageRescheduled)]


def class_of(own: list[tuple[int, Event]]) -> str | None:
    """Of the first report that says that it failed; without one, of the last outcome."""
    found = None
    for _, event in own:
        if isinstance(event, MessageBounceReported) and event.is_failure:
            return event.bounce_class or found
        if isinstance(event, Outcome):
            found = event.bounce_class
    return found


def is_held(history: History, message_id: int) -> bool:
    """What held it last has not let go, and nothing happened to it since but that it was given another time."""
    seq, last = untimed(history, message_id)[-1]
    if not isinstance(last, MessageHeld):
        return False
    if last.because == "operator":
        return True
    release = (
        MemberResumed(did=last.did)
        if last.because == "member"
        else DomainResumed(did=last.did, domain=domain_of(last.did))
    )
    return release not in history[seq:]


@repeatable
@given(histories())
def test_each_message_is_what_its_own_events_say(history: History) -> None:
    with fold(history) as view:
        for message_id, queued in queued_of(history).items():
            state = messages.message(view, message_id)
            assert state is not None
            own = events_of(history, message_id)
            outcomes = [seq for seq, event in own if isinstance(event, Outcome)]
            started = [event for _, event in own if isinstance(event, AttemptStarted)]
            final = status_of(history, message_id) in ("sent", "bounced")
            about = queued.about if isinstance(queued, DsnQueued) else None
            last = timed(history, message_id)[-1]
            reported = [
                (seq, event)
                for seq, event in own
                if isinstance(event, MessageBounceReported) and event.is_failure
            ]
            complained = [
                seq for seq, event in own if isinstance(event, MessageComplained) and event.authenticated
            ]
            assert msgspec.to_builtins(state) == msgspec.to_builtins(
                messages.MessageState(
                    message_id=message_id,
                    did=queued.did,
                    domain=queued.domain,
                    category=queued.category,
                    send_seq=message_id - queued.index if isinstance(queued, MessageQueued) else message_id,
                    status=status_of(history, message_id),
                    accepted_at=START_US + message_id,
                    give_up_at=give_up_of(history, message_id, queued),
                    next_attempt_at=next_attempt_of(history, message_id),
                    attempts=len(started),
                    attempting=isinstance(last, AttemptStarted),
                    outcome_seq=outcomes[-1] if outcomes else None,
                    final_at=START_US + outcomes[-1] if final else None,
                    about=about,
                    reported_seq=reported[0][0] if reported else None,
                    report_counts=bool(reported) and reported[0][1].counts,
                    complained_seq=complained[0] if complained else None,
                    scheduled_at=scheduled_at_of(history, message_id, queued),
                    tag=queued.tag if isinstance(queued, MessageQueued) else None,
                    provider=([None] + [e.provider for _, e in own if isinstance(e, Outcome) and e.provider])[
                        -1
                    ],
                    bounce_class=class_of(own),
                )
            )
            assert isinstance(history[state.send_seq - 1], SendAccepted | Notice)
            dsn = messages.dsn_about(view, state)
            told = dsns_about(history, message_id)
            assert ([] if dsn is None else [dsn.message_id]) == told
            assert messages.timeline(view, message_id) == sorted([*(seq for seq, _ in own), *told])


@repeatable
@given(histories())
def test_a_status_moves_only_along_its_arrows(history: History) -> None:
    arrows = {
        "queued": {"queued", "deferred", "sent", "bounced"},
        "deferred": {"deferred", "sent", "bounced"},
        "sent": {"sent"},
        "bounced": {"bounced"},
    }
    before: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as name, opened(Path(name)) as views:
        for record in records_of(history):
            views.apply([record])
            with views.read() as view:
                for message_id in queued_of(history[: record.seq]):
                    state = messages.message(view, message_id)
                    assert state is not None
                    assert state.status in arrows[before.get(message_id, "queued")]
                    before[message_id] = state.status


@repeatable
@given(histories())
def test_status_counts(history: History) -> None:
    counted = Counter(status_of(history, message_id) for message_id in queued_of(history))
    with fold(history) as view:
        assert messages.status_counts(view) == {name: counted[name] for name in messages.STATUSES}
        # One row for each message: those of the statuses that it had before are gone.
        assert view.count("by_status") == counted.total()


@repeatable
@given(histories())
def test_what_is_due(history: History) -> None:
    expected: dict[due.Lane, list[tuple[int, int]]] = {}
    for message_id, queued in queued_of(history).items():
        at = next_attempt_of(history, message_id)
        lane = lane_of(queued)
        expected.setdefault(lane, [])
        if at is not None and not is_held(history, message_id):
            expected[lane].append((at, message_id))
    with fold(history) as view:
        for lane, waiting in expected.items():
            assert list(due.due(view, lane)) == sorted(waiting)
        by_time = sorted((*row, lane) for lane, waiting in expected.items() for row in waiting)
        assert list(due.due_from(view, 0, 0)) == by_time
        assert due.earliest(view) == (by_time[0][0] if by_time else None)
        waiting = {found.message_id: found for found in due.waiting_after(view, 0)}
        for message_id, queued in queued_of(history).items():
            at = next_attempt_of(history, message_id)
            assert due.waiting(view, message_id) == waiting.pop(message_id, None)
            found = due.waiting(view, message_id)
            assert (found is None) == (at is None)
            if found is not None and at is not None:
                last = untimed(history, message_id)[-1][1]
                holder = (
                    last.because if isinstance(last, MessageHeld) and is_held(history, message_id) else None
                )
                assert found == (message_id, lane_of(queued), at, holder)
        assert waiting == {}
        held = [message_id for message_id in queued_of(history) if is_held(history, message_id)]
        assert due.held_count(view) == view.count("held_by") == len(held)


def lane_of(queued: MessageQueued | Notice) -> due.Lane:
    assert queued.personal is not None
    return due.lane_of(did=queued.did, category=queued.category, address=queued.personal.address)


@pytest.mark.parametrize("because", ["member", "domain"])
def test_who_is_resumed_releases_its_own_mail_and_no_other(because: str) -> None:
    send, queued = STORY[2:4]
    history: History = []
    for did in DIDS[:2]:
        domain = domain_of(did)
        history += [
            MemberAdded(did=did),
            DomainAdded(did=did, domain=domain, selector_stem="s", rsa_public="r", ed25519_public="e"),
            msgspec.structs.replace(send, did=did, domain=domain),
            msgspec.structs.replace(queued, did=did, domain=domain),
        ]
        history.append(MessageHeld(did=did, message_id=len(history), because=because))
    (_first, second), messages_queued = queued_of(history), queued_of(history).values()
    lanes = [lane_of(message) for message in messages_queued]
    with fold(history) as view:
        assert [list(due.due(view, lane)) for lane in lanes] == [[], []]
    resumed = (
        MemberResumed(did=DIDS[1])
        if because == "member"
        else DomainResumed(did=DIDS[1], domain=domain_of(DIDS[1]))
    )
    with fold([*history, resumed]) as view:
        assert [[message_id for _, message_id in due.due(view, lane)] for lane in lanes] == [[], [second]]
        assert due.held_count(view) == 1


@repeatable
@given(histories())
def test_what_is_in_flight(history: History) -> None:
    expected = []
    for message_id in queued_of(history):
        _, last = attempted(history, message_id)[-1]
        if isinstance(last, AttemptStarted):
            expected.append((message_id, last.attempt))
    with fold(history) as view:
        assert due.in_flight(view) == expected


@repeatable
@given(histories())
def test_lists_with_every_filter_and_from_every_place(history: History) -> None:
    queued = queued_of(history)
    statuses = {message_id: status_of(history, message_id) for message_id in queued}
    with fold(history) as view:
        for did in DIDS:
            for status in (None, *messages.STATUSES):
                for recipient in (None, *RECIPIENTS, "nobody@example.com"):
                    expected = [
                        message_id
                        for message_id, event in reversed(queued.items())
                        if event.did == did
                        and status in (None, statuses[message_id])
                        and (recipient is None or address_of(event) == recipient)
                    ]
                    for before in (None, 1, *queued, len(history) + 1):
                        found = messages.messages_of(
                            view, did, status=status, recipient=recipient, before=before
                        )
                        assert [state.message_id for state in found] == [
                            message_id for message_id in expected if before is None or message_id < before
                        ]


@repeatable
@given(histories())
def test_members_domains_and_keys(history: History) -> None:
    added = [
        did for did in DIDS if isinstance(last_of(history, did, MemberAdded, MemberRemoved), MemberAdded)
    ]
    issued = [event for event in history if isinstance(event, KeyIssued)]
    revoked = {event.key_id: seq for seq, event in enumerate(history, 1) if isinstance(event, KeyRevoked)}
    with fold(history) as view:
        assert [state.did for state in members.members(view)] == sorted(added)
        for did in added:
            (domain,) = members.domains_of(view, did)
            # A pause stays with the name when it is removed and enrolled again.
            paused = last_of(history, did, DomainPaused, DomainResumed)
            expected = "paused" if isinstance(paused, DomainPaused) else "active"
            assert (domain.domain, domain.did, domain.status) == (domain_of(did), did, expected)
            forward = last_of(history, did, DomainForwardSet, DomainAdded)
            expected_forward = forward.personal if isinstance(forward, DomainForwardSet) else None
            assert domain.forward_to == (expected_forward and expected_forward.address)
            verified = [event for event in history if isinstance(event, DomainVerified) and event.did == did]
            assert (domain.first_verified_at is not None) == bool(verified)
            assert domain.verified == isinstance(
                last_of(history, did, DomainVerified, DomainAdded), DomainVerified
            )
            state = members.member(view, did)
            assert state is not None
            suspended = last_of(history, did, MemberSuspended, MemberResumed, MemberAdded)
            assert state.status == ("suspended" if isinstance(suspended, MemberSuspended) else "active")
            found = {key.key_id: key.revoked_at for key in members.keys_of(view, did)}
            assert found == {
                event.key_id: START_US + revoked[event.key_id] if event.key_id in revoked else None
                for event in issued
                if event.did == did
            }
        for did in set(DIDS) - set(added):
            assert members.member(view, did) is None
            assert members.domains_of(view, did) == []
            assert members.was_member(view, did) == (last_of(history, did, MemberAdded) is not None)


def last_of(history: History, did: str, *types: type[Event]) -> Event | None:
    """The member's last event of these types."""
    found = [event for event in history if isinstance(event, types) and getattr(event, "did", None) == did]
    return found[-1] if found else None


@repeatable
@given(histories())
def test_what_is_suppressed_and_why(history: History) -> None:
    expected: dict[tuple[str, str], list[str]] = {}
    for event in history:
        if isinstance(event, RecipientSuppressed | RecipientUnsuppressed):
            assert event.personal is not None
            reasons = expected.setdefault((event.did, event.personal.address), [])
            if isinstance(event, RecipientUnsuppressed):
                reasons[:] = [reason for reason in reasons if reason == "complaint"]
            elif event.reason not in reasons:
                reasons.append(event.reason)
    with fold(history) as view:
        for did in DIDS:
            listed = {entry.address: entry for entry in suppressions.suppressions_of(view, did)}
            for address in RECIPIENTS:
                reasons = expected.get((did, address), [])
                state = suppressions.suppression(view, did, address)
                assert (state is None) == (not reasons)
                assert state is None or [reason.reason for reason in state.reasons] == reasons
                assert (address in listed) == bool(reasons)
                # A click on `unsubscribe` stops the bulk class alone.
                stops_bulk = suppressions.blocking_reason(view, did, address, bulk=True)
                stops_login = suppressions.blocking_reason(view, did, address, bulk=False)
                assert stops_bulk == (reasons[0] if reasons else None)
                assert (stops_login is not None) == bool({"complaint", "manual"} & set(reasons))
