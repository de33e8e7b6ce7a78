"""What may be gone from a log and what must be: `payload.erased` says it, and the log's records are held against it.

Thought anew and not taken from `relay.retention`, so that the two can disagree. What a `payload.erased` admits are the
payloads of its messages' stories up to it, of its sends, and of a send whose last message it erases. At every moment
**nothing else is gone**; once a `log.stripped` has answered it, **all of it is**.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from relay.codec import Recorded, decode
from relay.events import LogStripped, MessageQueued, PayloadErased, SendAccepted
from relay.store import LOG_DIRECTORY
from spool.reader import LogReader


class Contents(NamedTuple):
    """A log, and which of its records have a payload, or had one. Skeletons always stay."""

    events: list[Recorded]
    whole: set[int]
    stripped: set[int]


class Admitted(NamedTuple):
    #: Message ids.
    messages: set[int]
    #: Records whose payloads may be gone.
    seqs: set[int]
    #: Those of them that must be.
    answered: set[int]

    @property
    def is_owed(self) -> bool:
        return self.seqs != self.answered


def read_contents(directory: Path) -> Contents:
    contents = Contents([], set(), set())
    with LogReader(directory / LOG_DIRECTORY) as reader:
        for record in reader.read(1):
            contents.events.append(decode(record))
            if record.stripped:
                contents.stripped.add(record.seq)
            elif record.payload is not None:
                contents.whole.add(record.seq)
    return contents


def admitted(events: Iterable[Recorded]) -> Admitted:
    stories: dict[int, set[int]] = defaultdict(set)
    send_of: dict[int, int] = {}
    left_of_send: dict[int, set[int]] = defaultdict(set)
    send = 0
    found = Admitted(set(), set(), set())
    seqs_by_event: dict[int, set[int]] = {}
    for item in events:
        match item.event:
            case SendAccepted():
                send = item.seq
            case MessageQueued():
                stories[item.seq].add(item.seq)
                send_of[item.seq] = send
                left_of_send[send].add(item.seq)
            case PayloadErased() as erased:
                seqs = set(erased.send_ids)
                for message_id in erased.message_ids:
                    seqs |= stories[message_id]
                    found.messages.add(message_id)
                    left = left_of_send[send_of[message_id]]
                    left.discard(message_id)
                    if not left:
                        seqs.add(send_of[message_id])
                seqs_by_event[item.seq] = seqs
                found.seqs.update(seqs)
            case LogStripped(until=until):
                for seq in [seq for seq in seqs_by_event if seq <= until]:
                    found.answered.update(seqs_by_event.pop(seq))
            case event:
                message_id = getattr(event, "message_id", None)
                if message_id is not None:
                    stories[message_id].add(item.seq)
    return found


def breaches(contents: Contents) -> list[str]:
    may = admitted(contents.events)
    found = []
    if gone := contents.stripped - may.seqs:
        found.append(f"payloads are gone that no payload.erased admits: of {sorted(gone)[:20]}")
    if left := contents.whole & may.answered:
        found.append(
            f"log.stripped says that these payloads are gone, and they are there: {sorted(left)[:20]}"
        )
    return found
