"""Where a running relay takes the operator's commands: the Unix socket in its data directory.

0600: who may read the keys may give orders. What comes through it is checked like any other input, and harms nobody
(`relay.operator.protocol` has the protocol). Each command is told who gives it: the Unix user whom the kernel names at
the other end.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import socket
import struct
from typing import Any

import msgspec
import trio

from relay.core import Core
from relay.file_names import ADMIN_SOCKET
from relay.message.key_files import KeyFileError
from relay.operator.client import user_name
from relay.operator.commands import make_all_known, order
from relay.operator.protocol import short_path
from relay.principals import Operator
from relay.refusals import Refusal
from relay.registry import decision_for
from spool.errors import SpoolError

logger = logging.getLogger(__name__)

LINE_BYTES_MAX = 1024 * 1024
REQUEST_SECONDS_MAX = 60.0

# What comes through the socket is looked for in the registry.
make_all_known()


async def serve_admin_socket(core: Core, task_status: trio.TaskStatus[None]) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = core.directory / ADMIN_SOCKET
    path.unlink(missing_ok=True)  # we hold the directory's lock: whoever left it is gone
    with short_path(core.directory) as short:
        before = os.umask(0o177)
        try:
            listener.bind(short)
        finally:
            os.umask(before)
    listener.listen(16)

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            with trio.move_on_after(REQUEST_SECONDS_MAX) as patience:
                try:
                    line = await _read_line(stream)
                    by = Operator(await core.surroundings.offload(user_name, _uid_of(stream)))
                    reply = await _answer(core, line, by, patience)
                    await stream.send_all(json.dumps(reply).encode() + b"\n")
                except trio.BrokenResourceError:
                    logger.info("admin.hung_up")

    try:
        task_status.started()
        await trio.serve_listeners(answer, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])
    finally:
        path.unlink(missing_ok=True)


class AdminRequest(msgspec.Struct):
    """One line of the socket's protocol."""

    command: str
    arguments: msgspec.Raw


async def _answer(core: Core, line: bytes, by: Operator, patience: trio.CancelScope) -> dict[str, Any]:
    try:
        request = msgspec.json.decode(line, type=AdminRequest)
        try:
            command = decision_for(request.command, by)
        except LookupError:
            return _refused("INVALID_REQUEST", f"there is no command {request.command!r}")
        arguments = msgspec.json.decode(request.arguments, type=command.arguments)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _refused("INVALID_REQUEST", f"not an order that this relay understands: {error}")
    logger.info("admin.command", extra={"command": request.command})
    if command.unhurried:
        patience.deadline = math.inf
    try:
        return {"result": await order(core, command, arguments, by)}
    except Refusal as refusal:
        return _refused(refusal.code, refusal.message)
    except SpoolError as error:
        return _refused("TEMPORARILY_UNAVAILABLE", str(error))
    except (KeyFileError, OSError) as error:  # a file that the operator has to put right
        return _refused("INTERNAL_ERROR", str(error))
    except Exception as error:  # no order of the operator may end a running relay, whatever it says
        request_id = secrets.token_hex(8)
        logger.error(
            "admin.defect", exc_info=error, extra={"request_id": request_id, "command": request.command}
        )
        return _refused(
            "INTERNAL_ERROR", f"a defect of the relay; its log has it under request id {request_id}"
        )


def _uid_of(stream: trio.SocketStream) -> int:
    """Whom the kernel saw connect: unix(7), SO_PEERCRED."""
    _pid, uid, _gid = struct.unpack("iII", stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def _refused(code: str, sentence: str) -> dict[str, Any]:
    return {"error": sentence, "code": code}


async def _read_line(stream: trio.SocketStream) -> bytes:
    """A line; without its end where the other side ended it or it is longer than may be."""
    line = bytearray()
    while not line.endswith(b"\n"):
        part = await stream.receive_some(65536)
        if not part or len(line) + len(part) > LINE_BYTES_MAX:
            break
        line += part
    return bytes(line)
