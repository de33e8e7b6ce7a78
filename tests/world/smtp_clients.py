"""Sessions of the SMTP server with clients that say anything, and what must hold in each of them."""

from __future__ import annotations

import re

from relay.reception.questions import (
    CLOSED,
    NEED_DATA,
    STARTTLS,
    Authenticate,
    EndOfData,
    Mail,
    Recipient,
    State,
)
from relay.reception.replies import AUTHENTICATED, WRONG_CREDENTIALS, Reply
from relay.reception.rules import Rules
from relay.reception.server import Server

SUBMISSION = Rules.submission("relay.test", has_tls=True, auth_in_clear=True, message_bytes_max=200)
INBOUND = Rules.inbound("relay.test", has_tls=True, message_bytes_max=200, refused_recipients_max=3)
UTTERANCES = [
    b"EHLO client.test\r\n",
    b"HELO x\r\n",
    b"STARTTLS\r\n",
    b"AUTH PLAIN AGFubgBrZXk=\r\n",
    b"AUTH PLAIN AGFubgB3cm9uZw==\r\n",
    b"AUTH LOGIN\r\n",
    b"YW5u\r\n",
    b"*\r\n",
    b"MAIL FROM:<a@b.example>\r\n",
    b"MAIL FROM:<> SIZE=300 SMTPUTF8\r\n",
    b"RCPT TO:<c@d.example>\r\n",
    b"RCPT TO:<refused@d.example>\r\n",
    b"RCPT TO:<\xc3\xbc@d.example> NOTIFY=NEVER\r\n",
    b"DATA\r\n",
    b"Hello.\r\n",
    b".\r\n",
    b"..\r\n",
    b"\r\n.\r\n",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b".\r",
    b"\n",
    b"\0",
    b"x" * 999,
    b"RSET\r\n",
    b"NOOP\r\n",
    b"QUIT\r\n",
    b"BDAT 1 LAST\r\n",
    b"POST / HTTP/1.1\r\n",
    b"\xff\xfe",
]
#: How far a client behaves before it says whatever it likes; each piece is an answer to what was said.
BEHAVING: list[list[bytes]] = [
    [],
    [b"EHLO client.test\r\n"],
    [b"EHLO client.test\r\n", b"AUTH PLAIN AGFubgBrZXk=\r\n"],
    [
        b"EHLO client.test\r\n",
        b"AUTH PLAIN AGFubgBrZXk=\r\n",
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
    ],
    [b"EHLO client.test\r\n", b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"],
]
_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])([ -])([\x20-\x7e]*)")


def talk(pieces: list[bytes], rules: Rules) -> list[tuple[int, str]]:
    """A whole session with a client that says `pieces`, each when it is its turn. Returns what was said to it."""
    server = Server(rules)
    said, accepted = b"", 0
    server.greet()
    for piece in [*pieces, b""]:
        if server.state is State.CLOSED:
            break
        server.receive_data(piece)
        while (event := server.next_event()) is not NEED_DATA and event is not CLOSED:
            match event:
                case Authenticate(credentials):
                    right = credentials is not None and credentials.password == "key"
                    assert rules.has_auth
                    server.answer(AUTHENTICATED if right else WRONG_CREDENTIALS)
                case Mail(transaction):
                    assert server.ehlo_name
                    assert server.is_authenticated or not rules.has_auth
                    assert not transaction.recipients
                    server.answer(Reply(250, "2.1.0", "ok"))
                case Recipient(_, recipient):
                    good = not recipient.startswith("refused")
                    server.answer(Reply(250, "2.1.5", "ok") if good else Reply(550, "5.1.1", "no"))
                case EndOfData(transaction, message):
                    octets = message.octets
                    assert 1 <= len(transaction.recipients) <= rules.recipients_max
                    assert len(octets) <= rules.message_bytes_max
                    assert octets.count(b"\r\n") == octets.count(b"\r") == octets.count(b"\n")
                    assert b"\0" not in octets
                    assert not octets or octets.endswith(b"\r\n")
                    assert max(map(len, octets.split(b"\r\n"))) <= 998
                    assert rules.mends_line_ends or not message.normalised
                    accepted += 1
                    server.answer(Reply(250, "2.0.0", f"accepted {accepted}"))
                case _:
                    assert event is STARTTLS
                    said += server.data_to_send()
                    server.tls_established()
            assert server.held_bytes <= rules.message_bytes_max
        said += server.data_to_send()
    replies = _replies(said)
    told = [text for code, text in replies if code == 250 and "accepted" in text]
    assert told == [f"2.0.0 accepted {number}" for number in range(1, accepted + 1)]
    return replies


def _replies(said: bytes) -> list[tuple[int, str]]:
    """Cut into replies, which must be legal."""
    *lines, rest = said.split(b"\r\n")
    assert rest == b""
    replies: list[tuple[int, str]] = []
    code_before = b""
    for line in lines:
        match = _REPLY_LINE.fullmatch(line)
        assert match is not None, line
        assert len(line) <= 510
        code, more, text = match.groups()
        assert code_before in (b"", code)
        code_before = code if more == b"-" else b""
        if more == b" ":
            replies.append((int(code), text.decode()))
    assert code_before == b""
    return replies
