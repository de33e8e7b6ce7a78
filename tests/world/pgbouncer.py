"""Debian's PgBouncer before one server of `tests.world.postgres`, in a directory of its own and on loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.world.daemon import free_port, is_listening, open_daemon_directory, require_daemon, running
from tests.world.postgres import PASSWORD, ROLE, Server

_USER = "postgres"


@contextmanager
def running_pgbouncer(server: Server, conninfo: str, *, pool_mode: str, settings: str = "") -> Iterator[str]:
    """How to connect through it to the database of `conninfo`, on this server."""
    pgbouncer = require_daemon("pgbouncer")
    with open_daemon_directory("pgbouncer", owner=_USER) as directory:
        port = free_port()
        users, config = directory / "users", directory / "pgbouncer.ini"
        users.write_text(f'"{ROLE}" "{PASSWORD}"\n')
        config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\n"
            f"pool_mode = {pool_mode}\n{settings}\n"
        )
        for file in (users, config):
            file.chmod(0o600)
            shutil.chown(file, _USER)
        command = [pgbouncer, "-u", _USER, str(config)]
        with running(command, directory, ready=lambda: is_listening(port)):
            yield make_conninfo(**{**conninfo_to_dict(conninfo), "host": "127.0.0.1", "port": port})
