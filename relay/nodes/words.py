"""What passes between two nodes of one relay. Values only: no word here does anything.

A follower asks and the leader answers, over `relay.nodes.links` and `relay.nodes.door`; nobody tells anything unasked.
Each question is answered by `Answered`. Its words are those of an edge (`relay.edges.words`) and some more: a node is
trusted with more than an edge, since it has every secret of the relay, so it may name the operator, whom its own
machine's kernel has named to it.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

from relay.edges.words import Did, TakeMessage, Why, WhyNotAccepting
from relay.principals import Principal
from relay.processes.carried import Raised
from relay.stream_places import TicketUse

__all__ = [
    "OF_ANY_NODE",
    "AdmitStream",
    "Answered",
    "Asked",
    "Decide",
    "HowFar",
    "ListFiles",
    "Node",
    "ReadFile",
    "TakeMessage",
    "TellRules",
    "Why",
    "WhyNotAccepting",
]


class Node(NamedTuple):
    """Another node, or this one, as its lease or its row tells of it."""

    name: str
    #: Where its door is: host and port.
    host: str
    port: int
    #: By which key it is known (`relay.nodes.members`). None: that is not known, so it is taken by its name.
    identity: str | None = None


class _Word(msgspec.Struct, frozen=True):
    pass


class Decide(_Word, frozen=True, tag="decide"):
    """Carry out a decision of `relay.registry`. Answered by what it returns."""

    name: str
    #: Of the type of its arguments.
    arguments: msgspec.Raw
    #: Who asks; neither: a stranger.
    member: Principal | None = None
    #: The Unix user at that node, or the session of its console.
    operator: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None


class AdmitStream(_Word, frozen=True, tag="admit_stream"):
    """Use a ticket up, and say how long a session is good for (`relay.stream_places`). Answered by seconds, or None."""

    did: Did
    ticket: TicketUse | None
    session: Annotated[str, msgspec.Meta(max_length=100)] | None


class HowFar(_Word, frozen=True, tag="how_far"):
    """How far has the log come? Answered by None: `Answered.seq` says it."""


class TellRules(_Word, frozen=True, tag="tell_rules"):
    """By which settings does the relay go? Answered by `relay.config_nodes.common_settings`."""


class ListFiles(_Word, frozen=True, tag="list_files"):
    """Which files does this node lend (`relay.nodes.lending`)? Any node answers, by a list of names."""


class ReadFile(_Word, frozen=True, tag="read_file"):
    """A part of one of them. Any node answers, by a `FilePart`, or None where there is no such file."""

    name: Annotated[str, msgspec.Meta(max_length=400)]
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    length: Annotated[int, msgspec.Meta(ge=0, le=2**31)]


Asked = Decide | TakeMessage | WhyNotAccepting | AdmitStream | HowFar | TellRules | ListFiles | ReadFile
#: These are answered by a node that follows, too.
OF_ANY_NODE = ListFiles | ReadFile


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """The answer to each question."""

    #: Of the last record of the leader's log, when it answered: what it has done stands there.
    seq: int
    #: What the question was answered by, if by an exception; `value` is nil then.
    raised: Raised | None
    #: Of the type that the question is answered by.
    value: msgspec.Raw
