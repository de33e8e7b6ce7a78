"""Mail that is passed on: two fields on top, not an octet changed, and nobody on the way who can write into them."""

from __future__ import annotations

import email
import re
import time
from typing import Any

import dkim
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.codec import Recorded
from relay.events import NOBODY, Event, ForwardQueued, IncomingMail, MailReceived, Recipient
from relay.message.forward import compose_forward, from_and_subject, is_looping
from relay.message.key_files import KeyFileError
from relay.message.keys import KeyRing, Pepper
from relay.message.outgoing import Composer, Gathered, Outgoing, PayloadGoneError
from relay.message.signing import verify
from relay.message.tokens import BounceAddresses, ConfirmationTokens, UnsubscribeTokens
from relay.views import messages
from tests.golden_messages.notices import FORWARD_STORIES, forwarded
from tests.golden_messages.stories import BOUNCED_AT_US, HERE
from tests.message.test_whole import MEMBERS_KEY, MEMBERS_RECORD
from tests.mime_strategies import Composed
from tests.mime_strategies import messages as mails

BOUNCES = BounceAddresses(b"v" * 32, "relay.example")
PEPPER = Pepper(b"p" * 32)
OWNER = "owner@elsewhere.example"
MAIL = b"From: Jane <jane@shop.example>\r\nSubject: Re: Hello\r\n\r\nThank you!\r\n"
#: Message ids of the `mail.received` and of its `forward.queued`.
RECEIVED, FORWARD = 455, 456


def received(raw: bytes = MAIL, **changes: Any) -> MailReceived:
    personal: dict[str, Any] = {"ehlo_name": "out.shop.example", "client_address": "192.0.2.25", "raw": raw}
    for name in personal.keys() & changes.keys():
        personal[name] = changes.pop(name)
    fields: dict[str, Any] = {
        "did": NOBODY,
        "kind": "operator",
        "domain": "relay.example",
        "sha256": "",
        "size": len(raw),
        "digest": "",
        "received_by": "mail.relay.example",
        "received_with": "ESMTPS",
        "personal": IncomingMail(**personal),
    }
    return MailReceived(**{**fields, **changes})


def forward(to: str = OWNER) -> ForwardQueued:
    return ForwardQueued(
        did=NOBODY,
        domain="relay.example",
        next_attempt_at=BOUNCED_AT_US,
        give_up_at=BOUNCED_AT_US,
        operator_domain="relay.example",
        personal=Recipient(given=to, address=to),
    )


def top_of(mail: MailReceived) -> bytes:
    composed = compose_forward(
        Recorded(FORWARD, BOUNCED_AT_US, forward()), Recorded(RECEIVED, BOUNCED_AT_US, mail), token="456-m"
    )
    assert composed.as_bytes() == composed.top + composed.octets
    assert mail.personal is not None
    assert composed.octets == mail.personal.raw
    return composed.top


def composer(number: int = 1) -> Composer:
    return Composer(
        KeyRing(HERE),
        UnsubscribeTokens(PEPPER.unsubscribe_key),
        BounceAddresses(PEPPER.bounce_key, "relay.example"),
        ConfirmationTokens(PEPPER.confirmation_key),
        lambda _: number,
    )


def outgoing_of(mail: MailReceived, to: ForwardQueued | None = None, *, number: int = 1) -> Outgoing:
    return gathered(mail, to, number=number).compose()


def gathered(mail: MailReceived, to: ForwardQueued | None = None, *, number: int = 1) -> Gathered:
    log: dict[int, Event] = {RECEIVED: mail, FORWARD: to or forward()}

    def get(seq: int) -> Recorded:
        return Recorded(seq, BOUNCED_AT_US, log[seq])

    return composer(number).gather(messages.begun(get(FORWARD)), get)


# ------------------------------------------------------------------------------------------------ what goes out


@pytest.mark.parametrize("name", FORWARD_STORIES)
def test_golden_bytes_never_change(name: str) -> None:
    assert forwarded(FORWARD_STORIES[name]) == (HERE / f"{name}.eml").read_bytes()


@given(st.binary(max_size=200))
@example(b"")
@example(b"\r\n")
@example(b" folded onto ours\r\n")
def test_any_octets_go_on_as_they_came(raw: bytes) -> None:
    outgoing = outgoing_of(received(raw))
    assert outgoing.message == top_of(received(raw)).replace(b"456-m", token()) + raw


def token() -> bytes:
    return composer().bounces.token(FORWARD).encode()


def test_the_envelope_sender_names_the_forward_and_null_stays_null() -> None:
    envelope = outgoing_of(received()).envelope
    assert envelope.mail_from == f"forward+{token().decode()}@relay.example"
    assert composer().bounces.parse(envelope.mail_from) == FORWARD
    assert (envelope.rcpt_to, envelope.smtputf8) == (OWNER, False)
    assert outgoing_of(received(mail_from_null=True)).envelope.mail_from == ""


@pytest.mark.parametrize(
    ("raw", "to", "smtputf8"),
    [
        ("Subject: Grüße\r\n\r\nx\r\n".encode(), OWNER, True),
        (b"Subject: Gr\xfc\xdfe\r\n\r\nx\r\n", OWNER, False),
        ("Subject: x\r\n\r\nGrüße\r\n".encode(), OWNER, False),
        (MAIL, "büro@elsewhere.example", True),
        # A header as long as a mail may be, with the only such character at its end.
        (b"X: " + b"\r\n x" * 200_000 + "\r\nSubject: ü\r\n\r\n".encode(), OWNER, True),
    ],
)
def test_smtputf8_is_asked_for_by_what_the_mail_is(raw: bytes, to: str, smtputf8: bool) -> None:
    assert outgoing_of(received(raw), forward(to)).envelope.smtputf8 is smtputf8


def test_the_authors_signature_holds_and_there_is_none_of_ours() -> None:
    @given(mails())
    def passed_on(of: Composed) -> None:
        signature = dkim.sign(of.kept, b"own", b"own.example", MEMBERS_KEY)
        message = outgoing_of(received(signature + of.kept)).message
        verdicts = verify(message, {"own._domainkey.own.example": MEMBERS_RECORD}.get)
        assert (verdicts[0].d, verdicts[0].valid) == ("own.example", True)
        assert not any(verdict.d == "relay.example" for verdict in verdicts)

    passed_on()


def test_what_is_removed_or_unreadable_is_told_apart() -> None:
    with pytest.raises(PayloadGoneError):
        outgoing_of(received(personal=None))
    with pytest.raises(KeyFileError):
        outgoing_of(received(), number=2)


def test_how_large_it_is_is_known_before_it_is_composed() -> None:
    """So that it is composed beside the loop, and only where there is room for it."""
    raw = MAIL + b"x" * 300_000 + b"\r\n"
    large = gathered(received(raw))
    assert large.octets == len(raw)
    assert large.send is None
    assert large.compose().message.endswith(raw)


# ------------------------------------------------------------------------------------------------ what clients try

HOSTILE = [
    "",
    "x\r\nX-Evil: yes",
    "x\nX-Evil: yes",
    "x\0",
    "x) by relay.example with ESMTPS id 1; (",
    "a b",
    "a;b",
    '"a"',
    "<a>",
    "[192.0.2.1] x",
    "[x" * 100,
    "é.example",
    "\u202e",
    ".",
    "a..b",
    "a.example.\r\n",
    "x" * 300,
    "1.2.3.4\r\n",
    "192.0.2.25%\r\nX-Evil: yes",
    "fe80::1%x)\r\nX-Evil: yes",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nobody_writes_into_the_fields(text: str) -> None:
    for changes in (
        {"ehlo_name": text},
        {"client_address": text},
        {"ehlo_name": text, "client_address": text},
    ):
        top = top_of(received(**changes))
        read = email.message_from_bytes(top)
        assert read.keys() == ["Received", "X-Atmos-Forwarded"]
        assert not read.defects
        assert read["X-Atmos-Forwarded"] == "456-m"
        assert re.fullmatch(
            r"from (?:unknown|out\.shop\.example)(?: \(\[(?:192\.0\.2\.25|IPv6:fe80::1)\]\))?"
            r" by mail\.relay\.example with ESMTPS id 456; Mon, 24 Nov 2025 16:01:30 \+0000",
            re.sub(r"\r\n\s", " ", read["Received"]),
        ), read["Received"]
        assert top.isascii()
        assert max(map(len, top.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "name", ["mail.shop.example", "localhost", "[192.0.2.1]", "[IPv6:2001:db8::1]", "my_pc", "a-1.B"]
)
def test_a_name_that_is_one_is_shown(name: str) -> None:
    assert f"from {name} ([192.0.2.25]) by".encode() in re.sub(
        rb"\r\n\s", b" ", top_of(received(ehlo_name=name))
    )


def test_addresses_are_shown_as_rfc_5321_has_them() -> None:
    for address, literal in {
        "192.0.2.25": b"[192.0.2.25]",
        "::ffff:192.0.2.25": b"[192.0.2.25]",
        "2001:db8::25": b"[IPv6:2001:db8::25]",
    }.items():
        assert b"(" + literal + b")" in top_of(received(client_address=address))
    assert b"(" not in top_of(received(client_address=None))


# ------------------------------------------------------------------------------------------------ circles

RECEIVED_FIELD = b"Received: from a by b; today\r\n"


def test_what_passed_here_is_known_again() -> None:
    ours = outgoing_of(received()).message
    tokens = composer().bounces
    assert is_looping(ours, tokens)
    assert is_looping(RECEIVED_FIELD * 10 + ours, tokens)
    assert is_looping(ours.replace(b"X-Atmos-Forwarded: ", b"x-atmos-FORWARDED:\r\n\t "), tokens)
    assert is_looping(outgoing_of(received(b" folded onto it\r\n\r\n")).message, tokens)
    assert is_looping(ours.partition(b"\r\n\r\n")[0] + b"\r\n", tokens), "a header alone"
    tokens.add(2, b"w" * 32)
    assert is_looping(ours, tokens), "by an older pepper"
    assert is_looping(b"X-Atmos-Forwarded: " + tokens.token(7, 2).encode() + b"\r\n", tokens)


def test_what_others_have_passed_on_does_not_loop() -> None:
    others = BounceAddresses(b"o" * 32, "other.example").token(FORWARD).encode()
    ours = BOUNCES.token(FORWARD).encode()
    for head in (
        MAIL,
        b"",
        b"\r\n",
        b"X-Atmos-Forwarded: " + others + b"\r\n" + MAIL,
        b"X-Atmos-Forwarded: x " + ours + b"\r\n",
        b"X-Atmos-Message: " + ours + b"\r\n" + MAIL,
        b"X-X-Atmos-Forwarded: " + ours + b"\r\n",
        MAIL + b"X-Atmos-Forwarded: " + ours + b"\r\n",
        b"\r\nX-Atmos-Forwarded: " + ours + b"\r\n",
        b"X-Atmos-Forwarded: \xff\x80\r\nX-Atmos-Forwarded:\r\n",
        RECEIVED_FIELD * 50 + MAIL,
        RECEIVED_FIELD * 50 + b"\r\n" + RECEIVED_FIELD * 50,
        (b"Subject: x\r\n\t" + RECEIVED_FIELD) * 60,
    ):
        assert not is_looping(head, BOUNCES), head[:100]


def test_more_than_fifty_servers_are_a_circle() -> None:
    assert is_looping(RECEIVED_FIELD * 51 + MAIL, BOUNCES)
    assert is_looping(b"RECEIVED : x\r\n" + RECEIVED_FIELD * 50 + MAIL, BOUNCES)
    other = b"X-Atmos-Forwarded: 448-aaaaaaaaaaaaaaaa\r\n"
    assert is_looping(other * 51 + MAIL, BOUNCES)
    assert not is_looping(other * 50 + MAIL, BOUNCES)


@given(
    st.lists(
        st.sampled_from([b"X-Atmos-Forwarded:", b"Received:", b" ", b"\r\n", b"\t", b"\xff", b"1-a", b"\n"])
    )
)
def test_any_octets_are_judged(pieces: list[bytes]) -> None:
    is_looping(b"".join(pieces), BOUNCES)
    from_and_subject(b"".join(pieces))


@pytest.mark.parametrize(
    "piece",
    [
        b"X-Atmos-Forwarded:",
        b"X-Atmos-Forwarded: 448-aaaaaaaaaaaaaaaa\r\n",
        b"X-Atmos-Forwarded:\r\n \r\n ",
        b"X-Atmos-Forwarded" + b" " * 1000,
        b"Received",
        b"\r\n ",
        b"x",
    ],
)
def test_the_time_is_bounded(piece: bytes) -> None:
    head = piece * (11_000_000 // len(piece))
    begun = time.process_time()
    is_looping(head, BOUNCES)
    from_and_subject(head)
    assert time.process_time() - begun < 1


# ------------------------------------------------------------------------------------------------ what is shown


def shown(header: bytes) -> tuple[str | None, str | None]:
    sender, subject = from_and_subject(header + b"\r\nbody\r\n")
    return None if sender is None else sender.address, subject


def test_what_the_header_says_is_shown_decoded() -> None:
    assert shown(
        b"From: =?utf-8?q?Zo=C3=AB?= <zoe@shop.example>\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n x\r\n"
    ) == (
        "zoe@shop.example",
        "Grüße x",
    )
    sender, _ = from_and_subject(b"From: =?utf-8?q?Zo=C3=AB?= <zoe@shop.example>\r\n")
    assert sender is not None
    assert sender.name == "Zoë"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", (None, None)),
        (b"no field\r\n", (None, None)),
        (b"From: a@x.example\r\nFrom: b@x.example\r\nSubject: s\r\n", (None, "s")),
        (b"From: a@x.example, b@x.example\r\nSubject: s\r\n", (None, "s")),
        (b"From: a@x.example\r\nSubject: s\r\nSubject: t\r\n", ("a@x.example", None)),
        (b"From: \xff\r\nSubject: a\0b\x1b[31m\r\n", (None, "a\ufffdb\ufffd[31m")),
        (b"From: a@x.example\r\nSubject: " + b"s" * 5000 + b"\r\n", ("a@x.example", "s" * 4000)),
        (b"From: a@x.example\r\n" + b"X: y\r\n" * 20_000, (None, None)),
    ],
)
def test_what_readers_could_read_differently_is_not(
    header: bytes, expected: tuple[str | None, str | None]
) -> None:
    assert shown(header) == expected
