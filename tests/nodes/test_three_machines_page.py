"""Three servers on Debian, as docs/NODES.md sets them up, on loopback: three data directories, three ports.

Each machine is a directory. Debian's own tools make and start a server in it, as its package would, and the programs
that an operator has as root (`sudo`, `systemctl`, `apt-get`) do there what they can do without systemd.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.nodes.test_two_relays import make_first, wait_led
from tests.world.daemon import free_port, open_daemon_directory, require_daemon
from tests.world.operator import good
from tests.world.pages import DOCS
from tests.world.postgres import binaries, memory, require_postgres
from tests.world.process import PATIENCE_SECONDS, RelayProcess, wait_until
from tests.world.reaper import Reaper, release_memory, signal_all
from tests.world.relay import DID, OTHER_DID

NAMES: Final = ("a", "b", "c")
#: A block that is typed, and at which machines.
_BLOCK: Final = re.compile(r"^```sh on ([a-z ]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONNINFO: Final = re.compile(r"^    (host=a\.example,.*)$", re.MULTILINE)
_HOSTS: Final = "host=a.example,b.example,c.example"


def version() -> str:
    return binaries().parent.name


class Machine:
    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.port = free_port()
        self.files = {
            "/root": directory / "root",
            f"/etc/postgresql/{version()}/main": directory / "etc" / version() / "main",
            f"/var/lib/postgresql/{version()}/main": directory / "main",
        }
        for path in (directory, directory / "etc", directory / "root", directory / "bin"):
            path.mkdir()
        shutil.chown(directory, "postgres")
        shutil.chown(directory / "etc", "postgres")
        # To stop what does not run is no failure: pg_ctlcluster(1) has 2 for it.
        self._write(
            "systemctl", f'pg_ctlcluster --skip-systemctl-redirect {version()} main "$1" || [ $? = 2 ]'
        )
        self._write("sudo", 'shift 2\nexec runuser -u postgres -- "$@"')
        # What its package does when it is installed.
        options = f"-s {directory} -l {directory}/log -p {self.port} -o dynamic_shared_memory_type=mmap"
        make = f"pg_createcluster -d {directory}/main {options}"
        begin = f"pg_ctlcluster --skip-systemctl-redirect {version()} main start"
        self._write("apt-get", f"{make} {version()} main\n{begin}")

    def _write(self, name: str, text: str) -> None:
        path = self.directory / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def type(self, text: str) -> str:
        """What a shell of root's prints."""
        done = subprocess.run(
            ["bash", "-e", "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_SECONDS,
            cwd=self.directory,
            env={
                **os.environ,
                "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin",
                "PG_CLUSTER_CONF_ROOT": str(self.directory / "etc"),
                "PGHOST": str(self.directory),
                "PGPORT": str(self.port),
            },
        )
        assert done.returncode == 0, (self.name, text, done.stdout)
        return done.stdout

    def ask(self, sql: str) -> str:
        return self.type(f'sudo -u postgres psql -At -c "{sql}"').strip()

    @property
    def process(self) -> int | None:
        """That of its server, where it runs, or was killed."""
        path = self.directory / "main" / "postmaster.pid"
        return int(path.read_text().split()[0]) if path.exists() else None


class Machines:
    def __init__(self, directory: Path, reaper: Reaper) -> None:
        self.all = {name: Machine(name, directory / name) for name in NAMES}
        self._reaper = reaper
        page = (DOCS / "NODES.md").read_text()
        self._blocks = iter(_BLOCK.findall(page))
        (self.conninfo,) = map(self._on_loopback, _CONNINFO.findall(page))

    def _on_loopback(self, text: str) -> str:
        ports = ",".join(str(machine.port) for machine in self.all.values())
        here = f"{_HOSTS} hostaddr=127.0.0.1,127.0.0.1,127.0.0.1 port={ports}"
        text = text.replace(_HOSTS, here).replace("10.0.0.0/24", "127.0.0.1/32")
        return text.replace(
            "/etc/postgresql/15/main", str(self.all["a"].files[f"/etc/postgresql/{version()}/main"])
        )

    def next(self, *, at: str | None = None) -> dict[str, str]:
        """Type the next block of the page, at the machines that it says, or at another one; what each has printed."""
        where, text = next(self._blocks)
        names = NAMES if where == "each" else tuple(where.split(" and "))
        return {name: self._type(self.all[name], text) for name in ([at] if at is not None else names)}

    def again(self, beginning: str, *, at: str) -> None:
        """Type a block of before once more, the one that begins so."""
        (text,) = (
            text for _, text in _BLOCK.findall((DOCS / "NODES.md").read_text()) if text.startswith(beginning)
        )
        self._type(self.all[at], text)

    def _type(self, machine: Machine, text: str) -> str:
        text = re.sub(r"^name=[abc]$", f"name={machine.name}", text, flags=re.MULTILINE)
        for path, here in machine.files.items():
            text = text.replace(path.replace(f"/{version()}/", "/15/"), str(here))
        said = machine.type(self._on_loopback(text).replace("/postgresql/15/", f"/postgresql/{version()}/"))
        if machine.process is not None:
            self._reaper.started(machine.process)
        return said

    def carry(self, source: str) -> None:
        """What an operator carries from there to the others."""
        for name, machine in self.all.items():
            if name != source:
                for file in ("authority.pem", f"{name}.pem", f"{name}.key"):
                    shutil.copy(self.all[source].directory / "root" / file, machine.directory / "root" / file)

    def lose(self, name: str) -> None:
        process = self.all[name].process
        assert process is not None
        signal_all(process, signal.SIGKILL)
        release_memory(self.all[name].directory / "main")
        self._reaper.ended(process)

    def wait_standing_by(self, primary: str, names: set[str]) -> None:
        asked = (
            "SELECT string_agg(application_name, ' ') FROM pg_stat_replication WHERE sync_state = 'quorum'"
        )
        wait_until(
            lambda: set(self.all[primary].ask(asked).split()) == names,
            lambda: f"{names} stand by at {primary}. {(self.all[primary].directory / 'log').read_text()}",
        )


@pytest.fixture
def machines() -> Iterator[Machines]:
    require_postgres()
    require_daemon("pg_createcluster")
    with open_daemon_directory("pg", owner="postgres", below=memory()) as directory:
        reaper = Reaper(directory / "all")
        (directory / "all").mkdir()
        shutil.chown(directory / "all", "postgres")
        try:
            yield Machines(directory / "all", reaper)
        finally:
            reaper.reap()


def test_three_servers_on_debian(machines: Machines, tmp_path: Path) -> None:
    machines.next()
    machines.next()
    machines.carry("a")
    for _ in range(3):
        machines.next()
    machines.wait_standing_by("a", {"b", "c"})
    machines.next()

    directory = make_first(tmp_path / "one", machines.conninfo)
    good("node", "found", directory)
    relay = RelayProcess(directory)
    with relay.running():
        wait_led(directory, "one")
        good("key", "issue", directory, "--did", DID)

        machines.lose("a")
        says = machines.next()
        most = max(says, key=lambda name: _lsn(says[name]))
        machines.next(at=most)
        other = "c" if most == "b" else "b"
        machines.wait_standing_by(most, {other})
        # The relay finds it, too, and goes on.
        good("member", "add", directory, "--offline", "--did", OTHER_DID, "--domain", "b.example")
        machines.again("name=b", at="a")
        machines.wait_standing_by(most, {"a", other})
        assert relay.stop() == 0


def _lsn(text: str) -> int:
    high, _, low = text.strip().partition("/")
    return (int(high, 16) << 32) + int(low, 16)
