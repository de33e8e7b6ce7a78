"""`python -m tests.processes.prying serve DIR`: `atmos-relay serve DIR` whose workers first try what they may not.

What worked of it each says in its log (`worker.pried`); then it is an edge (`prying_edge`), or a courier.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from relay.file_names import LOG_DIRECTORY, VIEWS_DIRECTORY

logger = logging.getLogger(__name__)


def pry(directory: Path) -> None:
    key = next(path for path in (directory / "keys").rglob("*") if path.is_file())
    log, views = directory / LOG_DIRECTORY, directory / VIEWS_DIRECTORY
    segment = next(log.glob("*.seg"))
    attempts: dict[str, Callable[[], object]] = {
        "read a key": key.read_bytes,
        "read the log": segment.read_bytes,
        "write to the log": lambda: segment.open("ab").close(),
        "write to the views": lambda: (views / "data.mdb").open("ab").close(),
        "make a file in the log": (log / "pried").touch,
        "make a file in the data directory": (directory / "pried").touch,
        "move a segment": lambda: segment.rename(log / "moved"),
    }
    worked = []
    for what, attempt in attempts.items():
        try:
            attempt()
        except PermissionError:
            continue
        worked.append(what)
    logger.warning("worker.pried", extra={"worked": worked})


if __name__ == "__main__":
    import relay.couriers.host
    import relay.edges.host
    from relay.processes.keeper import Role
    from tools.cli import main

    def role(name: str, module: str, *rest: object, **more: object) -> Role:
        return Role(name, f"tests.processes.prying_{name}", *rest, **more)  # type: ignore[arg-type]

    for host in (relay.edges.host, relay.couriers.host):
        vars(host)["Role"] = role
    main()
