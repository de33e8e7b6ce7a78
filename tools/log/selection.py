"""Which events of the log are wanted, and where to begin reading for them.

Sequence numbers and times both grow from record to record, so a beginning is found without reading all that is
before it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from functools import wraps
from typing import Any, NamedTuple

import click

from relay.events import EVENT_TYPES
from relay.times import rfc3339, time_in
from spool.directory import segment_seqs
from spool.errors import SequenceNotFoundError
from spool.reader import LogReader
from tools.log.event_text import Shown, show
from tools.naming import Word, one_message


class Bound(NamedTuple):
    """An end of a range: a sequence number, or a time, or neither for no end."""

    seq: int | None = None
    time_us: int | None = None


def parse_bound(value: str) -> Bound:
    """A sequence number, or an RFC 3339 time."""
    if value.isascii() and value.isdigit():
        return Bound(seq=int(value))
    time_us = time_in(value)
    if time_us is None:
        raise click.BadParameter(
            f"{value!r} is neither a sequence number nor a time like 2025-01-07T10:11:12Z"
        )
    return Bound(time_us=time_us)


#: One that there is not would find nothing, and say so of a log that is full of events.
EVENT_TYPE = Word("event", lambda: EVENT_TYPES)


class EventSelection(NamedTuple):
    """Everything that is given must hold. Both ends of the range are part of it."""

    begin: Bound = Bound()
    end: Bound = Bound()
    types: Collection[str] = ()
    did: str | None = None
    message_id: int | None = None


def select(reader: LogReader, selection: EventSelection) -> Iterator[Shown]:
    """The events wanted, in order. Raises SequenceNotFoundError where there is no such message, CorruptionError
    when it comes to damage."""
    send_seq = None
    from_seq = _first_seq(reader, selection.begin)
    if selection.message_id is not None:
        send_seq = _send_of(reader, selection.message_id)
        from_seq = max(from_seq, send_seq)
    for record in reader.read(from_seq, selection.end.seq):
        if selection.end.time_us is not None and record.time_us > selection.end.time_us:
            return
        if selection.begin.time_us is not None and record.time_us < selection.begin.time_us:
            continue
        event = show(record)
        if selection.types and event.type not in selection.types:
            continue
        if selection.did is not None and event.did != selection.did:
            continue
        if send_seq is not None and event.seq != send_seq and not _concerns(event, selection.message_id):
            continue
        yield event


def seq_at(reader: LogReader, bound: Bound) -> int:
    """The last record up to this sequence number or time. Refuses, as a wrong use, where the log has none."""
    segments = reader.segments()
    if not segments or segments[-1].last_seq == 0:
        raise click.ClickException("the log is empty")
    last_seq = segments[-1].last_seq
    if bound.time_us is None:
        seq = last_seq if bound.seq is None else bound.seq
        if not 1 <= seq <= last_seq:
            raise click.BadParameter(f"there is no sequence {seq}: the log has 1 to {last_seq}")
        return seq
    before = _first_seq(reader, bound) - 1
    for record in reader.read(before + 1, last_seq):
        if record.time_us > bound.time_us:
            break
        before = record.seq
    if before == 0:
        first = rfc3339(reader.get(1).time_us)
        raise click.BadParameter(f"there is nothing that old: the log begins at {first}")
    return before


def _concerns(event: Shown, message_id: int | None) -> bool:
    """A DSN is part of the story of the message that it is about, and so is that its personal data were erased."""
    erased = event.data.get("message_ids")
    return message_id in (event.message_id, event.data.get("about")) or (
        isinstance(erased, list) and message_id in erased
    )


def _first_seq(reader: LogReader, begin: Bound) -> int:
    if begin.time_us is None:
        return begin.seq or 1
    # The segments' first records tell in which segment the time begins.
    seqs = segment_seqs(reader.disk, reader.directory)
    place = bisect_left(seqs, begin.time_us, key=lambda seq: _time_of(reader, seq, begin.time_us or 0))
    return seqs[max(place - 1, 0)] if seqs else 1


def _time_of(reader: LogReader, seq: int, otherwise: int) -> int:
    """`otherwise` where there is no such record yet: the last segment may be empty."""
    record = next(reader.read(seq, seq), None)
    return otherwise if record is None else record.time_us


def _send_of(reader: LogReader, message_id: int) -> int:
    """Sequence number of the `send.accepted` that a message belongs to; of a notice, which nobody sent, its own."""
    queued = show(reader.get(message_id))
    if queued.type in ("dsn.queued", "confirmation.queued"):
        return message_id
    index = queued.data.get("index")
    if queued.type != "message.queued" or not isinstance(index, int):
        raise SequenceNotFoundError(f"sequence {message_id} is {queued.type}, and no message")
    return message_id - index


# ------------------------------------------------------------------------------------------------ on the command line


def selection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Which events: the command gets it as `selection`."""

    @wraps(command)
    def with_selection(
        *arguments: Any,
        begin: Bound | None,
        end: Bound | None,
        types: tuple[str, ...],
        did: str | None,
        message_id: int | None,
        **options: Any,
    ) -> None:
        selection = EventSelection(begin or Bound(), end or Bound(), types, did, message_id)
        command(*arguments, selection=selection, **options)

    for option in reversed(_SELECTION_OPTIONS):
        option(with_selection)
    return one_message(required=False, about="Only this message's, with its send.")(with_selection)


_SELECTION_OPTIONS = (
    click.option("--from", "begin", type=parse_bound, metavar="SEQ|TIME", help="The first event, or when."),
    click.option(
        "--to", "end", type=parse_bound, metavar="SEQ|TIME", help="The last event, or when; inclusive."
    ),
    click.option(
        "--type",
        "types",
        type=EVENT_TYPE,
        multiple=True,
        metavar="TYPE",
        help="Only this event type; may be repeated.",
    ),
    click.option("--did", metavar="DID", help="Only this member's events."),
)
