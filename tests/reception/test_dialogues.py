"""Plays the dialogues in tests/reception/dialogues (its README.md explains the notation) against the state machine."""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from relay.reception.questions import (
    NEED_DATA,
    STARTTLS,
    Authenticate,
    EndOfData,
    Mail,
    Question,
    Recipient,
    Signal,
    State,
)
from relay.reception.replies import AUTHENTICATED, Reply
from relay.reception.rules import Rules
from relay.reception.server import Server

DIALOGUES = sorted((Path(__file__).parent / "dialogues").glob("*.txt"))

# Who does not wait for an answer cannot be told from who did, when the rest comes late enough; what is said in clear
# behind STARTTLS is then the TLS library's to read.
ONLY_WHOLE = {
    "ehlo_not_waited_for",
    "auth_not_waited_for",
    "data_not_waited_for",
    "starttls_injection",
}


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """The dialogue's lines, neighbours of one kind together: what a side says in one breath."""
    lines = [line.partition(" ")[::2] for line in text.splitlines() if not line.startswith("#")]
    for kind, group in groupby(lines, key=lambda line: line[0]):
        yield kind, [rest for _, rest in group]


def unescaped(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def reply(text: str) -> Reply:
    code, enhanced, words = text.split(" ", 2)
    return Reply(int(code), enhanced, words)


def port(words: list[str]) -> Server:
    role, *options = words
    kind, has_tls = {"submission": Rules.submission, "inbound": Rules.inbound}[role], "no-tls" not in options
    rules = kind("relay.test", has_tls=has_tls)
    names = {
        "size": "message_bytes_max",
        "recipients": "recipients_max",
        "errors": "errors_max",
        "idle": "idle_commands_max",
        "guesses": "refused_recipients_max",
    }
    flags = {"secure", "authenticated", "no-tls", "clear", "silent"}
    for option in options:
        name, equals, number = option.partition("=")
        assert name in (names if equals else flags), f"unknown option: {option}"
        if equals:
            rules = replace(rules, **{names[name]: int(number)})
    rules = replace(rules, auth_in_clear="clear" in options)
    server = Server(rules, is_secure="secure" in options or "authenticated" in options)
    if "silent" not in options:
        server.greet()
        assert server.data_to_send() == b"220 relay.test ESMTP\r\n"
    if "authenticated" in options:
        server.receive_data(b"EHLO client.test\r\n")
        assert server.next_event() is NEED_DATA
        server.receive_data(b"AUTH PLAIN " + b64encode(b"\0ann\0key") + b"\r\n")
        assert isinstance(server.next_event(), Authenticate)
        server.answer(AUTHENTICATED)
        server.data_to_send()
    return server


class Player:
    """Acts a dialogue out, feeding the client's words in pieces of `piece_bytes`."""

    def __init__(self, piece_bytes: int) -> None:
        self.piece_bytes = piece_bytes
        self.server: Server
        self.question: Question | None = None
        self.to_come: deque[bytes] = deque()
        self.said = b""

    def play(self, text: str) -> None:
        for kind, lines in blocks(text):
            match kind:
                case "@":
                    self.server = port(lines[0].split())
                case "C:":
                    self.hear("".join(f"{line}\r\n" for line in lines).encode())
                case "R:":
                    self.hear(b"".join(map(unescaped, lines)))
                case "F:":
                    for line in lines:
                        self.flood(*line.split(" ", 1))
                case "EOF":
                    self.to_come.append(b"")
                    self.go_on()
                case "S:":
                    assert self.everything_said() == "".join(f"{line}\r\n" for line in lines).encode()
                case "?":
                    for line in lines:
                        self.check_question(line)
                case "A:":
                    for line in lines:
                        self.question = None
                        self.server.answer(reply(line))
                        self.go_on()
                case "!":
                    for line in lines:
                        self.act(*line.partition(" ")[::2])
                case "=":
                    for line in lines:
                        self.check(*line.partition(" ")[::2])
                case _:
                    raise AssertionError(f"unknown kind of line: {kind!r}")
        assert self.everything_said() == b"", "something was said that the dialogue does not have"
        assert self.question is None, "a question that the dialogue does not have"

    def hear(self, data: bytes) -> None:
        self.to_come.extend(
            data[start : start + self.piece_bytes] for start in range(0, len(data), self.piece_bytes)
        )
        self.go_on()

    def flood(self, times: str, escaped: str) -> None:
        for _ in range(int(times)):
            self.hear(unescaped(escaped))
            if self.server.state is State.CLOSED:
                return
        raise AssertionError("the whole flood was let in")

    def go_on(self) -> None:
        """As a session does: read while nothing is to be answered."""
        while self.question is None:
            event = self.server.next_event()
            if not isinstance(event, Signal):
                self.question = event
            elif event is NEED_DATA and self.to_come and self.server.wants_data:
                self.server.receive_data(self.to_come.popleft())
            else:
                return

    def everything_said(self) -> bytes:
        return self.server.data_to_send()

    def check_question(self, expected: str) -> None:
        match self.question:
            case Authenticate(None):
                asked = "authenticate -"
            case Authenticate((user, password)):
                asked = f"authenticate {user} {password}"
            case Mail(transaction):
                asked = f"mail {transaction.mail_from or '<>'}"
                asked += " 8bit" if transaction.eight_bit else ""
                asked += " utf8" if transaction.smtputf8 else ""
                if transaction.declared_bytes is not None:
                    asked += f" size={transaction.declared_bytes}"
            case Recipient(_, recipient):
                asked = f"rcpt {recipient}"
            case EndOfData(_, message):
                asked = f"data {message.octets!r}{' normalised' if message.normalised else ''}"
                octets, normalised, _ = expected.removeprefix("data ").partition(" normalised")
                expected = f"data {unescaped(octets)!r}{normalised}"
            case _:
                asked = "nothing"
        assert asked == expected

    def act(self, verb: str, rest: str) -> None:
        match verb:
            case "greet":
                self.server.greet()
            case "tls":
                assert self.server.next_event() is STARTTLS
                self.server.tls_established()
            case "refuse":
                self.server.refuse_message(reply(rest))
            case "close":
                self.question = None
                self.server.close_with(reply(rest))
            case _:
                raise AssertionError(f"unknown act: {verb!r}")
        self.go_on()

    def check(self, what: str, expected: str) -> None:
        match what:
            case "state":
                assert self.server.state.value == expected
            case "held":
                assert self.server.held_bytes == int(expected)
            case _:
                raise AssertionError(f"cannot check {what!r}")


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_whole(path: Path) -> None:
    Player(piece_bytes=1_000_000).play(path.read_text())


@pytest.mark.parametrize(
    "path", [path for path in DIALOGUES if path.stem not in ONLY_WHOLE], ids=lambda path: path.stem
)
def test_byte_by_byte(path: Path) -> None:
    Player(piece_bytes=1).play(path.read_text())
