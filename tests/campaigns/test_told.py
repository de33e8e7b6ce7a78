"""The judge of what clients were told finds what it is there to find."""

from __future__ import annotations

import json
from functools import cache

import pytest
from msgspec import structs

from relay.codec import Recorded
from relay.events import MessageQueued, SendAccepted
from tests.campaigns.story import simulate
from tests.campaigns.tally import Send, Violation
from tests.campaigns.told import Statuses, Told, accepted_keys, breaches_of_sends, hear, key_of

DID = "did:plc:" + "a" * 24


@cache
def log() -> list[Recorded]:
    """Of a calm life of a relay."""
    return simulate(2, faults=()).recorded


def told_of(events: list[Recorded]) -> Told:
    return {
        item.seq: (item.event.did, item.event.personal.given)
        for item in events
        if isinstance(item.event, MessageQueued) and item.event.personal is not None
    }


def test_what_was_told_is_there_once() -> None:
    told = told_of(log())
    assert len(told) > 10
    assert breaches_of_sends(log(), told) == []


def test_a_message_that_is_lost_or_is_another_ones_is_found() -> None:
    told = told_of(log())
    number = min(told)
    without = [item for item in log() if item.seq != number]
    assert any("does not have them" in breach for breach in breaches_of_sends(without, told))
    told[number] = told[number][0], "somebody.else@example.com"
    assert any("does not have them" in breach for breach in breaches_of_sends(log(), told))


def test_a_send_that_was_accepted_twice_is_found() -> None:
    some = next(item for item in log() if isinstance(item.event, SendAccepted))
    keyed = some._replace(event=structs.replace(some.event, idempotency_key="a hash"))
    assert accepted_keys([keyed]) == {(some.event.did, "a hash"): 1}
    assert breaches_of_sends([*log(), keyed], {}) == []
    assert any("more than once" in breach for breach in breaches_of_sends([*log(), keyed, keyed], {}))


def answer(*recipients: str, first: int = 7) -> bytes:
    accepted = [{"messageId": first + number, "recipient": one} for number, one in enumerate(recipients)]
    return json.dumps({"accepted": accepted}).encode()


def test_an_answer_is_heard_once_and_a_replay_is_the_same_octets() -> None:
    told: Told = {}
    send = Send(DID, "key", b"", ["a@example.com", "b@example.com"])
    body = answer("a@example.com", "b@example.com")
    assert hear(told, send, body) == [7, 8]
    assert told == {7: (DID, "a@example.com"), 8: (DID, "b@example.com")}
    assert hear(told, send, body) == []
    with pytest.raises(Violation, match="and then"):
        hear(told, send, body + b" ")
    assert key_of(send)[0] == DID


@pytest.mark.parametrize("body", [answer("b@example.com", first=9), answer("a@example.com", first=7)])
def test_an_answer_to_something_else_or_with_a_number_that_is_taken_is_refused(body: bytes) -> None:
    with pytest.raises(Violation):
        hear({7: (DID, "x@example.com")}, Send(DID, "key", b"", ["a@example.com"]), body)


def test_at_one_process_what_is_final_stays() -> None:
    statuses = Statuses()
    assert statuses.read("one", 7, "sent") == []
    assert statuses.read("two", 7, "queued") == [], "it has not heard of it yet"
    assert statuses.read("two", 7, "sent") == []
    assert statuses.read("one", 7, "sent") == []
    (breach,) = statuses.read("one", 7, "queued")
    assert "was sent at one, and then queued" in breach
