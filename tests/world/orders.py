"""The operator's commands, as tests give them whose relay runs in their own thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import trio

from relay.core import Core
from relay.operator.commands import make_all_known
from relay.operator.protocol import CommandAnswer, request_line, result_in, short_path
from relay.operator.without_relay import carry_out_on
from relay.principals import Operator
from relay.registry import DECISIONS, Decision, decision_for

make_all_known()

#: All that an operator may ask for.
COMMANDS: dict[str, Decision] = {name: found for name, found in DECISIONS.items() if found.by is Operator}


async def order(core: Core, name: str, *, by: str = "operator", **arguments: Any) -> Any:
    """What an operator's command answers, without the socket."""
    found = decision_for(name, Operator(by))
    return await found.run(core, msgspec.convert(arguments, found.arguments), Operator(by))


async def administer(directory: Path, name: str, arguments: dict[str, Any]) -> CommandAnswer:
    """As `relay.operator.client.administer`, which would wait for a relay that waits for it."""
    try:
        with short_path(directory) as path:
            stream = await trio.open_unix_socket(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return await carry_out_on(directory, name, arguments)
    async with stream:
        await stream.send_all(request_line(name, arguments))
        return result_in(b"".join([part async for part in stream]))
