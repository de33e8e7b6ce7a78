"""What is asked about a mail that came in; the mail itself comes along as octets. Words only, for both sides."""

from __future__ import annotations

import msgspec

from relay.message.verifying import PublicKey


class ReadMail(msgspec.Struct, frozen=True, tag=True):
    """What is it? Answered by a `relay.mail_reading.Reading`."""


class VerifySignatures(msgspec.Struct, frozen=True, tag=True):
    """Which of these keys' signatures on it verify? Answered by `SignedBy`."""

    keys: tuple[PublicKey, ...]
    #: In seconds since 1970.
    now: int


class SignedBy(msgspec.Struct, frozen=True):
    #: Each once.
    domains: tuple[str, ...]
