"""The envelope: who a message is from and to, as SMTP says it (RFC 5321 section 2.3.1)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends to whom. An empty mail_from is the null sender of notifications."""

    mail_from: str
    rcpt_to: str
    smtputf8: bool = False
    """An address or a header field of the message is not ASCII (RFC 6531 section 3.4)."""
