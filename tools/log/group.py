"""`log`: what the log holds, and whether it is whole.

`inspect`, `cat`, `tail`, `verify`, `replay`, `diff` and `audit` read: they work beside a running relay and on a copy,
and write nothing into the data directory. `rebuild` and `repair` change it, and refuse while a relay runs. `backup` and
`export` copy out of a directory, `restore` makes one. `strip` and `erase` remove personal data, whether a relay runs or
not.
"""

from __future__ import annotations

import click

from tools.lazy import Elsewhere, LazyGroup

COMMANDS = {
    "inspect": Elsewhere(
        "tools.log.inspect",
        "inspect_command",
        "List the segments: their files, sizes and sequence numbers.",
    ),
    "cat": Elsewhere("tools.log.cat", "cat_command", "Print the events, one a line, the oldest first."),
    "tail": Elsewhere("tools.log.cat", "tail_command", "Print the last events."),
    "verify": Elsewhere(
        "tools.log.verify", "verify_command", "Check every checksum of the log, and the views against it."
    ),
    "replay": Elsewhere(
        "tools.log.replay", "replay_command", "Show the views as they were at an event or a time."
    ),
    "diff": Elsewhere(
        "tools.log.replay", "diff_command", "Show what changed in the views between two events or times."
    ),
    "audit": Elsewhere("tools.log.audit", "audit_command", "Tell one message's whole story, and prove it."),
    "rebuild": Elsewhere(
        "tools.log.repair",
        "rebuild_command",
        "Throw the views away and build them again from the log.",
    ),
    "repair": Elsewhere(
        "tools.log.repair", "repair_command", "Cut a torn tail, which was never acknowledged."
    ),
    "backup": Elsewhere("tools.log.backup", "backup_command", "Copy log, keys and configuration to DEST."),
    "restore": Elsewhere("tools.log.backup", "restore_command", "Make a data directory DIR from BACKUP."),
    "export": Elsewhere(
        "tools.log.export",
        "export_command",
        "Write the events as JSON lines, as `log cat --json` does.",
    ),
    "strip": Elsewhere(
        "tools.log.strip",
        "strip_command",
        "Remove the personal data of messages that are long over.",
    ),
    "erase": Elsewhere(
        "tools.log.strip", "erase_command", "Remove personal data of a message or a recipient, now."
    ),
}


@click.group(
    "log",
    cls=LazyGroup,
    elsewhere=COMMANDS,
    help="The log: look into it, check it, mend what can be mended.",
)
def log_group() -> None: ...
