"""Somebody changes rows by SQL: a node as a process of its own says so, to whoever looks, and goes on by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.nodes.test_processes import SECONDS_MAX, check_logs_are_one
from tests.world.node_processes import NodeProcesses
from tests.world.postgres import Servers, open_servers
from tests.world.process import RelayProcess, wait_until


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with open_servers() as opened:
        yield opened


def readiness(node: RelayProcess) -> tuple[int, dict[str, object]]:
    try:
        with urlopen(f"http://{node.address}/readyz") as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.timeout(SECONDS_MAX)
def test_what_somebody_changes_is_named_and_a_node_goes_on_when_it_is_right(
    tmp_path: Path, servers: Servers
) -> None:
    nodes = NodeProcesses(tmp_path, servers, route="127.0.0.1:1")
    one, two, _ = nodes.all
    nodes.all = [one, two]
    database = conninfo_to_dict(nodes._conninfo)["dbname"]

    def sql(statement: str) -> list[tuple[object, ...]]:
        return list(servers.primary.execute(statement, str(database)))

    with one.running():
        assert nodes.wait_led() is one
        one.enrol()
        sql("CREATE TABLE kept AS SELECT * FROM replicated_log.batches")
        ((last,),) = sql("SELECT max(first_seq) FROM kept")
        # What the lease says is right again with its next renewal.
        sql("UPDATE replicated_log.lease SET witnessed_seq = 9223372036854775807")
        sql(
            "UPDATE replicated_log.batches SET data = set_byte(data, 9, get_byte(data, 9) # 1) "
            f"WHERE first_seq = {last}"
        )
        with two.running():
            two.wait_logged("node.database_trouble")
            wait_until(lambda: "the row with sequences" in str(readiness(two)), lambda: str(readiness(two)))
            # It knows who leads, and has that one decide.
            wait_until(lambda: readiness(two)[1].get("accepting") is True, lambda: str(readiness(two)))
            assert readiness(two)[1]["role"] == "follower"
            listed = ""

            def is_listed() -> bool:
                nonlocal listed
                listed = one.command("node", "list")
                return "the row with sequences" in listed

            wait_until(is_listed, lambda: listed)
            sql(f"DELETE FROM replicated_log.batches WHERE first_seq = {last}")
            wait_until(
                lambda: "no row with the sequences" in str(readiness(two)), lambda: str(readiness(two))
            )
            sql(f"INSERT INTO replicated_log.batches SELECT * FROM kept WHERE first_seq = {last}")
            wait_until(lambda: readiness(two)[1].get("trouble", "") is None, lambda: str(readiness(two)))
            # The head is set back: who led ends when it appends, and nobody leads until it is right.
            sql("CREATE TABLE kept_head AS SELECT * FROM replicated_log.head")
            sql(
                "UPDATE replicated_log.head SET last_seq = first_seq - 1, chain = previous_chain "
                f"FROM kept WHERE first_seq = {last}"
            )
            one.kill()
            wait_until(
                lambda: "restored to an earlier time" in str(readiness(two)), lambda: str(readiness(two))
            )
            assert readiness(two)[0] == 200
            assert nodes.times_led(two) == 0
            sql(
                "UPDATE replicated_log.head SET last_seq = kept_head.last_seq, chain = kept_head.chain FROM kept_head"
            )
            assert nodes.wait_led(1) is two
            one.start()
            for node in nodes.all:
                assert node.stop() == 0
    check_logs_are_one([node.directory for node in nodes.all])
