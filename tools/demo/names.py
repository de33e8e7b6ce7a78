"""The DNS of the demo: a table. What is not in it does not exist, so nothing that the demo asks leaves the machine.

The relay cannot tell it from the real one (`relay.internet.resolver.Resolver`): the demo's domains are verified and
looked at as any others, and find what a member would have pasted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from relay.internet.resolver import Mx, NoSuchName


class DemoDns:
    """Filled when the relay runs and its keys are known."""

    def __init__(self) -> None:
        self._txt: dict[str, list[tuple[bytes, ...]]] = {}

    def publish(self, answer: Any, others: Iterable[tuple[str, str]] = ()) -> None:
        """The TXT records that `atmos-relay dns` printed, and other ones."""
        parts = (answer["operator"], *answer["domains"])
        printed = [
            (record["name"], record["value"])
            for part in parts
            for record in part["records"]
            if record["type"] == "TXT"
        ]
        self._txt = {}
        for name, value in (*printed, *others):
            self._txt.setdefault(name, []).append((value.encode(),))

    async def lookup_mx(self, domain: str) -> list[Mx]:
        """See Resolver."""
        return self._ask(domain, [])

    async def lookup_addresses(self, host: str) -> list[str]:
        """See Resolver."""
        return self._ask(host, [])

    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        """See Resolver."""
        return self._ask(name, self._txt.get(name, []))

    async def lookup_names(self, address: str) -> list[str]:
        """See Resolver."""
        raise NoSuchName(address)

    def _ask(self, name: str, found: list[Any]) -> list[Any]:
        if name not in self._txt:
            raise NoSuchName(name)
        return found
