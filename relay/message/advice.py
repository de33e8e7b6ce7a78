"""What each class of a failure means, and what helps, and what to do about a report: for people, in one sentence.

This is the one table of it. The DSN and the API quote it, docs/BOUNCE_CLASSES.md shows it (a test compares them), and
`relay.delivery.bounce_classes` says which reply is of which class. Nothing here comes from a stranger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.events import MessageBounceReported
from relay.mail_reading import BOUNCES


class Advice(NamedTuple):
    #: What the receiver says, or the relay has found.
    finding: str
    what_helps: str

    @property
    def sentence(self) -> str:
        return f"{self.finding[0].upper()}{self.finding[1:]}: {self.what_helps}."


_LIST = "take it off the list"
_MESSAGE = "change the message"
_LATER = "wait; once it has bounced, send it again later"
_AGAIN = "it was given up; send it again later"
_OPERATOR = "tell the operator of the relay"

ADVICE: Final[Mapping[str, Advice]] = {
    "invalid_recipient": Advice("nobody has this address", _LIST),
    "inactive_mailbox": Advice("the account is switched off, suspended or has moved", _LIST),
    "quota_issues": Advice(
        "the mailbox or the system is full, or the message too big for it", "wait, or send less"
    ),
    "bad_domain": Advice("the domain does not exist or takes no mail", "correct the address"),
    "invalid_sender": Advice("our sender address or its domain is not accepted", _OPERATOR),
    "authentication_failed": Advice(
        "SPF, DKIM, DMARC or our reverse DNS does not pass", "look at your domain's DNS check"
    ),
    "spam_block": Advice(
        "our address or domain is on a list, or of bad reputation",
        "see the list's page; send less, and only what is wanted",
    ),
    "spam_content": Advice("the message itself looks like spam", _MESSAGE),
    "spam_related": Advice(
        "spam, without saying whether it is we or the message",
        "change the message; send less, and only what is wanted",
    ),
    "policy_related": Advice("a rule of theirs forbids it", "ask the receiver"),
    "content_related": Advice("the message is not formed as they want it", _MESSAGE),
    "prohibited_attachment": Advice("an attachment of a kind that they do not take", "send a link"),
    "virus_related": Advice("a virus was found in the message", _MESSAGE),
    "relay_denied": Advice(
        "they are not responsible for this domain", "its MX records are wrong, for its owner to correct"
    ),
    "too_many_recipients": Advice("more recipients than they take at once", _LATER),
    "routing_errors": Advice(
        "the mail would run in circles, or its way leads nowhere", "tell the domain's owner"
    ),
    "dns_failure": Advice("a name could not be looked up just now", _LATER),
    "bad_configuration": Advice(
        "their TLS or system is set up wrongly, or a key of ours cannot be read", _OPERATOR
    ),
    "bad_connection": Advice("the connection broke off or fell silent", _LATER),
    "no_answer_from_host": Advice("no connection came about", _LATER),
    "protocol_errors": Advice("the two sides do not understand each other", _OPERATOR),
    "message_expired": Advice(
        "the time was over before it could be tried", "send it again, if it still matters"
    ),
    "transient_failure": Advice("not now: greylisting, too much at once, or no reason given", _LATER),
    "uncategorized": Advice("not ever, and no reason that we could read", "read the reply's text"),
}


_LATE: Final = "It is on its way still, and late: wait. Whoever has it reports again if it fails."
_NOTHING: Final = "Nothing is to be done."
_ANSWERED: Final = "A program answered in the recipient's place: nothing is to be done."
_FEEDBACK: Final = "The recipient's provider writes of it, and calls it no spam: read what it says."
_WORDS: Final = "It failed, for no reason that we could read: read what was said."
_UNREAD: Final = "It says nothing that we could read: ask the operator, who has it."


def report_advice(report: MessageBounceReported) -> str:
    """What to do about a report, as `relay.mail_reading` has its words."""
    match report.kind, report.action:
        case "auto_reply", _:
            return _ANSWERED
        case _, "delayed":
            return _LATE
        case _, "delivered" | "relayed" | "expanded":
            return _NOTHING
        case "feedback", _:
            return _FEEDBACK
    if report.kind not in BOUNCES:
        return _UNREAD
    if (report.enhanced or "5")[0] == "4" and report.action != "failed":
        return _LATE
    return advice_when_over(report.bounce_class) or _WORDS


def advice(bounce_class: str | None) -> str | None:
    """The sentence for a failure of this class; None where it has none."""
    found = None if bounce_class is None else ADVICE.get(bounce_class)
    return None if found is None else found.sentence


def advice_when_over(bounce_class: str | None) -> str | None:
    """`advice`, where somebody has given the mail up: there is nothing to wait for any more."""
    found = None if bounce_class is None else ADVICE.get(bounce_class)
    if found is not None and found.what_helps == _LATER:
        found = found._replace(what_helps=_AGAIN)
    return None if found is None else found.sentence
