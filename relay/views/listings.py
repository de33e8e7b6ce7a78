"""Which lists of senders to refuse (DNSBL) name an address or a domain of the relay's, by what they answered last.

Nothing here is personal: an address here is one of the relay's own, a domain one that it sends from.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from relay.codec import Recorded
from relay.events import SourceDelisted, SourceListed
from spool.views import Snapshot, Transaction

#: source, NUL, the list's zone -> what it says. Both are at most 253 characters, and so fit into a key.
_LISTINGS = "listings"


class Listing(msgspec.Struct, array_like=True):
    #: The address, in its one spelling, or the domain.
    source: str
    #: The list's zone.
    dnsbl: str
    #: Its A records, sorted.
    codes: tuple[str, ...]
    #: What its TXT record says; a stranger's words.
    text: str | None
    #: Since when it names the source, in whatever words.
    since: int


_listing = msgspec.msgpack.Decoder(Listing)
_encode = msgspec.msgpack.Encoder().encode


class ListingsProjector:
    name = "listings"
    version = 1
    tables = (_LISTINGS,)
    minds = (SourceListed, SourceDelisted)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case SourceListed():
                before = listing(tx, event.source, event.dnsbl)
                since = recorded.time_us if before is None else before.since
                state = Listing(event.source, event.dnsbl, tuple(event.codes), event.text, since)
                tx.put(_LISTINGS, _key(event.source, event.dnsbl), _encode(state))
            case SourceDelisted():
                tx.delete(_LISTINGS, _key(event.source, event.dnsbl))
            case _:
                pass


def _key(source: str, dnsbl: str) -> bytes:
    return source.encode() + b"\0" + dnsbl.encode()


def listing(view: Snapshot, source: str, dnsbl: str) -> Listing | None:
    """What this list says of the source now; None: it does not name it, as far as is known."""
    value = view.get(_LISTINGS, _key(source, dnsbl))
    return None if value is None else _listing.decode(value)


def listings(view: Snapshot) -> Iterator[Listing]:
    """All, those of one source together."""
    for _, value in view.scan(_LISTINGS):
        yield _listing.decode(value)
