"""The state machine beyond the dialogues: our own mistakes, limits, and whatever a server may say."""

import itertools
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.delivery.reply_reader import (
    REPLY_BYTES_MAX,
    REPLY_LINE_BYTES_MAX,
    REPLY_LINES_MAX,
    Capabilities,
    RemoteProtocolError,
    SmtpReply,
)
from relay.delivery.smtp import (
    BODY_BLOCK_BYTES,
    NEED_DATA,
    Client,
    LocalProtocolError,
    State,
    check_message,
)
from relay.message.envelope import Envelope
from tests.world.smtp_talk import BEHAVING, ENVELOPE, UTTERANCES, talk

MESSAGE = b"Subject: hello\r\n\r\nHello.\r\n"


def ready(*keywords: str) -> Client:
    """A client in State.READY, whose server offers `keywords`."""
    client = Client("relay.test")
    lines = ["mx.example", *keywords]
    ehlo = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
    for reply in ("220 mx.example\r\n", ehlo):
        client.receive_data(reply.encode())
        assert isinstance(client.next_event(), SmtpReply)
    client.data_to_send()
    assert client.state is State.READY
    return client


# -- our own mistakes


@pytest.mark.parametrize(
    "name", ["", "two words", "a\r\nQUIT", "bücher.example", "<x>", "a" * 256, "[1.2.3.4"]
)
def test_a_name_that_is_no_ehlo_argument(name: str) -> None:
    with pytest.raises(LocalProtocolError):
        Client(name)


@pytest.mark.parametrize("name", ["relay.test", "localhost", "[127.0.0.1]", "[IPv6:2001:db8::1]"])
def test_a_name_that_is_an_ehlo_argument(name: str) -> None:
    client = Client(name)
    client.receive_data(b"220 hello\r\n")
    client.next_event()
    assert client.data_to_send() == f"EHLO {name}\r\n".encode()


@pytest.mark.parametrize(
    "address",
    [
        "a@b.example\r\nRCPT TO:<c@d.example>",
        "a@b.example\n",
        "a\0@b.example",
        "a@b.example> SIZE=1",
        "<a@b.example",
        "a b@c.example",
        "a\x85@b.example",
        "a\u2028@b.example",
        "a\ud800@b.example",
        "a" * 250 + "@b.example",
        "ä" * 125 + "@b.example",
    ],
)
def test_an_address_that_could_break_out_of_its_command(address: str) -> None:
    for envelope in (Envelope(address, "b@c.example", smtputf8=True), Envelope("b@c.example", address, True)):
        client = ready("SMTPUTF8")
        with pytest.raises(LocalProtocolError):
            client.begin(envelope, MESSAGE)
        assert client.data_to_send() == b""
        assert client.state is State.READY


def test_a_recipient_is_needed_and_a_sender_is_not() -> None:
    with pytest.raises(LocalProtocolError):
        ready().begin(Envelope("", ""), MESSAGE)
    client = ready()
    client.begin(Envelope("", "b@c.example"), MESSAGE)
    assert client.data_to_send() == b"MAIL FROM:<>\r\n"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"no end",
        b"bare\nLF\r\n",
        b"bare\rCR\r\n",
        b"smuggled\n.\r\nMAIL FROM:<x@y.example>\r\n",
        b"smuggled\r.\r\n",
        b"\n\r\r\n",
        b"\n\r\n",
        b"NUL\0\r\n",
        b"x" * 999 + b"\r\n",
    ],
)
def test_a_message_that_receivers_would_read_differently(message: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        ready().begin(ENVELOPE, message)


def test_the_longest_line() -> None:
    check_message(b"x" * 998 + b"\r\n" + b"." * 998 + b"\r\n")


@pytest.mark.parametrize("line", [b".", b"", b"..x", b"x" * 997, b"x" * 998, b"a.", b"." + b"y" * 900])
def test_dots_are_stuffed_in_every_block_of_a_large_message(line: bytes) -> None:
    message = (line + b"\r\n") * (3 * BODY_BLOCK_BYTES // (len(line) + 2))
    client = ready("PIPELINING")
    client.begin(ENVELOPE, message, is_checked=True)
    client.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
    for _ in range(3):
        client.next_event()
    blocks = list(client.take_body())
    assert len(blocks) > 2
    assert max(map(len, blocks)) <= 2 * BODY_BLOCK_BYTES
    stuffed = b"".join(
        b"." + line if line.startswith(b".") else line for line in message.splitlines(keepends=True)
    )
    assert b"".join(blocks) == stuffed


def test_what_was_not_offered_is_not_used() -> None:
    with pytest.raises(LocalProtocolError):
        ready("8BITMIME").begin(Envelope("ann@relay.test", "jürgen@mx.example", smtputf8=True), MESSAGE)
    with pytest.raises(LocalProtocolError):
        ready("SMTPUTF8").begin(Envelope("ann@relay.test", "jürgen@mx.example"), MESSAGE)
    with pytest.raises(LocalProtocolError):
        ready().begin(ENVELOPE, "Grüße\r\n".encode())
    with pytest.raises(LocalProtocolError):
        ready(f"SIZE {len(MESSAGE) - 1}").begin(ENVELOPE, MESSAGE)
    with pytest.raises(LocalProtocolError):
        ready().starttls()


def test_a_message_of_exactly_the_size_offered() -> None:
    client = ready(f"SIZE {len(MESSAGE)}")
    client.begin(ENVELOPE, MESSAGE)
    assert client.data_to_send() == f"MAIL FROM:<ann@relay.test> SIZE={len(MESSAGE)}\r\n".encode()


def test_every_intention_out_of_its_turn() -> None:
    client = Client("relay.test")
    for intend in (
        client.starttls,
        client.tls_established,
        client.take_body,
        client.end_of_data,
        client.quit,
    ):
        with pytest.raises(LocalProtocolError):
            intend()
    with pytest.raises(LocalProtocolError):
        client.begin(ENVELOPE, MESSAGE)
    client.receive_data(b"421 no\r\n")
    client.next_event()
    with pytest.raises(LocalProtocolError):
        client.next_event()


def test_the_dot_comes_after_the_body_and_the_body_once() -> None:
    client = ready("PIPELINING")
    client.begin(ENVELOPE, MESSAGE)
    client.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
    for _ in range(3):
        client.next_event()
    client.data_to_send()
    with pytest.raises(LocalProtocolError):
        client.end_of_data()
    assert b"".join(client.take_body()) == MESSAGE
    with pytest.raises(LocalProtocolError):
        client.take_body()
    assert client.data_to_send() == b""
    client.end_of_data()
    assert client.data_to_send() == b".\r\n"


# -- capabilities


def test_capabilities() -> None:
    client = ready(
        "pipelining", "8BitMime", "SMTPUTF8", "StartTLS", "EnhancedStatusCodes", "SIZE 1000", "X-FOO bar", ""
    )
    assert client.capabilities == Capabilities(
        extended=True,
        pipelining=True,
        eight_bit_mime=True,
        smtputf8=True,
        starttls=True,
        enhanced_status_codes=True,
        size=True,
        size_max=1000,
    )


@pytest.mark.parametrize(
    "size", ["SIZE", "SIZE 0", "SIZE many", "SIZE 1 2", "SIZE -1", "SIZE " + "9" * 21, "SIZE ２"]
)
def test_a_size_that_is_no_limit(size: str) -> None:
    client = ready(size)
    assert client.capabilities.size
    assert client.capabilities.size_max is None


def test_what_was_offered_in_plain_text_is_forgotten_under_tls() -> None:
    client = ready("STARTTLS", "SMTPUTF8")
    client.starttls()
    client.receive_data(b"220 go\r\n")
    client.next_event()
    client.tls_established()
    assert client.capabilities == Capabilities()


# -- limits


def feed_until_error(client: Client, pieces: Iterable[bytes]) -> int:
    """How many bytes were taken before RemoteProtocolError."""
    taken = 0
    for piece in pieces:
        taken += len(piece)
        client.receive_data(piece)
        try:
            while client.next_event() is not NEED_DATA:
                pass
        except RemoteProtocolError:
            assert client.state is State.CLOSED
            return taken
    raise AssertionError("no limit")


def test_an_endless_line() -> None:
    assert (
        feed_until_error(Client("relay.test"), itertools.repeat(b"220 " + b"x" * 1000))
        <= REPLY_LINE_BYTES_MAX + 1004
    )


def test_an_endless_reply() -> None:
    line = b"220-" + b"x" * 1000 + b"\r\n"
    assert feed_until_error(Client("relay.test"), itertools.repeat(line)) <= REPLY_BYTES_MAX + 2 * len(line)


def test_a_reply_of_endlessly_many_lines() -> None:
    assert feed_until_error(Client("relay.test"), itertools.repeat(b"220-\n")) == 5 * (REPLY_LINES_MAX + 1)


def test_the_longest_reply_that_is_read() -> None:
    client = Client("relay.test")
    client.receive_data(
        b"220-x\r\n" * (REPLY_LINES_MAX - 1) + b"220 " + b"x" * (REPLY_LINE_BYTES_MAX - 5) + b"\r\n"
    )
    reply = client.next_event()
    assert isinstance(reply, SmtpReply)
    assert len(reply.lines) == REPLY_LINES_MAX


def test_a_reply_cannot_turn_what_is_shown_around() -> None:
    client = Client("relay.test")
    client.receive_data("220 a\u202eb\u00adc\x1b[31m\ttab Grüße\r\n".encode())
    reply = client.next_event()
    assert isinstance(reply, SmtpReply)
    assert reply.text == "a�b�c�[31m tab Grüße"


# -- any server


@settings(max_examples=1000)
@given(
    st.sampled_from(BEHAVING),
    st.lists(st.sampled_from(UTTERANCES) | st.binary(min_size=1, max_size=40), max_size=15),
)
def test_whatever_a_server_says_is_a_reply_or_its_own_error(
    beginning: list[bytes], rest: list[bytes]
) -> None:
    with suppress(RemoteProtocolError):
        talk([*beginning, *rest])


@given(st.binary(max_size=60))
def test_a_reply_is_read_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    results = []
    for pieces in ([b"220 " + data + b"\r\n"], [bytes([byte]) for byte in b"220 " + data + b"\r\n"]):
        client = Client("relay.test")
        event: object = None
        try:
            for piece in pieces:
                client.receive_data(piece)
                event = event if isinstance(event, SmtpReply) else client.next_event()
        except RemoteProtocolError as error:
            event = str(error)
        results.append(event)
    assert results[0] == results[1]


# -- enhanced status codes


@pytest.mark.parametrize(
    ("said", "enhanced", "text"),
    [
        ("5.1.1 No such user", "5.1.1", "No such user"),
        ("5.1.1", "5.1.1", ""),
        ("#5.1.0 Address rejected.", "5.1.0", "Address rejected."),
        ("5.1.1: Recipient address rejected", "5.1.1", "Recipient address rejected"),
        ("5.1.1:Recipient address rejected", "5.1.1", "Recipient address rejected"),
        ("(5.1.1) No such user", "5.1.1", "No such user"),
        ("(#5.1.1) No such user", "5.1.1", "No such user"),
        ("[5.7.1] Not from you", "5.7.1", "Not from you"),
        ("<5.1.1> No such user", "5.1.1", "No such user"),
        ("<bob@mx.example>: 5.1.1 No", None, "<bob@mx.example>: 5.1.1 No"),
        ("5.1.1, no such user", "5.1.1", "no such user"),
        ("5.1.1; no such user", "5.1.1", "no such user"),
        ("5.1.1. No such user", "5.1.1", "No such user"),
        ("5.1.1 - No such user", "5.1.1", "- No such user"),
        ("  5.1.1  No such user", "5.1.1", "No such user"),
        ("sorry, no mailbox here by that name (#5.1.1 - chkuser)", "5.1.1", None),
        ("sorry, no mailbox here by that name. (#5.1.1)", "5.1.1", None),
        # none of these is one
        ("5.1.1.7 is an address", None, None),
        ("5.1.1-beta is a version", None, None),
        ("5.01.1 No", None, None),
        ("5.1 No", None, None),
        ("5.1.1000 No", None, None),
        ("15.1.1 No", None, None),
        ("#4.1.1 of another class", None, None),
        ("4.1.1: of another class", None, None),
        ("refused, see 5.1.1 of the manual", None, None),
        ("Exim 5.1.1 says no", None, None),
        ("see https://mx.example/#5.1.1.2", None, None),
    ],
)
def test_a_status_is_read_as_receivers_dress_it(said: str, enhanced: str | None, text: str | None) -> None:
    client = Client("relay.test")
    client.receive_data(f"550 {said}\r\n".encode())
    reply = client.next_event()
    assert isinstance(reply, SmtpReply)
    assert reply.enhanced == enhanced
    assert reply.text == (text if text is not None else said)


@pytest.mark.parametrize(
    "said", ["550-#5.1.1 No such user:\r\n550 #5.1.1 bob\r\n", "550-5.1.1: No such user:\r\n550 bob\r\n"]
)
def test_a_status_is_taken_off_each_line(said: str) -> None:
    client = Client("relay.test")
    client.receive_data(said.encode())
    reply = client.next_event()
    assert isinstance(reply, SmtpReply)
    assert (reply.enhanced, reply.text) == ("5.1.1", "No such user: bob")
