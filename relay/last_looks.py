"""What was found when each domain's DNS was looked at last, so that whoever asks need not look again.

It is lost with the process: it decides nothing, what follows from a look is an event (`relay.domains.verification`),
and what is not known here is found by looking. Names and answers are strangers', so only the last KEPT_MAX are kept;
whoever puts one in sees to it that it is small.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
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


class ListLook(NamedTuple):
    at: int
    #: Why the list's answer says nothing; None: it says whether it names the source, and the views have it.
    unknown: str | None


class ListLooks:
    """When each list of senders to refuse was asked for each source last, and what came of it. What is listed is in the
    views; this is lost with the process."""

    def __init__(self) -> None:
        self._looks: dict[tuple[str, str], ListLook] = {}

    def put(self, source: str, dnsbl: str, look: ListLook) -> None:
        self._looks[source, dnsbl] = look

    def keep_only(self, asked: Collection[tuple[str, str]]) -> None:
        """Forget those that are asked no more: so there are no more than that."""
        self._looks = {key: look for key, look in self._looks.items() if key in asked}

    def of(self, source: str, dnsbl: str) -> ListLook | None:
        return self._looks.get((source, dnsbl))

    def unknown(self) -> dict[tuple[str, str], ListLook]:
        """(source, list) whose answer says nothing."""
        return {key: look for key, look in self._looks.items() if look.unknown is not None}

    def lists(self) -> set[str]:
        """Those that are asked."""
        return {dnsbl for _, dnsbl in self._looks}
