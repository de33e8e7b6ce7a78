"""What the kernel keeps from real edges and couriers, whatever somebody makes them do."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.processes import landlock
from tests.world.process import RelayProcess, make_process_directory

COMMAND = ("-m", "tests.processes.prying")


@pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
def test_an_edge_reads_no_key_and_neither_writes_anything(tmp_path: Path) -> None:
    directory = make_process_directory(
        tmp_path / "data", route="127.0.0.1:9", service="edges = 1\ncouriers = 1"
    )
    relay = RelayProcess(directory, command=COMMAND)
    relay.enrol()
    with relay.running():
        relay.wait_until(lambda: len(relay.log_lines("worker.ready")) == 2, "both are ready")
        assert relay.stop() == 0
    worked = {line["process"]: line["worked"] for line in relay.log_lines("worker.pried")}
    assert worked == {"edge 1": ["read the log"], "courier 1": ["read a key", "read the log"]}
