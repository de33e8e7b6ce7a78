"""What is in a log stays readable: every version of every event has its bytes on file, and they never change."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, get_args

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import codec
from relay.codec import UnknownEventError, decode, encode
from relay.events import EVENT_TYPES, Event, MemberAdded, MessageQueued
from spool.record import Entry
from tests.golden_events import literals
from tests.golden_events.literals import ACCEPTED_AT_US, EVENTS, recorded

KINDS = sorted(EVENTS)
CURRENT = [(name, version) for name, version in KINDS if version == EVENT_TYPES[name].VERSION]
WITH_PAYLOAD = [kind for kind in CURRENT if EVENTS[kind].personal is not None]


def id_of(kind: tuple[str, int]) -> str:
    return f"{kind[0]}.v{kind[1]}"


# ------------------------------------------------------------------------------------------------ the files


def test_every_version_of_every_event_has_a_file_and_every_file_an_event() -> None:
    expected = {
        literals.path_of(name, version).name
        for name, event_type in EVENT_TYPES.items()
        for version in range(1, event_type.VERSION + 1)
    }
    assert {path.name for path in literals.HERE.glob("*.txt")} == expected
    assert {literals.path_of(*kind).name for kind in KINDS} == expected


@pytest.mark.parametrize("kind", KINDS, ids=id_of)
def test_the_bytes_on_file_decode_to_the_event(kind: tuple[str, int]) -> None:
    golden = literals.read(*kind)
    found = decode(recorded(golden.entry, seq=7))
    assert found == (7, ACCEPTED_AT_US, EVENTS[kind])
    assert type(found.event) is type(EVENTS[kind])


@pytest.mark.parametrize("kind", CURRENT, ids=id_of)
def test_the_event_encodes_to_the_bytes_on_file(kind: tuple[str, int]) -> None:
    assert encode(EVENTS[kind]) == literals.read(*kind).entry


@pytest.mark.parametrize("kind", KINDS, ids=id_of)
def test_the_readable_form_on_file_is_that_of_the_bytes(kind: tuple[str, int]) -> None:
    golden = literals.read(*kind)
    assert msgspec.to_builtins(codec.decode_raw(recorded(golden.entry))) == golden.readable


@pytest.mark.parametrize("kind", CURRENT, ids=id_of)
def test_no_field_of_the_event_is_missing_from_the_bytes_on_file(kind: tuple[str, int]) -> None:
    defaulted = list(fields_with_default_value(EVENTS[kind]))
    # Where an event has no payload, this is the one field that it leaves out.
    expected = [] if kind in WITH_PAYLOAD else ["personal"]
    assert defaulted == expected


def fields_with_default_value(value: msgspec.Struct) -> Iterator[str]:
    for field in msgspec.structs.fields(value):
        found = getattr(value, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if found == default:
            yield field.name
        elif isinstance(found, msgspec.Struct):
            yield from fields_with_default_value(found)


@pytest.mark.parametrize("kind", WITH_PAYLOAD, ids=id_of)
def test_an_event_whose_payload_was_stripped_has_no_personal_part(kind: tuple[str, int]) -> None:
    skeleton_alone = literals.read(*kind).entry._replace(payload=None)
    assert decode(recorded(skeleton_alone)).event == msgspec.structs.replace(EVENTS[kind], personal=None)


def test_nothing_personal_is_in_a_skeleton() -> None:
    for kind in WITH_PAYLOAD:
        skeleton = literals.read(*kind).readable["data"]
        personal = list(words_of(skeleton.pop("personal")))
        assert personal
        kept = list(words_of(skeleton))
        assert [(word, value) for word in personal for value in kept if word in value] == []


def words_of(value: Any) -> Iterator[str]:
    """The strings in a payload that are long enough to be told from chance."""
    if isinstance(value, str):
        if len(value) > 4:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from words_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from words_of(item)


# ------------------------------------------------------------------------------------------------ the form of the bytes


def is_canonical(octets: bytes) -> bool:
    """RFC 8949, 4.2.1: shortest heads, definite lengths, keys in the order of their encodings."""
    value = cbor2.loads(octets)
    keys = [cbor2.dumps(key) for key in value]
    return cbor2.dumps(value) == octets and keys == sorted(keys)


@pytest.mark.parametrize("kind", KINDS, ids=id_of)
def test_skeletons_are_canonical(kind: tuple[str, int]) -> None:
    assert is_canonical(literals.read(*kind).entry.skeleton)


@pytest.mark.parametrize(
    ("octets", "flaw"),
    [
        ("a2617601616101", "keys out of order"),
        ("a161761801", "1 in two bytes"),
        ("bf617601ff", "indefinite length"),
    ],
)
def test_what_is_not_canonical_would_be_seen(octets: str, flaw: str) -> None:
    assert not is_canonical(bytes.fromhex(octets)), flaw


# ------------------------------------------------------------------------------------------------ round trip


def values_of(wanted: Any) -> st.SearchStrategy[Any]:
    if isinstance(wanted, UnionType):
        return st.one_of([values_of(part) for part in get_args(wanted)])
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return structs(wanted)
    if wanted is Any or wanted is NoneType:
        return st.none()
    if wanted is int:
        return st.integers(0, 2**63 - 1)
    return st.from_type(wanted)


def structs(wanted: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Any value of a struct; its defaults often, because they are left out of the bytes."""
    required, optional = {}, {}
    for field in msgspec.structs.fields(wanted):
        (required if field.required else optional)[field.name] = values_of(field.type)
    fields = st.fixed_dictionaries(required, optional=optional)
    return fields.map(lambda chosen: wanted(**chosen))


@settings(derandomize=True)
@given(st.sampled_from(sorted(EVENT_TYPES)).flatmap(lambda name: structs(EVENT_TYPES[name])))
def test_any_event_comes_back_as_it_was(event: Event) -> None:
    entry = encode(event)
    found = decode(recorded(entry)).event
    assert found == event
    assert type(found) is type(event)
    assert encode(found) == entry
    assert is_canonical(entry.skeleton)


# ------------------------------------------------------------------------------------------------ unknown and old


def entry_of(skeleton: Any, payload: Any = None) -> Entry:
    return Entry(cbor2.dumps(skeleton, canonical=True), None if payload is None else cbor2.dumps(payload))


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        (entry_of({"type": "member.renamed", "v": 1, "did": "x"}), "'member.renamed' version 1"),
        (entry_of({"type": "member.added", "v": 3, "did": "x"}), "'member.added' version 3"),
        (entry_of({"type": "member.added", "v": 1, "did": "x", "name": "y"}), "name"),
        (entry_of({"type": "member.added", "v": 1}), "did"),
        (entry_of({"type": "member.added", "v": 1, "did": 5}), "did"),
        (entry_of({"type": "member.added", "v": 0, "did": "x"}), "'member.added' version 0"),
        (
            entry_of(
                {"type": "message.sent", "v": 1, "did": "x", "message_id": 1, "attempt": 1}, {"surprise": 1}
            ),
            "surprise",
        ),
        (entry_of({"type": "member.added", "v": "1", "did": "x"}), "'member.added'"),
        (entry_of({"type": "member.added", "v": True, "did": "x"}), "'member.added'"),
        (entry_of({"type": "message.sent", "v": 1.0, "did": "x"}), "'message.sent'"),
        (entry_of({"type": "message.sent", "v": cbor2.CBORSimpleValue(1), "did": "x"}), "'message.sent'"),
        (entry_of({"type": ["member.added"], "v": 1, "did": "x"}), "record 448"),
        # What casts these up would look into them.
        (entry_of({"type": "send.accepted", "v": 3, "did": "x"}, 5), "payload"),
        (entry_of({"type": "send.accepted", "v": 3, "did": "x"}, "reply_to"), "payload"),
        (entry_of({"type": "send.accepted", "v": 3, "did": "x"}, ["reply_to"]), "payload"),
        (entry_of({"did": "x"}), "record 448"),
        (entry_of([1, 2]), "record 448"),
        (Entry(b""), "record 448"),
        (Entry(b"\xff\x00"), "record 448"),
    ],
)
def test_what_this_relay_does_not_know_is_refused_and_named(entry: Entry, named: str) -> None:
    with pytest.raises(UnknownEventError, match="record 448") as raised:
        decode(recorded(entry))
    assert named in str(raised.value)


def test_the_tools_show_what_this_relay_does_not_know() -> None:
    entry = entry_of({"type": "member.renamed", "v": 9, "did": "x"}, {"name": "y"})
    assert codec.decode_raw(recorded(entry)) == {
        "type": "member.renamed",
        "version": 9,
        "data": {"did": "x", "personal": {"name": "y"}},
    }


class MemberAddedV3(MemberAdded, frozen=True, kw_only=True, omit_defaults=True):
    """What `member.added` may be one day."""

    VERSION = 3
    country: str
    name: str


def to_version_2(skeleton: dict[str, Any], payload: dict[str, Any] | None) -> Any:
    return {**skeleton, "country": "unknown"}, payload


def to_version_3(skeleton: dict[str, Any], payload: dict[str, Any] | None) -> Any:
    return {**skeleton, "name": f"of {skeleton['country']}"}, payload


def test_old_versions_are_cast_up_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EVENT_TYPES, "member.added", MemberAddedV3)
    upcasts = {("member.added", 1): to_version_2, ("member.added", 2): to_version_3}
    monkeypatch.setattr(codec, "UPCASTS", upcasts)
    versions = {
        1: entry_of({"type": "member.added", "v": 1, "did": "x"}),
        2: entry_of({"type": "member.added", "v": 2, "did": "x", "country": "nl"}),
        3: entry_of({"type": "member.added", "v": 3, "did": "x", "country": "nl", "name": "y"}),
    }
    found = {version: decode(recorded(entry)).event for version, entry in versions.items()}
    assert found == {
        1: MemberAddedV3(did="x", country="unknown", name="of unknown"),
        2: MemberAddedV3(did="x", country="nl", name="of nl"),
        3: MemberAddedV3(did="x", country="nl", name="y"),
    }


def test_an_upcast_sees_and_may_change_the_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    def shout(skeleton: dict[str, Any], payload: dict[str, Any] | None) -> Any:
        return skeleton, None if payload is None else {**payload, "given": payload["given"].upper()}

    class Louder(MessageQueued, frozen=True, kw_only=True, omit_defaults=True):
        VERSION = 2

    monkeypatch.setitem(EVENT_TYPES, "message.queued", Louder)
    monkeypatch.setattr(codec, "UPCASTS", {("message.queued", 1): shout})
    entry = literals.read("message.queued", 1).entry
    with_payload = decode(recorded(entry)).event.personal
    assert with_payload.given == "JÖRG <JÖRG@BÜCHER.EXAMPLE>"
    assert decode(recorded(entry._replace(payload=None))).event.personal is None


def test_every_old_version_has_its_way_up() -> None:
    old = {
        (name, version)
        for name, event_type in EVENT_TYPES.items()
        for version in range(1, event_type.VERSION)
    }
    assert set(codec.UPCASTS) == old
