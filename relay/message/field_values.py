"""What a field of a message says: the text of a subject, the one mailbox of a From.

Contract. What is read here is for decisions and for showing; the message keeps its own octets. `single_mailbox` reads
an address so that nobody who reads the same field can find another one in it, or raises `AddressError`. `readable`
never fails: an encoded word (RFC 2047) that it cannot decode stays as it is written. Both are linear, and bounded by
the length of a header.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from relay.addresses import NAME_CHARACTERS_MAX, AddressError, Mailbox, parse_mailbox
from relay.characters import FORBIDDEN

#: A field with a mailbox that is longer is not looked into.
MAILBOX_CHARACTERS_MAX: Final = 4096

_find_encoded_words: Final = re.compile(r"=\?([A-Za-z0-9_.:()+*'-]{1,60})\?([bBqQ])\?([^?\s]*)\?=").finditer
#: What mail is written in, and Python can decode: there is no ISO 8859-12, and no Windows-1259. Python knows more
#: codecs, and some of them take very long, or are no charsets.
_is_charset: Final = re.compile(
    r"(us-ascii|ascii|utf-?8|iso-?8859-(?:[1-9]|1[013-6])|latin-?1|windows-125[0-8]|cp125[0-8]|koi8-[ru]|gb2312|gbk|gb18030|big5"
    r"|euc-(?:jp|kr)|iso-2022-(?:jp|kr)|shift[_-]jis|ks_c_5601-1987|tis-620|macintosh)",
    re.IGNORECASE,
).fullmatch
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_unescape: Final = re.compile(r"\\(.)", re.DOTALL).sub
_white_space: Final = re.compile(r"[ \t]+").sub


def readable(text: str) -> str:
    """The text of an unfolded field as a person reads it: encoded words decoded, control characters as U+FFFD."""
    found: list[str] = []
    #: Of encoded words behind each other in one charset: some writers divide a character between two.
    octets: list[bytes] = []
    charset, end = "", 0
    for word in _find_encoded_words(text):
        of_word, decoded = (
            word[1].partition("*")[0],
            _decoded(word[2], word[3]),
        )  # RFC 2231 §5: charset*language
        if decoded is None or not _is_charset(of_word):
            continue
        between = text[end : word.start()]
        is_next = bool(octets) and not between.strip(
            " \t"
        )  # white space between them is none (RFC 2047 §6.2)
        if not is_next or of_word != charset:
            found.append(b"".join(octets).decode(charset or "ascii", "replace"))
            octets, charset = [], of_word
        if not is_next:
            found.append(between)
        octets.append(decoded)
        end = word.end()
    found += [b"".join(octets).decode(charset or "ascii", "replace"), text[end:]]
    return FORBIDDEN.sub("\ufffd", "".join(found))


def _decoded(encoding: str, text: str) -> bytes | None:
    try:
        if encoding in "qQ":
            return binascii.a2b_qp(text.encode("ascii"), header=True)
        return binascii.a2b_base64(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error):
        return None


def single_mailbox(text: str) -> Mailbox:
    """The one mailbox of an unfolded From or Sender (RFC 5322 §3.4). Its name is for showing, and may be cut.

    Raises AddressError: where there is more than one, or a group, or where the name could be read as another address.
    """
    if len(text) > MAILBOX_CHARACTERS_MAX:
        raise AddressError("this is too long to be an address")
    bare, shape, comment = _without_comments(text)
    if "," in shape:
        raise AddressError("it names more than one mailbox; name one")
    begin = shape.find("<")
    if begin < 0:
        name, address = comment, bare
    else:
        if shape.count("<") > 1 or not shape.endswith(">") or shape.count(">") > 1:
            raise AddressError("it must be one address, or Name <address>")
        phrase, address = bare[:begin].strip(" \t"), bare[begin + 1 : -1].strip(" \t")
        stray = re.search(r"[\[\]:;@\\]", shape[:begin])
        # Some programs write the address twice. Another one before the < is a trick.
        if stray is not None and phrase.lower() != address.lower():
            raise AddressError(
                f'the name contains {stray[0]} outside double quotes; write "Doe, Jo" <jo@example.com>'
            )
        name = _unquoted(phrase)
    if address.endswith(">"):
        raise AddressError("the address has a > without a <; write Name <address>")
    mailbox = parse_mailbox(address)
    name = _white_space(" ", readable(name)).strip(" ")
    return mailbox._replace(name=name[:NAME_CHARACTERS_MAX])


def _without_comments(text: str) -> tuple[str, str, str]:
    """The text without its comments (RFC 5322 §3.2.2); the same with all that is quoted as `q`; the last comment."""
    bare: list[str] = []
    shape: list[str] = []
    comment, comment_start, depth, at = "", 0, 0, 0
    while at < len(text):
        character = text[at]
        step = 2 if character == "\\" else 1
        if depth:
            depth += {"(": 1, ")": -1}.get(character, 0)
            if not depth:
                comment = text[comment_start + 1 : at]
        elif character == "(":
            depth, comment_start = 1, at
            bare.append(" ")
            shape.append(" ")
        elif character == ")":
            raise AddressError("it has a ) without a (")
        elif character == '"':
            quoted = _QUOTED.match(text, at)
            if quoted is None:
                raise AddressError("it has a double quote without a second one")
            step = quoted.end() - at
            bare.append(quoted[0])
            shape.append("q" * step)
        else:
            bare.append(text[at : at + step])
            shape.append(text[at : at + step])
        at += step
    if depth:
        raise AddressError("it has a ( without a )")
    # Both have the same white space at their ends.
    return "".join(bare).strip(" \t"), "".join(shape).strip(" \t"), _unescape(r"\1", comment)


def _unquoted(phrase: str) -> str:
    pieces, end = [], 0
    for quoted in _QUOTED.finditer(phrase):
        pieces += [phrase[end : quoted.start()], _unescape(r"\1", quoted[1])]
        end = quoted.end()
    return "".join([*pieces, phrase[end:]])
