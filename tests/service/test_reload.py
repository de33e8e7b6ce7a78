"""SIGHUP reads `relay.toml` again (SPEC 9): what can change changes at once, what needs a restart is named, a file that
cannot be used changes nothing, and no moment is a bad one for the signal."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.api.clients import Clients
from relay.config import CONFIG_FILE
from relay.events import DomainPaused
from tests.world.http import open_http
from tests.world.mx import open_mx
from tests.world.process import PATIENCE_SECONDS, RelayProcess, configure, make_process_directory, wait_until
from tests.world.relay import OTHER_DID, OTHER_DOMAIN, World, open_world, run

UNIT = Path(__file__).parents[2] / "docs" / "atmos-relay.service"


async def reload(world: World, directory: Path, **settings: str) -> None:
    configure(directory, **settings)
    await world.core.read_settings_again()


def said(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.message == event]


# ------------------------------------------------------------------------------------------------ what changes at once


def test_limits_and_tiers(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.send()
            await reload(world, tmp_path / "data", warming="tiers = [ { hour = 1, day = 1 } ]")
            status, answer = await world.post_send()
            assert (status, answer["code"]) == (429, "RATE_LIMITED")
            await reload(world, tmp_path / "data", warming="tiers = [ { hour = 2, day = 2 } ]")
            await world.send()

    run(main)


def test_quotas_of_members(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.send()
            await reload(world, tmp_path / "data", members="writes_per_minute = 1\ndomains_max = 1")
            await world.send()
            assert (await world.post_send())[0] == 429
            with pytest.raises(Exception, match="a member may have 1 domains"):
                await world.command(
                    "member_add", did=OTHER_DID, domains=[OTHER_DOMAIN, "x.example"], offline=True
                )

    run(main)


def test_the_reserve_of_the_disk(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await reload(world, tmp_path / "data", spool=f"free_bytes_min = {2**52}")
            status, answer = await world.post_send()
            assert (status, answer["code"]) == (503, "QUEUE_FULL")
            await reload(world, tmp_path / "data", spool="free_bytes_min = 0")
            await world.send()

    run(main)


def test_the_thresholds_of_reputation_judge_what_was_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.until_final(await world.send(to="permfail@example.com"))
            await reload(world, tmp_path / "data", spool="retention_days = 29")
            await wait_all_tasks_blocked()
            assert not any(isinstance(event, DomainPaused) for event in world.events())
            path = tmp_path / "data" / CONFIG_FILE
            path.write_text(path.read_text() + "\n[reputation]\nmessages_min = 1\nbounces_min = 1\n")
            await world.core.read_settings_again()
            await wait_all_tasks_blocked()
            assert any(isinstance(event, DomainPaused) for event in world.events())

    run(main)


def test_delays_of_retries(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await reload(world, tmp_path / "data", retry="delays_seconds = [7200]")
            begun = trio.current_time()
            await world.until(await world.send(to="tempfail@example.com"), "sent")
            assert 7200 * 0.9 <= trio.current_time() - begun <= 7200 * 1.1

    run(main)


def test_whom_a_proxy_may_speak_for() -> None:
    trusted: tuple[str, ...] = ()
    clients = Clients(lambda: trusted)

    def client_of(peer: str) -> str:
        scope: dict[str, Any] = {"client": (peer, 1), "headers": [(b"x-forwarded-for", b"192.0.2.7")]}
        client = clients.of(scope)
        assert client is not None
        return client.address

    assert client_of("10.0.0.1") == "10.0.0.1"
    trusted = ("10.0.0.0/8",)
    assert client_of("10.0.0.1") == "192.0.2.7"
    trusted = ()
    assert client_of("10.0.0.1") == "10.0.0.1"


def test_who_may_look(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            scope_base = {"client": ("192.0.2.9", 1)}

            async def look() -> int:
                answer = await world.client.open("/metrics", method="GET", scope_base=scope_base)
                return int(answer.status_code)

            assert await look() == 404
            await reload(world, tmp_path / "data", http='monitors = ["192.0.2.0/24"]')
            assert await look() == 200

    run(main)


def test_routes_also_for_what_waits_and_for_connections_that_rest(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_mx() as old, open_mx() as new:
            directory = make_process_directory(
                tmp_path / "data",
                route=old.address,
                delivery=f'sites = {{ "{old.address}" = {{ messages_per_minute_max = 1 }} }}',
            )
            relay = RelayProcess(directory)
            credentials = relay.enrol()
            with relay.running():
                async with open_http(relay.address) as http:
                    for number in range(3):
                        answer = await http.post_send(credentials, to=f"friend{number}@example.com")
                        assert answer.status == 200, answer
                    await old.wait_messages(1)
                    configure(directory, delivery=f'routes = {{ "*" = "{new.address}" }}')
                    os.kill(relay.pid, signal.SIGHUP)
                    # Not after the minute that the old route's limit asks for, nor after those of its site.
                    with trio.fail_after(50):
                        await new.wait_messages(2)
                    assert (await http.post_send(credentials, to="last@example.com")).status == 200
                    await new.wait_messages(3)
                    assert len(old.messages) == 1
                assert await trio.to_thread.run_sync(relay.stop) == 0
            (line,) = relay.log_lines("config.read")
            assert line["changed"] == ["delivery.routes"]

    trio.run(main)


# ------------------------------------------------------------------------------------------------ what does not change


def test_what_needs_a_restart_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            before = world.core.config
            await reload(world, tmp_path / "data", http='bind = "127.0.0.1:9"', spool="segment_bytes = 4096")
            assert world.core.config == before

    caplog.set_level(logging.INFO)
    run(main)
    (record,) = said(caplog, "config.needs_restart")
    assert record.__dict__["settings"] == ("http.bind", "spool.segment_bytes")


BAD: dict[str, tuple[Callable[[str], str | None], str]] = {
    "unknown": (lambda text: text + "\n[retri]\n", "retri is not a setting"),
    "value": (lambda text: text.replace("[spool]\n", "[spool]\nbytes_max = -1\n"), "spool.bytes_max"),
    "no TOML": (lambda text: text + "\n[retry\n", "not TOML"),
    "another domain": (lambda text: text.replace("relay.example", "other.example"), "is fixed once"),
    "empty": (lambda text: "", "operator_domain is missing"),
    "gone": (lambda text: None, "does not exist"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_changes_nothing_and_is_told_with_its_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    change, sentence = BAD[name]
    path = tmp_path / "data" / CONFIG_FILE

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            before = world.core.config
            # A change for the better stands in the file, too: it is taken whole or not at all.
            text = change(path.read_text().replace("writes_per_minute = 1000000", "writes_per_minute = 7"))
            path.unlink()
            if text is not None:
                path.write_text(text)
            await world.core.read_settings_again()
            assert world.core.config is before
            await world.until_final(await world.send())

    run(main)
    (record,) = said(caplog, "config.refused")
    because = record.__dict__["because"]
    assert sentence in because
    assert "line " in because or name in ("empty", "gone")


def test_what_is_no_file_is_refused_and_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "data" / CONFIG_FILE

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            path.unlink()
            os.mkfifo(path)
            await world.core.read_settings_again()
            path.unlink()
            path.write_bytes(b"#" * 2_000_000)
            await world.core.read_settings_again()
            path.unlink()
            path.mkdir()
            await world.core.read_settings_again()

    run(main)
    assert len(said(caplog, "config.refused")) == 3


# ------------------------------------------------------------------------------------------------ the signal's moment


@pytest.mark.parametrize("number", range(3))
def test_no_moment_is_a_bad_one(tmp_path: Path, number: int) -> None:
    """From the exec, as the shipped unit does it, to the process's end, one signal after the other."""
    directory = make_process_directory(tmp_path / "data", route="127.0.0.1:9")
    said = tmp_path / "stderr"
    command = ["env", "--ignore-signal=HUP", sys.executable, "-m", "relay", "serve", str(directory)]
    with said.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr)
    ended = threading.Event()

    def hang_up() -> None:
        # What `env` does before it has done its work is not under test.
        wait_until(lambda: process.poll() is not None or _ignores_hup(process.pid), lambda: "env did nothing")
        while not ended.wait(0.001):
            process.send_signal(signal.SIGHUP)

    signals = threading.Thread(target=hang_up)
    signals.start()
    try:
        wait_until(lambda: "service.ready" in said.read_text(), said.read_text)
        wait_until(lambda: "config.read" in said.read_text(), said.read_text)
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0, said.read_text()
    finally:
        ended.set()
        signals.join()
        process.kill()
        process.wait()


def _ignores_hup(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(line.split()[1], 16) & 1 << signal.SIGHUP - 1)


def test_a_relay_that_was_started_by_hand_reads_again_too(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    with relay.running():
        configure(relay.directory, service="grace_seconds = 3\nx = 1")
        os.kill(relay.pid, signal.SIGHUP)
        relay.wait_logged("config.refused")
        configure(relay.directory, service="grace_seconds = 4\n# x")
        text = (relay.directory / CONFIG_FILE).read_text().replace("\nx = 1\n", "\n")
        (relay.directory / CONFIG_FILE).write_text(text)
        os.kill(relay.pid, signal.SIGHUP)
        relay.wait_logged("config.read")
        assert relay.stop() == 0
    (refused,) = relay.log_lines("config.refused")
    assert f"{CONFIG_FILE} line " in refused["because"]
    assert "service.x is not a setting" in refused["because"]
    assert relay.log_lines("config.read")[0]["changed"] == ["service.grace_seconds"]


def test_the_shipped_unit_reloads_by_the_signal_and_leaves_no_core_dump() -> None:
    lines = UNIT.read_text().splitlines()
    assert "ExecReload=/bin/kill -HUP $MAINPID" in lines
    assert "LimitCORE=0" in lines  # keys and mail are in the memory
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    assert start.startswith("ExecStart=/usr/bin/env --ignore-signal=HUP /opt/")
