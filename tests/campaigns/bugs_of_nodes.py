"""Bugs that are planted in a relay on several machines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import trio
from msgspec import structs

from relay.core import Core
from relay.nodes.forwarding import Forwarding
from relay.views.webhooks import WebhookState
from relay.webhooks.deliver import Webhooks
from spool.log import Log
from spool.mark import write_mark
from spool.recovery import Witness
from tests.campaigns.planting import _replace


def denies_what_it_has_not_heard_of(stack: ExitStack) -> None:
    """What is not in this node's views is not there."""

    async def catch_up(self: Any) -> None:
        pass

    _replace(stack, Forwarding, "catch_up", catch_up)


def webhooks_do_not_ask_who_leads(stack: ExitStack) -> None:
    """What is told is in the log, which never goes back: why wait for a lease?"""
    begin = Webhooks.__init__

    def begin_without_asking(self: Any, core: Core) -> None:
        begin(self, core)
        self._core = _NeverAsks(core)

    _replace(stack, Webhooks, "__init__", begin_without_asking)


def webhooks_begin_at_the_end(stack: ExitStack) -> None:
    """A machine that takes the lead goes on with what is new: the one before has told the rest."""
    _replace_cursor(stack, lambda state, last_seq: last_seq)


def webhooks_begin_anew(stack: ExitStack) -> None:
    """How far the one before had got is not looked at."""
    _replace_cursor(stack, lambda state, last_seq: 0)


def _replace_cursor(stack: ExitStack, choose: Callable[[WebhookState, int], int]) -> None:
    """Of those that are there when a machine begins to lead."""
    run = Webhooks.run

    async def run_otherwise(self: Any, **arguments: Any) -> None:
        add = self._add
        self._add = lambda state: add(structs.replace(state, cursor=choose(state, self._store.last_seq)))
        await run(self, **arguments)

    _replace(stack, Webhooks, "run", run_otherwise)


def mark_before_sync(stack: ExitStack) -> None:
    """The kernel is about to write it in any case."""

    def sync_and_mark(self: Any, end: Witness) -> None:
        write_mark(self._disk, self.directory, end)

    _replace(stack, Log, "_sync_and_mark", sync_and_mark)


class _NeverAsks:
    """A core, to those that need not know."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    async def before_acting(self) -> None:
        await trio.lowlevel.checkpoint()
