"""One send, from an authenticated member and a parsed request to events that are durable (SPEC 1.1 and 1.2).

It knows no HTTP: any door that can say who asks, and what, may hand a send in. Cancelled: it was not written. Returned:
it is durable and in the views.

`Idempotency-Key`: the first answer again. It is made from the accepted events, like the first one was, so it is the
same on every replay. Sends with the same key take turns; others do not wait for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from relay.codec import Recorded
from relay.core import Core
from relay.data_directory import ReadableStore
from relay.decisions.send import HEADING_OCTETS, Origin, accept_send, metadata_octets
from relay.events import Event, MessageQueued, SendAccepted
from relay.presentation import Accepted, SendAnswer, rejected_recipient
from relay.principals import SEND, Principal
from relay.refusals import Refusal
from relay.registry import Arguments, decision
from relay.requests import SendRequest
from relay.views import idempotency

#: What a recipient takes in the log and in the views, about.
_RECIPIENT_BYTES = 2048


class Idempotency(NamedTuple):
    """An Idempotency-Key and the body that it came with: SHA-256, hex. What a member puts into a key is nobody else's
    business."""

    key_sha256: str
    body_sha256: str


class Send(Arguments, frozen=True, kw_only=True):
    """The arguments of `send`."""

    request: SendRequest
    client_address: str | None = None
    idempotency: Idempotency | None = None
    #: Of the request's body: SHA-256 in hex, and octets.
    body_sha256: str
    size: int


class Sent(NamedTuple):
    """What there is to answer, and nothing of what was sent: that would go back through every door."""

    #: Of the `send.accepted`; the messages have the numbers right behind it.
    seq: int
    #: How many messages there are.
    messages: int
    #: Their recipients, as given, in their order; None: they, or what else was in the answer, were erased since.
    accepted: tuple[str, ...] | None
    #: Suppressed recipients, as given, each with its reason.
    rejected: tuple[tuple[str, str], ...] = ()
    #: It is an earlier send with this key.
    is_replay: bool = False

    @property
    def ids(self) -> range:
        """Of the messages."""
        return range(self.seq + 1, self.seq + 1 + self.messages)


def _is_handed_in(wanted: Send) -> bool:
    # When the relay stops, its SMTP ports hear nobody out but those who are in the middle of a message
    # (relay.reception.ports). What they waited for is this.
    return wanted.request.by_smtp is not None


@decision(by=Principal, scope=SEND, ends_what_was_begun=_is_handed_in)
async def send(core: Core, wanted: Send, member: Principal) -> Sent:
    """Accept a send, or find the one that its key stands for. Raises Refusal."""
    if wanted.idempotency is None:
        return sent_of(await _accept(core, wanted, member))
    async with core.reservations.key_in_turn(member.did, wanted.idempotency.key_sha256):
        first = first_use(core.store, member, wanted.idempotency)
        return first or sent_of(await _accept(core, wanted, member))


async def _accept(core: Core, wanted: Send, member: Principal) -> Sequence[Recorded]:
    events = decide_send(core, wanted, member)
    with core.reservations.hold(events):
        return await core.writes.append(member, events, size=octets_of(wanted, len(events)))


def octets_of(wanted: Send, records: int) -> int:
    """What a send takes in the log and in the views, about. What stands with each recipient counts for each."""
    each = _RECIPIENT_BYTES + metadata_octets(wanted.request.metadata)
    if wanted.size > HEADING_OCTETS:
        each += len(wanted.request.content.subject.encode())
    return wanted.size + each * records


def decide_send(core: Core, wanted: Send, member: Principal) -> list[Event]:
    """What becomes of a send, beside all that is reserved at this moment; whoever appends it holds it reserved, and
    waits for nothing in between. Raises Refusal."""
    entropy = f"{core.surroundings.dice.getrandbits(64):016x}"
    with core.store.read() as view:
        origin = Origin(
            client_address=wanted.client_address,
            message_id_entropy=entropy,
            operator_stem=core.operator_stem_in(view),
            idempotency_key=wanted.idempotency and wanted.idempotency.key_sha256,
            body_sha256=wanted.body_sha256,
            size=wanted.size,
        )
        return accept_send(
            view,
            core.config,
            member,
            wanted.request,
            origin,
            reserved=core.reservations.recipients,
            reserved_at=core.reservations.scheduled,
            now_us=core.store.now_us(),
        )


def first_use(store: ReadableStore, member: Principal, idempotency_of: Idempotency) -> Sent | None:
    """The send that this key stands for; None where it is new.

    Raises Refusal(IDEMPOTENCY_CONFLICT) where it stands for another body.
    """
    with store.read() as view:
        first = idempotency.first_use(view, member.did, idempotency_of.key_sha256, store.now_us())
    if first is None:
        return None
    if first.body_sha256 != idempotency_of.body_sha256:
        raise Refusal(
            "IDEMPOTENCY_CONFLICT",
            "Idempotency-Key: it was used for another request in the last 24 hours; use a new key for a new mail",
        )
    accepted = store.get(first.seq)
    assert isinstance(accepted.event, SendAccepted)
    queued = [store.get(first.seq + index + 1) for index in range(accepted.event.recipients)]
    return sent_of([accepted, *queued], is_replay=True)


def sent_of(records: Sequence[Recorded], *, is_replay: bool = False) -> Sent:
    """Of the `send.accepted`, and the `message.queued` of each recipient: the same now and on every replay."""
    seq, _, accepted = records[0]
    assert isinstance(accepted, SendAccepted)
    messages = len(records) - 1
    if accepted.personal is None:
        return Sent(seq, messages, None, is_replay=is_replay)
    given: list[str] = []
    for _, _, event in records[1:]:
        assert isinstance(event, MessageQueued)
        if event.personal is None:
            return Sent(seq, messages, None, is_replay=is_replay)
        given.append(event.personal.given)
    return Sent(seq, messages, tuple(given), tuple(accepted.personal.rejected), is_replay)


def answer_to(sent: Sent) -> SendAnswer:
    """The answer to a send.

    Raises Refusal(IDEMPOTENCY_CONFLICT) where part of it was erased by an order meanwhile: it was sent, and must not
    be sent again, but the answer cannot be given any more.
    """
    if sent.accepted is None:
        raise Refusal(
            "IDEMPOTENCY_CONFLICT",
            "Idempotency-Key: the mail was accepted, and its personal data have been erased since; use a new key for "
            "a new mail",
        )
    return SendAnswer(
        [Accepted(given, number) for given, number in zip(sent.accepted, sent.ids, strict=True)],
        [rejected_recipient(given, reason) for given, reason in sent.rejected],
    )
