"""A large body is read beside the loop, and only so many at a time: the bound is each member's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.api.request import ROOM_SECONDS_MAX
from relay.config_doors import HttpConfig
from relay.requests import parse_send
from tests.world.relay import OTHER_DID, OTHER_DOMAIN, call_here, make_directory, open_world, run

BODY_BYTES_MAX = HttpConfig().send_bytes_max


def mail(octets: int, domain: str = "yourdomain.com") -> bytes:
    empty = {"from": f"you@{domain}", "to": "friend@example.com", "subject": "Hello", "text": ""}
    return json.dumps({**empty, "text": "x" * (octets - len(json.dumps(empty)))}).encode()


@pytest.mark.parametrize(("octets", "beside"), [(200_000, 0), (300_000, 1), (BODY_BYTES_MAX, 1)])
def test_it_is_parsed_beside_the_loop(tmp_path: Path, octets: int, beside: int) -> None:
    parsed = 0

    async def offload(function: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal parsed
        parsed += function is parse_send
        return await call_here(function, *arguments)

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=offload) as world:
            status, _, _ = await world.request("POST", "/v1/send", data=mail(octets))
            assert (status, parsed) == (200, beside)

    run(main)


class Bodies:
    """ASGI requests whose bodies come when they are told to."""

    def __init__(self, app: Any, *, first: int = 100_000) -> None:
        self._app = app
        #: So many octets of a body come at once.
        self._first = first
        self.go_on = trio.Event()
        self.asked = 0
        self.answers: list[tuple[int, dict[str, Any]]] = []

    async def post(self, credentials: dict[str, str], body: bytes, *, with_length: bool = True) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in credentials.items()]
        if with_length:
            headers.append((b"content-length", b"%d" % len(body)))
        parts = [body[: self._first], body[self._first :]]
        answer: list[Any] = []

        async def receive() -> Any:
            if len(parts) == 1:
                self.asked += 1
                await self.go_on.wait()
            part = parts.pop(0) if parts else b""
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message: Any) -> None:
            answer.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/send",
            "raw_path": b"/v1/send",
            "query_string": b"",
            "headers": headers,
            "scheme": "http",
            "http_version": "1.1",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "root_path": "",
            "extensions": {},
        }
        await self._app(scope, receive, send)
        body_sent = b"".join(message.get("body", b"") for message in answer)
        self.answers.append((answer[0]["status"], json.loads(body_sent)))


@pytest.mark.parametrize("with_length", [True, False])
def test_one_member_has_so_many_under_way_and_others_do_not_wait(tmp_path: Path, with_length: bool) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            app = world.app
            bodies, others = Bodies(app), Bodies(app)
            most = world.core.receiving.octets_of_one_max // BODY_BYTES_MAX
            async with trio.open_nursery() as nursery:
                for _ in range(most):
                    nursery.start_soon(bodies.post, world.credentials, mail(BODY_BYTES_MAX))
                await trio.sleep(0.1)
                assert bodies.asked == most
                # One more waits, and is told to come again.
                late = Bodies(app)
                late.go_on.set()
                await late.post(world.credentials, mail(BODY_BYTES_MAX), with_length=with_length)
                assert [(status, answer["code"]) for status, answer in late.answers] == [
                    (503, "TEMPORARILY_UNAVAILABLE")
                ]
                assert trio.current_time() == pytest.approx(0.1 + ROOM_SECONDS_MAX, abs=0.2)
                # A small one of the same member, and a large one of another, do not.
                status, _ = await world.post_send()
                assert status == 200
                others.go_on.set()
                await others.post(other, mail(BODY_BYTES_MAX, OTHER_DOMAIN), with_length=with_length)
                assert others.answers[0][0] == 200
                bodies.go_on.set()
            assert [status for status, _ in bodies.answers] == [200] * most
            assert world.core.receiving.octets == 0

    run(main)


MIB = 1024 * 1024


def with_large_bodies(tmp_path: Path, octets: int = 12 * MIB) -> Path:
    """A data directory where a send may be so large."""
    directory = make_directory(tmp_path / "data")
    path = directory / "relay.toml"
    path.write_text(path.read_text().replace("# send_bytes_max = 1048576", f"send_bytes_max = {octets}"))
    return directory


@pytest.mark.parametrize(
    ("size", "seconds"),
    [(MIB, 4), (MIB + 1, 5), (MIB + 256 * 1024, 5), (MIB + 256 * 1024 + 1, 6), (5 * MIB, 20)],
)
def test_a_large_body_has_more_time_to_arrive(tmp_path: Path, size: int, seconds: int) -> None:
    async def main() -> None:
        async with open_world(with_large_bodies(tmp_path)) as world:
            for late, status in ((-0.01, 200), (0.01, 408)):
                bodies = Bodies(world.app)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(bodies.post, world.credentials, mail(size))
                    await trio.sleep(seconds + late)
                    bodies.go_on.set()
                ((found, answer),) = bodies.answers
                assert found == status
                if found == 408:
                    assert answer["error"] == f"the request body did not arrive within {seconds} s"

    run(main)


def test_a_body_that_does_not_say_its_size_has_more_time_as_it_comes(tmp_path: Path) -> None:
    """Its first 4 MiB are there at once: they give it 12 seconds more than the 4 of any."""

    async def main() -> None:
        async with open_world(with_large_bodies(tmp_path)) as world:
            for late, status in ((-0.01, 200), (0.01, 408)):
                bodies = Bodies(world.app, first=4 * MIB)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(
                        partial(bodies.post, with_length=False), world.credentials, mail(6 * MIB)
                    )
                    await trio.sleep(16 + late)
                    bodies.go_on.set()
                assert bodies.answers[0][0] == status

    run(main)


@pytest.mark.parametrize(("size", "status"), [(MIB, 503), (MIB + 1, 200)])
def test_what_comes_after_a_large_body_has_the_time_that_a_small_one_takes_to_arrive(
    tmp_path: Path, size: int, status: int
) -> None:
    """The 8 seconds of an answer begin with the last octet of a large body."""

    async def offload(function: Callable[..., Any], *arguments: Any) -> Any:
        if function is parse_send:
            await trio.sleep(5)
        return await call_here(function, *arguments)

    async def main() -> None:
        async with open_world(with_large_bodies(tmp_path), offload=offload) as world:
            found, _, _ = await world.request("POST", "/v1/send", data=mail(size))
            assert found == status

    run(main)


def test_of_the_largest_bodies_each_of_four_members_has_one_under_way(tmp_path: Path) -> None:
    size = 12 * MIB

    async def main() -> None:
        async with open_world(with_large_bodies(tmp_path, size)) as world:
            members = {"yourdomain.com": world.credentials}
            for letter in "bcd":
                did, domain = f"did:plc:{letter * 24}", f"{letter}.example"
                members[domain] = await world.enrol(did, domain)
            bodies = Bodies(world.app)
            async with trio.open_nursery() as nursery:
                for domain, credentials in members.items():
                    nursery.start_soon(bodies.post, credentials, mail(size, domain))
                await trio.sleep(0.1)
                assert (bodies.asked, world.core.receiving.octets) == (4, 4 * size)
                # A second of one of them, however small it is among large ones, waits for the first, and not for ever.
                late = Bodies(world.app)
                late.go_on.set()
                await late.post(world.credentials, mail(200_000))
                assert [status for status, _ in late.answers] == [503]
                bodies.go_on.set()
            # Text of 12 MiB makes no mail of 10.
            assert {status for status, _ in bodies.answers} <= {200, 413}
            assert world.core.receiving.octets == 0

    run(main)
