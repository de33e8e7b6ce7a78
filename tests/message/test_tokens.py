"""Tokens of messages and unsubscribe tokens: ours open, and nothing else does."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.message.tokens import (
    BounceAddresses,
    Confirmation,
    ConfirmationTokens,
    StreamTickets,
    Ticket,
    Unsubscribe,
    UnsubscribeTokens,
)
from relay.principals import Scope

BOUNCES = BounceAddresses(b"v" * 32, "relay.example")
TOKENS = UnsubscribeTokens(b"u" * 64)
UNSUBSCRIBE = Unsubscribe("did:plc:ewvi7nxzyoun6zhxrhs64oiz", 448, "zoë@xn--bcher-kva.example")

message_ids = st.integers(1, 2**53 - 1)


@pytest.mark.parametrize("make", [BOUNCES.make, BOUNCES.make_forward])
@settings(derandomize=True)
@given(message_id=message_ids)
def test_an_envelope_sender_names_its_message(make: Callable[[int], str], message_id: int) -> None:
    address = make(message_id)
    assert make(message_id) == address
    assert BOUNCES.parse(address) == message_id
    assert BOUNCES.parse(address.upper()) == message_id, "servers fold the case of local parts"
    assert len(address.partition("@")[0]) <= 64


@settings(derandomize=True)
@given(message_ids)
def test_a_token_names_its_message_in_every_form(message_id: int) -> None:
    token = BOUNCES.token(message_id)
    local, forward = (make(message_id).partition("@")[0] for make in (BOUNCES.make, BOUNCES.make_forward))
    assert local == f"bounces+{token}"
    assert forward == f"forward+{token}"
    for text in (token, local, forward):
        for written in (text, f"<{text}>", f" {text}\r\n", f"\t<{text.upper()}> "):
            assert BOUNCES.parse_token(written) == message_id


def test_a_bounce_address_shows_its_message_id() -> None:
    assert BOUNCES.make(448).startswith("bounces+448-")
    assert BOUNCES.make(448).endswith("@relay.example")
    assert BOUNCES.make_forward(448).startswith("forward+448-")
    assert BOUNCES.make_forward(448).endswith("@relay.example")
    assert BOUNCES.token(448).startswith("448-")


def _altered(ours: str) -> list[str]:
    others = [
        ours[:place] + letter + ours[place + 1 :] for place in range(len(ours)) for letter in "a2-@+<>\u017f"
    ]
    others += [ours[:end] for end in range(len(ours))]
    others += [ours.replace("448", number) for number in ("0448", "449", "٤٤٨", "4481", "-448", "4" * 17)]
    return others


@pytest.mark.parametrize("make", [BounceAddresses.make, BounceAddresses.make_forward])
def test_no_other_envelope_sender_is_ours(make: Callable[[BounceAddresses, int], str]) -> None:
    ours = make(BOUNCES, 448)
    others = [
        *_altered(ours),
        make(BounceAddresses(b"w" * 32, "relay.example"), 448),
        make(BounceAddresses(b"v" * 32, "other.example"), 448),
        ours + "\n",
        " " + ours,
        f"<{ours}>",
        f"{BOUNCES.token(448)}@relay.example",
        f"replies+{BOUNCES.token(448)}@relay.example",
        BOUNCES.token(448),
    ]
    for other in others:
        assert other == ours or BOUNCES.parse(other) is None, other


def test_no_other_token_is_ours() -> None:
    ours = BOUNCES.token(448)
    others = [
        *_altered(ours),
        BounceAddresses(b"w" * 32, "relay.example").token(448),
        f"<<{ours}>>",
        f"<{ours}",
        f"{ours}>",
        f"<{ours}> {ours}",
        f"{ours} {ours}",
        f"+{ours}",
        f"replies+{ours}",
        f"bounces+bounces+{ours}",
        f"bounces+{ours}@relay.example",
        "",
        "<>",
        "<",
        ours * 100_000,
    ]
    for other in others:
        assert other == ours or BOUNCES.parse_token(other) is None, other[:100]


def test_tokens_that_older_keys_made_stay_good() -> None:
    bounces = BounceAddresses(b"v" * 32, "relay.example")
    bounces.add(2, b"w" * 32)
    for number in (1, 2):
        assert bounces.parse(bounces.make(448, number)) == 448
        assert bounces.parse(bounces.make_forward(448, number)) == 448
        assert bounces.parse_token(bounces.token(448, number)) == 448
    assert bounces.token(448, 1) != bounces.token(448, 2)
    for make in (bounces.make, bounces.make_forward, bounces.token):
        with pytest.raises(KeyError):
            make(448, 3)


addresses = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=254).filter(
    lambda address: len(address.encode()) <= 254
)


@settings(derandomize=True)
@given(st.text("abc:.%237", max_size=261), message_ids, addresses)
def test_an_unsubscribe_token_opens_to_what_was_sealed(did: str, message_id: int, recipient: str) -> None:
    unsubscribe = Unsubscribe(did, message_id, recipient)
    token = TOKENS.seal(unsubscribe)
    assert TOKENS.open(token) == unsubscribe
    assert TOKENS.seal(unsubscribe) == token, "composing again gives the same bytes"


def test_the_longest_member_and_address_fit() -> None:
    unsubscribe = Unsubscribe("did:web:" + "d" * 253, 2**53 - 1, "r" * 254)
    assert TOKENS.open(TOKENS.seal(unsubscribe)) == unsubscribe


def test_a_token_is_safe_in_a_url_and_shows_nothing() -> None:
    token = TOKENS.seal(UNSUBSCRIBE)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    neighbour = TOKENS.seal(UNSUBSCRIBE._replace(message_id=449))
    same = sum(one == other for one, other in zip(token, neighbour, strict=True))
    assert same < len(token) / 4


def test_every_altered_token_is_refused() -> None:
    token = TOKENS.seal(UNSUBSCRIBE)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=%. \n\0é"
    for place in range(len(token)):
        for letter in alphabet:
            if letter != token[place]:
                assert TOKENS.open(token[:place] + letter + token[place + 1 :]) is None
                assert TOKENS.open(token[:place] + letter + token[place:]) is None
        assert TOKENS.open(token[:place]) is None
        assert TOKENS.open(token[place + 1 :]) is None


@pytest.mark.parametrize("tail", ["=", "==", "\n", " ", "A", "\0", "é", "A" * 10_000])
def test_a_token_with_a_tail_is_refused(tail: str) -> None:
    assert TOKENS.open(TOKENS.seal(UNSUBSCRIBE) + tail) is None


def test_another_relays_token_is_refused() -> None:
    assert UnsubscribeTokens(b"w" * 64).open(TOKENS.seal(UNSUBSCRIBE)) is None


def test_what_an_older_key_made_stays_good_and_no_kind_is_another() -> None:
    confirmation = Confirmation("you.example", 448, "owner@elsewhere.example")
    unsubscribes, confirmations = UnsubscribeTokens(b"u" * 64), ConfirmationTokens(b"u" * 64)
    old = unsubscribes.seal(UNSUBSCRIBE), confirmations.seal(confirmation)
    for tokens in (unsubscribes, confirmations):
        tokens.add(2, b"v" * 64)
    new = unsubscribes.seal(UNSUBSCRIBE, 2), confirmations.seal(confirmation, 2)
    assert new[0] != old[0]
    assert new[1] != old[1]
    for unsubscribe_token, confirmation_token in (old, new):
        assert unsubscribes.open(unsubscribe_token) == UNSUBSCRIBE
        assert confirmations.open(confirmation_token) == confirmation
        assert unsubscribes.open(confirmation_token) is None
        assert confirmations.open(unsubscribe_token) is None
    with pytest.raises(KeyError):
        unsubscribes.seal(UNSUBSCRIBE, 3)


@pytest.mark.parametrize("scope", ["send", "full"])
def test_a_ticket_opens_to_what_was_sealed_and_nothing_else_does(scope: Scope) -> None:
    tickets = StreamTickets(b"u" * 64)
    ticket = Ticket("did:web:" + "d" * 253, "k" * 32, scope, 2**62, b"\0\x01" * 8)
    token = tickets.seal(ticket)
    assert tickets.open(token) == ticket
    assert tickets.seal(ticket._replace(nonce=b"\0\x02" * 8)) != token
    assert all(
        tickets.open(token[:place] + "x" + token[place + 1 :]) in (None, ticket) for place in range(99)
    )
    assert StreamTickets(b"w" * 64).open(token) is None
    assert UnsubscribeTokens(b"u" * 64).open(token) is None
    assert tickets.open(TOKENS.seal(UNSUBSCRIBE)) is None
