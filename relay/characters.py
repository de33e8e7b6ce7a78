"""What a character may be: the one place that decides it, for addresses, names, header fields and notes.

Three questions. `FORBIDDEN`: what may stand in no header, because it could end a line or has no UTF-8 form.
`invisible`: what nobody can see, so that two addresses that look the same are different ones, or a name reads as
another. And `comparable`: when two addresses are one to a person, which is what suppressions compare.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: Control characters are refused in everything that becomes a header: C0 but tab, DEL, C1, and the two Unicode line
#: separators. Surrogates have no UTF-8 form.
FORBIDDEN: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

#: The major version of the tables below, which are Python's.
UNICODE_VERSION: Final = int(unicodedata.unidata_version.partition(".")[0])

#: Unicode's Default_Ignorable_Code_Point: shown as nothing.
_IGNORABLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
#: Annotation marks; what is no character; and what every computer shows as something else, or as nothing.
_NO_CHARACTER: Final = (
    "\ufff9-\ufffb\ufdd0-\ufdef"
    + "".join(f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(17))
    + "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)
_find_invisible: Final = re.compile(f"[{_IGNORABLE}{_NO_CHARACTER}]").finditer
_drop_ignorable: Final = re.compile(f"[{_IGNORABLE}]").sub

_JOINERS: Final = "\u200c\u200d"
#: Canonical_Combining_Class of a virama.
_VIRAMA: Final = 9
#: Scripts whose letters join, where a non-joiner between two of them is spelling: Arabic and what is written like it.
_is_joining: Final = re.compile(
    "[\u0620-\u06ff\u0710-\u074f\u0750-\u077f\u0840-\u085f\u08a0-\u08ff]"
).fullmatch


def invisible(text: str) -> str | None:
    """The first character that nobody can see, as `U+200B`; None where there is none.

    A joiner or non-joiner stays between letters that need it (RFC 5892 A.1 and A.2): behind a virama, or, the
    non-joiner, between two letters of a script in which letters join.
    """
    if text.isascii():
        return None
    for found in _find_invisible(text):
        if found[0] not in _JOINERS or not _is_needed(text, found.start()):
            return f"U+{ord(found[0]):04X}"
    return None


def _is_needed(text: str, at: int) -> bool:
    if not 0 < at < len(text) - 1:
        return False
    before, after = text[at - 1], text[at + 1]
    if unicodedata.combining(before) == _VIRAMA:
        return True
    return text[at] == "\u200c" and _is_joining(before) is not None and _is_joining(after) is not None


def comparable(address: str) -> str:
    """The form in which addresses are compared: equal for two that are one to a person (SPEC 3.4).

    NFKC, case folding, and without what is shown as nothing (Unicode's NFKC_Casefold), so that it does not matter how
    `josé@` was typed. It is not an address to write to: only the receiving host may say whether case matters.
    """
    if address.isascii():
        return address.lower()
    folded = unicodedata.normalize("NFKC", _drop_ignorable("", address)).casefold()
    return unicodedata.normalize("NFKC", _drop_ignorable("", folded))
