"""The clock of a machine is off, in a process of its own, against PostgreSQL: it leads no more, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes.test_processes import SECONDS_MAX, check_logs_are_one
from tests.world.node_processes import NodeProcesses
from tests.world.postgres import Servers, open_servers
from tests.world.process import wait_until


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with open_servers() as opened:
        yield opened


@pytest.mark.timeout(SECONDS_MAX)
# What an answer takes is in favour of the clock, so it is off by more than that.
@pytest.mark.parametrize("seconds", ["60", "-3600"])
def test_a_leader_whose_clock_goes_off_ends_and_does_not_lead_again_until_it_is_right(
    tmp_path: Path, servers: Servers, seconds: str
) -> None:
    nodes = NodeProcesses(tmp_path, servers, route="127.0.0.1:1")
    one, two, _ = nodes.all
    nodes.all = [one, two]
    off = tmp_path / "off"
    one._command[1:] = ["-m", "tests.world.sabotage", "clock", str(off)]
    with one.running():
        assert nodes.wait_led() is one
        with two.running():
            (tmp_path / "new").write_text(seconds)
            (tmp_path / "new").rename(off)
            assert one.wait() == 75
            assert "clock is" in one.output
            assert nodes.wait_led(1) is two
            one.start()
            one.wait_logged("node.clock_off")
            listed = two.command("node", "list")
            assert "its clock is" in listed
            two.kill()
            wait_until(
                lambda: any(
                    "clock is off" in line["because"] for line in one.log_lines("node.does_not_lead")
                ),
                lambda: one.output,
            )
            assert nodes.times_led(one) == 1
            off.unlink()
            assert nodes.wait_led(2) is one
            two.start()
            for node in nodes.all:
                assert node.stop() == 0
    check_logs_are_one([node.directory for node in nodes.all])
