"""`init`: makes a data directory, from nothing to ready to serve."""

from __future__ import annotations

import time
from pathlib import Path

from relay.config import CONFIG_FILE, parse_config
from relay.config_template import config_template
from relay.message.key_files import fsync_directory, is_unfinished, remove_unfinished, write_new
from relay.message.keys import KeyRing, create_pepper
from relay.refusals import Refusal

OPERATOR_DOMAIN_DEFAULT = "relay.example"


def initialise(
    directory: Path, *, operator_domain: str, public_url: str | None, today: str | None = None
) -> None:
    """Make `directory` with its configuration, its pepper and the operator's keys.

    Raises Refusal(CONFLICT) where there is a configuration already, ConfigError for a bad domain or URL, OSError. The
    configuration is written last, and is there whole or not at all: a directory without one was never finished, and
    `init` can be run again.
    """
    text = config_template(operator_domain, public_url or f"https://{operator_domain}")
    config = parse_config(text, CONFIG_FILE)
    path = directory / CONFIG_FILE
    if path.exists():
        raise Refusal("CONFLICT", f"{directory} is a data directory already; nothing was changed")
    if directory.exists() and not all(map(_is_ours, directory.iterdir())):
        raise Refusal("CONFLICT", f"{directory} is not empty, and no data directory; nothing was changed")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    fsync_directory(directory.parent)
    remove_unfinished(directory)
    if not (directory / "pepper").exists():
        create_pepper(directory)
    keyring = KeyRing(directory)
    if not keyring.stems(config.operator_domain):
        keyring.create(config.operator_domain, f"atmos{today or time.strftime('%Y%m%d', time.gmtime())}")
    write_new(path, text.encode())


def _is_ours(entry: Path) -> bool:
    """What an `init` that was cut off may have left behind."""
    return entry.name in ("pepper", "keys") or is_unfinished(entry.name)
