"""AUTH: who a client says it is, by the mechanisms PLAIN and LOGIN. No I/O, no clock.

The contract. `CHALLENGES` says which mechanisms there are and what each of them asks in turn. An `Exchange` takes the
client's lines until it is complete, and makes of them a user and a password. `None` is a pair that cannot be right: it
is answered as every wrong one is, so that nobody learns what was wrong with it. `MalformedResponse` is no pair at all.

Both mechanisms need the password itself, which is why they are spoken under TLS only; the relay knows keys by their
digests, so no mechanism of the kind of CRAM or SCRAM could be offered.

A client may split a DID: nodemailer 6, which PDSs pin, decodes the user of a URL and cuts it at its first colon, so
that the user is `did` and the password `plc:...:atmos_...`. Such a pair is joined again, and cut at its last colon.

Sources: RFC 4954 (AUTH), 4616 (PLAIN), draft-murchison-sasl-login (LOGIN).
"""

from __future__ import annotations

import binascii
from typing import Final, NamedTuple

CHALLENGES: Final[dict[str, tuple[bytes, ...]]] = {
    "PLAIN": (b"",),
    "LOGIN": (b"Username:", b"Password:"),
}


class Credentials(NamedTuple):
    user: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(...)"


class MalformedResponse(Exception):
    """Not base64, or not what the mechanism asks for."""


class CalledOff(Exception):
    """The client said `*` (RFC 4954 section 4)."""


class Exchange:
    """One AUTH, of a mechanism that stands in CHALLENGES."""

    def __init__(self, mechanism: str) -> None:
        self._mechanism = mechanism
        self._responses: list[bytes] = []

    @property
    def challenge(self) -> bytes:
        """What the client is asked now."""
        return CHALLENGES[self._mechanism][len(self._responses)]

    def respond(self, line: bytes) -> bool:
        """One response; whether that was all. `=` is an empty initial one."""
        if line == b"*":
            raise CalledOff
        try:
            self._responses.append(b"" if line == b"=" else binascii.a2b_base64(line, strict_mode=True))
        except binascii.Error:
            raise MalformedResponse from None
        return len(self._responses) == len(CHALLENGES[self._mechanism])

    def credentials(self) -> Credentials | None:
        """Once it is complete."""
        acts_for, pair = b"", self._responses
        if self._mechanism == "PLAIN":
            parts = self._responses[0].split(b"\0")
            if len(parts) != 3:
                raise MalformedResponse
            acts_for, *pair = parts
        user, password = pair
        if acts_for not in (b"", user):
            return None
        try:
            return _joined(user.decode(), password.decode())
        except UnicodeDecodeError:
            return None


def _joined(user: str, password: str) -> Credentials | None:
    if user == "did":
        rest, colon, password = password.rpartition(":")
        user = f"did:{rest}" if colon else ""
    return Credentials(user, password) if user and password else None
