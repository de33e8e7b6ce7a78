"""`version`: what runs here, for whoever reports a problem."""

from __future__ import annotations

import platform
from importlib.metadata import version

import click
import lmdb

from tools.output import json_option, print_json


@click.command("version")
@json_option
def version_command(as_json: bool) -> None:
    """Show the version, and those of Python and LMDB."""
    print_versions(as_json=as_json)


def print_versions(*, as_json: bool) -> None:
    versions = {
        "atmos-relay": version("atmos-relay"),
        "Python": platform.python_version(),
        "LMDB": ".".join(map(str, lmdb.version())),
    }
    if as_json:
        print_json(versions)
    else:
        for name, number in versions.items():
            click.echo(f"{name} {number}")
