"""The check of purity by place: the tree passes it, and it finds what is planted."""

from __future__ import annotations

import ast

import pytest

from tests.house.purity import (
    ALL,
    FROM_THE_RIM,
    HANDS,
    LIBRARIES,
    PURE,
    ROOMS_OF_HANDS,
    ROOT,
    find_impurities,
    find_rooms_without_a_place,
    impurities,
)


def test_what_has_to_be_pure_is() -> None:
    assert list(find_impurities()) == []


def test_every_room_is_pure_or_for_hands() -> None:
    assert list(find_rooms_without_a_place()) == []
    assert HANDS.keys().isdisjoint(ROOMS_OF_HANDS)


def test_what_has_hands_is_there_and_needs_them() -> None:
    """A name that is left over here would let a file of that name be anything, one day."""
    for place, names in HANDS.items():
        for name in names:
            path = ROOT / place.replace(".", "/") / f"{name}.py"
            package = place if name == "__init__" else f"{place}.{name}".rpartition(".")[0]
            assert impurities(path.read_text(), package), f"{path} has no hands: it may be pure"


def test_what_decides_folds_and_composes_has_to_be_pure() -> None:
    """The places that nobody may take out of the check by another list of hands."""
    assert PURE.keys() >= {
        "relay.decisions.send",
        "relay.delivery.bounce_classes",
        "relay.delivery.replies",
        "relay.delivery.scheduler",
        "relay.delivery.smtp",
        "relay.delivery.waiting",
        "relay.domains.diagnosis",
        "relay.domains.records",
        "relay.events.base",
        "relay.message.compose",
        "relay.message.outgoing",
        "relay.past.rows",
        "relay.past.simulation",
        "relay.views.messages",
        "spool.record",
        "spool.recovery",
        "spool.segment",
    }


def test_nothing_is_allowed_that_is_not_needed() -> None:
    """An allowance that nobody uses is a hole that nobody watches."""
    used: set[tuple[str, str]] = set()
    for path in PURE.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                used |= {(node.module or "", alias.name) for alias in node.names}
            elif isinstance(node, ast.Import):
                used |= {(alias.name, "") for alias in node.names}
    assert set(LIBRARIES) <= {module for module, _ in used}
    named = {module: names for module, names in (LIBRARIES | FROM_THE_RIM).items() if names is not ALL}
    assert {(module, name) for module, names in named.items() for name in names or ()} <= used


# ------------------------------------------------------------------------------------------------ planted bugs


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import trio", "import trio"),
        ("import time", "import time"),
        ("from time import monotonic as count", "from time import monotonic"),
        ("import random", "import random"),
        ("from secrets import token_hex", "from secrets import token_hex"),
        ("import os", "import os"),
        ("import os.path", "import os.path"),
        ("from io import BytesIO", "from io import BytesIO"),
        ("import socket", "import socket"),
        ("from pathlib import Path", "from pathlib import Path"),
        ("import logging", "import logging"),
        ("import uuid", "import uuid"),
        ("import importlib", "import importlib"),
        ("import threading", "import threading"),
        ("from json import *", "from json import *"),
        ("import datetime", "import datetime"),
        ("from datetime import date", "from datetime import date"),
        ("from email.utils import formatdate", "from email.utils import formatdate"),
        ("from email.utils import make_msgid", "from email.utils import make_msgid"),
        ("from cryptography.hazmat.primitives.ciphers.aead import AESGCM", "from "),
        ("from relay.store import Store", "from relay.store import Store"),
        ("from relay.config import load_config", "from relay.config import load_config"),
        ("from relay import core", "from relay import core"),
        ("from . import store", "from relay import store"),
        ("from .surroundings import wall_clock_us", "from relay.surroundings import wall_clock_us"),
        ("from spool.disk import RealDisk", "from spool.disk import RealDisk"),
        ("from spool import Entry", "from spool import Entry"),
        ("import spool.log", "import spool.log"),
        ("def f():\n    import time", "import time"),
        ("if TYPE_CHECKING:\n    import trio", "import trio"),
        ("x = datetime.now(UTC)", ".now"),
        ("x = datetime.utcnow()", ".utcnow"),
        ("x = date.today()", ".today"),
        ("clock = datetime.now", ".now"),
        ("key = Ed25519PrivateKey.generate()", ".generate"),
        ("key.sign(x, padding.PSS(mgf, 32), hashes.SHA256())", ".PSS"),
        ("open('x')", "open"),
        ("print('x')", "print"),
        ("__import__('time').time()", "__import__"),
        ("exec('import time')", "exec"),
        ("x = hash('a')", "hash"),
        ("x = sorted(y, key=id)", "id"),
        ("for x in {1, 2}: ...", "the order of a set"),
        ("x = [y for y in set(z)]", "the order of a set"),
        ("async def f(): ...", "async"),
        ("def f():\n    global count\n    count = 1", "global"),
    ],
)
def test_a_planted_bug_is_found(source: str, what: str) -> None:
    found = impurities(source)
    assert len(found) == 1
    assert found[0].what.startswith(what)


def test_a_finding_names_its_line() -> None:
    assert impurities("x = 1\n\nimport time\nopen(x)\n") == [(3, "import time"), (4, "open")]


@pytest.mark.parametrize(
    "source",
    [
        "from relay.views import members",
        "from relay.config import Config",
        "from datetime import UTC, datetime",
        "from .addresses import Mailbox",
        "moment = datetime.fromtimestamp(x, UTC)",
        "for x in sorted({1, 2}): ...",
        "x = 1 in {1, 2}",
        "def f(now_us: int) -> int: return now_us",
    ],
)
def test_what_is_pure_is_left_alone(source: str) -> None:
    assert impurities(source) == []
