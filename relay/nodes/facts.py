"""What a node says of itself: one row in the database, which it writes anew every second or so, and all others read.

The invariant: **what is read here was written by others, perhaps by a newer version, perhaps by a stranger: it is
believed as far as it can be read, and nothing that must not be lost hangs on one row alone.** Fields that are not known
are passed over; a row that is none of a node's is refused by itself, with a sentence, and hinders nobody else, but for
one thing: while it is there nothing is thrown away that its node may still need.

What has to be equal is compared here in words: configuration, peppers, and the events that can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from relay.codec import NotRead, versions_read_by_all, versions_read_here
from relay.config_nodes import is_node_name
from relay.nodes.lease import is_clock_off
from relay.nodes.members import without_removed
from relay.nodes.seal import differing_pepper
from relay.times import HOUR_US

#: Of what is said here. A reader takes a higher one for what it can read of it.
FORMAT: Final = 1

Number = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Name = Annotated[str, msgspec.Meta(max_length=64)]
Words = Annotated[str, msgspec.Meta(max_length=300)]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Times are microseconds since the epoch, by the node's own clock."""

    name: Name
    #: By which key it is known (`relay.nodes.members`).
    identity: Name = ""
    #: Of the relay that runs there.
    version: Name
    #: Type of an event -> the highest version of it that it can read.
    events: Annotated[Mapping[Name, Number], msgspec.Meta(max_length=1000)]
    #: Where other nodes reach it.
    address: Words
    #: `relay.config_nodes.common_digest` of what its own files say. Where it leads, that is in force.
    configuration: Name
    #: `relay.nodes.seal.pepper_digests`.
    peppers: Annotated[dict[Name, Name], msgspec.Meta(max_length=1000)]
    written_at: Number
    began_at: Number
    leads: bool = False
    #: The last record that is in its views.
    applied_seq: Number = 0
    #: With which who led when that was appended had begun to lead; 0: nobody has led, or it is not known.
    epoch: Number = 0
    #: The last record that its own disk is known to have.
    synced_seq: Number = 0
    #: The first one that it has, where its log does not begin with 1.
    first_seq: Number = 1
    #: It has stripped its own files as all events up to this one say.
    stripped_through: Number = 0
    #: How far its clock is ahead of the database's; None: not known yet.
    clock_offset_us: int | None = None
    #: What is left on the disk that holds its log.
    free_bytes: Number = 0
    #: What is wrong there, in a sentence.
    trouble: Words | None = None
    #: What had to be done with its files when it began, in words: nothing is wrong any more.
    at_start: Words | None = None
    format: Number = FORMAT


class StrangeRow(NamedTuple):
    """A row of which nothing can be used, and why, in a sentence."""

    name: str
    sentence: str


def invited(name: str, identity: str = "") -> Facts:
    """Of a node that was added and has never run: it is taken for one from then on."""
    return Facts(
        name=name,
        identity=identity,
        version="",
        events={},
        address="",
        configuration="",
        peppers={},
        written_at=0,
        began_at=0,
    )


def to_row(facts: Facts) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(facts)
    return row


def from_row(name: str, row: Mapping[str, object]) -> Facts | StrangeRow:
    """What a row says. It stands under its node's name, which it says, too."""
    try:
        facts = msgspec.convert(dict(row), Facts)
    except msgspec.ValidationError as error:
        return StrangeRow(name, f"what it says of itself cannot be read: {error}")
    if facts.name != name:
        return StrangeRow(name, f"it calls itself {facts.name[:40]!r}: two nodes have written one row")
    if not is_node_name(name):
        return StrangeRow(name, "that is no name of a node")
    return facts


def read_rows(rows: Mapping[str, Mapping[str, object]]) -> list[Facts | StrangeRow]:
    """Those of all nodes, by name; not of one that was removed."""
    return [from_row(name, row) for name, row in sorted(without_removed(rows).items())]


def not_read_by_all(
    nodes: Iterable[Facts | StrangeRow], now_us: int, tail_hours: int
) -> Mapping[str, NotRead]:
    """Type of an event -> what of it all nodes can read, of those types that some cannot read as they are written here.

    Who has said nothing for `tail_hours` does not count: it is filled from another node, one day, and its version then
    reads what it gets, or it does not start. Neither does a node that has never run. Of a row that cannot be read it is
    taken that its node reads what every node does, and no more; and nobody reads less than that, whatever his row says.
    """
    here, by_all = versions_read_here(), versions_read_by_all()
    reads: Mapping[str, int]
    found: dict[str, NotRead] = {}
    for node in nodes:
        if isinstance(node, StrangeRow):
            reads, because = by_all, f"nobody knows what node {node.name} can read, since {node.sentence}"
        elif node.began_at and node.written_at >= now_us - tail_hours * HOUR_US:
            reads, because = node.events, f"node {node.name} runs version {node.version}"
        else:
            continue
        for name, version in here.items():
            theirs = max(reads.get(name, 0), by_all[name])
            if theirs < (found[name].version if name in found else version):
                found[name] = NotRead(theirs, because)
    return found


def may_go_through(nodes: Iterable[Facts | StrangeRow], now_us: int, tail_hours: int) -> int:
    """Rows up to this sequence number are on the disks of all nodes that have said something within `tail_hours`, and
    of two at least. 0: none may go.

    Who has said nothing for longer is filled from another node, one day. A row that cannot be read, or comes from a
    clock that is ahead, is of a node that is there.
    """
    oldest = now_us - tail_hours * HOUR_US
    synced: list[int] = []
    for node in nodes:
        if isinstance(node, StrangeRow):
            return 0
        if node.written_at >= oldest:
            synced.append(node.synced_seq)
    return min(synced) if len(synced) >= 2 else 0


def differences(ours: Facts, theirs: Facts) -> Iterator[str]:
    """A sentence for each thing in which another node is not as this one, and should be."""
    if not theirs.began_at:
        return
    pepper = differing_pepper(ours.peppers, theirs.peppers)
    if pepper is not None:
        yield f"its pepper {pepper} is another one: it is of another relay, or was restored wrongly"
    if theirs.configuration != ours.configuration:
        yield "its relay.toml is another one: copy it, and reload or restart that node"
    unread = sorted(name for name, version in ours.events.items() if theirs.events.get(name, 0) < version)
    if unread:
        more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        yield f"it runs version {theirs.version}, which cannot read {unread[0]}{more} as this one writes it: upgrade it"
    offset = theirs.clock_offset_us
    if offset is not None and is_clock_off(offset):
        ahead = "ahead of" if offset > 0 else "behind"
        yield f"its clock is {abs(offset) / 1e6:.1f} s {ahead} the database's, so it cannot lead"
