"""What does a relay on three machines cost, and how long is it without a leader?

    python -m benchmarks.nodes [--rounds 3] [--seconds 3] [--scale 1]

One relay on one machine beside three relays that agree in PostgreSQL, a primary and two synchronous standbys, all in
the same run and round by round in turn. Here all of them are on one machine, with one disk, and no network between
them: what is slower is work and syncs, and not distance. A commit is three syncs of that disk where several machines
would have one each at the same time.

- *accept*: as `benchmarks.accept` asks it, at the leader. Processor time is the leader's, all its threads, and neither
  the followers' nor the database's: they would be on machines of their own, and here they take it from what one machine
  has alone. So the demand is of processor time, and by the clock there is none.
- *without a leader*: from `kill -9` of the relay that leads to the first 200 of a send at another node. From `kill -9`
  of the primary, which a script answers by promoting a standby, to the first 200; beside it how long PostgreSQL itself
  took until it committed again.
- *catching up*: a node is started that lacks some records, of sends to fifty recipients. Timed from when it has got the
  first of them to when it has all.
- *the table alone*: a row after the other, by one connection, beside write and fdatasync of as many octets.
"""

from __future__ import annotations

import http.client
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from benchmarks.accept import send_request
from benchmarks.append import measure_disk
from benchmarks.command import Effort, bench_directory, run
from benchmarks.load import Load, run_load
from benchmarks.report import Comparison, Demand, Row
from benchmarks.world import relay_process, silent_receiver, tree_cpu_seconds
from relay.file_names import LOG_DIRECTORY
from spool.record import CHAIN_START
from spool.replicated import table
from spool.replicated.postgres import PostgresTable
from spool.replicated.table import HOLDER_OCTETS, Head
from tests.world.node_processes import NodeProcesses
from tests.world.postgres import Servers, open_servers
from tests.world.process import PATIENCE_SECONDS, RelayProcess

QUESTION = "nodes"
CONNECTIONS = (1, 32, 128)
#: The case that the demand speaks of.
USUAL = 32
#: That a node which was away lacks.
MISSED_RECORDS = 100_000
RECIPIENTS = 50
ROW_OCTETS = (2_000, 64_000, 200_000)
ROWS = 300
_PAUSE_SECONDS = 0.02
#: So often it is looked how far a node is that catches up; not so often that this slows it.
_LOOK_SECONDS = 0.02


class Figure(NamedTuple):
    load: Load
    cpu_seconds: float

    @property
    def us_a_send(self) -> float:
        return self.cpu_seconds / self.load.requests * 1e6


class Caught(NamedTuple):
    """What a node got that it lacked, from when its log began to grow until it served with all of it."""

    records: int
    seconds: float
    cpu_seconds: float


def measure(effort: Effort) -> Iterator[Row]:
    with ExitStack() as stack:
        nobody = stack.enter_context(silent_receiver())
        place = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="nodes-bench-", dir=bench_directory()))
        )
        place.chmod(0o711)  # the servers run as another user
        servers = stack.enter_context(open_servers(place))
        yield from measure_table(servers, place, effort)
        alone = stack.enter_context(relay_process(route=nobody))
        nodes = NodeProcesses(place / "nodes", servers, route=nobody, service="grace_seconds = 0")
        stack.enter_context(nodes.running())
        leader = nodes.wait_led()
        credentials = leader.enrol()
        for connections in CONNECTIONS:
            yield from measure_accept(alone, alone.credentials, leader, credentials, connections, effort)
        yield from measure_catching_up(nodes, leader, credentials, effort)
        yield from measure_leaders_death(nodes, credentials, effort)
        yield from measure_primarys_death(nodes, servers, credentials, effort)


# ------------------------------------------------------------------------------------------------ accept


def measure_accept(
    alone: RelayProcess,
    alone_credentials: dict[str, str],
    leader: RelayProcess,
    credentials: dict[str, str],
    connections: int,
    effort: Effort,
) -> Iterator[Row]:
    ours: list[Figure] = []
    ones: list[Figure] = []
    turns = [
        (alone, send_request(alone_credentials), ones),
        (leader, send_request(credentials), ours),
    ]
    for relay, request, _ in turns:  # warm
        _figure(relay, request, connections, effort.seconds / 3)
    for _ in range(effort.rounds):
        for relay, request, figures in turns:
            figures.append(_figure(relay, request, connections, effort.seconds))
        turns.reverse()
    case = f"accept, {connections} connection{'s' if connections > 1 else ''}"
    yield Row(
        question=QUESTION,
        case=case,
        what="durable sends/s by the clock",
        values=[figure.load.per_second for figure in ours],
        against=Comparison("sends/s, one machine", [figure.load.per_second for figure in ones]),
    )
    yield Row(
        question=QUESTION,
        case=case,
        what="µs of CPU a send, the leader's",
        values=[figure.us_a_send for figure in ours],
        against=Comparison("µs, one machine", [figure.us_a_send for figure in ones]),
        lower_is_better=True,
    )
    yield Row(
        question=QUESTION,
        case=case,
        what="times one machine's µs of CPU a send",
        values=[a.us_a_send / b.us_a_send for a, b in zip(ours, ones, strict=True)],
        lower_is_better=True,
        asked=Demand("median", at_most=1.4) if connections == USUAL else None,
    )
    yield Row(
        question=QUESTION,
        case=case,
        what="p50, ms",
        values=[figure.load.p50 * 1000 for figure in ours],
        against=Comparison("ms, one machine", [figure.load.p50 * 1000 for figure in ones]),
        lower_is_better=True,
    )
    if connections == 1:
        yield Row(
            question=QUESTION,
            case=case,
            what="p50, ms more than one machine's",
            values=[(a.load.p50 - b.load.p50) * 1000 for a, b in zip(ours, ones, strict=True)],
            asked=Demand("median", at_most=6),
        )


def _figure(relay: RelayProcess, request: bytes, connections: int, seconds: float) -> Figure:
    used = tree_cpu_seconds(relay.pid)
    load = run_load(relay.address, request, connections=connections, seconds=seconds)
    return Figure(load, tree_cpu_seconds(relay.pid) - used)


# ------------------------------------------------------------------------------------------------ catching up


def measure_catching_up(
    nodes: NodeProcesses, leader: RelayProcess, credentials: dict[str, str], effort: Effort
) -> Iterator[Row]:
    late = next(node for node in nodes.all if node is not leader)
    sends = max(1, effort.scaled(MISSED_RECORDS) // (RECIPIENTS + 1))
    request = send_request(credentials, recipients=RECIPIENTS)
    found: list[Caught] = []
    for _ in range(effort.rounds):
        had = _seq(late)
        late.stop()
        seconds = PATIENCE_SECONDS * 10  # it ends by its number
        run_load(leader.address, request, connections=USUAL, seconds=seconds, requests=sends)
        found.append(_catch_up(late, had, _seq(leader)))
    case = f"catching up, {sends * (RECIPIENTS + 1):,} records"
    yield Row(
        question=QUESTION,
        case=case,
        what="records/s by the clock",
        values=[caught.records / caught.seconds for caught in found],
        asked=Demand("median", at_least=30_000),
    )
    yield Row(
        question=QUESTION,
        case=case,
        what="records for each second of a core",
        values=[caught.records / caught.cpu_seconds for caught in found],
    )


def _catch_up(late: RelayProcess, had: int, wanted: int) -> Caught:
    """It fetches before it serves, so its log is looked at, and not what it says."""
    octets = _log_octets(late)
    late.launch()
    began = time.perf_counter(), tree_cpu_seconds(late.pid)
    end = time.monotonic() + PATIENCE_SECONDS
    while _log_octets(late) <= octets:
        if time.monotonic() > end:
            raise RuntimeError(f"{late.directory.name} does not get what it lacks: {late.output}")
        began = time.perf_counter(), tree_cpu_seconds(late.pid)
        time.sleep(_LOOK_SECONDS)
    late.wait_serving()
    _wait_level(late, wanted)
    return Caught(wanted - had, time.perf_counter() - began[0], tree_cpu_seconds(late.pid) - began[1])


def _wait_level(node: RelayProcess, wanted: int) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while _seq(node) < wanted:
        if time.monotonic() > end:
            raise RuntimeError(f"{node.directory.name} does not get all that it lacks: {node.output}")
        time.sleep(_LOOK_SECONDS)


def _log_octets(node: RelayProcess) -> int:
    return sum(file.stat().st_size for file in (node.directory / LOG_DIRECTORY).iterdir())


def _seq(node: RelayProcess) -> int:
    connection = http.client.HTTPConnection(node.address, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return int(json.loads(connection.getresponse().read())["seq"])
    finally:
        connection.close()


# ------------------------------------------------------------------------------------------------ without a leader


def measure_leaders_death(nodes: NodeProcesses, credentials: dict[str, str], effort: Effort) -> Iterator[Row]:
    values: list[float] = []
    for _ in range(effort.rounds):
        led = sum(map(nodes.times_led, nodes.all))
        leader = nodes.wait_led()
        other = next(node for node in nodes.all if node is not leader)
        _send_until_taken(other, credentials)
        start = time.perf_counter()
        leader.kill()
        _send_until_taken(other, credentials)
        values.append(time.perf_counter() - start)
        new = nodes.wait_led(led)
        leader.start()
        _wait_level(leader, _seq(new))
    yield Row(
        question=QUESTION,
        case="kill -9 of the leader",
        what="s to the first 200 at another node",
        values=values,
        lower_is_better=True,
        asked=Demand("median", at_most=5),
    )


def measure_primarys_death(
    nodes: NodeProcesses, servers: Servers, credentials: dict[str, str], effort: Effort
) -> Iterator[Row]:
    ours: list[float] = []
    alone: list[float] = []
    with ThreadPoolExecutor(1) as beside:
        for _ in range(effort.rounds):
            node = nodes.wait_led()
            _send_until_taken(node, credentials)
            start = time.perf_counter()
            promoted = beside.submit(_promote, servers, start)
            while servers.primary.is_running and not promoted.done():
                time.sleep(_PAUSE_SECONDS / 10)  # what is sent before it is dead tells nothing
            _send_until_taken(node, credentials)
            ours.append(time.perf_counter() - start)
            alone.append(promoted.result())
            servers.mend()
    case = "kill -9 of the database's primary, a script promotes"
    yield Row(
        question=QUESTION,
        case=case,
        what="s to the first 200",
        values=ours,
        against=Comparison("s until PostgreSQL commits again", alone),
        lower_is_better=True,
    )
    yield Row(
        question=QUESTION,
        case=case,
        what="s more than PostgreSQL itself",
        values=[a - b for a, b in zip(ours, alone, strict=True)],
        asked=Demand("median", at_most=2),
    )


def _promote(servers: Servers, start: float) -> float:
    """Until a commit has its witness again."""
    new = servers.fail_over()
    new.execute("CREATE TABLE promoted (); DROP TABLE promoted")
    return time.perf_counter() - start


def _send_until_taken(node: RelayProcess, credentials: dict[str, str]) -> None:
    """As a client that is refused and comes again."""
    body = send_request(credentials).partition(b"\r\n\r\n")[2]
    headers = {**credentials, "Content-Type": "application/json"}
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(node.address, timeout=PATIENCE_SECONDS)
        try:
            connection.request("POST", "/v1/send", body, headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status == 200:
            return
        if answer.status != 503:
            raise RuntimeError(f"{answer.status}: {said.decode()}")
        time.sleep(_PAUSE_SECONDS)
    raise RuntimeError(f"nobody takes a send: {node.output}")


# ------------------------------------------------------------------------------------------------ the table alone


def measure_table(servers: Servers, place: Path, effort: Effort) -> Iterator[Row]:
    count = effort.scaled(ROWS)
    for octets in ROW_OCTETS:
        ours: list[float] = []
        alone: list[float] = []
        with _database(servers) as conninfo:
            trio.run(_append_rows, conninfo, octets, 1)  # warm
        for number in range(effort.rounds):
            with _database(servers) as conninfo:
                ours.append(count / trio.run(_append_rows, conninfo, octets, count))
            bare = place / f"bare-{octets}-{number}"
            alone.append(count / measure_disk(bare, octets, count))
            bare.unlink()
        yield Row(
            question=QUESTION,
            case=f"the table alone, rows of {octets / 1000:g} KB",
            what="rows/s, one connection",
            values=ours,
            against=Comparison("writes/s, write and fdatasync alone", alone),
        )


@contextmanager
def _database(servers: Servers) -> Iterator[str]:
    conninfo = servers.make_database()
    try:
        yield conninfo
    finally:
        servers.drop_database(conninfo)


async def _append_rows(conninfo: str, octets: int, count: int) -> float:
    """Seconds."""
    database = PostgresTable(conninfo)
    first = Head(epoch=0, holder=bytes(HOLDER_OCTETS), last_seq=0, chain=CHAIN_START)
    keeping = await database.keep()
    await keeping.found(first)
    await keeping.close()
    connection = await database.connect()
    holder = os.urandom(HOLDER_OCTETS)
    head = await connection.take_head(first, holder)
    assert head is not None
    rows = _rows(head, os.urandom(octets), count)
    start = time.perf_counter()
    for row in rows:
        if not await connection.append(row, holder):
            raise RuntimeError("the database has refused a row")
    seconds = time.perf_counter() - start
    await connection.close()
    return seconds


def _rows(head: Head, data: bytes, count: int) -> Sequence[table.Row]:
    chains = [head.chain, *(os.urandom(len(head.chain)) for _ in range(count))]
    return [
        table.Row(seq, seq, head.epoch, chains[seq - 1], chains[seq], data, b"")
        for seq in range(1, count + 1)
    ]


if __name__ == "__main__":
    run({QUESTION: measure})
