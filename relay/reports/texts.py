"""Codes in text that people, or mail systems, have written: the three digits of SMTP, and enhanced ones (RFC 3463).

The contract. Pure, any text, linear. What looks like a code and is part of an address of the Internet, a version or a
longer number is none.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from relay.mail_reading import DIAGNOSTIC_MAX, Action
from relay.reports.header import plain

_STATUS: Final = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d]|\.\d)")
#: At the beginning, or behind what mail systems put before a reply.
_CODE: Final = re.compile(r"(?<![\w.@:/=#-])([245][0-5]\d)(?=[ \t-]|$)(?!-\d\d)")


def status_in(text: str) -> str | None:
    """The first enhanced status code."""
    match = _STATUS.search(text)
    if match is None:
        return None
    # "5.01.1" is the same as "5.1.1".
    return ".".join(str(int(number)) for number in match[1].split("."))


def code_in(text: str) -> int | None:
    """The first reply code."""
    match = _CODE.search(text)
    return None if match is None else int(match[1])


#: Where the mail begins that a report quotes, at the beginning of a line.
_ORIGINAL: Final = re.compile(
    r"^[ \t>]{0,8}(?:"
    + "|".join(
        (
            r"Received:[ \t]+(?:from|by|\(qmail)",
            r"Return-Path:[ \t]*<",
            r"-{2,}[ \t]*(?:this is a copy of|below this line|the header of the original|body of the message)",
            r"-{2,}[ \t]*(?:original|returned|forwarded|unsent) message",
            r"(?:original|returned) message (?:headers? )?(?:follows|attached|below)",
            r"original message headers:",
            r"(?:below|included|here) is a copy of",
            r"a copy of the original message",
        )
    )
    + ")",
    re.IGNORECASE | re.MULTILINE,
)
#: In lower case, with one space between words: how mail systems say that a mail did not arrive. None of them is what
#: people say of mail.
_FAILS: Final = (
    "account is disabled",
    "can not be delivered",
    "cannot be delivered",
    "could not be delivered",
    "couldn't be delivered",
    "couldnt be delivered",
    "could not be sent",
    "could not be reached",
    "couldn't be reached",
    "did not reach the following",
    "did not receive this message",
    "delivery failed",
    "delivery has failed",
    "failed permanently",
    "failed to deliver",
    "failure reasons",
    "fatal errors",
    "had delivery problems",
    "had permanent errors",
    "had permanent failures",
    "has bounced",
    "has not been delivered",
    "invalid final delivery userid",
    "message delivery has failed",
    "name is not recognized",
    "no such user",
    "not able to deliver",
    "wasn't able to deliver",
    "not be delivered",
    "not delivered to",
    "permanent error",
    "permanent failure",
    "rejected by a remote mail server",
    "returned to sender",
    "the following address failed",
    "the following address(es) failed",
    "the following addresses failed",
    "the following recipients failed",
    "unable to deliver",
    "undeliverable",
    "unknown user",
    "user unknown",
    "was not delivered",
    "was aborted",
)
#: And that it has not arrived yet.
_WAITS: Final = (
    "attempts will continue",
    "do not need to resend",
    "don't need to resend",
    "has been delayed",
    "have been delayed",
    "has not yet been delivered",
    "not yet been delivered",
    "warning message only",
    "will be retried",
    "will continue to be",
    "will continue to try",
    "will continue trying",
    "will keep trying",
)
#: From a reply's code to the enhanced one in it.
_ONE_REPLY_CHARACTERS_MAX: Final = 200
#: More than that nobody says before he quotes.
TEXT_CHARACTERS_MAX: Final = 65_536


class Told(NamedTuple):
    """What a text says of a failure."""

    action: Action | None
    status: str | None
    code: int | None
    diagnostic: str


def before_original(text: str) -> str:
    """The text up to the mail that it quotes."""
    match = _ORIGINAL.search(text)
    return text if match is None or match.start() == 0 else text[: match.start()]


def read_text(text: str) -> Told | None:
    """Of the text of a mail that looks like a mail system's; None: it says nothing of a failure."""
    own = before_original(text[:TEXT_CHARACTERS_MAX])
    flat = " ".join(own.split())
    lowered = flat.lower()
    waits = any(phrase in lowered for phrase in _WAITS)
    fails_at = min((at for phrase in _FAILS if (at := lowered.find(phrase)) >= 0), default=None)
    status, code, at = _first(own)
    if at < 0:
        if fails_at is None and not waits:
            return None
        said = flat[fails_at or 0 :][:DIAGNOSTIC_MAX]
        return Told("delayed" if waits else "failed", None, None, said)
    digit = status[0] if status else str(code)[0]
    action: Action = "delayed" if waits or (digit == "4" and fails_at is None) else "failed"
    paragraph = own[at:].partition("\n\n")[0]
    return Told(action, status, code, plain(" ".join(paragraph.split()))[:DIAGNOSTIC_MAX])


def _first(text: str) -> tuple[str | None, int | None, int]:
    """Enhanced code and code that stand first, and where; -1: there is none."""
    status = next((match for match in _STATUS.finditer(text) if match[1][0] in "45"), None)
    code = next((match for match in _CODE.finditer(text) if match[1][0] in "45"), None)
    if status is None:
        return (None, None, -1) if code is None else (None, int(code[1]), code.start())
    if code is None or code.start() > status.start():
        return status_in(status[1]), None, status.start()
    if code[1][0] == status[1][0] and status.start() - code.start() <= _ONE_REPLY_CHARACTERS_MAX:
        return status_in(status[1]), int(code[1]), code.start()
    return None, int(code[1]), code.start()
