"""Files, an invitation and a conversation, from the request to the receiver, to the audit, and out of the log again."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from relay.events import SendAccepted
from relay.views import messages
from tests.world.audited import tell
from tests.world.directories import names_in
from tests.world.relay import World, open_world, run
from tests.world.removals import DAY
from tools.cli import cli

#: Octets that stand nowhere by chance, whether in base64, hex or as they are.
SECRET = b"The combination is 23-42-17, " * 40
LOGO = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 300
ICS = (
    "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//EN\nMETHOD:REQUEST\nBEGIN:VEVENT\nUID:1@yourdomain.com\n"
    "DTSTAMP:20260101T000000Z\nDTSTART:20260102T000000Z\nSUMMARY:The secret meeting\nEND:VEVENT\nEND:VCALENDAR\n"
)
RICH = {
    "subject": "The plan",
    "text": "See the file.\n",
    "html": '<img src="cid:logo"> See the file.',
    "attachments": [
        {"filename": "Geheim – für Zoë.pdf", "content": base64.b64encode(SECRET).decode()},
        {"filename": "logo.png", "content": base64.encodebytes(LOGO).decode(), "contentId": "logo"},
    ],
    "calendar": {"method": "request", "content": ICS},
}
CONVERSATION = {
    "to": ["Ann <ann@example.com>", "permfail@example.com"],
    "cc": "bob@example.com",
    "bcc": ["hidden@example.com"],
    "replyTo": ["Zoë <zoe@elsewhere.example>", "desk@elsewhere.example"],
    "category": "transactional",
}


def read(octets: bytes) -> EmailMessage:
    message = message_from_bytes(octets, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def octets_in(message: EmailMessage) -> Iterator[tuple[str, bytes]]:
    for part in message.walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            yield part.get_filename() or part.get_content_type(), content


def composed_here(world: World, message_id: int) -> bytes:
    with world.core.store.read() as view:
        state = messages.message(view, message_id)
    assert state is not None
    octets: bytes = world.core.composer.outgoing_of(state, world.core.store.get).message
    return octets


async def sent(world: World, **fields: object) -> list[int]:
    status, answer = await world.post_send(**fields)
    assert status == 200, answer
    ids = [each["messageId"] for each in answer["accepted"]]
    for message_id in ids:
        await world.until_final(message_id)
    return ids


def test_it_arrives_is_told_of_is_audited_and_goes(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            await world.command("domain_set_forward", domain="yourdomain.com", to="dsn@elsewhere.example")
            ids = await sent(world, **RICH, **CONVERSATION)
            await world.until_so_many_are_final(len(ids) + 1)
            *received, dsn = sorted(world.mx.messages, key=lambda one: b"multipart/report" in one.data)
            assert {one.data for one in received} < {composed_here(world, each) for each in ids}
            assert [len(one.rcpt_to) for one in received] == [1, 1, 1]
            # What is kept for the send's other recipients has the files once, in the body.
            (kept,) = world.core.composer._sends._by_seq.values()
            assert kept.content.attachments == []

            # All see one message, and answer to one.
            everybody = {one.rcpt_to[0]: read(one.data) for one in received}
            assert everybody.keys() == {"ann@example.com", "bob@example.com", "hidden@example.com"}
            assert (
                len({one.mail_from for one in received})
                == len({one["X-Atmos-Message"] for one in everybody.values()})
                == 3
            )
            for message in everybody.values():
                assert message["To"] == "Ann <ann@example.com>, permfail@example.com"
                assert message["Cc"] == "bob@example.com"
                assert message["Reply-To"] == "Zoë <zoe@elsewhere.example>, desk@elsewhere.example"
                assert message["Message-ID"] == read(received[0].data)["Message-ID"]
                assert message["Message-ID"].startswith(f"<{min(ids)}.")
                assert message["Bcc"] is None
                assert dict(octets_in(message)) == {
                    "text/plain": b"See the file.\r\n",
                    "text/html": b'<img src="cid:logo"> See the file.\r\n',
                    "text/calendar": ICS.replace("\n", "\r\n").encode(),
                    "logo.png": LOGO,
                    "Geheim – für Zoë.pdf": SECRET,
                    "invite.ics": ICS.replace("\n", "\r\n").encode(),
                }
            assert b"hidden@" not in b"".join(one.data for one in world.mx.messages)

            # The notification quotes the header, and no file.
            quoted = next(
                part for part in read(dsn.data).walk() if part.get_content_type() == "text/rfc822-headers"
            )
            assert "Cc: bob@example.com" in quoted.get_content()
            assert b"Geheim" not in dsn.data
            assert base64.b64encode(SECRET)[:60] not in dsn.data

        for message_id in ids:
            audited = tell(directory, message_id, "--json")
            assert audited.exit_code == 0, audited.output
            found = json.loads(audited.stdout)
            assert [one["match"] for one in found["compositions"]] == [True] * (found["status"] == "sent")
            assert [one["valid"] for one in found["signatures"]] == [True] * 4
            assert found["problems"] == []
        lines = CliRunner().invoke(cli, ["log", "cat", str(directory), "--json"]).stdout.splitlines()
        told = CliRunner().invoke(cli, ["log", "cat", str(directory)]).stdout
        assert "one conversation, 2 files of 77,968 bytes, an invitation)" in told
        assert "Geheim – für Zoë.pdf (application/pdf), 1,160 bytes" in tell(directory, ids[0]).stdout
        (accepted,) = (event for event in map(json.loads, lines) if event["type"] == "send.accepted")
        assert [bytes.fromhex(one["content"]) for one in accepted["data"]["personal"]["attachments"]] == [
            SECRET,
            LOGO,
        ]

    run(main)


def test_retention_takes_the_files_too(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    #: As they stand in the log, and as they might in a trace of a mail.
    traces = (
        "The combination is",
        "Geheim",
        "The secret meeting",
        base64.b64encode(SECRET)[:60].decode(),
        "bob@example.com",
    )

    async def main() -> None:
        async with open_world(directory) as world:
            await sent(world, **RICH, **{**CONVERSATION, "to": "ann@example.com"})
            assert all(names_in(directory, trace) for trace in traces[:3])
            await trio.sleep(32 * DAY)
            assert [names_in(directory, trace) for trace in traces] == [[]] * len(traces)
            (send,) = (event for event in world.events() if isinstance(event, SendAccepted))
            assert send.personal is None

    run(main)


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"attachments": [{"filename": "a.exe", "content": ""}]}, 400, "attachments[0].filename: "),
        ({"attachments": [{"filename": "a", "content": "?"}]}, 400, "attachments[0].content: "),
        ({"attachments": RICH["attachments"], "html": "<img src=cid:lost>"}, 400, "html: "),
        ({"calendar": {"method": "CANCEL", "content": ICS}}, 400, "calendar.method: "),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_sent(
    tmp_path: Path, fields: dict[str, object], status: int, field: str
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            answered, answer = await world.post_send(**fields)
            assert (answered, answer["code"]) == (status, "INVALID_REQUEST")
            assert answer["error"].startswith(field)
            assert not any(isinstance(event, SendAccepted) for event in world.events())

    run(main)
