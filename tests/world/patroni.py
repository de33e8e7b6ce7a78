"""PostgreSQL as Patroni runs it: three servers, each with a Patroni of its own, and one etcd, on loopback.

    with open_managed_servers() as servers:
        nodes = NodeProcesses(tmp_path, servers, route=mx.address)
        servers.kill(servers.primary())      # the machine is dead: server and Patroni
        servers.launch("a")                  # it is back, and nobody does anything else

All are Debian's, and nothing of the system's own configuration or services is touched. The settings are those that
docs/NODES.md names. What waits blocks.
"""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psycopg

from tests.world.daemon import free_port, require_program
from tests.world.postgres import NAMES, PASSWORD, ROLE, binaries, memory, require_postgres, who
from tests.world.reaper import Reaper, signal_all

_ETCD = "etcd"
#: A failover takes as long as the leader's key in etcd lives, and a bit.
PATIENCE_SECONDS = 120.0
#: The smallest that Patroni's documentation allows.
TTL_SECONDS, LOOP_SECONDS, RETRY_SECONDS = 20, 1, 3
DYNAMIC: Mapping[str, object] = {
    "ttl": TTL_SECONDS,
    "loop_wait": LOOP_SECONDS,
    "retry_timeout": RETRY_SECONDS,
    "maximum_lag_on_failover": 0,
    "synchronous_mode": True,
    "synchronous_mode_strict": True,
    "primary_start_timeout": 0,
    "postgresql": {
        "use_pg_rewind": True,
        "parameters": {
            "synchronous_commit": "on",
            "wal_log_hints": "on",
            "wal_recycle": "off",
            "wal_keep_size": "256MB",
            "max_connections": 60,
            "shared_buffers": "16MB",
            "huge_pages": "off",
            "jit": "off",
        },
    },
}


class ManagedServers:
    """As `tests.world.postgres.Servers`, but nobody promotes anything: Patroni does."""

    def __init__(self, place: Path, reaper: Reaper) -> None:
        self._place = place
        self._reaper = reaper
        self._numbers = itertools.count(1)
        self._ports = {name: (free_port(), free_port()) for name in NAMES}
        self._etcd, self._peer = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def launch_etcd(self) -> None:
        client, peer = f"http://{self._etcd}", f"http://{self._peer}"
        self._launch(
            _ETCD,
            [
                require_program("etcd", package="etcd-server"),
                f"--data-dir={self._place / _ETCD}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
            ],
        )

    def launch(self, name: str) -> None:
        """A Patroni, which starts its server when it knows what that has to be."""
        config = self._place / f"{name}.json"
        config.write_text(json.dumps(self._config(name)))  # all JSON is YAML
        self._launch(name, [require_program("patroni"), str(config)])

    def _launch(self, name: str, command: list[str]) -> None:
        with (self._place / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self._place,
                **who(),
            )
        self._processes[name] = process
        self._reaper.started(process.pid)

    def _config(self, name: str) -> Mapping[str, object]:
        port, api = self._ports[name]
        log_in = {"username": "postgres"}
        return {
            "scope": "relay",
            "name": name,
            "restapi": {"listen": f"127.0.0.1:{api}", "connect_address": f"127.0.0.1:{api}"},
            "etcd3": {"host": self._etcd},
            "bootstrap": {
                "dcs": DYNAMIC,
                "initdb": ["data-checksums", "no-sync", {"locale": "C.UTF-8"}, {"wal-segsize": "1"}],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{port}",
                "connect_address": f"127.0.0.1:{port}",
                "data_dir": str(self._place / name),
                "bin_dir": str(binaries()),
                "pgpass": str(self._place / f"{name}.pass"),
                "authentication": {"superuser": log_in, "replication": log_in, "rewind": log_in},
                "parameters": {"unix_socket_directories": str(self._place)},
                "pg_hba": [
                    f"host all {ROLE} 127.0.0.1/32 scram-sha-256",
                    "host all,replication postgres 127.0.0.1/32 trust",
                    "local all postgres trust",
                ],
            },
        }

    # How it is.

    def cluster(self) -> Mapping[str, Mapping[str, Any]]:
        """What the first Patroni that answers says of each."""
        for name in NAMES:
            _, api = self._ports[name]
            with (
                suppress(OSError, ValueError),
                urlopen(f"http://127.0.0.1:{api}/cluster", timeout=5) as answer,
            ):
                return {member["name"]: member for member in json.load(answer)["members"]}
        return {}

    def primary(self) -> str | None:
        """By what the servers say, and not Patroni."""
        for name in NAMES:
            with suppress(psycopg.Error):
                if self.execute(name, "SELECT pg_is_in_recovery()") == [(False,)]:
                    return name
        return None

    def wait_whole(self) -> str:
        """Until there is a primary, and both others are standbys that stream from it, one of them synchronous. The
        primary."""
        found = ""

        def is_whole() -> bool:
            nonlocal found
            primary = self.primary()
            if primary is None:
                return False
            found = primary
            with suppress(psycopg.Error):
                states = self.execute(primary, "SELECT state, sync_state FROM pg_stat_replication")
                return sorted(states) == [("streaming", "async"), ("streaming", "sync")]
            return False

        self._wait_until(is_whole, "a primary and two standbys")
        return found

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < end, f"{what}: {self.cluster()}"
            time.sleep(0.05)

    def execute(self, name: str, sql: str, database: str = "postgres") -> list[Any]:
        port, _ = self._ports[name]
        at = f"host=127.0.0.1 port={port} user=postgres dbname={database} connect_timeout=2"
        with psycopg.connect(at, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    # For the relays.

    def make_database(self) -> str:
        primary = self.wait_whole()
        name = f"relay{next(self._numbers)}"
        if not self.execute(primary, f"SELECT FROM pg_roles WHERE rolname = '{ROLE}'"):
            self.execute(primary, f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor")
        self.execute(primary, f"CREATE DATABASE {name} OWNER {ROLE}")
        hosts, ports = ",".join(["127.0.0.1"] * 3), ",".join(str(self._ports[name][0]) for name in NAMES)
        return f"host={hosts} port={ports} dbname={name} user={ROLE} password={PASSWORD}"

    # What befalls it.

    def kill_server(self, name: str) -> None:
        """`kill -9` of all of PostgreSQL's processes. Its Patroni goes on."""
        with suppress(OSError, ValueError):
            pid = int((self._place / name / "postmaster.pid").read_text().split()[0])
            signal_all(pid, signal.SIGKILL)

    def kill_etcd(self) -> None:
        self._kill(_ETCD)

    def kill(self, name: str) -> None:
        """The same, and of its Patroni."""
        self._kill(name)

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name)
        signal_all(process.pid, signal.SIGSTOP)
        self.kill_server(name)
        signal_all(process.pid, signal.SIGKILL)
        process.wait()
        self._reaper.ended(process.pid)

    def switch_over(self, primary: str) -> None:
        """As an operator orders it, to whichever standby is synchronous."""
        _, api = self._ports[primary]
        request = Request(
            f"http://127.0.0.1:{api}/switchover",
            json.dumps({"leader": primary}).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            answer.read()

    def mend(self) -> None:
        """What an operator does: whatever machine is off is switched on. Returned: Patroni has done the rest."""
        if _ETCD not in self._processes:
            self.launch_etcd()
        for name in NAMES:
            if name not in self._processes:
                self.launch(name)
        self.wait_whole()

    def end(self) -> None:
        for name in list(self._processes):
            self.kill(name)


@contextmanager
def open_managed_servers() -> Iterator[ManagedServers]:
    """All three, whole."""
    require_postgres()
    place = Path(tempfile.mkdtemp(prefix="patroni-", dir=memory()))
    if owner := who():
        shutil.chown(place, owner["user"], owner["group"])
    reaper = Reaper(place)
    servers = ManagedServers(place, reaper)
    try:
        servers.launch_etcd()
        for name in NAMES:
            servers.launch(name)
        servers.wait_whole()
        yield servers
    finally:
        servers.end()
        reaper.reap()
