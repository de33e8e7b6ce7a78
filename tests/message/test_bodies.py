"""What is sent along arrives: every part out is every part in, for three readers that share no code with the relay."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Iterator
from email.message import EmailMessage, MIMEPart
from typing import NamedTuple

import icalendar
import pytest
from hypothesis import event, given, settings

from relay.addresses import parse_mailbox
from relay.attachment_kinds import UNKNOWN_TYPE
from relay.attachments import MESSAGE_OCTETS_MAX, encoded_octets
from relay.events import Attachment, Calendar
from relay.message.bodies import INVITATION_NAME, compose_body
from relay.message.compose import Draft, Message
from relay.message.signing import sign, verify
from relay.send_body import AttachmentBody
from tests.golden_messages.stories import RECORDS, SIGNERS
from tests.mail_readers import ReadMail, read_all
from tests.mail_strategies import Rich, calendars, rich_contents
from tests.mailauth import verify_all
from tests.message.test_compose import (
    JANE,
    NEWS,
    as_read,
    assert_fit_for_smtp,
    compose_one,
    mailboxes_of,
    parse,
    part_text,
)
from tests.message.test_signing import ALL_VALID, TIMESTAMP


class File(NamedTuple):
    """Of what comes out, or of what went in."""

    name: str
    content_type: str
    disposition: str
    content_id: str | None
    content: bytes


def octets_of(given: AttachmentBody) -> bytes:
    """By another decoder than the relay's."""
    return base64.b64decode("".join(given.content.split()))


def expected_files(rich: Rich) -> list[File]:
    """In the order in which they stand in the message."""
    sent = [
        File(
            given.filename,
            checked.content_type.partition(";")[0],
            # An inline text is to readers one of the mail's own texts.
            "inline" if checked.inline and not checked.content_type.startswith("text/") else "attachment",
            given.content_id,
            octets_of(given),
        )
        for given, checked in zip(rich.files, rich.draft.attachments, strict=True)
    ]
    # What the HTML shows stands first.
    places = sorted(range(len(sent)), key=lambda place: not rich.draft.attachments[place].inline)
    sent = [sent[place] for place in places]
    if rich.draft.calendar is not None:
        content = invitation_octets(rich.draft.calendar)
        sent.append(File(INVITATION_NAME, "application/ics", "attachment", None, content))
    return sent


def invitation_octets(calendar: Calendar) -> bytes:
    return as_read(calendar.content).replace("\n", "\r\n").encode()


def leaves(part: MIMEPart) -> Iterator[MIMEPart]:
    if part.is_multipart():
        for inner in part.iter_parts():
            yield from leaves(inner)
    else:
        yield part


def file_by_python(part: MIMEPart) -> File:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    content_id = part["Content-ID"]
    return File(
        part.get_filename() or "",
        part.get_content_type(),
        part.get_content_disposition() or "",
        None if content_id is None else str(content_id).strip("<>"),
        content,
    )


def shape(part: MIMEPart) -> object:
    if not part.is_multipart():
        return part.get_content_type()
    return part.get_content_type(), *(shape(inner) for inner in part.iter_parts())


def assert_python_reads_it(rich: Rich, message: Message) -> None:
    read: EmailMessage = parse(message)
    assert not [one for part in read.walk() for one in part.defects]
    parts = list(leaves(read))
    texts = [part for part in parts if part.get_content_disposition() is None]
    draft = rich.draft
    expected = [("plain", draft.text), ("html", draft.html)]
    if draft.calendar is not None:
        expected.append(("calendar", draft.calendar.content))
        assert texts[-1].get_param("method") == draft.calendar.method
    assert [(part.get_content_subtype(), part_text(part)) for part in texts] == [
        (subtype, as_read(text)) for subtype, text in expected if text
    ]
    assert [file_by_python(part) for part in parts if part not in texts] == expected_files(rich)
    for name, expected_list in ((b"To", draft.to_shown or (JANE,)), (b"Cc", draft.cc)):
        assert mailboxes_of(message, name) == list(expected_list)
    assert read["Bcc"] is None


def assert_script_reads_it(reader: str, rich: Rich, read: ReadMail) -> None:
    expected = sorted(expected_files(rich), key=lambda one: one.disposition != "inline")
    found = [one for one in read.files if one.disposition is not None]
    assert len(read.files) - len(found) == (rich.draft.calendar is not None)  # the alternative
    assert len(found) == len(expected)
    found.sort(key=lambda one: one.disposition != "inline")
    for one, file in zip(found, expected, strict=True):
        if "=?" not in file.name:  # postal-mime decodes what looks like an encoded word, wherever it stands
            assert one.filename == file.name
        assert one.disposition == file.disposition
        if file.content_type != UNKNOWN_TYPE:  # mailparser guesses
            assert one.content_type == file.content_type
        assert one.content_id == (None if file.content_id is None else f"<{file.content_id}>")
        # postal-mime makes a text of an invitation, with other line ends.
        if reader == "mailparser" or file.content_type not in ("application/ics", "text/calendar"):
            assert one.content == file.content
    shown = rich.draft.to_shown or (JANE,)
    for found_there, expected_there in (
        (read.to, shown),
        (read.cc, rich.draft.cc),
        (read.reply_to, rich.draft.reply_to),
    ):
        assert [parse_mailbox(address) for _, address in found_there] == [
            one._replace(name="") for one in expected_there
        ]


def test_every_part_out_is_every_part_in_and_all_signatures_verify() -> None:
    found: list[tuple[Rich, bytes]] = []

    @settings(derandomize=True, max_examples=80)
    @given(rich_contents())
    def compose_and_read(rich: Rich) -> None:
        message = compose_one(rich.draft)
        assert_fit_for_smtp(message)
        assert compose_one(rich.draft) == message
        assert_python_reads_it(rich, message)
        signed = sign(message, SIGNERS, timestamp=TIMESTAMP, composition=3)
        assert verify(signed, RECORDS.get) == ALL_VALID
        found.append((rich, signed))
        event(f"{len(rich.files)} files, {'an' if rich.draft.calendar else 'no'} invitation")

    compose_and_read()
    assert verify_all([one for _, one in found], RECORDS) == [ALL_VALID] * len(found)
    for (rich, _), by_reader in zip(found, read_all([one for _, one in found]), strict=True):
        for reader, read in by_reader.items():
            assert_script_reads_it(reader, rich, read)


@settings(derandomize=True, max_examples=50)
@given(calendars())
def test_a_calendar_reads_the_invitation_twice_and_the_same(calendar: Calendar) -> None:
    read = parse(compose_one(Draft(NEWS, "s", "text", calendar=calendar)))
    alternative, attached = (
        part for part in leaves(read) if "cal" in part.get_content_type() or part.get_filename()
    )
    found = [icalendar.Calendar.from_ical(part.get_payload(decode=True)) for part in (alternative, attached)]
    given = icalendar.Calendar.from_ical(invitation_octets(calendar))
    assert found == [given, given]
    assert str(found[0]["METHOD"]).upper() == alternative.get_param("method") == calendar.method


PDF = Attachment(filename="a.pdf", content_type="application/pdf", content=b"%PDF")
LOGO = Attachment(filename="l.png", content_type="image/png", content_id="l", inline=True, content=b"PNG")
INVITATION = Calendar(method="REQUEST", content="BEGIN:VCALENDAR\nMETHOD:REQUEST\nEND:VCALENDAR\n")
ALTERNATIVE = ("multipart/alternative", "text/plain", "text/html")


@pytest.mark.parametrize(
    ("draft", "expected"),
    [
        (Draft(NEWS, "", "t", attachments=(PDF,)), ("multipart/mixed", "text/plain", "application/pdf")),
        (Draft(NEWS, "", None, "h", attachments=(LOGO,)), ("multipart/related", "text/html", "image/png")),
        (Draft(NEWS, "", "t", "h", attachments=(LOGO,)), ("multipart/related", ALTERNATIVE, "image/png")),
        (
            Draft(NEWS, "", "t", calendar=INVITATION),
            ("multipart/mixed", ("multipart/alternative", "text/plain", "text/calendar"), "application/ics"),
        ),
        (
            Draft(NEWS, "", "t", "h", attachments=(PDF, LOGO), calendar=INVITATION),
            (
                "multipart/mixed",
                ("multipart/related", (*ALTERNATIVE, "text/calendar"), "image/png"),
                "application/pdf",
                "application/ics",
            ),
        ),
    ],
)
def test_the_shape_is_that_of_the_standards_and_no_more_than_is_needed(
    draft: Draft, expected: object
) -> None:
    read = parse(compose_one(draft))
    assert shape(read) == expected
    for part in read.walk():
        if part.get_content_type() == "multipart/related":  # RFC 2387, section 3.1
            assert part.get_param("type") == next(iter(part.iter_parts())).get_content_type()


def test_the_largest_message_takes_twice_its_octets_and_no_more() -> None:
    """Encoded once, put together once, however deep it stands."""
    content = bytes(range(256)) * (MESSAGE_OCTETS_MAX * 57 // 78 // 256)
    inline = Attachment(filename="a", content_type="image/png", content_id="a", inline=True, content=content)
    tracemalloc.start()
    try:
        octets = compose_body("t", "h", [inline, PDF]).octets
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert encoded_octets(len(content)) < len(octets) < MESSAGE_OCTETS_MAX + 2048
    assert most < 2.2 * len(octets)
