"""What a mail that came back says, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from relay.mail_reading import DELIVERY_REPORTS, NO_COMPLAINTS, SAYS_NOTHING, Reading
from relay.message.advice import advice, advice_when_over
from tools.output import printable

KINDS: Final = {
    "dsn": "a delivery report (RFC 3464)",
    "dsn_utf8": "a delivery report that knows addresses in UTF-8 (RFC 6533)",
    "feedback": "a report of what a recipient thinks of a mail (ARF, RFC 5965)",
    "heuristic": "a bounce in no standard form, known by its words",
    "auto_reply": "an automatic answer: out of office, say (RFC 3834)",
    "tls_report": "a report about TLS to the operator's domain (RFC 8460)",
    "dmarc_report": "a report about DMARC (RFC 7489)",
    "unknown": "no report of a kind that this relay knows",
}
_VERDICTS: Final = {
    "permanent": "The mail failed for good.",
    "temporary": "The mail is late; whoever has it goes on trying.",
    "complaint": "The recipient calls the mail spam.",
    "auto_reply": "It says nothing of whether the mail was delivered.",
}
_ACTIONS: Final = {
    "delivered": "The mail was delivered.",
    "relayed": "The mail was passed on to a system that sends no such reports.",
    "expanded": "The mail was delivered to a list, which sends it on.",
}
_NO_COMPLAINT: Final = {
    "not-spam": "The recipient says that the mail is no spam: that is praise, and changes nothing.",
    "auth-failure": "DKIM, SPF or DMARC did not pass at the receiver; nobody complains.",
    "virus": "The receiver found a virus in the mail; nobody complains.",
}
#: A server gives up a mail in the end, whatever the code was at its last attempt.
_GIVEN_UP: Final = "The mail failed: whoever had it has given up, for a reason that may pass."
_NOTHING: Final = "Nothing in it says what became of a mail."


def is_about_a_mail(reading: Reading) -> bool:
    """Whether it says what became of one."""
    return reading.kind not in SAYS_NOTHING


def tell_reading(reading: Reading) -> Iterator[str]:
    """Sentences about the mail alone; a line each."""
    yield f"This is {KINDS[reading.kind]}."
    yield _comes_to(reading)
    codes = " ".join(str(code) for code in (reading.code, reading.enhanced) if code is not None)
    if reading.bounce_class is not None:
        is_over = reading.action == "failed"
        helps = (advice_when_over if is_over else advice)(reading.bounce_class)
        yield f"Class {printable(reading.bounce_class)}{'.' if helps is None else f'. {helps}'}"
    if codes or reading.diagnostic:
        yield f"The receiver said: {printable(_said(codes, reading.diagnostic))}"
    if reading.reporting_mta is not None:
        asked = "" if reading.remote_mta is None else f", which had asked {printable(reading.remote_mta)}"
        yield f"It was told by {printable(reading.reporting_mta)}{asked}."


def _comes_to(reading: Reading) -> str:
    if reading.feedback_type in NO_COMPLAINTS and reading.kind == "feedback":
        return _NO_COMPLAINT[str(reading.feedback_type)]
    if _is_given_up(reading):
        return _GIVEN_UP
    said = _ACTIONS.get(reading.action or "") if is_about_a_mail(reading) else None
    said = said or _VERDICTS.get(reading.verdict, _NOTHING)
    if reading.verdict == "complaint" and reading.feedback_type is not None:
        said += f" (Feedback-Type: {printable(reading.feedback_type)})"
    return said


def _is_given_up(reading: Reading) -> bool:
    """`Action: failed` with a status of 4.x, as servers say it when their time for a mail is over."""
    return reading.action == "failed" and reading.verdict == "temporary"


def _said(codes: str, diagnostic: str) -> str:
    """Most diagnostics begin with the codes."""
    return diagnostic if not codes or codes in diagnostic else " ".join(filter(None, (codes, diagnostic)))


def tell_token(reading: Reading) -> str:
    """What there is to believe it by, where no data directory can say whose it is."""
    if reading.tokens:
        tokens = ", ".join(printable(token) for token in reading.tokens)
        return f"It has what may be the token of a message: {tokens}. Name DIR to see whether it is."
    return (
        "No token of a message is in it: "
        "neither X-Atmos-Message in what it encloses, nor an address like bounces+448-..."
    )


def tell_message(answer: Any) -> Iterator[str]:
    """Which message of this relay it is about."""
    to = "" if answer["recipient"] is None else f" to {printable(answer['recipient'])}"
    yield f"It is about message {answer['messageId']}{to} from {answer['domain']} ({answer['status']})."


def tell_effects(answer: Any, reading: Reading, *, would: bool) -> Iterator[str]:
    """What recording it makes true, or would."""
    if not answer["recorded"]:
        yield "This very mail was recorded about that message before; nothing " + (
            "would change." if would else "has changed."
        )
        return
    begin = "Recorded by hand, it would be" if would else "It is"
    yield f"{begin} in the message's timeline as {answer['recorded'][0]}."
    effects = list(_effects(answer, reading))
    if effects:
        yield (
            ("It would then " if would else "It has ")
            + "; ".join(planned if would else done for planned, done in effects)
            + "."
        )
    else:
        yield f"Nothing else {'would change' if would else 'has changed'}: {_why_nothing(reading)}."


def _effects(answer: Any, reading: Reading) -> Iterator[tuple[str, str]]:
    """What would be done, and what was."""
    if answer["counts"]:
        what = "complaint" if reading.verdict == "complaint" else "bounce"
        yield f"count as a {what} of {answer['domain']}", f"counted as a {what} of {answer['domain']}"
    if answer["suppressed"] is not None:
        reason = answer["suppressed"]
        yield f"suppress the recipient ({reason})", f"suppressed the recipient ({reason})"
    if answer["notified"]:
        yield "notify the domain's forward_to", "notified the domain's forward_to"


def _why_nothing(reading: Reading) -> str:
    if reading.kind not in DELIVERY_REPORTS:
        return "only a delivery report in its standard form, or a complaint, counts"
    if _is_given_up(reading):
        return "only what failed for good (5.x) counts, and the reason of this one may pass (4.x)"
    if reading.verdict != "permanent":
        return "it does not say that the mail failed for good"
    return "the message has bounced already, was never tried, or is no mail of a member's"
