"""Whether a mail looks as if a mail system wrote it about a mail that it could not deliver.

The contract. A pure function of the header: how much speaks for it. What follows from it is for `read`: mail of people
who talk about bounces has codes and phrases in its text, too, and is none.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

from relay.reports.automatic import auto_submitted, is_answer_by_subject
from relay.reports.header import addresses_in
from relay.reports.parts import Mail

_DAEMON: Final = re.compile(
    r"(?:mail(?:er)?[-_.]?da?emon|mdaemon|double-bounce)(?:[-_.+=].{0,60})?", re.IGNORECASE
)
_DAEMON_NAME: Final = re.compile(
    r"mail(?:er)?[ -]?d(?:ae|e)mon|mail deliver(?:y)? (?:sub)?system|mail delivery (?:service|agent)|delivery subsystem"
    r"|internet mail delivery",
    re.IGNORECASE,
)
_POSTMASTER_NAME: Final = re.compile(
    r"system administrator|mail administrator|\be?mail system", re.IGNORECASE
)
_POSTMASTER: Final = re.compile(
    r"(?:post[-_]?master|mail-?admin|mailmaster|mail-?delivery)(?:[-_+.].{0,40})?", re.IGNORECASE
)
#: In lower case: how mail systems call such mail.
_SUBJECTS: Final = (
    "bounce notification",
    "bounced mail",
    "bounced message",
    "delivery delayed",
    "delivery error",
    "delivery fail",
    "delivery has failed",
    "delivery incomplete",
    "delivery notification",
    "delivery problem",
    "delivery report",
    "delivery status",
    "delivery suspended",
    "failed delivery",
    "failed to deliver",
    "failure delivery",
    "failure notice",
    "failure notification",
    "mail bounced",
    "mail error",
    "mail returned",
    "mail system error",
    "mailbox full",
    "message could not be delivered",
    "message delayed",
    "message not delivered",
    "message rejected",
    "message undelivered",
    "message you sent",
    "non-deliver",
    "non deliver",
    "nondeliver",
    "not deliver",
    "notification d'échec",
    "returned e-mail",
    "returned email",
    "returned mail",
    "returned message",
    "returning message",
    "unable to deliver",
    "undeliver",
    "unknown user",
    "user unknown",
    "mail failure",
    "warning: could not send",
    "warning--could not send",
    "warning: message",
    # German, French, Italian, Spanish, Portuguese, Dutch, Polish, Russian, Japanese, Chinese
    "unzustellbar",
    "nicht zugestellt",
    "zustellung",
    "non remis",
    "non distribu",
    "échec de la remise",
    "mancata consegna",
    "no se puede entregar",
    "no se pudo entregar",
    "no entregado",
    "não entregue",
    "falha na entrega",
    "onbestelbaar",
    "niedostarczon",
    "недоставлен",
    "не доставлен",
    "не может быть доставлен",
    "配信エラー",
    "配信できません",
    "送信エラー",
    "不達",
    "未送达",
    "退信",
    "投递失败",
)
#: And those of them that a person hardly begins a subject with.
_WHOLE_SUBJECTS: Final = (
    "delivery failure",
    "delivery has failed",
    "delivery status notification",
    "failure notice",
    "mail could not be delivered",
    "mail delivery failed",
    "mail delivery failure",
    "message delivery failure",
    "message undeliverable",
    "non-delivery",
    "returned mail",
    "undeliverable",
    "undelivered",
    "unzustellbar",
)
#: A person's answer, or a person who passes it on.
_OF_A_PERSON: Final = re.compile(
    r"\s{0,5}(?:re|aw|sv|vs|antw|fwd?|wg|tr|rv|i|rif|回复|转发)(?:\[\d{1,3}\])?\s?[:：]", re.IGNORECASE
)


class Likeness(IntEnum):
    """How much of it looks like a mail system's."""

    NONE = 0
    #: Only its subject, or that a machine wrote it. People write of undelivered mail, too, and machines of much.
    SLIGHT = 1
    #: It has the null sender, or a postmaster's, or a machine wrote it with such a subject: all of these write other
    #: mail as well, about parcels for example.
    SOME = 2
    #: It is from a mail system, or has the null sender and more.
    MUCH = 3


def likeness(mail: Mail) -> Likeness:
    header, content_type, parameters = mail.header, mail.content_type, mail.parameters
    sender = header.first("from")[:1000]
    locals_ = [address.partition("@")[0] for address in addresses_in(sender)]
    subject = header.words("subject")
    is_daemon = (
        any(_DAEMON.fullmatch(local) for local in locals_)
        or _DAEMON_NAME.search(header.words("from")) is not None
        or (not locals_ and _DAEMON.search(sender) is not None)
    )
    is_postmaster = (
        any(_POSTMASTER.fullmatch(local) for local in locals_)
        or _POSTMASTER_NAME.search(header.words("from")) is not None
    )
    is_subject = any(phrase in subject.lower() for phrase in _SUBJECTS)
    is_report = (
        content_type == "multipart/report"
        and parameters.get("report-type", "delivery-status").lower() == "delivery-status"
    )
    is_null = any(header.has(name) and _is_null(header.first(name)) for name in ("return-path", "from"))
    if is_daemon or is_report or header.has("x-failed-recipients"):
        return Likeness.MUCH
    if (
        _OF_A_PERSON.match(subject)
        or header.has("list-id", "list-unsubscribe")
        or is_answer_by_subject(header)
    ):
        return Likeness.NONE
    is_machine = auto_submitted(header) not in ("", "no") or header.first("precedence").lower() in (
        "bulk",
        "junk",
    )
    is_whole_subject = subject.lower().strip("[]* ").startswith(_WHOLE_SUBJECTS)
    if (is_null and (is_subject or is_postmaster)) or (is_postmaster and is_whole_subject):
        return Likeness.MUCH
    if is_null or is_postmaster or (is_subject and is_machine):
        return Likeness.SOME
    return Likeness.SLIGHT if is_subject or is_machine else Likeness.NONE


def _is_null(return_path: str) -> bool:
    bare = "".join(return_path.split()).strip("<>")
    return bare == "" or _DAEMON.fullmatch(bare.partition("@")[0]) is not None
