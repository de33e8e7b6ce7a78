"""What goes out of a message that came in whole: fields on top, our signatures, and below them what came in."""

from __future__ import annotations

from datetime import UTC, datetime

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given, settings

from relay.domains.records import dkim_record
from relay.message.signer import Signer
from relay.message.signing import sign, verify
from relay.message.submitted import read_submitted
from relay.message.whole import WholeMessage, compose_whole
from tests.golden_messages.stories import HERE
from tests.mime_strategies import Composed, messages

FROM = b"From: You <you@yourdomain.com>\r\n"
ACCEPTED_AT_US = 1_764_000_000_987_654
SIGNER = Signer("yourdomain.com", "s", Ed25519PrivateKey.from_private_bytes(bytes(32)))
_KEY = load_pem_private_key((HERE / "keys" / "rsa.pem").read_bytes(), None)
assert isinstance(_KEY, RSAPrivateKey)
MEMBERS_KEY = _KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
MEMBERS_RECORD = dkim_record(Signer("own.example", "own", _KEY)).value


def composed(kept: bytes, *, unsubscribe: str | None = None) -> WholeMessage:
    return compose_whole(
        kept,
        message_id=448,
        entropy="00ff",
        sending_domain="yourdomain.com",
        accepted_at_us=ACCEPTED_AT_US,
        feedback_id="yourdomain.com:x:bulk:relay.example",
        member_did="did:plc:ewvi7nxzyoun6zhxrhs64oiz",
        received_by="mail.relay.example",
        received_with="ESMTPSA",
        list_unsubscribe_url=unsubscribe,
    )


def signed(message: WholeMessage, *signers: Signer) -> bytes:
    return sign(message, signers or (SIGNER,), timestamp=1, composition=2)


def records(*signers: Signer) -> dict[str, str]:
    return {record.name: record.value for record in map(dkim_record, signers)}


def verdicts(message: bytes, *signers: Signer) -> list[bool]:
    return [verdict.valid for verdict in verify(message, records(*signers).get)]


def test_the_fields_on_top_stand_in_their_order() -> None:
    date = datetime.fromtimestamp(ACCEPTED_AT_US / 1e6, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
    assert composed(FROM + b"\r\nHi\r\n", unsubscribe="https://relay.example/u/T").as_bytes() == (
        b"List-Unsubscribe: <https://relay.example/u/T>\r\n"
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
        b"Feedback-ID: yourdomain.com:x:bulk:relay.example\r\n"
        b"X-Atmos-Member-Did: did:plc:ewvi7nxzyoun6zhxrhs64oiz\r\n"
        b"Received: from yourdomain.com by mail.relay.example with ESMTPSA id 448;\r\n"
        b" " + date.encode() + b"\r\n"
        b"Date: " + date.encode() + b"\r\n"
        b"Message-ID: <448.00ff@yourdomain.com>\r\n"
        b"From: You <you@yourdomain.com>\r\n\r\nHi\r\n"
    )


def test_what_a_message_has_of_its_own_is_not_added() -> None:
    kept = b"date: yesterday\r\nMESSAGE-ID:\r\n <own@yourdomain.com>\r\n" + FROM
    message = composed(kept)
    assert [name for name, _ in message.prefix] == [b"Feedback-ID", b"X-Atmos-Member-Did", b"Received"]
    assert message.message_id == b"<own@yourdomain.com>"
    assert (message.head, message.body) == (message.as_bytes(), b"")


@pytest.mark.parametrize("value", [b"", b"no brackets", b"<a b>", b"<" + b"x" * 901 + b">", b"<a>\r\n <b>"])
def test_a_message_id_that_is_none_names_nothing(value: bytes) -> None:
    assert composed(b"Message-ID: " + value + b"\r\n" + FROM + b"\r\n").message_id is None


@given(messages())
def test_what_came_in_less_what_is_removed_is_the_end_of_what_goes_out(of: Composed) -> None:
    kept = read_submitted(of.submitted, smtputf8=False, default_category="bulk").raw
    message = composed(kept, unsubscribe="https://relay.example/u/T")
    octets = signed(message)
    assert octets.endswith(of.kept)
    assert octets == signed(composed(kept, unsubscribe="https://relay.example/u/T"))
    assert octets.endswith(message.as_bytes())
    end = len(message.head)
    assert message.as_bytes()[:end] == message.head
    assert message.as_bytes()[end:] in (b"\r\n" + message.body, message.body)
    # Ours is the first; those that the member's program wrote are strangers to us.
    assert verdicts(octets, SIGNER)[0]


@pytest.mark.parametrize("canonical", [(b"simple", b"simple"), (b"relaxed", b"relaxed")])
@settings(max_examples=30)
@given(messages())
def test_the_members_own_signature_still_verifies(canonical: tuple[bytes, bytes], of: Composed) -> None:
    """As a program signs that sends what it signs: nothing that the relay removes or adds is covered."""
    covered = [b"from", b"to", b"subject", b"reply-to", b"mime-version", b"content-type", b"list-id"]
    own = dkim.sign(
        of.kept, b"own", b"own.example", MEMBERS_KEY, canonicalize=canonical, include_headers=covered
    )
    submitted = own + of.submitted
    kept = read_submitted(submitted, smtputf8=False, default_category="bulk").raw
    assert kept == own + of.kept
    keys = {**records(SIGNER), "own._domainkey.own.example": MEMBERS_RECORD}
    found = verify(signed(composed(kept)), keys.get)
    assert [(one.d, one.valid) for one in found[:2]] == [("yourdomain.com", True), ("own.example", True)]


@pytest.mark.parametrize(
    "added", [b"From: bank@bank.example\r\n", b"Subject: other\r\n", b"To: you\r\n", b"Reply-To: me\r\n"]
)
def test_nobody_adds_a_field_to_a_copy_of_it(added: bytes) -> None:
    octets = signed(composed(FROM + b"Subject: one\r\n\r\nHi\r\n"))
    assert verdicts(octets, SIGNER) == [True]
    assert verdicts(added + octets, SIGNER) == [False]
    assert verdicts(octets.replace(FROM, FROM + added), SIGNER) == [False]


def test_a_header_in_utf_8_asks_for_smtputf8() -> None:
    assert composed("From: jörg@yourdomain.com\r\n\r\n".encode()).smtputf8
    assert not composed(FROM + b"\r\n" + "ü\r\n".encode()).smtputf8
