"""Links by which the operator lets somebody into the console, and the members' sessions that came of them.

The invariant: **a link opens one session, within a minute, at the door that it was made for.** The operator's door is
served by the core, and so is not open to what strangers may ask for: a link for it is redeemed nowhere else.

A member's session by a link has no API key. The operator has vouched for it, so it is a member's (`Principal`) whose
key id says so, `console:EPOCH:ID`; what it does is recorded under that name. Whether there is such a session only this
object knows, which is the core's: an edge that makes one up is refused.

All of it is in memory and bounded; at a restart there are neither links nor sessions by them. Of a link, only its
digest is kept. No clock: it is told the time.
"""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from relay.principals import FULL, VOUCHED, Principal
from relay.refusals import Refusal
from relay.times import SECOND_US

LINK_SECONDS: Final = 60
#: As long as any session of the console.
SESSION_SECONDS: Final = 12 * 3600
_TOKEN_OCTETS: Final = 32
_SESSION_OCTETS: Final = 8
#: Of more, the oldest is no good any more.
LINKS_MAX: Final = 100
SESSIONS_MAX: Final = 1_000


class _Link(NamedTuple):
    #: None: the operator's own door.
    did: str | None
    expires_at: int
    #: The Unix user who had it made.
    by: str


class ConsoleLinks:
    """`randbytes`: dice. Times are in microseconds, of any clock that does not jump much."""

    def __init__(self, randbytes: Callable[[int], bytes]) -> None:
        self._randbytes = randbytes
        self._links: OrderedDict[bytes, _Link] = OrderedDict()
        self._sessions: OrderedDict[Principal, int] = OrderedDict()
        #: Called with the DID and the key id of a session that is over before its time.
        self.ended: list[Callable[[str, str], None]] = []
        #: Where the operator's console is served, `127.0.0.1:8026`; empty: nowhere.
        self.operator_address = ""
        #: Whether anybody serves: where nobody does, a link would lead nowhere.
        self.is_served = False

    def make(self, did: str | None, by: str, now_us: int) -> tuple[str, int]:
        """A link's token for this member, or for the operator; and until when it is good."""
        token = base64.urlsafe_b64encode(self._randbytes(_TOKEN_OCTETS)).decode().rstrip("=")
        expires_at = now_us + LINK_SECONDS * SECOND_US
        self._links[_digest(token)] = _Link(did, expires_at, by)
        if len(self._links) > LINKS_MAX:
            self._links.popitem(last=False)
        return token, expires_at

    def redeem_operators(self, token: str, now_us: int) -> str:
        """For which Unix user the link was made. Raises Refusal(AUTH_FAILED)."""
        return self._redeemed(token, now_us, for_operator=True).by

    def redeem_members(self, token: str, epoch: int, now_us: int) -> Principal:
        """Whom the operator vouches for, from now on. Raises Refusal(AUTH_FAILED)."""
        link = self._redeemed(token, now_us, for_operator=False)
        assert link.did is not None
        session = Principal(link.did, f"{VOUCHED}{epoch}:{self._randbytes(_SESSION_OCTETS).hex()}", FULL)
        self._sessions[session] = now_us + SESSION_SECONDS * SECOND_US
        if len(self._sessions) > SESSIONS_MAX:
            self._end(next(iter(self._sessions)))
        return session

    def is_vouched(self, member: Principal, now_us: int) -> bool:
        """Whether there is such a session."""
        return now_us < self._sessions.get(_plain(member), 0)

    def ends_at(self, did: str, key_id: str) -> int:
        """When this session is over; 0: there is none."""
        return self._sessions.get(Principal(did, key_id, FULL), 0)

    def leave(self, member: Principal) -> None:
        """This session is over."""
        self._end(_plain(member))

    def _end(self, session: Principal) -> None:
        if self._sessions.pop(session, None) is not None:
            for tell in self.ended:
                tell(session.did, session.key_id)

    def end_of(self, did: str) -> None:
        """Of this member none is good any more: whoever has its DID later is let in anew."""
        for digest in [digest for digest, link in self._links.items() if link.did == did]:
            del self._links[digest]
        for session in [session for session in self._sessions if session.did == did]:
            self._end(session)

    def end_all(self) -> None:
        """No link, and no session by one, is good any more."""
        self._links.clear()
        for session in list(self._sessions):
            self._end(session)

    def _redeemed(self, token: str, now_us: int, *, for_operator: bool) -> _Link:
        digest = _digest(token)
        link = self._links.get(digest)
        if link is not None and (link.did is None) == for_operator:
            # Good or too old, it is used now.
            del self._links[digest]
            if now_us < link.expires_at:
                return link
        raise Refusal(
            "AUTH_FAILED",
            "this link is not good any more: each is good once, for one minute; `atmos-relay console login` makes one",
        )


def _plain(member: Principal) -> Principal:
    """Without what a door may have said of it: these sessions are good for all that a member may do."""
    return Principal(member.did, member.key_id, FULL)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
