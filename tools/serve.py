"""`serve`: the running relay."""

from __future__ import annotations

from pathlib import Path

import click

from tools.output import directory_argument


@click.command("serve")
@directory_argument
def serve_command(directory: Path) -> None:
    """Run the relay until SIGTERM or Ctrl-C. Logs JSON lines to standard error."""
    import trio

    from relay.logs import configure_logging
    from relay.service import serve

    configure_logging()
    trio.run(serve, directory)
