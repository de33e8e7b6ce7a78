"""How Python itself is set in a process of the relay, the core as well as a worker."""

from __future__ import annotations

import gc
import sys
from typing import Final

#: So soon a thread that computes lets the loop run again, where Python's default is 5 ms.
SWITCH_SECONDS: Final = 0.0001


def switch_soon() -> None:
    sys.setswitchinterval(SWITCH_SECONDS)


def calm_the_collector() -> None:
    """What has been made up to here stays for good, and what a request leaves behind is freed by reference counts: at
    Python's defaults, looking for cycles takes 6 % of the accept path."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
