"""A bug that is planted in a relay on several machines."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from relay.nodes.forwarding import Forwarding
from tests.campaigns.planting import _replace


def denies_what_it_has_not_heard_of(stack: ExitStack) -> None:
    """What is not in this node's views is not there."""

    async def catch_up(self: Any) -> None:
        pass

    _replace(stack, Forwarding, "catch_up", catch_up)
