"""Messages: the state of each, its timeline, and the lists that members ask for.

A message's state holds nothing personal: what is personal stays in the log, is read from there when somebody asks, and
goes away there when its time is over.

A state is the fold of the message's own events by `begun` and `after`, here in the view and wherever somebody asks how
a message stood at another time (`state_after`): there is one such code, so the answers cannot differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from heapq import merge

import msgspec

from relay.characters import UNICODE_VERSION, comparable
from relay.codec import Recorded
from relay.events import (
    FORWARD_CATEGORY,
    NOTICE_CATEGORIES,
    AttemptInterrupted,
    AttemptStarted,
    DsnQueued,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageDeferred,
    MessageEvent,
    MessageQueued,
    MessageRescheduled,
    MessageSent,
    Notice,
    Outcome,
    PayloadErased,
)
from relay.views.keys import owned, read_u64, two_u64, u64
from spool.record import sha256
from spool.views import Snapshot, Transaction

_MESSAGES = "messages"
_TIMELINE = "timeline"
_BY_MEMBER = "by_member"
_BY_STATUS = "by_status"
#: Member, digest of the recipient, status, message id: for who asks for a recipient and a status at once. Who asks for
#: a recipient alone is given the four ranges of its statuses, merged.
_BY_RECIPIENT = "by_recipient"
#: Message id -> the digest in its key of `by_recipient`. Both rows go when the message's personal data do: a digest of
#: an address gives the address away to whoever guesses it.
_RECIPIENT_OF = "recipient_of"
#: Member, tag, status, message id: of messages that have a tag.
_BY_TAG = "by_tag"
#: Member, class of its last failure, message id: of messages whose last attempt came to nothing.
_BY_CLASS = "by_class"
_STATUS_COUNTS = "status_counts"

#: The words of SPEC 2, and the byte that stands for each in a table key.
STATUSES = ("queued", "deferred", "sent", "bounced")
_STATUS_BYTE = {status: bytes([number]) for number, status in enumerate(STATUSES)}
FINAL = ("sent", "bounced")
WAITING = ("queued", "deferred")


class MessageState(msgspec.Struct, array_like=True):
    message_id: int
    did: str
    domain: str
    category: str
    #: Sequence number of its `send.accepted`; of a notice, which nobody sent, its own.
    send_seq: int
    status: str
    accepted_at: int
    give_up_at: int
    #: When it is tried next; None once it is final.
    next_attempt_at: int | None
    #: Attempts begun.
    attempts: int = 0
    #: An attempt was started and has no outcome yet.
    attempting: bool = False
    #: Sequence number of the last outcome, which holds the last reply.
    outcome_seq: int | None = None
    final_at: int | None = None
    #: Of a DSN: the message whose bounce it tells of.
    about: int | None = None
    #: Sequence number of the report by which it failed, after its receiver had taken it.
    reported_seq: int | None = None
    #: Sequence number of the complaint that counts.
    complained_seq: int | None = None
    #: The report counts as a bounce does.
    report_counts: bool = False
    #: The time that its member has chosen for it, where that is not at once, as it stood at the first attempt: it is
    #: the message's Date. An order that moves a message that was tried before changes no byte of it, and so not this.
    scheduled_at: int | None = None
    #: Its member's word for what kind of mail it is.
    tag: str | None = None
    #: Whose receivers were last asked, in a word of `relay.providers`; None: nobody's yet, or events of before say not.
    provider: str | None = None
    #: Why its last attempt came to nothing (`relay.delivery.bounce_classes`), or why it failed, by the report of that;
    #: None where it was sent, or ended without an attempt.
    bounce_class: str | None = None

    @property
    def is_notice(self) -> bool:
        """Whether it is the relay's own word or mail that is passed on, and no mail of the member's."""
        return self.category in NOTICE_CATEGORIES

    @property
    def is_forward(self) -> bool:
        """Whether it is mail that came in and is passed on."""
        return self.category == FORWARD_CATEGORY


_state = msgspec.msgpack.Decoder(MessageState)
_encode = msgspec.msgpack.Encoder().encode


def recipient_key(did: str, address: str) -> bytes:
    """Prefix of a recipient's messages."""
    return owned(did) + _recipient_digest(address)


def tag_key(did: str, tag: str) -> bytes:
    """Prefix of a tag's messages. A tag holds no NUL, so no tag's prefix begins another's."""
    return owned(did) + tag.encode() + b"\0"


def class_key(did: str, bounce_class: str) -> bytes:
    """Prefix of the messages whose last attempt failed for this. No class's word begins another's with the NUL."""
    return owned(did) + bounce_class.encode() + b"\0"


def _recipient_digest(address: str) -> bytes:
    """Of an address as suppressions compare it. A digest, because an address is longer than a key may be."""
    return sha256(comparable(address).encode())[:16]


def recipient_digest(view: Snapshot, message_id: int) -> bytes | None:
    """What is equal for messages to the same recipient; None once that was erased."""
    return view.get(_RECIPIENT_OF, u64(message_id))


class MessagesProjector:
    name = "messages"
    #: Which characters fold to which is Unicode's, and grows with Python.
    version = 900 + UNICODE_VERSION
    tables = (
        _MESSAGES,
        _TIMELINE,
        _BY_MEMBER,
        _BY_STATUS,
        _BY_RECIPIENT,
        _RECIPIENT_OF,
        _BY_TAG,
        _BY_CLASS,
        _STATUS_COUNTS,
    )
    minds = (MessageQueued, Notice, MessageEvent, PayloadErased)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, (MessageQueued, Notice)):
            self._queued(tx, recorded, event)
        elif isinstance(event, MessageEvent):
            self._happened(tx, recorded, event)
        elif isinstance(event, PayloadErased):
            self._erased(tx, event)

    def _queued(self, tx: Transaction, recorded: Recorded, event: MessageQueued | Notice) -> None:
        seq = recorded.seq
        if isinstance(event, DsnQueued):
            original = message(tx, event.about)
            assert original is not None, f"a DSN about message {event.about}, which was never queued"
            told = (original.outcome_seq, original.reported_seq)
            assert seq - 1 in told, f"a DSN about message {event.about} apart from what it tells of"
            # "What happened to my mail" is answered in one place.
            tx.put(_TIMELINE, two_u64(event.about, seq), b"")
        state = begun(recorded)
        key, owner = u64(seq), owned(event.did)
        by_status = _STATUS_BYTE["queued"] + key
        tx.put(_MESSAGES, key, _encode(state))
        tx.put(_TIMELINE, key + key, b"")
        tx.put(_BY_MEMBER, owner + key, b"")
        tx.put(_BY_STATUS, owner + by_status, b"")
        if event.personal is not None:
            digest = _recipient_digest(event.personal.address)
            tx.put(_BY_RECIPIENT, owner + digest + by_status, b"")
            tx.put(_RECIPIENT_OF, key, digest)
        if state.tag is not None:
            tx.put(_BY_TAG, tag_key(event.did, state.tag) + by_status, b"")
        _count(tx, "queued", 1)

    def _erased(self, tx: Transaction, event: PayloadErased) -> None:
        for message_id in event.message_ids:
            digest = tx.get(_RECIPIENT_OF, u64(message_id))
            if digest is not None:  # None where this is folded after the payload was removed
                state = message(tx, message_id)
                assert state is not None
                tx.delete(_RECIPIENT_OF, u64(message_id))
                key = owned(event.did) + digest + _STATUS_BYTE[state.status] + u64(message_id)
                tx.delete(_BY_RECIPIENT, key)

    def _happened(self, tx: Transaction, recorded: Recorded, event: MessageEvent) -> None:
        key = u64(event.message_id)
        value = tx.get(_MESSAGES, key)
        assert value is not None, f"{event.TYPE} for message {event.message_id}, which was never queued"
        before = _state.decode(value)
        tx.put(_TIMELINE, two_u64(event.message_id, recorded.seq), b"")
        state = after(before, recorded)
        if state != before:
            tx.put(_MESSAGES, key, _encode(state))
        if state.bounce_class != before.bounce_class:
            if before.bounce_class is not None:
                tx.delete(_BY_CLASS, class_key(event.did, before.bounce_class) + key)
            if state.bounce_class is not None:
                tx.put(_BY_CLASS, class_key(event.did, state.bounce_class) + key, b"")
        if state.status != before.status:
            owner = owned(event.did)
            tx.delete(_BY_STATUS, owner + _STATUS_BYTE[before.status] + key)
            tx.put(_BY_STATUS, owner + _STATUS_BYTE[state.status] + key, b"")
            digest = tx.get(_RECIPIENT_OF, key)
            if digest is not None:
                tx.delete(_BY_RECIPIENT, owner + digest + _STATUS_BYTE[before.status] + key)
                tx.put(_BY_RECIPIENT, owner + digest + _STATUS_BYTE[state.status] + key, b"")
            if state.tag is not None:
                of_tag = tag_key(event.did, state.tag)
                tx.delete(_BY_TAG, of_tag + _STATUS_BYTE[before.status] + key)
                tx.put(_BY_TAG, of_tag + _STATUS_BYTE[state.status] + key, b"")
            _count(tx, before.status, -1)
            _count(tx, state.status, 1)


def begun(recorded: Recorded) -> MessageState:
    """The state of a message right after it was queued."""
    seq, event = recorded.seq, recorded.event
    assert isinstance(event, (MessageQueued, Notice))
    return MessageState(
        message_id=seq,
        did=event.did,
        domain=event.domain,
        category=event.category,
        send_seq=seq - event.index if isinstance(event, MessageQueued) else seq,
        status="queued",
        accepted_at=recorded.time_us,
        give_up_at=event.give_up_at,
        next_attempt_at=event.next_attempt_at,
        about=event.about if isinstance(event, DsnQueued) else None,
        scheduled_at=event.next_attempt_at if isinstance(event, MessageQueued) and event.scheduled else None,
        tag=event.tag if isinstance(event, MessageQueued) else None,
    )


def after(before: MessageState, recorded: Recorded) -> MessageState:
    """The state of a message after another event of its timeline."""
    event = recorded.event
    if isinstance(event, MessageBounceReported | MessageComplained):
        return _reported(before, recorded.seq, event)
    if before.final_at is not None:
        return before  # nothing rewrites what is final; that it was recorded at all, the timeline shows
    state = msgspec.structs.replace(before)
    match event:
        case AttemptStarted():
            state.attempts = event.attempt
            state.attempting = True
            state.next_attempt_at = event.next_attempt_at
        case AttemptInterrupted():
            state.attempting = False
            state.next_attempt_at = event.next_attempt_at
        case MessageRescheduled():
            state.next_attempt_at = event.next_attempt_at
            if event.give_up_at is not None:
                state.give_up_at = event.give_up_at
            if state.scheduled_at is not None and not state.attempts:
                state.scheduled_at = event.next_attempt_at
        case MessageDeferred():
            state.status = "deferred"
            state.next_attempt_at = event.next_attempt_at
        case MessageSent() | MessageBounced():
            state.status = "sent" if isinstance(event, MessageSent) else "bounced"
            state.next_attempt_at = None
            state.final_at = recorded.time_us
        case _:
            pass  # it is part of the story, and changes nothing
    if isinstance(event, Outcome):
        state.attempting = False
        state.attempts = max(state.attempts, event.attempt)
        state.outcome_seq = recorded.seq
        state.provider = event.provider or state.provider
        if state.reported_seq is None:
            state.bounce_class = event.bounce_class
    return state


def _reported(
    before: MessageState, seq: int, event: MessageBounceReported | MessageComplained
) -> MessageState:
    """What somebody says later changes no status. Of several that say the same, the first does it."""
    if isinstance(event, MessageBounceReported):
        if event.is_failure and before.reported_seq is None:
            return msgspec.structs.replace(
                before,
                reported_seq=seq,
                report_counts=event.counts,
                bounce_class=event.bounce_class or before.bounce_class,
            )
    elif event.authenticated and before.complained_seq is None:
        return msgspec.structs.replace(before, complained_seq=seq)
    return before


def message_id_of(recorded: Recorded) -> int:
    """Of an event that is about a message: which one."""
    event = recorded.event
    assert event.ABOUT == "message", f"{event.TYPE} is about no message"
    return event.message_id if isinstance(event, MessageEvent) else recorded.seq


def state_after(story: Iterable[Recorded]) -> MessageState:
    """The state of a message after the first events of its timeline, which begins with its being queued."""
    events = iter(story)
    state = begun(next(events))
    for recorded in events:
        state = after(state, recorded)
    return state


def _count(tx: Transaction, status: str, change: int) -> None:
    value = tx.get(_STATUS_COUNTS, status.encode())
    tx.put(_STATUS_COUNTS, status.encode(), u64((read_u64(value) if value else 0) + change))


def message(view: Snapshot, message_id: int) -> MessageState | None:
    value = view.get(_MESSAGES, u64(message_id))
    return None if value is None else _state.decode(value)


def message_with(view: Snapshot, message_id: int, words: Iterable[bytes]) -> MessageState | None:
    """As `message`; None as well where one of these words stands nowhere in its state. To see that takes a third of the
    time of reading the state. One that is given may have a word in another place than was thought of."""
    value = view.get(_MESSAGES, u64(message_id))
    return None if value is None else _with(value, words)


def _with(value: bytes, words: Iterable[bytes]) -> MessageState | None:
    for word in words:
        if word not in value:
            return None
    return _state.decode(value)


def all_messages(view: Snapshot) -> Iterator[MessageState]:
    """Every message of every member, in the order of their ids."""
    for _, value in view.scan(_MESSAGES):
        yield _state.decode(value)


def has_personal_data(view: Snapshot, message_id: int) -> bool:
    """Whether nobody has erased them."""
    return view.get(_RECIPIENT_OF, u64(message_id)) is not None


def messages_of_send(view: Snapshot, send_seq: int) -> Iterator[MessageState]:
    """In the order of the recipients: they stand right behind their send."""
    message_id = send_seq + 1
    while (state := message(view, message_id)) is not None and state.send_seq == send_seq:
        yield state
        message_id += 1


def dsn_about(view: Snapshot, state: MessageState) -> MessageState | None:
    """The notification of this message's bounce, which stands right behind that, or behind the report of it."""
    return next(iter(dsns_about(view, state)), None)


def dsns_about(view: Snapshot, state: MessageState) -> list[MessageState]:
    """Of one message there is one, but where a report came at the very moment at which the attempt ended."""
    behind = [message(view, told + 1) for told in (state.outcome_seq, state.reported_seq) if told is not None]
    return [dsn for dsn in behind if dsn is not None and dsn.about == state.message_id]


def timeline(view: Snapshot, message_id: int) -> list[int]:
    """Sequence numbers of all events of a message, in log order."""
    return [read_u64(key, 8) for key, _ in view.scan_prefix(_TIMELINE, u64(message_id))]


def messages_of(
    view: Snapshot,
    did: str,
    *,
    status: str | None = None,
    recipient: str | None = None,
    tag: str | None = None,
    before: int | None = None,
) -> Iterator[MessageState]:
    """A member's messages, newest first; `before` is the message id to go on from. No index has both a recipient and a
    tag.

    Whatever the filter, what is read is what is given, and at most one more for each status.
    """
    assert recipient is None or tag is None
    for message_id in ids_of(view, did, status=status, recipient=recipient, tag=tag, before=before):
        state = message(view, message_id)
        assert state is not None
        yield state


def _newest_first(view: Snapshot, table: str, prefix: bytes, before: int | None) -> Iterator[int]:
    """The message ids behind a prefix."""
    stop = None if before is None else prefix + u64(before)
    for key, _ in view.scan_prefix(table, prefix, before=stop, reverse=True):
        yield read_u64(key, len(key) - 8)


def waiting_of(
    view: Snapshot, did: str, status: str, *, after: int = 0, until: int = 2**63
) -> Iterator[MessageState]:
    """A member's messages of a status (`WAITING`), in the order of their ids, in (after, until]."""
    prefix = owned(did) + _STATUS_BYTE[status]
    for key, _ in view.scan(_BY_STATUS, prefix + u64(after + 1), prefix + u64(until + 1)):
        state = message(view, read_u64(key, len(prefix)))
        assert state is not None
        yield state


def first_with_personal_data(view: Snapshot) -> int | None:
    """The oldest message, of anybody, whose personal data nobody has erased."""
    return next((read_u64(key) for key, _ in view.scan(_RECIPIENT_OF)), None)


def status_counts(view: Snapshot) -> dict[str, int]:
    """How many messages there are of each status."""
    found = {key.decode(): read_u64(value) for key, value in view.scan(_STATUS_COUNTS)}
    return {status: found.get(status, 0) for status in STATUSES}


def ids_of(
    view: Snapshot,
    did: str,
    *,
    status: str | None = None,
    recipient: str | None = None,
    tag: str | None = None,
    bounce_class: str | None = None,
    before: int | None = None,
) -> Iterator[int]:
    """As `messages_of`, the message ids alone; by one of recipient, class and tag, the first that is given."""
    wanted = STATUSES if status is None else (status,)
    if recipient is not None:
        of_recipient = recipient_key(did, recipient)
        ranges = [(_BY_RECIPIENT, of_recipient + _STATUS_BYTE[each]) for each in wanted]
    elif bounce_class is not None:
        ranges = [(_BY_CLASS, class_key(did, bounce_class))]
    elif tag is not None:
        ranges = [(_BY_TAG, tag_key(did, tag) + _STATUS_BYTE[each]) for each in wanted]
    elif status is not None:
        ranges = [(_BY_STATUS, owned(did) + _STATUS_BYTE[status])]
    else:
        ranges = [(_BY_MEMBER, owned(did))]
    return merge(*(_newest_first(view, *each, before) for each in ranges), reverse=True)


def all_with(
    view: Snapshot, words: Collection[bytes], *, before: int | None = None
) -> Iterator[tuple[int, MessageState | None]]:
    """Every message of everybody, newest first: its id, and what `message_with` says of it."""
    stop = None if before is None else u64(before)
    for key, value in view.scan(_MESSAGES, b"", stop, reverse=True):
        yield read_u64(key), _with(value, words)


def first_accepted_from(view: Snapshot, time_us: int) -> int:
    """Where messages begin that were accepted at that time or later: all of these have this id or a greater one, and
    all others have smaller ones. (No record's time is before that of another one before it.)"""
    low, high = 0, view.position + 1
    while low < high:
        middle = (low + high) // 2
        found = next(view.scan(_MESSAGES, u64(middle)), None)
        if found is None or _state.decode(found[1]).accepted_at >= time_us:
            high = middle
        else:
            low = read_u64(found[0]) + 1
    return low


def is_to(view: Snapshot, message_id: int, recipient: str) -> bool:
    """Whether it goes to this address, as addresses are compared; also False once that was erased."""
    return recipient_digest(view, message_id) == _recipient_digest(recipient)


def states_from(view: Snapshot, message_id: int) -> Iterator[MessageState]:
    """Of everybody's messages, in the order of their ids, from this one on."""
    for _, value in view.scan(_MESSAGES, u64(message_id)):
        yield _state.decode(value)
