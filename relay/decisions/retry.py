"""When a message is tried again, and when it is given up (SPEC 2). Pure: the dice are thrown by the caller.

After attempt n the next one comes after `delays_seconds[n - 1]` (the last delay repeats), 10 % more or less, so
that what failed together does not come back together. No attempt is ever begun after `give_up_at`: when the next
one would be later, the message is given up at once, because its sender should hear so as soon as it is certain.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.times import SECOND_US

JITTER = 0.1


def next_attempt_at(delays_seconds: Sequence[int], attempt: int, now_us: int, dice: float) -> int:
    """When attempt + 1 is due, in microseconds. `attempt` counts from 1; `dice` is uniform in [0, 1)."""
    delay = delays_seconds[min(attempt, len(delays_seconds)) - 1]
    return now_us + round(delay * SECOND_US * (1 - JITTER + 2 * JITTER * dice))


def is_given_up(next_attempt_at_us: int, give_up_at_us: int) -> bool:
    """Whether an attempt at that time would be too late to be made at all."""
    return next_attempt_at_us > give_up_at_us
