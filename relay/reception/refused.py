"""A refusal as SMTP says it: the one table from the codes of `relay.refusals` to replies. Pure.

The invariant: **what may work later is a 4yz, what never will is a 5yz** (RFC 5321 section 4.2.1). A client comes again
by itself after the first, and tells its user after the second; the wrong one loses mail, or sends it for days.
"""

from __future__ import annotations

from typing import Final

from relay.message.submitted import SubmissionError
from relay.reception.replies import Reply
from relay.refusals import Refusal

#: Code -> reply code and enhanced status code (RFC 3463, RFC 4954 section 6).
TABLE: Final = {
    "AUTH_REQUIRED": (530, "5.7.0"),
    "INVALID_DID": (535, "5.7.8"),
    "AUTH_FAILED": (535, "5.7.8"),
    "MEMBER_SUSPENDED": (525, "5.7.13"),
    "SCOPE_INSUFFICIENT": (550, "5.7.1"),
    "DOMAIN_MISMATCH": (550, "5.7.1"),
    "RECIPIENT_SUPPRESSED": (550, "5.7.1"),
    # Both can be put right within the days in which a client comes again.
    "DOMAIN_UNVERIFIED": (450, "4.7.1"),
    "DOMAIN_PAUSED": (450, "4.7.1"),
    "RATE_LIMITED": (451, "4.7.1"),
    "QUEUE_FULL": (452, "4.3.1"),
    "TEMPORARILY_UNAVAILABLE": (451, "4.3.0"),
    "INTERNAL_ERROR": (451, "4.3.0"),
    "INVALID_REQUEST": (554, "5.6.0"),
    "IDEMPOTENCY_CONFLICT": (554, "5.7.0"),
    "PAYLOAD_TOO_LARGE": (552, "5.3.4"),
}
#: Enhanced status codes of a `SubmissionError` whose reply code is not 554.
_OF_MESSAGE: Final = {"5.3.4": 552}


def reply_to(refusal: Refusal) -> Reply:
    """Raises LookupError for a code that no decision about a send has: a defect."""
    code, enhanced = TABLE[refusal.code]
    text = refusal.message
    if refusal.retry_after_seconds is not None:
        text += f"; come again in {refusal.retry_after_seconds} s"
    return Reply(code, enhanced, text)


def reply_to_message(error: SubmissionError) -> Reply:
    return Reply(_OF_MESSAGE.get(error.enhanced, 554), error.enhanced, str(error))


#: What a stranger hears whose mail is not taken, by the code of `relay.receiving`'s refusal.
_TO_STRANGERS: Final = {
    "TOO_MANY_REPORTS": Reply(550, "5.7.1", "there are as many reports about this message as are taken"),
    "NOT_FOUND": Reply(550, "5.1.1", "address not available"),
    "RATE_LIMITED": Reply(452, "4.3.1", "so much mail has come for this address that yours has to wait"),
    "QUEUE_FULL": Reply(452, "4.3.1", "the disk is almost full; come again later"),
    "TEMPORARILY_UNAVAILABLE": Reply(451, "4.3.0", "the mail cannot be written down now; come again later"),
}


def reply_to_stranger(refusal: Refusal) -> Reply:
    """Raises LookupError for a code that no decision about mail of strangers has: a defect."""
    return _TO_STRANGERS[refusal.code]


def too_fast(refusal: Refusal) -> Reply:
    return Reply(450, "4.7.1", f"{refusal.message}; come again in {refusal.retry_after_seconds} s")


def bad_sender(problem: str) -> Reply:
    return Reply(553, "5.1.7", f"MAIL FROM: {problem}")


def bad_recipient(problem: str) -> Reply:
    return Reply(553, "5.1.3", f"RCPT TO: {problem}")


def too_many_at_once(most: int) -> Reply:
    return Reply(
        452, "4.5.3", f"your domain may send to {most} at once; send to these first, then to the others"
    )
