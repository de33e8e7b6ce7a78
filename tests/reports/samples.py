"""Small mails of the kinds that come, written by hand after what the programs write, and what each is to be read as."""

from __future__ import annotations

from pathlib import Path

from relay.mail_reading import Reading, Signature

DIRECTORY = Path(__file__).parent / "samples"
FIELD, LOCAL_PART = "448-abcdefghijklmnop", "bounces+448-abcdefghijklmnop"
BOTH = (FIELD, LOCAL_PART)
ORIGINAL = ("<1.a@yourdomain.com>",)


def _dsn(**fields: object) -> Reading:
    given = {
        "kind": "dsn",
        "action": "failed",
        "reporting_mta": "mx.example.net",
        "from_domain": "mx.example.net",
    }
    return Reading(is_automatic=True, **(given | fields))  # type: ignore[arg-type]


def _heuristic(**fields: object) -> Reading:
    return _dsn(**({"kind": "heuristic", "reporting_mta": None} | fields))


def _feedback(feedback_type: str, **fields: object) -> Reading:
    return Reading(kind="feedback", feedback_type=feedback_type, is_automatic=True, **fields)  # type: ignore[arg-type]


SAMPLES: dict[str, tuple[str, Reading]] = {
    "postfix_unknown_user": (
        "permanent",
        _dsn(
            enhanced="5.1.1",
            code=550,
            bounce_class="invalid_recipient",
            diagnostic="550 5.1.1 <friend@example.org>: Recipient address rejected: User unknown in virtual"
            " mailbox table",
            remote_mta="mail.example.org",
            tokens=BOTH,
        ),
    ),
    "postfix_delayed": (
        "temporary",
        _dsn(
            action="delayed",
            enhanced="4.4.1",
            bounce_class="no_answer_from_host",
            diagnostic="connect to mail.example.org[192.0.2.7]:25: Connection timed out",
            tokens=(LOCAL_PART,),
        ),
    ),
    # Its Status says only that it failed; the reply says why.
    "exim_full_mailbox": (
        "permanent",
        _dsn(
            enhanced="5.2.2",
            code=552,
            bounce_class="quota_issues",
            diagnostic="552 5.2.2 Mailbox full",
            remote_mta="mail.example.org",
            tokens=(LOCAL_PART,),
            references=ORIGINAL,
        ),
    ),
    # A bounce that calls itself an automatic answer, of a mail whose subject has a code.
    "exim_in_words": (
        "permanent",
        _heuristic(
            enhanced="5.1.1",
            code=550,
            bounce_class="invalid_recipient",
            diagnostic="550 5.1.1 <friend@example.org>... User unknown",
            tokens=BOTH,
        ),
    ),
    "exchange_html_first": (
        "permanent",
        _dsn(
            enhanced="5.1.10",
            code=550,
            bounce_class="invalid_recipient",
            diagnostic="550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient friend@example.org not found by SMTP"
            " address lookup",
            reporting_mta="VI1PR00MB0000.eurprd00.prod.outlook.com",
            from_domain="example.org",
            references=ORIGINAL,
            tokens=(FIELD,),
        ),
    ),
    "gmail_disabled": (
        "permanent",
        _dsn(
            enhanced="5.2.1",
            code=550,
            bounce_class="inactive_mailbox",
            diagnostic="550 5.2.1 The email account that you tried to reach is inactive. For more information, go to"
            " https://support.google.com/mail/?p=DisabledUser x-y.1 - gsmtp",
            reporting_mta="googlemail.com",
            remote_mta="gmail-smtp-in.l.google.com",
            from_domain="googlemail.com",
            references=ORIGINAL,
            tokens=BOTH,
        ),
    ),
    "yahoo_in_words": (
        "permanent",
        _heuristic(
            enhanced="5.7.9",
            code=554,
            bounce_class="policy_related",
            diagnostic="554: 5.7.9 Message not accepted for policy reasons. See https://postmaster.example/errors",
            from_domain="yahoo.com",
            tokens=(LOCAL_PART,),
        ),
    ),
    "qmail": (
        "permanent",
        _heuristic(
            enhanced="5.1.1",
            bounce_class="invalid_recipient",
            diagnostic="Sorry, no mailbox here by that name. (#5.1.1)",
            tokens=(LOCAL_PART,),
        ),
    ),
    "sendmail": (
        "permanent",
        _dsn(
            enhanced="5.1.2",
            code=550,
            bounce_class="bad_domain",
            diagnostic="550 Host unknown",
            remote_mta="example.org",
            tokens=(LOCAL_PART,),
        ),
    ),
    "opensmtpd_in_words": (
        "permanent",
        _heuristic(
            bounce_class="bad_domain",
            diagnostic="An error has occurred while attempting to deliver a message for the following list of"
            " recipients: friend@example.org: Domain does not exist",
            tokens=(FIELD,),
        ),
    ),
    "utf8_addresses": (
        "permanent",
        _dsn(
            kind="dsn_utf8",
            enhanced="5.1.1",
            code=550,
            bounce_class="invalid_recipient",
            diagnostic="550 5.1.1 <josé@example.org>: no such user",
            tokens=(FIELD,),
        ),
    ),
    "status_in_base64": (
        "permanent",
        _dsn(
            enhanced="5.7.1",
            code=550,
            bounce_class="spam_content",
            diagnostic="550 5.7.1 rejected as spam",
        ),
    ),
    # Failed for good, though what it failed of may pass.
    "gave_up": (
        "temporary",
        _dsn(
            enhanced="4.4.7",
            code=451,
            bounce_class="message_expired",
            diagnostic="451 4.2.0 try again later",
            tokens=(FIELD,),
        ),
    ),
    # The form at the end, no line between the groups: the first that failed is told.
    "several_recipients": (
        "permanent",
        _dsn(
            enhanced="5.2.2",
            code=552,
            bounce_class="quota_issues",
            diagnostic="552 over quota",
            tokens=(FIELD,),
        ),
    ),
    # Another boundary than it says, no type on the form, lines where none should be, no third part.
    "form_without_its_type": (
        "permanent",
        _dsn(
            enhanced="5.1.1",
            code=550,
            bounce_class="invalid_recipient",
            diagnostic="550 5.1.1 (no such user)",
            from_domain="example.net",
        ),
    ),
    "delivered": (
        "none",
        _dsn(action="delivered", enhanced="2.0.0", code=250, diagnostic="250 2.0.0 Ok: queued as 4Wq"),
    ),
    "complaint": (
        "complaint",
        _feedback(
            "abuse",
            diagnostic="This is an email abuse report for an email message received from relay.example on Mon,"
            " 3 Mar 2025 10:00:00 PST",
            reporting_mta="mx.example.com",
            from_domain="arf.example.com",
            signatures=(Signature("arf.example.com", "fbl2024"),),
            tokens=BOTH,
        ),
    ),
    "complaint_with_hardly_a_word": (
        "complaint",
        _feedback(
            "abuse",
            diagnostic="complaint about message from 192.0.2.1",
            from_domain="hotmail.com",
            tokens=(FIELD,),
        ),
    ),
    "complaint_of_three_fields": (
        "complaint",
        _feedback("abuse", from_domain="hotmail.com", tokens=(FIELD,)),
    ),
    "not_spam": ("none", _feedback("not-spam", from_domain="example.com", tokens=(LOCAL_PART,))),
    "authentication_failed": (
        "none",
        _feedback("auth-failure", from_domain="example.com", tokens=("forward+12-abcdefghijklmnop",)),
    ),
    "out_of_office": (
        "auto_reply",
        Reading(kind="auto_reply", from_domain="example.org", references=ORIGINAL, is_automatic=True),
    ),
    "vacation": (
        "auto_reply",
        Reading(
            kind="auto_reply",
            from_domain="example.org",
            references=("<2.b@yourdomain.com>", "<1.a@yourdomain.com>"),
            is_automatic=True,
        ),
    ),
    "tls_report": ("none", Reading(kind="tls_report", from_domain="example.com", is_automatic=True)),
    "dmarc_report": ("none", Reading(kind="dmarc_report", from_domain="example.com", is_automatic=True)),
}


def sample(name: str) -> bytes:
    """The mail, with CRLF."""
    return (DIRECTORY / f"{name}.eml").read_bytes().replace(b"\n", b"\r\n")
