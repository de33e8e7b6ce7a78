"""The receiver of tests/world/mx.py sees what it is there to see: each breach of SMTP is a violation."""

from typing import Any

import pytest
import trio

from tests.world.mx import open_mx

HELLO = b"EHLO relay.test\r\n"
MAIL = b"MAIL FROM:<ann@relay.test>\r\n"
RCPT = b"RCPT TO:<bob@mx.test>\r\n"
DATA = b"DATA\r\n"
MESSAGE = b"Hello.\r\n.\r\n"


def violations(*said: bytes, **options: Any) -> list[str]:
    """What the receiver has to say about a sender that says this, waiting for an answer after each piece."""

    async def main() -> list[str]:
        async with open_mx(**options) as mx:
            async with await trio.open_tcp_stream(mx.host, mx.port) as stream:
                await stream.receive_some()
                for piece in said:
                    await stream.send_all(piece)
                    await stream.receive_some()
                # Bytes in a row may be answered one by one; the end of the stream comes after them all.
                await stream.send_eof()
                while await stream.receive_some():
                    pass
            return mx.violations

    return trio.run(main)


def test_a_good_sender() -> None:
    assert violations(HELLO, MAIL, RCPT, DATA, MESSAGE) == []
    assert violations(HELLO, MAIL + RCPT + DATA, MESSAGE) == []
    assert violations(b"EHLO [127.0.0.1]\r\n", b"MAIL FROM:<> SIZE=8\r\n", RCPT, DATA, MESSAGE) == []


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ((b"EHLO\r\n",), "host name"),
        ((b"EHLO -\r\n",), "host name"),
        ((MAIL,), "before EHLO"),
        ((HELLO, b"FOO\r\n"), "unknown"),
        ((HELLO + MAIL,), "before EHLO was answered"),
        ((HELLO, b"MAIL FROM: <ann@relay.test>\r\n"), "malformed"),
        ((HELLO, MAIL, MAIL), "nested"),
        ((HELLO, MAIL, b"RCPT TO:<bob>\r\n"), "malformed"),
        ((HELLO, b"MAIL FROM:<ann@relay.test> AUTH=<>\r\n"), "not offered"),
        ((HELLO, b"STARTTLS\r\n"), "not offered"),
        ((HELLO, MAIL, "RCPT TO:<jürgen@mx.test>\r\n".encode()), "non-ASCII"),
        ((HELLO, b"MAIL FROM:<ann@relay.test> SIZE=9\r\n", RCPT, DATA, MESSAGE), "SIZE=9"),
        ((HELLO, MAIL, RCPT, DATA, b"bare\nLF\r\n.\r\n"), "bare"),
        ((HELLO, MAIL, RCPT, DATA, b"bare\rCR\r\n.\r\n"), "bare"),
        ((HELLO, MAIL, RCPT, DATA, b".Hello\r\n.\r\n"), "not stuffed"),
        ((HELLO, MAIL, RCPT, DATA, b"x" * 999 + b"\r\n.\r\n"), "998"),
        ((HELLO, MAIL, RCPT, DATA, "Grüße\r\n.\r\n".encode()), "8BITMIME"),
        ((HELLO, MAIL, RCPT, DATA, MESSAGE + b"QUIT\r\n"), "before the final dot was answered"),
        ((HELLO, MAIL, RCPT, DATA + MESSAGE), "before DATA was answered"),
    ],
)
def test_a_breach(said: tuple[bytes, ...], complaint: str) -> None:
    assert any(complaint in violation for violation in violations(*said))


def test_a_breach_of_what_is_not_offered() -> None:
    assert violations(HELLO, MAIL + RCPT, pipelining=False)
    assert violations(HELLO, b"MAIL FROM:<ann@relay.test> BODY=8BITMIME\r\n", eight_bit_mime=False)
    assert violations(HELLO, b"MAIL FROM:<ann@relay.test> SMTPUTF8\r\n", smtputf8=False)
    assert violations(HELLO, b"MAIL FROM:<ann@relay.test> SIZE=1\r\n", size_max=None)
    assert violations(HELLO, b"MAIL FROM:<ann@relay.test> SIZE=11\r\n", size_max=10)
