"""A running relay takes the operator's commands through its socket, and whatever else comes through it does no harm."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.core import open_core
from relay.file_names import ADMIN_SOCKET
from relay.operator import client, membership_shown
from relay.operator.socket import LINE_BYTES_MAX, REQUEST_SECONDS_MAX
from relay.principals import Operator
from relay.refusals import Refusal
from relay.registry import DECISIONS, Arguments, Decision
from spool.errors import LockedError
from tests.world.orders import COMMANDS, administer
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, World, make_directory, open_world, run

GOOD = {"command": "member_list", "arguments": {}}


@asynccontextmanager
async def hold_socket(world: World) -> AsyncIterator[trio.SocketStream]:
    """A connection to the socket, by a path that is short enough."""
    descriptor = os.open(world.core.directory, os.O_RDONLY)
    try:
        stream = await trio.open_unix_socket(f"/proc/self/fd/{descriptor}/{ADMIN_SOCKET}")
    finally:
        os.close(descriptor)
    async with stream:
        yield stream


async def answer_to(world: World, line: bytes) -> Any:
    """What the relay answers to these bytes and the end of them."""
    async with hold_socket(world) as stream:
        await stream.send_all(line)
        await stream.send_eof()
        answer = b"".join([part async for part in stream])
    assert answer.endswith(b"\n")
    return json.loads(answer)


async def assert_unharmed(world: World, seq: int) -> None:
    """It still takes commands and mail, and nothing was recorded in between."""
    assert world.core.store.last_seq == seq
    (member,) = await administer(world.core.directory, "member_list", {})
    assert member["did"] == DID
    assert (await world.until_final(await world.send()))["status"] == "sent"


# ------------------------------------------------------------------------------------------------ orders


def test_a_running_relay_carries_out_what_it_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            directory = world.core.directory
            added = await administer(
                directory, "member_add", {"did": OTHER_DID, "domains": [OTHER_DOMAIN], "offline": True}
            )
            assert added["domains"][0]["domain"] == OTHER_DOMAIN
            # At once: no restart, and the key that was printed is good.
            headers = {"X-Atmos-DID": OTHER_DID, "Authorization": f"Bearer {added['apiKey']}"}
            mail = {"from": f"x@{OTHER_DOMAIN}", "to": "friend@example.com", "subject": "", "text": "x"}
            status, _, _ = await world.request("POST", "/v1/send", headers=headers, json=mail)
            assert status == 200
            revoke = {"did": OTHER_DID, "key_id": added["keyId"]}
            assert (await administer(directory, "key_revoke", revoke))["status"] == "revoked"
            status, answer, _ = await world.request("POST", "/v1/send", headers=headers, json=mail)
            assert (status, answer["code"]) == (401, "AUTH_FAILED")

    run(main)


def test_the_answers_are_the_same_whether_it_runs_or_not(tmp_path: Path) -> None:
    questions = ["member_list", "domain_list", "key_list", "dns"]

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            # In the same process the log is locked: these answers can only come through the socket.
            running = [await administer(world.core.directory, name, {}) for name in questions]
            with pytest.raises(Refusal) as refused:
                await administer(world.core.directory, "dns", {"domain": "unheard-of.example"})
        assert [await administer(tmp_path / "data", name, {}) for name in questions] == running
        with pytest.raises(Refusal) as refused_again:
            await administer(tmp_path / "data", "dns", {"domain": "unheard-of.example"})
        assert (refused.value.code, refused.value.message) == ("NOT_FOUND", refused_again.value.message)
        assert refused_again.value.code == "NOT_FOUND"

    run(main)


def test_the_socket_is_the_owner_s_alone_and_goes_with_the_relay(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "data" / ADMIN_SOCKET
        async with open_world(tmp_path / "data"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.exists()

    run(main)


def test_a_socket_that_a_killed_relay_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        left = trio.socket.socket(trio.socket.AF_UNIX)
        await left.bind(str(directory / ADMIN_SOCKET))
        left.close()
        assert await administer(directory, "member_list", {}) == []
        async with open_world(directory) as world:
            assert len(await administer(world.core.directory, "member_list", {})) == 1

    run(main)


def test_a_path_longer_than_a_socket_s_may_be(tmp_path: Path) -> None:
    async def main() -> None:
        directory = tmp_path / ("long" * 30) / "data"
        directory.parent.mkdir()
        async with open_world(make_directory(directory)) as world:
            assert len(await administer(world.core.directory, "member_list", {})) == 1

    run(main)


def test_a_second_relay_on_the_directory_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            with pytest.raises(LockedError):
                async with open_core(tmp_path / "data"):
                    raise AssertionError("it started")
            await assert_unharmed(world, world.core.store.last_seq)

    run(main)


def test_two_that_enrol_the_same_domain_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", enrol=False) as world:
            outcomes: list[str] = []

            async def enrol(did: str) -> None:
                try:
                    await administer(
                        world.core.directory, "member_add", {"did": did, "domains": [DOMAIN], "offline": True}
                    )
                    outcomes.append("enrolled")
                except Refusal as refusal:
                    outcomes.append(refusal.code)

            async with trio.open_nursery() as nursery:
                for did in (DID, OTHER_DID):
                    nursery.start_soon(enrol, did)
            assert sorted(outcomes) == ["CONFLICT", "enrolled"]
            types = [event.TYPE for event in world.events()]
            assert (types.count("member.added"), types.count("domain.added")) == (1, 1)

    run(main)


# ------------------------------------------------------------------------------------------------ what is no order


def line(command: Any, arguments: Any) -> bytes:
    return json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\n",
        b"hello\n",
        b"GET / HTTP/1.1\r\n",
        b"\xff\xfe\x00\n",
        b"[1, 2]\n",
        b"null\n",
        b"{}\n",
        b'{"command": "member_list"}\n',
        b'{"arguments": {}}\n',
        b"[" * 500_000 + b"\n",
        b'{"command": "dns", "arguments": ' + b"[" * 500_000 + b"\n",
        b'{"command": "dns", "arguments": {"domain": "\\ud800"}}\n',
        line("unheard_of", {}),
        line("__class__", {}),
        line(["dns"], {}),
        line(5, {}),
        line("dns", []),
        line("dns", None),
        line("dns", {"domain": 5}),
        line("dns", {"core": "x"}),
        line("dns", {"bogus": 1}),
        line("member_add", {}),
        line("member_add", {"did": 5, "domains": []}),
        line("member_add", {"did": OTHER_DID, "domains": OTHER_DOMAIN}),
        line("member_add", {"did": OTHER_DID, "domains": [5]}),
        line("key_revoke", {"did": DID}),
        line("member_list", {})[:-10],
    ],
    ids=lambda sent: repr(sent[:48]),
)
def test_what_is_no_order_is_refused_and_harms_nobody(tmp_path: Path, sent: bytes) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            seq = world.core.store.last_seq
            answer = await answer_to(world, sent)
            assert answer.keys() == {"error", "code"}
            assert answer["code"] == "INVALID_REQUEST"
            assert len(answer["error"]) < 16_384
            await assert_unharmed(world, seq)

    run(main)


@pytest.mark.parametrize(
    ("command", "arguments", "code"),
    [
        ("member_add", {"did": "did:plc:short", "domains": [OTHER_DOMAIN]}, "INVALID_DID"),
        ("domain_add", {"did": "x" * 2_000, "domain": OTHER_DOMAIN}, "INVALID_DID"),
        ("key_issue", {"did": "x" * 2_000}, "INVALID_DID"),
        ("key_list", {"did": "did:web:a\0b.example"}, "INVALID_DID"),
        ("key_revoke", {"did": "", "key_id": ""}, "INVALID_DID"),
        ("key_revoke", {"did": DID, "key_id": "x" * 2_000}, "NOT_FOUND"),
        ("domain_add", {"did": DID, "domain": "../../etc"}, "INVALID_REQUEST"),
        ("domain_add", {"did": DID, "domain": "a/b.example"}, "INVALID_REQUEST"),
        ("dns", {"domain": "x" * 2_000}, "INVALID_REQUEST"),
    ],
)
def test_an_order_that_cannot_be_carried_out(
    tmp_path: Path, command: str, arguments: dict[str, Any], code: str
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            seq = world.core.store.last_seq
            with pytest.raises(Refusal) as refused:
                await administer(world.core.directory, command, arguments)
            assert refused.value.code == code
            await assert_unharmed(world, seq)

    run(main)


@pytest.mark.parametrize(
    "name", [name for name, command in COMMANDS.items() if "did" in command.arguments.__struct_fields__]
)
def test_no_command_looks_up_what_is_no_did(tmp_path: Path, name: str) -> None:
    types = {
        "domains": [OTHER_DOMAIN],
        "domain": OTHER_DOMAIN,
        "key_id": "x",
        "reason": "x",
        "to": "",
        "handle": "",
        "recipient": "a@example.com",
        "by": "class",
    }
    wanted = {
        field.name: types[field.name]
        for field in msgspec.structs.fields(COMMANDS[name].arguments)
        if field.required and field.name != "did"
    }

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for did in ("", "x" * 2_000, f"did:web:{'a.' * 300}example"):
                with pytest.raises(Refusal) as refused:
                    await administer(world.core.directory, name, {"did": did, **wanted})
                assert refused.value.code == "INVALID_DID"

    run(main)


def test_a_line_that_is_too_long_is_refused_while_it_is_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            seq = world.core.store.last_seq
            async with hold_socket(world) as stream:
                # No end of line: the relay must not go on waiting for one, nor keep what comes.
                with pytest.raises(trio.BrokenResourceError):
                    for _ in range(8 * LINE_BYTES_MAX // 65_536):
                        await stream.send_all(b"x" * 65_536)
            await assert_unharmed(world, seq)

    run(main)


def test_a_defect_in_an_order_is_told_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an order says, a relay that runs goes on running."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            seq = world.core.store.last_seq
            monkeypatch.setattr(membership_shown, "members", None)
            with pytest.raises(
                Refusal, match="a defect of the relay; its log has it under request id"
            ) as refused:
                await administer(world.core.directory, "member_list", {})
            assert refused.value.code == "INTERNAL_ERROR"
            monkeypatch.undo()
            await assert_unharmed(world, seq)

    run(main)


def test_a_key_file_that_others_can_read_is_told_and_harms_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            seq = world.core.store.last_seq
            # The relay has not loaded this one: it belongs to nobody yet.
            path = next((world.core.directory / "keys" / OTHER_DOMAIN).glob("*r.pem"))
            path.chmod(0o644)
            with pytest.raises(Refusal, match=f"chmod 600 {path}"):
                await administer(
                    world.core.directory,
                    "member_add",
                    {"did": OTHER_DID, "domains": [OTHER_DOMAIN], "offline": True},
                )
            await assert_unharmed(world, seq)

    run(main)


# ------------------------------------------------------------------------------------------------ hanging up


def test_who_hangs_up_before_the_order_or_its_answer_harms_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            seq = world.core.store.last_seq
            for sent in (b"", b'{"command": "memb', line(**GOOD)):
                async with hold_socket(world) as stream:
                    await stream.send_all(sent)
                await wait_all_tasks_blocked()
            await assert_unharmed(world, seq)

    run(main)


def test_who_says_nothing_is_let_go_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, hold_socket(world) as silent:
            began = trio.current_time()
            assert len(await administer(world.core.directory, "member_list", {})) == 1
            assert trio.current_time() == began
            assert await silent.receive_some() == b""
            assert trio.current_time() - began == REQUEST_SECONDS_MAX

    run(main)


def test_a_relay_that_goes_without_an_answer_is_told_as_such(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        listener = trio.socket.socket(trio.socket.AF_UNIX)
        await listener.bind(str(directory / ADMIN_SOCKET))
        listener.listen(1)

        async def go_away() -> None:
            connection, _ = await listener.accept()
            await connection.recv(4096)
            connection.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_away)
            with pytest.raises(Refusal, match="stopped before it answered") as refused:
                await trio.to_thread.run_sync(client.administer, directory, "member_list", {})
        assert refused.value.code == "TEMPORARILY_UNAVAILABLE"
        listener.close()

    run(main)


def test_an_answer_may_be_longer_than_an_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = ["x" * 1000] * (3 * LINE_BYTES_MAX // 1000)

    async def at_length(core: Any, asked: Arguments, by: Operator) -> Any:
        return {"long": long}

    monkeypatch.setitem(DECISIONS, "at_length", Decision("at_length", Arguments, at_length, Operator))

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            assert await administer(world.core.directory, "at_length", {}) == {"long": long}

    run(main)
