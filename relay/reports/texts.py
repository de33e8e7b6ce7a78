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
_CODE: Final = re.compile(r"(?<![\w.@/=#-])(?<!\d:)([245][0-5]\d)(?=[ \t,:-]|$)(?!-\d\d)")


_REPLY_START: Final = re.compile(r"([245]\d\d)[ -](?:([245]\.\d{1,3}\.\d{1,3})(?=[ -]))?")


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
            r"begin forwarded message:",
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
    "did not reach some or all",
    "did not reach the following",
    "did not receive this message",
    "delivery failed",
    "delivery has failed",
    "error has occurred while attempting to deliver",
    "error occurred while trying to deliver",
    "error delivering your mail",
    "failed permanently",
    "failed to deliver",
    "failure reasons",
    "fatal errors",
    "had delivery errors",
    "had delivery problems",
    "had permanent delivery errors",
    "had permanent errors",
    "had permanent failures",
    "has bounced",
    "has not been delivered",
    "invalid final delivery userid",
    "malformed address:",
    "message delivery has failed",
    "name is not recognized",
    "no such user",
    "not able to be delivered",
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
    "is delayed for more than",
    "only a temporary failure",
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
_SENTENCE_CHARACTERS_MAX: Final = 200
_SOFT_BREAKS_MIN: Final = 2
#: From a reply's code to the enhanced one in it.
_ONE_REPLY_CHARACTERS_MAX: Final = 200
_AUTOMATIC: Final = (
    "automated alert notification",
    "automatic bounce",
    "automatically generated delivery",
    "created automatically by mail",
    "generated automatically by the mail",
    "machine generated message from mail",
)
#: More than that nobody says before he quotes.
TEXT_CHARACTERS_MAX: Final = 65_536


_BREAKS: Final = frozenset(
    {"br", "p", "div", "tr", "table", "li", "ul", "h1", "h2", "h3", "h4", "hr", "pre", "body"}
)
#: The last one last: what it makes is no entity any more.
_ENTITIES: Final = (
    ("&nbsp;", " "),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", '"'),
    ("&#39;", "'"),
    ("&#43;", "+"),
    ("&amp;", "&"),
)


class Told(NamedTuple):
    """What a text says of a failure."""

    in_words: bool
    """It says so in a mail system's words, and not by a code alone."""

    action: Action | None
    status: str | None
    code: int | None
    diagnostic: str


def quotes_mail(text: str) -> bool:
    """It has the header of another mail in it."""
    return _ORIGINAL.search(text[:TEXT_CHARACTERS_MAX]) is not None


def says_automatic(text: str) -> bool:
    """It says that nobody wrote it about mail."""
    lowered = " ".join(text[:TEXT_CHARACTERS_MAX].split()).lower()
    return any(phrase in lowered for phrase in _AUTOMATIC)


def without_tags(html: str) -> str:
    """What a page of HTML says, line by line, roughly: tags become line ends or nothing, the few entities that matter
    are read."""
    pieces = html[:TEXT_CHARACTERS_MAX].split("<")
    said = [pieces[0]]
    for piece in pieces[1:]:
        tag, closed, text = piece.partition(">")
        name = tag.strip("/ ").partition(" ")[0].lower()
        said.append("\n" if name in _BREAKS else "")
        said.append(text if closed else piece)
    text = "".join(said)
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return text


def before_original(text: str) -> str:
    """The text up to the mail that it quotes."""
    match = _ORIGINAL.search(text)
    return text if match is None or match.start() == 0 else text[: match.start()]


def unquoted(text: str) -> str:
    """The text without what it quotes of other mail."""
    own = before_original(text[:TEXT_CHARACTERS_MAX])
    return "\n".join(line for line in own.split("\n") if not line.startswith(">"))


def read_text(text: str) -> Told | None:
    """Of the text of a mail that looks like a mail system's; None: it says nothing of a failure."""
    text = text[:TEXT_CHARACTERS_MAX]
    if text.count("=\n") > _SOFT_BREAKS_MIN:
        # It says no more that it is quoted-printable.
        text = text.replace("=\n", "")
    own = before_original(text)
    flat = " ".join(own.split())
    lowered = flat.lower()
    waits = any(phrase in lowered for phrase in _WAITS)
    fails_at = min((at for phrase in _FAILS if (at := lowered.find(phrase)) >= 0), default=None)
    status, code, at = _first(own)
    if at < 0:
        if fails_at is None and not waits:
            return None
        # From the beginning of its sentence.
        begins = max(flat.rfind(". ", 0, fails_at or 0) + 1, (fails_at or 0) - _SENTENCE_CHARACTERS_MAX)
        said = plain(flat[max(begins, 0) :][:DIAGNOSTIC_MAX])
        return Told(True, "delayed" if waits else "failed", None, None, said)
    digit = status[0] if status else str(code)[0]
    action: Action = "delayed" if waits or (digit == "4" and fails_at is None) else "failed"
    return Told(waits or fails_at is not None, action, status, code, reply_in(own[at:].partition("\n\n")[0]))


def words_about(text: str, address: str) -> str:
    """What a text says of an address (in lower case): behind it on the line that begins with it, and below; "" where it
    says nothing."""
    lines = iter(before_original(text[:TEXT_CHARACTERS_MAX]).split("\n"))
    for line in lines:
        begun = line.strip(" \t<")
        if address and begun.lower().startswith(address) and begun[len(address) :][:1] in ("", ">", ":", " "):
            said = [begun[len(address) :].lstrip(">: \t")]
            for following in lines:
                if not following.strip() or "@" in following:
                    break
                said.append(following)
            return reply_in("\n".join(said))
    return ""


def reply_in(paragraph: str) -> str:
    """The lines of a reply as one sentence, its code and enhanced code only where they stand first."""
    said = plain(" ".join(paragraph[: 4 * DIAGNOSTIC_MAX].split()))
    if said[:3].isdecimal() and said[3:4] == " " and said.startswith(said[:4], 4):
        # Some say the code in front of a reply that has it.
        said = said[4:]
    start = _REPLY_START.match(said)
    if start is not None:
        code, status = start[1], start[2]
        again = re.compile(
            rf"(?<=\s){code}[ -]{re.escape(status)}(?=[ -])[ -]" if status else rf"(?<=\s){code}-"
        )
        said = f"{code} {said[4 : start.end()]}{again.sub('', said[start.end() :])}"
    return said[:DIAGNOSTIC_MAX].strip()


def _first(text: str) -> tuple[str | None, int | None, int]:
    """Enhanced code and code that stand first, and where; -1: there is none."""
    status = next((match for match in _STATUS.finditer(text) if match[1][0] in "45"), None)
    code = next((match for match in _CODE.finditer(text) if match[1][0] in "45"), None)
    if status is None:
        return (None, None, -1) if code is None else (None, int(code[1]), code.start())
    if code is None or code.start() > status.start():
        # Words before it belong to it: "no mailbox here by that name. (#5.1.1)".
        return status_in(status[1]), None, text.rfind("\n", 0, status.start()) + 1
    if code[1][0] == status[1][0] and status.start() - code.start() <= _ONE_REPLY_CHARACTERS_MAX:
        return status_in(status[1]), int(code[1]), code.start()
    return None, int(code[1]), code.start()
