"""One server without standbys, of which the operator says that its provider keeps what it was told: with a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.nodes.test_founding_on_postgres import make_node
from tests.world.daemon import free_port
from tests.world.http import Answer, open_http
from tests.world.postgres import Servers, open_servers
from tests.world.process import RelayProcess, configure, make_process_directory

WORD = "that what was acknowledged outlives a server is your word for the provider"


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Only the primary is left, and what it does below PostgreSQL no setting shows."""
    with open_servers() as opened:
        for standby in opened.standbys:
            standby.kill()
        for name in ("fsync", "full_page_writes"):
            opened.primary.set(name, "off")
        opened.primary.set("synchronous_standby_names", "")
        yield opened


def test_it_is_used_on_the_operators_word_alone(tmp_path: Path, servers: Servers) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "one", route="127.0.0.1:9"))
    credentials = relay.enrol()
    make_node(relay.directory, servers.make_database(), door=f"127.0.0.1:{free_port()}")
    refused = relay.run_command("node", "found", str(relay.directory))
    assert refused.returncode == 1
    for setting in ("fsync is off", "full_page_writes is off", "synchronous_standby_names is empty"):
        assert setting in refused.stderr
    configure(relay.directory, nodes="provider_is_durable = true")
    relay.command("node", "found")

    async def send() -> Answer:
        async with open_http(relay.address) as http:
            return await http.post_send(credentials, to=["friend@example.com"], text="x")

    with relay.running():
        relay.wait_logged("node.leads")
        assert trio.run(send).status == 200
        doctor = relay.run_command("doctor", str(relay.directory)).stdout
        assert WORD in " ".join(doctor.split())
        # Those that are named and do not answer are told, too.
        assert " ".join(doctor.split()).count("after a failover to it there is no database") == 2
        # Nothing is answered that the server does not even wait for its own disk with.
        servers.primary.set("synchronous_commit", "off")
        # The server's process that the relay talks to may hear of it a moment later.
        relay.wait_until(lambda: trio.run(send).status == 503, "refuses")
        doctor = relay.run_command("doctor", str(relay.directory)).stdout
        assert "synchronous_commit is off, and must be on or remote_apply" in " ".join(doctor.split())
        servers.primary.set("synchronous_commit", "on")
        relay.wait_until(lambda: trio.run(send).status == 200, "accepts again")
        assert relay.stop() == 0
