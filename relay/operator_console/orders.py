"""How the console gives an order: as the admin socket does, but in the name of its session.

What the pages of members ask for by name (`relay.edge.ByName`) is decoded as that command's arguments, and checked like
any other input. A command is told that it is `console:SESSION` who orders.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import msgspec

from relay.core import Core
from relay.edge import ByName, Edge
from relay.operator.commands import order
from relay.principals import Asker, Operator
from relay.refusals import Refusal
from relay.registry import decision_for

logger = logging.getLogger(__name__)


def operators_edge(core: Core) -> Edge:
    """What the pages have of the core: an edge that carries out the operator's commands, too."""

    async def decide(name: str, arguments: msgspec.Struct, asker: Asker) -> Any:
        if not isinstance(asker, Operator):
            return await core.decide(name, arguments, asker)
        command = decision_for(name, asker)
        if isinstance(arguments, ByName):
            try:
                arguments = msgspec.convert(arguments.arguments, command.arguments)
            except msgspec.ValidationError as error:
                raise Refusal("INVALID_REQUEST", f"{name}: {error}") from error
        if not command.reads:
            logger.info("console.command", extra={"command": name, "by": asker.user})
        return await order(core, command, arguments, asker)

    return dataclasses.replace(core.edge, decide=decide)
