"""Reports and mail that come to a running relay, past its door: decided and made true as the door has them."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from relay.codec import Recorded
from relay.decisions.inbound_mail import Incoming, pass_on
from relay.decisions.reports import Came, bounce_report, complaint_report
from relay.events import Event, MessageHeld, MessageSent
from relay.mail_reading import Reading
from relay.unsubscribe_calls import members_url
from relay.views import messages
from spool.views import Snapshot
from tests.world.inbound_log import GONE, SPAM, incoming
from tests.world.relay import DID, DOMAIN, World


def story(world: World, view: Snapshot, message_id: int) -> list[Recorded]:
    return [world.core.store.get(seq) for seq in messages.timeline(view, message_id)]


def came(raw: bytes = b"Subject: Undelivered\r\n\r\nSorry.\r\n") -> Came:
    return Came(sha256(raw).hexdigest(), len(raw), raw)


async def report(
    world: World,
    message_id: int,
    reading: Reading = GONE,
    raw: bytes = came().raw,
    *,
    hold: bool = False,
) -> list[Event]:
    """`hold`: the DSN that tells of it is held by the operator before its first attempt."""
    core = world.core

    def decide(view: Snapshot) -> list[Event]:
        events = bounce_report(
            view,
            message_id,
            story(world, view, message_id),
            reading,
            came(raw),
            config=core.config,
            operator_stem=core.operator_stem,
            message_id_entropy="0123456789abcdef",
            now_us=core.store.now_us(),
        )
        if hold:
            dsn = core.store.last_seq + 2
            events.append(MessageHeld(did=DID, message_id=dsn, because="operator", by="root"))
        return events

    return [item.event for item in await core.store.decide(decide)]


async def complain(
    world: World, message_id: int, *, provider: str | None = None, raw: bytes = b"Subject: Spam\r\n"
) -> list[Event]:
    def decide(view: Snapshot) -> list[Event]:
        told = story(world, view, message_id)
        state = messages.message(view, message_id)
        calls = state is not None and members_url(core.store, state) is not None
        call_at = core.store.now_us() if calls else None
        return complaint_report(view, message_id, told, SPAM, came(raw), provider=provider, call_at=call_at)

    core = world.core
    return [item.event for item in await core.store.decide(decide)]


async def receive(world: World, mail: Incoming, to_address: str) -> list[Event]:
    store = world.core.store

    def decide(view: Snapshot) -> list[Event]:
        return pass_on(view, mail, to_address, config=world.core.config, now_us=store.now_us())

    return [item.event for item in await store.decide(decide)]


async def passed_on(world: World, mail: Incoming, to_address: str) -> int:
    """Mail that came in, and that its next server has already. The message id of its `forward.queued`."""
    store = world.core.store

    def decide(view: Snapshot) -> list[Event]:
        events = pass_on(view, mail, to_address, config=world.core.config, now_us=store.now_us())
        sent = MessageSent(did=mail.did, message_id=store.last_seq + 2, attempt=0)
        return [*events, sent] if events else []

    recorded = await store.decide(decide)
    assert recorded[2].event == MessageSent(did=mail.did, message_id=recorded[1].seq, attempt=0)
    return int(recorded[1].seq)


def mail_from(address: str, number: int = 1, **fields: Any) -> Incoming:
    raw = f"From: {address}\r\nSubject: Re: Hello\r\n\r\nHello.\r\n".encode()
    facts: dict[str, Any] = {"did": DID, "domain": DOMAIN, "mail_from": address, "raw": raw}
    return incoming(number, **{**facts, **fields})
