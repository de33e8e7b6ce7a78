"""Gives an operator's command to the relay that runs on a directory, or carries it out where none does.

A running relay owns its data directory, so the command line hands the command to it through a Unix socket in that
directory (0600: who may read the keys may give orders). When none runs, the command line opens the directory itself.

A command is told who gives it: the Unix user at the other end of the socket, whom the kernel names, or the one who runs
the command line. Under sudo that is root.

Beside a running relay this needs a socket and JSON, and imports no more.
"""

from __future__ import annotations

import pwd
import socket
from pathlib import Path
from typing import Any

from relay.operator.protocol import CommandAnswer, request_line, result_in, short_path


def administer(
    directory: Path, command: str, arguments: dict[str, Any], *, patience_seconds: float | None = None
) -> CommandAnswer:
    """Carry out a command: by the relay that runs on `directory`, or here when none does.

    Raises Refusal, or what `open_core` raises; TimeoutError where a relay is silent for so many seconds.
    """
    try:
        connection = _connected(directory)
    except (FileNotFoundError, ConnectionRefusedError):  # none runs, or one left its socket behind
        from relay.operator.without_relay import carry_out_alone

        return carry_out_alone(directory, command, arguments)
    with connection:
        connection.settimeout(patience_seconds)
        return result_in(_asked(connection, request_line(command, arguments)))


def is_running(directory: Path) -> bool:
    """Whether a relay runs on `directory`: whether somebody answers there, not what one that was killed left behind."""
    with short_path(directory) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0


def user_name(uid: int) -> str:
    """It goes into the log for good. May block: names can come over the network."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
    return name if len(name) <= 64 and name.isprintable() else f"uid {uid}"


def _connected(directory: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(directory) as path:
            connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _asked(connection: socket.socket, request: bytes) -> bytes:
    """The line that comes back; what there is of it where the relay went meanwhile."""
    line = bytearray()
    try:
        connection.sendall(request)
        while not line.endswith(b"\n") and (part := connection.recv(65536)):
            line += part
    except ConnectionError:
        return b""
    return bytes(line)
