"""What becomes of a send: the events that a request is decided to be, by `relay.decisions.send.accept_send` alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from relay.config import parse_config
from relay.decisions.send import HEADING_OCTETS, Origin, accept_send
from relay.events import (
    DomainAdded,
    Event,
    Heading,
    MemberAdded,
    MessageQueued,
    RecipientSuppressed,
    SendAccepted,
    SuppressedRecipient,
)
from relay.principals import Principal
from relay.refusals import Refusal
from relay.requests import BySmtp, SendRequest, parse_send
from tests.world.drafts import DIDS, domain_of
from tests.world.history_views import SECOND_US, START_US, fold

DID = DIDS[0]
DOMAIN = domain_of(DID)
CONFIG = parse_config(
    'operator_domain = "relay.example"\npublic_url = "https://relay.example"\nrequire_verified_domains = false\n'
    "[warming]\ntiers = [ { hour = 100, day = 100 } ]\n"
)
HISTORY: list[Event] = [
    MemberAdded(did=DID),
    DomainAdded(did=DID, domain=DOMAIN, selector_stem="atmos20251124", rsa_public="r", ed25519_public="e"),
    RecipientSuppressed(did=DID, reason="manual", personal=SuppressedRecipient(address="no@example.com")),
]


def asked(**fields: Any) -> SendRequest:
    mail = {"from": f"You <you@{DOMAIN}>", "subject": "Hello", "text": "Hi", "category": "transactional"}
    return parse_send(msgspec.json.encode({**mail, **fields}))


def decided(request: SendRequest, *, size: int = 100) -> tuple[SendAccepted, list[MessageQueued]]:
    origin = Origin(None, "e", "stem", body_sha256="0" * 64, size=size)
    with fold(HISTORY) as view:
        accepted, *queued = accept_send(
            view,
            CONFIG,
            Principal(DID, "k"),
            request,
            origin,
            reserved=lambda domain: 0,
            reserved_at=lambda domain: {},
            now_us=START_US + 10 * SECOND_US,
        )
    assert isinstance(accepted, SendAccepted)
    return accepted, [event for event in queued if isinstance(event, MessageQueued)]


def addresses(queued: list[MessageQueued]) -> list[str]:
    return [event.personal.address for event in queued if event.personal is not None]


def test_a_plain_send_records_nothing_of_all_this() -> None:
    accepted, (queued,) = decided(asked(to="a@example.com"))
    for event in (accepted, queued):
        fields = msgspec.to_builtins(event)
        assert not fields.keys() & {"conversation", "tag", "shown"}
        assert not fields["personal"].keys() & {"to_shown", "cc", "metadata", "heading", "attachments"}


def test_of_a_conversation_the_suppressed_are_shown_and_get_no_message() -> None:
    request = asked(
        to=["a@example.com", "no@example.com"], bcc=["b@example.com"], metadata={"a": "b"}, tag="t"
    )
    accepted, queued = decided(request)
    assert accepted.personal is not None
    assert (accepted.conversation, accepted.recipients, accepted.suppressed) == (True, 2, 0)
    assert accepted.personal.to_shown == [("", "a@example.com"), ("", "no@example.com")]
    assert accepted.personal.rejected == [("no@example.com", "manual")]
    assert [(event.index, event.shown, event.tag) for event in queued] == [(1, True, "t"), (2, False, "t")]
    assert addresses(queued) == ["a@example.com", "b@example.com"]
    assert [event.personal.metadata for event in queued if event.personal] == [{"a": "b"}] * 2


def test_where_the_answer_cannot_say_so_the_suppressed_become_messages() -> None:
    request = asked(to=["a@example.com", "no@example.com"])._replace(queues_suppressed=True)
    accepted, queued = decided(request)
    assert (accepted.recipients, accepted.suppressed, accepted.wanted) == (2, 1, 1)
    assert addresses(queued) == ["a@example.com", "no@example.com"]
    # Nobody else is left: over SMTP that is refused, elsewhere the message says it.
    alone = asked(to="no@example.com")._replace(queues_suppressed=True)
    accepted, queued = decided(alone)
    assert (accepted.wanted, addresses(queued)) == (0, ["no@example.com"])
    with pytest.raises(Refusal) as refusal:
        decided(alone._replace(by_smtp=BySmtp(DOMAIN, None, False, "ESMTPSA")))
    assert refusal.value.code == "RECIPIENT_SUPPRESSED"


def test_the_messages_of_a_large_send_say_what_lists_show() -> None:
    request = asked(to="a@example.com")
    for size, heading in (
        (HEADING_OCTETS, None),
        (HEADING_OCTETS + 1, Heading(from_name="You", from_address=f"you@{DOMAIN}", subject="Hello")),
    ):
        _, (queued,) = decided(request, size=size)
        assert queued.personal is not None
        assert queued.personal.heading == heading
