"""A relay in a process of its own: the real command, the real disk, real sockets, and real ways to die.

    relay = RelayProcess(make_process_directory(tmp_path / "data", route=mx.address))
    credentials = relay.enrol()
    with relay.running():
        ...
        relay.kill()          # as `kill -9`
        relay.start()         # on the same directory
        assert relay.stop() == 0

Every wait is bounded and ends in an exception that shows what the relay had to say. The methods block: a test whose
receiver or clients live in a trio loop calls those that wait through `trio.to_thread.run_sync`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relay.config import CONFIG_FILE
from relay.file_names import HTTP_ADDRESS_FILE
from tests.world.relay import DID, DOMAIN, OPERATOR_DOMAIN, make_directory

#: Nothing here takes nearly that long, even where other tests and campaigns keep all cores busy; it is what tells a
#: hanging relay from a slow machine. Less than a test's limit, which tells nothing of what the relay had to say.
PATIENCE_SECONDS = 150.0

#: Of relays whose test says nothing of it: `EDGES=1 python -m pytest tests/service` runs the same tests by edges.
EDGES = int(os.environ.get("EDGES", "0"))

#: A young domain may send two mails an hour, which is no load.
NO_WARMING = "\n[warming]\ntiers = [ { hour = 1000000, day = 1000000 } ]\n"


def make_process_directory(
    directory: Path, *, route: str, operator_domain: str = OPERATOR_DOMAIN, **settings: str
) -> Path:
    """A data directory that routes everything to `route` and knows no warming.

    `settings` are lines of TOML by table: `service="grace_seconds = 1"`.
    """
    make_directory(directory, NO_WARMING, route=route, operator_domain=operator_domain)
    configure(directory, service=f"edges = {EDGES}")
    configure(directory, **settings)
    return directory


def configure(directory: Path, **settings: str) -> None:
    """Put lines of TOML into tables of `relay.toml`, in the place of what stands there for the same keys."""
    path = directory / CONFIG_FILE
    text = path.read_text()
    for table, lines in settings.items():
        before, header, after = text.partition(f"\n[{table}]\n")
        assert header, f"{path} has no table [{table}]"
        for line in lines.splitlines():
            key = re.escape(line.partition("=")[0].strip())
            own, following, others = after.partition("\n[")
            after = re.sub(rf"^{key} *=.*\n", "", own, flags=re.MULTILINE) + following + others
        text = f"{before}{header}{lines}\n{after}"
    path.write_text(text)


class RelayProcess:
    """The relay on one directory, through all the processes that serve it one after the other.

    `command` is what to run instead of the relay's own command: a sabotaged one.
    """

    def __init__(self, directory: Path, *, command: Sequence[str] = ("-m", "relay")) -> None:
        self.directory = directory
        #: All that the processes wrote to standard error.
        self.output_file = directory.with_name(directory.name + ".stderr")
        self.address = ""
        self._command = [sys.executable, *command]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        return self.output_file.read_text() if self.output_file.exists() else ""

    def log_lines(self, event: str) -> list[dict[str, Any]]:
        """The lines of the application log with this event, as far as they are whole: the relay may be writing one."""
        whole = self.output.rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def run_from_now_on(self, *command: str) -> None:
        """From the next start on: a relay of another version, say."""
        self._command = [sys.executable, *command]

    @contextmanager
    def running(self) -> Iterator[RelayProcess]:
        """Started; whatever process is left at the end of the block is killed."""
        try:
            self.start()
            yield self
        finally:
            self.kill()

    def start(self) -> None:
        """Returns when it serves HTTP at `address`."""
        self.launch()
        self.wait_serving()

    def wait_serving(self) -> None:
        """From `launch` on until it serves HTTP at `address`."""
        path = self.directory / HTTP_ADDRESS_FILE

        def ready() -> bool:
            if not self.is_running:
                raise AssertionError(f"the relay ended: {self.output}")
            return path.exists() and path.read_text().endswith("\n")

        self.wait_until(ready, "serves")
        self.address = path.read_text().strip()

    def launch(self) -> None:
        """Start the process and wait for nothing."""
        assert not self.is_running
        (self.directory / HTTP_ADDRESS_FILE).unlink(missing_ok=True)  # a killed relay leaves it behind
        with self.output_file.open("ab") as output:
            self._process = subprocess.Popen([*self._command, "serve", str(self.directory)], stderr=output)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self.wait()

    def terminate(self) -> None:
        """SIGTERM, without waiting for what it does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit status."""
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the relay does not end: {self.output}") from None

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.terminate()
        return self.wait()

    def wait_logged(self, event: str) -> None:
        """Wait for a line of the application log."""
        self.wait_until(lambda: bool(self.log_lines(event)), f"logs {event}")

    def enrol(self, did: str = DID, domain: str = DOMAIN) -> dict[str, str]:
        """Enrol a member by the command line, whether or not the relay runs; returns its credentials."""
        answer = self.command("member", "add", "--did", did, "--domain", domain, "--offline", "--json")
        return {"X-Atmos-DID": did, "Authorization": f"Bearer {json.loads(answer)['apiKey']}"}

    def command(self, group: str, name: str, *options: str) -> str:
        """What `atmos-relay GROUP NAME DIR OPTIONS` prints."""
        done = self.run_command(group, name, str(self.directory), *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "relay", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def workers(self, role: str) -> list[int]:
        """Process ids of its children of this role, `edge` or `courier`, that have not ended, the oldest first."""
        return sorted(
            pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if self._is_worker(pid, role)
        )

    def _is_worker(self, pid: int, role: str) -> bool:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return False  # it has ended while it was looked at
        is_child = f"\nPPid:\t{self.pid}\n" in status and "\nState:\tZ" not in status
        return is_child and any(argument.startswith(f"{role} ".encode()) for argument in arguments)

    def memory_peak_bytes(self) -> int:
        """The most memory that the process has ever held."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def wait_open_files(self, count: int) -> None:
        """Wait until it has no more than so many files and sockets open."""
        self.wait_until(lambda: self.open_files() <= count, f"has at most {count} files open")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, lambda: f"{what}. {self.output}")


def wait_until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Poll, for files and other processes change without telling anybody. `what` is said where they never do."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {PATIENCE_SECONDS:.0f} s: {what()}")
        time.sleep(0.01)
