"""The configuration in force: one place that holds it, and that everybody asks at the moment of use.

The invariant: **nobody keeps a setting.** A part is given a way to ask (`core.config`, or a function that returns its
own table), never a value, so that what the operator writes into `relay.toml` holds from the next decision on. The few
that must act when a setting changes, because they wait or have spread it (the scheduler's windows, say), are
`observers`.

What cannot change while the relay runs is NEEDS_RESTART. It keeps the value that it had at the start, whatever the file
says, and is named each time that the file is read.

A configuration is taken whole or not at all, without an `await` in between: no decision sees half of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from relay.config import Config

#: By their dotted names: a socket is bound once, and a log is told once how large its segments are. Whether a socket
#: may be bound depends on there being a certificate. (What is in its files may change at any time.) Sockets and limits
#: are divided among the processes that there are from the start. A relay is one machine or one of several for as long
#: as it runs.
NEEDS_RESTART: Final = frozenset(
    {
        "console.operator_bind",
        "http.bind",
        "inbound.bind",
        "nodes",
        "nodes.lease_seconds",
        "nodes.provider_is_durable",
        "nodes.unsafe_single_server",
        "service.couriers",
        "service.edges",
        "spool.segment_bytes",
        "submission.bind",
        "submission.bind_tls",
        "tls.certificate",
        "tls.key",
    }
)


class Changes(NamedTuple):
    """Dotted names of settings, as `relay.toml` has them."""

    #: What holds now and did not before.
    changed: tuple[str, ...]
    #: What the file says otherwise than it holds, and will hold after a restart.
    needs_restart: tuple[str, ...]


class Settings:
    def __init__(self, config: Config) -> None:
        self._now = config
        #: Called after a change, with what was in force before it.
        self.observers: list[Callable[[Config], None]] = []

    @property
    def now(self) -> Config:
        return self._now

    def as_taken(self, read: Config) -> Config:
        """What is in force once `read` is taken: that, but for what needs a restart."""
        for name in _differing(self._now, read):
            if name in NEEDS_RESTART:
                read = _with(read, name, _get(self._now, name))
        return read

    def take(self, read: Config) -> Changes:
        """Let `read` be in force, but for what needs a restart."""
        before = self._now
        differing = tuple(_differing(before, read))
        waiting = tuple(name for name in differing if name in NEEDS_RESTART)
        self._now = self.as_taken(read)
        changes = Changes(tuple(name for name in differing if name not in NEEDS_RESTART), waiting)
        if changes.changed:
            for observer in list(self.observers):
                observer(before)
        return changes


def _differing(one: msgspec.Struct, other: msgspec.Struct, table: str = "") -> Iterator[str]:
    for name in one.__struct_fields__:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, msgspec.Struct) and isinstance(b, msgspec.Struct):
            yield from _differing(a, b, f"{table}{name}.")
        elif a != b:
            yield table + name


def _get(config: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        config = getattr(config, name)
    return config


def _with(config: Config, dotted: str, value: Any) -> Config:
    table, _, name = dotted.partition(".")
    if not name:
        return msgspec.structs.replace(config, **{table: value})
    section = msgspec.structs.replace(getattr(config, table), **{name: value})
    return msgspec.structs.replace(config, **{table: section})
