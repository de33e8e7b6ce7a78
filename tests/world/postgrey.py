"""Greylisting that nobody here wrote: Debian's postgrey, as a policy service for `tests.world.postfix`."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.world.daemon import open_daemon_directory, require_daemon, running


@contextmanager
def running_postgrey(*, delay_seconds: int) -> Iterator[str]:
    """Greylists everybody for so long, and knows nobody; gives the service as `check_policy_service` wants it."""
    postgrey = require_daemon("postgrey")
    with open_daemon_directory("postgrey", owner="postgrey") as directory:
        path = directory / "socket"

        def is_listening() -> bool:
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(path)) == 0

        command = [
            postgrey,
            f"--unix={path}",
            f"--dbdir={directory}",
            f"--delay={delay_seconds}",
            "--auto-whitelist-clients=0",
            "--whitelist-clients=/dev/null",
            "--whitelist-recipients=/dev/null",
            "--hostname=mx.test",
        ]
        with running(command, directory, ready=is_listening):
            yield f"unix:{path}"
