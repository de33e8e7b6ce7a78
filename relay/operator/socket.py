"""The operator's commands that change or ask a relay, whether it runs or not.

A running relay owns its data directory, so the command line hands the command to it through a Unix socket in that
directory (0600: who may read the keys may give orders). When none runs, the command line opens the directory itself
and carries the command out there. Both ways end in `COMMANDS`.

A command that has a `by` is told who gives the order: the Unix user at the other end of the socket, whom the kernel
names, or the one who runs the command line. Under sudo that is root.

The socket's protocol: one line of JSON each way, `{"command", "arguments"}` and `{"result"}` or `{"error", "code"}`.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import os
import pwd
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import trio

from relay.core import Core, open_core
from relay.data_directory import Readable, open_for_reading
from relay.dids import is_valid_did
from relay.message.keys import KeyFileError
from relay.operator.membership import (
    Answer,
    Command,
    complaint_record,
    dns,
    domain_add,
    domain_list,
    domain_pause,
    domain_resume,
    domain_set_forward,
    domain_verify,
    key_issue,
    key_list,
    key_revoke,
    member_add,
    member_limits,
    member_list,
    member_resume,
    member_suspend,
)
from relay.operator.queue import (
    queue_cancel,
    queue_flush,
    queue_hold,
    queue_list,
    queue_release,
    queue_show,
)
from relay.operator.retention import log_erase, log_strip
from relay.refusals import Refusal
from spool.errors import SpoolError

logger = logging.getLogger(__name__)

ADMIN_SOCKET = "admin.sock"
LINE_BYTES_MAX = 1024 * 1024
REQUEST_SECONDS_MAX = 60.0


# ------------------------------------------------------------------------------------------------ commands


COMMANDS: dict[str, Command] = {
    command.__name__: command
    for command in (
        member_add,
        member_list,
        member_suspend,
        member_resume,
        member_limits,
        domain_pause,
        domain_resume,
        domain_set_forward,
        domain_add,
        domain_verify,
        domain_list,
        key_issue,
        key_list,
        key_revoke,
        complaint_record,
        dns,
        queue_list,
        queue_show,
        queue_flush,
        queue_hold,
        queue_release,
        queue_cancel,
        log_strip,
        log_erase,
    )
}

#: Those that take as long as it takes to rewrite a log.
UNHURRIED_COMMANDS = (log_strip.__name__, log_erase.__name__)


#: Those that only read: where no relay runs, they write nothing either.
READING_COMMANDS: dict[str, Command] = {
    command.__name__: command for command in (member_list, domain_list, key_list, dns, queue_list, queue_show)
}


# ------------------------------------------------------------------------------------------------ both ways


async def administer(directory: Path, command: str, arguments: dict[str, Any]) -> Answer:
    """Carry out a command: by the relay that runs on `directory`, or here when none does.

    Raises Refusal, or what `open_core` raises.
    """
    try:
        with _short_path(directory) as path:
            stream = await trio.open_unix_socket(path)
    except (FileNotFoundError, ConnectionRefusedError):  # none runs, or one left its socket behind
        if command in READING_COMMANDS:
            with open_for_reading(directory) as readable:
                return await _carry_out(readable, READING_COMMANDS[command], arguments, by=None)
        async with open_core(directory) as core:
            try:
                return await _carry_out(core, COMMANDS[command], arguments, by=user_name(os.getuid()))
            except Refusal as error:  # carried out of the nurseries, which would wrap it
                refusal = error
        raise refusal from None
    try:
        async with stream:
            await stream.send_all(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
            answer = json.loads(await _read_line(stream, bytes_max=None))
    except (trio.BrokenResourceError, ValueError) as error:
        raise Refusal(
            "TEMPORARILY_UNAVAILABLE",
            "the relay stopped before it answered; look whether the command was carried out, and try again",
        ) from error
    if "error" in answer:
        raise Refusal(answer["code"], answer["error"])
    result: Answer = answer["result"]
    return result


def is_running(directory: Path) -> bool:
    """Whether a relay runs on `directory`: whether somebody answers there, not what one that was killed left behind."""
    with _short_path(directory) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0


async def serve_admin_socket(core: Core, task_status: trio.TaskStatus[None]) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = core.directory / ADMIN_SOCKET
    path.unlink(missing_ok=True)  # we hold the directory's lock: whoever left it is gone
    with _short_path(core.directory) as short:
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
                    line = await _read_line(stream, bytes_max=LINE_BYTES_MAX)
                    by = await core.surroundings.offload(user_name, _uid_of(stream))
                    reply = await _answer(core, line, by, patience)
                    await stream.send_all(json.dumps(reply).encode() + b"\n")
                except trio.BrokenResourceError:
                    logger.info("admin.hung_up")

    try:
        task_status.started()
        await trio.serve_listeners(answer, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])
    finally:
        path.unlink(missing_ok=True)


class _Order(msgspec.Struct):
    """One line of the socket's protocol."""

    command: str
    arguments: msgspec.Raw


@cache
def _arguments_of(command: Command) -> type[msgspec.Struct]:
    """The arguments of a command as a type, so that what comes from the socket is checked like any other input."""
    hints = get_type_hints(command)
    fields: list[Any] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            field = (parameter.name, hints[parameter.name])
            optional = parameter.default is not parameter.empty
            fields.append((*field, parameter.default) if optional else field)
    return msgspec.defstruct(command.__name__, fields, kw_only=True, forbid_unknown_fields=True)


async def _answer(core: Core, line: bytes, by: str, patience: trio.CancelScope) -> dict[str, Any]:
    try:
        order = msgspec.json.decode(line, type=_Order)
        command = COMMANDS.get(order.command)
        if command is None:
            return _refused("INVALID_REQUEST", f"there is no command {order.command!r}")
        arguments = msgspec.json.decode(order.arguments, type=_arguments_of(command))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _refused("INVALID_REQUEST", f"not an order that this relay understands: {error}")
    logger.info("admin.command", extra={"command": order.command})
    if order.command in UNHURRIED_COMMANDS:
        patience.deadline = math.inf
    try:
        return {"result": await _carry_out(core, command, msgspec.structs.asdict(arguments), by=by)}
    except Refusal as refusal:
        return _refused(refusal.code, refusal.message)
    except SpoolError as error:
        return _refused("TEMPORARILY_UNAVAILABLE", str(error))
    except (KeyFileError, OSError) as error:  # a file that the operator has to put right
        return _refused("INTERNAL_ERROR", str(error))


async def _carry_out(
    core: Readable, command: Command, arguments: dict[str, Any], *, by: str | None
) -> Answer:
    did = arguments.get("did")
    if did is not None and not is_valid_did(did):
        # Before a view is asked: what is no DID may be no key of a table either.
        raise Refusal("INVALID_DID", f"did: {did[:300]!r} is not a valid did:plc: or did:web:")
    if "by" in inspect.signature(command).parameters:
        return await command(core, by, **arguments)
    return await command(core, **arguments)


def _uid_of(stream: trio.SocketStream) -> int:
    """Whom the kernel saw connect: unix(7), SO_PEERCRED."""
    _pid, uid, _gid = struct.unpack("iII", stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def user_name(uid: int) -> str:
    """It goes into the log for good. May block: names can come over the network."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
    return name if len(name) <= 64 and name.isprintable() else f"uid {uid}"


def _refused(code: str, sentence: str) -> dict[str, Any]:
    return {"error": sentence, "code": code}


async def _read_line(stream: trio.SocketStream, *, bytes_max: int | None) -> bytes:
    """A line; without its end where the other side ended it or it is longer than may be."""
    line = bytearray()
    while not line.endswith(b"\n"):
        part = await stream.receive_some(65536)
        if not part or (bytes_max is not None and len(line) + len(part) > bytes_max):
            break
        line += part
    return bytes(line)


@contextmanager
def _short_path(directory: Path) -> Iterator[str]:
    """The socket's path by way of a descriptor: the path of a Unix socket may have 107 bytes only."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{ADMIN_SOCKET}"
    finally:
        os.close(descriptor)
