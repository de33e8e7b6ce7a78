"""Which family of addresses (IPv4, IPv6) a message may be tried by, after a receiver has refused us for our address.

A refusal at MAIL for what the receiver thinks of us (it is on a list, our address has no name, our mail is not trusted)
is about the address that we came from. Where the relay has one of each family (`[delivery] families`), the other may be
liked better. So such a refusal does not bounce a message at first: it is deferred, and the next attempt goes by the
other family. Where that has been tried, a refusal counts like any other. (One before MAIL defers anyway.)

Pure: what is remembered of earlier attempts is what the log has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from relay.delivery.bounce_classes import classify
from relay.delivery.outcomes import AttemptOutcome
from relay.delivery.replies import DeliveryVerdict
from relay.delivery.reply_reader import Command
from relay.events import Event, MessageDeferred
from relay.events.delivery import RELAY_CLASSES
from relay.networks import Family, family_of, parse_address

#: A refusal here is of us, and of no recipient.
_OF_US: Final = (Command.BANNER, Command.EHLO, Command.HELO, Command.MAIL)
_COMMANDS: Final = frozenset(command.value for command in _OF_US)


def refused_families(events: Iterable[Event]) -> tuple[Family, ...]:
    """By which families the receiver has refused us, of a message's events so far. What retention has taken tells
    nothing."""
    found: dict[Family, None] = {}
    for event in events:
        if (
            isinstance(event, MessageDeferred)
            and event.code is not None
            and event.code >= 500
            and event.command in _COMMANDS
            and event.bounce_class in RELAY_CLASSES
            and event.personal is not None
            and event.personal.address is not None
        ):
            found[family_of(parse_address(event.personal.address))] = None
    return tuple(found)


def is_of_our_address(outcome: AttemptOutcome) -> bool:
    """Whether the outcome would bounce the message for the address that we came from."""
    reply = outcome.reply
    return (
        outcome.verdict is DeliveryVerdict.BOUNCED
        and reply is not None
        and reply.command is Command.MAIL
        and classify(reply) in RELAY_CLASSES
    )


def for_the_other_family(outcome: AttemptOutcome) -> AttemptOutcome:
    """The same, but the message is tried again."""
    judgement = msgspec.structs.replace(outcome.judgement, verdict=DeliveryVerdict.DEFERRED)
    return msgspec.structs.replace(outcome, judgement=judgement)
