"""`serve`: the running relay."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from tools.output import directory_argument


@click.command("serve")
@directory_argument
def serve_command(directory: Path) -> None:
    """Run the relay until SIGTERM or Ctrl-C. SIGHUP reads relay.toml again. Logs JSON lines to standard error."""
    # Until the relay minds it, and when it does not any more, it must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    import trio

    from relay.logs import configure_logging
    from relay.service import serve

    configure_logging()
    trio.run(serve, directory)
