"""Who is a node of this relay: by which key each name is known, and which nodes were removed.

The invariant: **a name alone lets nobody in, and who was removed stays removed.** Each node has a key (in
`node/own.pem`), which `node add` makes, or the first start at the node that founded the log. It is known by its
*identity*, a digest of that key, which stands in the node's row in the database. Every node has the authority's key,
and so could make itself a certificate of any name: what it has not is another node's key.

A node that is removed leaves a row behind, beside those of the nodes, under a name that no node can have::

    removed/NAME/IDENTITY   {"removed": NAME, "identity": IDENTITY, "removed_at": microseconds since the epoch}

A row with this identity is nobody's from then on, whatever writes it: a process that stood still may do so once more.
The same name may be given to a node again, which has another identity. Tables that are founded anew know nothing of
who was removed before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from relay.config_nodes import is_node_name
from relay.times import rfc3339

Rows = Mapping[str, Mapping[str, object]]

_PREFIX: Final = "removed/"
_OCTETS: Final = 16
#: Of an identity, in hexadecimal digits.
IDENTITY_CHARACTERS: Final = 2 * _OCTETS


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    #: The name that it had.
    removed: Annotated[str, msgspec.Meta(max_length=64)]
    identity: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    #: By the database's clock.
    removed_at: Annotated[int, msgspec.Meta(ge=0, le=2**55)]

    @property
    def at(self) -> str:
        return rfc3339(self.removed_at)


class Members(NamedTuple):
    #: Name of a node -> its identity.
    identities: Mapping[str, str] = {}
    #: Identity -> what is known of its end.
    removed: Mapping[str, Removed] = {}

    def have(self, name: str, identity: str) -> bool:
        """Whether who shows this key under this name is a node."""
        return self.identities.get(name) == identity

    def why_not(self, name: str, identity: str) -> str | None:
        """Why a node of this name and key must not go on, in a sentence. None: nothing is in its way; it is a node, or
        nobody has said anything of its name yet."""
        gone = self.removed.get(identity)
        if gone is not None:
            return (
                f"{name}: this node was removed from the relay at {gone.at}. To bring it back: `atmos-relay node add "
                f"DIR {name}` at another node, and `atmos-relay node join` here, into a new directory"
            )
        if self.identities.get(name, identity) != identity:
            return (
                f"{name}: another machine is the node of this name. Either it was added anew after this directory was "
                "made, or this directory's node/own.pem is not the one that it had. To have this machine as a node: "
                "`atmos-relay node add DIR NAME` at another node, by a name that is free, and `atmos-relay node join` "
                "here, into a new directory"
            )
        return None

    def last_removed(self, name: str) -> Removed | None:
        """Where there is no node of this name any more."""
        gone = [one for one in self.removed.values() if one.removed == name and name not in self.identities]
        return max(gone, key=lambda one: one.removed_at, default=None)


def members_in(rows: Rows) -> Members:
    removed = {one.identity: one for name, row in rows.items() if (one := _removed_in(name, row)) is not None}
    identities = {
        name: identity
        for name, row in rows.items()
        if is_node_name(name) and (identity := identity_in(row)) and identity not in removed
    }
    return Members(identities, removed)


def without_removed(rows: Rows) -> Rows:
    """The rows of nodes, and whatever else is there that nobody understands."""
    gone = members_in(rows).removed
    if not gone:
        return rows
    return {
        name: row
        for name, row in rows.items()
        if _removed_in(name, row) is None and identity_in(row) not in gone
    }


def identity_in(row: Mapping[str, object]) -> str:
    """Empty: it says none."""
    identity = row.get("identity")
    return identity if isinstance(identity, str) else ""


def removal(name: str, identity: str, at_us: int) -> tuple[str, Mapping[str, Any]]:
    """The row that stays: what it stands under, and what it says."""
    gone = Removed(removed=name, identity=identity, removed_at=at_us)
    return f"{_PREFIX}{name}/{identity}", msgspec.to_builtins(gone)


def _removed_in(name: str, row: Mapping[str, object]) -> Removed | None:
    if not name.startswith(_PREFIX):
        return None
    try:
        gone = msgspec.convert(dict(row), Removed)
    except msgspec.ValidationError:
        return None
    return gone if name == f"{_PREFIX}{gone.removed}/{gone.identity}" else None
