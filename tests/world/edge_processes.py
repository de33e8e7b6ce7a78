"""A real relay with real edges: which processes they are, and how they are killed and stopped.

relay = EdgeRelay(make_process_directory(tmp_path / "data", route=..., service="edges = 2"))
"""

from __future__ import annotations

import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.world.process import RelayProcess, wait_until


class EdgeRelay(RelayProcess):
    def edges(self) -> dict[str, int]:
        """Those that are ready and alive, by name: their process ids."""
        found: dict[str, int] = {}
        for line in self.log_lines("worker.ready"):
            if line["worker"].startswith("edge "):
                found[line["worker"]] = line["pid"]
        return {name: pid for name, pid in found.items() if is_alive(pid)}

    def wait_edges(self, count: int) -> dict[str, int]:
        self.wait_until(lambda: len(self.edges()) == count, f"{count} edges")
        return self.edges()

    def kill_edge(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        pid = self.edges()[name]
        os.kill(pid, number)
        return pid

    def wait_followed(self, name: str, pid: int) -> float:
        """Until another is ready in the place of one that ended; how many seconds after its end."""
        self.wait_until(lambda: self.edges().get(name, pid) != pid, f"another {name}")
        ended = [line for line in self.log_lines("worker.ended") if line["pid"] == pid]
        ready = [line for line in self.log_lines("worker.ready") if line["worker"] == name]
        return (_time(ready[-1]) - _time(ended[-1])).total_seconds()


def is_alive(pid: int) -> bool:
    """Not a zombie either."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end while it is looked at
        return False


def wait_dead(*pids: int) -> None:
    wait_until(lambda: not any(map(is_alive, pids)), lambda: f"{pids} have ended")


def _time(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(line["time"])
