"""Where the log of a data directory is."""

from __future__ import annotations

from pathlib import Path

import click

from relay.file_names import LOG_DIRECTORY


def log_directory(directory: Path) -> Path:
    """Refuses with a sentence where there is none."""
    log = directory / LOG_DIRECTORY
    if not log.is_dir():
        raise click.ClickException(
            f"{directory} holds no log. Is it a data directory? A relay makes its log when it first runs."
        )
    return log
