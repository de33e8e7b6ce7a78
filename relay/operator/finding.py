"""The operator's questions: `find` (which messages?), `top` (what became of how many?) and `why` (may this not send?).

The answers are those of `relay.finding`, as JSON has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from relay.data_directory import Readable
from relay.fields import domain_in, since_in, until_in
from relay.finding import InTurn, carried_through
from relay.finding.hindrances import Hindrances
from relay.finding.search import Search, wanted_in
from relay.finding.totals import Totals
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.refusals import invalid
from relay.registry import Arguments, decision


class Find(Arguments, frozen=True, kw_only=True):
    """`relay.finding.search.Wanted` as somebody writes it."""

    recipient: str | None = None
    sender: str | None = msgspec.field(default=None, name="from")
    domain: str | None = None
    did: str | None = None
    status: str | None = None
    bounce_class: str | None = msgspec.field(default=None, name="class")
    provider: str | None = None
    mx: str | None = None
    category: str | None = None
    tag: str | None = None
    #: As `relay.fields.since_in` and `until_in` take them: `2h`, `yesterday`, a date, a time.
    since: str | None = None
    until: str | None = None
    limit: int = 50
    #: The `next` of the answer before.
    after: int | None = None


class Top(Arguments, frozen=True, kw_only=True):
    #: `relay.finding.totals` has the words.
    by: str
    order: str = "messages"
    #: As with `find`.
    since: str = "7d"
    until: str | None = None
    #: Of this member alone: not by receiver or site, which are counted for all together.
    did: str | None = None
    limit: int = 20


class Why(Arguments, frozen=True, kw_only=True):
    """One of the two."""

    domain: str | None = None
    did: str | None = None


def in_turn(core: Readable) -> InTurn:
    """Each step of a question, and then whoever else is there."""

    async def step(function: Callable[..., Any], *arguments: Any) -> Any:
        done = function(*arguments)
        await core.pause()
        return done

    return step


@decision(by=Operator, reads=True)
async def find(core: Readable, asked: Find, by: Operator) -> CommandAnswer:
    """Messages, newest first."""
    given = {name: getattr(asked, name) for name in asked.__struct_fields__ if name not in ("limit", "after")}
    wanted = wanted_in(core.store.now_us(), **given)
    search = Search(wanted, core.store.get, limit=asked.limit, after=asked.after)
    await carried_through(search, core.store, in_turn(core))
    return _as_json(search.answer())


@decision(by=Operator, reads=True)
async def top(core: Readable, asked: Top, by: Operator) -> CommandAnswer:
    """Who has most."""
    now_us = core.store.now_us()
    totals = Totals(
        asked.by,
        since_us=since_in("since", asked.since, now_us),
        until_us=now_us + 1 if asked.until is None else until_in("until", asked.until, now_us),
        now_us=now_us,
        order=asked.order,
        did=asked.did,
        limit=asked.limit,
    )
    await carried_through(totals, core.store, in_turn(core))
    return _as_json(totals.answer())


@decision(by=Operator, reads=True)
async def why(core: Readable, asked: Why, by: Operator) -> CommandAnswer:
    """What stands in the way of a domain's mail, or of a member's."""
    if (asked.domain is None) == (asked.did is None):
        raise invalid("domain", "name a domain, or a member (did)")
    hindrances = Hindrances(
        core.config,
        core.store.get,
        domain=None if asked.domain is None else domain_in("domain", asked.domain),
        did=asked.did,
    )
    await carried_through(hindrances, core.store, in_turn(core))
    return _as_json(hindrances.answer())


def _as_json(answer: msgspec.Struct) -> CommandAnswer:
    found: CommandAnswer = msgspec.to_builtins(answer)
    return found
