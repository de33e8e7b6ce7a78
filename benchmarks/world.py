"""What the benchmarks run against: a real relay process on a directory of its own, with one member enrolled."""

from __future__ import annotations

import os
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
from relay.events import DomainAdded, Event, MemberAdded
from relay.store import VIEWS_DIRECTORY
from spool.views import DATA_NAME
from tests.world.process import RelayProcess, configure
from tests.world.relay import DID, DOMAIN, make_directory

__all__ = [
    "DID",
    "DOMAIN",
    "WORKERS",
    "BenchedRelay",
    "Memory",
    "cpu_seconds",
    "enrolled_relay",
    "numbered_did",
    "numbered_member",
    "processes_of",
    "pss_bytes",
    "relay_process",
    "silent_receiver",
    "tree_cpu_seconds",
]

#: What a relay's processes beside the core may be.
WORKERS = ("edge", "courier")
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ ")
#: One tier that is never full: a check that passes costs the same whatever the limit is.
NO_LIMITS = "\n[warming]\ntiers = [ { hour = 1000000000, day = 1000000000 } ]\n"


class Memory(NamedTuple):
    """What a process takes of the machine's memory, in bytes."""

    #: The process's own: no file holds it.
    anonymous: int
    #: All of it but the views' mapped pages. What several processes share (libraries) counts in proportion (PSS).
    without_views: int
    #: Pages of the views' file that the process has touched. They are the page cache's: the kernel takes them back when
    #: it needs them.
    views: int


class BenchedRelay(RelayProcess):
    """A relay process with a member, that says what it costs."""

    credentials: dict[str, str]

    def cpu_seconds(self) -> float:
        """What the relay has used so far, all its processes and threads."""
        return tree_cpu_seconds(self.pid)

    def cpu_seconds_by_role(self) -> dict[str, float]:
        """The same, shared out; readers of mail and whoever has ended are the core's."""
        of = {role: sum(map(cpu_seconds, self.workers(role))) for role in WORKERS}
        return {"core": self.cpu_seconds() - sum(of.values()), **of}

    def memory(self) -> Memory:
        """Of its first process, by /proc/PID/smaps, which has a paragraph for each mapping: its addresses and file,
        then its figures."""
        return self._memory_of(self.pid)

    def pss_without_views(self) -> int:
        """Bytes, of all its processes: what several of them share counts once."""
        return sum(self._memory_of(pid).without_views for pid in processes_of(self.pid))

    def _memory_of(self, pid: int) -> Memory:
        views = str((self.directory / VIEWS_DIRECTORY / DATA_NAME).resolve())
        anonymous = without_views = of_views = 0
        is_views = False
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            if _MAPPING.match(line):
                is_views = line.endswith(f" {views}")
            elif line.startswith("Anonymous:"):
                anonymous += _kib(line)
            elif line.startswith("Pss:") and not is_views:
                without_views += _kib(line)
            elif line.startswith("Rss:") and is_views:
                of_views += _kib(line)
        return Memory(anonymous * 1024, without_views * 1024, of_views * 1024)


def _kib(line: str) -> int:
    """Of a line like `Pss:                   8 kB`."""
    return int(line.split()[1])


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, all its threads. The clock is what clock_getcpuclockid(3) makes of a process id: it
    counts nanoseconds, and /proc hundredths."""
    return time.clock_gettime(~pid << 3 | 2)


def processes_of(pid: int) -> list[int]:
    """A process, those that it has begun, those that they have, and so on: whoever of them is there."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def tree_cpu_seconds(pid: int) -> float:
    """Processor time of a process and of all below it, those that have ended with them (these in hundredths, as /proc
    has them)."""
    while True:
        try:
            processes = processes_of(pid)
            # In this order: who ends in between is missed and not counted twice, and the last line sees it.
            ended = sum(map(_cpu_seconds_of_ended_children, processes))
            seconds = ended + sum(map(cpu_seconds, processes))
            if processes_of(pid) == processes:
                return seconds
        except OSError:
            if not Path(f"/proc/{pid}").exists():
                raise  # not one of many that come and go


def _cpu_seconds_of_ended_children(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")


def pss_bytes(pid: int) -> int:
    """Memory of a process and of all below it. What processes share counts in proportion (PSS)."""
    return sum(map(_pss_of_one, processes_of(pid)))


def _pss_of_one(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has ended since it was listed, as Postfix's do when they have nothing to do
    return sum(_kib(line) * 1024 for line in lines if line.startswith("Pss:"))


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


def numbered_did(number: int) -> str:
    """Of a member that is written into the log, and has no key."""
    return "did:plc:" + f"{number:024b}".translate(str.maketrans("01", "ab"))


def numbered_member(number: int) -> Iterator[Event]:
    """Its enrolment, with the domain `memberN.example`."""
    yield MemberAdded(did=numbered_did(number))
    yield DomainAdded(
        did=numbered_did(number),
        domain=f"member{number}.example",
        selector_stem="atmos20251124",
        rsa_public="",
        ed25519_public="",
    )
