"""The header of a mail or of a part of it, out of any octets: fields in order, unfolded, each of a bounded length.

The contract. `Header.of` takes what stands before the empty line and never fails. A line that is no field and
continues none ("From MAILER-DAEMON Thu Apr 29", octets without sense) is read over. Any line ends have been made LF
before. A name is in lower case. A value is text without control characters: octets that are no UTF-8 are replaced, as
strangers write whatever they like into fields. Encoded words (RFC 2047) stay until somebody asks for words.

The readers of fields that others need stand here, too: `domain_of_from`, `message_ids`, `signatures_of`.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, NamedTuple

from relay.addresses import AddressError, parse_domain
from relay.mail_reading import REFERENCES_MAX, SIGNATURES_MAX, Signature

HEADER_BYTES_MAX: Final = 65_536
FIELDS_MAX: Final = 1000
VALUE_CHARACTERS_MAX: Final = 16_384
#: Of a value that people read.
WORDS_CHARACTERS_MAX: Final = 1000

_FIELD: Final = re.compile(rb"([!-9;-~]{1,128})[ \t]*:(.*)", re.DOTALL)
_ENCODED_WORD: Final = re.compile(r"=\?([^?\s]{1,40})\?([bBqQ])\?([^?\s]{0,1000})\?=")
_BETWEEN_ENCODED_WORDS: Final = re.compile(r"(\?=)\s{1,10}(=\?)")
#: And what turns the direction of what is read.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
#: What charsets strangers may name. Python knows others that no mail is in, and some of them are slow ("punycode").
CHARSETS: Final = {
    **{
        name: name
        for name in ("utf-8", "us-ascii", "gb18030", "big5", "euc-kr", "euc-jp", "koi8-r", "koi8-u")
    },
    **{name: name for name in ("iso-2022-jp", "iso-2022-kr", "shift_jis", "windows-1251", "windows-1252")},
    **{f"iso-8859-{part}": f"iso-8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)},
    **{f"windows-125{page}": f"windows-125{page}" for page in (0, 3, 4, 5, 6, 7, 8)},
    "utf8": "utf-8",
    "ascii": "us-ascii",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "euc-kr",
    "shift-jis": "shift_jis",
    "x-sjis": "shift_jis",
    "cp932": "shift_jis",
    "latin1": "iso-8859-1",
}


class Header(NamedTuple):
    """Its fields, in order: name in lower case, value."""

    fields: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, octets: bytes) -> Header:
        """Of octets whose lines end in LF."""
        fields: list[tuple[str, list[bytes]]] = []
        for line in octets[:HEADER_BYTES_MAX].split(b"\n"):
            if line[:1] in (b" ", b"\t"):
                if fields:
                    fields[-1][1].append(line)
            elif (match := _FIELD.fullmatch(line)) is not None:
                if len(fields) == FIELDS_MAX:
                    break
                fields.append((match[1].decode("ascii").lower(), [match[2]]))
        return cls(
            tuple(
                (name, plain(b"".join(value)[:VALUE_CHARACTERS_MAX].decode("utf-8", "replace")))
                for name, value in fields
            )
        )

    def first(self, name: str) -> str:
        """The value of the first field of this name; "" where there is none."""
        return next((value for field, value in self.fields if field == name), "")

    def all_of(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field == name]

    def has(self, *names: str) -> bool:
        return any(field in names for field, _ in self.fields)

    def words(self, name: str) -> str:
        """The value of the first field of this name for people: encoded words decoded, and cut."""
        return decoded_words(self.first(name)[:WORDS_CHARACTERS_MAX])


def plain(text: str) -> str:
    """The text on one line, without control characters, and without white space at its ends."""
    return _CONTROL.sub(" ", text).strip()


def to_text(octets: bytes, charset: str) -> str:
    """The octets in this charset, where it is one that mail is in, else in UTF-8 or what looks like Latin-1."""
    name = CHARSETS.get(charset.lower())
    if name is not None and name not in ("utf-8", "us-ascii"):
        return octets.decode(name, "replace")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("utf-8" if name == "utf-8" else "iso-8859-1", "replace")


def decoded_words(value: str) -> str:
    """With its encoded words (RFC 2047) decoded; one that is none stays as it is."""
    return plain(_ENCODED_WORD.sub(_decoded_word, _BETWEEN_ENCODED_WORDS.sub(r"\1\2", value)))


def _decoded_word(match: re.Match[str]) -> str:
    text = match[3].encode("ascii", "replace")
    try:
        if match[2] in "qQ":
            octets = binascii.a2b_qp(text.replace(b"_", b" "))
        else:
            octets = base64.b64decode(text + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return match[0]
    return to_text(octets, match[1].partition("*")[0])


# ------------------------------------------------------------------------------------------------ addresses

_QUOTED_OR_COMMENT: Final = re.compile(r'"(?:[^"\\]|\\.){0,500}"|\((?:[^()\\]|\\.){0,500}\)')
_ADDRESS: Final = re.compile(r"[^\s<>()\[\],;:\"\\@]{1,64}@([^\s<>()\[\],;:\"\\@]{1,255})")
_MESSAGE_ID: Final = re.compile(r"<[^<>\s]{1,500}>")
_FROM_CHARACTERS_MAX: Final = 2000


def addresses_in(value: str) -> list[str]:
    """What looks like an address in a field, without names and comments; at most three."""
    bare = _QUOTED_OR_COMMENT.sub(" ", value[:_FROM_CHARACTERS_MAX])
    angled = re.findall(r"<([^<>]{0,320})>", bare)
    found: list[str] = []
    for text in angled or [bare]:
        found.extend(match[0] for match in _ADDRESS.finditer(text))
    return found[:3]


def domain_of_from(header: Header) -> str | None:
    """The domain of the one author, in A-labels; None: there is none, or there are several."""
    fields = header.all_of("from")
    if len(fields) != 1:
        return None
    addresses = addresses_in(fields[0])
    if len(addresses) != 1:
        return None
    try:
        return parse_domain(addresses[0].rpartition("@")[2])
    except AddressError:
        return None


def message_ids(header: Header) -> tuple[str, ...]:
    """What it is an answer to: first In-Reply-To, then References from the youngest, each once."""
    found: dict[str, None] = {}
    for value in header.all_of("in-reply-to"):
        found.update(dict.fromkeys(_MESSAGE_ID.findall(value)))
    for value in header.all_of("references"):
        found.update(dict.fromkeys(reversed(_MESSAGE_ID.findall(value))))
    return tuple(found)[:REFERENCES_MAX]


def signatures_of(header: Header) -> tuple[Signature, ...]:
    """The DKIM signatures that it has, unverified (RFC 6376 section 3.5: the tags d and s)."""
    found = []
    for value in header.all_of("dkim-signature"):
        tags: dict[str, str] = {}
        for tag in value.split(";")[:50]:
            name, _, text = tag.partition("=")
            tags.setdefault(name.strip(), "".join(text.split()))
        domain, selector = tags.get("d", "").lower(), tags.get("s", "").lower()
        if 0 < len(domain) <= 255 and 0 < len(selector) <= 255:
            found.append(Signature(domain, selector))
            if len(found) == SIGNATURES_MAX:
                break
    return tuple(found)
