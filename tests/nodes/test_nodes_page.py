"""docs/NODES.md, typed from its beginning to its end, with real servers and a relay that runs."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.config import parse_node
from relay.config_nodes import OWN
from tests.house.test_docs import of, run
from tests.nodes.test_founding_on_postgres import make_node
from tests.world.daemon import free_port
from tests.world.pages import DOCS, Example
from tests.world.postgres import Servers, open_servers
from tests.world.process import RelayProcess, make_process_directory


@pytest.fixture
def servers() -> Iterator[Servers]:
    with open_servers() as opened:
        yield opened


def test_the_page(tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = tmp_path / "bin" / "atmos-relay"
    command.parent.mkdir()
    # It keeps what it is shown once, as an operator would.
    command.write_text(
        "#!/bin/bash\nset -o pipefail\n"
        f'{shlex.quote(sys.executable)} -m relay "$@" | tee said\nstatus=$?\n'
        "grep -q '^Code' said && sed -n 's/^Code, shown only now:  //p' said > CODE\nexit $status\n"
    )
    command.chmod(0o755)
    directory = make_process_directory(tmp_path / "DIR", route="127.0.0.1:9")
    relay = RelayProcess(directory)
    relay.enrol()
    make_node(directory, servers.make_database(), door=f"127.0.0.1:{free_port()}")
    environment = {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parent.parent.parent),
    }
    typed: list[Example] = of("NODES.md")
    assert len(typed) == 9
    found, *others, leave = typed
    run(found, environment)
    with relay.running():
        relay.wait_logged("node.leads")
        for example in others:
            run(example, environment)
        assert relay.stop() == 0
    run(leave, environment)


def test_the_node_toml_of_the_page_is_one() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (DOCS / "NODES.md").read_text(), re.DOTALL)
    own = parse_node(text)
    assert {table for table in own.__struct_fields__ if f"[{table}]" in text} == {
        name.partition(".")[0] for name in OWN
    }
