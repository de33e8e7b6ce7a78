"""Lists of all members and domains: whole, and nobody waits for the whole of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.events import DomainAdded, MemberAdded, MemberRemoved
from relay.operator.in_pieces import ROWS_OF_A_PIECE
from relay.operator.membership_shown import DomainList, MemberList, domain_list, member_list
from relay.operator.status import Status, status
from relay.principals import Operator
from tests.world.relay import open_world, run

COUNT = 2 * ROWS_OF_A_PIECE + 50
BY = Operator("root")


class Paused:
    """A core that counts its pauses."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.pauses = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    async def pause(self) -> None:
        self.pauses += 1
        await self._core.pause()


@pytest.mark.parametrize(
    ("command", "asked", "count_of"),
    [
        (member_list, MemberList(), len),
        (domain_list, DomainList(), len),
        (status, Status(), lambda answer: answer["members"]),
    ],
)
def test_all_are_told_a_piece_at_a_time(
    tmp_path: Path, command: Any, asked: Any, count_of: Callable[[Any], int]
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", enrol=False) as world:
            dids = [f"did:web:m{number}.example" for number in range(COUNT)]
            for did in dids:
                domain = DomainAdded(
                    did=did,
                    domain=did.removeprefix("did:web:"),
                    selector_stem="atmos20251124",
                    rsa_public="",
                    ed25519_public="",
                )
                await world.core.store.append([MemberAdded(did=did), domain])
            core = Paused(world.core)
            answer = await command(core, asked, BY)
            assert count_of(answer) == COUNT
            assert core.pauses >= COUNT // ROWS_OF_A_PIECE, "one step was longer than a piece"
            await world.core.store.append([MemberRemoved(did=dids[0])])
            if command is not domain_list:
                assert count_of(await command(core, asked, BY)) == COUNT - 1

    run(main)
