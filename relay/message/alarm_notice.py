"""The mail that tells the operator, or the member whom it concerns, of something that wants a person (`relay.alarms`).

The operator's goes to `[inbound] operator_mailbox`, where there is one, whatever stands on suppression lists: no
member's list, and no click on a member's mail, may keep an alarm from the operator. A member's goes where the domain
that it is about is told of its bounces, which its owner has confirmed, and none to who is on any suppression list.

All that it says stands in its event, in the relay's own words, so composing it is a pure function of that event.
"""

from __future__ import annotations

from typing import Final

from relay.codec import Recorded
from relay.events import AlarmQueued
from relay.message.bodies import text_part
from relay.message.compose import Message
from relay.message.notice import notice_fields

_SUBJECTS: Final = {
    "domain_paused": "{about} is paused",
    "domain_unverified": "The DNS records of {about} are wrong",
    "source_listed": "{about} is on a list of senders to refuse",
    "disk_near_reserve": "The relay's disk is almost full",
    "certificate_expires": "The relay's certificate expires",
    "clock_jumped": "The relay's clock has jumped",
}
#: Of an alarm whose name a later relay gave it.
_SUBJECT: Final = "Something needs your attention"
#: What a subject may name as it is. A header line has 78 characters by choice, and 998 by force.
_ABOUT_CHARACTERS_MAX: Final = 253
_LINE_CHARACTERS: Final = 76


def subject(event: AlarmQueued) -> str:
    """ASCII, whatever it is about."""
    about = event.about
    if not (about.isascii() and about.isprintable() and len(about) <= _ABOUT_CHARACTERS_MAX):
        about = "it"
    return _SUBJECTS.get(event.alarm, _SUBJECT).format(about=about)


def _filled(line: str) -> str:
    """In lines of a mail. One that begins with a space is to be pasted, and stays as it is."""
    if line.startswith(" "):
        return line
    lines = [""]
    for word in line.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _LINE_CHARACTERS:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def compose_alarm(alarm: Recorded) -> Message:
    """The message of an `alarm.queued`, which has its payload."""
    event = alarm.event
    assert isinstance(event, AlarmQueued)
    said = "\n\n".join(map(_filled, event.says))
    text = text_part("plain", f"This is the mail delivery system of {event.operator_domain}.\n\n{said}\n")
    headers = notice_fields(alarm, subject(event), auto_submitted="auto-generated")
    return Message((*headers, *text.headers), text.octets)
