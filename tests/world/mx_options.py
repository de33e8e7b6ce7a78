"""What a receiver of the tests is told to do, and what it has received."""

import ssl
from dataclasses import dataclass

#: What is said to RCPT, and to a whole message, by the word of the recipient.
TO_RCPT = {
    "tempfail": b"451 4.7.1 Greylisted, try again later",
    "permfail": b"550 5.1.1 No such mailbox here",
    "blocklisted": b"550 5.7.1 Service unavailable; client host blocked using zen.blocklist.example",
    "talkative": b"550 5.7.1 " + b"buy " * 250,
    "full": b"452 4.2.2 Mailbox full",
    "overquota": b"552 5.2.2 The mailbox is over its quota",
    "toomany": b"452 4.5.3 Too many recipients",
    "421": b"421 4.3.2 Shutting down",
    "garbage": b"\x00\xff\x16\x03 this is no SMTP",
}
TO_MESSAGE = {
    "defer-message": b"451 4.3.0 Try this one later",
    "refuse-message": b"554 5.6.0 We do not like the content",
}

#: What is said to STARTTLS where it is refused (`MxOptions.starttls_trouble`); b"" is not a word.
TO_STARTTLS = {
    "hang-up": b"",
    "silence": b"",
    "rubbish": b"TLS is broken here",
    "421": b"421 4.7.0 TLS is not available, closing",
    "refuse": b"454 4.7.0 TLS is not available",
    "refuse-and-hang-up": b"454 4.7.0 TLS is not available",
    "refuse-and-hang-up-later": b"454 4.7.0 TLS is not available",
    "refuse-and-421-later": b"454 4.7.0 TLS is not available",
}

#: What is said, as it stands, to a message that was taken, by the word of its recipient.
ODD_ANSWERS = {
    "answer-blank": b"250-2.0.0 Ok\r\n\r\n250 2.0.0 Queued\r\n",
    "answer-blank-first": b"\r\n\n250 2.0.0 Queued\r\n",
    "answer-blank-last": b"250 2.0.0 Queued\r\n\r\n",
    "answer-codeless": b"Thank you.\r\n250-2.0.0 Ok\r\nand again\r\n250 2.0.0 Queued\r\n",
    "answer-codeless-last": b"250 2.0.0 Queued\r\nas number 7\r\n",
    "answer-of-no-class": b"150 wait\r\n2500 is no code\r\n250 2.0.0 Queued\r\n",
    "answer-two-codes": b"251-2.0.0 Ok\r\n250 2.0.0 Queued\r\n",
    "answer-unspaced": b"250Queued\r\n",
    "answer-tab": b"250\t2.0.0 Queued\r\n",
    "answer-indented": b" 250 2.0.0 Queued\r\n",
    "answer-nul": b"\x00250 2.0.0 Queued\r\n",
    "answer-noise": b"\xff\xfe\x00\r\n250 2.0.0 Queued\r\n",
    "answer-long-line": b"250 2.0.0 Queued " + b"x" * 3000 + b"\r\n",
    "answer-longer-line": b"250-2.0.0 " + b"x" * 40_000 + b"\r\n250 2.0.0 Queued\r\n",
    "answer-longest-line": b"250 2.0.0 Queued " + b"x" * 40_000 + b"\r\n",
    "answer-many-lines": b"250-2.0.0 Ok\r\n" * 3000 + b"250 2.0.0 Queued\r\n",
    "answer-cut-off": b"250 2.0.0 Que",
}


@dataclass(frozen=True)
class MxOptions:
    """What this receiver offers, and how it behaves towards everybody."""

    pipelining: bool = True
    eight_bit_mime: bool = True
    smtputf8: bool = True
    enhanced_status_codes: bool = True
    size_max: int | None = 50_000_000
    ehlo: bool = True
    """Whether it knows EHLO; otherwise 502, and HELO works."""
    tls: ssl.SSLContext | None = None
    """The server's context: STARTTLS is offered."""
    starttls_injection: bool = False
    """Sends plain text right behind its answer to STARTTLS."""
    starttls_broken: bool = False
    """Answers the handshake with rubbish."""
    starttls_trouble: str = ""
    """Offers STARTTLS and does not keep the offer. One of:
    hang-up                   closes at the command          silence    never answers it
    rubbish                   answers it with no SMTP        421        says 421 to it, and closes
    refuse-and-hang-up        454, and closes                refuse     454, and goes on in plain text
    refuse-and-hang-up-later  454, and closes at MAIL        refuse-and-421-later   454, and 421 to MAIL
    hang-up-in-handshake      reads the ClientHello, and closes
    hang-up-after-handshake   closes when EHLO comes under TLS"""
    banner: bytes = b"220 mx.test ESMTP"
    huge_banner: bool = False
    mute: bool = False
    """Accepts connections and never says a word."""
    drip_seconds: float | None = None
    """Says everything byte by byte with this pause."""
    messages_per_session: int | None = None
    """Then 421 to the next MAIL, and closes."""


@dataclass(frozen=True)
class ReceivedMessage:
    """A message for which 250 was said, or meant to be said."""

    mail_from: str
    rcpt_to: tuple[str, ...]
    data: bytes
    """Exactly what was sent, after un-stuffing."""
    tls: str | None
    """The TLS version."""
    session: int
    """Which connection it came on, from 1."""
    eight_bit: bool
    smtputf8: bool
