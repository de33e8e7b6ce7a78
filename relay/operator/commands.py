"""The operator's commands, whichever way they come: found in the registry and carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from relay.data_directory import Readable
from relay.dids import is_valid_did, why_no_did
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.refusals import Refusal
from relay.registry import Decision

if TYPE_CHECKING:
    from relay.core import Core


def make_all_known() -> None:
    """Import every module of commands, so that the registry has them all. It brings nearly the whole relay with it."""
    from relay.operator import (  # noqa: F401
        alarms,
        api_keys,
        console,
        erasure,
        finding,
        handles,
        member_shown,
        membership,
        membership_shown,
        peppers,
        providers,
        providers_shown,
        queue_orders,
        queue_shown,
        removal,
        reports,
        reports_shown,
        retention,
        rotation,
        status,
        suppressions,
        suppressions_shown,
        webhooks,
        webhooks_shown,
    )


async def order(core: Core, command: Decision, arguments: msgspec.Struct, by: Operator) -> CommandAnswer:
    """As `carry_out`, where a relay runs; of several nodes the one that leads carries out what it has to."""
    elsewhere = core.elsewhere
    if elsewhere is None or not elsewhere.concerns(command, arguments, by):
        return await carry_out(core, command, arguments, by)
    answer: CommandAnswer = await elsewhere.decide(command, arguments, by)
    return answer


async def carry_out(
    core: Readable, command: Decision, arguments: msgspec.Struct, by: Operator
) -> CommandAnswer:
    """What the command answers. Raises Refusal, or what the command raises."""
    did: Any = getattr(arguments, "did", None)
    if did is not None and not is_valid_did(did):
        # Before a view is asked: what is no DID may be no key of a table either.
        raise Refusal("INVALID_DID", f"did: {did[:300]!r} {why_no_did(did)}")
    answer: CommandAnswer = await command.run(core, arguments, by)
    return answer
