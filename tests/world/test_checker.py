"""The checker of simulated days sees: each rule is broken once, in the log or the records of a real run, and named."""

from collections.abc import Callable

import msgspec
import pytest

from relay.codec import Recorded
from relay.config import Config, load_config
from relay.events import AttemptStarted, Event, MessageBounced, MessageDeferred, MessageSent
from tests.campaigns.days import Simulation, simulate
from tests.world.checker import breaches
from tests.world.internet import Receipt

Log = list[Recorded]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate(tmp_path_factory.mktemp("checked") / "data", messages=150, seed=2)


@pytest.fixture(scope="module")
def config(run: Simulation) -> Config:
    return load_config(run.directory)


def first(log: Log, kind: type[Event], attempt: int = 1) -> int:
    """Where the first event of a kind and of this attempt stands."""
    return next(
        place
        for place, item in enumerate(log)
        if isinstance(item.event, kind) and getattr(item.event, "attempt", None) == attempt
    )


def change(log: Log, place: int, *, time_us: int | None = None, **fields: object) -> None:
    item = log[place]
    event = msgspec.structs.replace(item.event, **fields)
    log[place] = Recorded(item.seq, item.time_us if time_us is None else time_us, event)


def twice_final(log: Log) -> None:
    log.append(log[first(log, MessageSent)])


def no_outcome(log: Log) -> None:
    """Of the first attempt at a message whose second attempt was begun as well."""
    begun = log[first(log, AttemptStarted, 2)].event
    assert isinstance(begun, AttemptStarted)
    (place,) = (
        place
        for place, item in enumerate(log)
        if isinstance(item.event, MessageDeferred)
        and (item.event.message_id, item.event.attempt) == (begun.message_id, 1)
    )
    del log[place]


def never_final(log: Log) -> None:
    del log[first(log, MessageBounced)]


def skipped_number(log: Log) -> None:
    change(log, first(log, AttemptStarted, 2), attempt=3)


def too_early(log: Log) -> None:
    place = first(log, AttemptStarted, 2)
    change(log, place, time_us=log[place].time_us - 1)


def too_late(log: Log) -> None:
    place = first(log, AttemptStarted, 2)
    change(log, place, time_us=log[place].time_us + 6 * 86_400_000_000)


def off_schedule(log: Log) -> None:
    place = first(log, MessageDeferred)
    change(log, place, next_attempt_at=log[place].time_us + 70_000_000)


def other_bytes(log: Log) -> None:
    change(log, first(log, MessageSent), sha256="0" * 64)


def unknown_message(log: Log) -> None:
    change(log, first(log, MessageSent), message_id=10**9)


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (twice_final, "it had been sent already"),
        (no_outcome, "attempt 1 has no outcome"),
        (never_final, "is not final"),
        (skipped_number, "it is numbered 3, after 1"),
        (too_early, "s too early"),
        (too_late, "after the give-up time"),
        (off_schedule, "where the schedule says 60"),
        (other_bytes, "was received with bytes that no attempt sent"),
        (unknown_message, "there is no such message"),
    ],
)
def test_a_broken_log(run: Simulation, config: Config, break_it: Callable[[Log], None], named: str) -> None:
    assert breaches(run.events, config, receipts=run.internet.receipts) == []
    log = list(run.events)
    break_it(log)
    assert any(named in sentence for sentence in breaches(log, config, receipts=run.internet.receipts))


def test_a_clock_that_was_set_back(run: Simulation, config: Config) -> None:
    """What is stamped with the log's last time may have begun later; what has a time of its own began then."""
    place = first(run.events, AttemptStarted, 2)
    clamped = list(run.events)
    change(clamped, place, time_us=clamped[place - 1].time_us)
    assert any("s too early" in sentence for sentence in breaches(clamped, config))
    assert breaches(clamped, config, back_us=86_400_000_000) == []
    too_early(clamped := list(run.events))
    assert any("s too early" in sentence for sentence in breaches(clamped, config, back_us=86_400_000_000))


def certain(run: Simulation) -> Receipt:
    """Of a message that was sent at its first attempt."""
    event = run.events[first(run.events, MessageSent)].event
    assert isinstance(event, MessageSent)
    return next(receipt for receipt in run.internet.receipts if receipt.message_id == event.message_id)


def test_a_message_that_nobody_received(run: Simulation, config: Config) -> None:
    receipt = certain(run)
    others = [other for other in run.internet.receipts if other != receipt]
    assert breaches(run.events, config, receipts=others) == [
        f"message {receipt.message_id} is sent, and nobody received it"
    ]


def test_a_message_that_came_twice_for_no_reason(run: Simulation, config: Config) -> None:
    receipt = certain(run)
    again = [*run.internet.receipts, receipt]
    (_, sentence) = breaches(run.events, config, receipts=again)
    assert sentence == f"message {receipt.message_id} was received 2 times, with 0 attempts in doubt"


def test_a_bounced_message_that_was_received(run: Simulation, config: Config) -> None:
    event = run.events[first(run.events, MessageBounced)].event
    assert isinstance(event, MessageBounced)
    receipt = certain(run)._replace(message_id=event.message_id)
    found = breaches(run.events, config, receipts=[*run.internet.receipts, receipt])
    assert f"message {event.message_id} is bounced, and 1 receivers said 250" in found


def test_a_crowd(config: Config) -> None:
    assert breaches([], config, connections_max=[5, 6]) == [
        "6 connections to one site at once, 5 are allowed"
    ]
