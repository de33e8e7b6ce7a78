"""`log`: what the log holds, and whether it is whole.

`inspect`, `cat`, `tail` and `verify` read: they work beside a running relay and on a copy, and write nothing into
the data directory. `rebuild` and `repair` change it, and refuse while a relay runs.
"""

from __future__ import annotations

import click

from tools.log_check import rebuild_command, repair_command, verify_command
from tools.log_read import cat_command, inspect_command, tail_command


@click.group("log", help="The log: look into it, check it, mend what can be mended.")
def log_group() -> None: ...


for command in (
    inspect_command,
    cat_command,
    tail_command,
    verify_command,
    rebuild_command,
    repair_command,
):
    log_group.add_command(command)
