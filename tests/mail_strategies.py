"""Hypothesis strategies for everything that the relay accepts, with a liking for what breaks mail.

What is drawn is made legal, and never thrown away: hypothesis also draws whatever strings the loaded modules hold, so
how often a filter would refuse depends on what else was imported.
"""

import base64
import re
from typing import NamedTuple

from hypothesis import strategies as st
from msgspec.structs import replace

from relay.addresses import NAME_CHARACTERS_MAX, Mailbox, parse_mailbox
from relay.attachment_kinds import refused_kind
from relay.attachments import checked_attachments, checked_calendar
from relay.characters import FORBIDDEN, invisible
from relay.events import Attachment, Calendar
from relay.message.compose import Draft
from relay.message.headers import RESERVED, HeaderError, check_headers
from relay.send_body import AttachmentBody, CalendarBody

ATEXT = "abcXYZ019!#$%&'*+/=?^_`{|}~-"
TROUBLE = [
    "=?utf-8?q?x?=",
    "=?",
    "?=",
    '"',
    "\\",
    "<",
    ">",
    "(",
    ")",
    ",",
    ";",
    ":",
    "@",
    ".",
    "..",
    " ",
    "  ",
    "\t",
]


def _seen(text: str) -> str:
    """Without what may stand in no header, and without what nobody can see."""
    return "".join(one for one in text if FORBIDDEN.search(one) is None and invisible(one) is None)


#: Of Persian and of Hindi: what joins letters, or keeps them apart, where they need it.
_JOINED = ["\u0645\u06cc\u200c\u062e", "\u0915\u094d\u200d\u0937"]
_pieces = st.one_of(
    st.sampled_from([*TROUBLE, *_JOINED, "x" * 80, "word", "é", "日本語", "🙂", "e\u0301", "\xa0"]),
    st.text(max_size=12).map(_seen),
)

#: Text of a header: a line without control characters.
lines = st.lists(_pieces | st.just("\u202e"), max_size=12).map("".join)

#: Text of a body: any Unicode but NUL and lone surrogates, any line ends.
bodies = st.lists(
    st.one_of(
        st.sampled_from(
            ["From me", "From ", ".", "\n", "\r\n", "\r", " ", "\t", "--", "--=_", "=", "=46rom", "-- \n"]
        ),
        st.sampled_from(
            ["x" * 76, "x" * 998, "x" * 999, "é" * 50, "日本語\n", "\x0b", "\x1b[0m", "\x7f", "\u2028"]
        ),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30),
    ),
    min_size=1,
    max_size=12,
).map("".join)

_ascii_locals = st.lists(st.text(ATEXT, min_size=1, max_size=12), min_size=1, max_size=4).map(".".join)
_utf8_locals = st.lists(st.text("aé日🙂", min_size=1, max_size=4), min_size=1, max_size=3).map(".".join)
_domains = st.sampled_from(
    [
        "a.example",
        "mail.sub.member.example",
        "BÜCHER.example",
        "xn--bcher-kva.example",
        "1.2.example",
        "例え.テスト",
    ]
)


def _mailbox(pieces: list[str], local: str, domain: str) -> Mailbox:
    name = ""
    for piece in pieces:
        if len(name) + len(piece) <= NAME_CHARACTERS_MAX:
            name += piece
    escaped = re.sub(r'(["\\])', r"\\\1", name)
    return parse_mailbox(f'"{escaped}" <{local}@{domain}>')


def mailboxes(*, smtputf8: bool = True) -> st.SearchStrategy[Mailbox]:
    local_parts = st.one_of(_ascii_locals, _utf8_locals) if smtputf8 else _ascii_locals
    return st.builds(_mailbox, st.lists(_pieces, max_size=12), local_parts, _domains)


def _header(name: str, value: str) -> tuple[str, str]:
    """With a value in ASCII where the relay takes no other."""
    try:
        check_headers([(name, value)], subject="")
    except HeaderError:
        return name, value.encode("ascii", "replace").decode()
    return name, value


_names = st.one_of(
    st.sampled_from(["X-Campaign", "Precedence", "List-Id", "Auto-Submitted", "X-" + "Long" * 18]),
    st.text(ATEXT, min_size=1, max_size=20).map(
        lambda name: f"X-{name}" if name.lower() in RESERVED else name
    ),
)
_identifiers = st.lists(_ascii_locals.map("<{}@member.example>".format), min_size=1, max_size=12).map(
    " ".join
)
_headers = st.one_of(
    st.builds(_header, _names, lines),
    st.tuples(st.sampled_from(["In-Reply-To", "References"]), _identifiers),
    st.tuples(
        st.just("List-Unsubscribe"), st.just("<mailto:off@member.example>, <https://member.example/off>")
    ),
)


@st.composite
def contents(draw: st.DrawFn) -> Draft:
    text, html = draw(
        st.one_of(
            st.tuples(bodies, st.none()),
            st.tuples(st.none(), bodies),
            st.tuples(bodies, bodies),
        )
    )
    return Draft(
        sender=draw(mailboxes()),
        subject=draw(lines),
        text=text,
        html=html,
        reply_to=tuple(draw(st.lists(mailboxes(), max_size=3))),
        headers=tuple(draw(st.lists(_headers, max_size=6, unique_by=lambda header: header[0].lower()))),
    )


# ------------------------------------------------------------------------------------------------ files

#: Control characters, what turns letters round, and what parts folders.
_NOT_IN_A_FILE_NAME = re.compile(
    f"{FORBIDDEN.pattern}|[\\t/\\\\\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_FILE_NAME_OCTETS = 240  # and an end


def _file_name(pieces: list[str], end: str) -> str:
    whole = _NOT_IN_A_FILE_NAME.sub("", "".join(pieces))
    name = (whole.encode()[:_FILE_NAME_OCTETS].decode(errors="ignore") + end).strip()
    if name in ("", ".", ".."):
        return "x"
    return name.replace(".", "_") if refused_kind(name, b"") else name


_ENDS = ["", ".pdf", ".PNG", ".txt", ".tar.gz", ".ics", ".eml", ".unheard-of", ".x y"]
_file_names = st.builds(
    _file_name,
    st.lists(
        st.one_of(
            st.sampled_from(
                [
                    *TROUBLE,
                    "%41",
                    "'",
                    "''",
                    "*",
                    "=",
                    "utf-8''",
                    "x" * 70,
                    "Rechnung",
                    "é",
                    "日本語",
                    "🙂",
                    "e\u0301",
                ]
            ),
            st.text(max_size=8),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(_ENDS),
)
_media_types = st.one_of(
    st.none(),
    st.sampled_from(
        [
            "application/pdf",
            "Image/PNG",
            "text/plain; charset=utf-8",
            "text/calendar;method=CANCEL",
            "x-a/b.c+d",
        ]
    ),
)
_octets = st.one_of(
    # What begins like a zip file and is none is refused.
    st.binary(max_size=200).map(lambda octets: octets.removeprefix(b"P") if octets[:2] == b"PK" else octets),
    st.sampled_from([b"", b"\r\n.\r\n", b"From me\r\n", b"\0" * 57, b"a" * 58]),
    # More than is encoded at a time.
    st.integers(0, 200).map(lambda more: bytes(range(256)) * 240 + b"z" * more),
)
_content_ids = st.from_regex(
    r"[A-Za-z0-9!$*+_~-]{1,8}(\.[A-Za-z0-9!$*+_~-]{1,6}){0,2}(@[a-z0-9]{1,5}(\.[a-z0-9]{1,5})?)?",
    fullmatch=True,
)


class Files(NamedTuple):
    """What a client asks to be sent along, and what was made of it."""

    given: list[AttachmentBody]
    html: str | None
    checked: list[Attachment]


@st.composite
def _given_file(draw: st.DrawFn) -> AttachmentBody:
    encoded = base64.b64encode(draw(_octets)).decode()
    if draw(st.booleans()):
        encoded = re.sub("(.{76})", "\\1\r\n", encoded)
    return AttachmentBody(
        filename=draw(_file_names),
        content=encoded,
        content_type=draw(_media_types),
        content_id=draw(st.none() | _content_ids),
    )


@st.composite
def files(draw: st.DrawFn, html: str | None) -> Files:
    """Legal ones. Some of those that have a Content-ID are shown in the HTML."""
    given: list[AttachmentBody] = []
    named: set[str] = set()
    for one in draw(st.lists(_given_file(), min_size=1, max_size=4)):
        given.append(replace(one, content_id=None) if one.content_id in named else one)
        named.add(one.content_id or "")
    if html is not None:
        # It shows no file that is not there.
        html = re.sub("(?i)cid:", "cid ", html)
        for one in given:
            if one.content_id is not None and draw(st.booleans()):
                html += f'<img src="cid:{one.content_id.replace("@", draw(st.sampled_from(["@", "%40"])))}">'
    return Files(given, html, checked_attachments(given, html))


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    method = draw(st.sampled_from(["REQUEST", "PUBLISH", "CANCEL", "COUNTER"]))
    end = draw(st.sampled_from(["\r\n", "\n"]))
    summary = draw(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=80))
    escaped = re.sub(r"([\\;,])", r"\\\1", summary)
    fold = draw(st.integers(1, 60))
    lines = [
        "BEGIN:VCALENDAR",
        "PRODID:-//A member//EN",
        "VERSION:2.0",
        draw(st.sampled_from([f"METHOD:{method}", f"method:{method.lower()}", f"METH{end} OD:{method}"])),
        "BEGIN:VEVENT",
        "UID:1@member.example",
        "DTSTAMP:20260101T000000Z",
        "DTSTART:20260102T000000Z",
        'ORGANIZER;CN="Doe: Jo":mailto:jo@member.example',
        f"SUMMARY:{escaped[:fold]}{end} {escaped[fold:]}",
        "END:VEVENT",
        "END:VCALENDAR",
    ]
    return checked_calendar(CalendarBody(method=method.title(), content=end.join(lines) + end))


class Rich(NamedTuple):
    """A draft with what a client asked to be sent along with it."""

    draft: Draft
    files: list[AttachmentBody]


@st.composite
def rich_contents(draw: st.DrawFn) -> Rich:
    """With files, an invitation, in a conversation, or with some of these."""
    plain = draw(contents())
    sent = draw(st.none() | files(plain.html))
    shown = draw(st.lists(mailboxes(), max_size=3))
    draft = plain._replace(
        html=plain.html if sent is None else sent.html,
        attachments=() if sent is None else tuple(sent.checked),
        calendar=draw(st.none() | calendars()),
        to_shown=tuple(shown),
        cc=tuple(draw(st.lists(mailboxes(), max_size=3))) if shown else (),
    )
    return Rich(draft, [] if sent is None else sent.given)
