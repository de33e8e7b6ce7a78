"""The TXT records of some names, asked for at once."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from relay.domains.diagnosis import Facts, Strings, Unanswered
from relay.internet.resolver import LookupFailed, NoSuchName, Resolver


async def ask(resolver: Resolver, names: Sequence[str]) -> Facts:
    """What each name has, or why the DNS could not tell."""
    facts: dict[str, tuple[Strings, ...] | Unanswered] = {}

    async def ask_one(name: str) -> None:
        try:
            facts[name] = tuple(await resolver.lookup_txt(name))
        except NoSuchName:
            facts[name] = ()
        except LookupFailed as error:
            facts[name] = Unanswered(str(error))

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(ask_one, name)
    return {name: facts[name] for name in names}  # whatever the order of the answers was
