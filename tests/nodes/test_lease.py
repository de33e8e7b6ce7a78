"""Is somebody there, and may the dot be sent: a table of cases."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from relay.nodes.lease import CLOCK_OFF_US_MAX, HeldLease, LeaseWatch, clock_off_us, is_clock_off
from spool.replicated.table import Lease

SECONDS = 2.0


class Read(NamedTuple):
    """An answer of the database, and whether nobody leads then."""

    sent_at: float
    value: tuple[int, int] | None
    is_stale: bool = False
    took: float = 0.0
    host: str = "a"


class Failed(NamedTuple):
    """No answer; or another was quicker to lead."""


Step = Read | Failed

CASES: dict[str, list[Step]] = {
    "renewed": [Read(at / 2, (1, at)) for at in range(20)],
    "not renewed": [Read(0, (1, 5)), Read(1, (1, 5)), Read(1.9, (1, 5)), Read(2, (1, 5), True)],
    "nobody has led yet": [Read(0, None), Read(1, None), Read(2, None, True)],
    "renewed at the last moment": [Read(0, (1, 5)), Read(1.9, (1, 5)), Read(2, (1, 6)), Read(3.9, (1, 6))],
    "on another host it moves": [
        Read(0, (1, 5)),
        Read(2, (1, 5), True),
        Read(2.1, (1, 9), host="b"),
        Read(3, (1, 10), host="b"),
    ],
    "the other host is an old primary": [
        Read(0, (3, 50)),
        Read(2, (3, 50), True),
        Read(2.1, (1, 20), True, host="b"),
    ],
    "somebody still writes on an old primary": [
        Read(0, (3, 50)),
        Read(1, (1, 20), host="b"),
        Read(2, (1, 21), host="b"),
        Read(3, (1, 22), host="b"),
    ],
    "a renewal is lost by a failover, and the next ones are seen": [
        Read(0, (1, 5)),
        Failed(),
        Read(1, (1, 4), host="b"),
        Read(1.5, (1, 6), host="b"),
        Read(3, (1, 9), host="b"),
    ],
    "of tables that were made anew, all numbers are lower": [
        Read(0, (9, 900)),
        Failed(),
        *(Read(at, (1, at)) for at in range(1, 6)),
    ],
    "a read fails in between: its time begins anew": [
        Read(0, (1, 5)),
        Read(1, (1, 5)),
        Failed(),
        Read(2, (1, 5)),
        Read(3.9, (1, 5)),
        Read(4, (1, 5), True),
    ],
    "reads are far apart, as of a process that was stopped": [
        Read(0, (1, 5)),
        Read(60, (1, 5)),
        Read(61, (1, 5)),
        Read(62, (1, 5), True),
    ],
    "a slow answer is as old as its question": [
        Read(0, (1, 5), took=1.0),
        Read(2, (1, 5), took=5.0),
        Read(2.5, (1, 5)),
        Read(3, (1, 5), True),
    ],
    "another leads, with a lower counter": [
        Read(0, (1, 500)),
        Read(2, (1, 500), True),
        Read(2.5, (2, 1)),
        Read(4, (2, 1)),
        Read(4.5, (2, 1), True),
    ],
    "an old primary and the new one, turn by turn, and nobody leads": [
        Read(0, (2, 50)),
        Read(2, (2, 50), True),
        Read(2.1, (1, 20), True, host="b"),
        Read(2.2, (2, 50), True),
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
                is_stale = watch.read(
                    lease, step.host, sent_at=step.sent_at, answered_at=step.sent_at + step.took
                )
                assert is_stale is step.is_stale, f"step {number}"
            case Failed():
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
            there_at = 10.0 + renewal_took
            watch.read(value, "a", sent_at=there_at, answered_at=there_at + read_took)
            at = 10.0
            while held.may_send_dot(at):
                assert not watch.read(value, "a", sent_at=at, answered_at=at)
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
