"""What the core and a courier say to each other. Words only: structs that msgspec writes and reads.

An errand goes like this, by the number of its connection, which carries one at a time:

    core                       courier
    Carry ───────────────────▶ composes and signs, connects, says MAIL, RCPT, DATA
          ◀─────────── Start   beside that
    (`attempt.started` is made durable)
    Started ─────────────────▶ the dot may be sent (on one machine)
          ◀──────────── Done   what it came to
    Cancel ──────────────────▶ any time: give it up
          ◀──── NothingDone    it had not been started; else Done

Where the relay runs on several machines, the dot needs one more word, asked for at the last moment:

          ◀───────── DotDue    all but the dot was sent
    DotMayLeave ─────────────▶ nobody acts in our place

These are told and not called: none of it needs a task of its own in the core, which has all couriers to serve. Their
number is bounded by the connections'.
"""

from __future__ import annotations

import msgspec

from relay.config import Config
from relay.delivery.outcomes import Carried
from relay.networks import Family
from relay.views.messages import MessageState


class Greeting(msgspec.Struct, frozen=True, tag=True):
    """The first word to a new courier."""

    directory: str
    config: Config
    #: Of the operator's domain when the relay was started, which addresses of bounces are made with.
    operator_domain: str
    #: How much room it has for large messages.
    sending_octets_max: int


# ---------------------------------------------------------------------------------------------------- to a courier


class Carry(msgspec.Struct, frozen=True, tag=True):
    """An errand (`relay.delivery.carrier`). The courier reads the message's events itself."""

    connection: int
    state: MessageState
    #: The recipient's.
    domain: str
    refused: tuple[Family, ...] = ()


class Started(msgspec.Struct, frozen=True, tag=True):
    """`attempt.started` is durable."""

    connection: int


class DotMayLeave(msgspec.Struct, frozen=True, tag=True):
    """As DotDue asks."""

    connection: int


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Give up the errand of this connection."""

    connection: int


class Part(msgspec.Struct, frozen=True, tag=True):
    """Say goodbye on this connection, and close it."""

    connection: int


class HangUp(msgspec.Struct, frozen=True, tag=True):
    """Close all connections without a word: the relay ends."""


class NewConfig(msgspec.Struct, frozen=True, tag=True):
    """From now on this is in force."""

    config: Config


class NewPepper(msgspec.Struct, frozen=True, tag=True):
    """There are peppers up to this number."""

    number: int


class LetGo(msgspec.Struct, frozen=True, tag=True):
    """A call: files of the log were rewritten, because payloads were erased. Close the old ones, and forget what was
    made of them. It is answered when that is done."""


#: What the core may say.
FROM_CORE = Carry | Started | DotMayLeave | Cancel | Part | HangUp | NewConfig | NewPepper | LetGo


# ------------------------------------------------------------------------------------------------------ to the core


class Start(msgspec.Struct, frozen=True, tag=True):
    """The message of this connection is composed: record that its attempt begins."""

    connection: int


class DotDue(msgspec.Struct, frozen=True, tag=True):
    """The message of this connection is with its receiver, but for the dot: may that leave? Where the relay runs on one
    machine nobody asks."""

    connection: int


class Done(msgspec.Struct, frozen=True, tag=True):
    """The errand of this connection is over."""

    connection: int
    carried: Carried


class NothingDone(msgspec.Struct, frozen=True, tag=True):
    """The errand of this connection was given up before it was started."""

    connection: int


class Parted(msgspec.Struct, frozen=True, tag=True):
    """This connection is closed."""

    connection: int


class Connections(msgspec.Struct, frozen=True, tag=True):
    """So many are open to receivers now."""

    count: int


#: What a courier may say.
FROM_COURIER = Start | DotDue | Done | NothingDone | Parted | Connections
