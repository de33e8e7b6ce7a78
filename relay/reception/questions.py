"""What the dialogue of `relay.reception.server` waits for, and what it asks of its caller. No I/O, no clock."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from relay.reception.commands import Transaction
from relay.reception.data import Message
from relay.reception.sasl import Credentials


class State(Enum):
    """What the machine waits for."""

    GREETING = "greeting"
    """Ours: greet."""
    COMMAND = "command"
    AUTH = "auth"
    """The next line of an AUTH exchange."""
    DATA = "data"
    """The octets of a message."""
    QUESTION = "question"
    """The caller's answer."""
    HANDSHAKE = "handshake"
    """The caller does the TLS handshake, then calls tls_established."""
    CLOSED = "closed"
    """Nothing more is read."""


class Authenticate(NamedTuple):
    """None: no such pair can be right, and the caller lets its refusal take as long as any other's."""

    credentials: Credentials | None


class Mail(NamedTuple):
    transaction: Transaction


class Recipient(NamedTuple):
    transaction: Transaction
    recipient: str


class EndOfData(NamedTuple):
    transaction: Transaction
    message: Message


Question = Authenticate | Mail | Recipient | EndOfData


class Signal(Enum):
    """The types of NEED_DATA, STARTTLS and CLOSED."""

    NEED_DATA = "need data"
    STARTTLS = "starttls"
    CLOSED = "closed"


NEED_DATA: Final = Signal.NEED_DATA
STARTTLS: Final = Signal.STARTTLS
CLOSED: Final = Signal.CLOSED
