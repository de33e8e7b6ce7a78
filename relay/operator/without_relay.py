"""An operator's command where no relay runs: the command line opens the data directory itself.

A command that only reads changes nothing: it is asked of the views there, or, where these cannot be trusted, of
views that are folded from the log elsewhere (`relay.data_directory.open_for_reading`), and works on a copy as well.
One that changes something opens the directory as a relay does, and for as long no other can. Where the log is that of
several machines it is refused: only a relay can append to that.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from relay.config import load_config
from relay.data_directory import open_for_reading
from relay.operator.client import user_name
from relay.operator.commands import carry_out, make_all_known
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.refusals import Refusal
from relay.registry import DECISIONS, decision_for

Answered = TypeVar("Answered")

#: The modules of this room whose commands only read. To import these is to know them, and takes a third of what all
#: take.
READING = (
    "alarms",
    "finding",
    "member_shown",
    "membership_shown",
    "providers_shown",
    "queue_shown",
    "reports_shown",
    "status",
    "suppressions_shown",
    "webhooks_shown",
)
for _name in READING:
    import_module(f"relay.operator.{_name}")


def carry_out_alone(directory: Path, command: str, arguments: dict[str, Any]) -> CommandAnswer:
    """Raises Refusal, or what `open_for_reading` or `open_core` raises."""
    if _only_reads(command):
        return _at_once(carry_out_on(directory, command, arguments))
    import trio

    return trio.run(carry_out_on, directory, command, arguments)


async def carry_out_on(directory: Path, command: str, arguments: dict[str, Any]) -> CommandAnswer:
    """As `carry_out_alone`, for whoever has an event loop."""
    by = Operator(user_name(os.getuid()))
    if _only_reads(command):
        with open_for_reading(directory) as readable:
            return await _carried_out(readable, command, arguments, by)
    if load_config(directory).nodes is not None:
        # Nothing may be appended here but by the node that leads, and by what it has agreed on with the others.
        raise Refusal(
            "CONFLICT",
            f"{directory} is one of several machines, and no relay runs on it: start it, or give the order at a node "
            "whose relay runs",
        )
    make_all_known()
    from relay.core import open_core

    async with open_core(directory) as core:
        try:
            return await _carried_out(core, command, arguments, by)
        except Refusal as error:  # carried out of the nurseries, which would wrap it
            refusal = error
    raise refusal from None


async def _carried_out(core: Any, name: str, arguments: dict[str, Any], by: Operator) -> CommandAnswer:
    command = decision_for(name, by)
    return await carry_out(core, command, msgspec.convert(arguments, command.arguments), by)


def _only_reads(command: str) -> bool:
    found = DECISIONS.get(command)
    return found is not None and found.reads


def _at_once(answering: Coroutine[Any, Any, Answered]) -> Answered:
    """Run to its end what has nobody to wait for. An event loop would take longer to import than this takes to run."""
    try:
        answering.send(None)
    except StopIteration as end:
        answered: Answered = end.value
        return answered
    answering.close()
    raise AssertionError("a command that only reads waits for something, where nobody else is at work")
