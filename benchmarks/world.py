"""What the benchmarks run against: a real relay process on a directory of its own, with one member enrolled."""

from __future__ import annotations

import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.command import bench_directory
from tests.world.process import RelayProcess, configure
from tests.world.relay import DID, DOMAIN, make_directory

__all__ = [
    "DID",
    "DOMAIN",
    "BenchedRelay",
    "Memory",
    "cpu_seconds",
    "enrolled_relay",
    "relay_process",
    "silent_receiver",
]

#: One tier that is never full: a check that passes costs the same whatever the limit is.
NO_LIMITS = "\n[warming]\ntiers = [ { hour = 1000000000, day = 1000000000 } ]\n"


class Memory(NamedTuple):
    """Resident memory in bytes."""

    #: The process's own.
    anonymous: int
    #: Pages of mapped files: the views, shared with the page cache, which the kernel takes back when it needs them.
    file: int

    @property
    def total(self) -> int:
        return self.anonymous + self.file


class BenchedRelay(RelayProcess):
    """A relay process with a member, that says what it costs."""

    credentials: dict[str, str]

    def cpu_seconds(self) -> float:
        """What the relay has used so far, all its threads."""
        return cpu_seconds(self.pid)

    def memory(self) -> Memory:
        status = Path(f"/proc/{self.pid}/status").read_text()
        kib = {
            name: int(value) for name, value in re.findall(r"^Rss(\w+):\s+(\d+) kB$", status, re.MULTILINE)
        }
        return Memory(kib["Anon"] * 1024, kib["File"] * 1024)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, all its threads. The clock is what clock_getcpuclockid(3) makes of a process id: it
    counts nanoseconds, and /proc hundredths."""
    return time.clock_gettime(~pid << 3 | 2)


def enrolled_relay(
    directory: Path,
    *,
    route: str,
    routes: Mapping[str, str] = MappingProxyType({}),
    http: str = "",
    fill: Callable[[Path], None] | None = None,
    command: Sequence[str] = ("-m", "relay"),
) -> BenchedRelay:
    """A relay, not started yet, that sends everything to `route` (host:port), but for the domains in `routes`.

    `http` is more lines of that table of the configuration; `fill` is given the directory at the end. `command` is
    what runs in the place of the relay's own command.
    """
    make_directory(directory, NO_LIMITS, route="")
    table = ", ".join(f'"{domain}" = "{target}"' for domain, target in {**routes, "*": route}.items())
    # The receiver may be one that never answers: no grace for it.
    configure(directory, delivery=f"routes = {{ {table} }}", service="grace_seconds = 0", http=http)
    relay = BenchedRelay(directory, command=command)
    relay.credentials = relay.enrol()
    if fill is not None:
        fill(directory)
    return relay


@contextmanager
def relay_process(
    *,
    route: str,
    routes: Mapping[str, str] = MappingProxyType({}),
    http: str = "",
    fill: Callable[[Path], None] | None = None,
    command: Sequence[str] = ("-m", "relay"),
) -> Iterator[BenchedRelay]:
    """As `enrolled_relay`, on a directory that is gone afterwards, and running."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-", dir=bench_directory()) as name:
        relay = enrolled_relay(
            Path(name) / "data", route=route, routes=routes, http=http, fill=fill, command=command
        )
        with relay.running():
            yield relay


@contextmanager
def silent_receiver() -> Iterator[str]:
    """A receiver that takes connections and never says a word: delivery waits, and costs nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        held: list[socket.socket] = []

        def hold() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:  # closed: the benchmark is over
                    return

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()
