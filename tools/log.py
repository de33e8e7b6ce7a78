"""`log`: what the log holds, and whether it is whole."""

from __future__ import annotations

import click


@click.group("log", help="The log: look into it, check it, mend what can be mended.")
def log_group() -> None: ...
