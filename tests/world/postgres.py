"""PostgreSQL as Debian brings it: a primary and two standbys, which can be killed, stopped and promoted.

    with open_servers() as servers:
        table = PostgresTable(servers.make_database())
        servers.primary.kill()            # as `kill -9` of all its processes
        servers.fail_over()

Each server has a directory in memory, where there is room, a port on loopback, and a user that is not root. They are
set as the relay asks it of an operator: `ANY 1 (…)`, data checksums, wal_log_hints, no wal_recycle. A standby begins as
a copy of the files that the primary begins with, so that three servers are there in a second or two. Nothing is left
when the test's process ends, whatever ends it (`tests.world.reaper`). What waits blocks.

Where PostgreSQL is not installed, the test is skipped, or fails, as `tests.world.daemon` says.
"""

from __future__ import annotations

import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.world.daemon import free_port, require_file
from tests.world.process import PATIENCE_SECONDS, wait_until
from tests.world.reaper import Reaper, release_memory, signal_all

#: The one that relays log in as: no superuser, and in pg_monitor.
ROLE, PASSWORD = "relay", "not-to-be-logged"
NAMES = ("a", "b", "c")
#: For the three, with room for what tests do.
ROOM_BYTES = 2 << 30
#: To a server that is there, on a busy machine, too.
CONNECT_SECONDS = 60
SYNCHRONOUS = f"ANY 1 ({', '.join(NAMES)})"

_SETTINGS = f"""\
listen_addresses = '127.0.0.1'
synchronous_standby_names = '{SYNCHRONOUS}'
wal_log_hints = on
wal_recycle = off
wal_keep_size = 256MB
max_wal_senders = 10
# As it has to be where somebody subscribes.
wal_level = logical
shared_buffers = 16MB
max_connections = 60
huge_pages = off
# In its directory, which goes; what is elsewhere stays when it is killed.
dynamic_shared_memory_type = mmap
recovery_init_sync_method = syncfs
jit = off
autovacuum = off
log_min_messages = warning
# What an operator would leave alone, so that nobody here waits for seconds.
wal_retrieve_retry_interval = 100ms
"""
_HBA = f"""\
host all {ROLE} 127.0.0.1/32 scram-sha-256
host all,replication postgres 127.0.0.1/32 trust
"""
_ROLES = f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor;\n"


#: Whether a server is a standby, and of whom.
_FOLLOWS = """SELECT pg_is_in_recovery(), (
  SELECT substring(setting FROM 'port=([0-9]+)')::int FROM pg_settings WHERE name = 'primary_conninfo')"""


class Server:
    """One of them, through all the processes that serve its directory one after the other."""

    def __init__(self, name: str, directory: Path, reaper: Reaper) -> None:
        self.name = name
        self.directory = directory
        self.port = free_port()
        self._reaper = reaper
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        return self.directory.with_suffix(".log").read_text()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def execute(self, sql: str, database: str = "postgres") -> list[Any]:
        """As the superuser; its rows."""
        with self.connected(database) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def connected(self, database: str) -> psycopg.Connection[Any]:
        """As the superuser, each statement by itself; closed by `with`."""
        return psycopg.connect(self.conninfo(database), autocommit=True)

    def conninfo(self, database: str) -> str:
        """Of the superuser."""
        at = f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"
        return (
            f"{at} connect_timeout={CONNECT_SECONDS} options='-c statement_timeout={PATIENCE_SECONDS:.0f}s'"
        )

    def conninfo_of(self, standby: Server) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres application_name={standby.name}"

    def launch(self) -> None:
        assert not self.is_running
        (self.directory / "postmaster.pid").unlink(missing_ok=True)
        with self.directory.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [binaries() / "postgres", "-D", self.directory, "-p", str(self.port), "-k", ""],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,
                **who(),
            )
        self._reaper.started(self._process.pid)

    def wait_ready(self) -> None:
        """Until it answers questions."""

        def answers() -> bool:
            assert self.is_running, self.output
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                return False
            return True

        wait_until(answers, lambda: f"server {self.name} answers. {self.output}")

    def start(self) -> None:
        """As what it was last: a primary that was killed is one again."""
        self.launch()
        self.wait_ready()

    def kill(self) -> None:
        """All of its processes at once, stopped ones also. Nothing happens where it does not run."""
        if self._process is None:
            return
        signal_all(self._process.pid, signal.SIGKILL)
        self._process.wait()
        release_memory(self.directory)
        self._reaper.ended(self._process.pid)
        self._process = None

    def stop(self) -> None:
        """None of its processes does anything any more, until `go_on`. The kernel still takes what it is sent."""
        assert self._process is not None
        signal_all(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        signal_all(self._process.pid, signal.SIGCONT)

    def set(self, name: str, value: str) -> None:
        """A setting of a running server; returned: the server has it."""
        self.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.execute("SELECT pg_reload_conf()")
        wait_until(
            lambda: self.execute(f"SELECT current_setting('{name}')") == [(value,)],
            lambda: f"{name} of {self.name} is {value!r}",
        )

    def write_settings(self, **settings: str) -> None:
        """For when it starts. They win over those that were set."""
        with (self.directory / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def write_file(self, name: str, data: bytes) -> None:
        """In its directory, for itself alone."""
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_bytes(data)
        if owner := who():
            shutil.chown(path, owner["user"], owner["group"])

    @contextmanager
    def archived(self) -> Iterator[None]:
        """Beside it runs what writes its WAL to a disk, synchronously, and replays nothing: `pg_receivewal`. It counts
        as a standby where `synchronous_standby_names` lets it."""
        place = self.directory.with_suffix(".archive")
        place.mkdir(mode=0o700)
        if owner := who():
            shutil.chown(place, owner["user"], owner["group"])
        command = [binaries() / "pg_receivewal", "-D", place, "-d", self.conninfo(""), "--synchronous"]
        with subprocess.Popen(command, cwd=place, **owner) as process:
            self._reaper.started(process.pid)
            try:
                counted = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_receivewal'"
                wait_until(lambda: self.execute(counted) == [(1,)], lambda: "the WAL is received")
                yield
            finally:
                process.kill()
        self._reaper.ended(process.pid)
        shutil.rmtree(place)

    @contextmanager
    def subscribed(self) -> Iterator[None]:
        """A subscription, `copies`, to nothing in it, which says how much it has flushed. It counts as a standby where
        `synchronous_standby_names` lets it."""
        # In the server itself, so the slot is made apart: else the subscription would wait for itself.
        options = "create_slot = false, copy_data = false"
        with self.connected("postgres") as connection:
            connection.execute("SET synchronous_commit = local")
            connection.execute("CREATE PUBLICATION nothing")
            connection.execute("SELECT pg_create_logical_replication_slot('copies', 'pgoutput')")
            connection.execute("CREATE DATABASE copies")
        with self.connected("copies") as connection:
            connection.execute("SET synchronous_commit = local")
            conninfo = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
            connection.execute(
                f"CREATE SUBSCRIPTION copies CONNECTION '{conninfo}' PUBLICATION nothing WITH ({options})".encode()
            )
            counted = "SELECT count(flush_lsn) FROM pg_stat_replication WHERE application_name = 'copies'"
            try:
                wait_until(lambda: self.execute(counted) == [(1,)], lambda: "the subscription is there")
                yield
            finally:
                connection.execute("DROP SUBSCRIPTION copies")
        with self.connected("postgres") as connection:
            connection.execute("SET synchronous_commit = local")
            connection.execute("DROP DATABASE copies WITH (FORCE)")
            connection.execute("DROP PUBLICATION nothing")

    def stand_by(self, primary: Server) -> None:
        """Take what this one has from now on. It is not running."""
        (self.directory / "standby.signal").touch()
        self.write_settings(primary_conninfo=primary.conninfo_of(self))


class Servers:
    """One primary and two standbys, and who makes a standby the primary."""

    def __init__(self, all_: Sequence[Server]) -> None:
        self.all = all_
        self.primary = all_[0]
        self._numbers = itertools.count(1)

    @property
    def standbys(self) -> Sequence[Server]:
        return [server for server in self.all if server is not self.primary]

    def make_database(self) -> str:
        """An empty one, of ROLE, on the primary; how to connect to it."""
        name = f"relay{next(self._numbers)}"
        self.primary.execute(f"CREATE DATABASE {name} OWNER {ROLE}")
        return self.conninfo(name)

    def conninfo(self, database: str) -> str:
        hosts, ports = ",".join(["127.0.0.1"] * len(self.all)), ",".join(str(s.port) for s in self.all)
        return f"host={hosts} port={ports} dbname={database} user={ROLE} password={PASSWORD}"

    def drop_database(self, conninfo: str) -> None:
        """One of `make_database`, with all connections to it."""
        name = conninfo_to_dict(conninfo)["dbname"]
        self.primary.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def senders(self) -> list[int]:
        """The primary's processes that send to standbys."""
        return [pid for (pid,) in self.primary.execute("SELECT pid FROM pg_stat_replication")]

    def fail_over(self) -> Server:
        """Kill the primary, and promote the standby that has most; the other one follows it. The new primary."""
        old = self.primary
        old.kill()
        standbys = [server for server in self.standbys if server.is_running]
        new = max(
            standbys,
            key=lambda server: server.execute("SELECT pg_last_wal_receive_lsn() - '0/0'::pg_lsn")[0][0],
        )
        new.execute(f"SELECT pg_promote(true, {PATIENCE_SECONDS:.0f})")
        self.primary = new
        for server in standbys:
            if server is not new:
                server.set("primary_conninfo", new.conninfo_of(server))
        return new

    def mend(self) -> None:
        """As a good operator leaves it: the settings are right, all run, and follow the one primary. One that does not
        follow it gets a copy of its files."""
        if not self.primary.is_running:
            self.primary.start()
        self.primary.go_on()
        self.primary.set("synchronous_standby_names", SYNCHRONOUS)
        for standby in self.standbys:
            if standby.is_running:
                standby.go_on()
            if not (standby.is_running and standby.execute(_FOLLOWS) == [(True, self.primary.port)]):
                standby.kill()
                shutil.rmtree(standby.directory)
                _copy(self.primary, standby)
                standby.start()
        self.wait_replicating()

    def wait_replicating(self) -> None:
        """Until all that run, but for the primary, are its synchronous standbys."""
        counted = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"
        wanted = sum(server.is_running for server in self.standbys)
        wait_until(
            lambda: self.primary.execute(counted) == [(wanted,)],
            lambda: f"{wanted} standbys. {self.primary.output}",
        )


@contextmanager
def open_servers(place: Path | None = None) -> Iterator[Servers]:
    """Three, with nothing in them, ready. In `place` where it is given, on a disk whose syncs take their time, say."""
    require_postgres()
    directory = Path(tempfile.mkdtemp(prefix="postgres-", dir=place or memory()))
    reaper = Reaper(directory)
    servers = [Server(name, directory / name, reaper) for name in NAMES]
    try:
        directory.chmod(0o711)
        yield _begin(servers)
    finally:
        for server in servers:
            server.kill()
        reaper.reap()


def memory() -> Path:
    """A server that was killed syncs each of its files when it starts, which takes a disk its seconds. Nobody here cuts
    the power."""
    memory = os.statvfs("/dev/shm")
    return Path("/dev/shm" if memory.f_bavail * memory.f_frsize >= ROOM_BYTES else "/tmp")


def require_postgres() -> None:
    """Skips or fails the test where it is not there."""
    require_file(binaries() / "postgres", "apt-get install --no-install-recommends postgresql")


def _begin(servers: Sequence[Server]) -> Servers:
    primary, *standbys = servers
    _make_files(primary.directory)
    for standby in standbys:
        subprocess.run(["cp", "-a", primary.directory, standby.directory], check=True)
        standby.stand_by(primary)
    for server in servers:
        server.launch()
    for server in servers:
        server.wait_ready()
    found = Servers(servers)
    found.wait_replicating()
    return found


def _copy(primary: Server, standby: Server) -> None:
    """The files of a running one."""
    standby.directory.mkdir(mode=0o700)
    if owner := who():
        shutil.chown(standby.directory, owner["user"], owner["group"])
    command = [binaries() / "pg_basebackup", "-D", standby.directory, "-d", primary.conninfo("")]
    subprocess.run([*command, "--checkpoint=fast", "--no-sync"], check=True, cwd=standby.directory, **owner)
    standby.stand_by(primary)


def _make_files(directory: Path) -> None:
    """Those of a server that has nothing but the roles, and has been shut down."""
    command = [binaries() / "initdb", "-D", directory, "-U", "postgres", "--data-checksums", "--no-sync"]
    directory.mkdir(mode=0o700)
    if owner := who():
        shutil.chown(directory, owner["user"], owner["group"])
    options: dict[str, Any] = {"check": True, "capture_output": True, "cwd": directory, **owner}
    subprocess.run([*command, "--auth=trust", "--locale=C.UTF-8", "--wal-segsize=1"], **options)
    with (directory / "postgresql.conf").open("a") as file:
        file.write(_SETTINGS)
    (directory / "pg_hba.conf").write_text(_HBA)
    alone = [
        binaries() / "postgres",
        "--single",
        "-D",
        directory,
        "-c",
        "synchronous_standby_names=",
        "postgres",
    ]
    subprocess.run(alone, input=_ROLES.encode(), **options)


@functools.cache
def binaries() -> Path:
    """Those in POSTGRES_BIN; else of the newest that is installed; where there is none, a place that is not there."""
    if place := os.environ.get("POSTGRES_BIN"):
        return Path(place)
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    versions = sorted(found, key=lambda path: float(path.parent.parent.name))
    return versions[-1].parent if versions else Path("/usr/lib/postgresql/*/bin")


@functools.cache
def who() -> dict[str, Any]:
    """The user that servers run as: they refuse root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
