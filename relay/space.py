"""Room on the disk: the one place that asks for it, before anything is written that others than the operator cause.

The invariant: **no client can fill the disk.** The last `free_bytes_min` are a reserve. Members may not touch it;
strangers (who unsubscribe, or bring mail in) may use half of it; mail for the postmaster a quarter more. The rest is
for outcomes of delivery, which are always written, and for the views.

What has been let in and is not written yet counts as used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

from relay.config import SpoolConfig
from relay.principals import Asker, Operator, Principal
from relay.refusals import Refusal

#: Of the reserve, how much has to stay free for whom.
MEMBERS = Fraction(1)
STRANGERS = Fraction(1, 2)

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

    def check(self, asker: Asker, size: int = EVENT_BYTES) -> None:
        """Whether so many bytes may be written for this asker. Raises Refusal(QUEUE_FULL)."""
        if isinstance(asker, Operator):
            return
        is_member = isinstance(asker, Principal)
        reserve = self._limits().free_bytes_min * (MEMBERS if is_member else STRANGERS)
        if self._free_bytes() - self._on_the_way - size < reserve:
            raise Refusal(
                "QUEUE_FULL",
                "the relay's disk is almost full; try again later",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        bytes_max = self._limits().bytes_max
        if is_member and bytes_max and self._log_bytes() + self._on_the_way >= bytes_max:
            raise Refusal(
                "QUEUE_FULL",
                "the relay's log is full; try again later",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

    @contextmanager
    def held(self, asker: Asker, size: int = EVENT_BYTES) -> Iterator[None]:
        """Room for what is written inside the block. Raises Refusal(QUEUE_FULL)."""
        self.check(asker, size)
        self._on_the_way += size
        try:
            yield
        finally:
            self._on_the_way -= size
