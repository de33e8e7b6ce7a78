"""Plays the dialogues in tests/delivery/dialogues (its README.md explains the notation) against the state machine."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from relay.delivery.reply_reader import RemoteProtocolError
from relay.delivery.smtp import NEED_DATA, Client, State
from relay.message.envelope import Envelope

DIALOGUES = sorted((Path(__file__).parent / "dialogues").glob("*.txt"))

# Byte by byte, what follows the answer to STARTTLS is the TLS library's to read, not the state machine's.
# What is answered before it was asked cannot be told from an answer, when it comes late enough.
ONLY_WHOLE = {"starttls_injection", "replies_before_commands"}


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """The dialogue's lines, neighbours of one kind together: what a side says in one breath."""
    lines = [line.partition(" ")[::2] for line in text.splitlines() if not line.startswith("#")]
    for kind, group in groupby(lines, key=lambda line: line[0]):
        yield kind, [rest for _, rest in group]


def unescaped(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


class Player:
    """Acts a dialogue out, feeding the server's words in pieces of `piece_bytes`."""

    def __init__(self, piece_bytes: int) -> None:
        self.client = Client("relay.test")
        self.piece_bytes = piece_bytes
        self.said = b""
        self.message = b""
        self.error: RemoteProtocolError | None = None

    def play(self, text: str) -> None:
        for kind, lines in blocks(text):
            match kind:
                case "S:":
                    self.hear("".join(f"{line}\r\n" for line in lines).encode())
                case "R:":
                    self.hear(b"".join(map(unescaped, lines)))
                case "F:":
                    for line in lines:
                        self.flood(*line.split(" ", 1))
                case "EOF":
                    self.hear(b"", at_end=True)
                case "C:":
                    assert (
                        self.said + self.client.data_to_send()
                        == "".join(f"{line}\r\n" for line in lines).encode()
                    )
                    self.said = b""
                case "M:":
                    self.message = "".join(f"{line}\r\n" for line in lines).encode()
                case "!":
                    for line in lines:
                        self.intend(*line.split())
                case "=":
                    for line in lines:
                        self.check(*line.partition(" ")[::2])
                case _:
                    raise AssertionError(f"unknown kind of line: {kind!r}")
        assert self.said + self.client.data_to_send() == b"", (
            "something was said that the dialogue does not have"
        )
        assert self.error is None, "an error that the dialogue does not have"

    def hear(self, data: bytes, *, at_end: bool = False) -> None:
        pieces = [data[start : start + self.piece_bytes] for start in range(0, len(data), self.piece_bytes)]
        for piece in [*pieces, b""] if at_end else pieces:
            self.client.receive_data(piece)
            self.take_events()

    def flood(self, times: str, escaped: str) -> None:
        for _ in range(int(times)):
            self.hear(unescaped(escaped))
            if self.client.state is State.CLOSED:
                return
        raise AssertionError("the whole flood was let in")

    def take_events(self) -> None:
        """As a session does: read while an answer is due, or the body is on its way."""
        while self.client.awaiting is not None or self.client.state is State.BODY:
            try:
                if self.client.next_event() is NEED_DATA:
                    return
            except RemoteProtocolError as error:
                self.error = error

    def intend(self, verb: str, *words: str) -> None:
        match verb:
            case "begin":
                mail_from, rcpt_to, *options = words
                mail_from = mail_from.removeprefix("<").removesuffix(">")
                self.client.begin(
                    Envelope(mail_from, rcpt_to, smtputf8=options == ["smtputf8"]), self.message
                )
            case "body":
                self.said += b"".join(self.client.take_body())
            case "dot":
                self.client.end_of_data()
            case "starttls":
                self.client.starttls()
            case "tls":
                self.client.tls_established()
            case "quit":
                self.client.quit()
            case _:
                raise AssertionError(f"unknown intention: {verb!r}")

    def check(self, what: str, expected: str) -> None:
        # What was received before the last intention is looked at now.
        if what != "state":
            self.said += self.client.data_to_send()
            self.take_events()
        match what:
            case "state":
                assert self.client.state.value == expected
            case "decisive":
                reply = self.client.decisive
                assert reply is not None
                assert f"{reply.command.name} {reply.code} {reply.enhanced or '-'} {reply.text}" == expected
            case "error":
                assert self.error is not None
                assert expected in str(self.error)
                assert self.client.state is State.CLOSED
                self.error = None
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
