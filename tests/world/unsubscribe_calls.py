"""What the tests of unsubscribe calls share."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from relay.codec import Recorded
from relay.core import Core, open_core
from relay.events import (
    Content,
    Event,
    MessageQueued,
    Recipient,
    RecipientSuppressed,
    SendAccepted,
    SuppressedRecipient,
    UnsubscribeCalled,
)
from relay.surroundings import Surroundings
from relay.unsubscribe_calls import (
    Post,
    call_members,
    one_click_post,
)
from relay.views import calls
from tests.world.dns import FakeDns
from tests.world.https import Authority, Stream
from tests.world.relay import DID, DOMAIN, call_here, make_directory, virtual_clock

URL = "https://member.example/off?u=1"


HOST = "member.example"


PUBLIC = "93.184.215.14"


ADDRESS = "friend@example.com"


AUTHORITY = Authority()


OpenStream = Callable[[str, int], Awaitable[Stream]]


@asynccontextmanager
async def open_caller(
    directory: Path,
    post: Post | None = None,
    *,
    addresses: tuple[str, ...] = (PUBLIC,),
    open_stream: OpenStream = trio.open_tcp_stream,
) -> AsyncIterator[Core]:
    """A relay without its edges, in which nothing runs but the caller. Without `post`, it speaks real HTTPS to HOST,
    which has these addresses."""
    if not directory.exists():
        make_directory(directory)
    world = Surroundings(
        clock=virtual_clock,
        offload=call_here,
        open_stream=open_stream,
        resolver=FakeDns(addresses={HOST: list(addresses)}),
        tls=AUTHORITY.trust,
        dice=random.Random(0),
    )
    async with open_core(directory, world) as core, trio.open_nursery() as nursery:
        await nursery.start(call_members, core, post or one_click_post(world))
        yield core
        nursery.cancel_scope.cancel()


async def click(core: Core, url: str | None = URL, address: str = ADDRESS) -> int:
    """A mail with the member's own URL, and its recipient's click. Returns the click's sequence number."""
    now = core.store.now_us()
    send = SendAccepted(
        did=DID,
        domain=DOMAIN,
        category="bulk",
        recipients=1,
        key_id="k",
        selector_stem="s",
        operator_domain="relay.example",
        operator_stem="s",
        message_id_entropy="e",
        personal=Content(from_address=f"you@{DOMAIN}", subject="Hi", text="Hi", unsubscribe_url=url),
    )
    queued = MessageQueued(
        did=DID,
        domain=DOMAIN,
        category="bulk",
        index=1,
        next_attempt_at=now,
        give_up_at=now,
        personal=Recipient(given=address, address=address),
    )
    _, message = await core.store.append([send, queued])
    (suppressed,) = await core.store.append(
        [
            RecipientSuppressed(
                did=DID,
                reason="unsubscribe",
                message_id=message.seq,
                call_at=core.store.now_us(),
                personal=SuppressedRecipient(address=address),
            )
        ]
    )
    return suppressed.seq


def called(core: Core) -> list[Recorded]:
    every = [core.store.get(seq) for seq in range(1, core.store.last_seq + 1)]
    return [recorded for recorded in every if isinstance(recorded.event, UnsubscribeCalled)]


def error_of(event: Event) -> str | None:
    assert isinstance(event, UnsubscribeCalled)
    return None if event.personal is None else event.personal.error


def waiting(core: Core) -> int:
    with core.store.read() as view:
        return len(list(calls.calls(view)))


async def until_settled(core: Core) -> list[Recorded]:
    """The calls made, when none is waiting any more."""
    while waiting(core):
        news = trio.Event()

        def observe(recorded: Sequence[Recorded], news: trio.Event = news) -> None:
            news.set()

        core.store.observers.append(observe)
        await news.wait()
        core.store.observers.remove(observe)
    return called(core)
