"""A core whose edges serve: it knows all that can be asked for, and has not loaded what it does not serve with."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.world.process import PATIENCE_SECONDS

SAY = """
import json, sys
{imported}
from relay.registry import DECISIONS
print(json.dumps([sorted(DECISIONS), sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


def known_after(imported: str) -> tuple[list[str], list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", SAY.format(imported=imported)],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    decisions, packages = json.loads(done.stdout)
    return decisions, packages


def test_it_knows_every_decision_and_loads_no_web_server() -> None:
    decisions, packages = known_after("import relay.service")
    assert not {"hypercorn", "quart", "quart_trio"} & set(packages)
    with_doors, more = known_after("import relay.service, relay.doors")
    assert {"hypercorn", "quart"} <= set(more)
    assert decisions == with_doors
    assert "send" in decisions
