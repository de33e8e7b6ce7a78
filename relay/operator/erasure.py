"""`log erase`: personal data go before their time, by the operator's order (SPEC 8).

How they go, and what must wait, is `relay.operator.retention`'s business; here is which are meant.

Of a message: its own, and the reports about it. Of an address: the messages to it and the reports about these; mail
that it sent in and that was passed on; sends of which nobody was left but it; and of the single records those that name
it, which finds reports about messages whose own data went before. What is not over is passed over, and named in the
answer; so is, by its kind, what names the address and stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from relay.addresses import with_u_labels
from relay.codec import decode_raw
from relay.core import Core
from relay.events import NOBODY, Event, MessageQueued, Notice, PayloadErased
from relay.fields import address_in
from relay.operator import retention as job
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.refusals import Refusal, invalid
from relay.registry import Arguments, decision
from relay.views import members, messages, received, retention
from relay.views.messages import MessageState
from spool.record import Record
from spool.views import Snapshot

REASON_CHARACTERS_MAX = 500

#: A member's messages behind this one, in one order or the other; None: from the first.
_Find = Callable[[Snapshot, str, int | None], Iterator[MessageState]]


class LogErase(Arguments, frozen=True, kw_only=True):
    """Either a message or a recipient; of all members, or of one."""

    reason: str
    message: int | None = None
    recipient: str | None = None
    did: str | None = None


class _Order(NamedTuple):
    """Who wants it, of which member (None: of all), and why."""

    by: str
    reason: str
    did: str | None

    def erased(self, did: str, **what: list[int]) -> PayloadErased:
        return PayloadErased(did=did, because="operator", by=self.by, reason=self.reason, **what)


@decision(by=Operator, unhurried=True)
async def log_erase(core: Core, order: LogErase, asker: Operator) -> CommandAnswer:
    """Remove the personal data of one message, or of all that an address got or sent, before their time.

    Refuses a message that is not over. Of an address, those that are not over are passed over and named in the answer.
    """
    reason, message, recipient = order.reason, order.message, order.recipient
    if (message is None) == (recipient is None):
        raise invalid("message", "say either a message or a recipient")
    if not reason.strip() or len(reason) > REASON_CHARACTERS_MAX or not reason.isprintable():
        raise invalid("reason", f"expected 1 to {REASON_CHARACTERS_MAX} printable characters")
    if "@" in reason:
        raise invalid(
            "reason", "it is kept for good, so it must not name an address; a ticket number will do"
        )
    address = None if recipient is None else address_in("recipient", recipient)
    wanted, removed, store = _Order(asker.user, reason, order.did), job.Removed(), core.store
    with job.told_what_is_left():
        async with core.erasing:
            if message is not None:
                await _erase_one(core, message, wanted, removed)
                # The order is durable, the payload still there.
                address = _address_of(store.get(message).event)
            else:
                assert address is not None
                await _erase_address(core, address, wanted, removed)
            await job.settle(core, removed)
            settled_seq = store.last_seq
            answer = removed.answer()
            if recipient is not None:
                assert address is not None
                names = _naming(address)
                answer["tornCopies"] += await store.remove_torn_copies(lambda _name, data: names(data))
            # So that nobody believes that more is gone than is. Null where it had been removed before.
            answer["stillNamed"] = (
                None
                if address is None
                else await core.surroundings.offload(
                    _naming_records, store.records(1, store.last_seq), address
                )
            )
            last_payload_seq = removed.last_payload_seq
            if core.own_stripping is not None:
                # An order that is given again finds nothing here, and other places may have it still.
                last_payload_seq = await core.surroundings.offload(
                    _last_stripped, store.records(store.first_seq(), store.last_seq)
                )
    # Not under the lock: each of them may have some file to write anew.
    answer["owed"] = list(await core.wait_for_others_to_strip(settled_seq, last_payload_seq))
    return answer


def _address_of(event: Event) -> str | None:
    """To whom the message is, until its payload is gone."""
    assert isinstance(event, MessageQueued | Notice)
    return None if event.personal is None else event.personal.address


async def _erase_one(core: Core, message_id: int, order: _Order, removed: job.Removed) -> None:
    def decide(view: Snapshot) -> list[Event]:
        state = messages.message(view, message_id)
        if state is None or order.did not in (None, state.did):
            whose = "" if order.did is None else f" of {order.did}"
            raise Refusal("NOT_FOUND", f"message: there is no message {message_id}{whose}")
        because = job.still_needed(view, state)
        if because is not None:
            raise Refusal("CONFLICT", f"message {message_id} cannot be erased now: {because}")
        # A report may have come when the message's own data were gone.
        ids = [message_id] if messages.has_personal_data(view, message_id) else []
        reports = retention.reports_about(view, message_id)
        return [order.erased(state.did, message_ids=ids, seqs=reports)] if ids or reports else []

    _count(await core.store.decide(decide), removed)


def _count(recorded: Iterable[tuple[int, int, Event]], removed: job.Removed) -> None:
    """Of a message's `payload.erased`."""
    for _, _, event in recorded:
        assert isinstance(event, PayloadErased)
        removed.messages += len(event.message_ids)
        removed.reports += len(event.seqs)


async def _erase_address(core: Core, address: str, order: _Order, removed: job.Removed) -> None:
    with core.store.read() as view:
        dids = [order.did] if order.did is not None else [*members.dids(view), NOBODY]

    def got(view: Snapshot, did: str, behind: int | None) -> Iterator[MessageState]:
        return messages.messages_of(view, did, recipient=address, before=behind)

    def sent_in(view: Snapshot, did: str, behind: int | None) -> Iterator[MessageState]:
        for message_id in received.passed_on_from(view, did, address, after=behind or 0):
            state = messages.message(view, message_id)
            assert state is not None
            yield state

    for did in dids:
        await _erase_found(core, did, got, order, removed)
        await _erase_found(core, did, sent_in, order, removed)
    await _erase_rejected(core, address, order, removed)
    names = _naming(address)

    def is_meant(seq: int, owner: str) -> bool:
        payload = core.store.record(seq).payload if order.did in (None, owner) else None
        return payload is not None and names(payload)

    await job.erase_singles(
        core,
        core.store.now_us(),
        removed,
        is_meant=is_meant,
        because="operator",
        by=order.by,
        reason=order.reason,
    )


async def _erase_found(core: Core, did: str, find: _Find, order: _Order, removed: job.Removed) -> None:
    """In turns, so that others are answered meanwhile."""
    behind: int | None = None
    while True:
        looked: list[int] = []

        def decide(view: Snapshot, behind: int | None = behind, looked: list[int] = looked) -> list[Event]:
            ids: list[int] = []
            reports: list[int] = []
            for state in islice(find(view, did, behind), job.MESSAGES_PER_TURN):
                looked.append(state.message_id)
                because = job.still_needed(view, state)
                if because is None:
                    ids.append(state.message_id)
                    reports += retention.reports_about(view, state.message_id)
                else:
                    removed.keep(state.message_id, because)
            return [order.erased(did, message_ids=ids, seqs=reports)] if ids else []

        _count(await core.store.decide(decide), removed)
        if not looked:
            return
        behind = looked[-1]


async def _erase_rejected(core: Core, address: str, order: _Order, removed: job.Removed) -> None:
    """Sends that had no message name their recipients as well: in the list of those that were rejected."""
    after = 0
    names = _naming(address)
    while True:
        with core.store.read() as view:
            seqs = list(
                islice(
                    retention.sends_without_messages(view, core.store.now_us(), after=after),
                    job.MESSAGES_PER_TURN,
                )
            )
        if not seqs:
            return
        after = seqs[-1]
        records = [core.store.record(seq) for seq in seqs]
        naming = [record.seq for record in records if record.payload and names(record.payload)]
        events = [
            event
            for event in job.erased_sends(core, naming, because="operator", by=order.by, reason=order.reason)
            if isinstance(event, PayloadErased) and order.did in (None, event.did)
        ]
        if events:
            await core.store.append(events)
            removed.sends += sum(len(event.send_ids) for event in events)


# ------------------------------------------------------------------------------------------------ what names an address


def _naming(address: str) -> Callable[[bytes], bool]:
    """Whether bytes hold the address, in any case of its ASCII letters, with its domain in A-labels or in what they
    stand for."""
    forms = {form.encode().lower() for form in (address, with_u_labels(address))}

    def names(data: bytes) -> bool:
        lowered = data.lower()
        return any(form in lowered for form in forms)

    return names


def _last_stripped(records: Iterable[Record]) -> int:
    """The last record whose payload has gone; 0: none has."""
    return max((record.seq for record in records if record.stripped), default=0)


def _naming_records(records: Iterable[Record], address: str) -> dict[str, int]:
    """How many records of each type still hold the address."""
    names = _naming(address)
    found: Counter[str] = Counter()
    for record in records:
        if record.payload is not None and names(record.payload):
            found[str(decode_raw(record)["type"])] += 1
    return dict(sorted(found.items()))
