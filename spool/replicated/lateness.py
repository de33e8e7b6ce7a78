"""What is said of an answer that did not come in time.

A process that stood still (stopped by a signal, or with its whole machine) finds all its times over when it goes on.
That says nothing of the database, so it is not blamed.
"""

from __future__ import annotations

from typing import Final

#: So much later than it should have been noticed: nothing that runs is that late.
STOOD_STILL_SECONDS: Final = 2.0


def no_answer(waited_seconds: float, patience_seconds: float) -> str:
    """`patience_seconds`: after which it should have been noticed."""
    late = waited_seconds - patience_seconds
    if late < STOOD_STILL_SECONDS:
        return "no answer in time"
    return f"this process stood still for {late:.0f} s or more, and so an answer did not reach it in time"
