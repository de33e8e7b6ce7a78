"""Settings of a relay on several machines: `[nodes]` in `relay.toml`, and `node.toml`, the file of one machine.

`relay.toml` is common: it is the same on all nodes, and its table `[nodes]`, which may be empty, says that there are
several. What one machine has for itself stands in `node.toml` beside it: its name, how it reaches the database, where
it listens. So the one file can be copied from node to node, and what is compared of it is equal.

`relay.config` reads and checks both.
"""

from __future__ import annotations

import hashlib
import re
from ipaddress import IPv4Address, ip_address
from tomllib import loads
from typing import Annotated, Any, Final, TypeVar

import msgspec

from relay.addresses import is_host_name
from relay.config_doors import Section
from relay.routes import port_of
from relay.toml_lines import BadValueError, KeyPath, dotted

NODE_FILE: Final = "node.toml"
#: As a label of a host name, so that it can stand in a certificate and in a page's address.
is_node_name: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?").fullmatch

_is_variable: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
_is_number: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*").fullmatch
_EVERYBODY: Final = IPv4Address("255.255.255.255")

S = TypeVar("S", bound=msgspec.Struct)


class NodesConfig(Section, frozen=True, kw_only=True):
    """What all nodes have in common."""

    #: So long a batch stays in the database's table at least, for nodes that were away. Those that were away for longer
    #: are filled from another node.
    tail_hours: Annotated[int, msgspec.Meta(ge=1, le=30 * 24)] = 24
    #: A node takes the lead when the lease of the one before it was not renewed for so long. It is renewed four times
    #: as often.
    lease_seconds: Annotated[float, msgspec.Meta(ge=1, le=60)] = 2
    #: Take a database that one server has, and whose commits a crash of it can lose. For tests.
    unsafe_single_server: bool = False
    #: The operator's word for what no setting of the database shows: that what is committed survives a server.
    provider_is_durable: bool = False


class OwnHttp(Section, frozen=True, kw_only=True):
    bind: str | None = None


class OwnSubmission(Section, frozen=True, kw_only=True):
    bind: tuple[str, ...] | None = None
    bind_tls: tuple[str, ...] | None = None


class OwnInbound(Section, frozen=True, kw_only=True):
    bind: tuple[str, ...] | None = None


class OwnConsole(Section, frozen=True, kw_only=True):
    operator_bind: str | None = None


class OwnDelivery(Section, frozen=True, kw_only=True):
    #: It goes with the address that this machine sends from, and its PTR record.
    ehlo_name: str | None = None


class NodeConfig(Section, frozen=True, kw_only=True):
    """What one machine has for itself. Its tables take the place of what `relay.toml` says of the same; None: it is as
    there."""

    name: str
    #: Where it listens for other nodes, and where they reach it: both `host:port`.
    bind: str
    address: str
    #: How the database is reached, as libpq takes it; or the file that has it, below the data directory where the path
    #: does not begin with `/`; or the environment's variable. One of the three.
    database: str = ""
    database_file: str = ""
    database_env: str = ""
    http: OwnHttp = OwnHttp()
    submission: OwnSubmission = OwnSubmission()
    inbound: OwnInbound = OwnInbound()
    console: OwnConsole = OwnConsole()
    delivery: OwnDelivery = OwnDelivery()

    def __repr__(self) -> str:
        # The database's password may be in it.
        return f"<NodeConfig {self.name}>"


_TABLES: Final = ("http", "submission", "inbound", "console", "delivery")
#: What a node may have otherwise than others, by dotted names of `relay.toml`.
OWN: Final = frozenset(
    f"{table.name}.{setting.name}"
    for table in msgspec.structs.fields(NodeConfig)
    if table.name in _TABLES
    for setting in msgspec.structs.fields(table.type)
)


def check_nodes(nodes: NodesConfig) -> None:
    """What the types alone cannot say. Raises BadValueError."""
    if nodes.unsafe_single_server and nodes.provider_is_durable:
        raise _bad(
            ("nodes", "provider_is_durable"), "cannot be true beside unsafe_single_server: say which it is"
        )


def check_own(own: NodeConfig) -> None:
    """The same of `node.toml`; what it has in place of `relay.toml`'s is checked with that. Raises BadValueError."""
    if not is_node_name(own.name):
        raise _bad(("name",), "expected at most 32 letters of a-z, digits and hyphens within")
    if port_of(own.bind) is None:
        raise _bad(("bind",), "expected host:port or [v6]:port")
    if not port_of(own.address):
        raise _bad(
            ("address",), "expected host:port or [v6]:port, and a port that other nodes can connect to"
        )
    if not _is_of_one_machine(own.address):
        raise _bad(("address",), "expected the name or address by which other nodes reach this machine")
    given = [name for name in ("database", "database_file", "database_env") if getattr(own, name)]
    if not given:
        raise _bad(("database",), "is missing: set it, or database_file, or database_env")
    if len(given) > 1:
        raise _bad((given[1],), f"there is {given[0]} already: set one of them")
    if own.database_file and not own.database_file.isprintable():
        raise _bad(("database_file",), "expected the path of a file")
    if own.database_env and not _is_variable(own.database_env):
        raise _bad(("database_env",), "expected the name of a variable of the environment")
    if "\0" in own.database or "\n" in own.database:
        raise _bad(("database",), "expected one line")
    if own.delivery.ehlo_name and not is_host_name(own.delivery.ehlo_name):
        raise _bad(("delivery", "ehlo_name"), "expected a host name of two labels or more")


def _is_of_one_machine(address: str) -> bool:
    """And of no more: 0.0.0.0 is where one listens, and to whoever connects there it is himself. `host:port`."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        ip = ip_address(host)
    except ValueError:
        # What ends as a number is read as one by some, whatever it is then: `0`, `0x0`, `256.1.1.1`.
        return not _is_number(host.rpartition(".")[2])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return not (ip.is_unspecified or ip.is_multicast or ip == _EVERYBODY)


def with_own(config: S, own: NodeConfig) -> S:
    """The configuration (a `relay.config.Config`) of this node."""
    changed: dict[str, Any] = {}
    for table in _TABLES:
        given = {
            name: value
            for name, value in msgspec.structs.asdict(getattr(own, table)).items()
            if value is not None
        }
        if given:
            changed[table] = msgspec.structs.replace(getattr(config, table), **given)
    return msgspec.structs.replace(config, **changed) if changed else config


def without_nodes(text: str) -> str | None:
    """`relay.toml` with its table `[nodes]` made a comment, and all else as it is. None: it is not written in a way
    that this understands, and a person has to."""
    lines, within = [], False
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            within = line.partition("#")[0].strip() == "[nodes]"
        lines.append(f"# {line}" if within and line.strip() and not line.startswith("#") else line)
    changed = "".join(lines)
    try:
        wanted = loads(text)
        wanted.pop("nodes", None)
        return changed if loads(changed) == wanted else None
    except ValueError:
        return None


def common_digest(config: msgspec.Struct) -> str:
    """The same for all configurations (`relay.config.Config`) that say the same of what nodes have in common.

    It is about what is set, and not about defaults, so that a setting that only a newer version knows counts once
    somebody sets it.
    """
    return hashlib.sha256(msgspec.json.encode(common_settings(config), order="sorted")).hexdigest()[:32]


def common_settings(config: msgspec.Struct) -> dict[str, Any]:
    """What is set of what nodes have in common, by dotted names of `relay.toml`."""
    return _set(config, "")


def nested(settings: dict[str, Any]) -> dict[str, Any]:
    """`common_settings` as `relay.toml` would have them."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        table, _, setting = name.partition(".")
        if setting:
            values.setdefault(table, {})[setting] = value
        elif table == "nodes":
            values.setdefault(table, {})
        else:
            values[table] = value
    return values


def keeping_own(config: S, own: S) -> S:
    """`config`, but for what each node has for itself, which is as in `own`."""
    changed = {}
    for table in _TABLES:
        names = [name.partition(".")[2] for name in OWN if name.startswith(f"{table}.")]
        ours = getattr(own, table)
        changed[table] = msgspec.structs.replace(
            getattr(config, table), **{name: getattr(ours, name) for name in names}
        )
    return msgspec.structs.replace(config, **changed)


def _set(section: msgspec.Struct, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(section):
        value, name = getattr(section, field.name), prefix + field.name
        if name in OWN:
            continue
        if isinstance(value, msgspec.Struct) and not prefix:
            found.update(_set(value, f"{name}."))
            if field.name == "nodes":
                found[name] = True
        elif value != _default(field):
            found[name] = value
    return found


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _bad(key: KeyPath, sentence: str) -> BadValueError:
    return BadValueError(key, f"{dotted(key)}: {sentence}")
