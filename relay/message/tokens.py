"""Makes and opens the five things that come back from outside: tokens of messages, unsubscribe links, links by which
the owner of a mailbox confirms that a domain's notifications may go there, tickets for status streams, and the cookies
of the console's sessions.

Contract. What this relay made opens to what it was made from; anything else, altered in a single bit, cut
short, or made with another relay's keys, is None. All are functions of their contents, without a
nonce from dice: composing the same message again gives the same bytes. None expires here; a ticket says when it does.

The token of a message, `448-<mac>`, shows its message id and proves it. It is the value of X-Atmos-Message and
X-Atmos-Forwarded, and stands in envelope senders (VERP), where a bounce comes back to. It lives in a local part, whose
case a server on the way may fold, so it is made of lower case only and read in any. Whoever has one has received the
message, or been told of it by one who has.

A token of a link shows nothing. It is sealed with AES-SIV (RFC 5297), which stays safe without a
nonce: two equal tokens tell that their contents are equal, and nothing more. That of an unsubscribe link carries all
that is needed to suppress, so that it still works when the message's personal data have been removed. That of a
confirmation is bound to the domain, the address, and the mail that it stands in. A ticket is sealed in the same way,
with a key that ends with the relay's process; what makes each another one is part of its contents. So it is with a
session, whose key is the pepper's: it outlives the process.
"""

import base64
import binascii
import hashlib
import hmac
import re
from typing import ClassVar, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from relay.principals import FULL, SEND, Scope

BOUNCE_KEY_OCTETS: Final = 32
SEAL_KEY_OCTETS: Final = 64  # AES-256-SIV takes two keys of 32

_MAC_OCTETS: Final = 10  # 80 bits, each guess a message to the relay
_MESSAGE_ID_OCTETS: Final = 8
TICKET_NONCE_OCTETS: Final = 16
SESSION_SECRET_OCTETS: Final = 16
_TIME_OCTETS: Final = 8
_BOUNCES: Final = "bounces"
_FORWARD: Final = "forward"
#: ASCII alone: else the long s of old prints is a letter "s" here, and no text that can be compared in constant time.
_match_token: Final = re.compile(
    rf"(?:({_BOUNCES}|{_FORWARD})\+)?([1-9][0-9]{{0,15}})-([a-z2-7]{{16}})", re.IGNORECASE | re.ASCII
).fullmatch
# A DID of 261, an address of 254, the message id, the seal, in base64, and room: what is longer is no token.
_TOKEN_CHARACTERS_MAX: Final = 1024


class BounceAddresses:
    """Tokens `<messageId>-<hmac>`, and the envelope senders that are made of them: `bounces+<token>@<operator domain>`
    of what members send, and `forward+<token>@<operator domain>` of mail that came in and is passed on."""

    def __init__(self, key: bytes, operator_domain: str) -> None:
        self._keys: Final[dict[int, bytes]] = {}
        self._domain: Final = operator_domain
        self.add(1, key)

    def add(self, number: int, key: bytes) -> None:
        """Know another key, as good as those before it."""
        assert len(key) == BOUNCE_KEY_OCTETS
        self._keys[number] = key

    def token(self, message_id: int, number: int = 1) -> str:
        """By the key of this number. Raises KeyError."""
        return f"{message_id}-{_mac(self._keys[number], str(message_id))}"

    def make(self, message_id: int, number: int = 1) -> str:
        """The envelope sender of a message. Raises KeyError."""
        return f"{_BOUNCES}+{self.token(message_id, number)}@{self._domain}"

    def make_forward(self, message_id: int, number: int = 1) -> str:
        """The envelope sender of a mail that is passed on: its id is that of its `forward.queued`. Raises KeyError."""
        return f"{_FORWARD}+{self.token(message_id, number)}@{self._domain}"

    def parse(self, address: str) -> int | None:
        """Return the message id of an envelope sender of ours, of either kind, or None."""
        local, _, domain = address.rpartition("@")
        match = _match_token(local)
        return (
            None
            if match is None or match[1] is None or domain.lower() != self._domain
            else self._proved(match)
        )

    def parse_token(self, text: str) -> int | None:
        """Return the message id of a token of ours, or None.

        As it stands in a field, with white space and angle brackets around it or not; or the local part of an envelope
        sender.
        """
        text = text.strip(" \t\r\n")
        if text.startswith("<") and text.endswith(">"):
            text = text[1:-1]
        match = _match_token(text)
        return None if match is None else self._proved(match)

    def _proved(self, match: re.Match[str]) -> int | None:
        """All keys are tried, whichever fits, and each is compared in constant time."""
        given = match[3].lower()
        if not sum(hmac.compare_digest(_mac(key, match[2]), given) for key in self._keys.values()):
            return None
        return int(match[2])


def _mac(key: bytes, message_id: str) -> str:
    mac = hmac.digest(key, message_id.encode(), hashlib.sha256)[:_MAC_OCTETS]
    return base64.b32encode(mac).decode().lower()


class Unsubscribe(NamedTuple):
    """Who does not want whose mail any more, and which message said so."""

    did: str
    message_id: int
    recipient: str


class Confirmation(NamedTuple):
    """The owner of `address` wants to hear of the domain's bounces, as this mail asked."""

    domain: str
    message_id: int
    address: str


class Ticket(NamedTuple):
    """Opens one status stream of the member, as the key does, until it expires."""

    did: str
    key_id: str
    scope: Scope
    expires_at: int
    nonce: bytes


class ConsoleSession(NamedTuple):
    """Somebody who has signed in to the console. It is good for as long as its key, its epoch and its hours are."""

    #: Whose; "": the operator's.
    did: str
    #: The key that was shown; "": none was, but a link that the operator had made.
    key_id: str
    issued_at: int
    #: `console.epoch_raised` ends all that have a smaller one.
    epoch: int
    #: What makes it another one than any other, and is told to nobody.
    secret: bytes

    @property
    def session_id(self) -> str:
        """By which it is known, in the log as well: it tells nothing of the secret."""
        return hashlib.sha256(b"atmos-relay console " + self.secret).hexdigest()[:16]


class _Seal:
    """Seals octets into a word for a URL, and opens it again."""

    #: Bound into the seal, so that one kind cannot be taken for another, nor a later format for this one.
    FORMAT: ClassVar[bytes]

    def __init__(self, key: bytes) -> None:
        self._ciphers: Final[dict[int, AESSIV]] = {}
        self.add(1, key)

    def add(self, number: int, key: bytes) -> None:
        """Know another key, as good as those before it."""
        assert len(key) == SEAL_KEY_OCTETS
        self._ciphers[number] = AESSIV(key)

    def _sealed_octets(self, contents: bytes, number: int) -> str:
        return _to_text(self._ciphers[number].encrypt(contents, [self.FORMAT]))

    def _opened_octets(self, token: str) -> bytes | None:
        if len(token) > _TOKEN_CHARACTERS_MAX or not token.isascii():
            return None
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            return None
        # Base64 has several spellings for some octets, and Python reads past what is not base64 at all.
        if _to_text(sealed) != token:
            return None
        return self._decrypted(sealed)

    def _decrypted(self, sealed: bytes) -> bytes | None:
        for cipher in reversed(self._ciphers.values()):
            try:
                return cipher.decrypt(sealed, [self.FORMAT])
            except (ValueError, InvalidTag):
                continue
        return None


class _LinkSeal(_Seal):
    """Seals an owner, a message id and an address."""

    def _sealed(self, owner: str, message_id: int, address: str, number: int) -> str:
        contents = b"%b%b\0%b" % (
            message_id.to_bytes(_MESSAGE_ID_OCTETS, "big"),
            owner.encode(),
            address.encode(),
        )
        return self._sealed_octets(contents, number)

    def _opened(self, token: str) -> tuple[str, int, str] | None:
        contents = self._opened_octets(token)
        if contents is None:
            return None
        owner, _, address = contents[_MESSAGE_ID_OCTETS:].decode().partition("\0")
        return owner, int.from_bytes(contents[:_MESSAGE_ID_OCTETS], "big"), address


class UnsubscribeTokens(_LinkSeal):
    """Of links by which recipients unsubscribe."""

    FORMAT = b"atmos-relay unsubscribe 1"

    def seal(self, unsubscribe: Unsubscribe, number: int = 1) -> str:
        """By the key of this number. Raises KeyError."""
        return self._sealed(*unsubscribe, number)

    def open(self, token: str) -> Unsubscribe | None:
        """Return what was sealed, or None for anything that this relay did not make."""
        opened = self._opened(token)
        return None if opened is None else Unsubscribe(*opened)


class ConfirmationTokens(_LinkSeal):
    """Of links by which owners of mailboxes confirm."""

    FORMAT = b"atmos-relay confirmation 1"

    def seal(self, confirmation: Confirmation, number: int = 1) -> str:
        """By the key of this number. Raises KeyError."""
        return self._sealed(*confirmation, number)

    def open(self, token: str) -> Confirmation | None:
        """Return what was sealed, or None for anything that this relay did not make."""
        opened = self._opened(token)
        return None if opened is None else Confirmation(*opened)


class StreamTickets(_Seal):
    """Of status streams. Whether one is used already, or too old, others know."""

    FORMAT = b"atmos-relay stream ticket 1"

    def seal(self, ticket: Ticket) -> str:
        assert len(ticket.nonce) == TICKET_NONCE_OCTETS
        contents = b"%b%b%b" % (
            ticket.expires_at.to_bytes(_TIME_OCTETS, "big"),
            ticket.nonce,
            "\0".join((ticket.did, ticket.key_id, ticket.scope)).encode(),
        )
        return self._sealed_octets(contents, 1)

    def open(self, token: str) -> Ticket | None:
        """Return what was sealed, or None for anything that this relay did not make since it was started."""
        contents = self._opened_octets(token)
        if contents is None:
            return None
        end = _TIME_OCTETS + TICKET_NONCE_OCTETS
        did, key_id, scope = contents[end:].decode().split("\0")
        return Ticket(
            did,
            key_id,
            FULL if scope == FULL else SEND,
            int.from_bytes(contents[:_TIME_OCTETS], "big"),
            contents[_TIME_OCTETS:end],
        )


class ConsoleSessions(_Seal):
    """Of the cookies of the console. What ends a session, others know."""

    FORMAT = b"atmos-relay console session 1"

    def seal(self, session: ConsoleSession, number: int = 1) -> str:
        """By the key of this number. Raises KeyError."""
        assert len(session.secret) == SESSION_SECRET_OCTETS
        contents = b"%b%b%b%b" % (
            session.issued_at.to_bytes(_TIME_OCTETS, "big"),
            session.epoch.to_bytes(_TIME_OCTETS, "big"),
            session.secret,
            "\0".join((session.did, session.key_id)).encode(),
        )
        return self._sealed_octets(contents, number)

    def open(self, token: str) -> ConsoleSession | None:
        """Return what was sealed, or None for anything that this relay did not make."""
        contents = self._opened_octets(token)
        if contents is None:
            return None
        end = 2 * _TIME_OCTETS + SESSION_SECRET_OCTETS
        did, key_id = contents[end:].decode().split("\0")
        return ConsoleSession(
            did,
            key_id,
            int.from_bytes(contents[:_TIME_OCTETS], "big"),
            int.from_bytes(contents[_TIME_OCTETS : 2 * _TIME_OCTETS], "big"),
            contents[2 * _TIME_OCTETS : end],
        )


def _to_text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")
