"""What a delivery report says in its form (RFC 3464; RFC 6533 for addresses in UTF-8), however bent the form is.

The contract. `read_delivery_status` takes any text and gives back what it says of the recipients in fields, or None
where it says nothing in fields. Lines ends are LF. Missing empty lines between the groups, groups in another order,
comments behind the values, more than one recipient, fields that the RFC does not know: all are read over. Whom a
report is about is not read: our own record says that.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from relay.mail_reading import DIAGNOSTIC_MAX, HOST_MAX, Action
from relay.reports.header import plain
from relay.reports.texts import code_in, reply_in, status_in

RECIPIENTS_MAX: Final = 100
#: RFC 5321 section 4.5.3.1.3, less the angle brackets.
ADDRESS_MAX: Final = 254

_KNOWN: Final = frozenset(
    {
        "reporting-mta", "final-recipient", "original-recipient", "action", "status", "diagnostic-code",
        "remote-mta", "x-actual-recipient", "dsn-gateway", "received-from-mta", "arrival-date",
        "last-attempt-date", "will-retry-until", "original-envelope-id", "final-log-id", "localized-diagnostic",
    }
)  # fmt: skip
_FIELD: Final = re.compile(r"[ \t]{0,8}([A-Za-z][A-Za-z-]{1,39})[ \t]{0,8}:(.*)")
_ACTIONS: Final[dict[str, Action]] = {
    "failed": "failed",
    "failure": "failed",
    "fail": "failed",
    "expired": "failed",
    "delayed": "delayed",
    "delay": "delayed",
    "delivered": "delivered",
    "deliverable": "delivered",
    "relayed": "relayed",
    "expanded": "expanded",
}
#: What is worth telling first.
_ORDER: Final[tuple[Action | None, ...]] = ("failed", None, "delayed", "relayed", "expanded", "delivered")


class RecipientStatus(NamedTuple):
    action: Action | None
    status: str | None
    diagnostic: str
    code: int | None
    remote_mta: str | None
    #: As it stands there, in lower case: only to find in the text what is said of it.
    address: str


class DeliveryStatus(NamedTuple):
    reporting_mta: str | None
    recipients: tuple[RecipientStatus, ...]

    @property
    def chosen(self) -> RecipientStatus:
        """The first that failed, else the first that is worth most."""
        return min(self.recipients, key=lambda recipient: _ORDER.index(recipient.action))


def read_delivery_status(text: str) -> DeliveryStatus | None:
    reporting_mta: str | None = None
    groups: list[dict[str, str]] = [{}]
    for name, value in _fields(text):
        if name == "":
            groups.append({})
        elif name == "reporting-mta":
            reporting_mta = reporting_mta or host_in(value)
        elif name in groups[-1] and name in ("final-recipient", "action", "status"):
            groups.append({name: value})
        else:
            groups[-1].setdefault(name, value)
        if len(groups) > 4 * RECIPIENTS_MAX:
            break
    found = tuple(recipient for group in _joined(groups) if (recipient := _recipient(group)) is not None)
    return DeliveryStatus(reporting_mta, found[:RECIPIENTS_MAX]) if found else None


def _joined(groups: list[dict[str, str]]) -> list[dict[str, str]]:
    """Groups that an empty line has cut in two are one again: what has no recipient belongs to the one before."""
    joined: list[dict[str, str]] = []
    for group in groups:
        if (
            joined
            and group
            and not set(group) & set(joined[-1])
            and not {"final-recipient", "original-recipient"} & set(group)
        ):
            joined[-1].update(group)
        elif group:
            joined.append(dict(group))
    return joined


def _fields(text: str) -> list[tuple[str, str]]:
    """The fields that are known, unfolded; ("", "") for an empty line."""
    fields: list[tuple[str, str]] = []
    is_open = False
    for line in text.split("\n"):
        if not line.strip():
            fields.append(("", ""))
            is_open = False
        elif line[0] in " \t" and is_open:
            name, value = fields[-1]
            if len(value) < 2 * DIAGNOSTIC_MAX:
                fields[-1] = (name, f"{value} {line.strip()}")
        elif (match := _FIELD.fullmatch(line)) is not None and match[1].lower() in _KNOWN:
            fields.append((match[1].lower(), match[2].strip()))
            is_open = True
        else:
            is_open = False
    return fields


def _recipient(group: dict[str, str]) -> RecipientStatus | None:
    if "action" not in group and "status" not in group:
        return None
    word = re.match(r"[A-Za-z]{1,20}", group.get("action", ""))
    action = _ACTIONS.get(word[0].lower()) if word else None
    diagnostic = plain(group.get("diagnostic-code", ""))
    if (typed := re.match(r"[A-Za-z0-9.-]{1,40}\s{0,5};", diagnostic)) is not None:
        diagnostic = diagnostic[typed.end() :].strip()
    stated = group.get("status", "")
    status = status_in(stated)
    code = code_in(diagnostic) or code_in(stated)
    if status is None or status.endswith(".0.0"):
        # The text tells more than "something failed", where both mean the same.
        told = status_in(diagnostic)
        if told is not None and (status is None or told[0] == status[0]):
            status = told
    if action is None and status is None:
        return None
    if action is None and status is not None:
        action = {"2": "delivered", "4": None, "5": "failed"}[status[0]]
    remote_mta = host_in(group.get("remote-mta", ""))
    return RecipientStatus(action, status, reply_in(diagnostic), code, remote_mta, _address_in(group))


def _address_in(group: dict[str, str]) -> str:
    value = group.get("final-recipient") or group.get("original-recipient", "")
    return plain(value.rpartition(";")[2]).strip(" <>").lower()[:ADDRESS_MAX]


def host_in(value: str) -> str | None:
    """The name in a field of a kind and a name ("dns; mx.example.com (192.0.2.1)")."""
    name = value.rpartition(";")[2].strip() if ";" in value else value.strip()
    word = plain(name.split()[0]) if name.split() else ""
    return word.strip('()<>[]".,')[:HOST_MAX] or None
