"""Who has signed in: the cookie of a session, sealed and opened.

The contract. A session is a cookie and nothing else: nothing is stored. It is sealed (AES-SIV) with a key of the
pepper's own label, so nobody makes one or changes it; it holds whose it is, the key that was shown, when it began, and
the epoch. Each request looks at all four: a session is over when its key is revoked, its epoch raised, or SESSION_HOURS
have passed. A browser keeps it from scripts (HttpOnly) and from other sites (SameSite=Strict); where the relay is
reached by https its name says that it came that way and from this very host (`__Host-`). The operator's has a name of
its own, since cookies know no ports.

An edge has the pepper, too. So what is sealed proves to the core that one of its processes did it, and no more: it is
enough for a member, whom an edge may name anyway. The operator's door, which the core serves itself, *remembers* the
sessions that it has begun, and takes no other; so they end with the process.

Each form carries a token that is made from the session's secret: who does not have the cookie cannot know it, and who
sees the token does not learn the cookie.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from relay.message.keys import Peppers
from relay.message.tokens import SEAL_KEY_OCTETS, SESSION_SECRET_OCTETS, ConsoleSession, ConsoleSessions
from relay.times import HOUR_US, SECOND_US

SESSION_HOURS: Final = 12
_LABEL: Final = "console"


class Sessions:
    """Of one door. `is_https`: whether browsers come to it by https."""

    def __init__(
        self, peppers: Peppers, name: str, is_https: Callable[[], bool], *, remembered_max: int = 0
    ) -> None:
        """`remembered_max`: it takes only what it has begun itself, the last so many; 0: whatever is sealed."""
        self._peppers = peppers
        self._name = name
        self._is_https = is_https
        self._known: set[int] = set()
        self._seals: ConsoleSessions | None = None
        self._remembered_max = remembered_max
        self._remembered: OrderedDict[str, None] = OrderedDict()

    def begin(self, did: str, key_id: str, epoch: int, now_us: int, secret: bytes) -> ConsoleSession:
        assert len(secret) == SESSION_SECRET_OCTETS
        session = ConsoleSession(did, key_id, now_us, epoch, secret)
        if self._remembered_max:
            self._remembered[session.session_id] = None
            if len(self._remembered) > self._remembered_max:
                self._remembered.popitem(last=False)
        return session

    def end(self, session: ConsoleSession) -> None:
        """Where sessions are remembered, this one is over, whoever has kept its cookie."""
        self._remembered.pop(session.session_id, None)

    def in_cookies(self, header: str | None, now_us: int) -> ConsoleSession | None:
        """The session of a request, by its Cookie field; None: there is none that is not too old."""
        for each in (header or "").split(";"):
            name, _, value = each.strip().partition("=")
            if name == self._cookie_name:
                session = self._sealing().open(value)
                if session is not None and self._is_good(session, now_us):
                    return session
        return None

    def cookie(self, session: ConsoleSession) -> str:
        """What a browser is to keep."""
        sealed = self._sealing().seal(session, self._peppers.current)
        return self._set(sealed, SESSION_HOURS * HOUR_US // SECOND_US)

    def no_cookie(self) -> str:
        """It is to keep none any more."""
        return self._set("", 0)

    def _is_good(self, session: ConsoleSession, now_us: int) -> bool:
        if self._remembered_max and session.session_id not in self._remembered:
            return False
        return session.issued_at <= now_us < session.issued_at + SESSION_HOURS * HOUR_US

    def _set(self, value: str, seconds: int) -> str:
        secure = "; Secure" if self._is_https() else ""
        return f"{self._cookie_name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"

    @property
    def _cookie_name(self) -> str:
        return f"__Host-{self._name}" if self._is_https() else self._name

    def _sealing(self) -> ConsoleSessions:
        """With the keys of all peppers that there are by now."""
        for number, pepper in self._peppers.items():
            if number in self._known:
                continue
            key = pepper.derive(_LABEL, SEAL_KEY_OCTETS)
            if self._seals is None:
                self._seals = ConsoleSessions(key)
            self._seals.add(number, key)
            self._known.add(number)
        assert self._seals is not None
        return self._seals


def form_token(session: ConsoleSession) -> str:
    """What stands in each form of this session."""
    return hmac.digest(session.secret, b"atmos-relay console form", hashlib.sha256).hex()[:32]


def is_form_token(session: ConsoleSession, given: str) -> bool:
    return hmac.compare_digest(form_token(session).encode(), given.encode("utf-8", "replace"))
