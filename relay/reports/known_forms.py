"""Bounces in forms of their own, which a library knows: flufl.bounce, the detectors of Mailman.

The contract. `who_failed` never fails, whatever the library does with odd mail: an error of its own is "found
nothing". It is given a small copy of the mail: some of its header, and of the texts (not of a mail that is enclosed or
quoted) the first LIBRARY_BYTES_MAX with no line over LINE_CHARACTERS_MAX, since what it looks for is near the
beginning, and its patterns take time that grows with the square of a line. Which addresses it finds is not used: our
own record says to whom a message was.
"""

from __future__ import annotations

import re
from email import message_from_bytes
from logging import getLogger
from typing import Final

from flufl.bounce import all_failures

from relay.mail_reading import Action
from relay.reports.parts import Mail
from relay.reports.texts import unquoted

LIBRARY_BYTES_MAX: Final = 12_288
LINE_CHARACTERS_MAX: Final = 200
_HEADER_FIELDS: Final = (
    "from",
    "subject",
    "x-mailer",
    "x-failed-recipients",
    "return-path",
    "auto-submitted",
)
_GAP: Final = re.compile(r"\s{9,}")
_BOUNDARY: Final = "=_of-what-is-left"

# Its detectors tell the log of every mail that they stumble over: strangers could fill a log with that.
getLogger("flufl.bounce").disabled = True


def who_failed(mail: Mail) -> Action | None:
    """`failed` or `delayed`; None: it knows no such form."""
    try:
        temporary, permanent = all_failures(message_from_bytes(_small_copy(mail)))
    except Exception:  # noqa: BLE001 - whatever a stranger's mail makes it raise, it has found nothing
        return None
    return "failed" if permanent else "delayed" if temporary else None


def _small_copy(mail: Mail) -> bytes:
    lines = [
        f"{name}: {mail.header.first(name)[:LINE_CHARACTERS_MAX]}"
        for name in _HEADER_FIELDS
        if mail.header.has(name)
    ]
    texts = [part for part in mail.own if part.content_type == "text/plain"]
    # Some of its forms are only looked for in a multipart.
    is_multipart = mail.content_type.startswith("multipart/")
    if is_multipart:
        lines.append(f'content-type: {mail.content_type}; boundary="{_BOUNDARY}"')
    lines.append("")
    left = LIBRARY_BYTES_MAX
    for part in texts:
        text = unquoted(part.text)[:left]
        left -= len(text)
        if is_multipart:
            lines += [f"--{_BOUNDARY}", "content-type: text/plain", ""]
        lines += [_GAP.sub(" " * 8, line)[:LINE_CHARACTERS_MAX] for line in text.split("\n")]
    if is_multipart:
        lines += [f"--{_BOUNDARY}--", ""]
    return "\n".join(lines).encode("ascii", "replace")
