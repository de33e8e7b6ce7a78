"""The service: every layer of a running relay, started and stopped in order.

Started: log and views → all that acts on the world (`relay.acting`) → admin socket → HTTP and SMTP, here or by edges,
and the operator's console, always here. Stopped the other way round: the relay accepts nothing new, requests under way
are answered, nothing new is attempted, attempts under way end (or are abandoned when the grace time is over), and the
log's writer goes last.

Where the relay runs on several machines (`[nodes]`), nothing acts while this one follows another: the doors are open,
and `relay.nodes.node` begins what acts when it leads. When another machine takes its place the process ends
(LogDeposedError), and whoever supervises it begins it again.

The core is crash-only: an unexpected exception in the writer, a projector or the deliverer ends the process with a
non-zero status, and the next start puts things right.
"""

from __future__ import annotations

import logging
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from relay.acting import Acting, CarriedBy, carried_by_couriers, open_acting, processes
from relay.alarm_watch import Expiry
from relay.core import Core, open_core
from relay.dead_readers import clear_dead_readers
from relay.delivery.deliverer import Deliverer
from relay.edge import MailReader
from relay.edges.host import serve_by_edges
from relay.file_names import (
    CONSOLE_ADDRESS_FILE,
    HTTP_ADDRESS_FILE,
    INBOUND_ADDRESS_FILE,
    SUBMISSION_ADDRESS_FILE,
)
from relay.listening import Addresses, Listened, Listening, listen, listen_http
from relay.operator.socket import serve_admin_socket
from relay.processes.mail_reader import open_mail_reader
from relay.processes.tuning import calm_the_collector, switch_soon
from relay.reception.certificates import Certificates
from relay.reception.role import open_certificates
from relay.surroundings import Surroundings
from relay.times import SECOND_US
from spool.errors import LogPoisonedError

if TYPE_CHECKING:
    from relay.nodes.node import Node

logger = logging.getLogger(__name__)

#: Attempts that were abandoned at a stop have so long to be recorded, where a database has to answer for that.
ABANDONED_SECONDS_MAX: Final = 5.0
#: A stop waits so long for a database that is away: it may be failing over, and what is known is recorded then.
AWAY_SECONDS_MAX: Final = 5.0
STOP_SIGNALS = signal.SIGTERM, signal.SIGINT
#: `relay.toml` is to be read again.
RELOAD_SIGNAL = signal.SIGHUP


async def serve(directory: Path) -> None:
    """Run the relay on `directory` until SIGTERM or SIGINT. A second one changes nothing.

    SIGHUP reads `relay.toml` again. One that comes during the start is obeyed after it, one that comes during the stop
    changes nothing. Who is to end waits for no edge to get ready.

    Raises what `open_core` raises, and LogPoisonedError (in an exception group) when the log could not be written.
    """
    _allow_open_files()
    switch_soon()
    minded = (*STOP_SIGNALS, RELOAD_SIGNAL)
    with _ignored(*minded), trio.open_signal_receiver(*minded) as signals:
        early: list[int] = []

        async def stop_wanted() -> None:
            async for number in signals:
                early.append(number)
                if number in STOP_SIGNALS:
                    return

        async def numbers() -> AsyncIterator[int]:
            for number in early:
                yield number
            async for number in signals:
                yield number

        relay: Relay | None = None
        try:
            async with open_relay(directory, stop_wanted=stop_wanted) as relay:
                calm_the_collector()
                async for number in numbers():
                    if number == RELOAD_SIGNAL:
                        await relay.core.read_settings_again()
                        continue
                    logger.info("service.stopping", extra={"signal": signal.Signals(number).name})
                    break
                await relay.stop()
        except BaseExceptionGroup as group:
            # It was to end, and has not waited for a database that does not answer: nothing that was acknowledged is
            # lost by that.
            if relay is None or not (relay.core.stopping and relay.core.store.has_given_up):
                raise
            rest = group.split(LogPoisonedError)[1]
            if rest is not None:
                raise rest from group
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


def _allow_open_files() -> None:
    """As many sockets as the system lets us have: the soft limit, often 1,024, is for programs that use `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Relay:
    """A running relay."""

    def __init__(self, core: Core, close_doors: trio.Event) -> None:
        self.core = core
        #: What acts on the world. None: another machine does.
        self.acting: Acting | None = None
        #: This machine, where there are several.
        self.node: Node | None = None
        self.addresses = Addresses("")
        self._close_doors = close_doors
        self.doors_closed = trio.Event()
        #: Set where none is served, too.
        self.console_closed = trio.Event()

    @property
    def http_address(self) -> str:
        return self.addresses.http

    @property
    def deliverer(self) -> Deliverer:
        assert self.acting is not None, "another machine delivers"
        return self.acting.deliverer

    async def stop(self) -> None:
        """Stop in order, within the grace time. The log stays open; leaving `open_relay` closes it."""
        self.core.stopping = True
        self.core.streams.stop()
        self._close_doors.set()
        if self.acting is not None:
            self.acting.stop()
        async with trio.open_nursery() as nursery:
            if self.node is not None and self.acting is not None:
                nursery.start_soon(self._abandon_if_away, self.node, self.acting)
            with trio.move_on_after(self.core.config.service.grace_seconds) as grace:
                await self.doors_closed.wait()
                await self.console_closed.wait()
                if self.acting is not None:
                    await self.acting.wait_ended()
            nursery.cancel_scope.cancel()
        if not grace.cancelled_caught:
            return
        logger.warning("service.grace_over")
        if self.acting is not None:
            await self._abandon(self.acting)

    async def _abandon_if_away(self, node: Node, acting: Acting) -> None:
        """Where the database is away, no attempt can be ended in order, however long it is waited for."""
        await node.wait_until_away(AWAY_SECONDS_MAX)
        acting.abandon()
        node.give_up_at_once()

    async def _abandon(self, acting: Acting) -> None:
        acting.abandon()
        if self.node is not None:
            with trio.move_on_after(ABANDONED_SECONDS_MAX):
                await acting.wait_ended()
                return
            # What came of the attempts cannot be recorded. The next machine that leads names them interrupted.
            await self.node.give_up()
        await acting.wait_ended()


@asynccontextmanager
async def open_relay(
    directory: Path,
    surroundings: Surroundings | None = None,
    *,
    mail_reader: MailReader | None = None,
    carried_by: CarriedBy = carried_by_couriers,
    stop_wanted: Callable[[], Awaitable[None]] = trio.sleep_forever,
) -> AsyncIterator[Relay]:
    """Everything that serves, running inside the block. Leave it after `Relay.stop`; leaving without cuts it short.

    `mail_reader`: who reads the mail that comes in; None: a child process, where mail comes in. Edges have their own.
    `carried_by`: who carries errands, beside or instead of the courier in this process. `stop_wanted` returns when the
    start shall wait for nobody any more; it is cancelled when all are there.
    """
    async with open_core(directory, surroundings) as core, AsyncExitStack() as stack:
        # A killed relay left them behind; whoever reads them shall find ours or none.
        files = {
            name: directory / name
            for name in (
                HTTP_ADDRESS_FILE,
                SUBMISSION_ADDRESS_FILE,
                INBOUND_ADDRESS_FILE,
                CONSOLE_ADDRESS_FILE,
            )
        }
        for file in files.values():
            file.unlink(missing_ok=True)
        edges, _ = processes(core)
        is_smtp_served = core.config.submission.is_served or core.config.inbound.is_served
        certificates = open_certificates(directory, core.config.tls) if is_smtp_served else None
        if certificates is not None:
            core.certificate_not_after = lambda: certificates.not_after
        if mail_reader is not None:
            core.mail_reader = mail_reader
        elif core.config.inbound.is_served and not edges:
            reader = await stack.enter_async_context(
                open_mail_reader(core.surroundings.dns(), core.surroundings.clock)
            )
            core.edge_metrics.reader_failures = lambda: reader.statistics().no_answers.items()
            core.mail_reader = reader
        close_doors = trio.Event()
        relay = Relay(core, close_doors)
        acting = open_acting(core, carried_by=carried_by, certificate=_expiry_of(core, certificates))
        if core.config.nodes is None:
            relay.acting = await stack.enter_async_context(acting)
        else:
            # Not above, for a relay that is the only one.
            from relay.nodes.before_serving import prepare
            from relay.nodes.opening import open_node

            if not edges:
                _load_doors()
            relay.node = await stack.enter_async_context(open_node(core))
        async with trio.open_nursery() as nursery:
            if relay.node is not None:
                nursery.start_soon(relay.node.run, partial(_act, relay, acting))
            await nursery.start(clear_dead_readers, core)
            await nursery.start(serve_admin_socket, core)
            if relay.node is not None:
                await prepare(core, relay.node, stop_wanted)
            listened = await listen(core.config)
            stack.callback(listened.close)
            relay.addresses = await nursery.start(
                _serve_doors, core, edges, relay, certificates, listened, close_doors, stop_wanted
            )
            if core.config.submission.is_served:
                _write_addresses(files[SUBMISSION_ADDRESS_FILE], relay.addresses.submission)
            if core.config.inbound.is_served:
                _write_addresses(files[INBOUND_ADDRESS_FILE], relay.addresses.inbound)
            if core.config.console.operator_bind:
                beside = await listen_http(core.config.console.operator_bind, "[console] operator_bind")
                stack.callback(beside.close)
                address = await nursery.start(_serve_console, core, relay, beside, close_doors)
                relay.addresses = relay.addresses._replace(console=address)
                core.console_links.operator_address = address
                _write_addresses(files[CONSOLE_ADDRESS_FILE], [address])
            else:
                relay.console_closed.set()
            core.console_links.is_served = True
            logger.info("service.ready", extra={**relay.addresses._asdict(), "seq": core.store.last_seq})
            # The last one: whoever waits for it finds all of the relay, and its line in the log.
            _write_addresses(files[HTTP_ADDRESS_FILE], [relay.addresses.http])
            try:
                yield relay
            finally:
                for file in files.values():
                    file.unlink(missing_ok=True)
            nursery.cancel_scope.cancel()


async def _act(relay: Relay, acting: AbstractAsyncContextManager[Acting]) -> None:
    """Until cancelled: what begins when this machine leads."""
    async with acting as relay.acting:
        await trio.sleep_forever()


def _expiry_of(core: Core, certificates: Certificates | None) -> Callable[[], Expiry | None]:
    """When what SMTP shows expires, read anew where its files have changed."""

    def expiry() -> Expiry | None:
        if certificates is None:
            return None
        certificates.context()
        return Expiry(core.config.tls.certificate, round(certificates.not_after.timestamp()) * SECOND_US)

    return expiry


def _write_addresses(file: Path, addresses: Sequence[str]) -> None:
    """By rename: whoever waits for the file reads all of it."""
    written = file.with_suffix(".tmp")
    written.write_text("".join(f"{address}\n" for address in addresses))
    written.rename(file)


def _load_doors() -> Callable[..., Awaitable[None]]:
    """Not above: with all that it needs it is a third of the memory of a core whose edges serve. A node asks for it
    before it fetches what it lacks, so that it serves as soon as it has that: to load it takes as long as ten thousand
    records do."""
    from relay.doors import serve_doors

    return serve_doors


async def _serve_doors(
    core: Core,
    edges: int,
    relay: Relay,
    certificates: Certificates | None,
    listened: Listened,
    close: trio.Event,
    stop_wanted: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[Addresses],
) -> None:
    if edges:
        await serve_by_edges(core, edges, certificates, listened, close, stop_wanted, task_status=task_status)
    else:
        serve_doors = _load_doors()
        await serve_doors(core.edge, certificates, listened, close, task_status=task_status)
    relay.doors_closed.set()


async def _serve_console(
    core: Core,
    relay: Relay,
    listening: Listening,
    close: trio.Event,
    task_status: trio.TaskStatus[str],
) -> None:
    # Not above, for a relay that has none: it brings all that makes pages.
    from relay.operator_console import serve_operator_console

    await serve_operator_console(core, listening, close, task_status=task_status)
    relay.console_closed.set()
