"""The pure modules read no clock, no dice and no disk, and wait for nothing (DESIGN 1).

Each imports only what `LIBRARIES` allows, other pure modules, and the few names of `FROM_THE_RIM`; so what they can
reach is pure as well, however long the way. An allowance is by name: what a library is not known for, it may not be
used for.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
OWN_PACKAGES = ("relay", "spool", "tools")

PURE = (
    "relay.addresses",
    "relay.codec",
    "relay.message.compose",
    "relay.decisions.attempt",
    "relay.decisions.send",
    "relay.decisions.limits",
    "relay.decisions.suppression",
    "relay.delivery.bounce_classes",
    "relay.delivery.outcomes",
    "relay.delivery.replies",
    "relay.delivery.reply_reader",
    "relay.decisions.retry",
    "relay.delivery.scheduler",
    "relay.delivery.sites",
    "relay.delivery.smtp",
    "relay.delivery.waiting",
    "relay.dids",
    "relay.domains.diagnosis",
    "relay.domains.records",
    "relay.message.dsn",
    "relay.events",
    "relay.events.base",
    "relay.events.delivery",
    "relay.events.log",
    "relay.events.members",
    "relay.events.queue",
    "relay.events.sending",
    "relay.events.suppression",
    "relay.fields",
    "relay.message.headers",
    "relay.presentation",
    "relay.refusals",
    "relay.decisions.reputation",
    "relay.requests",
    "relay.message.signing",
    "relay.stream_events",
    "relay.times",
    "relay.message.tokens",
    "relay.past.rows",
    "relay.views.calls",
    "relay.views.due",
    "relay.views.idempotency",
    "relay.views.keys",
    "relay.views.members",
    "relay.views.messages",
    "relay.views.reputation",
    "relay.views.stream",
    "relay.views.retention",
    "relay.views.suppressions",
    "relay.views.warming",
    "spool.errors",
    "spool.verify.flips",
    "spool.record",
    "spool.recovery",
    "spool.segment",
)

ALL = None
#: Library -> what may be imported from it.
LIBRARIES: dict[str, frozenset[str] | None] = {
    "__future__": ALL,
    "base64": ALL,
    "binascii": ALL,
    "collections": ALL,
    "collections.abc": ALL,
    "dataclasses": ALL,
    "enum": ALL,
    "hashlib": ALL,
    "heapq": ALL,
    "hmac": ALL,
    "itertools": ALL,
    "json": ALL,
    "re": ALL,
    "struct": ALL,
    "typing": ALL,
    "urllib.parse": ALL,
    # Not `now` and `today`, see AMBIENT.
    "datetime": frozenset({"UTC", "datetime", "timedelta"}),
    "email.utils": frozenset({"format_datetime"}),
    "cbor2": ALL,
    "cryptography.exceptions": ALL,
    "cryptography.hazmat.primitives": frozenset({"hashes"}),
    "cryptography.hazmat.primitives.asymmetric": frozenset({"padding"}),
    "cryptography.hazmat.primitives.asymmetric.ed25519": frozenset({"Ed25519PrivateKey"}),
    "cryptography.hazmat.primitives.asymmetric.rsa": frozenset({"RSAPrivateKey"}),
    "cryptography.hazmat.primitives.asymmetric.utils": frozenset({"Prehashed"}),
    "cryptography.hazmat.primitives.ciphers.aead": frozenset({"AESSIV"}),
    "cryptography.hazmat.primitives.serialization": frozenset({"Encoding", "PublicFormat"}),
    "dkim": ALL,
    "dkim.canonicalization": ALL,
    "google_crc32c": ALL,
    "idna": ALL,
    "msgspec": ALL,
}

#: Module of ours that is not pure -> the names in it that are: values, and views that are given to us.
FROM_THE_RIM = {
    "relay.config": frozenset({"Config", "ReputationConfig", "WarmingTier"}),
    "spool.views": frozenset({"Snapshot", "Transaction", "prefix_end"}),
}

#: Attributes that reach for the world, whatever they are attributes of.
AMBIENT = frozenset({"now", "utcnow", "today", "generate", "generate_private_key", "PSS", "OAEP"})
#: Builtins that do, or that differ from one process to the next.
BUILTINS = frozenset(
    {"open", "input", "print", "exec", "eval", "compile", "__import__", "hash", "id", "breakpoint"}
)


class Finding(NamedTuple):
    line: int
    what: str


def impurities(source: str, package: str = "relay") -> list[Finding]:
    """Everything in a module of `package` that is not pure."""
    return sorted(
        finding for node in ast.walk(ast.parse(source)) for finding in _impurities_of(node, package)
    )


def _impurities_of(node: ast.AST, package: str) -> Iterator[Finding]:
    match node:
        case ast.Import():
            for alias in node.names:
                if not _may_import(alias.name):
                    yield Finding(node.lineno, f"import {alias.name}")
        case ast.ImportFrom():
            module = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(module, package)
            for alias in node.names:
                if not _may_import_from(module, alias.name):
                    yield Finding(node.lineno, f"from {module} import {alias.name}")
        case ast.Attribute() if node.attr in AMBIENT:
            yield Finding(node.lineno, f".{node.attr}")
        case ast.Name() if node.id in BUILTINS:
            yield Finding(node.lineno, node.id)
        case ast.For() | ast.comprehension() if _is_set(node.iter):
            yield Finding(node.iter.lineno, "the order of a set")
        case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            yield Finding(node.lineno, "async")
        case ast.Global():
            yield Finding(node.lineno, "global")
        case _:
            pass


def _may_import(module: str) -> bool:
    return module in PURE or (module in LIBRARIES and LIBRARIES[module] is ALL)


def _may_import_from(module: str, name: str) -> bool:
    if f"{module}.{name}" in PURE:  # from package import module
        return True
    if module.partition(".")[0] in OWN_PACKAGES:
        return module in PURE or name in FROM_THE_RIM.get(module, ())
    if module not in LIBRARIES or name == "*":
        return False
    allowed = LIBRARIES[module]
    return allowed is ALL or name in allowed


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("set", "frozenset")
    )


def path_of(module: str) -> Path:
    place = ROOT / module.replace(".", "/")
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@pytest.mark.parametrize("module", PURE)
def test_the_module_is_pure(module: str) -> None:
    found = impurities(path_of(module).read_text(), module.rpartition(".")[0])
    assert found == []


def test_every_view_is_pure() -> None:
    views = {f"relay.views.{path.stem}" for path in (ROOT / "relay" / "views").glob("*.py")}
    # The package itself says only which views there are, and opens them.
    assert views - {"relay.views.__init__"} <= set(PURE)


def test_nothing_is_allowed_that_is_not_needed() -> None:
    """An allowance that nobody uses is a hole that nobody watches."""
    used: set[tuple[str, str]] = set()
    for module in PURE:
        for node in ast.walk(ast.parse(path_of(module).read_text())):
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
        ("from . import keys", "from relay import keys"),
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
