"""What clients are told of their sends, and what must be in the log for it: the one judge of all campaigns.

`hear` is asked with each 200 that is read to its end, `Statuses` with each status that is read of a message, and
`breaches_of_sends` with the log, as often as one likes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from relay.codec import Recorded
from relay.events import MessageQueued, PayloadErased, SendAccepted
from tests.campaigns.tally import Send, Violation

#: messageId -> member and recipient, of every 200.
Told = dict[int, tuple[str, str]]
FINAL: Final = ("sent", "bounced")


def hear(told: Told, send: Send, body: bytes) -> Sequence[int]:
    """The messages that this answer is the first to tell of: none where it is a replay, which must be the first answer,
    byte for byte. Raises Violation."""
    if send.answer is not None:
        if body != send.answer:
            raise Violation(f"{send.key} was answered {send.answer!r}, and then {body!r}")
        return []
    accepted = json.loads(body)["accepted"]
    if [entry["recipient"] for entry in accepted] != send.recipients:
        raise Violation(f"{send} was answered {body!r}")
    send.answer = body
    for entry in accepted:
        if entry["messageId"] in told:
            raise Violation(f"message id {entry['messageId']} was given twice")
        told[entry["messageId"]] = (send.did, entry["recipient"])
    return [entry["messageId"] for entry in accepted]


class Statuses:
    """What each process has said became of messages. What is final stays."""

    def __init__(self) -> None:
        #: Which process -> message -> its final status.
        self._finals: dict[Hashable, dict[int, str]] = {}

    def read(self, process: Hashable, message_id: int, status: str) -> list[str]:
        """What is wrong with it, as sentences."""
        known = self._finals.setdefault(process, {})
        before = known.get(message_id, status)
        if status in FINAL:
            known[message_id] = status
        return (
            [] if status == before else [f"message {message_id} was {before} at {process}, and then {status}"]
        )


def key_of(send: Send) -> tuple[str, str]:
    """As `accepted_keys` has it."""
    return send.did, sha256(send.key.encode()).hexdigest()


def accepted_keys(events: Sequence[Recorded]) -> Counter[tuple[str, str]]:
    """Member and hash of the Idempotency-Key -> how many sends were accepted with it."""
    return Counter(
        (item.event.did, item.event.idempotency_key)
        for item in events
        if isinstance(item.event, SendAccepted) and item.event.idempotency_key
    )


def breaches_of_sends(events: Sequence[Recorded], told: Mapping[int, tuple[str, str]]) -> list[str]:
    """All that was told is there, and what was accepted was so once."""
    erased = {
        number
        for item in events
        if isinstance(item.event, PayloadErased)
        for number in item.event.message_ids
    }
    found: list[str] = []
    queued: Told = {}
    for seq, _, event in events:
        if not isinstance(event, MessageQueued):
            continue
        if event.personal is not None:
            queued[seq] = event.did, event.personal.given
        elif seq in erased & told.keys() and event.did == told[seq][0]:
            queued[seq] = told[seq]  # of what was erased the skeleton must be there
    lost = [one for one in told.items() if queued.get(one[0]) != one[1]]
    if lost:
        found.append(f"a client was told of these, and the log does not have them: {lost}")
    doubled = [key for key, count in accepted_keys(events).items() if count > 1]
    if doubled:
        found.append(f"accepted more than once with one Idempotency-Key: {doubled}")
    return found
