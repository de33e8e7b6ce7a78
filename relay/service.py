"""The service: every layer of a running relay, started and stopped in order.

Started: log and views → deliverer → what releases held mail and watches over reputation, calls of members' URLs,
verification, confirmations and retention → admin socket → HTTP → SMTP. Stopped the other way round: the relay accepts
nothing new, requests under way are answered, nothing new is attempted, attempts under way end (or are abandoned when
the grace time is over), and the log's writer goes last.

The core is crash-only: an unexpected exception in the writer, a projector or the deliverer ends the process with a
non-zero status, and the next start puts things right.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import hypercorn
import trio

from relay.api import create_app, serve_http
from relay.api.clients import Clients
from relay.api.places import WHY, Places
from relay.core import Core, open_core
from relay.couriers.host import open_couriers
from relay.dead_readers import clear_dead_readers
from relay.delivery.carrier import Carrier
from relay.delivery.connect import Connector
from relay.delivery.courier import Courier
from relay.delivery.deliverer import Deliverer
from relay.delivery.releases import release_held
from relay.domains.rotation import switch_keys
from relay.domains.verification import reverify_domains
from relay.edge import MailReader
from relay.file_names import HTTP_ADDRESS_FILE, INBOUND_ADDRESS_FILE, SUBMISSION_ADDRESS_FILE
from relay.forward_confirmations import ask_the_unasked
from relay.operator.handle_checks import reverify_handles
from relay.operator.removal import cancel_what_is_left
from relay.operator.retention import keep_retention
from relay.operator.socket import serve_admin_socket
from relay.processes.mail_reader import open_mail_reader
from relay.reception.inbound_ports import serve_inbound
from relay.reception.role import open_certificates
from relay.reception.submission_ports import serve_submission
from relay.reputation_guard import guard_reputation
from relay.surroundings import Surroundings
from relay.unsubscribe_calls import call_members, one_click_post

logger = logging.getLogger(__name__)

STOP_SIGNALS = signal.SIGTERM, signal.SIGINT
#: `relay.toml` is to be read again.
RELOAD_SIGNAL = signal.SIGHUP
#: Requests under way when the relay is stopped have this long to be answered.
HTTP_GRACE_SECONDS = 8
#: So soon a thread that computes lets the loop run again, where Python's default is 5 ms.
SWITCH_SECONDS = 0.0001


async def serve(directory: Path) -> None:
    """Run the relay on `directory` until SIGTERM or SIGINT. A second one changes nothing.

    SIGHUP reads `relay.toml` again. One that comes during the start is obeyed after it, one that comes during the stop
    changes nothing.

    Raises what `open_core` raises, and LogPoisonedError (in an exception group) when the log could not be written.
    """
    _allow_open_files()
    sys.setswitchinterval(SWITCH_SECONDS)
    minded = (*STOP_SIGNALS, RELOAD_SIGNAL)
    with _ignored(*minded), trio.open_signal_receiver(*minded) as signals:
        async with open_relay(directory) as relay:
            _calm_the_collector()
            async for number in signals:
                if number == RELOAD_SIGNAL:
                    await relay.core.read_settings_again()
                    continue
                logger.info("service.stopping", extra={"signal": signal.Signals(number).name})
                break
            await relay.stop()
    logger.info("service.stopped")


@contextmanager
def _ignored(*numbers: signal.Signals) -> Iterator[None]:
    """What comes while the relay is ending already, of a signal or of an error, trio raises again when its receiver is
    closed. It would kill the process in the place of its exit status, and before the error is told."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _calm_the_collector() -> None:
    """What has been made up to here stays for good, and what a request leaves behind is freed by reference counts: at
    Python's defaults, looking for cycles takes 6 % of the accept path."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def _allow_open_files() -> None:
    """As many sockets as the system lets us have: the soft limit, often 1,024, is for programs that use `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Relay:
    """A running relay."""

    def __init__(self, core: Core, deliverer: Deliverer, close_doors: trio.Event) -> None:
        self.core = core
        self.deliverer = deliverer
        #: `127.0.0.1:8025`: where HTTP is served.
        self.http_address = ""
        #: Where members hand in mail over SMTP: the addresses of `[submission]` bind, then of bind_tls.
        self.submission_addresses: Sequence[str] = ()
        #: Where mail comes in.
        self.inbound_addresses: Sequence[str] = ()
        self._close_doors = close_doors
        self.http_closed = trio.Event()
        self.submission_closed = trio.Event()
        self.inbound_closed = trio.Event()
        self.delivery_ended = trio.Event()

    async def stop(self) -> None:
        """Stop in order, within the grace time. The log stays open; leaving `open_relay` closes it."""
        self.core.stopping = True
        self.core.streams.stop()
        self._close_doors.set()
        self.deliverer.stop()
        with trio.move_on_after(self.core.config.service.grace_seconds):
            await self.http_closed.wait()
            await self.submission_closed.wait()
            await self.inbound_closed.wait()
            await self.delivery_ended.wait()
            return
        logger.warning("service.grace_over")
        self.deliverer.abandon()
        await self.delivery_ended.wait()


#: Who carries the errands of a relay, which has a courier of its own.
CarriedBy = Callable[[Core, Carrier], AbstractAsyncContextManager[Carrier]]


@asynccontextmanager
async def carried_by_couriers(core: Core, own: Carrier) -> AsyncIterator[Carrier]:
    """Other processes, as many as are configured."""
    _, count = core.config.service.processes(len(os.sched_getaffinity(0)))
    if not count:
        yield own
        return
    async with open_couriers(core, own, count) as couriers:
        yield couriers


@asynccontextmanager
async def open_relay(
    directory: Path,
    surroundings: Surroundings | None = None,
    *,
    mail_reader: MailReader | None = None,
    carried_by: CarriedBy = carried_by_couriers,
) -> AsyncIterator[Relay]:
    """Everything that serves, running inside the block. Leave it after `Relay.stop`; leaving without cuts it short.

    `mail_reader`: who reads the mail that comes in; None: a child process, where mail comes in. `carried_by`: who
    carries errands, beside or instead of the courier in this process.
    """
    async with open_core(directory, surroundings) as core, AsyncExitStack() as stack:
        # A killed relay left them behind; whoever reads them shall find ours or none.
        files = {
            name: directory / name
            for name in (HTTP_ADDRESS_FILE, SUBMISSION_ADDRESS_FILE, INBOUND_ADDRESS_FILE)
        }
        for file in files.values():
            file.unlink(missing_ok=True)
        is_smtp_served = core.config.submission.is_served or core.config.inbound.is_served
        certificates = open_certificates(directory, core.config.tls) if is_smtp_served else None
        if certificates is not None:
            core.edge_metrics.certificate_expires.set_function(lambda: certificates.not_after.timestamp())
        if mail_reader is not None:
            core.mail_reader = mail_reader
        elif core.config.inbound.is_served:
            reader = await stack.enter_async_context(
                open_mail_reader(core.surroundings.dns(), core.surroundings.clock)
            )
            core.edge_metrics.reader_failures = lambda: reader.statistics().no_answers.items()
            core.mail_reader = reader
        connector = Connector(lambda: core.config, core.surroundings)
        courier = Courier(
            core.store.get, core.composer, connector, heavy_work=core.heavy_work, sending=core.sending
        )
        carrier = await stack.enter_async_context(carried_by(core, courier))
        deliverer = Deliverer(core, connector, carrier)
        close_doors = trio.Event()
        async with trio.open_nursery() as nursery:
            relay = Relay(core, deliverer, close_doors)
            await nursery.start(_run_deliverer, relay)
            await nursery.start(cancel_what_is_left, core)
            await nursery.start(release_held, core)
            await nursery.start(guard_reputation, core)
            await nursery.start(call_members, core, one_click_post(core.surroundings))
            await nursery.start(reverify_domains, core)
            await nursery.start(reverify_handles, core)
            await nursery.start(ask_the_unasked, core)
            await nursery.start(switch_keys, core)
            await nursery.start(keep_retention, core)
            await nursery.start(clear_dead_readers, core)
            await nursery.start(serve_admin_socket, core)
            relay.http_address = await nursery.start(_serve_http, core, relay, close_doors)
            if core.config.submission.is_served:
                serve = partial(serve_submission, core.edge, certificates, close=close_doors)
                relay.submission_addresses = await nursery.start(_serving, serve, relay.submission_closed)
                _write_addresses(files[SUBMISSION_ADDRESS_FILE], relay.submission_addresses)
            else:
                relay.submission_closed.set()
            if core.config.inbound.is_served:
                serve = partial(serve_inbound, core.edge, certificates, close=close_doors)
                relay.inbound_addresses = await nursery.start(_serving, serve, relay.inbound_closed)
                _write_addresses(files[INBOUND_ADDRESS_FILE], relay.inbound_addresses)
            else:
                relay.inbound_closed.set()
            # The last one: whoever waits for it finds all of the relay.
            _write_addresses(files[HTTP_ADDRESS_FILE], [relay.http_address])
            served = {
                "http": relay.http_address,
                "submission": relay.submission_addresses,
                "inbound": relay.inbound_addresses,
            }
            logger.info("service.ready", extra={**served, "seq": core.store.last_seq})
            try:
                yield relay
            finally:
                for file in files.values():
                    file.unlink(missing_ok=True)
            nursery.cancel_scope.cancel()


def _write_addresses(file: Path, addresses: Sequence[str]) -> None:
    """By rename: whoever waits for the file reads all of it."""
    written = file.with_suffix(".tmp")
    written.write_text("".join(f"{address}\n" for address in addresses))
    written.rename(file)


async def _run_deliverer(relay: Relay, task_status: trio.TaskStatus[None]) -> None:
    await relay.deliverer.run(task_status)
    relay.delivery_ended.set()


async def _serve_http(core: Core, relay: Relay, close: trio.Event, task_status: trio.TaskStatus[str]) -> None:
    config = hypercorn.Config()
    config.bind = [core.config.http.bind]
    # Spelt out, because hypercorn's own defaults are for something else.
    config.graceful_timeout = HTTP_GRACE_SECONDS
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = 1_000_000
    config.max_app_queue_size = 10
    config.backlog = 1024
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    turned_away = {why: core.edge_metrics.http_turned_away.labels(why) for why in WHY}
    places = Places(
        lambda: core.config.http.connections_max,
        per_address_max=lambda: core.config.http.connections_per_address_max,
        count_turned_away=lambda why: turned_away[why].inc(),
    )
    core.settings.observers.append(lambda before: places.look_again())
    core.edge_metrics.http_connections.set_function(lambda: places.connections)
    await serve_http(
        create_app(core.edge),
        config,
        places=places,
        clients=Clients(lambda: core.config.http.trusted_proxies),
        close=close,
        task_status=task_status,
    )
    relay.http_closed.set()


async def _serving(
    serve: Callable[..., Awaitable[None]],
    closed: trio.Event,
    task_status: trio.TaskStatus[Sequence[str]],
) -> None:
    await serve(task_status=task_status)
    closed.set()
