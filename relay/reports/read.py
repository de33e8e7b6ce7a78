"""Reads a mail that came in: which kind of report it is, and what it says.

The contract. `read_mail` takes any octets with any line ends, never fails, takes linear time, and gives back a
`Reading` within its bounds. It believes nothing.

The order is: feedback report, reports about TLS and DMARC, delivery report in its form, a bounce in a form of its own
or with codes in its text, automatic answer. Codes are asked for first: many bounces call themselves automatic answers.
"""

from __future__ import annotations

import re
from typing import Final

from relay.delivery.bounce_classes import classify
from relay.delivery.reply_reader import Command, SmtpReply
from relay.mail_reading import Action, Kind, Reading
from relay.reports.automatic import is_auto_reply, is_automatic
from relay.reports.delivery_status import DeliveryStatus, read_delivery_status
from relay.reports.enclosed import tokens_in
from relay.reports.feedback import read_feedback
from relay.reports.header import domain_of_from, message_ids, signatures_of
from relay.reports.known_forms import who_failed
from relay.reports.mail_systems import Likeness, likeness
from relay.reports.parts import Mail, Part, cut
from relay.reports.texts import (
    TEXT_CHARACTERS_MAX,
    quotes_mail,
    read_text,
    says_automatic,
    without_tags,
    words_about,
)

_UTF8_STATUS: Final = "message/global-delivery-status"
_STATUS_PARTS: Final = ("message/delivery-status", _UTF8_STATUS)
_REFUSES: Final = 400
#: Replies whose code says no more than its first digit.
_CODES_WITHOUT_MEANING: Final = {4: 451, 5: 554}
_DMARC_TYPES: Final = (
    "application/zip",
    "application/gzip",
    "application/x-gzip",
    "application/xml",
    "text/xml",
    "application/x-zip-compressed",
    "application/octet-stream",
)
#: RFC 7489 section 7.2.1.1: of the mail, and of the file in it.
_DMARC_SUBJECT: Final = re.compile(r"report[ _-]domain: ?\S{1,255} submitter: ?\S", re.IGNORECASE)
_DMARC_FILE: Final = re.compile(
    r"[^!\s]{1,255}![^!\s]{1,255}!\d{1,20}!\d{1,20}(?:![^!\s]{1,60})?\.(?:xml|zip|gz|xml\.gz)", re.IGNORECASE
)


def read_mail(octets: bytes) -> Reading:
    mail = cut(octets)
    tokens = tokens_in(mail)
    return (
        _feedback(mail, tokens)
        or _report_about_others(mail)
        or _delivery_report(mail, tokens)
        or _bounce(mail, tokens)
        or _reading(mail, "auto_reply" if is_auto_reply(mail.header) else "unknown", tokens)
    )


def _reading(
    mail: Mail,
    kind: Kind,
    tokens: tuple[str, ...] = (),
    *,
    action: Action | None = None,
    enhanced: str | None = None,
    code: int | None = None,
    diagnostic: str = "",
    reporting_mta: str | None = None,
    remote_mta: str | None = None,
    feedback_type: str | None = None,
) -> Reading:
    failed = action in ("failed", "delayed") or (action is None and enhanced is not None)
    return Reading(
        kind=kind,
        action=action,
        enhanced=enhanced,
        code=code,
        bounce_class=_class_of(action, enhanced, code, diagnostic) if failed else None,
        diagnostic=diagnostic,
        reporting_mta=reporting_mta,
        remote_mta=remote_mta,
        feedback_type=feedback_type,
        tokens=tokens,
        from_domain=domain_of_from(mail.header),
        references=message_ids(mail.header),
        signatures=signatures_of(mail.header),
        is_automatic=kind != "unknown" or is_automatic(mail.header),
    )


def _feedback(mail: Mail, tokens: tuple[str, ...]) -> Reading | None:
    found = read_feedback(mail)
    if found is None:
        return None
    return _reading(
        mail, "feedback", tokens,
        feedback_type=found.feedback_type, reporting_mta=found.reporting_mta, diagnostic=found.diagnostic,
    )  # fmt: skip


def _report_about_others(mail: Mail) -> Reading | None:
    """A report about TLS (RFC 8460 section 5.3) or DMARC (RFC 7489 section 7.2), by its types and names."""
    if mail.parameters.get("report-type", "").lower() == "tlsrpt" or any(
        part.content_type in ("application/tlsrpt+gzip", "application/tlsrpt+json") for part in mail.own
    ):
        return _reading(mail, "tls_report")
    is_subject = _DMARC_SUBJECT.match(mail.header.words("subject")) is not None
    if any(
        part.content_type in _DMARC_TYPES and (is_subject or _DMARC_FILE.fullmatch(_file_name(part)))
        for part in mail.own
    ):
        return _reading(mail, "dmarc_report")
    return None


def _file_name(part: Part) -> str:
    disposition = re.search(
        r"filename\s{0,5}=\s{0,5}\"?([^\";]{1,700})", part.header.first("content-disposition"), re.IGNORECASE
    )
    return (disposition[1] if disposition else part.parameters.get("name", "")).strip()


def _delivery_report(mail: Mail, tokens: tuple[str, ...]) -> Reading | None:
    """A report in its form (RFC 3464), where the mail itself is one and encloses none."""
    is_report = (
        mail.content_type == "multipart/report"
        and mail.parameters.get("report-type", "delivery-status").lower() == "delivery-status"
    )
    if not is_report and likeness(mail) is Likeness.NONE:
        # A person passes it on.
        return None
    forms = [part for part in mail.own if part.content_type in _STATUS_PARTS]
    kind: Kind = "dsn_utf8" if any(part.content_type == _UTF8_STATUS for part in forms) else "dsn"
    found = read_delivery_status("\n\n".join(part.text for part in forms))
    if found is None and is_report:
        # The form has lost its type, or is not where it should be.
        others = (part for part in mail.own if part.content_type not in _STATUS_PARTS)
        found = next((form for part in others if (form := read_delivery_status(part.text)) is not None), None)
    return None if found is None else _of_form(mail, kind, found, tokens)


def _of_form(mail: Mail, kind: Kind, found: DeliveryStatus, tokens: tuple[str, ...]) -> Reading:
    chosen = found.chosen
    enhanced, code, diagnostic = chosen.status, chosen.code, chosen.diagnostic
    is_told = chosen.action in ("failed", "delayed", None) and not (enhanced and diagnostic)
    told = read_text(_words_of(mail)) if is_told else None
    if told is not None and (enhanced is None or told.status is None or told.status[0] == enhanced[0]):
        # What people are told completes the form, and never says the contrary of it. "5.0.0" says nothing but the 5.
        if enhanced is None or (enhanced.endswith(".0.0") and told.status is not None):
            enhanced = told.status
        code = code or told.code
        # Without a code to point at, what is said of the recipient says more than how the letter begins.
        about = "" if told.code or told.status else words_about(_words_of(mail), chosen.address)
        diagnostic = diagnostic or about or told.diagnostic
    return _reading(
        mail, kind, tokens, action=chosen.action, enhanced=enhanced, code=code,
        diagnostic=diagnostic, reporting_mta=found.reporting_mta, remote_mta=chosen.remote_mta,
    )  # fmt: skip


def _bounce(mail: Mail, tokens: tuple[str, ...]) -> Reading | None:
    """A bounce that has no form, or one of its own."""
    how = likeness(mail)
    if how is Likeness.NONE:
        return None
    text = _words_of(mail)
    if how is Likeness.MUCH and (form := read_delivery_status(text)) is not None:
        return _of_form(mail, "heuristic", form, tokens)
    told = read_text(text)
    is_told = told is not None and (
        how is Likeness.MUCH
        or (how is Likeness.SOME and told.in_words and (_has_original(mail, text) or says_automatic(text)))
    )
    known = None if is_told else who_failed(mail)
    if not is_told and known is None:
        return None
    if told is None:
        return _reading(mail, "heuristic", tokens, action=known)
    return _reading(
        mail, "heuristic", tokens,
        action=told.action, enhanced=told.status, code=told.code, diagnostic=told.diagnostic,
    )  # fmt: skip


def _words_of(mail: Mail) -> str:
    """What people are meant to read: the plain texts, or where there are none, what the others say."""
    plain_texts = [part.text for part in mail.own if part.content_type == "text/plain"]
    if any(text.strip() for text in plain_texts):
        return "\n".join(plain_texts)[:TEXT_CHARACTERS_MAX]
    others = (part for part in mail.own if part.content_type.startswith("text/"))
    return "\n".join(without_tags(part.text) for part in others)[:TEXT_CHARACTERS_MAX]


def _has_original(mail: Mail, text: str) -> bool:
    """It brings back the mail that it is about, or the beginning of it."""
    return quotes_mail(text) or any(part.is_enclosed for part in mail.parts)


def _class_of(action: Action | None, enhanced: str | None, code: int | None, diagnostic: str) -> str | None:
    """By the table for replies: what the receiver said is a reply, as far as it has been told."""
    if enhanced is not None and enhanced[0] != "2":
        digit = int(enhanced[0])
    elif code is not None and code >= _REFUSES:
        enhanced, digit = None, code // 100
    else:
        enhanced, digit = None, 4 if action == "delayed" else 5
    if code is not None and code // 100 == digit:
        command = _command_in(diagnostic)
    else:
        command, code = Command.END_OF_DATA, _CODES_WITHOUT_MEANING[digit]
    found = classify(SmtpReply(command, code, enhanced, (diagnostic,)))
    return None if found is None else found.value


def _command_in(diagnostic: str) -> Command:
    """What the reply was said to; most say no to RCPT."""
    lowered = diagnostic.lower()
    if "end of data" in lowered:
        return Command.END_OF_DATA
    return Command.MAIL if "mail from" in lowered else Command.RCPT
