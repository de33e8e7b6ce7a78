"""Who is shut out for wrong passwords, and who is only slowed."""

from __future__ import annotations

from relay.lockout import (
    ADDRESSES_MAX,
    FAILURES_MAX,
    LOCKED_SECONDS,
    SLOWED_SECONDS_MAX,
    TRUSTED_SECONDS,
    WINDOW_SECONDS,
    Lockout,
)


def fail(lockout: Lockout, who: str, times: int, *, now: float = 0, is_trusted: bool = False) -> list[float]:
    return [lockout.failed(who, now, is_trusted=is_trusted) for _ in range(times)]


def test_one_address_is_shut_out_for_a_while() -> None:
    lockout = Lockout()
    fail(lockout, "a", FAILURES_MAX - 1)
    assert not lockout.refuses("a", 0)
    fail(lockout, "a", 1, now=5)
    assert lockout.refuses("a", 5)
    assert lockout.refuses("a", 5 + LOCKED_SECONDS - 1)
    assert not lockout.refuses("b", 5)
    assert not lockout.refuses("a", 5 + LOCKED_SECONDS)
    fail(lockout, "a", FAILURES_MAX - 1, now=5 + LOCKED_SECONDS)
    assert not lockout.refuses("a", 5 + LOCKED_SECONDS)


def test_old_failures_are_forgotten() -> None:
    lockout = Lockout()
    for number in range(10 * FAILURES_MAX):
        fail(lockout, "a", 1, now=number * WINDOW_SECONDS / (FAILURES_MAX - 1))
    assert not lockout.refuses("a", 10 * FAILURES_MAX * WINDOW_SECONDS / (FAILURES_MAX - 1))


def test_who_had_the_right_one_lately_is_slowed() -> None:
    lockout = Lockout()
    lockout.succeeded("a", 0)
    assert fail(lockout, "a", 4, now=TRUSTED_SECONDS - 1) == [0, 1, 2, 3]
    assert max(fail(lockout, "a", 200, now=TRUSTED_SECONDS - 1)) == SLOWED_SECONDS_MAX
    assert not lockout.refuses("a", TRUSTED_SECONDS - 1)
    fail(lockout, "a", 1, now=TRUSTED_SECONDS)
    assert lockout.refuses("a", TRUSTED_SECONDS)


def test_who_stands_for_many_is_slowed() -> None:
    lockout = Lockout()
    assert fail(lockout, "a", 4, is_trusted=True) == [0, 1, 2, 3]
    fail(lockout, "a", 100, is_trusted=True)
    assert not lockout.refuses("a", 0)


def test_it_is_bounded() -> None:
    lockout = Lockout()
    for number in range(2 * ADDRESSES_MAX):
        fail(lockout, str(number), FAILURES_MAX)
        lockout.succeeded(str(number), 0)
    tables = (lockout._failures, lockout._locked_until, lockout._succeeded_at)
    assert max(map(len, tables)) == ADDRESSES_MAX
