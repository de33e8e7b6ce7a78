"""The clock on the wall."""

from __future__ import annotations

import time


def wall_clock_us() -> int:
    """Microseconds since the epoch, UTC. It may be set, and go back."""
    return time.time_ns() // 1000
