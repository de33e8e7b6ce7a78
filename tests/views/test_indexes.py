"""Every filter has an index: what is read for a page does not grow with what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from relay.events import (
    AttemptStarted,
    Content,
    DomainAdded,
    Event,
    MemberAdded,
    MessageBounced,
    MessageQueued,
    MessageSent,
    Recipient,
    SendAccepted,
)
from relay.views import messages
from spool.views import Snapshot
from tests.world.drafts import DIDS, domain_of
from tests.world.history_views import SECOND_US, START_US, fold

LIMIT = 20
FRIEND, OTHER = "friend@example.com", "other@example.com"
#: One begins the other.
TAGS = {FRIEND: "letter", OTHER: "letter-2"}


def history(others: int) -> list[Event]:
    """So many messages that no query with both filters wants stand before, between and behind those it does."""
    did = DIDS[0]
    domain = domain_of(did)
    events: list[Event] = [
        MemberAdded(did=did),
        DomainAdded(
            did=did, domain=domain, selector_stem="atmos20251124", rsa_public="r", ed25519_public="e"
        ),
    ]

    def message(address: str, outcome: type[MessageSent | MessageBounced] | None = None) -> None:
        events.append(
            SendAccepted(
                did=did,
                domain=domain,
                category="bulk",
                recipients=1,
                key_id="k",
                selector_stem="s",
                operator_domain="relay.example",
                operator_stem="s",
                message_id_entropy="e",
                personal=Content(from_address="x@d.example", subject="s", text="t"),
            )
        )
        recipient = Recipient(given=address, address=address)
        events.append(
            MessageQueued(
                did=did,
                domain=domain,
                category="bulk",
                index=1,
                tag=TAGS[address],
                next_attempt_at=START_US,
                give_up_at=START_US + 3_600 * SECOND_US,
                personal=recipient,
            )
        )
        message_id = len(events)
        if outcome is not None:
            started: dict[str, Any] = {"did": did, "message_id": message_id, "attempt": 1}
            events.append(AttemptStarted(**started, next_attempt_at=START_US))
            events.append(outcome(**started, **({"reason": "rejected"} if outcome is MessageBounced else {})))

    for number in range(others):
        message(FRIEND, MessageSent)
        message(OTHER)
        if number % (others // LIMIT) == 0:
            message(FRIEND, MessageBounced)
    return events


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is read of the views."""
    counted: Counter[str] = Counter()
    get, scan = Snapshot.get, Snapshot.scan

    def counting_get(self: Snapshot, table: str, key: bytes) -> bytes | None:
        counted["read"] += 1
        return get(self, table, key)

    def counting_scan(
        self: Snapshot, table: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for item in scan(self, table, start, stop, reverse=reverse):
            counted["read"] += 1
            yield item

    monkeypatch.setattr(Snapshot, "get", counting_get)
    monkeypatch.setattr(Snapshot, "scan", counting_scan)
    return counted


@pytest.mark.parametrize("status", [None, *messages.STATUSES])
@pytest.mark.parametrize("recipient", [None, FRIEND, OTHER, "nobody@example.com"])
@pytest.mark.parametrize("others", [40, 200])
def test_a_page_reads_what_it_shows(
    reads: Counter[str], status: str | None, recipient: str | None, others: int
) -> None:
    with fold(history(others)) as view:
        for before in (None, 4 * others):
            reads.clear()
            found = messages.messages_of(view, DIDS[0], status=status, recipient=recipient, before=before)
            shown = len(list(islice(found, LIMIT)))
            assert reads["read"] <= 2 * shown + len(messages.STATUSES)


@pytest.mark.parametrize("status", [None, *messages.STATUSES])
@pytest.mark.parametrize("address", [FRIEND, OTHER])
def test_a_tag_finds_its_messages_and_reads_what_it_shows(
    reads: Counter[str], status: str | None, address: str
) -> None:
    """Here each recipient has a tag of its own, so that the two filters find the same."""
    others = 200
    with fold(history(others)) as view:
        assert list(messages.messages_of(view, DIDS[0], tag="lett")) == []
        for before in (None, 4 * others):
            expected = messages.messages_of(view, DIDS[0], status=status, recipient=address, before=before)
            expected_ids = [state.message_id for state in islice(expected, LIMIT)]
            assert expected_ids or address == OTHER or status in ("queued", "deferred")
            reads.clear()
            found = messages.messages_of(view, DIDS[0], status=status, tag=TAGS[address], before=before)
            shown = list(islice(found, LIMIT))
            assert [state.message_id for state in shown] == expected_ids
            assert reads["read"] <= 2 * len(shown) + len(messages.STATUSES)
