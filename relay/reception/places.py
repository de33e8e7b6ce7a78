"""Who may be connected by SMTP: how many at a time, how many of one address, and who gives way.

The invariant: **no one who does nothing keeps out a member.** A connection *rests* while nobody has been authenticated
on it and we wait for what its client says next, be it the handshake. When all places are taken and another one comes,
the connection that has rested for longest gives way. Of those that are authenticated, or are handing in a message, none
ever does; so only where all are such is whoever comes told to come later.

**Nor does one member keep out the others**: of one there are at most half of all connections, once it is known who it
is; what is over is told so at AUTH. So a program that forgets to close its connections, or a member who has many
addresses, fills no more than that.

Of one address there are `per_address_max` connections; trusted ones (this machine, a proxy) have no such limit.
`relay.api.places` is the same for HTTP, where whoever comes waits in the kernel's queue instead of being told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

import trio

from relay.reception.interface import Client
from relay.reception.replies import GAVE_WAY, TOO_MANY_CONNECTIONS, TOO_MANY_OF_MEMBER, Reply

#: A connection has so long to begin, even where others wait for its place: else many that come together would close
#: each other before any of them can say anything.
FIRST_WORD_SECONDS: Final = 0.1

#: Why a client was turned away, or its connection ended.
WHY: Final = ("connections", "connections_per_address", "connections_per_member", "gave_way", "locked_out")
#: One member has so many of all places, and two where there are hardly any.
_SHARES: Final = 2
_PER_MEMBER_LEAST: Final = 2


class Guest(Protocol):
    """A connection, as places know it."""

    client: Client

    def end(self, reply: Reply) -> None: ...


class Places:
    """Room for so many connections at a time. How many is asked whenever one comes: who is there already stays."""

    def __init__(
        self,
        connections_max: Callable[[], int],
        *,
        per_address_max: Callable[[], int],
        count_turned_away: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._connections_max = connections_max
        self._per_address_max = per_address_max
        #: Called with one of WHY.
        self.count_turned_away = count_turned_away
        self._guests: set[Guest] = set()
        self._of_address: dict[str, int] = {}
        #: Whose they are, of those that are authenticated.
        self._party_of: dict[Guest, str] = {}
        self._of_party: Counter[str] = Counter()
        #: Who rests, and since when; the longest rest comes first.
        self._resting: dict[Guest, float] = {}

    @property
    def connections(self) -> int:
        return len(self._guests)

    def take(self, guest: Guest) -> Reply | None:
        """Give it a place, where it rests; or what it is to be told."""
        client = guest.client
        if not client.is_trusted and self._of_address.get(client.counted_as, 0) >= self._per_address_max():
            self.count_turned_away("connections_per_address")
            return TOO_MANY_CONNECTIONS
        if len(self._guests) >= self._connections_max() and not self._make_room():
            self.count_turned_away("connections")
            return TOO_MANY_CONNECTIONS
        self._guests.add(guest)
        self._of_address[client.counted_as] = self._of_address.get(client.counted_as, 0) + 1
        self.rest(guest)
        return None

    def admit(self, guest: Guest, party: str) -> Reply | None:
        """It is known who the guest is. None: its place is now one of this member's; else what it is to be told."""
        self._give_back(guest)  # it may have been another's before STARTTLS
        if self._of_party[party] >= max(_PER_MEMBER_LEAST, self._connections_max() // _SHARES):
            self.count_turned_away("connections_per_member")
            return TOO_MANY_OF_MEMBER
        if guest in self._guests:
            self._party_of[guest] = party
            self._of_party[party] += 1
        return None

    def leave(self, guest: Guest) -> None:
        """Give the place back; of one that has none, nothing."""
        if guest not in self._guests:
            return
        self._guests.remove(guest)
        self._give_back(guest)
        self._resting.pop(guest, None)
        left = self._of_address.pop(guest.client.counted_as) - 1
        if left:
            self._of_address[guest.client.counted_as] = left

    def rest(self, guest: Guest) -> None:
        if guest in self._guests:
            self._resting.pop(guest, None)  # or it would keep its place in the order
            self._resting[guest] = trio.current_time()

    def work(self, guest: Guest) -> None:
        self._resting.pop(guest, None)

    def _give_back(self, guest: Guest) -> None:
        party = self._party_of.pop(guest, None)
        if party is not None:
            self._of_party[party] -= 1
            if not self._of_party[party]:
                del self._of_party[party]

    def _make_room(self) -> bool:
        longest, since = next(iter(self._resting.items()), (None, 0.0))
        if longest is None or trio.current_time() < since + FIRST_WORD_SECONDS:
            return False
        self.count_turned_away("gave_way")
        self.leave(longest)
        longest.end(GAVE_WAY)
        return True
