"""The mail that asks the owner of a mailbox: the same for everybody, and by nobody but the relay."""

import email
import email.policy

import pytest

from relay.message.signing import verify
from relay.message.tokens import Confirmation, ConfirmationTokens, Unsubscribe, UnsubscribeTokens
from tests.golden_messages.notices import CONFIRMATIONS, composed_confirmation, signed_confirmation
from tests.golden_messages.stories import HERE, RECORDS


@pytest.mark.parametrize("name", CONFIRMATIONS)
def test_golden_confirmations(name: str) -> None:
    assert signed_confirmation(CONFIRMATIONS[name]) == (HERE / f"{name}.eml").read_bytes()
    assert all(verdict.valid for verdict in verify(signed_confirmation(CONFIRMATIONS[name]), RECORDS.get))


def test_only_the_address_and_the_link_differ() -> None:
    bodies = {composed_confirmation(address).body for address in CONFIRMATIONS.values()}
    assert len(bodies) == 1
    read = email.message_from_bytes(
        composed_confirmation("a@b.example").as_bytes(), policy=email.policy.default
    )
    assert read.get_content_type() == "text/plain"
    assert "member.example" not in str(read)
    assert max(map(len, read.get_content().splitlines())) < 100


def test_a_token_opens_to_what_was_sealed_and_to_nothing_else() -> None:
    tokens, others = ConfirmationTokens(bytes(64)), ConfirmationTokens(bytes(63) + b"1")
    confirmation = Confirmation("member.example", 448, "büro@elsewhere.example")
    token = tokens.seal(confirmation)
    assert tokens.open(token) == confirmation
    assert others.open(token) is None
    for position in range(len(token)):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        assert tokens.open(changed) is None
    # Not even with the same key is the one link the other.
    unsubscribe = UnsubscribeTokens(bytes(64))
    assert unsubscribe.open(token) is None
    assert tokens.open(unsubscribe.seal(Unsubscribe("member.example", 448, "a@b.example"))) is None
