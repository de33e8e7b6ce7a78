"""Complaints: what a feedback report says in its form (RFC 5965), and the reports that have hardly any form.

The contract. `read_feedback` never fails; None: the mail is no feedback report. A report that says no type, or one
that nobody knows, is of the type that it is (RFC 5965 section 3.1 wants readers to be open), "other" where it says
none; what calls nothing spam (`not-spam` of RFC 6430, `auth-failure` of RFC 6591, `virus`) keeps its type, which tells
it apart.

Microsoft's reports (JMRP) have no part of the form at all: the mail is one message that is enclosed, and says in a
field of its own for whom the message was.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from relay.mail_reading import DIAGNOSTIC_MAX
from relay.reports.delivery_status import host_in
from relay.reports.header import Header, addresses_in, plain
from relay.reports.parts import Mail, Part

_REPORT: Final = "message/feedback-report"
_TYPE: Final = re.compile(
    r"^[ \t]{0,8}Feedback-Type[ \t]{0,8}:[ \t]{0,8}([A-Za-z][A-Za-z-]{0,39})", re.IGNORECASE | re.MULTILINE
)
_JMRP_FIELDS: Final = ("x-hmxmroriginalrecipient", "x-reporter-ip")
_JMRP_SENDER: Final = re.compile(
    r"staff@(?:[a-z0-9-]{1,63}\.)?(?:hotmail|outlook|microsoft)\.com", re.IGNORECASE
)
_JMRP_SUBJECT: Final = re.compile(r"complaint about message from\b", re.IGNORECASE)


class Feedback(NamedTuple):
    feedback_type: str
    reporting_mta: str | None
    diagnostic: str


def read_feedback(mail: Mail) -> Feedback | None:
    """Of the mail's own parts: a report within a message that is enclosed is somebody else's."""
    own = mail.own
    for part in own:
        if part.content_type == _REPORT:
            return _read(part.text, own)
    if mail.parameters.get("report-type", "").lower() == "feedback-report":
        # The part of the form has lost its type.
        texts = [part.text for part in own]
        return _read(next((text for text in texts if _TYPE.search(text)), ""), own)
    return _of_microsoft(mail)


def _read(form: str, own: tuple[Part, ...]) -> Feedback:
    match = _TYPE.search(form)
    fields = Header.of(form.encode())
    return Feedback(
        match[1].lower() if match else "other", host_in(fields.first("reporting-mta")), _said_to_people(own)
    )


def _of_microsoft(mail: Mail) -> Feedback | None:
    enclosed = [part.header for part in mail.parts if part.is_enclosed]
    if not enclosed or not _JMRP_SUBJECT.match(mail.header.words("subject")):
        return None
    bodies = (Header.of(part.body) for part in mail.parts if part.content_type == "message/rfc822")
    is_theirs = any(_JMRP_SENDER.fullmatch(address) for address in addresses_in(mail.header.first("from")))
    if is_theirs or any(header.has(*_JMRP_FIELDS) for header in bodies):
        return Feedback("abuse", None, plain(mail.header.words("subject"))[:DIAGNOSTIC_MAX])
    return None


def _said_to_people(own: tuple[Part, ...]) -> str:
    text = next((part.text for part in own if part.content_type == "text/plain"), "")
    return plain(" ".join(text[: 2 * DIAGNOSTIC_MAX].split()))[:DIAGNOSTIC_MAX]
