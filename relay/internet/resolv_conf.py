"""Which name servers the system asks: /etc/resolv.conf, as it is now (resolv.conf(5)).

The contract. What a line cannot mean is skipped, whatever it is, and a file that names no server, or that is not there,
names the local machine (127.0.0.1): nothing in it stops the relay, neither at its start nor later. `ResolvConf.changed`
reads the file again, at most once in LOOKED_AT_SECONDS and only when somebody asks: so it sees a file that was
rewritten, replaced by another, behind a link that points elsewhere, removed, or made. It never blocks: the file is
a few lines, is opened without waiting, and of a larger one the beginning is read.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

SYSTEM_FILE: Final = Path("/etc/resolv.conf")
LOOKED_AT_SECONDS: Final = 2.0
FILE_BYTES_MAX: Final = 64 * 1024
#: resolv.conf(5): "localhost" where none is named.
LOCAL_MACHINE: Final = "127.0.0.1"
#: What "options timeout:" may say; the system's own resolver has the same bound.
TIMEOUT_SECONDS_MAX: Final = 30


class NameServers(NamedTuple):
    """What the file says."""

    addresses: tuple[str, ...]
    #: To ask the local machine is a guess: the file names no server.
    are_named: bool = True
    #: Lines that should name a server and do not.
    lines_skipped: int = 0
    timeout_seconds: int | None = None
    rotate: bool = False
    edns: bool = False


def name_servers(contents: bytes) -> NameServers:
    """What `contents` mean. Any octets mean something."""
    addresses: list[str] = []
    skipped = 0
    options: list[str] = []
    for line in contents.decode("utf-8-sig", "replace").splitlines():
        match line.split():
            case ["nameserver", address, *_] if _is_address(address):
                addresses.append(address)
            case ["nameserver", *_]:
                skipped += 1
            case ["options", *words]:
                options += words
    return NameServers(
        addresses=tuple(addresses) or (LOCAL_MACHINE,),
        are_named=bool(addresses),
        lines_skipped=skipped,
        timeout_seconds=next(_timeouts(options), None),
        rotate="rotate" in options,
        edns="edns0" in options,
    )


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def _timeouts(options: list[str]) -> Iterator[int]:
    """The last one holds."""
    for word in reversed(options):
        name, _, seconds = word.partition(":")
        if (
            name == "timeout"
            and seconds.isascii()
            and seconds.isdigit()
            and len(seconds) < 9
            and int(seconds)
        ):
            yield min(int(seconds), TIMEOUT_SECONDS_MAX)


class ResolvConf:
    """One file, looked at now and then."""

    def __init__(self, path: Path = SYSTEM_FILE) -> None:
        self._path = path
        self._contents: bytes | None = None
        self._look_at = 0.0

    def changed(self, now: float) -> NameServers | None:
        """What the file says, where that is new, as it is at the first time; `now`: seconds of a clock that never goes
        back."""
        if self._contents is not None and now < self._look_at:
            return None
        self._look_at = now + LOOKED_AT_SECONDS
        contents = self._read()
        if contents == self._contents:
            return None
        self._contents = contents
        return name_servers(contents)

    def _read(self) -> bytes:
        """b"" where it cannot be read: what is not there names no server."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                return os.read(descriptor, FILE_BYTES_MAX)
            finally:
                os.close(descriptor)
        except OSError:
            return b""
