"""`node`: a relay on several machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools.node_fill import fill_command, fill_from
from tools.output import (
    directory_argument,
    json_option,
    print_json,
    print_prose,
    print_table,
    printable,
    wide_option,
)

if TYPE_CHECKING:
    from relay.config import Config
    from relay.config_nodes import NodeConfig
    from relay.nodes.overview import Overview, Shown
    from spool.replicated.table import Table

#: Of a code that is read from a file.
_CODE_BYTES_MAX = 1000


@click.group("node", help="One relay on several machines: begin it, add nodes, list them.")
def node_group() -> None: ...


node_group.add_command(fill_command)


@node_group.command("found")
@directory_argument
@click.option("--discard", metavar="NAME", help="The database, whose log may go with all that is in it.")
@json_option
def node_found(directory: Path, discard: str | None, as_json: bool) -> None:
    """Make this log the one that several machines have.

    The database named in node.toml gets its tables; the log of DIR goes on there. No relay may run on DIR. If it is not
    known what became of it, give it again.
    """
    import trio

    from relay.nodes.founding import found
    from relay.surroundings import Surroundings
    from relay.times import utc

    config, own = _node(directory)
    if discard is not None:
        _check_is_meant(directory, own, discard)
    table = _table(directory, config, own)

    async def make() -> Any:
        now = utc(Surroundings().clock())
        return await found(directory, table, discard=discard is not None, now=now)

    founded = trio.run(make)
    if as_json:
        print_json({"seq": founded.seq, "already": founded.already})
        return
    if founded.already:
        click.echo(f"The database has this log already, up to sequence {founded.seq}.")
    else:
        click.echo(f"The log goes on in the database, behind sequence {founded.seq}.")
    click.echo(f"Next:\n  atmos-relay serve {directory}")
    click.echo(f"  atmos-relay node add {directory} NAME      once it runs: another node")


@node_group.command("leave")
@directory_argument
@click.option("--alone", is_flag=True, required=True, help="The log is this machine's alone from then on.")
@click.option("--without-database", is_flag=True, help="The database is gone, and never comes back.")
@json_option
def node_leave(directory: Path, alone: bool, without_database: bool, as_json: bool) -> None:
    """Go back to one machine, and end the log in the database.

    Stop all nodes, and give it at the one that is furthest. The tables are dropped, so that no other node leads. With
    --without-database nothing keeps one from that: see to it yourself.
    """
    import trio

    from relay.nodes.founding import leave

    table = None
    # Where it was killed at its end, this much is undone.
    if not without_database and not _has_lost_its_table(directory):
        config, own = _node(directory)
        table = _table(directory, config, own)
    left = trio.run(leave, directory, table)
    if as_json:
        print_json({"seq": left.seq, "tablesDropped": left.tables_dropped})
        return
    click.echo(f"{directory} is one machine's again; its log ends with sequence {left.seq}.")
    click.echo(
        "The database has no log any more."
        if left.tables_dropped
        else "The database was left as it is, or had no log."
    )


@node_group.command("list")
@directory_argument
@wide_option
@json_option
def node_list(directory: Path, as_json: bool) -> None:
    """List the nodes: who leads, how far each is, what is wrong.

    They are compared with DIR.
    """
    import trio

    from relay.nodes.overview import look, own_facts

    config, own = _node(directory)
    table = _table(directory, config, own)
    found = trio.run(look, table, own_facts(directory, config, own))
    doubts = trio.run(table.find_doubts)
    if as_json:
        print_json({**_overview_json(found), "doubts": list(doubts)})
        return
    leader = f"{found.leader} leads" if found.leader else "nobody leads"
    click.echo(f"The log is at sequence {found.last_seq}; {leader}.")
    columns = ("node", "is", "version", "address", "behind", "notOnDisk", "said")
    print_table(
        [_row(node, found.last_seq) for node in found.nodes],
        columns,
        empty="There are no nodes.",
    )
    for node in found.nodes:
        for problem in node.problems:
            print_prose(f"{printable(node.name)}: {printable(problem)}")
        if node.facts is not None and node.facts.at_start is not None:
            print_prose(f"{printable(node.name)}: when it began, {printable(node.facts.at_start)}")
    for doubt in doubts:
        print_prose(f"database: {printable(doubt)}")
    for gone in found.removed:
        print_prose(f"{printable(gone.removed)} was removed at {gone.at}.")


@node_group.command("add")
@directory_argument
@click.argument("name")
@click.option("--to", "file", type=click.Path(dir_okay=False, path_type=Path), help="[default: NAME.node]")
@json_option
def node_add(directory: Path, name: str, file: Path | None, as_json: bool) -> None:
    """Add a node, and write what it is to have into a file.

    The file holds the relay's secrets, sealed with a code that is shown only now. Take both to the new machine, by
    different ways, for `node join` there.
    """
    import trio

    from relay.message.key_files import write_new
    from relay.nodes.database import conninfo_of
    from relay.nodes.joining import add
    from relay.surroundings import Surroundings
    from relay.times import utc

    config, own = _node(directory)
    file = file or Path(f"{name}.node")
    if file.exists():
        raise click.UsageError(
            f"{file} exists already, and is not overwritten; where its code is lost, remove it"
        )
    now = utc(Surroundings().clock())
    added = trio.run(add, directory, _table(directory, config, own), conninfo_of(directory, own), name, now)
    write_new(file.absolute(), added.file)
    if as_json:
        print_json({"node": name, "file": str(file.absolute()), "code": added.code})
        return
    click.echo(f"{file} is for the new machine:")
    click.echo(f"  atmos-relay node join NEWDIR {file.name} --address HOST:PORT --from {own.name}")
    click.echo(f"\nCode, shown only now:  {added.code}")


@node_group.command("join")
@directory_argument
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--address", required=True, help="Where the other nodes reach this one, host:port.")
@click.option("--bind", help="Where it listens for them.  [default: the port of --address, on all addresses]")
@click.option(
    "--from",
    "source",
    metavar="OTHER",
    help="A node that runs, by its name or as NAME@HOST:PORT: its log is copied.",
)
@click.option(
    "--from-backup",
    "backup",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="What `log backup` has made at another node.",
)
@click.option(
    "--code-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file that has the code; without it, it is asked for.",
)
@json_option
def node_join(
    directory: Path,
    bundle: Path,
    address: str,
    bind: str | None,
    source: str | None,
    backup: Path | None,
    code_file: Path | None,
    as_json: bool,
) -> None:
    """Make a data directory DIR of what `node add` has made.

    DIR is not there, or empty.
    Its log begins empty, or is copied from a node that runs, or from a backup of one; the relay fetches the rest when
    it is started. Broken off, run it again: it goes on.
    """
    import trio

    from relay.config import parse_config
    from relay.nodes import database
    from relay.nodes.bundle import BUNDLE_BYTES_MAX, open_bundle
    from relay.nodes.joining import begin_to_join, check_may_join, join
    from tools.meter import open_meter
    from tools.other_node import node_meant

    if source is not None and backup is not None:
        raise click.UsageError("give --from or --from-backup, not both")
    if bundle.stat().st_size > BUNDLE_BYTES_MAX:
        raise click.UsageError(f"{bundle} is no file that `node add` has made")
    given = open_bundle(bundle.read_bytes(), _code(code_file))
    bind = bind or f"0.0.0.0:{address.rpartition(':')[2]}"
    nodes = parse_config(given.relay_toml, f"{bundle}: relay.toml").nodes
    if nodes is None:
        raise click.UsageError(f"{bundle} is of a relay that is on one machine")
    table = database.table_of(given.database, nodes)
    with open_meter() as meter:
        progress = None if as_json else meter

        async def make() -> int:
            return await join(
                directory, given, table, bind=bind, address=address, backup=backup, progress=progress
            )

        if source is None:
            last_seq = trio.run(make)
        else:
            trio.run(check_may_join, table, given)
            other = node_meant(table, source)
            begin_to_join(directory, given, bind=bind, address=address)
            last_seq = fill_from(directory, other, table, progress)
    if as_json:
        print_json({"directory": str(directory.absolute()), "node": given.name, "lastSeq": last_seq})
        return
    has = f"has the log up to sequence {last_seq}" if last_seq else "has an empty log"
    click.echo(f"{directory} is node {given.name} and {has}. Next:")
    click.echo(f"  look through {directory / 'node.toml'}")
    click.echo(f"  atmos-relay serve {directory}      it fetches the rest")


@node_group.command("remove")
@directory_argument
@click.argument("name")
@json_option
def node_remove(directory: Path, name: str, as_json: bool) -> None:
    """Remove a node that is gone for good.

    Its relay has to be stopped, a minute ago at least. Nothing is kept for it any more, and the others do not answer
    it. It knows the relay's secrets: if you do not trust the machine, replace them.
    """
    import trio

    from relay.nodes.joining import remove

    config, own = _node(directory)
    trio.run(remove, _table(directory, config, own), name)
    if as_json:
        print_json({"node": name})
    else:
        click.echo(f"{name} is removed.")


def _node(directory: Path) -> tuple[Config, NodeConfig]:
    """Raises ConfigError, or Refusal where it is none."""
    from relay.config import load_config, load_node
    from relay.refusals import Refusal

    config = load_config(directory)
    if config.nodes is None:
        raise Refusal(
            "CONFLICT",
            f"{directory} is no node: its relay.toml has no [nodes] (docs/NODES.md says what to write)",
        )
    return config, load_node(directory)


def _has_lost_its_table(directory: Path) -> bool:
    from relay.config import CONFIG_FILE, parse_config

    path = directory / CONFIG_FILE
    return parse_config(path.read_text(encoding="utf-8"), str(path)).nodes is None


def _table(directory: Path, config: Config, own: NodeConfig) -> Table:
    from relay.nodes import database

    assert config.nodes is not None
    return database.open_table(directory, config.nodes, own)


def _check_is_meant(directory: Path, own: NodeConfig, name: str) -> None:
    from relay.nodes import database

    named = database.database_name(database.conninfo_of(directory, own))
    if name != named:
        raise click.UsageError(f"--discard {name}: the database is {named}; nothing was changed")


def _code(file: Path | None) -> str:
    if file is None:
        code: str = click.prompt("Code", hide_input=True, err=True)
        return code
    with file.open("rb") as opened:
        return opened.read(_CODE_BYTES_MAX).decode("ascii", "replace")


def _row(node: Shown, last_seq: int) -> dict[str, Any]:
    facts = node.facts
    if facts is None or node.silent_seconds is None:
        return {"node": printable(node.name), "is": "strange" if facts is None else "added"}
    return {
        "node": node.name,
        "is": "away" if node.is_away else "leads" if node.leads else "follows",
        "version": printable(facts.version),
        "address": printable(facts.address),
        "behind": max(0, last_seq - facts.applied_seq),
        "notOnDisk": max(0, last_seq - facts.synced_seq),
        "said": f"{node.silent_seconds:.0f} s ago",
    }


def _overview_json(found: Overview) -> dict[str, Any]:
    return {
        "lastSeq": found.last_seq,
        "epoch": found.epoch,
        "oldestSeq": found.oldest_seq,
        "leader": found.leader,
        "nodes": [_shown_json(node) for node in found.nodes],
        "removed": [{"node": gone.removed, "removedAt": gone.at} for gone in found.removed],
    }


def _shown_json(node: Shown) -> dict[str, Any]:
    facts = node.facts
    shown: dict[str, Any] = {
        "node": node.name,
        "leads": node.leads,
        "silentSeconds": node.silent_seconds,
        "problems": list(node.problems),
    }
    if facts is not None and node.silent_seconds is not None:
        shown |= {
            "version": facts.version,
            "address": facts.address,
            "appliedSeq": facts.applied_seq,
            "syncedSeq": facts.synced_seq,
            "firstSeq": facts.first_seq,
            "strippedThrough": facts.stripped_through,
            "clockOffsetUs": facts.clock_offset_us,
            "freeBytes": facts.free_bytes,
            "configuration": facts.configuration,
            "atStart": facts.at_start,
        }
    return shown
