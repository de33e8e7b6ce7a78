"""How the relay fares is for this machine and `[http] monitors`. For everybody else these paths are not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spool.disk import RealDisk
from tests.world.relay import World, make_directory, open_world, run

STRANGER = "203.0.113.7"
MONITORS = (
    '[http]\nmonitors = ["192.0.2.1", "2001:db8:1::/48"]\ntrusted_proxies = ["127.0.0.1", "10.0.0.0/8"]\n'
)


class RoomyDisk(RealDisk):
    free = 1 << 40

    def free_bytes(self, directory: Path) -> int:
        return self.free


async def ask(
    world: World, path: str, client: str | None, *, method: str = "GET", forwarded: str | None = None
) -> tuple[int, bytes]:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    scope = {"client": None if client is None else (client, 50000)}
    answer = await world.client.open(path, method=method, headers=headers, scope_base=scope)
    return answer.status_code, await answer.get_data()


def with_monitors(directory: Path) -> Path:
    make_directory(directory)
    path = directory / "relay.toml"
    path.write_text(path.read_text().replace("[http]\n", MONITORS))
    return directory


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
@pytest.mark.parametrize(
    ("client", "forwarded", "is_monitor"),
    [
        ("127.0.0.1", None, True),
        ("127.8.8.8", None, True),
        ("::1", None, True),
        ("::ffff:127.0.0.1", None, True),
        ("192.0.2.1", None, True),
        ("::ffff:192.0.2.1", None, True),
        ("2001:db8:1:2::3", None, True),
        (STRANGER, None, False),
        ("192.0.2.2", None, False),
        ("2001:db8:2::1", None, False),
        (None, None, False),
        # A proxy is not a monitor because it is trusted.
        ("10.0.0.1", None, False),
        # Whom it forwards for counts, and not the proxy.
        ("127.0.0.1", STRANGER, False),
        ("127.0.0.1", f"127.0.0.1, {STRANGER}", False),
        ("127.0.0.1", f"192.0.2.1, {STRANGER}", False),
        ("127.0.0.1", "192.0.2.1", True),
        ("10.0.0.1", "2001:db8:1::5", True),
        # What it forwards without saying for whom is for nobody.
        ("127.0.0.1", "nonsense", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", f"{STRANGER}, nonsense", False),
        # A stranger may say what it likes.
        (STRANGER, "127.0.0.1", False),
        (STRANGER, "192.0.2.1", False),
    ],
)
def test_who_is_shown_it(
    tmp_path: Path, path: str, client: str | None, forwarded: str | None, is_monitor: bool
) -> None:
    async def main() -> None:
        async with open_world(with_monitors(tmp_path / "data"), enrol=False) as world:
            nowhere = await ask(world, "/nowhere", client, forwarded=forwarded)
            assert nowhere[0] == 404
            for method in ("GET", "HEAD"):
                found = await ask(world, path, client, method=method, forwarded=forwarded)
                if is_monitor:
                    assert found[0] == 200
                else:
                    assert found == await ask(world, "/nowhere", client, method=method, forwarded=forwarded)
            for method in ("POST", "DELETE", "OPTIONS"):
                status, _ = await ask(world, path, client, method=method, forwarded=forwarded)
                assert status == (405 if is_monitor else 404)

    run(main)


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
@pytest.mark.parametrize(
    "name", ["Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host", "X-Forwarded-Proto", "CF-Connecting-IP"]
)
def test_a_proxy_that_does_not_say_for_whom_is_shown_nothing(tmp_path: Path, path: str, name: str) -> None:
    """On the same machine it connects from loopback, as a monitor does. It shows itself by any field that it adds."""

    async def main() -> None:
        async with open_world(with_monitors(tmp_path / "data"), enrol=False) as world:
            for client, is_shown in (("127.0.0.1", False), ("10.0.0.1", False), ("192.0.2.1", True)):
                answer = await world.client.open(
                    path, headers={name: "1.1 proxy"}, scope_base={"client": (client, 50000)}
                )
                assert answer.status_code == (200 if is_shown else 404)

    run(main)


def test_everybody_may_see_that_it_is_alive(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", enrol=False) as world:
            assert (await ask(world, "/healthz", STRANGER))[0] == 200

    run(main)


def test_ready_means_that_it_serves_and_says_whether_it_accepts(tmp_path: Path) -> None:
    """Without room a relay delivers, and answers: a proxy must not be told to take it out of service."""

    async def main() -> None:
        disk = RoomyDisk()
        async with open_world(tmp_path / "data", disk=disk) as world:
            await world.until_final(await world.send())
            seq = world.core.store.last_seq
            assert await readiness(world) == (
                200,
                {"status": "ready", "seq": seq, "accepting": True, "code": None, "reason": None},
            )
            disk.free = 0
            status, answer = await readiness(world)
            assert (status, answer["status"], answer["accepting"]) == (200, "ready", False)
            _, refused = await world.post_send()
            assert (answer["code"], answer["reason"]) == ("QUEUE_FULL", refused["error"])
            assert refused["code"] == "QUEUE_FULL"
            disk.free = RoomyDisk.free
            world.core.stopping = True
            status, answer = await readiness(world)
            assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE")

    run(main)


async def readiness(world: World) -> tuple[int, Any]:
    status, body = await ask(world, "/readyz", "127.0.0.1")
    return status, json.loads(body)
