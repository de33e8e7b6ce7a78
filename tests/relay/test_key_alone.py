"""A key that is given without a DID: it names its member, and a revoked one is as one that never was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.authentication import authenticate, authenticate_key
from relay.events import KeyIssued, KeyRevoked, MemberAdded
from relay.principals import Principal
from relay.refusals import Refusal
from relay.views import members
from tests.world.history_views import fold
from tests.world.relay import DID, OTHER_DID, World, open_world, run


def asked(world: World, key: str) -> Principal:
    with world.core.store.read() as view:
        return authenticate_key(view, world.core.pepper, key)[0]


def why_not(world: World, key: str) -> tuple[str, str]:
    with pytest.raises(Refusal) as refused:
        asked(world, key)
    return refused.value.code, refused.value.message


def test_it_is_who_it_is_with_its_did_until_it_is_revoked(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            first = world.credentials["Authorization"].removeprefix("Bearer ")
            made: Any = await world.command("key_issue", did=DID, category="login-link")
            await world.enrol(OTHER_DID, "other.example")
            for key in (first, made["apiKey"]):
                with world.core.store.read() as view:
                    assert asked(world, key) == authenticate(view, world.core.pepper, DID, key)[0]
            assert asked(world, made["apiKey"]).category == "login-link"
            unknown = why_not(world, "atmos_" + "x" * 43)
            assert unknown[0] == "AUTH_FAILED"
            assert why_not(world, first[:-1]) == why_not(world, "") == unknown

            await world.command("pepper_rotate")
            assert asked(world, first).did == DID
            await world.command("key_revoke", did=DID, key_id=asked(world, made["apiKey"]).key_id)
            assert why_not(world, made["apiKey"]) == unknown
            assert asked(world, first).did == DID
            await world.command("member_remove", did=DID)
            assert why_not(world, first) == unknown

    run(main)


def test_of_two_keys_with_one_hash_the_end_of_the_first_does_not_end_the_second() -> None:
    """It cannot be by chance; it is by a hand that puts a log together."""
    first = KeyIssued(did=DID, key_id="one", key_hash="ab" * 32)
    second = KeyIssued(did=DID, key_id="two", key_hash="ab" * 32)
    with fold([MemberAdded(did=DID), first, second, KeyRevoked(did=DID, key_id="one")]) as view:
        found = members.key_of_hash(view, "ab" * 32)
        assert found is not None
        assert (found[0], found[1].key_id) == (DID, "two")
