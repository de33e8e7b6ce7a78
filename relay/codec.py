"""Events to log entries and back.

A skeleton is canonical CBOR (RFC 8949, 4.2.1) of a map: `type`, `v` and the event's own fields. A payload is CBOR of
the `personal` part. Fields that have their default value are left out of both.

A payload that the relay writes also holds BLIND_OCTETS of chance, under a key that is no field's name. Its SHA-256
stays in the log when it is removed, and without them whoever has the log could try out which address it was. They go
with it. (Logs of before hold payloads without.)

Reading an old version casts it up, one version at a time, by the pure functions of `UPCASTS`; reading a type that
this code does not know raises `UnknownEventError`, which stops whoever folds: a view that skipped an event would be a
lie. The tools show such records raw (`decode_raw`).

Where several machines have the log, some run an older version of the relay for a while, while they are upgraded one by
one. What one of them cannot read yet is written as it can (`encode_as`), by the pure functions of `DOWNCASTS`, or not
at all. So **whoever adds a version, or a type, says there what becomes of it meanwhile**.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import cbor2
import msgspec

from relay.events import EVENT_TYPES, Event
from spool.record import Entry, Record

BLIND_OCTETS = 16
_BLIND = ""

#: (type, version) -> skeleton and payload of version + 1.
Upcast = Callable[[dict[str, Any], dict[str, Any] | None], tuple[dict[str, Any], dict[str, Any] | None]]


def _unchanged(
    skeleton: dict[str, Any], payload: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """All that is new has a default."""
    return skeleton, payload


def _one_of_many(
    skeleton: dict[str, Any], payload: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """There could be one Reply-To only."""
    if payload is None or "reply_to" not in payload:
        return skeleton, payload
    return skeleton, {**payload, "reply_to": [payload["reply_to"]]}


UPCASTS: Mapping[tuple[str, int], Upcast] = {
    ("message.held", 1): _unchanged,
    # What was accepted before version 2 is composed by the first rules for ever.
    ("send.accepted", 1): _unchanged,
    # There was no door but HTTP.
    ("send.accepted", 2): _unchanged,
    ("send.accepted", 3): _one_of_many,
    ("message.queued", 1): _unchanged,
    ("message.rescheduled", 1): _unchanged,
    ("dsn.queued", 1): _unchanged,
    ("dsn.queued", 2): _unchanged,
    # Nobody was asked then.
    ("domain.forward_set", 1): _unchanged,
    # Version 2 can have a `bounce_class`. It is not guessed for what was written without one: a view must not change
    # whenever a rule does.
    ("message.deferred", 1): _unchanged,
    ("message.sent", 1): _unchanged,
    ("message.bounced", 1): _unchanged,
    ("message.bounced", 2): _unchanged,
    # Nor is a `provider`.
    ("message.deferred", 2): _unchanged,
    ("message.sent", 2): _unchanged,
    ("message.bounced", 3): _unchanged,
    # Every key was good for everything, and all were the operator's doing.
    ("key.issued", 1): _unchanged,
    ("key.revoked", 1): _unchanged,
    # They stopped everything, and released everything at once.
    ("domain.paused", 1): _unchanged,
    ("domain.resumed", 1): _unchanged,
    ("member.resumed", 1): _unchanged,
    ("message.complained", 1): _unchanged,
    # Who ordered it was not written down.
    ("member.added", 1): _unchanged,
    ("member.suspended", 1): _unchanged,
    ("member.resumed", 2): _unchanged,
    ("member.limits_set", 1): _unchanged,
    ("key.issued", 2): _unchanged,
    ("key.revoked", 2): _unchanged,
    ("domain.added", 1): _unchanged,
    ("domain.paused", 2): _unchanged,
    ("domain.resumed", 2): _unchanged,
    ("domain.forward_set", 2): _unchanged,
    ("recipient.suppressed", 1): _unchanged,
    ("recipient.unsuppressed", 1): _unchanged,
    # Only what belonged to a message, or was a send, was ever removed.
    ("payload.erased", 1): _unchanged,
}

#: (type, version) -> skeleton and payload of version - 1, or None where that cannot say what this event does.
Downcast = Callable[
    [dict[str, Any], dict[str, Any] | None], tuple[dict[str, Any], dict[str, Any] | None] | None
]

#: One for each type and version that the first relays of several machines could not read; all others can be read by
#: every node. None in a function's place: it is never said in the version before, or there is none before.
#:
#: What cannot be said is refused as long as a node could not read it; and where nobody asked for it, who could be
#: refused, that ends the relay. So an event that records what has happened in the world (the outcome of an attempt,
#: say) needs a function that leaves out what is new and says the rest; and a type that the relay writes by itself is
#: read by one release, and written by a later one.
DOWNCASTS: Mapping[tuple[str, int], Downcast | None] = {}


class UnknownEventError(Exception):
    """The log holds an event that this version of the relay cannot read: most likely written by a newer one."""


class UnsayableError(Exception):
    """This event cannot be said in so old a version."""


class NotRead(NamedTuple):
    """What of one type of events not all nodes can read."""

    #: The highest version that all can; 0: none.
    version: int
    #: Which node it is that can read no other, in words that a sentence begins with.
    because: str


class Recorded(NamedTuple):
    """An event and where in the log's order it stands."""

    seq: int
    time_us: int
    event: Event


def encode(event: Event, chance: Callable[[int], bytes] | None = None) -> Entry:
    """`chance(n)`: n octets that nobody can guess; None where it does not matter, as in tests."""
    # Without those that have their default value. Octets stay octets.
    fields = msgspec.to_builtins(event, builtin_types=(bytes,))
    return _entry(event.TYPE, event.VERSION, fields, fields.pop("personal", None), chance)


def encode_as(event: Event, version: int, chance: Callable[[int], bytes] | None = None) -> Entry:
    """As `encode`, in a version that is not higher than this one. Raises `UnsayableError`."""
    fields = msgspec.to_builtins(event, builtin_types=(bytes,))
    personal = fields.pop("personal", None)
    for newer in range(event.VERSION, version, -1):
        downcast = DOWNCASTS.get((event.TYPE, newer))
        said = None if downcast is None else downcast(fields, personal)
        if said is None:
            raise UnsayableError(f"{event.TYPE} version {newer} cannot be said in the version before")
        fields, personal = said
    return _entry(event.TYPE, min(version, event.VERSION), fields, personal, chance)


def _entry(
    name: str,
    version: int,
    fields: dict[str, Any],
    personal: dict[str, Any] | None,
    chance: Callable[[int], bytes] | None,
) -> Entry:
    skeleton = cbor2.dumps({"type": name, "v": version, **fields}, canonical=True)
    if personal is None:
        return Entry(skeleton)
    if chance is not None:
        personal[_BLIND] = chance(BLIND_OCTETS)
    return Entry(skeleton, cbor2.dumps(personal))


def _payload_of(record: Record) -> Any:
    """Without what blinds it; None where it has none, or has it no more."""
    if record.payload is None:
        return None
    payload = cbor2.loads(record.payload)
    if isinstance(payload, dict):
        payload.pop(_BLIND, None)
    return payload


def decode(record: Record, skeleton: Any = None) -> Recorded:
    """The typed event of a record. Raises UnknownEventError, never guesses.

    `skeleton`: what the record's holds, where that was read before. It is used up.
    """
    try:
        if skeleton is None:
            skeleton = cbor2.loads(record.skeleton)
        payload = _payload_of(record)
        name, version = skeleton.pop("type"), skeleton.pop("v")
        event_type = EVENT_TYPES.get(name)
    except (cbor2.CBORDecodeError, AttributeError, KeyError, TypeError) as error:
        raise UnknownEventError(f"record {record.seq} does not hold an event: {error!r}") from error
    # There is also what only equals a number: true, 1.0, CBOR's simple value 1.
    if event_type is None or type(version) is not int or not 1 <= version <= event_type.VERSION:
        raise UnknownEventError(
            f"record {record.seq} holds {name!r} version {version}, which this version of the relay does not know"
        )
    # What casts it up takes it for granted.
    if payload is not None and not isinstance(payload, dict):
        raise UnknownEventError(f"record {record.seq} has a payload that is no map")
    while version < event_type.VERSION:
        skeleton, payload = UPCASTS[name, version](skeleton, payload)
        version += 1
    if payload is not None:
        skeleton["personal"] = payload
    try:
        event = msgspec.convert(skeleton, event_type)
    except msgspec.ValidationError as error:
        raise UnknownEventError(
            f"record {record.seq} holds {name!r} version {version}, but not as this version of the relay knows it: "
            f"{error}"
        ) from error
    # Half of what `Recorded(...)` costs.
    return tuple.__new__(Recorded, (record.seq, record.time_us, event))


def versions_read_here() -> dict[str, int]:
    """Type of an event -> the highest version of it that this version of the relay can read."""
    return {name: event.VERSION for name, event in EVENT_TYPES.items()}


def versions_read_by_all() -> dict[str, int]:
    """Type of an event -> the version of it that every relay can read that could be one of several machines."""
    versions = versions_read_here()
    for name in versions:
        while (name, versions[name]) in DOWNCASTS:
            versions[name] -= 1
    return versions


class Skeletons:
    """Skeletons of records that another node has written, looked at before they are taken, and so before they are
    folded: what was read for that is not read again for the fold.
    """

    def __init__(self) -> None:
        #: Sequence number -> the octets, and what they hold, until that is folded.
        self._read: dict[int, tuple[bytes, Any]] = {}

    def unread(self, seq: int, skeleton: bytes, versions: Mapping[str, int]) -> str | None:
        """What this skeleton holds, in words, where that is no event of one of these types, at most of these versions.
        None: it is."""
        try:
            said = cbor2.loads(skeleton)
            name, version = said["type"], said["v"]
            highest = versions.get(name, 0)
        except (cbor2.CBORDecodeError, KeyError, TypeError) as error:
            return f"what is no event ({error!r})"
        if type(version) is int and 0 < version <= highest:
            if len(self._read) >= _SKELETONS_MAX:  # these have never come
                self._read.clear()
            self._read[seq] = skeleton, said
            return None
        return f"{str(name)[:100]!r} version {str(version)[:20]}"

    def decode(self, record: Record) -> Recorded:
        """As the function. The same octets: no others were looked at."""
        octets, said = self._read.pop(record.seq, _NONE_READ)
        return decode(record, said if octets is record.skeleton else None)


_NONE_READ: Final = None, None
#: More than are checked before they are folded (`spool.replicated.following.READ_BYTES`).
_SKELETONS_MAX: Final = 20_000


def decode_raw(record: Record) -> dict[str, Any]:
    """Type, version and data of any record, known to this code or not, for showing it."""
    skeleton = cbor2.loads(record.skeleton)
    data = {key: value for key, value in skeleton.items() if key not in ("type", "v")}
    if record.payload is not None:
        data["personal"] = _payload_of(record)
    return {"type": skeleton.get("type"), "version": skeleton.get("v"), "data": data}
