"""Room on the disk: the one place that asks for it, before anything is written that others than the operator cause.

The invariant: **no client can fill the disk.** The last `free_bytes_min` are a reserve. Members may not touch it;
strangers (who unsubscribe, or bring mail in) may use half of it; mail for the postmaster a quarter more. The rest is
for outcomes of delivery, which are always written, and for the views.

What has been let in and is not written yet counts as used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from relay.config import SpoolConfig
from relay.principals import Asker, Operator, Principal
from relay.refusals import Refusal


class Claim(NamedTuple):
    """How far somebody may go."""

    #: Which part of the reserve has to stay free. Exact: all are powers of two.
    reserve: float
    #: Whether `bytes_max` of the log holds for it.
    minds_log_bytes: bool


MEMBERS = Claim(1.0, minds_log_bytes=True)
#: Who unsubscribes.
STRANGERS = Claim(0.5, minds_log_bytes=False)
#: Mail that comes in.
MAIL = Claim(0.5, minds_log_bytes=True)
#: Mail for postmaster@ and abuse@.
POSTMASTER = Claim(0.25, minds_log_bytes=False)

#: An event without content, in the log and in the views.
EVENT_BYTES = 4096

RETRY_AFTER_SECONDS = 60


class Space:
    def __init__(
        self,
        limits: Callable[[], SpoolConfig],
        *,
        free_bytes: Callable[[], int],
        log_bytes: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._free_bytes = free_bytes
        self._log_bytes = log_bytes
        self._on_the_way = 0

    def check(self, asker: Asker, size: int = EVENT_BYTES, *, claim: Claim | None = None) -> None:
        """Whether so many bytes may be written for this asker. `claim`: of a stranger's, what it is, where it is no
        click. Raises Refusal(QUEUE_FULL)."""
        if isinstance(asker, Operator):
            return
        claim = MEMBERS if isinstance(asker, Principal) else claim or STRANGERS
        reserve = self._limits().free_bytes_min * claim.reserve
        if self._free_bytes() - self._on_the_way - size < reserve:
            raise Refusal(
                "QUEUE_FULL",
                "the relay's disk is almost full; try again later",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        bytes_max = self._limits().bytes_max
        if claim.minds_log_bytes and bytes_max and self._log_bytes() + self._on_the_way >= bytes_max:
            raise Refusal(
                "QUEUE_FULL",
                "the relay's log is full; try again later",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

    @contextmanager
    def held(self, asker: Asker, size: int = EVENT_BYTES, *, claim: Claim | None = None) -> Iterator[None]:
        """Room for what is written inside the block. Raises Refusal(QUEUE_FULL)."""
        self.check(asker, size, claim=claim)
        self._on_the_way += size
        try:
            yield
        finally:
            self._on_the_way -= size
