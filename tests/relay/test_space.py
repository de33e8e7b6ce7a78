"""Room on the disk: who may write how far into the reserve."""

from __future__ import annotations

import pytest

from relay.config import SpoolConfig
from relay.principals import Asker, Operator, Principal, Stranger
from relay.refusals import Refusal
from relay.space import EVENT_BYTES, MAIL, POSTMASTER, STRANGERS, Claim, Space
from tests.world.relay import DID

MEMBER = Principal(DID, "key")
STRANGER = Stranger()
OPERATOR = Operator("root")
RESERVE = 1_000_000


class Disk:
    def __init__(self) -> None:
        self.free = 10 * RESERVE
        self.log = 0
        limits = SpoolConfig(free_bytes_min=RESERVE, bytes_max=5 * RESERVE)
        self.space = Space(lambda: limits, free_bytes=lambda: self.free, log_bytes=lambda: self.log)

    def may(self, asker: Asker, claim: Claim | None = None) -> bool:
        try:
            self.space.check(asker, claim=claim)
        except Refusal as refusal:
            self.said = refusal
            return False
        return True


@pytest.mark.parametrize(
    ("free", "who"),
    [
        (RESERVE + EVENT_BYTES, [MEMBER, STRANGER, OPERATOR]),
        (RESERVE + EVENT_BYTES - 1, [STRANGER, OPERATOR]),
        (RESERVE // 2 + EVENT_BYTES, [STRANGER, OPERATOR]),
        (RESERVE // 2 + EVENT_BYTES - 1, [OPERATOR]),
        (0, [OPERATOR]),
    ],
)
def test_the_reserve(free: int, who: list[Asker]) -> None:
    disk = Disk()
    disk.free = free
    assert [asker for asker in (MEMBER, STRANGER, OPERATOR) if disk.may(asker)] == who


def test_a_log_at_its_most_takes_no_more_of_members() -> None:
    disk = Disk()
    disk.log = 5 * RESERVE
    assert [asker for asker in (MEMBER, STRANGER, OPERATOR) if disk.may(asker)] == [STRANGER, OPERATOR]


@pytest.mark.parametrize(
    ("free", "which"),
    [
        (RESERVE // 2 + EVENT_BYTES, [STRANGERS, MAIL, POSTMASTER]),
        (RESERVE // 2 + EVENT_BYTES - 1, [POSTMASTER]),
        (RESERVE // 4 + EVENT_BYTES, [POSTMASTER]),
        (RESERVE // 4 + EVENT_BYTES - 1, []),
    ],
)
def test_mail_has_what_strangers_have_and_the_postmasters_a_quarter_more(
    free: int, which: list[Claim]
) -> None:
    disk = Disk()
    disk.free = free
    assert [claim for claim in (STRANGERS, MAIL, POSTMASTER) if disk.may(STRANGER, claim)] == which
    # A claim of strangers is none for a member.
    assert not disk.may(MEMBER, POSTMASTER)


def test_a_log_at_its_most_takes_no_mail_but_the_postmasters() -> None:
    disk = Disk()
    disk.log = 5 * RESERVE
    assert [claim for claim in (STRANGERS, MAIL, POSTMASTER) if disk.may(STRANGER, claim)] == [
        STRANGERS,
        POSTMASTER,
    ]


def test_who_is_refused_is_told_when_to_come_again() -> None:
    disk = Disk()
    disk.free = 0
    assert not disk.may(MEMBER)
    assert (disk.said.code, disk.said.retry_after_seconds) == ("QUEUE_FULL", 60)


def test_what_is_on_its_way_counts_until_it_is_written_or_given_up() -> None:
    disk = Disk()
    disk.free = RESERVE + 3 * EVENT_BYTES
    with disk.space.held(MEMBER, 2 * EVENT_BYTES):
        assert disk.may(MEMBER)
        with disk.space.held(MEMBER):
            assert not disk.may(MEMBER)
            with pytest.raises(Refusal), disk.space.held(MEMBER):
                pytest.fail("there was no room")
    assert disk.may(MEMBER)
    with pytest.raises(ZeroDivisionError), disk.space.held(MEMBER, 3 * EVENT_BYTES):
        raise ZeroDivisionError
    assert disk.may(MEMBER)
