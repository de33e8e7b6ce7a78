"""What a client may send along: accepted as it is, or refused with the name of the field; never mended."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import attachments as attachments_module
from relay.attachment_kinds import REFUSED_KINDS, UNKNOWN_TYPE, ZIP_ENTRIES_MAX, content_type_of
from relay.attachments import (
    ATTACHMENTS_MAX,
    CIDS_MAX,
    MESSAGE_OCTETS_MAX,
    check_message_size,
    checked_attachments,
    checked_calendar,
    encoded_octets,
)
from relay.events import Attachment, Calendar, Content
from relay.message.bodies import compose_body
from relay.refusals import Refusal
from relay.requests import request_of
from relay.send_body import AttachmentBody, CalendarBody, SendBody


def encoded(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def file(
    filename: str = "a.pdf",
    content: str = encoded(b"hello"),
    content_type: str | None = None,
    content_id: str | None = None,
) -> AttachmentBody:
    return AttachmentBody(
        filename=filename, content=content, content_type=content_type, content_id=content_id
    )


def accepted(one: AttachmentBody, html: str | None = None) -> Attachment:
    (checked,) = checked_attachments([one], html)
    return checked


def refused(*given: AttachmentBody, html: str | None = None) -> str:
    with pytest.raises(Refusal) as caught:
        checked_attachments(given, html)
    assert caught.value.code == "INVALID_REQUEST"
    assert caught.value.message.isprintable()
    return caught.value.message


# ------------------------------------------------------------------------------------------------ base64


@settings(derandomize=True)
@given(
    st.binary(max_size=40), st.integers(4, 9), st.lists(st.sampled_from(" \t\r\n"), max_size=20), st.randoms()
)
def test_octets_come_out_of_base64_however_it_is_broken_into_lines_or_pieces(
    octets: bytes, piece: int, spaces: list[str], chance: object
) -> None:
    text = list(encoded(octets))
    for space in spaces:
        text.insert(chance.randrange(len(text) + 1), space)  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attachments_module, "_PIECE_CHARACTERS", piece)
        assert accepted(file(content="".join(text))).content == octets


@settings(derandomize=True)
@given(st.text(st.sampled_from("QUJD=-_ \né"), max_size=16), st.integers(1, 9))
def test_what_is_no_base64_is_refused_wherever_it_is_cut_into_pieces(text: str, piece: int) -> None:
    plain = "".join(text.split())
    try:
        expected = base64.b64decode(plain, validate=True)
        assert not plain.rstrip("=").count("=")
    except (ValueError, AssertionError):
        expected = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attachments_module, "_PIECE_CHARACTERS", piece)
        if expected is None:
            assert refused(file(content=text)).startswith("attachments[0].content: is not base64")
        else:
            assert accepted(file(content=text)).content == expected


@pytest.mark.parametrize("piece", range(1, 12))
@pytest.mark.parametrize(
    "text", ["QQ==QQ==", "aG8=aG8=", "QUJDQQ==QUJD", "QQ==Q", "QQ===", "QQ= =Q", "QQ==\n=", "Q===", "="]
)
def test_nothing_goes_on_behind_the_end_of_base64(
    text: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments_module, "_PIECE_CHARACTERS", piece)
    assert refused(file(content=text)).startswith("attachments[0].content: is not base64")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("data:image/png;base64,aGVs", "before the comma"),
        ("aG-_", "base64url"),
        ("aGVsbG8", "cut off"),
        ("aG8=aG8=", "belong"),
        ("é", "not ASCII"),
    ],
)
def test_what_is_wrong_with_base64_is_said(text: str, hint: str) -> None:
    assert hint in refused(file(), file(content=text))


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../a.pdf", "a/b.pdf", "a\\b.pdf", "C:\\a.pdf", " a.pdf", "a.pdf ", "a.pdf\u00a0",
        "a\r\nBcc: b@c.pdf", "a\0.pdf", "a\tb.pdf", "a\x7f.pdf", "a\u2028.pdf", "\ud800.pdf", "invoice\u202efdp.txt",
        "a\u2066.pdf", "\u200f.pdf", "é" * 126 + ".pdf",
    ],
)  # fmt: skip
def test_a_name_that_is_more_than_a_name_is_refused(name: str) -> None:
    assert refused(file(), file(), file(name)).startswith("attachments[2].filename: ")


def test_a_name_of_any_alphabet_stays_as_it_is() -> None:
    for name in ("a", "é" * 125 + ".pdf", 'say "hi"; x=1.pdf', "‌日本語 🙂.pdf", "%2e%2e", ".profile"):
        assert accepted(file(name)).filename == name


@pytest.mark.parametrize("kind", sorted(REFUSED_KINDS))
def test_kinds_that_large_receivers_never_take_are_refused_in_any_disguise(kind: str) -> None:
    for name in (
        f"a.{kind}",
        f"a.pdf.{kind.upper()}",
        f"a.{kind}.",
        f"a.{kind}. .",
        f"a.{kind}:zone.txt",
        f".{kind}",
    ):
        assert refused(file(name)).startswith("attachments[0].filename: "), name
    for name in (kind, f"a.{kind}.txt", f"a.{kind}zz", f"{kind}.pdf"):
        accepted(file(name))


def zipped(*names: str, **options: int) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", **options) as archive:  # type: ignore[call-overload]
        for name in names:
            archive.writestr(name, "x" * 100)
    return found.getvalue()


def zip64(content: bytes) -> bytes:
    """The same where the directory's place and length stand in the fields for large ones."""
    end = content.rindex(b"PK\x05\x06")
    entries, octets, place = struct.unpack_from("<H2L", content, end + 10)
    large = b"PK\x06\x06" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, entries, entries, octets, place)
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, end, 1)
    small = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return content[:end] + large + locator + small


EVIL = zipped("readme.txt", "bin/Run.ÉXE.exe")
HARMLESS = zipped("readme.txt", "evil.exe.txt", "js/")


@pytest.mark.parametrize(
    "content",
    [
        EVIL,
        zip64(EVIL),
        EVIL[:-2] + b"\x05\0note!",
        zipped("a.js", compression=zipfile.ZIP_DEFLATED),
        zipped("a.txt", "x.lnk "),
    ],
)
def test_a_zip_file_with_one_of_them_is_refused_by_its_directory(content: bytes) -> None:
    for name in ("a.zip", "a.bin", "zip"):
        assert "in this zip file: " in refused(file(name, encoded(content)))


def test_other_zip_files_are_taken() -> None:
    for content in (HARMLESS, zip64(HARMLESS), zipped(), zipped("inner.zip"), HARMLESS[:-2] + b"\x02\0hi"):
        assert accepted(file("a.zip", encoded(content))).content == content
    # Nobody unpacks a book.
    accepted(file("a.epub", encoded(zipped("mimetype", "script.js"))))


@pytest.mark.parametrize(
    "content",
    [
        EVIL[:-30],
        b"PK\x03\x04",
        b"PK\x05\x06",
        EVIL[:4] + zipped(),
        # More files than there are, fewer, and a directory longer than the file.
        EVIL[:-12] + b"\xff\0" + EVIL[-10:],
        EVIL[:-12] + b"\x01\0" + EVIL[-10:],
        EVIL[:-10] + b"\xff\xff\xff\0" + EVIL[-6:],
        zip64(EVIL).replace(b"PK\x06\x06", b"PK\x06\x05"),
    ],
)
def test_a_zip_file_whose_directory_cannot_be_read_is_refused(content: bytes) -> None:
    assert "zip file" in refused(file("a.zip", encoded(content)))


def test_a_zip_file_of_very_many_files_is_not_read_through() -> None:
    content = zipped(*(f"{number}" for number in range(ZIP_ENTRIES_MAX)))
    accepted(file("a.zip", encoded(content)))
    content = zipped(*(f"{number}" for number in range(ZIP_ENTRIES_MAX + 1)))
    assert str(ZIP_ENTRIES_MAX) in refused(file("a.zip", encoded(content)))


@settings(derandomize=True, max_examples=300)
@given(st.binary(max_size=120), st.integers(0, 200), st.integers(0, 200))
def test_any_octets_after_the_beginning_of_a_zip_file_are_answered(
    noise: bytes, start: int, end: int
) -> None:
    for content in (
        b"PK\x03\x04" + noise + b"PK\x05\x06" + noise,
        EVIL[:start] + noise + EVIL[start + end :],
    ):
        with suppress(Refusal):
            assert accepted(file("a.zip", encoded(content))).content == content


# ------------------------------------------------------------------------------------------------ media types


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("application/pdf", "application/pdf"),
        ("Image/SVG+XML", "image/svg+xml"),
        ('text/calendar;METHOD=Cancel ;charset="utf-8"', "text/calendar; method=Cancel; charset=utf-8"),
        ("", "application/pdf"),
        (None, "application/pdf"),
    ],
)
def test_a_media_type_is_kept_in_the_form_in_which_it_goes_out(given: str | None, expected: str) -> None:
    assert accepted(file("a.PDF", content_type=given)).content_type == expected


@pytest.mark.parametrize(
    "given",
    [
        "pdf", "application/", "/pdf", "a/b/c", "a/b c", "a/b;", "a/b; x", "a/b; x=", "a/b\r\nX: y", "a/b; x=1; X=2",
        "a/é", 'a/b; name="evil.exe"', "a/b; filename=x", "a/b; boundary=x", "a/b; x*=utf-8''y", 'a/b; x="a b"',
        "multipart/mixed", "Message/RFC822", "message/delivery-status", " ", "a/" + "b" * 300,
    ],
)  # fmt: skip
def test_what_is_no_media_type_or_cannot_be_in_base64_is_refused(given: str) -> None:
    assert refused(file(content_type=given)).startswith("attachments[0].contentType: ")


def test_the_default_is_a_table_of_our_own() -> None:
    assert content_type_of("Tickets.PKPASS") == "application/vnd.apple.pkpass"
    for name in ("a", "a.unheard-of", "mail.eml", "a.", ".pdf.zzz"):
        assert content_type_of(name) == UNKNOWN_TYPE


# ------------------------------------------------------------------------------------------------ cid:


@pytest.mark.parametrize(
    "html",
    [
        '<img src="cid:logo@a">', "<img src=cid:logo@a>", "<IMG SRC='CID:logo%40a'>", '<p style="x:url(cid:logo@a)">',
        '<p style="x:url(&quot;cid:logo@a&quot;)">', '<img src="cid:logo&#64;a">',
        '<img srcset="x.png 1x, cid:logo@a 2x">', '<img src = "cid:logo@a" >', '<img src=" cid:logo@a">',
    ],
)  # fmt: skip
def test_what_the_html_shows_is_inline(html: str) -> None:
    shown, other, third = checked_attachments(
        [file(content_id="logo@a"), file(content_id="other"), file()], html
    )
    assert (shown.inline, shown.content_id) == (True, "logo@a")
    assert (other.inline, other.content_id) == (False, "other")
    assert (third.inline, third.content_id) == (False, None)


@settings(derandomize=True)
@given(st.integers(0, 20), st.integers(4, 9))
def test_it_is_found_wherever_the_html_is_cut_into_pieces(before: int, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attachments_module, "_PIECE_CHARACTERS", piece)
        assert accepted(file(content_id="logo"), "x" * before + "<img src=cid:logo>").inline
        assert "cid:lost" in refused(file(), html="x" * before + "<img src=cid:lost>")


@pytest.mark.parametrize("html", [None, "", "the acid:logo and cid:logos", "<img src='https://a/cid:x'>"])
def test_what_only_looks_like_it_is_not(html: str | None) -> None:
    assert not accepted(file(content_id="logo"), html).inline


@pytest.mark.parametrize(
    "html", ['<img src="cid:lost">', "<img src=cid:LOGO>", "<p style='a:url(\"cid:lost\")'>"]
)
def test_what_the_html_shows_and_is_not_there_is_named(html: str) -> None:
    message = refused(file(content_id="logo"), html=html)
    assert message.startswith("html: shows cid:lost" if "lost" in html else "html: shows cid:LOGO")
    # As it always was.
    assert checked_attachments([], html) == []


def test_html_is_not_looked_through_without_end() -> None:
    image = "<img src=cid:a>"
    accepted(file(content_id="a"), image * CIDS_MAX)
    assert refused(file(content_id="a"), html=image * (CIDS_MAX + 1)).startswith("html: ")
    assert checked_attachments([], image * (CIDS_MAX + 1)) == []


@pytest.mark.parametrize(
    "given",
    ["<logo>", "cid:logo", "a b", "a@", "@a", "a@b@c", "a..b", ".a", "a.", "é", "a\r\n", "a>", 'a"', "a/b", "a%40b"],
)  # fmt: skip
def test_a_content_id_that_could_not_stand_in_a_url_or_a_header_is_refused(given: str) -> None:
    assert refused(file(content_id=given)).startswith("attachments[0].contentId: ")


def test_two_files_of_one_content_id_are_refused() -> None:
    message = refused(file(), file(content_id="a"), file(content_id="b"), file(content_id="a"))
    assert message.startswith("attachments[3].contentId: attachments[1] ")


# ------------------------------------------------------------------------------------------------ how much


def test_so_many_files_and_no_more() -> None:
    assert len(checked_attachments([file()] * ATTACHMENTS_MAX, None)) == ATTACHMENTS_MAX
    assert refused(*[file()] * (ATTACHMENTS_MAX + 1)).startswith("attachments: ")


def too_large(content: Content) -> bool:
    try:
        check_message_size(content)
    except Refusal as refusal:
        return (refusal.code, refusal.http_status) == ("PAYLOAD_TOO_LARGE", 413)
    return False


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("", 2),
        ("", 3),
        ("é", 0),
        ("é", 2),
        ("é plain text of a western kind " * 5, 2),
        (" \n", 2),
        ("\x01", 0),
    ],
)
def test_a_message_is_refused_by_what_it_comes_to_as_it_goes_out(text: str, files: int) -> None:
    one = Attachment(filename="a", content_type="a/b", content=bytes(2_500_000))
    invitation = Calendar(method="REQUEST", content="é" * 1000)
    content = Content(
        text=(text * (4_000_000 // len(text)) if text else "") + "x",
        attachments=[one] * files,
        calendar=invitation,
    )
    body = compose_body(content.text, None, content.attachments, invitation)
    # Headers of parts are not counted.
    assert abs(len(body.octets) - MESSAGE_OCTETS_MAX) > 2_000
    assert too_large(content) == (len(body.octets) > MESSAGE_OCTETS_MAX)


def test_an_invitation_counts_twice() -> None:
    one = Attachment(filename="a", content_type="a/b", content=bytes(7_300_000))
    half = (MESSAGE_OCTETS_MAX - encoded_octets(len(one.content))) * 2 // 3
    invitation = Calendar(method="REQUEST", content="x\n" * (half // 3))
    assert not too_large(Content(text="x", attachments=[one]))
    assert too_large(Content(text="x", attachments=[one], calendar=invitation))


def test_a_send_of_text_alone_is_refused_when_it_is_too_large() -> None:
    fields = SendBody(
        sender="a@a.example", to="b@b.example", subject="", text="x\n" * (MESSAGE_OCTETS_MAX // 3)
    )
    assert request_of(fields).content.text == fields.text
    fields.text = "x\n" * (MESSAGE_OCTETS_MAX // 3 + 1)
    with pytest.raises(Refusal) as caught:
        request_of(fields)
    assert caught.value.code == "PAYLOAD_TOO_LARGE"


def test_files_that_are_too_large_by_themselves_are_refused_where_they_are_read() -> None:
    largest = 3 * (MESSAGE_OCTETS_MAX // 78 * 76 // 4)
    assert encoded_octets(largest) <= MESSAGE_OCTETS_MAX < encoded_octets(largest + 57)
    accepted(file(content=encoded(bytes(largest))))
    with pytest.raises(Refusal) as caught:
        accepted(file(content=encoded(bytes(largest + 57))))
    assert caught.value.code == "PAYLOAD_TOO_LARGE"


# ------------------------------------------------------------------------------------------------ invitations

ICS = (
    'BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\nMETH\r\n OD;X="a:b":request\r\nBEGIN:VEVENT\r\n'
    'METHOD:PUBLISH\r\nATTENDEE;CN="Doe: Jo":mailto:jo@a.example\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n'
)


@pytest.mark.parametrize(
    "content", [ICS, ICS.replace("\r\n", "\n"), ICS.replace("\r\n", "\r"), ICS.rstrip(), "\n" + ICS]
)
def test_an_invitation_is_kept_as_it_is(content: str) -> None:
    checked = checked_calendar(CalendarBody(method="request", content=content))
    assert checked == Calendar(method="REQUEST", content=content)


@pytest.mark.parametrize(
    ("field", "method", "content"),
    [
        ("method", "CANCEL", ICS),
        ("method", "INVITE", ICS),
        ("method", "", ICS),
        ("method", "REQUEST\r\nX: y", ICS),
        ("content", "REQUEST", ""),
        ("content", "REQUEST", "hello"),
        ("content", "REQUEST", ICS + ICS),
        ("content", "REQUEST", ICS.replace("VCALENDAR", "VCARD")),
        ("content", "REQUEST", ICS.replace("END:VEVENT\r\n", "")),
        ("content", "REQUEST", ICS + "END:VCALENDAR"),
        ("content", "REQUEST", ICS.replace("METH\r\n OD", "X-METHOD")),
        ("content", "REQUEST", ICS.replace("VERSION:2.0", "METHOD:REQUEST")),
        ("content", "REQUEST", ICS.replace("2.0", "2.0\0")),
        ("content", "REQUEST", " " + ICS),
        ("content", "REQUEST", "BEGIN:VCALENDAR\r\n" * 20),
        ("content", "REQUEST", ICS + "X" * 300_000),
        ("content", "REQUEST", ICS + "\n" * 30_000),
        ("method", "REQUEST", ICS.replace("request", "REQUEST\x1b[0m")),
    ],
)  # fmt: skip
def test_what_is_no_invitation_of_that_method_is_refused(field: str, method: str, content: str) -> None:
    with pytest.raises(Refusal) as caught:
        checked_calendar(CalendarBody(method=method, content=content))
    assert caught.value.code == "INVALID_REQUEST"
    assert caught.value.message.startswith(f"calendar.{field}: ")
    assert caught.value.message.isprintable()
