"""Every page of both consoles, as the browser has it: whole, accessible, valid, as wide as the screen, and never more
than text where strangers wrote it.

The pages are those that the consoles' own routes name (`tests.browser.doors`).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.browsing import (
    HALF_LIGHT,
    NARROW_DARK,
    NARROW_LIGHT,
    WIDE_DARK,
    WIDE_LIGHT,
    Look,
    Tab,
    look,
)
from tests.browser.conftest import Door
from tests.browser.doors import GETS, Route
from tests.browser.filled import FilledRelay
from tests.world.process import PATIENCE_SECONDS

# The first test builds a relay with a past and a browser, where two of everything may be built at the same time.
pytestmark = pytest.mark.timeout(900)

HERE = Path(__file__).parent
VALIDATE = HERE / "node_modules" / ".bin" / "html-validate"
#: Of a page of one message, as it comes over the wire.
MESSAGE_BYTES_MAX = 30_000
#: The first two are the most unlike, and of the two the first is the hardest: narrow.
LOOKS = (NARROW_DARK, WIDE_LIGHT, NARROW_LIGHT, WIDE_DARK)
MEMBERS_OWN = [route.page for route in GETS if route.door == "member"]


@pytest.fixture(scope="module")
def tabs(chromium: Browser, doors: dict[str, Door]) -> Iterator[dict[tuple[str, str], Tab]]:
    """One for each console and look: to make one takes longer than to open a page."""
    with ExitStack() as stack:
        yield {
            (name, each.name): stack.enter_context(look(chromium, each, door.state))
            for name, door in doors.items()
            for each in LOOKS
        }


@pytest.mark.parametrize("route", GETS, ids=str)
def test_page(
    route: Route,
    relay: FilledRelay,
    doors: dict[str, Door],
    tabs: dict[tuple[str, str], Tab],
) -> None:
    faults: list[str] = []
    for number, path in enumerate(route.paths(relay)):
        for look_number, each in enumerate(_looks(route, number)):
            tab = tabs[route.door, each.name]
            response = tab.go(doors[route.door].url + path)
            where = f"{route.door} {path} {each.name}"
            assert response.status == 200, (where, tab.page.inner_text("body"))
            assert response.headers["cache-control"] == "no-store", where
            if look_number == 0 and route.page.path == "/messages/{message_id}":
                assert len(response.body()) <= MESSAGE_BYTES_MAX, where
            faults += [f"{where}: {fault}" for fault in tab.all_faults()]
    assert faults == []


def _looks(route: Route, number: int) -> Sequence[Look]:
    """All for the first page of a template; what differs from it in what it says is looked at where it is hardest."""
    if number > 0:
        return LOOKS[:2]
    # A member's page as the operator sees it: the member's own has been looked at.
    return LOOKS[:1] if route.path.startswith("/members/{did}/") and route.page in MEMBERS_OWN else LOOKS


@pytest.mark.parametrize(
    ("door", "path"),
    [("operator", "/find"), ("operator", "/find?status=bounced"), ("member", "/console/messages")],
)
def test_half_a_screen_shows_all_columns_of_a_list_of_messages(
    door: str, path: str, chromium: Browser, doors: dict[str, Door]
) -> None:
    with look(chromium, HALF_LIGHT, doors[door].state) as tab:
        tab.go(doors[door].url + path)
        assert tab.page.locator("tbody tr").count() > 0
        assert tab.tables_that_are_cut() == []


def test_html_is_valid(relay: FilledRelay, chromium: Browser, doors: dict[str, Door], tmp_path: Path) -> None:
    """By html-validate, of all pages."""
    found: list[Path] = []
    for name, door in doors.items():
        context = chromium.new_context(storage_state=door.state)
        for route in GETS:
            for path in route.paths(relay) if route.door == name else ():
                # Of a page that takes seconds, one is enough.
                if path.endswith("/audit") and any(each.name.endswith("_audit.html") for each in found):
                    continue
                answer = context.request.get(door.url + path, timeout=PATIENCE_SECONDS * 1000)
                assert answer.status == 200, path
                file = tmp_path / f"{len(found)}{name}{path}".replace("/", "_").replace("?", "_")[:150]
                found.append(file.with_name(f"{file.name}.html"))
                found[-1].write_bytes(answer.body())
        context.close()
    assert found
    done = subprocess.run(
        [
            HERE / "node_modules" / ".bin" / "html-validate",
            "--config",
            HERE / ".htmlvalidate.json",
            "-f",
            "json",
            *found,
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    faults = [
        f"{Path(report['filePath']).name}:{fault['line']} {fault['ruleId']}: {fault['message']}"
        for report in json.loads(done.stdout)
        for fault in report["messages"]
    ]
    assert faults == []
    assert done.returncode == 0, done.stderr
