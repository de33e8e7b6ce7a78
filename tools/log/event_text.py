"""How events of the log are shown: as a JSON object for programs, as a line that tells a story for people.

Whatever is in the log can be shown, events of a newer relay and records that are no events included. What strangers
wrote (a receiver's reply, a subject) is escaped before it comes near a terminal, so that it can neither move the
cursor nor pass for a line of ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cbor2

from relay.codec import decode_raw
from relay.times import rfc3339
from spool.record import Record
from tools.log.webhook_text import WEBHOOK_TYPES, told_of_webhook
from tools.output import counted, printable

#: The events whose sequence number is a message's id.
_OF_A_MESSAGE_OF_THEIR_OWN = (
    "message.queued",
    "dsn.queued",
    "confirmation.queued",
    "forward.queued",
    "webhook_notice.queued",
    "alarm.queued",
)


class Shown(NamedTuple):
    """A record, read as far as it can be read."""

    seq: int
    time_us: int
    type: str
    version: int | None
    did: str | None
    message_id: int | None
    data: dict[str, Any]
    stripped: bool


def show(record: Record) -> Shown:
    try:
        raw = decode_raw(record)
    except (cbor2.CBORDecodeError, ValueError, AttributeError):
        raw = {"type": "(not an event)", "version": None, "data": {"skeleton": record.skeleton}}
    data = raw["data"]
    name = str(raw["type"])
    message_id = record.seq if name in _OF_A_MESSAGE_OF_THEIR_OWN else data.get("message_id")
    return Shown(
        seq=record.seq,
        time_us=record.time_us,
        type=name,
        version=raw["version"],
        did=data.get("did"),
        message_id=message_id if isinstance(message_id, int) else None,
        data=data,
        stripped=record.stripped,
    )


def as_object(event: Shown) -> dict[str, Any]:
    """What JSON can hold of it. `stripped` is there only where retention has taken the personal data."""
    return {
        "seq": event.seq,
        "time": rfc3339(event.time_us),
        "type": event.type,
        "version": event.version,
        "did": event.did,
        "messageId": event.message_id,
        "data": _json_value(event.data),
        **({"stripped": True} if event.stripped else {}),
    }


def as_json(event: Shown) -> str:
    """One line of ASCII, so that no terminal can be played tricks on through it either."""
    return json.dumps(as_object(event))


def as_line(event: Shown) -> str:
    """`448  2025-01-07T10:11:12.000000Z  message.deferred  message 447: deferred at attempt 1, mx…: 451 …`"""
    story = _story(event)
    if event.stripped:
        story += " (personal data removed)"
    line = f"{event.seq:>7}  {rfc3339(event.time_us)}  {event.type:<20}  {story}"
    return printable(line.rstrip())


def _story(event: Shown) -> str:
    """A sentence, where the event has the fields for it; else its fields as they are."""
    try:
        if event.type in _SENTENCES:
            return _SENTENCES[event.type].format_map(event.data) + _by_whom(event)
        if event.type in _STORIES:
            return _STORIES[event.type](event)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        pass  # another version's fields
    return _fields(event)


def _by_whom(event: Shown) -> str:
    """Who gave the order, where the event says it: one of the operator's people, or a key of the member's."""
    return _by_user(event.data) or _with_key(event.data.get("key_id"))


def _by_user(data: Mapping[str, Any]) -> str:
    return f" (by {data['by']})" if data.get("by") else ""


def _json_value(value: Any) -> Any:
    """CBOR can say more than JSON: byte strings are shown in hex, and what else JSON lacks as its text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # neither infinite nor NaN
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(_json_value(key)): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return str(value)


# ------------------------------------------------------------------------------------------------ the stories


def _fields(event: Shown) -> str:
    version = [] if event.version == 1 else [f"version {event.version}"]
    fields = (f"{key}={json.dumps(_json_value(value))}" for key, value in event.data.items())
    return " ".join([*version, *fields])


def _tell_send(event: Shown) -> str:
    data = event.data
    recipients = counted(data["recipients"], "recipient")
    content = data.get("personal")
    letter = "" if content is None else f' from {content["from_address"]}: "{content["subject"]}"'
    how = data["category"] + (", by SMTP" if data.get("via") == "smtp" else "")
    how += ", one conversation" if data.get("conversation") else ""
    how += f", {counted(data['suppressed'], 'recipient')} suppressed" if data.get("suppressed") else ""
    if content is not None and content.get("attachments"):
        octets = sum(len(one["content"]) for one in content["attachments"])
        how += f", {counted(len(content['attachments']), 'file')} of {counted(octets, 'byte')}"
    how += ", an invitation" if content is not None and content.get("calendar") else ""
    return f"{data['did']} sends to {recipients}{letter} ({how})"


def _tell_queued(event: Shown) -> str:
    recipient = event.data.get("personal")
    to = "" if recipient is None else f" to {recipient['address']}"
    when = f", scheduled for {rfc3339(event.data['next_attempt_at'])}" if event.data.get("scheduled") else ""
    return f"message {event.seq}{to} is queued ({event.data['category']}, for {event.data['did']}){when}"


def _tell_dsn(event: Shown) -> str:
    recipient = event.data.get("personal")
    to = "" if recipient is None else f" to {recipient['address']}"
    return f"message {event.seq}{to} is queued: it tells of the bounce of message {event.data['about']}"


def _tell_forward(event: Shown) -> str:
    told = "nobody" if event.data.get("personal") is None else event.data["personal"]["address"]
    if event.stripped:
        told = "a mailbox"
    once = ", once its owner has confirmed that" if event.data.get("asks") else ""
    return f"{told} is told of the bounces of {event.data['domain']}{once}{_by_whom(event)}"


def _tell_confirmation(event: Shown) -> str:
    recipient = event.data.get("personal")
    to = "" if recipient is None else f" to {recipient['address']}"
    return f"message {event.seq}{to} is queued: it asks whether the bounces of {event.data['domain']} may be told there"


def _tell_webhook_notice(event: Shown) -> str:
    recipient = event.data.get("personal")
    to = "" if recipient is None else f" to {recipient['address']}"
    return f"message {event.seq}{to} is queued: it tells that webhook {event.data['webhook_id']} is disabled"


def _tell_alarm(event: Shown) -> str:
    recipient = event.data.get("personal")
    to = "" if recipient is None else f" to {recipient['address']}"
    about = f"{event.data['alarm']} about {event.data['about']}"
    return f"message {event.seq}{to} is queued: it tells of the alarm {about}"


def _tell_mail_received(event: Shown) -> str:
    data = event.data
    mail = data.get("personal")
    way = ""
    if mail is not None:
        sender = "the null sender" if data.get("mail_from_null") else mail.get("mail_from", "")
        way = f" from {sender} to {', '.join(mail.get('rcpt_to', []))}"
    whose = {"operator": "the operator's mail", "reply": "a reply"}.get(data["kind"], "mail")
    return f"{whose} for {data['domain']} came in{way}, {counted(data['size'], 'byte')}, and is passed on"


def _tell_forwarded(event: Shown) -> str:
    recipient = event.data.get("personal")
    to = "" if recipient is None else f" to {recipient['address']}"
    return f"message {event.seq}{to} is queued: it is the mail that came in"


#: By what a report says of the message.
_REPORTED = {
    "failed": "it failed",
    "delayed": "it is late",
    "delivered": "it was delivered",
    "relayed": "it was passed on",
    "expanded": "it went to a list",
}


def _tell_bounce_reported(event: Shown) -> str:
    data = event.data
    details = data.get("personal") or {}
    if data["kind"] == "auto_reply":
        what = "an automatic answer came"
    elif data.get("action") in _REPORTED:
        what = f"a report came, {_REPORTED[data['action']]}"
    else:
        what = f"mail came about it ({data['kind']})"
    codes = [str(data[key]) for key in ("code", "enhanced") if data.get(key) is not None]
    text = [f'"{details["diagnostic"]}"'] if details.get("diagnostic") else []
    said = " ".join([*codes, *text])
    speaker = f", {details['reporting_mta']}" if details.get("reporting_mta") else ""
    is_permanent = str(data.get("enhanced") or data.get("code") or "").startswith("5")
    counts = "; it counts as a bounce" if data.get("is_failure") and is_permanent else ""
    return (
        f"message {event.message_id}: {what}{_class(event)}{speaker}{f': {said}' if said else ''}"
        f"{counts}{_by_hand(event)}"
    )


def _tell_complained(event: Shown) -> str:
    data = event.data
    kind = f" ({data['feedback_type']})" if data.get("feedback_type") else ""
    provider = f", {data['provider']} says so" if data.get("provider") else ""
    unproved = (
        "" if data.get("authenticated", True) else "; nobody who is believed says so: it counts nowhere"
    )
    return f"message {event.message_id}: the recipient complained{kind}{provider}{unproved}{_by_hand(event)}"


def _by_hand(event: Shown) -> str:
    """Of a report that the operator recorded."""
    why = (event.data.get("personal") or {}).get("why")
    return (f"; recorded{_by(event)}" if event.data.get("by") else "") + (f": {why}" if why else "")


def _tell_domain_removed(event: Shown) -> str:
    data = event.data
    why = {"proved": ": another member proved it", "member": " with its member"}.get(data["because"], "")
    return f"{data['domain']} is removed from {data['did']}{why}{_by(event)}{_why(event)}"


def _tell_member_removed(event: Shown) -> str:
    return f"{event.data['did']} is no member any more{_by(event)}{_why(event)}"


def _tell_handle_set(event: Shown) -> str:
    data = event.data
    proof = "" if data.get("proved") else ", which is still to be checked"
    before = f" in the place of {data['instead_of']}" if data.get("instead_of") else ""
    return f"{data['did']} has the handle {data['handle']}{before}{proof}{_by(event)}"


def _tell_handle_lost(event: Shown) -> str:
    data = event.data
    why = {
        "unproved": f": it is not the DID's ({', '.join(data.get('failed') or ())})",
        "proved": ": another member proved it",
    }.get(data["because"], "")
    return f"{data['did']} has the handle {data['handle']} no more{why}{_by(event)}"


def _by(event: Shown) -> str:
    return f" by {event.data['by']}" if event.data.get("by") else ""


def _tell_interrupted(event: Shown) -> str:
    return (
        f"message {event.message_id}: attempt {event.data['attempt']} was interrupted, it may have been "
        f"delivered; next at {rfc3339(event.data['next_attempt_at'])}"
    )


def _tell_sent(event: Shown) -> str:
    return f"message {event.message_id}: sent{_attempt(event)}{_protection(event)}{_reply(event)}"


def _tell_deferred(event: Shown) -> str:
    next_at = rfc3339(event.data["next_attempt_at"])
    return f"message {event.message_id}: deferred{_class(event)}{_attempt(event)}{_reply(event)}; next at {next_at}"


def _tell_bounced(event: Shown) -> str:
    key_id = event.data.get("key_id")
    by = _by(event) if key_id is None else f" by its member, key {key_id}"
    reason = f"{event.data['reason']}{_class(event)}{by}"
    return f"message {event.message_id}: bounced, {reason}{_attempt(event)}{_reply(event)}"


def _class(event: Shown) -> str:
    """In one word, where it is known."""
    return f" ({event.data['bounce_class']})" if event.data.get("bounce_class") else ""


def _tell_held(event: Shown) -> str:
    if event.data["because"] == "operator":
        return f"message {event.message_id}: held by {event.data['by']}{_why(event)}"
    return f"message {event.message_id}: held, its {event.data['because']} may not send now"


def _tell_released(event: Shown) -> str:
    return f"message {event.message_id}: released by {event.data['by']}{_why(event)}"


def _tell_rescheduled(event: Shown) -> str:
    next_at = rfc3339(event.data["next_attempt_at"])
    by = event.data.get("by") or f"its member, key {event.data['key_id']}"
    return f"message {event.message_id}: rescheduled by {by}{_why(event)}; next at {next_at}"


def _why(event: Shown) -> str:
    order = event.data.get("personal")
    return "" if order is None else f": {order['why']}"


def _attempt(event: Shown) -> str:
    return f" at attempt {event.data['attempt']}" if event.data["attempt"] else ""


def _protection(event: Shown) -> str:
    """What the mail travelled in; it did not travel where no attempt was made."""
    if not event.data["attempt"]:
        return ""
    version = event.data.get("tls_version")
    return " in the clear" if version is None else f" over {version}"


def _reply(event: Shown) -> str:
    """Who said what."""
    data = event.data
    remote = data.get("personal") or {}
    codes = " ".join(str(data[key]) for key in ("code", "enhanced") if data.get(key) is not None)
    text = f'"{remote["text"]}"' if remote.get("text") else ""
    said = " ".join(filter(None, (codes, text)))
    speaker = f", {remote['mx']}" if remote.get("mx") else ""
    if speaker and remote.get("address") not in (None, remote["mx"]):
        speaker += f" ({remote['address']})"
    return speaker + (f": {said}" if said else "")


def _tell_suppressed(event: Shown) -> str:
    recipient = event.data.get("personal") or {}
    to = recipient.get("address", "a recipient")
    return f"{event.data['did']} may not write to {to}: {event.data['reason']}{_by_whom(event)}"


def _tell_unsuppressed(event: Shown) -> str:
    recipient = event.data.get("personal") or {}
    address = recipient.get("address", "a recipient")
    return f"{event.data['did']} takes back its suppression of {address}{_by_whom(event)}"


def _tell_erased(event: Shown) -> str:
    data = event.data
    ids = [f"message {message_id}" for message_id in data.get("message_ids", [])]
    ids += [f"send {seq}" for seq in data.get("send_ids", [])]
    ids += [f"record {seq}" for seq in data.get("seqs", [])]
    named = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
    who = f" by {data['by']}" if data.get("by") else ""
    why = f": {data['reason']}" if data.get("reason") else ""
    return f"personal data of {named} are erased ({data['because']}){who}{why}"


def _tell_stripped(event: Shown) -> str:
    data = event.data
    payloads, segments = counted(data["payloads"], "payload"), counted(data["segments"], "segment")
    return f"removed: {payloads} from {segments}, {counted(data['bytes_freed'], 'byte')}"


def _tell_key_issued(event: Shown) -> str:
    data = event.data
    use = ", ".join(filter(None, (data.get("scope", "full"), data.get("category"))))
    by = _with_key(data.get("issued_by")) or _by_user(data)
    return f"key {data['key_id']} ({use}) is issued to {data['did']}{by}"


def _tell_key_revoked(event: Shown) -> str:
    data = event.data
    by = _with_key(data.get("revoked_by")) or _by_user(data)
    return f"key {data['key_id']} of {data['did']} is revoked{by}"


def _tell_webhook(event: Shown) -> str:
    data = event.data
    by = f"by {data['by']}" if data.get("by") else _with_key(data.get("key_id")).strip()
    return told_of_webhook(event.type, data) + (f" ({by})" if by else "")


def _with_key(key_id: Any) -> str:
    """How the member did it; nothing where it was the operator."""
    return f" with key {key_id}" if key_id else ""


def _tell_held_released(event: Shown) -> str:
    held = counted(len(event.data["message_ids"]), "message")
    return f"{held} of {event.data['did']} held by the {event.data['because']} may go on"


#: Events whose fields say it all.
_SENTENCES = {
    "attempt.started": "message {message_id}: attempt {attempt} begins",
    "domain.added": "{domain} is enrolled for {did}",
    "domain.check_failed": "{domain} is verified no more unless its DNS is put right: {failed}",
    "domain.forward_confirmed": "the mailbox that is told of the bounces of {domain} is confirmed by its owner",
    "domain.key_created": "{domain} has new keys, {selector_stem}, to be used once the DNS has them",
    "domain.key_switched": "{domain} signs with {selector_stem}, and no more with {retired_stem}",
    "domain.paused": "{domain} is paused: {status}",
    "domain.resumed": "{domain} may send again",
    "domain.unverified": "{domain} may not send, its DNS is wrong: {failed}",
    "domain.verified": "{domain} has the DNS records that it needs",
    "log.torn_tail_cut": "{bytes_cut} bytes that were never acknowledged are cut from {segment} at {offset}",
    "log.views_rebuilt": "the views are built again: {because}",
    "member.added": "{did} is enrolled",
    "member.handle_check_failed": "{handle} is not seen to be the handle of {did}: {failed}",
    "member.handle_verified": "{handle} is seen to be the handle of {did}",
    "member.resumed": "{did} may send again",
    "member.suspended": "{did} is suspended",
    "node.leads": "{node} leads from here on (epoch {epoch}, {address})",
    "operator.key_created": "{domain} has new keys, {selector_stem}, to be used once the DNS has them",
    "pepper.rotated": "pepper {number} is used from now on; those before it stay good",
    "signing_key.deleted": "the keys {selector_stem} of {domain} are deleted: nothing needs them any more",
    "operator.key_switched": "{domain} signs with {selector_stem}",
}
_STORIES: dict[str, Callable[[Shown], str]] = {
    "alarm.queued": _tell_alarm,
    "attempt.interrupted": _tell_interrupted,
    "confirmation.queued": _tell_confirmation,
    "domain.forward_set": _tell_forward,
    "domain.removed": _tell_domain_removed,
    "dsn.queued": _tell_dsn,
    "forward.queued": _tell_forwarded,
    "held.released": _tell_held_released,
    "key.issued": _tell_key_issued,
    "key.revoked": _tell_key_revoked,
    "log.stripped": _tell_stripped,
    "mail.received": _tell_mail_received,
    "member.handle_lost": _tell_handle_lost,
    "member.handle_set": _tell_handle_set,
    "member.removed": _tell_member_removed,
    "message.bounce_reported": _tell_bounce_reported,
    "message.bounced": _tell_bounced,
    "message.complained": _tell_complained,
    "message.deferred": _tell_deferred,
    "message.held": _tell_held,
    "message.queued": _tell_queued,
    "message.released": _tell_released,
    "message.rescheduled": _tell_rescheduled,
    "message.sent": _tell_sent,
    "payload.erased": _tell_erased,
    "recipient.suppressed": _tell_suppressed,
    "recipient.unsuppressed": _tell_unsuppressed,
    "send.accepted": _tell_send,
    "webhook_notice.queued": _tell_webhook_notice,
    **dict.fromkeys(WEBHOOK_TYPES, _tell_webhook),
}
