"""The pepper is rotated: what is new is made by the new one, and nothing that an older one made stops being good."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from relay.core import open_core
from relay.events import PepperRotated
from relay.file_names import LOG_DIRECTORY
from relay.message import key_files
from relay.message.key_files import KeyFileError, pepper_files, read_peppers
from relay.message.keys import Pepper, load_pepper
from relay.message.tokens import BounceAddresses, UnsubscribeTokens
from relay.operator.without_relay import carry_out_alone
from relay.past.audit import audit
from relay.views import messages, peppers
from spool.reader import LogReader
from tests.world.one_click import unsubscribe_path
from tests.world.operator import answer, good
from tests.world.relay import (
    DOMAIN,
    OPERATOR_DOMAIN,
    OTHER_DID,
    OTHER_DOMAIN,
    World,
    make_directory,
    open_world,
    run,
)


def envelope_sender(world: World, address: str) -> str:
    (message,) = [message for message in world.mx.messages if address in message.rcpt_to]
    return message.mail_from


def test_what_is_new_is_made_by_the_new_one_and_what_is_old_stays_good(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")
    first = load_pepper(directory)

    async def main() -> None:
        async with open_world(directory) as world:
            await world.until_final(await world.send(to="before@example.com"))
            waiting = await world.send(to="tempfail-1@example.com")
            await world.until(waiting, "deferred")
            old = world.credentials
            edge = world.core.edge
            assert (await world.command("pepper_rotate"))["number"] == 2
            second = Pepper(read_peppers(directory)[2])
            assert stat.S_IMODE((directory / "pepper.2").stat().st_mode) == 0o600

            # Keys.
            assert (await world.request("GET", "/member/status"))[0] == 200
            world.credentials = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            assert (await world.request("GET", "/member/status"))[0] == 200
            secret = world.credentials["Authorization"].removeprefix("Bearer ")
            hashes = [event.key_hash for event in world.events() if event.TYPE == "key.issued"]
            assert hashes[-1] == second.key_hash(secret) != first.key_hash(secret)
            status, refused, _ = await world.request(
                "GET", "/member/status", headers={**old, "Authorization": f"Bearer {secret}"}
            )
            assert (status, refused["code"]) == (401, "AUTH_FAILED")

            # Addresses and links: of each message by the pepper of then.
            world.credentials = old
            await world.until_final(await world.send(to="after@example.com"))
            await world.until_final(waiting)
            for address, pepper in (
                ("before@example.com", first),
                ("tempfail-1@example.com", first),
                ("after@example.com", second),
            ):
                sender = envelope_sender(world, address)
                assert BounceAddresses(pepper.bounce_key, OPERATOR_DOMAIN).parse(sender) is not None, address
                assert world.core.composer.bounces.parse(sender) is not None
                data = next(message.data for message in world.mx.messages if address in message.rcpt_to)
                token = unsubscribe_path(data).rpartition("/")[2]
                opened = UnsubscribeTokens(pepper.unsubscribe_key).open(token)
                assert opened is not None
                assert opened.recipient == address
                # Also by those who were given the relay's keys before.
                assert edge.unsubscribe_tokens.open(token) == opened
                clicked = await world.client.post(f"/u/{token}", form={"List-Unsubscribe": "One-Click"})
                assert clicked.status_code == 200
            await world.command("pepper_rotate")
            assert [event.number for event in world.events() if isinstance(event, PepperRotated)] == [2, 3]
            last = await world.send(to="last@example.com")
            await world.until_final(last)
        with LogReader(directory / LOG_DIRECTORY) as reader:
            for message_id in (waiting, last):
                found = audit(directory, reader, message_id)
                assert found.problems == []
                assert [one.match for one in found.compositions][-1:] == [True]
        async with open_world(directory, enrol=False) as world:
            world.credentials = old
            assert (await world.request("GET", "/member/status"))[0] == 200

    run(main)


def test_a_notification_quotes_what_an_older_pepper_made(tmp_path: Path) -> None:
    """The DSN comes later than its mail, whose link is in the header that it quotes."""
    directory = make_directory(tmp_path / "data")

    async def main() -> None:
        async with open_world(directory) as world:
            await world.command("domain_set_forward", domain=DOMAIN, to="owner@example.com")
            message_id = await world.send(to="tempfail-99@example.com")
            await world.until(message_id, "deferred")
            await world.command("pepper_rotate")
            await world.until_final(message_id)
            with world.core.store.read() as view:
                state = messages.message(view, message_id)
                assert state is not None
                dsn = messages.dsn_about(view, state)
            assert dsn is not None
            await world.until_final(dsn.message_id)
            (notice,) = [message for message in world.mx.messages if "owner@example.com" in message.rcpt_to]
            links = re.findall(rb"/u/([A-Za-z0-9_-]+)", notice.data.replace(b"\r\n ", b""))
            tokens = UnsubscribeTokens(load_pepper(directory).unsubscribe_key)
            assert [opened.message_id for link in links if (opened := tokens.open(link.decode()))] == [
                message_id
            ]
        with LogReader(directory / LOG_DIRECTORY) as reader:
            assert audit(directory, reader, dsn.message_id).problems == []

    run(main)


def test_a_pepper_that_is_missing_or_not_private_is_told_of_at_the_start(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")
    good("pepper", "rotate", directory)

    async def main() -> None:
        async with open_core(directory):
            raise AssertionError("it must not start")

    second = directory / "pepper.2"
    second.chmod(0o640)
    with pytest.raises(KeyFileError, match=f"chmod 600 {second}"):
        run(main)
    second.rename(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match=r"pepper\.2: is missing; restore it from a backup"):
        run(main)


def test_a_backup_has_all_of_them(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")
    for _ in range(2):
        good("pepper", "rotate", directory)
    (directory / "pepper.old").write_bytes(b"somebody's own")
    good("log", "backup", directory, tmp_path / "backup")
    good("log", "restore", tmp_path / "backup", tmp_path / "restored")
    assert read_peppers(tmp_path / "restored") == read_peppers(directory)
    assert [path.name for path in pepper_files(directory)] == ["pepper", "pepper.2", "pepper.3"]
    assert answer("pepper", "rotate", tmp_path / "restored")["number"] == 4


class _Steps:
    """The `os` of the files of secrets; the process is killed right before or after its n-th step."""

    def __init__(self, die_at: int) -> None:
        self._left = die_at

    def step(self) -> None:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name not in ("open", "fdopen", "fsync", "link", "unlink"):
            return found

        def stepping(*arguments: Any, **options: Any) -> Any:
            self.step()
            return found(*arguments, **options)

        return stepping


def _rotate_and_die(directory: Path, die_at: int) -> bool:
    """In a process of its own. Whether it was killed before it had answered."""
    child = os.fork()
    if not child:
        steps = _Steps(die_at)
        key_files.os = steps  # type: ignore[attr-defined]
        from relay.store import Store

        decide = Store.decide

        async def deciding(self: Store, *arguments: Any, **options: Any) -> Any:
            steps.step()
            recorded = await decide(self, *arguments, **options)
            steps.step()
            return recorded

        Store.decide = deciding  # type: ignore[method-assign]
        carry_out_alone(directory, "pepper_rotate", {})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def test_killed_at_any_step_it_leaves_a_directory_that_starts(tmp_path: Path) -> None:
    """And where the order can be given again."""
    origin = make_directory(tmp_path / "origin")
    credentials: dict[str, str] = {}

    def number_after_a_start(directory: Path) -> int:
        found: list[int] = []

        async def main() -> None:
            async with open_world(directory, enrol=not credentials) as world:
                credentials.update(world.credentials)
                world.credentials = credentials
                assert (await world.request("GET", "/member/status"))[0] == 200
                with world.core.store.read() as view:
                    found.append(peppers.current(view))

        run(main)
        return found[0]

    assert number_after_a_start(origin) == 1
    numbers, killed, die_at = [], True, 0
    while killed:
        directory = Path(shutil.copytree(origin, tmp_path / str(die_at)))
        killed = _rotate_and_die(directory, die_at)
        numbers.append(number_after_a_start(directory))
        assert {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("*pepper*")} == {0o600}
        assert answer("pepper", "rotate", directory)["number"] == numbers[-1] + 1
        die_at += 1
    # Of the file: opened, made a file object, synced, linked, unlinked, its name synced; and the event.
    assert len(numbers) >= 9
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (1, 2)
