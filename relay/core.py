"""The core: what every layer of a running relay shares, and what the command line opens when none runs.

It owns the data directory for as long as it is open: configuration, secrets, signing keys, and the store.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from relay.alarms import Alarms
from relay.authentication import check_still, is_active_key
from relay.buffers import Buffers, receiving_octets
from relay.config import Config, ConfigError, load_config
from relay.console_links import ConsoleLinks
from relay.data_directory import SiteStatus, WebhooksAtWork, check_may_write
from relay.edge import Edge, MailReader
from relay.elsewhere import Elsewhere, OwnNode
from relay.heavy_work import HeavyWork
from relay.in_hand import InHand
from relay.last_looks import LastLooks, ListLooks
from relay.lockout import Lockout
from relay.message.key_files import remove_unfinished
from relay.message.keys import KeyRing, Pepper, Peppers, load_peppers
from relay.message.outgoing import Composer
from relay.message.tokens import SEAL_KEY_OCTETS, BounceAddresses, StreamTickets
from relay.metrics import CoreMetrics, EdgeMetrics
from relay.metrics_page import MetricsPage
from relay.principals import Asker, Operator, Principal
from relay.quota import Quota
from relay.refusals import Refusal, unavailable
from relay.registry import Decision, decision_for
from relay.reservations import Reservations
from relay.settings import Settings
from relay.space import Space
from relay.store import Store, open_store
from relay.stream_places import StreamPlaces
from relay.streams import Streams
from relay.surroundings import Surroundings
from relay.views import peppers, signing_keys
from relay.writes import Writes
from spool.errors import LogStalledError, ReadersFullError
from spool.views import Snapshot

if TYPE_CHECKING:
    from relay.own_stripping import OwnStripping

logger = logging.getLogger(__name__)

#: Octets of large mails that are on their way to receivers at a time.
SENDING_OCTETS_MAX = 64 * 1024 * 1024

#: Whether anybody may write is asked for this one.
_ANY_MEMBER = Principal("", "")


async def _at_any_time() -> None:
    """Of a relay that is the only one."""


async def _there_are_none(_erased_seq: int, _payload_seq: int) -> Sequence[str]:
    """Of a relay that is the only one."""
    return ()


def _as_it_is(read: Config) -> Config:
    """Of a relay that is the only one."""
    return read


def _always() -> Refusal | None:
    """Of a relay that is the only one."""
    return None


@dataclass
class Core:
    directory: Path
    surroundings: Surroundings
    settings: Settings
    store: Store
    pepper: Peppers
    keyring: KeyRing
    composer: Composer
    #: Of the operator's keys, which sign until the log names others.
    first_operator_stem: str
    reservations: Reservations = field(default_factory=Reservations)
    in_hand: InHand = field(default_factory=InHand)
    #: Recipient domain -> its MX hosts or route (`relay.delivery.connect`), of those that were looked up lately.
    sites: dict[str, str] = field(default_factory=dict)
    #: What was found (relay.domains.diagnosis.Finding) when each domain's DNS was looked at last.
    dns_looks: LastLooks[Any] = field(default_factory=LastLooks)
    #: When lists of senders to refuse were asked last, and which gave no answer.
    list_looks: ListLooks = field(default_factory=ListLooks)
    #: Set where mail comes in.
    mail_reader: MailReader | None = None
    #: Set where webhooks are told of events.
    webhooks: WebhooksAtWork | None = None
    #: Set by the deliverer, who has them.
    site_statuses: Callable[[], Mapping[str, SiteStatus]] = dict
    #: When the certificate that is shown ends. Set where there is one.
    certificate_not_after: Callable[[], datetime] | None = None
    #: As this machine's files have it, where several nodes go by the rules of one.
    own_config: Callable[[], Config] = field(init=False)
    #: Awaited by all that acts on the world, at the last moment before what it does cannot be taken back: before the
    #: dot, a webhook's request, a call. It returns when no other machine can be acting in our place.
    before_acting: Callable[[], Awaitable[None]] = _at_any_time
    #: Why nothing can be decided now, or sent on to who decides. None: it can, as far as is known.
    why_not_appending: Callable[[], Refusal | None] = _always
    #: Why this relay may not know what was acknowledged last. None: it does.
    why_not_sure: Callable[[], Refusal | None] = _always
    #: Why the log does not answer at this moment, where that is not this machine's disk.
    why_stalled: Callable[[], Refusal | None] = _always
    stopping: bool = False
    #: Where the relay runs on several nodes: who decides for this one while it follows, and what edges say of it.
    elsewhere: Elsewhere | None = None
    node: OwnNode | None = None
    #: What holds where this machine's files say so. Of several nodes, those that follow go by the rules of the one that
    #: leads.
    in_force: Callable[[Config], Config] = _as_it_is
    #: Called with each further pepper and its number, before anything is made by it; awaited.
    pepper_observers: list[Callable[[int, Pepper], Awaitable[None]]] = field(default_factory=list)
    #: One at a time removes payloads (relay.operator.retention).
    erasing: trio.Lock = field(default_factory=trio.Lock)
    #: Set where several machines have the log, each of which removes payloads from its own files.
    own_stripping: OwnStripping | None = None
    #: Who else has payloads still that the events up to the first of these sequence numbers erase, in sentences, after
    #: some seconds of waiting for them. The second is the last record whose payload goes.
    wait_for_others_to_strip: Callable[[int, int], Awaitable[Sequence[str]]] = _there_are_none
    metrics: CoreMetrics = field(init=False)
    #: Of the edge in this process.
    edge_metrics: EdgeMetrics = field(init=False)
    #: With the numbers of all processes.
    metrics_page: MetricsPage = field(init=False)
    quota: Quota = field(init=False)
    space: Space = field(init=False)
    #: What members and strangers cause goes in by this.
    writes: Writes = field(init=False)
    #: Of the streams of all edges.
    stream_places: StreamPlaces = field(init=False)
    #: Those of the edge in this process.
    streams: Streams = field(init=False)
    heavy_work: HeavyWork = field(init=False)
    #: What wants a person.
    alarms: Alarms = field(init=False)
    #: Who is let into the console.
    console_links: ConsoleLinks = field(init=False)
    #: For large mails while they are sent, and for large bodies while they are received.
    sending: Buffers = field(default_factory=lambda: Buffers(lambda: SENDING_OCTETS_MAX))
    receiving: Buffers = field(init=False)
    #: Wrong sign-ins at the console, by any edge.
    console_guesses: Lockout = field(default_factory=Lockout)

    def __post_init__(self) -> None:
        self.own_config = lambda: self.config
        self.alarms = Alarms(self.store.read)
        self.receiving = Buffers(lambda: receiving_octets(self.config.http))
        self.metrics = CoreMetrics(self.store)
        self.metrics.alarms_are(self.alarms.counts, self.list_looks)
        self.edge_metrics = EdgeMetrics()
        self.metrics_page = MetricsPage(
            lambda: [*self.metrics.families(), *self.edge_metrics.families()], self.metrics.count_unanswered
        )
        self.quota = Quota(lambda: self.config.members, lambda: self.config.inbound)
        self.space = Space(
            lambda: self.config.spool, free_bytes=self.store.free_bytes, log_bytes=self.store.log_bytes
        )
        self.writes = Writes(self.store, self.space)
        self.heavy_work = HeavyWork(self.surroundings.offload)
        self.console_links = ConsoleLinks(self.surroundings.dice.randbytes)
        self.stream_places = StreamPlaces(
            lambda: self.config.http, self.store.now_us, self.console_links.ends_at
        )
        self.streams = Streams(
            self.stream_places.held(),
            self.store.read,
            lambda: self._stream_tickets,
            self.surroundings.dice.randbytes,
        )
        self.edge_metrics.streams.set_function(lambda: self.streams.count)
        self.store.observers.append(self.streams.observe)
        self.console_links.ended.append(self.streams.revoked)
        self.store.observers.append(self.metrics.observe)
        self.store.observers.append(self.reservations.observe)
        self.store.observers.append(self.in_hand.observe)
        self.store.rewritten.append(self._forget_sends)

    @property
    def config(self) -> Config:
        """What is in force at this moment. Ask again the next time."""
        return self.settings.now

    async def read_settings_again(self) -> None:
        """Read `relay.toml` anew and let it be in force. A file that cannot be used changes nothing; the log says why,
        and what needs a restart. Cancelled: nothing has changed."""
        try:
            read = await self.surroundings.offload(
                partial(load_config, self.directory, instead_of=self.config)
            )
        except ConfigError as error:
            logger.error("config.refused", extra={"because": str(error)})
            return
        changes = self.settings.take(self.in_force(read))
        logger.info("config.read", extra={"changed": changes.changed})
        if changes.needs_restart:
            logger.warning("config.needs_restart", extra={"settings": changes.needs_restart})

    @property
    def operator_stem(self) -> str:
        """Of the operator's keys that sign what is accepted now."""
        with self.store.read() as view:
            return self.operator_stem_in(view)

    def operator_stem_in(self, view: Snapshot) -> str:
        """As `operator_stem`, for who reads the views anyway."""
        key = signing_keys.operator_key(view, self.config.operator_domain)
        return self.first_operator_stem if key is None else key.selector_stem

    @property
    def message_tokens(self) -> BounceAddresses:
        return self.composer.bounces

    @cached_property
    def ticket_key(self) -> bytes:
        """Seals tickets for streams, at all edges. It is as old as this process."""
        return self.surroundings.dice.randbytes(SEAL_KEY_OCTETS)

    @cached_property
    def _stream_tickets(self) -> StreamTickets:
        return StreamTickets(self.ticket_key)

    async def pause(self) -> None:
        """Let others work, in the middle of something long."""
        await trio.lowlevel.checkpoint()

    async def why_not_accepting(self) -> Refusal | None:
        """Why no send can be taken now: QUEUE_FULL or TEMPORARILY_UNAVAILABLE. None: it can. A node that follows asks
        who leads."""
        if self.elsewhere is None or not self.elsewhere.follows:
            return self.why_not_accepting_here()
        if self.stopping or self.store.poisoned:
            return unavailable()
        if (why := self.why_not_appending()) is not None:
            return why
        return await self.elsewhere.why_not_accepting()

    def why_not_accepting_here(self) -> Refusal | None:
        """The same, of this very core."""
        if self.stopping or self.store.poisoned:
            return unavailable()
        if (why := self.why_not_appending()) is not None:
            return why
        try:
            self.space.check(_ANY_MEMBER)
            with self.store.read():
                pass
        except Refusal as refusal:
            return refusal
        except ReadersFullError as error:
            return Refusal("TEMPORARILY_UNAVAILABLE", str(error))
        return None

    async def decide(
        self, name: str, arguments: msgspec.Struct, asker: Asker, *, is_counted: bool = True
    ) -> Any:
        """Carry out a decision of `relay.registry` for whoever asks, or have it carried out by the node that leads;
        `relay.edge.Decide` has the contract. Not `is_counted`: whoever asks has a quota of its own, and a member's
        write is counted by the relay's here.
        """
        if self.elsewhere is not None:
            found = decision_for(name, asker)
            if self.elsewhere.concerns(found, arguments, asker):
                self._check_not_stopping(found, arguments, asker)
                return await self.elsewhere.decide(found, arguments, asker)
        return await self.decide_here(name, arguments, asker, is_counted=is_counted)

    async def decide_here(
        self, name: str, arguments: msgspec.Struct, asker: Asker, *, is_counted: bool = True
    ) -> Any:
        """As `decide`, by this very core."""
        found = decision_for(name, asker)
        self._check_not_stopping(found, arguments, asker)
        if not found.reads and (why := self.why_not_appending()) is not None:
            raise why
        if isinstance(asker, Principal):
            self._check_still(asker, reads=found.reads)
            if not is_counted and not found.reads:
                self.quota.take_write(asker.did)
        try:
            return await found.run(self, arguments, asker)
        except LogStalledError as stalled:
            # As whoever asks makes it a refusal, but with what is known here of the reason.
            if (why := self.why_stalled()) is not None:
                raise why from stalled
            raise

    def _check_not_stopping(self, found: Decision, arguments: msgspec.Struct, asker: Asker) -> None:
        if self.stopping and not isinstance(asker, Operator) and not found.ends_what_was_begun(arguments):
            raise unavailable()

    def _check_still(self, member: Principal, *, reads: bool) -> None:
        """Once more, for a body may take its time, and an edge may be wrong, or make the key better than it is. Raises
        Refusal(AUTH_FAILED, or MEMBER_SUSPENDED where it is no reading)."""
        if member.is_vouched and not self.console_links.is_vouched(member, self.store.now_us()):
            raise Refusal("AUTH_FAILED", "this session of the console is over; sign in again")
        with self.store.read() as view:
            if not reads:
                check_still(view, member)
            elif not is_active_key(view, member):
                raise Refusal("AUTH_FAILED", "the API key was revoked")

    @property
    def edge(self) -> Edge:
        """What whoever answers requests may have of this core."""
        return Edge(
            settings=self.settings,
            store=self.store,
            pepper=self.pepper,
            unsubscribe_tokens=self.composer.unsubscribe,
            confirmation_tokens=self.composer.confirmations,
            bounce_addresses=self.composer.bounces,
            mail_reader=self.mail_reader,
            resolver=self.surroundings.dns(),
            streams=self.streams,
            metrics=self.edge_metrics,
            metrics_page=self.metrics_page.text,
            quota=self.quota,
            heavy_work=self.heavy_work,
            receiving=self.receiving,
            decide=self.decide,
            take_message=self.take_message,
            why_not_accepting=self.why_not_accepting,
            node=self.node,
        )

    async def _forget_sends(self) -> None:
        """What was erased is composed no more, nor kept for who would share it."""
        self.composer.forget_sends()

    async def take_message(self, address: str) -> None:
        """Count one message that a stranger at this address begins. Raises Refusal(RATE_LIMITED)."""
        if self.elsewhere is not None and self.elsewhere.follows:
            await self.elsewhere.take_message(address)
        else:
            self.quota.take_message(address)


@asynccontextmanager
async def open_core(
    directory: Path, surroundings: Surroundings | None = None, *, restoring: bool = False
) -> AsyncIterator[Core]:
    """Open a data directory that `init` made, or `log restore`, which may do so before it has ended.

    Raises ConfigError, KeyFileError, Refusal for a backup, or an error of `spool`.
    """
    surroundings = surroundings or Surroundings()
    check_may_write(directory, restoring=restoring)
    config = load_config(directory)
    pepper = load_peppers(directory)
    keyring = KeyRing(directory)
    keyring.check()
    first_stem = keyring.operator_stem(config.operator_domain)
    async with open_store(directory, config, surroundings) as store:
        # The log's lock says that nobody else is writing one. Such a file may hold a secret.
        remove_unfinished(directory)

        def pepper_at(seq: int) -> int:
            with store.read() as view:
                return peppers.number_at(view, seq)

        with store.read() as view:
            pepper.use(peppers.current(view))
        composer = Composer.of(keyring, pepper, config.operator_domain, pepper_at)
        core = Core(directory, surroundings, Settings(config), store, pepper, keyring, composer, first_stem)
        if config.nodes is not None:
            from relay.own_stripping import OwnStripping  # which only a relay on several machines needs

            core.own_stripping = OwnStripping(
                store,
                erasing=core.erasing,
                retention_days=lambda: core.config.spool.retention_days,
                offload=surroundings.offload,
            )
        yield core
