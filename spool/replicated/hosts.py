"""The hosts that a database may be at, read from one connection string, and the order in which they are tried.

The invariant: **nothing that is said of a connection string, in an error or a name, is out of it but hosts and ports**:
the rest may be a password.

A host that is not a Unix socket and not this machine is spoken to by TLS, with its name verified: rows are sealed, but
whoever could pretend to be the database would decide what is durable.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

CONNECT_SECONDS: Final = 2
#: A peer that has gone is noticed within five seconds. The server's end is set by `statements.SESSION`.
_OURS: Final = {
    "client_encoding": "UTF8",
    "connect_timeout": str(CONNECT_SECONDS),
    "keepalives": "1",
    "keepalives_count": "3",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    # A standby that can be read is of no use, and neither is an old primary that was told so.
    "target_session_attrs": "read-write",
    "tcp_user_timeout": "5000",
}
_LISTED: Final = ("host", "hostaddr", "port")
_VERIFIED: Final = "verify-full"


class Host(NamedTuple):
    name: str
    """For people."""
    parameters: Mapping[str, str]
    """With a password, perhaps. As libpq names them."""


class Hosts:
    """`conninfo` is what libpq takes: `host=a,b,c dbname=relay user=relay`, or a `postgresql://` URL. Raises ValueError
    where it cannot be used."""

    def __init__(self, conninfo: str) -> None:
        self._hosts = _read(conninfo)
        self._first = 0
        self._used: int | None = None

    def in_turn(self) -> Sequence[Host]:
        """All of them, in the order in which they are to be tried now."""
        return [*self._hosts[self._first :], *self._hosts[: self._first]]

    def used(self, host: Host) -> None:
        """It was the right one, and is tried first from now on."""
        self._first = self._used = self._hosts.index(host)

    def prefer_another(self) -> None:
        """The one after the one that was used last is tried first, if one was."""
        if self._used is not None:
            self._first = (self._used + 1) % len(self._hosts)


def _read(conninfo: str) -> Sequence[Host]:
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    except psycopg.ProgrammingError:
        # It quotes what it does not understand.
        raise ValueError(
            "how to reach the database cannot be read: it is name=value pairs with blanks between them, as in "
            "host=a,b,c dbname=relay user=relay, or a postgresql:// URL"
        ) from None
    names: Sequence[str] = _LISTED
    lists = {name: given.pop(name).split(",") for name in names if name in given}
    count = max((len(values) for name, values in lists.items() if name != "port"), default=0)
    if not count:
        raise ValueError(
            "how to reach the database names no host: a Unix socket's directory is one, as host=/run/postgresql"
        )
    for name, values in lists.items():
        if len(values) not in ((1, count) if name == "port" else (count,)):
            raise ValueError(
                f"how to reach the database names {count} hosts, and {name} has {len(values)} values"
            )
    hosts = []
    for number in range(count):
        own = {name: values[number % len(values)] for name, values in lists.items()}
        own = {name: value for name, value in own.items() if value}
        if not own.get("host", own.get("hostaddr")):
            raise ValueError("how to reach the database names a host that is empty")
        if not own.get("port", "0").isdecimal():
            raise ValueError("how to reach the database names a port that is no number")
        name = _name(own)
        hosts.append(Host(name, {**given, **own, **_OURS, **_encryption(own, given, name)}))
    return hosts


def _name(own: Mapping[str, str]) -> str:
    place = own.get("host", own.get("hostaddr", ""))
    return f"{place}:{own['port']}" if "port" in own else place


def _encryption(own: Mapping[str, str], given: Mapping[str, str], name: str) -> Mapping[str, str]:
    if all(_is_here(own[name]) for name in ("host", "hostaddr") if name in own):
        return {}
    if given.get("sslmode", _VERIFIED) != _VERIFIED:
        raise ValueError(
            f"{name} is not on this machine, so sslmode must be {_VERIFIED}: with less, whoever is between could "
            "pretend to be the database"
        )
    return {"sslmode": _VERIFIED}


def _is_here(host: str) -> bool:
    """A Unix socket, or an address of this machine."""
    if host[0] in "/@" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
