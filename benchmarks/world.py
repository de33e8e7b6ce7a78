"""What the benchmarks run against: a real relay process on a directory of its own, with one member enrolled."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
DOMAIN = "yourdomain.com"


class Memory(NamedTuple):
    """Resident memory in bytes."""

    #: The process's own.
    anonymous: int
    #: Pages of mapped files: the views, shared with the page cache, which the kernel takes back when it needs them.
    file: int

    @property
    def total(self) -> int:
        return self.anonymous + self.file


class RelayProcess(NamedTuple):
    address: str
    directory: Path
    api_key: str
    pid: int

    def cpu_seconds(self) -> float:
        """What the relay has used so far, all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> Memory:
        status = Path(f"/proc/{self.pid}/status").read_text()
        kib = {
            name: int(value) for name, value in re.findall(r"^Rss(\w+):\s+(\d+) kB$", status, re.MULTILINE)
        }
        return Memory(kib["Anon"] * 1024, kib["File"] * 1024)

    @property
    def credentials(self) -> dict[str, str]:
        return {"X-Atmos-DID": DID, "Authorization": f"Bearer {self.api_key}"}


@contextmanager
def relay_process(
    *,
    route: str,
    routes: Mapping[str, str] = MappingProxyType({}),
    settings: str = "",
    http: str = "",
    fill: Callable[[Path], None] | None = None,
) -> Iterator[RelayProcess]:
    """A relay that sends everything to `route` (host:port), but for the domains in `routes`. `settings` is more TOML,
    `http` more lines of its table; `fill` is given its directory before it is served."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-", dir=os.environ.get("BENCH_DIR")) as name:
        directory = Path(name) / "data"
        _command("init", str(directory))
        config = directory / "relay.toml"
        text = config.read_text()
        text = text.replace("require_verified_domains = true", "require_verified_domains = false")
        text = text.replace("127.0.0.1:8025", "127.0.0.1:0")
        text = text.replace("[http]\n", f"[http]\n{http}")
        table = ", ".join(f'"{domain}" = "{target}"' for domain, target in {**routes, "*": route}.items())
        text = text.replace("[delivery]\n", f"[delivery]\nroutes = {{ {table} }}\n")
        # The receiver may be one that never answers: no grace for it.
        text = text.replace("# grace_seconds = 30", "grace_seconds = 0")
        config.write_text(
            text + "\n[warming]\ntiers = [ { hour = 1000000000, day = 1000000000 } ]\n" + settings
        )
        enrolled = json.loads(
            _command("member", "add", str(directory), "--did", DID, "--domain", DOMAIN, "--offline", "--json")
        )
        if fill is not None:
            fill(directory)
        with (directory / "stderr").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "relay", "serve", str(directory)], stderr=errors
            )
        try:
            address = wait_for_address(directory, process)
            yield RelayProcess(address, directory, enrolled["apiKey"], process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


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


def _command(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "relay", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{arguments[0]} failed: {done.stderr}")
    return done.stdout


def wait_for_address(directory: Path, process: subprocess.Popen[bytes]) -> str:
    path = directory / "http.address"
    while not path.exists() or not path.read_text().endswith("\n"):
        if process.poll() is not None:
            raise RuntimeError(f"the relay ended: {(directory / 'stderr').read_text()}")
        time.sleep(0.02)
    return path.read_text().strip()
