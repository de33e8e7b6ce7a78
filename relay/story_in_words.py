"""A message's story, told to people: in one sentence, step by step, with its waits and with what to do.

Pure functions of what the API answers (`relay.presentation`), so nobody is told in words what is not in the answer. No
word here comes from a stranger but a receiver's own, which are quoted. A sentence names no time: whoever shows it has
the times beside it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from relay.message.advice import advice, advice_when_over
from relay.presentation import MessageDetail, MessageSummary, Reply, TimelineEntry
from relay.times import time_in

_NOTICES: Final = {
    "dsn": "a notification of a bounce",
    "confirmation": "a mail that asks for a confirmation",
    "forward": "mail that came in and is passed on",
    "webhook": "a mail about a webhook",
    "alarm": "a warning",
}

_BECAUSE: Final = {
    "domain": "its sending domain is paused",
    "member": "the member is suspended",
    "operator": "the operator of the relay holds it",
}


class Step(NamedTuple):
    """One entry of a timeline in words."""

    entry: TimelineEntry
    time_us: int
    #: What happened.
    what: str
    #: A sign for it, as a status has one: `good`, `bad`, `slow` or `plain`.
    kind: str
    #: What to do about it.
    advice: str | None
    #: Since the entry before; None for the first.
    waited_us: int | None


def sentence(message: MessageDetail) -> str:
    """What has become of it, in a sentence or two."""
    told = _outcome(message)
    complaints = [entry for entry in message.timeline if entry.type == "message.complained"]
    if any(entry.authenticated for entry in complaints):
        told += " Its recipient reported it as spam."
    failed = [report for report in message.reports if report.counts]
    if message.status == "sent" and failed:
        told += " Later its receiver reported that it failed."
    return told


def what_to_do(message: MessageDetail) -> str | None:
    """None: nothing."""
    for report in message.reports:
        if report.counts:
            return report.advice
    reply = message.last_reply
    if message.status == "bounced":
        return _bounced_advice(message)
    if message.status == "deferred" and reply is not None:
        return advice(reply.bounce_class)
    return None


def last_words(message: MessageDetail) -> str:
    """Of its receiver, or, where that reported later that it failed, of that report; "": there are none."""
    for report in message.reports:
        if report.counts and report.diagnostic:
            return report.diagnostic
    return "" if message.last_reply is None else quoted(message.last_reply)


def next_attempt(message: MessageDetail) -> str | None:
    """When it is tried next; None where it is not, or is being tried: then its state has the time of another attempt,
    for the case that this one is interrupted. Nor is a time one to come that was over at the last step told of."""
    told = message.next_attempt_at
    if told is None or told <= message.timeline[-1].time:
        return None
    for entry in reversed(message.timeline):
        if entry.type == "attempt.started":
            return None
        if entry.type == "attempt.interrupted" or entry.status:
            break
    return told


def steps(message: MessageDetail) -> list[Step]:
    """Its timeline, the oldest first."""
    found: list[Step] = []
    before: int | None = None
    for entry in message.timeline:
        time_us = time_in(entry.time)
        assert time_us is not None
        what, kind = _what(entry, message)
        waited = None if before is None else max(0, time_us - before)
        found.append(Step(entry, time_us, what, kind, _advice(entry), waited))
        before = time_us
    return found


def quoted(reply: Reply) -> str:
    """What a receiver said, or what went wrong where it said nothing; in its own words and numbers."""
    said = [str(each) for each in (reply.code, reply.enhanced) if each is not None]
    text = reply.text or ""
    if reply.enhanced is not None and text.startswith(reply.enhanced):
        said = said[:1]
    return " ".join([*said, text]).strip()


# ------------------------------------------------------------------------------------------------ leaves


def _outcome(message: MessageDetail) -> str:
    match message.status:
        case "sent":
            return f"{_who(message)} took it at the {_ordinal(message.attempts)} attempt."
        case "bounced":
            return _bounced(message)
        case "deferred":
            return f"{_not_yet(message)} {_held(message) or _next(message)}"
    held = _held(message)
    if held:
        return held
    if any(entry.type == "attempt.started" for entry in message.timeline):
        return "It is being tried now."
    if message.scheduled_at is not None:
        return "It waits for the time that was chosen for it."
    return "It was accepted and waits for its first attempt."


def _who(message: MessageSummary) -> str:
    reply = message.last_reply
    return "The receiver" if reply is None or reply.mx is None else reply.mx


def _bounced(message: MessageDetail) -> str:
    reason = next((each.reason for each in reversed(message.timeline) if each.status == "bounced"), None)
    match reason:
        case "suppressed":
            return "It was not sent: its recipient is on the suppression list."
        case "cancelled":
            return "It was cancelled before it was sent."
        case "expired":
            return f"It was given up after {_attempts(message)}, because its time was over."
        case "undeliverable":
            return "It could not be sent: there is no way to deliver it."
    return f"{_who(message)} refused it for good."


def _not_yet(message: MessageDetail) -> str:
    reply = message.last_reply
    if reply is not None and reply.code is not None:
        return f"{_who(message)} did not take it yet, after {_attempts(message)}."
    return f"It could not be handed over yet, after {_attempts(message)}."


def _next(message: MessageSummary) -> str:
    return "It is tried again." if message.next_attempt_at is not None else "It waits."


def _held(message: MessageDetail) -> str | None:
    """Whether what happened last is that somebody held it."""
    for entry in reversed(message.timeline):
        if entry.type == "message.held":
            return f"It is held: {_BECAUSE.get(entry.because or '', 'it must wait')}."
        if entry.type in ("message.released", "attempt.started", "message.rescheduled") or entry.status:
            return None
    return None


def _bounced_advice(message: MessageDetail) -> str | None:
    for entry in reversed(message.timeline):
        if entry.status == "bounced":
            return _advice(entry)
    return None


def _advice(entry: TimelineEntry) -> str | None:
    if entry.report is not None:
        return entry.report.advice
    if entry.reply is None:
        return None
    if entry.status == "bounced" and entry.reason == "expired":
        return advice_when_over(entry.reply.bounce_class)
    return advice(entry.reply.bounce_class)


def _what(entry: TimelineEntry, message: MessageDetail) -> tuple[str, str]:
    match entry.type:
        case "message.queued":
            return ("Accepted, for a chosen time" if entry.next_attempt_at else "Accepted"), "plain"
        case "attempt.started":
            return f"Attempt {entry.attempt} began to hand it over", "plain"
        case "attempt.interrupted":
            return (
                f"Attempt {entry.attempt} was cut off: the relay stopped. It may have been delivered",
                "slow",
            )
        case "message.deferred":
            return "Not taken yet", "slow"
        case "message.sent":
            return "Taken by the receiver", "good"
        case "message.bounced":
            return {
                "suppressed": "Not sent: the recipient is on the suppression list",
                "cancelled": "Cancelled",
                "expired": "Given up: its time was over",
                "undeliverable": "Cannot be delivered",
            }.get(entry.reason or "", "Refused for good"), "bad"
        case "message.held":
            return f"Held: {_BECAUSE.get(entry.because or '', 'it must wait')}", "slow"
        case "message.released":
            return "Released", "plain"
        case "message.rescheduled":
            return "Given another time", "plain"
        case "message.bounce_reported":
            assert entry.report is not None
            said = entry.report.reported_action
            what = f"reported: {said}" if said else "answered"
            return f"Its receiver {what}", "bad" if entry.report.counts else "plain"
        case "message.complained":
            return "Reported as spam" if entry.authenticated else "Somebody reports it as spam", "bad"
        case "dsn.queued" if entry.about is not None and entry.message_id != message.message_id:
            return "A notification of it was written", "plain"
    word = entry.type.removesuffix(".queued").removesuffix("_notice")
    return f"Written: {_NOTICES.get(word, word)}", "plain"


def _attempts(message: MessageSummary) -> str:
    return "one attempt" if message.attempts == 1 else f"{message.attempts} attempts"


def _ordinal(number: int) -> str:
    words = ("", "first", "second", "third", "fourth", "fifth")
    if number < len(words):
        return words[max(1, number)]
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{suffix}"
