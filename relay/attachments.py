"""What a member sends along, checked: files, and an invitation for a calendar.

Contract. `checked_attachments` and `checked_calendar` are pure: what a client wrote goes in, and out comes what is
recorded and composed for ever, or a Refusal that names the field. Nothing is mended: a file that is dropped or renamed
in silence is a mail that says something else.

- Octets come in base64 (RFC 4648 §4). White space in it is no part of it; anything else that is not base64 is refused.
- A filename is a name: no path, no control character, nothing that turns its letters round. It is refused where it has
  an end that large receivers never take (`relay.attachment_kinds`).
- A media type is decided here, by the member or by our own table. `multipart/*` and `message/*` are refused, because a
  part of these may not be in base64 (RFC 2045 §6.4, RFC 2046 §5.2.1), and readers would open it to find nothing.
  `.eml` is sent as a file of no known type.
- What the HTML shows by `cid:` (RFC 2392) is inline. What it shows and does not have is refused by name.
- An invitation is one iCalendar object whose METHOD is what its part says (RFC 5546, RFC 6047 §2.4).

Time and memory are linear in what is given, and all of it is made of short steps: a large request is checked beside the
loop (`relay.heavy_work`).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Sequence
from html import unescape
from typing import Final
from urllib.parse import quote

from relay.attachment_kinds import ZipError, content_type_of, refused_kind
from relay.characters import FORBIDDEN
from relay.events import Attachment, Calendar, Content
from relay.message.bodies import text_part
from relay.refusals import Refusal, invalid
from relay.send_body import AttachmentBody, CalendarBody

ATTACHMENTS_MAX: Final = 20
#: What file systems take.
FILENAME_OCTETS_MAX: Final = 255
CONTENT_TYPE_CHARACTERS_MAX: Final = 255
CONTENT_ID_CHARACTERS_MAX: Final = 128
CALENDAR_CHARACTERS_MAX: Final = 256 * 1024
#: Each line takes a microsecond or two; so does each `cid:`.
CALENDAR_LINES_MAX: Final = 10_000
CIDS_MAX: Final = 5_000
#: Of a whole message as it goes out. Many receivers take no more.
MESSAGE_OCTETS_MAX: Final = 10 << 20


def checked_attachments(given: Sequence[AttachmentBody], html: str | None) -> list[Attachment]:
    """The files of a send with this HTML. Raises Refusal."""
    if not given:
        return []
    if len(given) > ATTACHMENTS_MAX:
        raise invalid("attachments", f"there are {len(given)}; the most is {ATTACHMENTS_MAX}")
    #: Content-ID -> the number of its attachment.
    named: dict[str, int] = {}
    for number, one in enumerate(given):
        content_id = _content_id(number, one.content_id)
        if content_id is not None and named.setdefault(content_id, number) != number:
            first = f"attachments[{named[content_id]}]"
            raise invalid(f"attachments[{number}].contentId", f"{first} has the same; give each its own")
    shown = _shown(html, named)
    found = [_checked(number, one, shown) for number, one in enumerate(given)]
    _check_size(sum(encoded_octets(len(one.content)) for one in found))
    return found


def checked_calendar(given: CalendarBody) -> Calendar:
    """The invitation of a send. Raises Refusal."""
    method = given.method.upper()
    if method not in _METHODS:
        raise invalid("calendar.method", f"expected one of {', '.join(_METHODS)}")
    if len(given.content) > CALENDAR_CHARACTERS_MAX:
        raise invalid("calendar.content", f"is longer than {CALENDAR_CHARACTERS_MAX} characters")
    if given.content.count("\n") + given.content.count("\r") > 2 * CALENDAR_LINES_MAX:
        raise invalid("calendar.content", f"is more than {CALENDAR_LINES_MAX} lines")
    try:
        stated = _method_of(given.content)
    except _CalendarError as error:
        raise invalid("calendar.content", str(error)) from None
    if stated != method:
        raise invalid(
            "calendar.method", f"METHOD in the content is {stated}; the two must be equal (RFC 6047)"
        )
    return Calendar(method=method, content=given.content)


def check_message_size(content: Content) -> None:
    """Raises Refusal(PAYLOAD_TOO_LARGE) where the message would be too large as it goes out."""
    files = sum(encoded_octets(len(one.content)) for one in content.attachments)
    texts = [text for text in (content.text, content.html) if text]
    if content.calendar is not None:
        texts += [content.calendar.content] * 2
    # Which encoding a text gets takes long to find out. None makes more of a character than this.
    if files + 6 * sum(map(len, texts)) > MESSAGE_OCTETS_MAX:
        _check_size(files + sum(len(text_part("plain", text).octets) for text in texts))


def encoded_octets(octets: int) -> int:
    """How many octets these are in base64, with its line ends."""
    return -(-octets // 3) * 4 + -(-octets // 57) * 2


def _check_size(octets: int) -> None:
    if octets > MESSAGE_OCTETS_MAX:
        raise Refusal(
            "PAYLOAD_TOO_LARGE",
            f"the message would have {octets} octets as it goes out, and the most is {MESSAGE_OCTETS_MAX} "
            "(files grow by a third); send a link instead",
        )


# ------------------------------------------------------------------------------------------------ one attachment


def _checked(number: int, given: AttachmentBody, shown: frozenset[str]) -> Attachment:
    field = f"attachments[{number}]"
    filename = _filename(f"{field}.filename", given.filename)
    content_type = given.content_type
    content = _decoded(f"{field}.content", given.content)
    try:
        refused = refused_kind(filename, content)
    except ZipError as error:
        raise invalid(f"{field}.content", f"is a zip file that no receiver would take: {error}") from None
    if refused is not None:
        within = "" if refused == filename else f" in this zip file: {_quoted(refused)}"
        raise invalid(
            f"{field}.filename", f"large receivers take no file of this kind{within}; send a link instead"
        )
    return Attachment(
        filename=filename,
        content_type=(
            _content_type(f"{field}.contentType", content_type) if content_type else content_type_of(filename)
        ),
        content_id=given.content_id or None,
        inline=given.content_id in shown,
        content=content,
    )


#: They show a name in another order than it has: "exe.fdp" for "pdf.exe".
_find_direction: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]").search
_find_path: Final = re.compile(r"[/\\]").search


def _filename(field: str, given: str) -> str:
    if not given:
        raise invalid(field, "is empty; give the file a name")
    forbidden = FORBIDDEN.search(given) or _find_tab(given)
    if forbidden is not None:
        raise invalid(field, f"contains the control character U+{ord(forbidden[0]):04X}; remove it")
    direction = _find_direction(given)
    if direction is not None:
        raise invalid(field, f"contains U+{ord(direction[0]):04X}, which turns letters round; remove it")
    path = _find_path(given)
    if path is not None or given in (".", ".."):
        raise invalid(field, "is a path; give the name alone, without folders")
    if given != given.strip():
        raise invalid(field, "begins or ends with white space; remove it")
    if len(given.encode()) > FILENAME_OCTETS_MAX:
        raise invalid(field, f"is longer than {FILENAME_OCTETS_MAX} octets; shorten it")
    return given


#: RFC 2045 §5.1.
_TOKEN: Final = r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+"
_PARAMETER: Final = rf"""[ \t]*;[ \t]*({_TOKEN})=(?:({_TOKEN})|"({_TOKEN})")"""
_match_type: Final = re.compile(rf"({_TOKEN})/({_TOKEN})").match
_match_parameter: Final = re.compile(_PARAMETER).match
_find_tab: Final = re.compile("\t").search
#: The name stands in Content-Disposition; what is no multipart has no boundary.
_NO_PARAMETERS: Final = ("boundary", "name", "filename")


def _content_type(field: str, given: str) -> str:
    """In the form in which it goes out: `text/calendar; charset=utf-8; method=REQUEST`."""
    if len(given) > CONTENT_TYPE_CHARACTERS_MAX:
        raise invalid(field, f"is longer than {CONTENT_TYPE_CHARACTERS_MAX} characters")
    given = given.strip(" \t")
    found = _match_type(given)
    if found is None:
        raise invalid(field, "is no media type; write it as application/pdf")
    main, sub = found[1].lower(), found[2].lower()
    if main in ("multipart", "message"):
        raise invalid(
            field,
            f"a file cannot be sent as {main}/{sub}, which may not be in base64 (RFC 2045); "
            "leave it out, or give application/octet-stream",
        )
    parameters: dict[str, str] = {}
    at = found.end()
    while at < len(given):
        parameter = _match_parameter(given, at)
        if parameter is None:
            raise invalid(field, "what follows the media type is no parameter such as ; charset=utf-8")
        name = parameter[1].lower()
        if name in parameters or "*" in name or name in _NO_PARAMETERS:
            raise invalid(field, f"the parameter {name} may not stand here, or not twice; leave it out")
        parameters[name] = parameter[2] or parameter[3]
        at = parameter.end()
    return "; ".join([f"{main}/{sub}", *(f"{name}={value}" for name, value in parameters.items())])


#: Characters that stand for themselves in a `cid:` URL as in Content-ID, so that nobody escapes them.
_CID_WORD: Final = r"[A-Za-z0-9!$*+._~-]+"
_is_content_id: Final = re.compile(rf"(?!\.){_CID_WORD}(?:@{_CID_WORD})?").fullmatch


def _content_id(number: int, given: str | None) -> str | None:
    """RFC 2392 would have an @ in it; that much is not asked of anybody, because nobody else does."""
    if not given:
        return None
    field = f"attachments[{number}].contentId"
    if len(given) > CONTENT_ID_CHARACTERS_MAX:
        raise invalid(field, f"is longer than {CONTENT_ID_CHARACTERS_MAX} characters; shorten it")
    if given.startswith("<") and given.endswith(">"):
        raise invalid(field, "write it without < and >")
    if given.lower().startswith("cid:"):
        raise invalid(field, "write it without cid:, which stands in the HTML alone")
    if _is_content_id(given) is None or given.endswith(".") or ".." in given:
        raise invalid(field, "takes letters, digits and !$*+._~- with an @ inside, and no dot at an end")
    return given


# ------------------------------------------------------------------------------------------------ base64

#: Decoded at a time.
_PIECE_CHARACTERS: Final = 64 * 1024
_WHITE_SPACE: Final = b" \t\r\n"


def _decoded(field: str, text: str) -> bytes:
    try:
        return b"".join(_decoded_pieces(text))
    except _Base64Error as error:
        raise invalid(field, f"is not base64 (RFC 4648, section 4): {error}") from None


class _Base64Error(ValueError):
    """What is wrong with it, as half a sentence."""


def _decoded_pieces(text: str) -> Iterator[bytes]:
    rest = b""
    is_ended = False
    for start in range(0, len(text), _PIECE_CHARACTERS):
        try:
            octets = text[start : start + _PIECE_CHARACTERS].encode("ascii")
        except UnicodeEncodeError:
            raise _Base64Error("it has characters that are not ASCII") from None
        octets = octets.translate(None, _WHITE_SPACE)
        if not octets:
            continue
        if is_ended:
            raise _Base64Error("it goes on behind its =")
        octets = rest + octets
        whole = len(octets) // 4 * 4
        is_ended = octets.endswith(b"=", 0, whole)
        rest = octets[whole:]
        try:
            yield binascii.a2b_base64(octets[:whole], strict_mode=True)
        except binascii.Error:
            raise _Base64Error(_base64_complaint(octets)) from None
    if rest:
        raise _Base64Error("it is cut off, or without its = at the end")


def _base64_complaint(octets: bytes) -> str:
    if octets.startswith(b"data:"):
        return "leave out what stands before the comma of a data: URL"
    if b"-" in octets or b"_" in octets:
        return "it has - or _, which base64url has; write + and /"
    return "it has a character that does not belong there"


# ------------------------------------------------------------------------------------------------ cid:

#: What stands before it where a reader would look for the part: `src=cid:x`, `src="cid:x"`, `url(cid:x)`.
_BEFORE_REFERENCE: Final = ("=", "(", '"', "'", "&quot;", "&apos;", "&#39;", "&#34;")
_WHITE_BEFORE_MAX: Final = 64
_find_scheme: Final = re.compile("[Cc][Ii][Dd]:").finditer
#: Behind it; an entity of HTML may stand in it.
_match_url: Final = re.compile(r"""[^\s"'<>(),]{1,1000}""").match
_cut: Final = re.compile("[\"'<>(),;\\s]").split


def _shown(html: str | None, named: dict[str, int]) -> frozenset[str]:
    """Those of the Content-IDs that the HTML shows. Raises Refusal for one that it shows and that is not there.

    Where it might be shown, as in `srcset="a.png, cid:x 2x"`, it counts as shown, and need not be there.
    """
    if html is None:
        return frozenset()
    by_url = {form: content_id for content_id in named for form in _in_urls(content_id)}
    shown: set[str] = set()
    end = 0
    for number, at in enumerate(_schemes_in(html)):
        if number >= CIDS_MAX:
            raise invalid("html", f"has cid: over {CIDS_MAX} times; that is more than is looked at")
        before = html[max(0, at - _WHITE_BEFORE_MAX) : at]
        if at < end or before[-1:].isalnum():
            continue
        url = _match_url(html, at + len("cid:"))
        if url is None:
            continue
        end = url.end()
        written = _cut(unescape(url[0]) if "&" in url[0] else url[0], 1)[0]
        if written in by_url:
            shown.add(by_url[written])
        elif before.rstrip().endswith(_BEFORE_REFERENCE):
            raise invalid(
                "html",
                f"shows cid:{_quoted(written)}, which is the contentId of no attachment; add it there",
            )
    return frozenset(shown)


def _schemes_in(html: str) -> Iterator[int]:
    """Where `cid:` stands, found piece by piece: nobody else runs while one call of a regular expression does."""
    for start in range(0, len(html), _PIECE_CHARACTERS):
        for found in _find_scheme(html, start, start + _PIECE_CHARACTERS + len("cid")):
            yield found.start()


def _in_urls(content_id: str) -> Iterator[str]:
    """As it may stand behind `cid:` (RFC 2392: hex-encoded). Not every form: none but these is ever written, and to
    decode whatever stands there would take long."""
    yield content_id
    yield content_id.replace("@", "%40")
    encoded = quote(content_id, safe="")
    yield encoded
    yield re.sub("%..", lambda found: found[0].lower(), encoded)


def _quoted(text: str) -> str:
    """What a client wrote, in a sentence."""
    return ascii(text if len(text) <= 100 else text[:100] + "...")[1:-1]


# ------------------------------------------------------------------------------------------------ calendars

#: RFC 5546 §1.4.
_METHODS: Final = ("PUBLISH", "REQUEST", "REPLY", "ADD", "CANCEL", "REFRESH", "COUNTER", "DECLINECOUNTER")
_COMPONENTS_MAX_DEPTH: Final = 8
#: A line of it, unfolded or not (RFC 5545 §3.1): the property's name, and its value behind the parameters. A colon
#: within quotes is a parameter's.
_match_property: Final = re.compile(
    r'([A-Za-z0-9-]{1,100})((?:;[^":;]*(?:"[^"]*"[^":;]*)*)*):(.*)', re.DOTALL
).match
_find_line_end: Final = re.compile(r"\r\n?|\n").finditer


class _CalendarError(ValueError):
    """What is wrong with it, as half a sentence."""


def _method_of(content: str) -> str:
    """The METHOD of the one iCalendar object, in upper case. Raises _CalendarError."""
    if "\0" in content:
        raise _CalendarError("holds a NUL character, which mail cannot carry; remove it")
    open_components: list[str] = []
    methods: list[str] = []
    objects = 0
    for line in _unfolded(content):
        if not line.strip():
            continue
        found = _match_property(line)
        if found is None:
            raise _CalendarError(f"has a line that is no property: {_quoted(line)}")
        name, value = found[1].upper(), found[3].strip()
        if name == "BEGIN":
            objects += not open_components
            open_components.append(value.upper())
            if open_components[0] != "VCALENDAR" or objects > 1:
                raise _CalendarError("must be one VCALENDAR, and nothing else")
            if len(open_components) > _COMPONENTS_MAX_DEPTH:
                raise _CalendarError(f"has components within components, over {_COMPONENTS_MAX_DEPTH} deep")
        elif not open_components:
            raise _CalendarError("must begin with BEGIN:VCALENDAR, and end with its END")
        elif name == "END":
            if open_components.pop() != value.upper():
                raise _CalendarError(f"has END:{_quoted(value)}, which ends something else than was begun")
        elif name == "METHOD" and len(open_components) == 1:
            methods.append(value.upper())
    if open_components or not objects:
        raise _CalendarError("must begin with BEGIN:VCALENDAR, and end with its END")
    if len(methods) != 1:
        raise _CalendarError("must have one METHOD (RFC 5546)")
    return _quoted(methods[0])


def _unfolded(content: str) -> Iterator[str]:
    """Its lines; a line that begins with white space goes on with the one before (RFC 5545 §3.1)."""
    pieces: list[str] = []
    start = 0
    for end in _find_line_end(content):
        if pieces and not content.startswith((" ", "\t"), start):
            yield "".join(pieces)
            pieces = []
        pieces.append(content[start + bool(pieces) : end.start()])
        start = end.end()
    if pieces and not content.startswith((" ", "\t"), start):
        yield "".join(pieces)
        pieces = []
    pieces.append(content[start + bool(pieces) :])
    yield "".join(pieces)
