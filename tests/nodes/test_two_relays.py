"""Two relays in processes of their own on three servers: from one machine to two, through a kill, and back to one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.config import CONFIG_FILE, load_config
from relay.config_nodes import NODE_FILE
from tests.world.daemon import free_port
from tests.world.operator import answer, command, good
from tests.world.postgres import Servers, open_servers
from tests.world.process import RelayProcess, make_process_directory, wait_until
from tests.world.relay import DID, OTHER_DID


@pytest.fixture
def servers() -> Iterator[Servers]:
    with open_servers() as opened:
        yield opened


def make_first(directory: Path, conninfo: str) -> Path:
    make_process_directory(directory, route="127.0.0.1:9")
    good("member", "add", directory, "--offline", "--did", DID, "--domain", "a.example")
    path = directory / CONFIG_FILE
    path.write_text(path.read_text() + "\n[nodes]\n")
    own = directory / NODE_FILE
    address = f"127.0.0.1:{free_port()}"
    own.write_text(f'name = "one"\nbind = "{address}"\naddress = "{address}"\ndatabase = "{conninfo}"\n')
    own.chmod(0o600)
    return directory


def wait_led(directory: Path, by: str) -> None:
    said: list[Any] = []

    def leads() -> bool:
        said[:] = [answer("node", "list", directory)]
        return bool(said[0]["leader"] == by)

    wait_until(leads, lambda: f"{by} leads. {said}")


def wait_well(directory: Path, leads: dict[str, bool]) -> None:
    """Until these are the nodes, who leads among them, and there is no problem with any."""
    said: list[Any] = []

    def is_well() -> bool:
        said[:] = answer("node", "list", directory)["nodes"]
        is_so = {node["node"]: node["leads"] for node in said} == leads
        return is_so and not any(node["problems"] for node in said)

    wait_until(is_well, lambda: f"all is well. {said}")


def keys_of(directory: Path) -> dict[str, bytes]:
    files = [*directory.glob("keys/*/*.pem"), *directory.glob("pepper*")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def join(directory: Path, bundle: dict[str, str], *words: object) -> None:
    code = directory.with_suffix(".code")
    code.write_text(bundle["code"])
    address = f"127.0.0.1:{free_port()}"
    good(
        "node",
        "join",
        directory,
        bundle["file"],
        "--address",
        address,
        "--bind",
        address,
        "--code-file",
        code,
        *words,
    )


def test_from_one_to_two_and_back(tmp_path: Path, servers: Servers) -> None:
    one = make_first(tmp_path / "one", servers.make_database())
    good("node", "found", one)
    first, second = RelayProcess(one), RelayProcess(tmp_path / "two")
    two = second.directory
    with first.running():
        wait_led(one, "one")
        bundle = answer("node", "add", one, "two", "--to", tmp_path / "bundle")
        good("log", "backup", one, tmp_path / "backup")
        # Keys that are younger than both come beside their events.
        good("member", "add", one, "--offline", "--did", OTHER_DID, "--domain", "b.example")
        join(two, bundle, "--from-backup", tmp_path / "backup")
        with second.running():
            good("pepper", "rotate", one)
            wait_until(
                lambda: keys_of(two) == keys_of(one), lambda: f"{keys_of(two).keys()}. {second.output}"
            )
            assert (two / "keys" / "b.example").is_dir()
            assert (two / "pepper.2").exists()
            refused = command("node", "remove", one, "two")
            assert "two is at work" in str(refused.exception)

            first.kill()
            wait_led(two, "two")
            good("key", "issue", two, "--did", DID)
            good("pepper", "rotate", two)
            first.start()
            wait_until(lambda: keys_of(two) == keys_of(one), lambda: f"{keys_of(one).keys()}. {first.output}")
            # Who has just begun has still to look whether something is to be removed from its files.
            wait_well(one, {"one": False, "two": True})

            assert first.stop() == 0
            assert second.stop() == 0
    behind = command("node", "leave", one, "--alone")
    left = two if behind.exit_code else one
    if behind.exit_code:
        assert "this directory's at" in str(behind.exception)
        good("node", "leave", two, "--alone")
    assert load_config(left).nodes is None
    alone = RelayProcess(left)
    with alone.running():
        assert {row["did"] for row in json.loads(good("member", "list", left, "--json"))} == {DID, OTHER_DID}
        assert alone.stop() == 0
