"""Sessions of the SMTP client with servers that say anything, and what must hold in each of them."""

from relay.delivery.reply_reader import Command, SmtpReply
from relay.delivery.smtp import (
    NEED_DATA,
    Client,
    State,
)
from relay.message.envelope import Envelope

ENVELOPE = Envelope("ann@relay.test", "bob@mx.example")
UTTERANCES = [
    b"220 mx\r\n",
    b"250 ok\r\n",
    b"250-mx\r\n250-PIPELINING\r\n250-SIZE 9\r\n250 STARTTLS\r\n",
    b"250-mx\r\n250 SIZE 7\r\n",
    b"250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n",
    b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n",
    b"250 ok\r\n550 no\r\n354 go\r\n",
    b"354 go\r\n",
    b"421 bye\r\n",
    b"451 4.7.1 later\r\n",
    b"502 what\r\n",
    b"550-5.1.1 no\r\n550 5.1.1 never\r\n",
    b"250",
    b"\r\n",
    b"\xff\xfe",
]


def talk(pieces: list[bytes]) -> list[SmtpReply]:
    """A whole session with a server that says `pieces`, each when it is its turn."""
    client = Client("relay.test")
    replies: list[SmtpReply] = []
    accepted_bodies = 0
    for piece in [*pieces, b""]:
        client.receive_data(piece)
        while client.state is not State.CLOSED:
            if client.awaiting is None:
                match client.state:
                    case State.HANDSHAKE:
                        client.tls_established()
                    case State.BODY:
                        assert b"".join(client.take_body()) == b"Hello.\r\n"
                        client.end_of_data()
                        accepted_bodies += 1
                    case State.READY if (
                        client.capabilities.starttls and replies[-1].command is not Command.STARTTLS
                    ):
                        client.starttls()
                    case State.READY | State.RESET_DUE if (
                        client.capabilities.size_max is None or client.capabilities.size_max >= 8
                    ):
                        client.begin(ENVELOPE, b"Hello.\r\n")
                    case State.READY | State.RESET_DUE | State.REFUSED:
                        client.quit()
                    case state:
                        raise AssertionError(f"stuck in {state}")
            sent = client.data_to_send()
            assert sent.endswith(b"\r\n") or not sent
            event = client.next_event()
            if event is NEED_DATA:
                break
            assert isinstance(event, SmtpReply)
            assert 200 <= event.code <= 599
            assert event.text.isprintable()
            replies.append(event)
    ends = [reply for reply in replies if reply.command is Command.END_OF_DATA and reply.accepts]
    refused = (Command.RSET, Command.MAIL, Command.RCPT)
    lone_dots = [reply for reply in replies if reply.command in refused and not reply.accepts]
    assert len(ends) <= accepted_bodies + len(lone_dots), "an acceptance of what was never sent"
    return replies


# How far a server behaves before it says whatever it likes.
BEHAVING = [
    [],
    [b"220 mx\r\n", b"250 mx\r\n"],
    [b"220 mx\r\n", b"250-mx\r\n250 PIPELINING\r\n"],
    [b"220 mx\r\n", b"250-mx\r\n250 PIPELINING\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"],
    [b"220 mx\r\n", b"250-mx\r\n250 STARTTLS\r\n", b"220 go\r\n"],
]
