"""A whole relay in the test's process, with a receiver in memory and a clock that jumps.

    async with open_world(tmp_path) as world:
        message_id = await world.send(to="friend@example.com")
        assert (await world.until_final(message_id))["status"] == "sent"

Everything is real but the four things that `Surroundings` exists for: time is trio's (a MockClock where the test
runs with one), there are no threads, receivers are reached through memory, and the dice have a seed.

When the block ends the relay is stopped in order, and **the views must be equal, digest by digest, to a fresh fold
of the log**, and the receiver must not have seen a breach of SMTP: every test that uses a world asserts that.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock, memory_stream_pair

from relay.acting import CarriedBy, carried_by_couriers
from relay.api import create_app
from relay.codec import Recorded
from relay.config import CONFIG_FILE
from relay.console.member_door import member_console
from relay.events import Event, MessageBounced, MessageSent
from relay.file_names import LOG_DIRECTORY
from relay.message.keys import KeyRing
from relay.operator.initialise import initialise
from relay.processes.mail_reader import in_process
from relay.service import Relay, open_relay
from relay.surroundings import Surroundings
from relay.views import relay_views
from spool.disk import Disk, RealDisk
from spool.reader import LogReader
from tests.world.dns import FakeDns
from tests.world.internet import Internet
from tests.world.mx import Mx
from tests.world.mx_options import MxOptions
from tests.world.orders import order

#: Trio's mock clock starts at 0; the relay's time must look like one.
EPOCH_US = 1_790_000_000_000_000
DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
OTHER_DID = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
DOMAIN = "yourdomain.com"
OTHER_DOMAIN = "other.example"
OPERATOR_DOMAIN = "relay.example"
#: Of the relay's own time. What has not happened by then was forgotten: mail is given up after five days.
PATIENCE_SECONDS = 8 * 24 * 3600


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a clock that jumps to the next deadline whenever nothing else can happen."""

    try:
        trio.run(test, clock=MockClock(autojump_threshold=0))
    except BaseExceptionGroup as group:
        # Each layer of the relay is a nursery: what a test wants to show is what failed in the innermost.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


def virtual_clock() -> int:
    return EPOCH_US + round(trio.current_time() * 1_000_000)


async def call_here(function: Callable[..., Any], *arguments: Any) -> Any:
    """An offload without a thread, so that a clock that jumps cannot overtake the disk."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


@cache
def _template(operator_domain: str) -> Path:
    """A data directory with keys, made once: making RSA keys is most of what enrolment costs."""
    directory = Path(tempfile.mkdtemp(prefix="relay-template-"))
    initialise(directory, operator_domain=operator_domain, public_url=None, today="20260101")
    # Enrolment on the virtual clock's first day will find these, and keep them.
    for domain in (DOMAIN, OTHER_DOMAIN):
        KeyRing(directory).create(domain, f"atmos{datetime.fromtimestamp(EPOCH_US / 1e6, UTC):%Y%m%d}")
    return directory


def make_directory(
    directory: Path,
    settings: str = "",
    *,
    route: str = "127.0.0.1:25",
    operator_domain: str = OPERATOR_DOMAIN,
    operator_bind: str = "",
) -> Path:
    """A data directory as `init` makes it, but that everything is routed to `route`, that domains need no verification,
    that nothing is limited unless `settings` say so, and that the operator's console is served
    at `operator_bind` alone: relays that run at the same time cannot have one address."""
    shutil.copytree(_template(operator_domain), directory)
    path = directory / CONFIG_FILE
    text = path.read_text()
    text = text.replace("require_verified_domains = true", "require_verified_domains = false")
    text = text.replace("127.0.0.1:8025", "127.0.0.1:0")
    text = text.replace("127.0.0.1:8026", operator_bind)
    text = text.replace(
        "[delivery]\n", f'[delivery]\nroutes = {{ "*" = "{route}" }}\n' if route else "[delivery]\n"
    )
    # Load is what many tests are about; the quota of writes has its own.
    text = text.replace("\n[members]\n", "\n[members]\nwrites_per_minute = 1000000\n")
    if "[warming]" not in settings:
        settings += "\n[warming]\ntiers = [ { hour = 1000000, day = 1000000 } ]\n"
    path.write_text(text + settings)
    return directory


class World:
    def __init__(self, relay: Relay, mx: Mx, dns: FakeDns) -> None:
        self.relay = relay
        self.mx = mx
        self.dns = dns
        self.credentials: dict[str, str] = {}
        self._news = trio.Event()
        self._final = 0
        relay.core.store.observers.append(self._observe)

    @cached_property
    def app(self) -> Any:
        """Made when first wanted: it takes longer than many a test. Whoever asks it is on this machine, unless a test
        says in the scope who it is."""
        edge = self.relay.core.edge
        app = create_app(edge, member_console(edge))
        asked = app.asgi_app

        async def asked_from_here(scope: Any, receive: Any, send: Any) -> None:
            await asked({"client": ("127.0.0.1", 0), **scope}, receive, send)

        app.asgi_app = asked_from_here  # type: ignore[method-assign]
        return app

    @cached_property
    def client(self) -> Any:
        return self.app.test_client()

    @property
    def core(self) -> Any:
        return self.relay.core

    async def command(self, name: str, **arguments: Any) -> Any:
        """An operator's command."""
        return await order(self.relay.core, name, **arguments)

    async def enrol(self, did: str = DID, *domains: str) -> dict[str, str]:
        """Enrol a member and return its credentials."""
        answer = await self.command("member_add", did=did, domains=list(domains or (DOMAIN,)), offline=True)
        return {"X-Atmos-DID": did, "Authorization": f"Bearer {answer['apiKey']}"}

    async def request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **arguments: Any
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, decoded JSON and headers of an answer."""
        answer = await self.client.open(
            path, method=method, headers=self.credentials if headers is None else headers, **arguments
        )
        data = await answer.get_data()
        assert answer.content_type == "application/json"
        return answer.status_code, json.loads(data), dict(answer.headers)

    async def post_send(self, **fields: Any) -> tuple[int, Any]:
        mail = {
            "from": f"you@{DOMAIN}",
            "to": "friend@example.com",
            "subject": "Hello",
            "text": "Hi\n",
            **fields,
        }
        status, answer, _ = await self.request("POST", "/v1/send", json=mail)
        return status, answer

    async def send(self, **fields: Any) -> int:
        """Send to one recipient; returns the message id."""
        status, answer = await self.post_send(**fields)
        assert status == 200, answer
        (accepted,) = answer["accepted"]
        message_id: int = accepted["messageId"]
        return message_id

    async def message(self, message_id: int) -> Any:
        status, answer, _ = await self.request("GET", f"/v1/messages/{message_id}")
        assert status == 200, answer
        return answer

    async def until(self, message_id: int, *statuses: str) -> Any:
        """The message, as soon as it has one of the statuses. Raises trio.TooSlowError where it never has."""
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                news = self._news
                message = await self.message(message_id)
                if message["status"] in statuses:
                    return message
                await news.wait()

    async def until_final(self, message_id: int) -> Any:
        return await self.until(message_id, "sent", "bounced")

    async def until_so_many_are_final(self, count: int) -> None:
        """Messages that have become final since this relay was started. Raises trio.TooSlowError."""
        with trio.fail_after(PATIENCE_SECONDS):
            while self._final < count:
                await self._news.wait()

    def events(self) -> list[Event]:
        """The whole log, as events."""
        store = self.relay.core.store
        return [store.get(seq).event for seq in range(1, store.last_seq + 1)]

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        self._final += sum(isinstance(item.event, MessageSent | MessageBounced) for item in recorded)
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def open_world(
    directory: Path,
    *,
    settings: str = "",
    mx: MxOptions | None = None,
    enrol: bool = True,
    disk: Disk | None = None,
    dns: FakeDns | None = None,
    internet: Internet | None = None,
    clock: Callable[[], int] = virtual_clock,
    offload: Callable[..., Awaitable[Any]] = call_here,
    seed: int = 0,
    stop: bool = True,
    carried_by: CarriedBy = carried_by_couriers,
    **mx_options: Any,
) -> AsyncIterator[World]:
    """A running relay on `directory`, which is made where it is missing. `stop=False`: leave it without ceremony.

    With an `internet` the relay finds receivers by MX, and `world.mx` is reached by nobody.
    """
    if not directory.exists():
        make_directory(directory, settings, route="127.0.0.1:25" if internet is None else "")
    receiver = Mx(mx or MxOptions())
    receiver.configure(**mx_options)
    dns = dns or (FakeDns() if internet is None else internet.dns)
    async with trio.open_nursery() as nursery:

        async def open_stream(address: str, port: int) -> trio.abc.Stream:
            ours, theirs = memory_stream_pair()
            nursery.start_soon(receiver.serve, theirs)
            return ours

        if internet is not None:
            open_stream = internet.connected_by(nursery)

        surroundings = Surroundings(
            clock=clock,
            disk=disk or RealDisk(),
            offload=offload,
            open_stream=open_stream,
            resolver=dns,
            dice=random.Random(seed),
            chance=random.Random(f"chance {seed}").randbytes,
        )
        # In this process: its clock would run on while another one works.
        async with open_relay(
            directory, surroundings, mail_reader=in_process(dns, clock), carried_by=carried_by
        ) as relay:
            world = World(relay, receiver, dns)
            if enrol:
                world.credentials = await world.enrol()
            yield world
            if stop:
                await relay.stop()
                assert_views_are_the_log(relay, directory)
        nursery.cancel_scope.cancel()
    assert receiver.violations == []
    if internet is not None:
        assert internet.violations() == []


def assert_views_are_the_log(relay: Relay, directory: Path) -> None:
    """The live views and a fresh fold of the log have the same digests, table by table."""
    with tempfile.TemporaryDirectory() as name:
        fresh = relay_views(Path(name) / "views")
        fresh.open()
        reader = LogReader(directory / LOG_DIRECTORY, disk=relay.core.surroundings.disk)
        fresh.catch_up(reader)
        reader.close()
        expected = fresh.digests()
        fresh.close()
    assert relay.core.store._views.digests() == expected
