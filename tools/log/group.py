"""`log`: what the log holds, and whether it is whole.

`inspect`, `cat`, `tail`, `verify`, `replay`, `diff` and `audit` read: they work beside a running relay and on a copy,
and write nothing into the data directory. `rebuild` and `repair` change it, and refuse while a relay runs. `backup` and
`export` copy out of a directory, `restore` makes one. `strip` and
`erase` remove personal data, whether a relay runs or not.
"""

from __future__ import annotations

import click

from tools.log.audit import audit_command
from tools.log.backup import backup_command, restore_command
from tools.log.check import rebuild_command, repair_command, verify_command
from tools.log.export import export_command
from tools.log.read import cat_command, inspect_command, tail_command
from tools.log.replay import diff_command, replay_command
from tools.log.strip import erase_command, strip_command


@click.group("log", help="The log: look into it, check it, mend what can be mended.")
def log_group() -> None: ...


for command in (
    inspect_command,
    cat_command,
    tail_command,
    verify_command,
    replay_command,
    diff_command,
    audit_command,
    rebuild_command,
    repair_command,
    backup_command,
    restore_command,
    export_command,
    strip_command,
    erase_command,
):
    log_group.add_command(command)
