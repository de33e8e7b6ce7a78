"""Events to log entries and back.

A skeleton is canonical CBOR (RFC 8949, 4.2.1) of a map: `type`, `v` and the event's own fields. A payload is CBOR of
the `personal` part. Fields that have their default value are left out of both.

A payload that the relay writes also holds BLIND_OCTETS of chance, under a key that is no field's name. Its SHA-256
stays in the log when it is removed, and without them whoever has the log could try out which address it was. They go
with it. (Logs of before hold payloads without.)

Reading an old version casts it up, one version at a time, by the pure functions of `UPCASTS`; reading a type that
this code does not know raises `UnknownEventError`, which stops whoever folds: a view that skipped an event would be a
lie. The tools show such records raw (`decode_raw`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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


class UnknownEventError(Exception):
    """The log holds an event that this version of the relay cannot read: most likely written by a newer one."""


class Recorded(NamedTuple):
    """An event and where in the log's order it stands."""

    seq: int
    time_us: int
    event: Event


def encode(event: Event, chance: Callable[[int], bytes] | None = None) -> Entry:
    """`chance(n)`: n octets that nobody can guess; None where it does not matter, as in tests."""
    # Without those that have their default value. Octets stay octets.
    fields = msgspec.to_builtins(event, builtin_types=(bytes,))
    personal = fields.pop("personal", None)
    skeleton = cbor2.dumps({"type": event.TYPE, "v": event.VERSION, **fields}, canonical=True)
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


def decode(record: Record) -> Recorded:
    """The typed event of a record. Raises UnknownEventError, never guesses."""
    try:
        skeleton = cbor2.loads(record.skeleton)
        payload = _payload_of(record)
        name, version = skeleton.pop("type"), skeleton.pop("v")
        event_type = EVENT_TYPES.get(name)
    except (cbor2.CBORDecodeError, AttributeError, KeyError, TypeError) as error:
        raise UnknownEventError(f"record {record.seq} does not hold an event: {error!r}") from error
    # A range also holds what only equals one of its numbers: true, 1.0, CBOR's simple value 1.
    if event_type is None or type(version) is not int or version not in range(1, event_type.VERSION + 1):
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
        return Recorded(record.seq, record.time_us, msgspec.convert(skeleton, event_type))
    except msgspec.ValidationError as error:
        raise UnknownEventError(
            f"record {record.seq} holds {name!r} version {version}, but not as this version of the relay knows it: "
            f"{error}"
        ) from error


def decode_raw(record: Record) -> dict[str, Any]:
    """Type, version and data of any record, known to this code or not, for showing it."""
    skeleton = cbor2.loads(record.skeleton)
    data = {key: value for key, value in skeleton.items() if key not in ("type", "v")}
    if record.payload is not None:
        data["personal"] = _payload_of(record)
    return {"type": skeleton.get("type"), "version": skeleton.get("v"), "data": data}
