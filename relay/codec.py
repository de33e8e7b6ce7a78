"""Events to log entries and back.

A skeleton is canonical CBOR (RFC 8949, 4.2.1) of a map: `type`, `v` and the event's own fields. A payload is CBOR of
the `personal` part. Fields that have their default value are left out of both.

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

#: (type, version) -> skeleton and payload of version + 1.
Upcast = Callable[[dict[str, Any], dict[str, Any] | None], tuple[dict[str, Any], dict[str, Any] | None]]


def _unchanged(
    skeleton: dict[str, Any], payload: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """All that is new has a default."""
    return skeleton, payload


UPCASTS: Mapping[tuple[str, int], Upcast] = {
    ("message.held", 1): _unchanged,
    # Version 2 can have a `bounce_class`. It is not guessed for what was written without one: a view must not change
    # whenever a rule does.
    ("message.deferred", 1): _unchanged,
    ("message.sent", 1): _unchanged,
    ("message.bounced", 1): _unchanged,
}


class UnknownEventError(Exception):
    """The log holds an event that this version of the relay cannot read: most likely written by a newer one."""


class Recorded(NamedTuple):
    """An event and where in the log's order it stands."""

    seq: int
    time_us: int
    event: Event


def encode(event: Event) -> Entry:
    fields = msgspec.to_builtins(event)  # without those that have their default value
    personal = fields.pop("personal", None)
    skeleton = cbor2.dumps({"type": event.TYPE, "v": event.VERSION, **fields}, canonical=True)
    return Entry(skeleton, None if personal is None else cbor2.dumps(personal))


def decode(record: Record) -> Recorded:
    """The typed event of a record. Raises UnknownEventError, never guesses."""
    try:
        skeleton = cbor2.loads(record.skeleton)
        payload = None if record.payload is None else cbor2.loads(record.payload)
        name, version = skeleton.pop("type"), skeleton.pop("v")
        event_type = EVENT_TYPES.get(name)
    except (cbor2.CBORDecodeError, AttributeError, KeyError, TypeError) as error:
        raise UnknownEventError(f"record {record.seq} does not hold an event: {error!r}") from error
    if event_type is None or version not in range(1, event_type.VERSION + 1):
        raise UnknownEventError(
            f"record {record.seq} holds {name!r} version {version}, which this version of the relay does not know"
        )
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
        data["personal"] = cbor2.loads(record.payload)
    return {"type": skeleton.get("type"), "version": skeleton.get("v"), "data": data}
