"""What passes between the core and an edge. Values only: no word here does anything.

Each side decodes what comes as one of these types, like any other input from outside. An edge names a member, whose key
the core looks at again, or nobody; it has no word for the operator.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

from relay.config import Config
from relay.elsewhere import Role
from relay.metrics_page import Family
from relay.news import Heard
from relay.principals import Principal
from relay.reception.certificates import Pair
from relay.stream_places import TicketUse

#: Looked for in the views, which have no keys of any length, and kept in tables of the core's.
Did = Annotated[str, msgspec.Meta(pattern="^[!-~]{1,300}$")]


class _Word(msgspec.Struct, frozen=True):
    pass


# --------------------------------------------------------------------------------------- from an edge to the core


class Decide(_Word, frozen=True, tag="decide"):
    """Asked: carry out a decision of `relay.registry`. Answered by what it returns."""

    name: str
    #: Of the type of its arguments.
    arguments: msgspec.Raw
    #: Who asks; None: a stranger.
    member: Principal | None


class TakeMessage(_Word, frozen=True, tag="take_message"):
    """Asked: may a stranger at this address begin one more message (`relay.quota`)? Answered by None."""

    address: Annotated[str, msgspec.Meta(max_length=100)]


class Refused(_Word, frozen=True, tag="refused"):
    """Told: so many writes of each member came to nothing at this edge, and count all the same."""

    writes: dict[Did, Annotated[int, msgspec.Meta(ge=1)]]


class WhyNotAccepting(_Word, frozen=True, tag="why_not_accepting"):
    """Asked: can a send be taken now? Answered by None, or by `Why`."""


class Why(NamedTuple):
    """A refusal that is an answer, and no exception."""

    code: str
    message: str
    retry_after_seconds: int | None


class TakePlace(_Word, frozen=True, tag="take_place"):
    """Asked: a place for one more stream of this member (`relay.stream_places`). Answered by the seconds that it may be
    there, or by None."""

    did: Did
    ticket: TicketUse | None
    session: Annotated[str, msgspec.Meta(max_length=100)] | None = None


class LeavePlace(_Word, frozen=True, tag="leave_place"):
    """Told: one stream of the member has ended."""

    did: Did


class CatchUp(_Word, frozen=True, tag="catch_up"):
    """Asked: have the views all that any node has acknowledged by now? Answered by None when they have
    (`relay.elsewhere.OwnNode`)."""


class MetricsPage(_Word, frozen=True, tag="metrics_page"):
    """Asked: the page of the whole relay. Answered by its octets."""


class Counted(_Word, frozen=True, tag="counted"):
    """Told: what has been counted here. The answer to `Count`."""

    families: list[Family]


TO_CORE = (
    Decide
    | TakeMessage
    | Refused
    | WhyNotAccepting
    | TakePlace
    | LeavePlace
    | CatchUp
    | MetricsPage
    | Counted
)


# --------------------------------------------------------------------------------------- from the core to an edge


class ServedOn(NamedTuple):
    """Of what was listened on for one `bind`: its address, and how many of the inherited sockets are its."""

    address: str
    sockets: int


class NodeIs(_Word, frozen=True, tag="node_is"):
    """Told: the node to which this edge belongs leads or follows, and is so late. Where there are several nodes, again
    and again."""

    role: Role
    lag_seconds: float
    trouble: str | None = None
    is_unfit: bool = False


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    directory: str
    #: With this edge's share of what all have together.
    config: Config
    #: By number, the secrets that keys and tokens are known by.
    peppers: dict[int, bytes]
    #: Seals tickets for streams.
    ticket_key: bytes
    #: How many edges there are.
    edges: int
    #: What is shown under TLS.
    certificate: Pair | None
    #: The sockets are inherited in this order.
    http: ServedOn
    submission: tuple[ServedOn, ...]
    inbound: tuple[ServedOn, ...]
    #: None: there is one machine.
    node: NodeIs | None = None


class Configured(_Word, frozen=True, tag="configured"):
    """Told: this holds now."""

    config: Config


class NewPeppers(_Word, frozen=True, tag="new_peppers"):
    """Asked: know these, too; they may be used from now on. Answered by None."""

    peppers: dict[int, bytes]


class NewCertificate(_Word, frozen=True, tag="new_certificate"):
    """Told: show this from now on."""

    pair: Pair


class Told(_Word, frozen=True, tag="told"):
    """Asked: hear this. Answered by None when it was heard, so that no more of it is on the way than one."""

    heard: Heard


class LetGo(_Word, frozen=True, tag="let_go"):
    """Asked: close what is open of the log, for it was written anew without what was erased. Answered by None."""


class Count(_Word, frozen=True, tag="count"):
    """Told: say what has been counted there (`relay.metrics_page`). Not told again before it was said."""


TO_EDGE = Configured | NewPeppers | NewCertificate | Told | LetGo | NodeIs | Count
