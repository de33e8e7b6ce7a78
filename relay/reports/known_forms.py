"""Bounces in forms of their own, which a library knows: flufl.bounce, the detectors of Mailman.

The contract. `who_failed` never fails, whatever the library does with odd mail: an error of its own is "found
nothing". It is given no more than LIBRARY_BYTES_MAX of what was cut (`relay.reports.parts`): header and text of the
report, and never the mail that is enclosed. Which addresses it finds is not used: our own record says to whom a
message was.
"""

from __future__ import annotations

from email import message_from_bytes
from logging import getLogger
from typing import Final

from flufl.bounce import all_failures

from relay.mail_reading import Action
from relay.reports.parts import Mail

LIBRARY_BYTES_MAX: Final = 131_072
_HEADER_FIELDS: Final = (
    "from",
    "subject",
    "x-mailer",
    "x-failed-recipients",
    "return-path",
    "message-id",
    "auto-submitted",
)

# Its detectors tell the log of every mail that they stumble over: strangers could fill a log with that.
getLogger("flufl.bounce").disabled = True


def who_failed(mail: Mail) -> Action | None:
    """`failed` or `delayed`; None: it knows no such form."""
    lines = [f"{name}: {mail.header.first(name)[:998]}" for name in _HEADER_FIELDS if mail.header.has(name)]
    texts = [part.text for part in mail.parts if not part.is_enclosed and part.content_type == "text/plain"]
    reduced = "\n".join([*lines, "", *texts]).encode("utf-8", "replace")[:LIBRARY_BYTES_MAX]
    try:
        temporary, permanent = all_failures(message_from_bytes(reduced))
    except Exception:  # noqa: BLE001 - whatever a stranger's mail makes it raise, it has found nothing
        return None
    return "failed" if permanent else "delayed" if temporary else None
