"""What an edge does, in its own process: it serves the doors on sockets that it inherited.

Whatever it is not told or asked for by `words` it reads from the views and the log, which it opens to read. When it is
to stop, its streams are told so, nobody new is let in, and it returns when the doors are closed, each within its grace;
the core has the last word, and kills it when it takes too long.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import trio

from relay.buffers import Buffers, receiving_octets
from relay.doors import serve_doors
from relay.edge import Edge, MailReader
from relay.edges import words
from relay.edges.asking import AskedCore, CarriedPlaces, EdgeQuota, ToldNode
from relay.heavy_work import HeavyWork
from relay.listening import Listened, Listening
from relay.message.keys import Pepper, Peppers
from relay.message.tokens import BounceAddresses, ConfirmationTokens, StreamTickets, UnsubscribeTokens
from relay.metrics import EdgeMetrics
from relay.processes.mail_reader import open_mail_reader
from relay.processes.tuning import calm_the_collector, switch_soon
from relay.processes.worker import Here
from relay.reading_store import open_reading_store
from relay.reception.certificates import GivenCertificates
from relay.settings import Settings
from relay.streams import Streams
from relay.surroundings import Surroundings

QUESTIONS: Final = words.TO_EDGE
GREETING: Final = words.Greeting


async def main(here: Here) -> None:
    """Until it is to stop. Raises what cannot be got over: the views cannot be read, say."""
    switch_soon()
    greeting: words.Greeting = here.greeting
    directory = Path(greeting.directory)
    settings = Settings(greeting.config)
    surroundings = Surroundings()
    secrets = _Secrets(greeting.peppers, settings.now.operator_domain)
    quota = EdgeQuota(lambda: settings.now.members, lambda: settings.now.inbound)
    core = AskedCore(here.channel, quota)
    tickets = StreamTickets(greeting.ticket_key)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(open_reading_store(directory, surroundings.clock))
        metrics = EdgeMetrics()
        streams = Streams(
            CarriedPlaces(here.channel), store.read, lambda: tickets, surroundings.dice.randbytes
        )
        metrics.streams.set_function(lambda: streams.count)
        mail_reader: MailReader | None = None
        if settings.now.inbound.is_served:
            reader = await stack.enter_async_context(open_mail_reader(surroundings.dns(), surroundings.clock))
            metrics.reader_failures = lambda: reader.statistics().no_answers.items()
            mail_reader = reader
        node = None if greeting.node is None else ToldNode(greeting.node, core.catch_up)
        edge = Edge(
            settings=settings,
            store=store,
            pepper=secrets.peppers,
            unsubscribe_tokens=secrets.unsubscribe,
            confirmation_tokens=secrets.confirmations,
            bounce_addresses=secrets.bounces,
            mail_reader=mail_reader,
            resolver=surroundings.dns(),
            streams=streams,
            metrics=metrics,
            quota=quota,
            heavy_work=HeavyWork(surroundings.offload),
            receiving=Buffers(lambda: receiving_octets(settings.now.http, greeting.edges)),
            decide=core.decide,
            take_message=core.take_message,
            why_not_accepting=core.why_not_accepting,
            metrics_page=core.metrics_page,
            node=node,
        )
        certificates = None if greeting.certificate is None else GivenCertificates(greeting.certificate)

        async def answer(question: Any) -> Any:
            match question:
                case words.Told(heard):
                    streams.hear(heard)
                case words.NewPeppers(peppers):
                    secrets.add(peppers)
                case words.LetGo():
                    store.let_go()

        def hear(news: Any) -> None:
            match news:
                case words.Configured(config):
                    settings.take(config)
                case words.NewCertificate(pair):
                    assert certificates is not None
                    certificates.give(pair)
                case words.NodeIs():
                    assert node is not None
                    node.hear(news)
                    if news.is_unfit:
                        streams.send_away()
                case words.Count():
                    here.channel.tell(words.Counted(metrics.families()))

        close = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(core.tell_refused)
            calm_the_collector()
            # Before the first door: who stands in the kernel's queue is let in at once, and may ask for the core, which
            # answers nobody whom it does not know to be ready. Whoever comes now waits there for the doors.
            here.ready(answer, hear)
            async with trio.open_nursery() as doors:
                await doors.start(serve_doors, edge, certificates, _listened(here, greeting), close)
                await here.stopping.wait()
                streams.stop()
                close.set()
            nursery.cancel_scope.cancel()


def _listened(here: Here, greeting: words.Greeting) -> Listened:
    sockets = iter(here.sockets)

    def taken(one: words.ServedOn) -> Listening:
        return Listening(one.address, tuple(next(sockets) for _ in range(one.sockets)))

    return Listened(
        taken(greeting.http),
        tuple([taken(one) for one in greeting.submission]),
        tuple([taken(one) for one in greeting.inbound]),
    )


class _Secrets:
    """What keys and tokens are known by. Nothing is made by it here, so a later pepper than is in use does no harm."""

    def __init__(self, peppers: Mapping[int, bytes], operator_domain: str) -> None:
        first = Pepper(peppers[1])
        self.peppers = Peppers({1: first})
        self.unsubscribe = UnsubscribeTokens(first.unsubscribe_key)
        self.bounces = BounceAddresses(first.bounce_key, operator_domain)
        self.confirmations = ConfirmationTokens(first.confirmation_key)
        self._known = {1}
        self.add(peppers)

    def add(self, peppers: Mapping[int, bytes]) -> None:
        for number, root in sorted(peppers.items()):
            if number in self._known:
                continue
            pepper = Pepper(root)
            self.peppers.add(number, pepper)
            self.unsubscribe.add(number, pepper.unsubscribe_key)
            self.bounces.add(number, pepper.bounce_key)
            self.confirmations.add(number, pepper.confirmation_key)
            self.peppers.use(number)
            self._known.add(number)
