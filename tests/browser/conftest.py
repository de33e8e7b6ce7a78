"""One relay and one browser for all tests of a module, and the cookies of who has signed in."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from tests.browser.browsing import WIDE_LIGHT, Tab, look, open_chromium
from tests.browser.filled import DID, FilledRelay, copied, filled, make_past

#: One life before today's is enough to see that pages show a past.
DAYS_BEFORE_TODAY: Final = 9


class Door(NamedTuple):
    """A console, and somebody who has signed in."""

    #: Without a path.
    url: str
    #: What the browser keeps.
    state: Any


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledRelay]:
    past, keys = _past(tmp_path_factory)
    directory = tmp_path_factory.mktemp("console") / "data"
    relay = copied(past, directory)
    relay.keys.update(keys)
    with filled(relay) as relay:
        yield relay


def _past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A data directory to copy, and its members' keys: made by whoever comes first, whichever worker that is."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # each worker has a directory of its own below that of the run
    directory, keys_file = shared / "console-past" / "data", shared / "console-past" / "keys.json"
    with (shared / "console-past.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        if not keys_file.exists():  # written last
            shutil.rmtree(directory.parent, ignore_errors=True)
            directory.parent.mkdir()
            keys_file.write_text(json.dumps(make_past(directory, [DAYS_BEFORE_TODAY]).keys))
    return directory, json.loads(keys_file.read_text())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def doors(relay: FilledRelay, chromium: Browser) -> dict[str, Door]:
    """A member who has signed in with a key, and an operator, with a link."""
    return sign_in(relay, chromium)


def sign_in(relay: FilledRelay, chromium: Browser) -> dict[str, Door]:
    with look(chromium, WIDE_LIGHT) as tab:
        sign_in_by_key(tab, relay, DID, relay.keys[DID])
        member = Door(f"http://{relay.address}", tab.page.context.storage_state())
    with look(chromium, WIDE_LIGHT) as tab:
        url = json.loads(relay.command("console", "login", "--json"))["url"]
        tab.go(url)
        tab.page.get_by_role("main").get_by_role("button", name="Sign in").click()
        tab.page.get_by_role("heading", name="Overview").wait_for()
        where = urlsplit(url)
        operator = Door(f"http://{where.netloc}", tab.page.context.storage_state())
    return {"member": member, "operator": operator}


def sign_in_by_key(tab: Tab, relay: FilledRelay, did: str, key: str) -> None:
    """As a person does it."""
    tab.go(f"http://{relay.address}/console/")
    tab.page.get_by_label("DID").fill(did)
    tab.page.get_by_label("API key").fill(key)
    tab.page.get_by_role("button", name="Sign in").click()
    tab.page.wait_for_url(f"http://{relay.address}/console/")
