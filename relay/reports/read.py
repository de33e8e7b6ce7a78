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
from relay.reports.delivery_status import read_delivery_status
from relay.reports.enclosed import tokens_in
from relay.reports.feedback import read_feedback
from relay.reports.header import domain_of_from, message_ids, signatures_of
from relay.reports.known_forms import who_failed
from relay.reports.mail_systems import Likeness, likeness
from relay.reports.parts import Mail, Part, cut
from relay.reports.texts import read_text

_STATUS_PARTS: Final[dict[str, Kind]] = {
    "message/delivery-status": "dsn",
    "message/global-delivery-status": "dsn_utf8",
}
_DMARC_TYPES: Final = (
    "application/zip",
    "application/gzip",
    "application/x-gzip",
    "application/xml",
    "text/xml",
    "application/x-zip-compressed",
    "application/octet-stream",
)
#: RFC 7489 section 7.2.1.1.
_DMARC_FILE: Final = re.compile(
    r"[^!\s]{1,255}![^!\s]{1,255}!\d{1,20}!\d{1,20}(?:![^!\s]{1,60})?\.(?:xml|zip|gz|xml\.gz)", re.IGNORECASE
)


def read_mail(octets: bytes) -> Reading:
    mail = cut(octets)
    return _as(mail, tokens_in(mail))


def _as(mail: Mail, tokens: tuple[str, ...]) -> Reading:
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
        is_automatic=kind not in ("unknown",) or is_automatic(mail.header),
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
    own = [part for part in mail.parts if not part.is_enclosed]
    if mail.parameters.get("report-type", "").lower() == "tlsrpt" or any(
        part.content_type in ("application/tlsrpt+gzip", "application/tlsrpt+json") for part in own
    ):
        return _reading(mail, "tls_report")
    if any(part.content_type in _DMARC_TYPES and _DMARC_FILE.fullmatch(_file_name(part)) for part in own):
        return _reading(mail, "dmarc_report")
    return None


def _file_name(part: Part) -> str:
    disposition = re.search(
        r"filename\s{0,5}=\s{0,5}\"?([^\";]{1,700})", part.header.first("content-disposition"), re.IGNORECASE
    )
    return (disposition[1] if disposition else part.parameters.get("name", "")).strip()


def _delivery_report(mail: Mail, tokens: tuple[str, ...]) -> Reading | None:
    """A report in its form (RFC 3464), where the mail itself is one and encloses none."""
    own = [part for part in mail.parts if not part.is_enclosed]
    is_report = mail.content_type == "multipart/report"
    for part in own:
        kind = _STATUS_PARTS.get(part.content_type)
        if kind is None:
            continue
        if not is_report and likeness(mail.header, mail.content_type, mail.parameters) is Likeness.NONE:
            continue
        if (reading := _of_form(mail, kind, part.text, own, tokens)) is not None:
            return reading
    if is_report:
        for part in own:
            if (reading := _of_form(mail, "dsn", part.text, own, tokens)) is not None:
                return reading
    return None


def _of_form(mail: Mail, kind: Kind, text: str, own: list[Part], tokens: tuple[str, ...]) -> Reading | None:
    found = read_delivery_status(text)
    if found is None:
        return None
    chosen = found.chosen
    diagnostic = chosen.diagnostic
    enhanced, code = chosen.status, chosen.code
    if not diagnostic or enhanced is None:
        told = next(
            (told for part in own if part.is_text and (told := read_text(part.text)) is not None), None
        )
        if told is not None:
            diagnostic = diagnostic or told.diagnostic
            if enhanced is None and told.status is not None:
                enhanced = told.status
            code = code if code is not None else told.code
    return _reading(
        mail, kind, tokens, action=chosen.action, enhanced=enhanced, code=code,
        diagnostic=diagnostic, reporting_mta=found.reporting_mta, remote_mta=chosen.remote_mta,
    )  # fmt: skip


def _bounce(mail: Mail, tokens: tuple[str, ...]) -> Reading | None:
    """A bounce that has no form, or one of its own."""
    how = likeness(mail.header, mail.content_type, mail.parameters)
    if how is Likeness.NONE:
        return None
    known = who_failed(mail)
    if known is None and how is Likeness.SOME:
        return None
    text = "\n".join(part.text for part in mail.parts if not part.is_enclosed and part.is_text)
    form = read_delivery_status(text)
    if form is not None:
        chosen = form.chosen
        return _reading(
            mail, "heuristic", tokens, action=chosen.action, enhanced=chosen.status, code=chosen.code,
            diagnostic=chosen.diagnostic, reporting_mta=form.reporting_mta, remote_mta=chosen.remote_mta,
        )  # fmt: skip
    told = read_text(text)
    if told is not None:
        return _reading(
            mail, "heuristic", tokens,
            action=told.action, enhanced=told.status, code=told.code, diagnostic=told.diagnostic,
        )  # fmt: skip
    return _reading(mail, "heuristic", tokens, action=known) if known is not None else None


def _class_of(action: Action | None, enhanced: str | None, code: int | None, diagnostic: str) -> str | None:
    """By the table for replies: what the receiver said is a reply, as far as it has been told."""
    digit = (
        int(enhanced[0])
        if enhanced is not None
        else code // 100
        if code is not None
        else 5
        if action == "failed"
        else 4
    )
    if code is None or code // 100 != digit:
        # No code that a rule of the table knows.
        command, code = Command.END_OF_DATA, digit * 100 + (54 if digit == 5 else 51)
    else:
        command = _command_in(diagnostic)
    found = classify(SmtpReply(command, code, enhanced, (diagnostic,)))
    return None if found is None else found.value


def _command_in(diagnostic: str) -> Command:
    """What the reply was said to; most say no to RCPT."""
    lowered = diagnostic.lower()
    if "end of data" in lowered:
        return Command.END_OF_DATA
    return Command.MAIL if "mail from" in lowered else Command.RCPT
