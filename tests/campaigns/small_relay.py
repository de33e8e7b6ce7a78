"""The relay of a round of `make crash`: its members, its receivers, and its settings."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tests.campaigns.tally import Violation
from tests.world.internet import Host
from tests.world.mx import Mx
from tests.world.process import RelayProcess, make_process_directory

MEMBERS = {f"did:plc:{letter * 24}": f"{name}.example" for letter, name in (("a", "forum"), ("b", "shop"))}
#: What a recipient may be, and how often in a hundred. Those with a count relent after it.
MOODS = {
    "friend": 72, "tempfail": 4, "permfail": 4, "disconnect-in-data-1": 2, "disconnect-after-dot-1": 3,
    "defer-message-1": 2, "refuse-message": 2, "421-1": 1, "garbage-1": 1, "reset-1": 2, "refuse-early": 1,
    "close-after-message": 2, "slow": 2, "hang-1": 1, "hang-after-dot-1": 1,
}  # fmt: skip
HOSTS = {"plain.example": "plain", "tls.example": "tls", "picky.example": "picky"}
SETTINGS = {
    "retry": "delays_seconds = [1]",
    # So that rotation happens all the time.
    "spool": "segment_bytes = 300000\nfree_bytes_min = 8000000",
    "service": "grace_seconds = 2",
}
#: Rates are not what this is about.
NO_PAUSES = "\n[reputation]\nmessages_min = 1000000\n"


@cache
def _enrolled() -> tuple[Path, dict[str, dict[str, str]]]:
    """A data directory with its members, and their credentials: made once, for each enrolment is a process."""
    parent = Path(tempfile.mkdtemp(prefix="life-template-"))
    atexit.register(shutil.rmtree, parent)
    relay = RelayProcess(make_process_directory(parent / "data", route="127.0.0.1:9", **SETTINGS))
    return relay.directory, {did: relay.enrol(did, domain) for did, domain in MEMBERS.items()}


def waited_for_a_core(pid: int) -> float:
    """For how many seconds the process's main thread was ready to run and did not (Linux, sched-stats.rst)."""
    _, waiting, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(waiting) / 1e9


def _by_its_word(host: Host) -> Any:
    return lambda address, offer: Mx.misbehaviour(host, address)


def _refuse(sentences: list[str]) -> None:
    if sentences:
        raise Violation("\n".join(sentences))
