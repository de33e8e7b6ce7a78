"""What folds make of a log whose payloads are gone, and what cannot be."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events import (
    NOBODY,
    AttemptStarted,
    DomainAdded,
    DomainForwardSet,
    DomainRemoved,
    DsnQueued,
    Event,
    ForwardAddress,
    ForwardQueued,
    KeyRevoked,
    MemberAdded,
    MemberRemoved,
    MessageBounceReported,
    MessageComplained,
    MessageSent,
    PayloadErased,
    SendAccepted,
    WebhookAdded,
)
from relay.views import members, messages, receivers, retention
from tests.world.drafts import DIDS
from tests.world.folding import STORY, address_of, attempted, digests_at_once, events_of, queued_of, status_of
from tests.world.histories import histories, repeatable_and_few
from tests.world.history_views import START_US, History, fold, opened, records_of

# ------------------------------------------------------------------------------------------------ what retention leaves


@repeatable_and_few
@given(histories())
def test_without_the_payloads_of_final_messages_only_the_lists_by_recipient_shrink(history: History) -> None:
    """Retention removes them; everything else that was counted stays counted (SPEC 8)."""
    stripped = list(history)
    for message_id in queued_of(history):
        if status_of(history, message_id) in ("sent", "bounced"):
            for seq, event in events_of(history, message_id):
                stripped[seq - 1] = msgspec.structs.replace(event, personal=None)
    whole = digests_at_once(records_of(history))
    left = digests_at_once(records_of(stripped))
    for table in ("by_recipient", "recipient_of", *receivers.TABLES):
        del whole[table], left[table]
    assert left == whole


@repeatable_and_few
@given(histories(), st.sets(st.integers(0, 60)))
def test_after_the_event_that_erases_them_the_payloads_make_no_difference(
    history: History, kept: set[int]
) -> None:
    """The views are the same whether they saw the payloads or not: the invariant of `relay.operator.retention`.

    Reports go by their own names: some do here, and the others stay, whatever became of their message."""
    over = [
        message_id
        for message_id in queued_of(history)
        if status_of(history, message_id) in ("sent", "bounced") and message_id not in kept
    ]
    reports = [seq for seq in reports_of(history) if (seq + len(kept)) % 2]
    erased = [
        PayloadErased(did=did, because="retention", message_ids=ids, seqs=seqs)
        for did in (*DIDS, NOBODY)
        for ids in [[message_id for message_id in over if queued_of(history)[message_id].did == did]]
        for seqs in [[seq for seq in reports if getattr(history[seq - 1], "did", None) == did]]
        if ids or seqs
    ]
    stripped = list(history)
    with fold([*history, *erased]) as view:
        for seq, event in enumerate(erased, len(history) + 1):
            gone = retention.payloads_of(view, seq, event)
            for message_id in event.message_ids:
                assert not messages.has_personal_data(view, message_id)
                queued = queued_of(history)[message_id]
                assert list(messages.messages_of(view, queued.did, recipient=address_of(queued))) == [
                    state
                    for state in messages.messages_of(view, queued.did)
                    if address_of(queued_of(history)[state.message_id]).lower() == address_of(queued).lower()
                    and state.message_id not in over
                ]
            for number in gone:
                stripped[number - 1] = msgspec.structs.replace(stripped[number - 1], personal=None)
        assert list(retention.owed(view)) == list(range(len(history) + 1, len(history) + len(erased) + 1))
        waiting = [
            message_id
            for message_id in queued_of(history)
            if status_of(history, message_id) in ("sent", "bounced") and message_id not in over
        ]
        assert sorted(message_id for _, message_id in retention.final_until(view, 1 << 60)) == waiting
    for message_id, queued in queued_of(history).items():
        if message_id in over:
            assert stripped[message_id - 1].personal is None
            assert all(event.personal is None for _, event in attempted(stripped, message_id))
        else:
            assert stripped[message_id - 1] == queued
        if isinstance(queued, ForwardQueued):
            assert (stripped[message_id - 2].personal is None) == (message_id in over)
    for seq in reports_of(history):
        assert (stripped[seq - 1].personal is None) == (seq in reports)
    for seq, event in enumerate(history, 1):
        if isinstance(event, SendAccepted) and event.recipients:
            ids = range(seq + 1, seq + event.recipients + 1)
            assert (stripped[seq - 1].personal is None) == (event.personal is None or set(ids) <= set(over))
    assert digests_at_once(records_of([*stripped, *erased])) == digests_at_once(
        records_of([*history, *erased])
    )


@repeatable_and_few
@given(histories(), st.integers(0, 1 << 60), st.integers(1, 20))
def test_single_records_make_no_difference_after_the_event_that_erases_them(
    history: History, until_us: int, at_once: int
) -> None:
    """Reasons of removals, mailboxes that nobody writes to any more, reports: as many as there are, or the oldest of
    them."""
    until_us = START_US + until_us % (len(history) + 1)
    with fold(history) as view:
        over = list(retention.single_records(view, until_us))
        in_force = {state.forward_seq for state in members.domains(view) if state.forward_to is not None}
    assert not in_force & {seq for seq, _ in over}
    assert {seq for seq, _ in over} >= {seq for seq in reports_of(history) if START_US + seq <= until_us}
    assert over == sorted(over)
    # A run that was broken off has named the first of them.
    named = over[:at_once]
    erased = [PayloadErased(did=did, because="retention", seqs=[seq]) for seq, did in named]
    stripped = list(history)
    for seq, did in named:
        event = history[seq - 1]
        assert isinstance(
            event, DomainForwardSet | DomainRemoved | MemberRemoved | WebhookAdded
        ) or seq in reports_of(history)
        assert getattr(event, "did", None) == did
        stripped[seq - 1] = msgspec.structs.replace(history[seq - 1], personal=None)
    assert digests_at_once(records_of([*stripped, *erased])) == digests_at_once(
        records_of([*history, *erased])
    )


def test_of_one_mailbox_all_records_stay_while_it_is_in_use_and_go_together() -> None:
    did, domain = DIDS[0], "d.example"
    story: History = [
        MemberAdded(did=did),
        DomainAdded(did=did, domain=domain, selector_stem="s", rsa_public="r", ed25519_public="e"),
        *(
            DomainForwardSet(did=did, domain=domain, key_id="k", personal=ForwardAddress(address=address))
            for address in ("a@example.com", "a@example.com", "b@example.com", "b@example.com")
        ),
    ]

    def over(events: History) -> list[int]:
        with fold(events) as view:
            return [seq for seq, _ in retention.single_records(view, 1 << 60)]

    assert over(story[:4]) == []
    assert over(story) == [3, 4]
    # Taken back: what said so names nobody, and what it took back is over.
    assert over([*story, DomainForwardSet(did=did, domain=domain)]) == [3, 4, 5, 6]
    assert over([*story, DomainRemoved(did=did, domain=domain, because="operator")]) == [3, 4, 5, 6, 7]


# ------------------------------------------------------------------------------------------------ what cannot be


def reports_of(history: History) -> list[int]:
    """Those that came by mail."""
    return [
        seq
        for seq, event in enumerate(history, 1)
        if isinstance(event, MessageBounceReported | MessageComplained) and event.sha256 is not None
    ]


def dsn_about(message_id: int) -> DsnQueued:
    return DsnQueued(
        did=DIDS[0],
        domain="d.example",
        about=message_id,
        next_attempt_at=START_US,
        give_up_at=START_US,
        operator_domain="relay.example",
        operator_stem="s",
        message_id_entropy="e",
    )


@pytest.mark.parametrize(
    "event",
    [
        dsn_about(99),
        dsn_about(4),  # something else has come between
        MessageSent(did=DIDS[0], message_id=5, attempt=1),
        AttemptStarted(did=DIDS[0], message_id=99, attempt=1, next_attempt_at=START_US),
        KeyRevoked(did=DIDS[0], key_id="unheard-of"),
    ],
    ids=[
        "notification of no message",
        "notification apart from its bounce",
        "outcome of no message",
        "attempt at no message",
        "revocation of no key",
    ],
)
def test_an_impossible_event_stops_the_fold_and_changes_nothing(event: Event) -> None:
    records = records_of([*STORY, event])
    with tempfile.TemporaryDirectory() as name, opened(Path(name)) as views:
        views.apply(records[:-1])
        before = views.digests()
        with pytest.raises(AssertionError):
            views.apply(records[-1:])
        assert views.digests() == before
        assert views.position == len(STORY)
