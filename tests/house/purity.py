"""Purity by place: what decides, folds or composes reads no clock, dice or disk, and waits for nothing (DESIGN 1).

**Every module in a place that is named here is pure, unless it stands in HANDS**: a new file is pure by default, and
whoever writes one with hands says so here. A pure module imports only what `LIBRARIES` allows, other pure modules,
and the few names of `FROM_THE_RIM`; so what it can reach is pure as well, however long the way. An allowance is by
name: what a library is not known for, it may not be used for.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
OWN_PACKAGES = ("relay", "spool", "tools")

#: Place -> its modules with hands: they read files, talk, wait, or ask what time it is. (A place is a folder, without
#: the folders in it.)
HANDS: dict[str, frozenset[str]] = {
    "relay": frozenset(
        {
            "__main__",
            "acceptance",
            "acting",
            "alarm",
            "alarm_watch",
            "batches",
            "buffers",
            "config",
            "console_logins",
            "console_sign_in",
            "core",
            "data_directory",
            "dead_readers",
            "dnsbl_watch",
            "doors",
            "edge",
            "elsewhere",
            "enrolment",
            "forward_confirmations",
            "heavy_work",
            "listening",
            "logs",
            "metrics",
            "metrics_page",
            "news",
            "own_domains",
            "own_keys",
            "own_messages",
            "own_stripping",
            "own_webhooks",
            "quota",
            "receiving",
            "turns",
            "writes",
            "reputation_guard",
            "reading_store",
            "reservations",
            "self_service",
            "service",
            "space",
            "store",
            "stream_pages",
            "stream_places",
            "streams",
            "surroundings",
            "unsubscribe_calls",
            "unsubscribing",
        }
    ),
    "relay.decisions": frozenset(),
    "relay.delivery": frozenset(
        {
            "attempts",
            "carrier",
            "certificates",
            "connect",
            "courier",
            "releases",
            "deliverer",
            "interrupted",
            "resolve",
            "session",
            "story",
        }
    ),
    "relay.domains": frozenset({"asking", "key_pairs", "rotation", "rounds", "shown", "verification"}),
    "relay.events": frozenset(),
    "relay.nodes": frozenset(
        {
            "ahead",
            "before_serving",
            "beside",
            "borrowing",
            "bundle",
            "certificates",
            "database",
            "door",
            "filling",
            "handshakes",
            "forwarding",
            "founding",
            "joining",
            "leading",
            "lending",
            "links",
            "may_start",
            "node",
            "opening",
            "owed",
            "overview",
            "rules",
            "seldom",
            "speaking",
            "tail",
            "trouble",
            "versions",
            "who_leads",
            "wire",
            "words",
        }
    ),
    # The files of keys.
    "relay.message": frozenset({"key_files", "keys"}),
    "relay.own_network": frozenset(
        {"looking", "name_servers", "nameless", "names", "outside", "ports", "records", "smtp_probe"}
    ),
    # Steps are taken with a store, whoever has it.
    "relay.finding": frozenset({"__init__"}),
    "relay.past": frozenset({"audit"}),
    "relay.reports": frozenset(),
    # What is pure is what reads strangers' octets.
    "relay.reception": frozenset(
        {
            "buffers",
            "certificates",
            "inbound",
            "inbound_ports",
            "interface",
            "places",
            "ports",
            "role",
            "session",
            "submission",
            "submission_ports",
        }
    ),
    # What stands on the internet's words, and what sends and waits.
    "relay.webhooks": frozenset(
        {"asking", "connections", "deliver", "notices", "orders", "reading", "shown", "urls"}
    ),
    # The package itself opens the views.
    "relay.views": frozenset({"__init__"}),
    "spool": frozenset(
        {
            "__init__",
            "calls",
            "clock",
            "directory",
            "disk",
            "disk_durability",
            "durability",
            "files",
            "erasure",
            "interface",
            "log",
            "mark",
            "open_segment",
            "own_thread",
            "reader",
            "repair",
            "strip",
            "stripped",
            "writer",
        }
    ),
    "spool.replicated": frozenset(
        {
            "connection",
            "doubts",
            "following",
            "hosts",
            "keeping",
            "leading",
            "pooler",
            "postgres",
            "table",
            "witness",
        }
    ),
    "spool.verify": frozenset({"against", "segment", "verify", "views"}),
}
#: Places that are for hands.
ROOMS_OF_HANDS = frozenset(
    {
        "relay.api",
        "relay.console",
        "relay.couriers",
        "relay.edges",
        "relay.internet",
        "relay.operator",
        "relay.operator_console",
        "relay.processes",
        "spool.backup",
        "spool.views",
    }
)


def _modules(place: str) -> dict[str, Path]:
    """By their names in imports, the modules of a place that are to be pure."""
    folder = ROOT / place.replace(".", "/")
    return {
        place if path.stem == "__init__" else f"{place}.{path.stem}": path
        for path in sorted(folder.glob("*.py"))
        if path.stem not in HANDS[place]
    }


#: Module -> its file.
PURE: dict[str, Path] = {name: path for place in HANDS for name, path in _modules(place).items()}

ALL = None
#: Library -> what may be imported from it.
LIBRARIES: dict[str, frozenset[str] | None] = {
    "__future__": ALL,
    "base64": ALL,
    "binascii": ALL,
    "bisect": ALL,
    "collections": ALL,
    "copy": frozenset({"deepcopy"}),
    "collections.abc": ALL,
    "difflib": frozenset({"get_close_matches"}),
    "dataclasses": ALL,
    "enum": ALL,
    "hashlib": ALL,
    "heapq": ALL,
    "hmac": ALL,
    "itertools": ALL,
    "json": ALL,
    "operator": frozenset({"add"}),
    "re": ALL,
    "tomllib": frozenset({"loads"}),
    "html": frozenset({"unescape"}),
    "struct": ALL,
    "textwrap": frozenset({"wrap"}),
    "unicodedata": ALL,
    "typing": ALL,
    "urllib.parse": ALL,
    # Not `now` and `today`, see AMBIENT.
    "datetime": frozenset({"UTC", "datetime", "timedelta"}),
    "email": frozenset({"message_from_bytes"}),
    "email.utils": frozenset({"format_datetime", "parsedate_to_datetime"}),
    "flufl.bounce": frozenset({"all_failures"}),
    # To silence a library.
    "logging": frozenset({"getLogger"}),
    # What a pure function remembers of itself changes none of its answers.
    "functools": frozenset({"cached_property", "lru_cache", "partial"}),
    "ipaddress": ALL,
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
    "google_crc32c": ALL,
    "idna": ALL,
    "msgspec": ALL,
    "nacl.bindings": frozenset(
        {"crypto_aead_xchacha20poly1305_ietf_decrypt", "crypto_aead_xchacha20poly1305_ietf_encrypt"}
    ),
    "nacl.exceptions": frozenset({"CryptoError"}),
}

#: Module of ours that is not pure -> the names in it that are: values, and views that are given to us.
FROM_THE_RIM = {
    "relay.config": frozenset({"Config", "ReputationConfig", "WarmingTier"}),
    # What composing is given, which has read the files.
    "relay.message.keys": frozenset({"KeyRing", "Pepper", "Peppers"}),
    "relay.message.key_files": frozenset({"KeyFileError", "pepper_name"}),
    # Values; the rest of it waits.
    "spool.replicated.table": frozenset({"Lease", "Row"}),
    "spool.views": frozenset({"Projector", "Snapshot", "Transaction", "prefix_end"}),
    "spool.views.scratch": frozenset({"Scratch"}),
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
    if _is_ours(f"{module}.{name}"):  # from package import module
        return f"{module}.{name}" in PURE
    if module.partition(".")[0] in OWN_PACKAGES:
        return module in PURE or name in FROM_THE_RIM.get(module, ())
    if module not in LIBRARIES or name == "*":
        return False
    allowed = LIBRARIES[module]
    return allowed is ALL or name in allowed


def _is_ours(module: str) -> bool:
    place = ROOT / module.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").is_file()


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("set", "frozenset")
    )


def find_impurities() -> Iterator[str]:
    """A sentence for each thing in a pure place that is not pure, with its file and line."""
    for module, path in PURE.items():
        package = module if path.stem == "__init__" else module.rpartition(".")[0]
        for finding in impurities(path.read_text(), package):
            yield f"{path.relative_to(ROOT)}:{finding.line}: {finding.what}: {module} has to be pure"


def find_rooms_without_a_place() -> Iterator[str]:
    """A sentence for each folder of `relay` and `spool` of which nobody has said whether it is pure."""
    for package in ("relay", "spool"):
        for path in sorted((ROOT / package).rglob("__init__.py")):
            place = ".".join(path.parent.relative_to(ROOT).parts)
            if place not in HANDS and place not in ROOMS_OF_HANDS:
                yield f"{place}: say in tests/house/purity.py whether it is pure"
