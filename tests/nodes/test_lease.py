"""Is somebody there, and may the dot be sent: a table of cases."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from relay.nodes.lease import CLOCK_OFF_US_MAX, HeldLease, LeaseWatch, Seen, clock_off_us, is_clock_off
from spool.replicated.table import Lease

SECONDS = 2.0
LED, ELSEWHERE, STALE = Seen.LED, Seen.LOOK_ELSEWHERE, Seen.STALE


class Read(NamedTuple):
    """An answer of the database, and what follows from it."""

    sent_at: float
    value: tuple[int, int] | None
    seen: Seen
    took: float = 0.0


class Failed(NamedTuple):
    """No answer."""


class Elsewhere(NamedTuple):
    """Another connection, since it was asked for."""


class Anew(NamedTuple):
    """It was tried to lead, and another was quicker."""


Step = Read | Failed | Elsewhere | Anew

CASES: dict[str, list[Step]] = {
    "renewed": [Read(at / 2, (1, at), LED) for at in range(20)],
    "not renewed": [
        Read(0, (1, 5), LED),
        Read(1, (1, 5), LED),
        Read(1.9, (1, 5), LED),
        Read(2, (1, 5), ELSEWHERE),
        Elsewhere(),
        Read(2.1, (1, 5), STALE),
    ],
    "nobody has led yet": [
        Read(0, None, LED),
        Read(1, None, LED),
        Read(2, None, ELSEWHERE),
        Elsewhere(),
        Read(2, None, STALE),
    ],
    "asked for elsewhere, and not looked": [
        Read(0, (1, 5), LED),
        Read(2, (1, 5), ELSEWHERE),
        Read(3, (1, 5), ELSEWHERE),
    ],
    "elsewhere it moves": [
        Read(0, (1, 5), LED),
        Read(2, (1, 5), ELSEWHERE),
        Elsewhere(),
        Read(2.1, (1, 9), LED),
        Read(3, (1, 10), LED),
    ],
    "elsewhere is an old primary": [
        Read(0, (3, 50), LED),
        Read(2, (3, 50), ELSEWHERE),
        Elsewhere(),
        Read(2.1, (1, 20), STALE),
    ],
    "a renewal is lost by a failover, and the next ones are seen": [
        Read(0, (1, 5), LED),
        Failed(),
        Read(1, (1, 4), LED),
        Read(1.5, (1, 6), LED),
        Read(3, (1, 9), LED),
    ],
    "of tables that were made anew, all numbers are lower": [
        Read(0, (9, 900), LED),
        Failed(),
        Read(1, (1, 1), LED),
        Read(2, (1, 2), LED),
        Read(3, (1, 3), LED),
        Read(4, (1, 4), LED),
    ],
    "a read fails in between: its time begins anew": [
        Read(0, (1, 5), LED),
        Read(1, (1, 5), LED),
        Failed(),
        Read(2, (1, 5), LED),
        Read(3.9, (1, 5), LED),
        Read(4, (1, 5), ELSEWHERE),
    ],
    "reads are far apart, as of a process that was stopped": [
        Read(0, (1, 5), LED),
        Read(60, (1, 5), LED),
        Read(61, (1, 5), LED),
        Read(62, (1, 5), ELSEWHERE),
    ],
    "a slow answer is as old as its question": [
        Read(0, (1, 5), LED, took=1.0),
        Read(2, (1, 5), LED, took=5.0),
        Read(2.5, (1, 5), LED),
        Read(3, (1, 5), ELSEWHERE),
    ],
    "another leads, with a lower counter": [
        Read(0, (1, 500), LED),
        Read(2, (1, 500), ELSEWHERE),
        Elsewhere(),
        Read(2.1, (2, 1), LED),
        Read(4, (2, 1), LED),
        Read(4.2, (2, 1), ELSEWHERE),
    ],
    "another was quicker, and has its time": [
        Read(0, (1, 5), LED),
        Read(2, (1, 5), ELSEWHERE),
        Elsewhere(),
        Read(2, (1, 5), STALE),
        Anew(),
        Read(2.1, (1, 5), LED),
        Read(3, (1, 5), LED),
        Read(4.2, (1, 5), ELSEWHERE),
        Elsewhere(),
        Read(4.3, (1, 5), STALE),
    ],
    "an old primary and the new one, turn by turn, both without a leader": [
        Read(0, (2, 50), LED),
        Read(2, (2, 50), ELSEWHERE),
        Elsewhere(),
        Read(2.1, (1, 20), STALE),
        Elsewhere(),
        Read(2.2, (2, 50), STALE),
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_who_reads(case: str) -> None:
    watch = LeaseWatch(SECONDS)
    for number, step in enumerate(CASES[case]):
        match step:
            case Read():
                lease = (
                    None if step.value is None else Lease(step.value[0], b"h" * 16, "", step.value[1], 0, b"")
                )
                seen = watch.read(lease, step.sent_at, step.sent_at + step.took)
                assert seen is step.seen, f"step {number}"
            case Failed():
                watch.failed()
            case Elsewhere():
                watch.looks_elsewhere()
            case Anew():
                watch.begin_anew()


def test_who_leads_may_send_a_dot_for_as_long_as_it_saw_its_lease_confirmed() -> None:
    held = HeldLease(SECONDS)
    assert not held.may_send_dot(0), "it has none yet"
    held.confirmed(sent_at=10.0)
    assert held.may_send_dot(10.0)
    assert held.may_send_dot(11.9)
    assert not held.may_send_dot(12.0)


def test_answers_that_come_late_or_out_of_order_prolong_nothing() -> None:
    held = HeldLease(SECONDS)
    held.confirmed(sent_at=10.0)
    held.confirmed(sent_at=9.0)
    assert held.may_send_dot(11.9)
    assert not held.may_send_dot(12.0)


def test_four_renewals_fit_into_a_lease_and_each_has_a_number_of_its_own() -> None:
    held = HeldLease(SECONDS)
    assert held.renewal_seconds == 0.5
    assert [held.next_counter() for _ in range(3)] == [1, 2, 3]


def test_no_reader_takes_a_lease_for_stale_while_its_holder_may_send() -> None:
    """Whatever the answers to both take: the reader counts from when it was told, the holder from when it asked."""
    for renewal_took in (0.0, 0.3, 1.9):
        for read_took in (0.0, 0.3, 1.9):
            held, watch = HeldLease(SECONDS), LeaseWatch(SECONDS)
            held.confirmed(sent_at=10.0)
            value = Lease(1, b"h" * 16, "", 1, 0, b"")
            # The earliest moment to read it is when it is there.
            watch.read(value, 10.0 + renewal_took, 10.0 + renewal_took + read_took)
            at = 10.0
            while held.may_send_dot(at):
                assert watch.read(value, at, at) is LED
                at += 0.1


@pytest.mark.parametrize(
    ("before", "database", "after", "off"),
    [
        (100, 100, 100, 0),
        (100, 150, 200, 0),
        (100, 90, 200, -10),
        (100, 250, 200, 50),
    ],
)
def test_how_far_a_clock_is_off_at_the_least(before: int, database: int, after: int, off: int) -> None:
    assert clock_off_us(before, database, after) == off


def test_a_second_is_let_pass() -> None:
    assert not is_clock_off(CLOCK_OFF_US_MAX)
    assert not is_clock_off(-CLOCK_OFF_US_MAX)
    assert is_clock_off(CLOCK_OFF_US_MAX + 1)
    assert is_clock_off(-CLOCK_OFF_US_MAX - 1)
