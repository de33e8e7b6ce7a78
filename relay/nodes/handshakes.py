"""Connections at the nodes' door that have not shown yet whose they are.

The invariant: **whoever opens many keeps out nobody but those that come from his own address.** There are
HANDSHAKES_MAX at once, each of HANDSHAKE_SECONDS_MAX at most. Where all are taken, the oldest of the address that has
the most of them ends for one of another address; one more of that address itself is sent away. Nodes that all connect
to a new leader at once have about as many each, and do not end each other's.

An address is an IPv4 address or an IPv6 /64, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

HANDSHAKES_MAX: Final = 64
HANDSHAKE_SECONDS_MAX: Final = 5.0


class Handshakes:
    """Of one door."""

    def __init__(self) -> None:
        #: Address -> those under way, the oldest first.
        self._of: dict[str, list[trio.CancelScope]] = {}
        self._count = 0

    @contextmanager
    def begin(self, address: str) -> Iterator[bool]:
        """One from this address; what is done within ends when its time is over, or another's turn has come. False:
        there is no room for it."""
        if self._count >= HANDSHAKES_MAX and not self._make_room(address):
            yield False
            return
        with trio.move_on_after(HANDSHAKE_SECONDS_MAX) as scope:
            self._of.setdefault(address, []).append(scope)
            self._count += 1
            try:
                yield True
            finally:
                self._forget(address, scope)

    def _make_room(self, address: str) -> bool:
        most = max(self._of, key=lambda each: len(self._of[each]))
        if len(self._of[most]) <= len(self._of.get(address, ())) + 1:
            return False
        oldest = self._of[most][0]
        self._forget(most, oldest)
        oldest.cancel()
        return True

    def _forget(self, address: str, scope: trio.CancelScope) -> None:
        """Done twice, it changes nothing."""
        scopes = self._of.get(address, [])
        if scope in scopes:
            scopes.remove(scope)
            self._count -= 1
        if not scopes:
            self._of.pop(address, None)
