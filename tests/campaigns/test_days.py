"""Days of retries among receivers in random trouble: every message ends, and no promise of delivery is broken.

2,000 messages here; `python -m tests.campaigns.days` runs 10,000, or as many as one likes.
"""

from collections import Counter

import pytest

from relay.events import MessageBounced, MessageDeferred, MessageSent
from tests.campaigns.days import Simulation, simulate

MESSAGES = 2000

# Days of 2,000 messages are half a minute of work.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate(tmp_path_factory.mktemp("days") / "data", messages=MESSAGES, seed=1)


def test_every_message_ends_and_no_promise_is_broken(run: Simulation) -> None:
    assert run.breaches == []
    counts = run.counts
    assert counts["message.sent"] + counts["message.bounced"] == MESSAGES


def test_no_site_has_more_connections_than_it_may_have(run: Simulation) -> None:
    assert run.crowds == []


def test_they_were_days_of_real_trouble(run: Simulation) -> None:
    """A calm week would prove nothing."""
    outcomes = [
        item.event
        for item in run.events
        if isinstance(item.event, MessageSent | MessageDeferred | MessageBounced)
    ]
    bounced = Counter(event.reason for event in outcomes if isinstance(event, MessageBounced))
    assert min(bounced[reason] for reason in ("rejected", "expired", "undeliverable")) > 5
    enhanced = {event.enhanced for event in outcomes}
    assert {"4.4.1", "4.4.2", "4.4.3", "4.5.0", "4.7.1", "4.2.2", "5.1.1", "5.1.2"} <= enhanced
    receipts = Counter(receipt.message_id for receipt in run.internet.receipts)
    assert max(receipts.values()) > 1
    assert max(event.attempt for event in outcomes) > 15
    assert run.ended_at > 5 * 86400
