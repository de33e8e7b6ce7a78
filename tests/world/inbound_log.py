"""A log in the making, folded as it grows, for tests of what is decided about mail that comes in.

One member, whose domain has a confirmed `forward_to`; its messages are put into the state that a test wants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from relay.codec import Recorded
from relay.config import Config
from relay.decisions.inbound_mail import Incoming, pass_on
from relay.decisions.reports import Came, bounce_report, complaint_report
from relay.events import (
    NOBODY,
    AttemptStarted,
    Content,
    DomainAdded,
    DomainForwardSet,
    DomainVerified,
    Event,
    ForwardAddress,
    MemberAdded,
    MessageBounced,
    MessageQueued,
    MessageSent,
    Recipient,
    SendAccepted,
)
from relay.mail_reading import Reading
from relay.times import DAY_US
from relay.views import PROJECTORS, messages
from spool.views import Snapshot
from spool.views.scratch import Scratch, open_scratch
from tests.world.relay import DID

START_US = 1_764_000_000_000_000
DOMAIN = "d.example"
FRIEND = "friend@example.com"
FORWARD_TO = "ann@home.example"
OPERATORS = "root@elsewhere.example"
CONFIG = Config(operator_domain="relay.example", public_url="https://relay.example")

#: What counts.
GONE = Reading(
    kind="dsn",
    action="failed",
    enhanced="5.1.1",
    code=550,
    bounce_class="invalid_recipient",
    diagnostic="550 5.1.1 no such user",
    reporting_mta="dns; mx.example.com",
    remote_mta="dns; store.example.com",
)
SPAM = Reading(kind="feedback", feedback_type="abuse")


class InboundLog:
    def __init__(self, tables: Scratch[Recorded]) -> None:
        self.events: list[Recorded] = []
        self.now = START_US
        self._tables = tables
        self.add(
            MemberAdded(did=DID),
            DomainAdded(did=DID, domain=DOMAIN, selector_stem="s", rsa_public="r", ed25519_public="e"),
            DomainVerified(did=DID, domain=DOMAIN),
            DomainForwardSet(did=DID, domain=DOMAIN, personal=ForwardAddress(address=FORWARD_TO)),
        )

    @property
    def view(self) -> Snapshot:
        return self._tables.view

    def add(self, *events: Event) -> list[int]:
        """Their sequence numbers."""
        for event in events:
            self.events.append(Recorded(len(self.events) + 1, self.now, event))
            self._tables.fold(self.events[-1])
        return list(range(len(self.events) - len(events) + 1, len(self.events) + 1))

    def get(self, seq: int) -> Recorded:
        return self.events[seq - 1]

    def later(self, microseconds: int = DAY_US) -> None:
        self.now += microseconds

    def queued(
        self,
        address: str = FRIEND,
        *,
        did: str = DID,
        domain: str = DOMAIN,
        entropy: str = "ab12",
        **content: Any,
    ) -> int:
        """The message id."""
        accepted = SendAccepted(
            did=did,
            domain=domain,
            category="bulk",
            recipients=1,
            key_id="k",
            selector_stem="s",
            operator_domain="relay.example",
            operator_stem="s",
            message_id_entropy=entropy,
            personal=Content(**{"from_address": f"you@{domain}", "subject": "s", "text": "t", **content}),
        )
        queued = MessageQueued(
            did=did,
            domain=domain,
            category="bulk",
            index=1,
            next_attempt_at=self.now,
            give_up_at=self.now + DAY_US,
            personal=Recipient(given=address, address=address),
        )
        return self.add(accepted, queued)[1]

    def started(self, address: str = FRIEND, **fields: Any) -> int:
        message_id = self.queued(address, **fields)
        self.add(self.start_of(message_id))
        return message_id

    def sent(self, address: str = FRIEND, **fields: Any) -> int:
        message_id = self.started(address, **fields)
        self.add(MessageSent(did=self.state(message_id).did, message_id=message_id, attempt=1))
        return message_id

    def bounced(self, address: str = FRIEND) -> int:
        message_id = self.started(address)
        self.add(MessageBounced(did=DID, message_id=message_id, attempt=1, reason="rejected"))
        return message_id

    def start_of(self, message_id: int) -> AttemptStarted:
        did = self.state(message_id).did
        return AttemptStarted(did=did, message_id=message_id, attempt=1, next_attempt_at=self.now)

    def state(self, message_id: int) -> messages.MessageState:
        state = messages.message(self.view, message_id)
        assert state is not None
        return state

    def story(self, message_id: int) -> list[Recorded]:
        return [self.get(seq) for seq in messages.timeline(self.view, message_id)]

    def report(
        self, message_id: int, reading: Reading = GONE, came: Came | None = None, **more: Any
    ) -> list[Event]:
        """What is decided of a bounce, and made true."""
        found = bounce_report(
            self.view,
            message_id,
            self.story(message_id),
            reading,
            came or self.came(),
            config=CONFIG,
            operator_stem="s",
            message_id_entropy="e",
            now_us=self.now,
            **more,
        )
        self.add(*found)
        return found

    def complain(
        self,
        message_id: int,
        reading: Reading = SPAM,
        came: Came | None = None,
        *,
        provider: str | None = None,
    ) -> list[Event]:
        story = self.story(message_id)
        found = complaint_report(
            self.view, message_id, story, reading, came or self.came(), provider=provider
        )
        self.add(*found)
        return found

    def came(self, **fields: Any) -> Came:
        """Another mail than all before it."""
        return Came(**{"sha256": f"{len(self.events):064x}", "size": 9, "raw": b"Subject: x\r\n", **fields})

    def pass_on(self, incoming: Incoming, to_address: str = FORWARD_TO) -> list[Event]:
        found = pass_on(self.view, incoming, to_address, config=CONFIG, now_us=self.now)
        self.add(*found)
        return found


def incoming(number: int = 1, **fields: Any) -> Incoming:
    of_member = {"kind": "reply", "did": DID, "domain": DOMAIN, "rcpt_to": (f"you@{DOMAIN}",)}
    facts: dict[str, Any] = {
        "reading": "unknown",
        "mail_from": FRIEND,
        "client_address": "192.0.2.1",
        "ehlo_name": "mx.example.com",
        "received_by": "relay.example",
        "received_with": "ESMTPS",
        "raw": b"Subject: Re: s\r\n\r\nt\r\n",
        "sha256": "11" * 32,
        "digest": f"{number:064x}",
    }
    return Incoming(**{**facts, **of_member, **fields})


def for_operator(number: int = 1, **fields: Any) -> Incoming:
    of_operator = {"kind": "operator", "did": NOBODY, "domain": "relay.example"}
    return incoming(number, **{**of_operator, "rcpt_to": ("postmaster@relay.example",), **fields})


@contextmanager
def open_inbound_log() -> Iterator[InboundLog]:
    with open_scratch(PROJECTORS) as tables:
        yield InboundLog(tables)


def types(events: Sequence[Event]) -> list[str]:
    return [event.TYPE for event in events]
