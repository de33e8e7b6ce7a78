"""docs/alerts.yaml and docs/grafana.json are loaded by Prometheus' own tool and by Grafana's own types, and ask for
numbers that a relay has."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from relay import alarms
from tests.nodes.beside_a_leader import numbers_of_node
from tests.world.daemon import require_daemon
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory

DOCS = Path(__file__).parent.parent.parent / "docs"
ALERTS = DOCS / "alerts.yaml"
DASHBOARD = json.loads((DOCS / "grafana.json").read_text())

#: A day in the life of a relay, and which rules are to fire when.
STORY = Path(__file__).parent / "alerts_story.yaml"


def promtool(*arguments: str, at: Path) -> str:
    done = subprocess.run(
        [require_daemon("promtool"), *arguments],
        cwd=at,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a relay's page of numbers says of itself."""
    relay = RelayProcess(
        make_process_directory(tmp_path_factory.mktemp("relay") / "data", route="127.0.0.1:9")
    )
    with relay.running():
        return requests.get(f"http://{relay.address}/metrics", timeout=PATIENCE_SECONDS).text


@pytest.fixture(scope="module")
def exposed_by_node(tmp_path_factory: pytest.TempPathFactory) -> str:
    return numbers_of_node(tmp_path_factory.mktemp("nodes"))


def names_in(expression: str) -> list[str]:
    return [re.sub(r"_bucket$", "", name) for name in re.findall(r"\batmos_[a-z_]+", expression)]


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_prometheus_takes_the_alerts_and_they_fire_when_they_are_to(tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(ALERTS.read_text())
    (tmp_path / "story.yaml").write_text(STORY.read_text())
    assert "SUCCESS" in promtool("check", "rules", "alerts.yaml", at=tmp_path)
    assert "SUCCESS" in promtool("test", "rules", "story.yaml", at=tmp_path)


def test_there_is_a_rule_for_every_alarm() -> None:
    found = re.findall(r'atmos_alarms\{name="([a-z_]+)"\}', ALERTS.read_text())
    assert sorted(found) == sorted(alarms.NAMES)


def test_prometheus_can_read_every_panel(tmp_path: Path) -> None:
    filled = [text.replace("$__rate_interval", "5m").replace('"$instance"', '".*"') for text in expressions()]
    assert len(filled) >= 20
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(filled)]
    # JSON is YAML.
    (tmp_path / "panels.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert "SUCCESS" in promtool("check", "rules", "panels.yaml", at=tmp_path)


def test_a_relay_has_every_number(exposed: str, exposed_by_node: str) -> None:
    wanted = {name for text in (*expressions(), *_rules()) for name in names_in(text)}
    assert len(wanted) >= 20
    for name in sorted(wanted):
        page = exposed_by_node if name.startswith("atmos_node_") else exposed
        assert re.search(rf"^# TYPE {name} ", page, re.MULTILINE), name


def _rules() -> list[str]:
    return [
        line
        for line in ALERTS.read_text().splitlines()
        if not line.strip().startswith(("#", "summary", "desc"))
    ]


def as_grafana_has_it(dashboard: dict[str, Any]) -> Any:
    """What its types do not know is not there any more."""
    return json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    def lost(ours: Any, theirs: Any, where: str) -> Iterator[str]:
        if isinstance(ours, dict) and isinstance(theirs, dict):
            for key, value in ours.items():
                yield from lost(value, theirs.get(key), f"{where}.{key}")
        elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
            for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                yield from lost(one, other, f"{where}[{number}]")
        elif ours != theirs:
            yield where

    assert list(lost(DASHBOARD, as_grafana_has_it(DASHBOARD), "")) == []
    # This way of looking sees what it is to see.
    wrong = {**DASHBOARD, "titel": "x", "panels": [{**DASHBOARD["panels"][0], "gridPosition": {}}]}
    assert sorted(lost(wrong, as_grafana_has_it(wrong), "")) == [".panels[0].gridPosition", ".titel"]


def test_no_two_panels_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
