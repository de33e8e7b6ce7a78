"""A receiver took the mail and says so badly. It must not get it again, and the next mail must not suffer."""

from pathlib import Path

import pytest
import trio

from relay.delivery.replies import DeliveryVerdict
from relay.delivery.reply_reader import READ_OVER_BYTES_MAX, SmtpReply
from relay.delivery.session import open_session
from relay.delivery.smtp import NEED_DATA, Client, State
from relay.message.envelope import Envelope
from relay.surroundings import Timeouts
from tests.world.mx import open_mx
from tests.world.mx_options import ODD_ANSWERS
from tests.world.process import PATIENCE_SECONDS
from tests.world.relay import open_world, run
from tests.world.self_signed import self_signed_context

MESSAGE = b"Subject: hello\r\n\r\nHello.\r\n"


@pytest.mark.parametrize("word", ODD_ANSWERS)
def test_a_mail_that_was_taken_is_sent_once(tmp_path: Path, word: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, answer = await world.post_send(to=[f"{word}+{number}@example.com" for number in range(3)])
            for accepted in answer["accepted"]:
                message = await world.until_final(accepted["messageId"])
                assert (message["status"], message["attempts"]) == ("sent", 1)
                assert message["lastReply"]["code"] == 250
                assert len(message["lastReply"]["text"]) <= 4096
            assert len(world.mx.messages) == 3
            assert world.mx.violations == []

    run(main)


@pytest.mark.parametrize("tls", [None, self_signed_context()], ids=["plain", "tls"])
@pytest.mark.parametrize("word", ODD_ANSWERS)
def test_the_session_says_so_too(word: str, tls: object) -> None:
    async def main() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with open_mx(tls=tls) as mx:
                session = await open_session(
                    "mx.test", mx.host, mx.port, ehlo_name="relay.test", timeouts=Timeouts(final_dot=5)
                )
                outcome = await session.deliver(
                    Envelope("ann@relay.test", f"{word}@mx.test"),
                    MESSAGE,
                    before_final_dot=trio.lowlevel.checkpoint,
                )
                assert outcome.verdict is DeliveryVerdict.SENT
                await session.quit()

    trio.run(main)


def at_the_dot() -> Client:
    client = Client("relay.test")
    client.receive_data(b"220 mx\r\n")
    client.next_event()
    client.receive_data(b"250-mx\r\n250 PIPELINING\r\n")
    client.next_event()
    client.begin(Envelope("ann@relay.test", "bob@mx.test"), MESSAGE)
    client.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
    for _ in range(3):
        client.next_event()
    client.take_body()
    client.end_of_data()
    client.data_to_send()
    return client


def answer_to_the_dot(octets: bytes, *, piece: int) -> SmtpReply:
    client = at_the_dot()
    for start in range(0, len(octets), piece):
        client.receive_data(octets[start : start + piece])
        event = client.next_event()
        if event is not NEED_DATA:
            return event
    client.receive_data(b"")
    event = client.next_event()
    assert event is not NEED_DATA
    return event


@pytest.mark.parametrize("piece", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("word", ODD_ANSWERS)
def test_in_whatever_pieces_it_comes(word: str, piece: int) -> None:
    reply = answer_to_the_dot(ODD_ANSWERS[word], piece=piece)
    assert reply.code == 250
    assert len(reply.lines) <= 100


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"\r\n550 5.6.0 No\r\n", 550),
        (b"250-2.0.0 Ok\r\n550 5.6.0 No, after all\r\n", 550),  # as Postfix has it: the last line decides
        (b"451Later\r\n", 451),
        (b"550 5.6.0 N", 550),
    ],
)
def test_a_refusal_is_read_in_the_same_way(octets: bytes, code: int) -> None:
    for piece in (1, 1000):
        assert answer_to_the_dot(octets, piece=piece).code == code


@pytest.mark.parametrize("line", [b"x\r\n", b"\r\n", b"250-\r\n", b"250-x", b"x" * 1000])
def test_endless_words_end(line: bytes) -> None:
    client = at_the_dot()
    taken = 0
    with pytest.raises(Exception, match="an endless reply"):
        while True:
            client.receive_data(line)
            taken += len(line)
            assert client.next_event() is NEED_DATA
    assert client.state is State.CLOSED
    assert taken <= 4 * READ_OVER_BYTES_MAX
