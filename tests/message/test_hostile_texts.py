"""SMTP smuggling and header injection: every text of `hostile_texts.txt`, wherever a member may put a text.

In a body it is legal. It arrives as one message, whole: what a reader sees is what was sent, but for line ends, and the
receiver (strict about bare CR and LF and about dots, `tests.world.mx`) saw no breach of SMTP. In a header, a subject, a
name or an address it is either refused, or what arrives has no header that was not asked for.
"""

import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

import trio

from tests.world.relay import World, open_world, run


def texts() -> Iterator[str]:
    for line in (Path(__file__).parent.parent / "hostile_texts.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.encode().decode("unicode_escape").encode("latin-1").decode()


TEXTS = list(texts())


def parsed(data: bytes) -> EmailMessage:
    message = BytesParser(policy=email.policy.default).parsebytes(data)
    assert isinstance(message, EmailMessage)
    assert [part.defects for part in message.walk() if part.defects] == []
    return message


def lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")


def test_a_hostile_body_arrives_whole_as_one_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for number, text in enumerate(TEXTS):
                around = f"before{text}after"
                for body in ({"text": text}, {"text": around, "html": around}):
                    before = len(world.mx.messages)
                    message_id = await world.send(to=f"friend{number}@example.com", **body)
                    assert (await world.until_final(message_id))["status"] == "sent"
                    (received,) = world.mx.messages[before:]
                    message = parsed(received.data)
                    for kind, part in (
                        ("text", message.get_body(("plain",))),
                        ("html", message.get_body(("html",))),
                    ):
                        if kind in body:
                            assert part is not None
                            assert lines(part.get_content()) == lines(body[kind]), (kind, body)

    run(main)


def test_a_hostile_header_is_refused_or_stays_one_header(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            plain = await arrived(world, {"headers": {"X-Mine": "x"}})
            assert plain is not None
            expected = sorted(plain.keys())
            for text in TEXTS:
                for fields in (
                    {"headers": {"X-Mine": text}},
                    {"headers": {"X-Mine": "x"}, "subject": text},
                    {"headers": {"X-Mine": "x"}, "from": f"{text} <you@yourdomain.com>"},
                    {"headers": {"X-Mine": "x"}, "replyTo": f"{text} <you@yourdomain.com>"},
                    {"headers": {"X-Mine": "x"}, "to": f"{text} <friend@example.com>"},
                    {"headers": {"X-Mine": "x"}, "to": f"fri{text}end@example.com"},
                    {"headers": {f"X-Mine{text}": "x"}},
                ):
                    message = await arrived(world, fields)
                    if message is not None:
                        more = ["Reply-To"] if "replyTo" in fields else []
                        named = [name for name in message if name.lower().startswith("x-mine")]
                        assert len(named) == 1, fields
                        rest = sorted("X-Mine" if name in named else name for name in message)
                        assert rest == sorted([*expected, *more]), fields

    run(main)


async def arrived(world: World, fields: dict[str, object]) -> EmailMessage | None:
    """What the receiver got; None where it was refused, and then nothing was sent or recorded."""
    before, seq = len(world.mx.messages), world.core.store.last_seq
    status, answer = await world.post_send(**fields)
    if status != 200:
        assert (status, answer["code"]) == (400, "INVALID_REQUEST")
        assert world.core.store.last_seq == seq
        return None
    with trio.fail_after(60):
        await world.until_final(answer["accepted"][0]["messageId"])
    (received,) = world.mx.messages[before:]
    return parsed(received.data)
