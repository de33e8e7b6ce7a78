"""`node fill`: the log of a node that was away for too long comes from another; so does a new one's (`node join`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tools.output import directory_argument, json_option, print_json

if TYPE_CHECKING:
    from relay.nodes.words import Node
    from spool.backup.format import Manifest
    from spool.interface import Progress
    from spool.replicated.table import Table


@click.command("fill")
@directory_argument
@click.option(
    "--from",
    "source",
    required=True,
    metavar="OTHER",
    help="A node that runs, NAME or NAME@HOST:PORT; or what `log backup` has made at one, by a path with a slash.",
)
@json_option
def fill_command(directory: Path, source: str, as_json: bool) -> None:
    """Exchange the log of DIR for another node's.

    For a node whose relay does not start, because the database has no longer what it missed. No relay may run on DIR;
    the other one goes on meanwhile. It needs room for the log twice, or once where it comes from a backup, beside the
    one that is there. Broken off, run it again: it goes on. What is left to fetch the relay fetches when it is started.
    """
    from relay.operator.client import is_running
    from relay.refusals import Refusal
    from tools.meter import open_meter
    from tools.naming import folder_meant
    from tools.other_node import another_node, table_of

    if is_running(directory):
        raise Refusal("CONFLICT", f"a relay runs on {directory}: stop it first")
    table = table_of(directory)
    backup = folder_meant(source)
    other = another_node(directory, source) if backup is None else backup
    with open_meter() as meter:
        last_seq = fill_from(directory, other, table, None if as_json else meter)
    if as_json:
        print_json({"directory": str(directory.absolute()), "lastSeq": last_seq})
        return
    click.echo(f"{directory} has the log up to sequence {last_seq}. Next:")
    click.echo(f"  atmos-relay serve {directory}      it fetches the rest, and strips its files first")


def fill_from(directory: Path, other: Path | Node, table: Table, progress: Progress | None) -> int:
    """As `relay.nodes.filling.fill`, from a backup or a node that runs."""
    import trio

    from relay.nodes.borrowing import OTHER_NODE
    from relay.nodes.filling import borrow, check_with_table, fill
    from tools.other_node import with_files_of

    def copy(into: Path) -> Path:
        if isinstance(other, Path):
            return other
        with_files_of(directory, other, lambda disk: borrow(OTHER_NODE, disk, disk.names, into, progress))
        return into

    def check(manifest: Manifest) -> None:
        trio.run(check_with_table, table, manifest)

    return fill(directory, copy=copy, check=check, progress=progress)
