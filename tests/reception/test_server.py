"""The state machine beyond the dialogues: whatever a client may say, and our own mistakes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.delivery import smtp
from relay.message.envelope import Envelope
from relay.reception.questions import Authenticate, EndOfData, Mail, Signal, State
from relay.reception.replies import AUTHENTICATED, Reply
from relay.reception.rules import Rules
from relay.reception.server import LocalProtocolError, Server
from tests.world.smtp_clients import BEHAVING, INBOUND, SUBMISSION, UTTERANCES, talk

OK = Reply(250, "2.0.0", "ok")
RULES = st.sampled_from([SUBMISSION, INBOUND])


# -- whatever a client says


@settings(max_examples=400)
@given(st.sampled_from(BEHAVING), st.lists(st.sampled_from(UTTERANCES), max_size=30), RULES)
def test_any_utterances_in_any_order(behaving: list[bytes], pieces: list[bytes], rules: Rules) -> None:
    talk([*behaving, *pieces], rules)


@settings(max_examples=200)
@given(st.sampled_from(BEHAVING), st.lists(st.binary(min_size=1, max_size=40), max_size=20), RULES)
def test_any_octets(behaving: list[bytes], pieces: list[bytes], rules: Rules) -> None:
    talk([*behaving, *pieces], rules)


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from([each for each in UTTERANCES if each.endswith(b"\r\n") and b"\r\n" in each[-2:]])
    ),
    st.integers(1, 40),
)
def test_every_command_gets_one_reply(lines: list[bytes], piece_bytes: int) -> None:
    """Before anybody is authenticated there is neither a message nor a question, so it can be counted."""
    lines = [line for line in lines if line.count(b"\r\n") == len(line.splitlines()) == 1]
    lines = [line for line in lines if not line.startswith(b"AUTH PLAIN")]
    said = b"".join(lines)
    pieces = [said[start : start + piece_bytes] for start in range(0, len(said), piece_bytes)]
    replies = talk(pieces, SUBMISSION)
    was_closed = replies[-1][0] in (221, 421, 521, 502, 554)
    assert len(replies) == len(lines) + 1 or (was_closed and len(replies) < len(lines) + 1)


# -- bounded memory

FLOODS = {
    "a line without end": (b"", b"x" * 4096),
    "lines that are too long": (b"", b"x" * 20_000 + b"\r\n"),
    "commands": (b"", b"NOOP\r\n" * 600),
    "no line at all": (b"", b"\r\n" * 2000),
    "recipients": (b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n" * 150),
    "refused recipients": (b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<>\r\n" * 300),
    "a message without end": (
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
        b"x" * 62 + b"\r\n",
    ),
    "the beginning of the end": (
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
        b"\r\n.\r" * 1000,
    ),
    "line ends that double": (
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
        b"\n" * 4096,
    ),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_costs_little(name: str) -> None:
    opening, piece = FLOODS[name]
    server = authenticated(Rules.submission("relay.test", has_tls=True, message_bytes_max=100_000))
    hear(server, opening)
    tracemalloc.start()
    try:
        for _ in range(2_000):
            if server.state is State.CLOSED:
                break
            hear(server, piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000, f"{peak} bytes"


# -- the twin


@settings(max_examples=100)
@given(
    st.lists(
        st.lists(st.sampled_from([".", "..", "a", "bc", " ", "\t", ""]), max_size=6).map("".join),
        max_size=8,
    ),
    st.integers(1, 60),
)
def test_what_our_client_sends_is_what_our_server_gets(lines: list[str], piece_bytes: int) -> None:
    message = b"".join(line.encode() + b"\r\n" for line in ["Subject: x", *lines])
    client = smtp.Client("client.test")
    server = Server(Rules.inbound("relay.test", has_tls=True), is_secure=True)
    server.greet()
    got: list[bytes] = []

    def exchange() -> None:
        while client.awaiting is not None:
            to_server = client.data_to_send()
            for start in range(0, len(to_server), piece_bytes):
                hear(server, to_server[start : start + piece_bytes], got=got)
            client.receive_data(server.data_to_send())
            while client.awaiting is not None and client.next_event() is not smtp.NEED_DATA:
                pass

    exchange()
    for _ in range(2):
        client.begin(Envelope("a@b.example", "c@d.example"), message)
        exchange()
        assert client.state is smtp.State.BODY
        hear(server, b"".join(client.take_body()), got=got)
        client.end_of_data()
        exchange()
        assert client.decisive is not None
        assert client.decisive.code == 250
    assert got == [message, message]


# -- our own mistakes


def test_a_question_is_answered_before_anything_else() -> None:
    server = authenticated(SUBMISSION)
    server.receive_data(b"MAIL FROM:<a@b.example>\r\n")
    assert isinstance(server.next_event(), Mail)
    assert not server.wants_data
    with pytest.raises(LocalProtocolError):
        server.next_event()
    with pytest.raises(LocalProtocolError):
        server.receive_data(b"RCPT TO:<c@d.example>\r\n")
    server.answer(OK)
    assert server.data_to_send() == b"250 2.0.0 ok\r\n"


@pytest.mark.parametrize("code", [100, 199, 300, 334, 354, 399, 600])
def test_what_is_no_answer(code: int) -> None:
    server = authenticated(SUBMISSION)
    server.receive_data(b"MAIL FROM:<a@b.example>\r\n")
    server.next_event()
    with pytest.raises(LocalProtocolError):
        server.answer(Reply(code, "", "what"))
    server.answer(OK)


def test_every_act_out_of_its_turn() -> None:
    server = authenticated(SUBMISSION)
    for act in (server.greet, server.tls_established):
        with pytest.raises(LocalProtocolError):
            act()
    with pytest.raises(LocalProtocolError):
        server.answer(OK)
    with pytest.raises(LocalProtocolError):
        server.refuse_message(OK)
    server.close_with(Reply(421, "4.3.2", "stopping"))
    server.close_with(Reply(421, "4.3.2", "said once"))
    assert server.data_to_send() == b"421 4.3.2 stopping\r\n"
    with pytest.raises(LocalProtocolError):
        server.receive_data(b"NOOP\r\n")


def test_in_a_handshake_nothing_is_said() -> None:
    server = Server(SUBMISSION)
    server.greet()
    server.receive_data(b"STARTTLS\r\n")
    assert server.next_event() is Signal.STARTTLS
    server.data_to_send()
    server.close_with(Reply(421, "4.3.2", "stopping"))
    assert server.data_to_send() == b""
    assert server.next_event() is Signal.CLOSED


def test_a_password_is_not_shown_where_a_question_is() -> None:
    server = Server(SUBMISSION, is_secure=True)
    server.greet()
    hear(server, b"EHLO client.test\r\n")
    server.receive_data(b"AUTH PLAIN AGFubgBrZXk=\r\n")
    assert "key" not in repr(server.next_event())


# -- leaves


def authenticated(rules: Rules) -> Server:
    server = Server(rules, is_secure=True)
    server.greet()
    hear(server, b"EHLO client.test\r\n")
    hear(server, b"AUTH PLAIN AGFubgBrZXk=\r\n")
    assert server.is_authenticated
    server.data_to_send()
    return server


def hear(server: Server, data: bytes, got: list[bytes] | None = None) -> None:
    """Feed it, and say yes to everything."""
    if data and server.state is not State.CLOSED:
        server.receive_data(data)
    for question in questions(server):
        if isinstance(question, EndOfData) and got is not None:
            got.append(question.message.octets)
        server.answer(AUTHENTICATED if isinstance(question, Authenticate) else OK)
    if got is None:
        server.data_to_send()


def questions(server: Server) -> Iterable[object]:
    while not isinstance(event := server.next_event(), Signal):
        yield event
