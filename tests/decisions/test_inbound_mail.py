"""What becomes of mail that comes in: what is passed on and to whom, what a reply is."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from relay.decisions.attempt import prevented
from relay.decisions.inbound_mail import forward_address, is_known_sender, is_reply
from relay.events import (
    NOBODY,
    DomainAdded,
    DomainForwardConfirmed,
    DomainForwardSet,
    DomainPaused,
    DomainRemoved,
    DomainUnverified,
    DomainVerified,
    ForwardAddress,
    ForwardQueued,
    IncomingMail,
    MailReceived,
    MemberAdded,
    MemberSuspended,
    MessageBounced,
    PayloadErased,
    RecipientSuppressed,
    SuppressedRecipient,
)
from relay.times import DAY_US, SECOND_US
from relay.views import due, messages
from relay.views.received import REPEAT_US, is_repeat
from tests.world.inbound_log import (
    CONFIG,
    DOMAIN,
    FORWARD_TO,
    FRIEND,
    OPERATORS,
    InboundLog,
    for_operator,
    incoming,
    open_inbound_log,
)
from tests.world.relay import DID

OTHER = "did:web:other.example"
LAX = msgspec.structs.replace(CONFIG, require_verified_domains=False)


@pytest.fixture
def log() -> Iterator[InboundLog]:
    with open_inbound_log() as found:
        yield found


# ------------------------------------------------------------------------------------------------ passed on


def test_what_is_passed_on_is_recorded_whole_and_queued_behind_it(log: InboundLog) -> None:
    received, queued = log.pass_on(incoming(7, mail_from="", rcpt_to=("a@d.example", "b@d.example")))
    assert received == MailReceived(
        did=DID,
        kind="reply",
        domain=DOMAIN,
        sha256="11" * 32,
        size=21,
        digest=f"{7:064x}",
        mail_from_null=True,
        received_by="relay.example",
        received_with="ESMTPS",
        personal=IncomingMail(
            rcpt_to=["a@d.example", "b@d.example"],
            client_address="192.0.2.1",
            ehlo_name="mx.example.com",
            raw=b"Subject: Re: s\r\n\r\nt\r\n",
        ),
    )
    assert isinstance(queued, ForwardQueued)
    assert queued.personal is not None
    assert (queued.personal.address, queued.did, queued.domain) == (FORWARD_TO, DID, DOMAIN)
    assert queued.next_attempt_at == log.now
    assert queued.give_up_at == log.now + CONFIG.give_up_seconds("forward") * SECOND_US
    state = log.state(len(log.events))
    assert (state.category, state.is_notice, state.send_seq) == ("forward", True, state.message_id)


def test_it_waits_in_no_login_links_way(log: InboundLog) -> None:
    log.pass_on(incoming())
    waiting = due.waiting(log.view, len(log.events))
    assert waiting is not None
    assert (waiting.lane.domain, waiting.lane.bulk) == ("home.example", True)
    log.pass_on(for_operator(2), OPERATORS)
    operators = due.waiting(log.view, len(log.events))
    assert operators is not None
    assert operators.lane.member != waiting.lane.member


def test_the_same_mail_is_a_repeat_for_five_days(log: InboundLog) -> None:
    log.pass_on(incoming(1))
    assert log.pass_on(incoming(1)) == []
    assert len(log.pass_on(incoming(2))) == 2
    log.later(REPEAT_US - 1)
    assert log.pass_on(incoming(1)) == []
    log.later(1)
    assert len(log.pass_on(incoming(1))) == 2
    # From then on.
    log.later(REPEAT_US - 1)
    assert log.pass_on(incoming(1)) == []


def test_what_is_known_of_repeats_is_forgotten(log: InboundLog) -> None:
    for number in range(40):
        log.pass_on(incoming(number))
    assert log.view.count("received") == log.view.count("received_by_time") == 40
    log.later(REPEAT_US)
    for number in range(100, 103):
        log.pass_on(incoming(number))
        assert not is_repeat(log.view, f"{number % 3:064x}", log.now)
    assert log.view.count("received") == log.view.count("received_by_time") == 3


def test_nobodys_list_stops_mail_to_the_operators_own_mailbox(log: InboundLog) -> None:
    for address in (OPERATORS, FORWARD_TO):
        personal = SuppressedRecipient(address=address)
        log.add(RecipientSuppressed(did=OTHER, reason="manual", personal=personal))
    log.pass_on(for_operator(1), OPERATORS)
    operators = log.events[-1]
    log.pass_on(incoming(2))
    members = log.events[-1]
    assert prevented(log.view, log.state(operators.seq), operators) is None
    assert isinstance(prevented(log.view, log.state(members.seq), members), MessageBounced)


@pytest.mark.parametrize(
    "event",
    [
        MemberSuspended(did=DID),
        DomainPaused(did=DID, domain=DOMAIN, status="paused"),
        DomainRemoved(did=DID, domain=DOMAIN, because="operator"),
    ],
)
def test_what_stops_a_members_mail_does_not_stop_what_came_for_it(
    log: InboundLog, event: MemberSuspended | DomainPaused | DomainRemoved
) -> None:
    log.pass_on(incoming())
    queued = log.events[-1]
    log.add(event)
    assert prevented(log.view, log.state(queued.seq), queued) is None


# ------------------------------------------------------------------------------------------------ where to


def test_where_a_members_mail_goes(log: InboundLog) -> None:
    assert forward_address(log.view, DID, DOMAIN, config=CONFIG) == FORWARD_TO
    assert forward_address(log.view, DID, "other.example", config=CONFIG) is None
    assert forward_address(log.view, OTHER, DOMAIN, config=CONFIG) is None


def test_only_where_the_owner_has_confirmed_it(log: InboundLog) -> None:
    forward = ForwardAddress(address="new@home.example")
    (seq,) = log.add(DomainForwardSet(did=DID, domain=DOMAIN, key_id="k", asks=True, personal=forward))
    assert forward_address(log.view, DID, DOMAIN, config=CONFIG) is None
    log.add(DomainForwardConfirmed(did=DID, domain=DOMAIN, confirmation=seq))
    assert forward_address(log.view, DID, DOMAIN, config=CONFIG) == "new@home.example"
    log.add(DomainForwardSet(did=DID, domain=DOMAIN))
    assert forward_address(log.view, DID, DOMAIN, config=CONFIG) is None


def test_not_to_who_is_on_anybodys_list(log: InboundLog) -> None:
    personal = SuppressedRecipient(address=FORWARD_TO.upper())
    log.add(RecipientSuppressed(did=OTHER, reason="unsubscribe", personal=personal))
    assert forward_address(log.view, DID, DOMAIN, config=CONFIG) is None


def test_only_of_a_verified_domain_where_it_has_to_be(log: InboundLog) -> None:
    log.add(DomainUnverified(did=DID, domain=DOMAIN, failed=["ownership"]))
    assert forward_address(log.view, DID, DOMAIN, config=CONFIG) is None
    assert forward_address(log.view, DID, DOMAIN, config=LAX) == FORWARD_TO


def test_a_name_that_another_has_proved_is_the_others(log: InboundLog) -> None:
    """What two have enrolled is passed on to the one that has it."""
    name = "e.example"
    log.add(MemberAdded(did=OTHER))
    for did in (DID, OTHER):
        forward = ForwardAddress(address=f"{did[-5:]}@home.example")
        log.add(
            DomainAdded(did=did, domain=name, selector_stem="s", rsa_public="r", ed25519_public="e"),
            DomainForwardSet(did=did, domain=name, personal=forward),
        )
    assert forward_address(log.view, OTHER, name, config=LAX) is None
    log.add(DomainVerified(did=OTHER, domain=name))
    assert forward_address(log.view, DID, name, config=LAX) is None
    assert forward_address(log.view, OTHER, name, config=CONFIG) is not None


# ------------------------------------------------------------------------------------------------ replies


def test_a_reply_names_a_message_id_of_the_relays_making(log: InboundLog) -> None:
    message_id = log.sent(entropy="0123456789abcdef")

    def names(*references: str) -> bool:
        return is_reply(log.view, DID, DOMAIN, references, log.get)

    own = f"<{message_id}.0123456789abcdef@{DOMAIN}>"
    assert names(own)
    assert names("<x@y.example>", own)
    assert names(own.replace(DOMAIN, DOMAIN.upper()))
    # Ids can be counted; what only receivers know cannot.
    for forged in (
        f"<{message_id}.0123456789abcde0@{DOMAIN}>",
        f"<{message_id}.0@{DOMAIN}>",
        f"<{message_id}@{DOMAIN}>",
        f"<{message_id - 1}.0123456789abcdef@{DOMAIN}>",
        f"<{message_id + 900}.0123456789abcdef@{DOMAIN}>",
        f"<{10**15}.0123456789abcdef@{DOMAIN}>",
        f"<{message_id}.0123456789abcdef@e.example>",
        own[1:-1],
        "",
        "<\udcff@d.example>",
    ):
        assert not names(forged)
    assert not names()
    assert not is_reply(log.view, OTHER, DOMAIN, [own], log.get)
    assert not is_reply(log.view, DID, "e.example", [own.replace(DOMAIN, "e.example")], log.get)
    # Nor of a notice, which has such a number, too.
    log.report(message_id)
    log.pass_on(incoming())
    for item in log.events[message_id:]:
        assert not names(f"<{item.seq}.e@{DOMAIN}>")


@pytest.mark.parametrize(
    "content",
    [
        {"headers": [("X-Other", "1"), ("message-id", " <own.1@d.example> ")]},
        {"text": None, "raw": b"Subject: s\r\nMessage-Id:\r\n <own.1@d.example>\r\n\r\nt\r\n"},
        {"text": None, "raw": b"Message-ID: <own.1@d.example>"},
    ],
    ids=["http", "folded", "first and alone"],
)
def test_a_reply_names_a_message_id_of_the_members_own(log: InboundLog, content: dict[str, object]) -> None:
    message_id = log.sent(**content)

    def names(reference: str, did: str = DID, domain: str = DOMAIN) -> bool:
        return is_reply(log.view, did, domain, [reference], log.get)

    assert names("<own.1@d.example>")
    assert not names("<own.2@d.example>")
    assert not names("<own.1@d.example>", OTHER)
    assert not names("<own.1@d.example>", domain="e.example")
    # It goes with the payload that it came from.
    log.add(PayloadErased(did=DID, because="retention", message_ids=[message_id]))
    assert not names("<own.1@d.example>")
    assert log.view.count("message_ids") == log.view.count("message_id_of") == 0


def test_two_sends_of_one_message_id(log: InboundLog) -> None:
    first, second = (log.sent(headers=[("Message-ID", "<own@d.example>")]) for _ in range(2))
    log.add(PayloadErased(did=DID, because="retention", message_ids=[first]))
    assert is_reply(log.view, DID, DOMAIN, ["<own@d.example>"], log.get)
    log.add(PayloadErased(did=DID, because="retention", message_ids=[second]))
    assert not is_reply(log.view, DID, DOMAIN, ["<own@d.example>"], log.get)


def test_what_stands_in_a_body_is_no_message_id(log: InboundLog) -> None:
    log.sent(text=None, raw=b"Subject: s\r\n\r\nMessage-ID: <own@d.example>\r\n")
    log.sent(text=None, raw=b"X-Message-ID: <own@d.example>\r\n\r\nt\r\n")
    assert not is_reply(log.view, DID, DOMAIN, ["<own@d.example>"], log.get)


# ------------------------------------------------------------------------------------------------ known senders


def test_who_was_written_to_in_thirty_days_is_known(log: InboundLog) -> None:
    log.sent("Friend@example.com")
    assert is_known_sender(log.view, DID, DOMAIN, FRIEND, log.now)
    assert not is_known_sender(log.view, DID, DOMAIN, "foe@example.com", log.now)
    assert not is_known_sender(log.view, DID, DOMAIN, "", log.now)
    assert not is_known_sender(log.view, DID, "e.example", FRIEND, log.now)
    assert not is_known_sender(log.view, OTHER, DOMAIN, FRIEND, log.now)
    log.later(30 * DAY_US - 1)
    assert is_known_sender(log.view, DID, DOMAIN, FRIEND, log.now)
    log.later(1)
    assert not is_known_sender(log.view, DID, DOMAIN, FRIEND, log.now)


def test_who_gets_notices_is_known_by_that_to_nobody(log: InboundLog) -> None:
    log.report(log.sent())
    log.pass_on(incoming())
    assert len(list(messages.messages_of(log.view, DID, recipient=FORWARD_TO))) == 2
    assert not is_known_sender(log.view, DID, DOMAIN, FORWARD_TO, log.now)
    assert not is_known_sender(log.view, NOBODY, DOMAIN, FORWARD_TO, log.now)
