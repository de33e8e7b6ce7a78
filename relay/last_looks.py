"""What was found when each domain's DNS was looked at last, so that whoever asks need not look again.

It is lost with the process: it decides nothing, what follows from a look is an event (`relay.domains.verification`),
and what is not known here is found by looking. Names and answers are strangers', so only the last KEPT_MAX are kept;
whoever puts one in sees to it that it is small.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

Found = TypeVar("Found")

KEPT_MAX = 2_000


class Look(NamedTuple, Generic[Found]):
    at: int
    findings: Sequence[Found]


class LastLooks(Generic[Found]):
    def __init__(self) -> None:
        self._looks: OrderedDict[tuple[str, str], Look[Found]] = OrderedDict()

    def put(self, did: str, domain: str, look: Look[Found]) -> None:
        """By member as well: what was found for one is not shown to the next who has the name."""
        self._looks[did, domain] = look
        self._looks.move_to_end((did, domain))
        if len(self._looks) > KEPT_MAX:
            self._looks.popitem(last=False)

    def of(self, did: str, domain: str) -> Look[Found] | None:
        return self._looks.get((did, domain))
