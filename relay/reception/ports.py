"""Where clients come in by SMTP: letting in, and stopping.

The invariant: **every connection that is accepted is served by a session or told why not, and none outlives a stop.**
Whoever is turned away hears 421 without being waited for; on a port that begins with TLS it cannot be told, and is
closed. A stop goes in three steps: nobody new is let in, and whoever says nothing now hears 421 4.3.2; messages that
are being handed in have `grace_seconds`; then these hear it, too, and what is still being decided has
LAST_ANSWER_SECONDS more.

A defect in one connection is logged by its place and ends that connection alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, Generic, NamedTuple

import trio

from relay.listening import Listening
from relay.networks import LOOPBACK, Network, counted_as, is_within, parse_address
from relay.reception.interface import Client, Who
from relay.reception.replies import LOCKED_OUT, STOPPING, Reply
from relay.reception.session import Session, Surroundings

logger = logging.getLogger(__name__)

LAST_ANSWER_SECONDS: Final = 1.0
#: Of what somebody who is turned away has said already.
_READ_BYTES_MAX: Final = 64 * 1024


class Port(NamedTuple, Generic[Who]):
    """An address that is listened on, and what stands behind it."""

    listening: Listening
    #: Asked for every connection, so that settings may change meanwhile.
    surroundings: Callable[[], Surroundings[Who]]


async def serve_smtp(
    ports: Sequence[Port[Who]],
    *,
    close: trio.Event,
    trusted: Sequence[Network] = LOOPBACK,
    grace_seconds: float = 8.0,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `close`, and then see the module docstring. At the end this process listens there no more.

    Reports the addresses, `127.0.0.1:587`, in the order of the ports. Connections from `trusted` have no limit of their
    own.
    """
    sessions: set[Session[Who]] = set()

    async def serve_connection(
        surroundings: Callable[[], Surroundings[Who]], stream: trio.SocketStream
    ) -> None:
        client = _client(stream, trusted)
        if client is None:
            stream.socket.close()
            return
        around = surroundings()
        session = Session(stream, client, _off_loopback(around, client))
        refusal = STOPPING if close.is_set() else _refusal(session, around)
        if refusal is not None:
            _turn_away(stream.socket, None if around.is_tls_at_once else refusal)
            return
        sessions.add(session)
        try:
            await session.serve()
        except Exception:
            logger.exception("smtp.connection_defect")
        finally:
            sessions.discard(session)
            around.places.leave(session)

    async def insist(scope: trio.CancelScope) -> None:
        await trio.sleep(grace_seconds)
        for session in list(sessions):
            session.end(STOPPING, is_urgent=True)
        await trio.sleep(LAST_ANSWER_SECONDS)
        scope.cancel()

    try:
        async with trio.open_nursery() as watching:
            async with trio.open_nursery() as served:
                async with trio.open_nursery() as accepting:
                    for port in ports:
                        serve_port = partial(serve_connection, port.surroundings)
                        listeners = port.listening.listeners()
                        accepting.start_soon(
                            partial(trio.serve_listeners, serve_port, listeners, handler_nursery=served)
                        )
                    task_status.started([port.listening.address for port in ports])
                    await close.wait()
                    accepting.cancel_scope.cancel()
                for session in list(sessions):
                    session.end(STOPPING)
                watching.start_soon(insist, served.cancel_scope)
            watching.cancel_scope.cancel()
    finally:
        for port in ports:
            port.listening.close()


# -- leaves


def _client(stream: trio.SocketStream, trusted: Sequence[Network]) -> Client | None:
    """None: it is gone already."""
    try:
        address = parse_address(stream.socket.getpeername()[0])
    except OSError:
        return None
    return Client(str(address), counted_as(address), is_within(address, trusted))


def _off_loopback(around: Surroundings[Who], client: Client) -> Surroundings[Who]:
    """Whatever the rules of the port are: a password is taken in the clear from this machine, and nobody else."""
    if not around.rules.auth_in_clear or is_within(parse_address(client.address), LOOPBACK):
        return around
    return replace(around, rules=replace(around.rules, auth_in_clear=False))


def _refusal(session: Session[Who], around: Surroundings[Who]) -> Reply | None:
    client = session.client
    if not client.is_trusted and around.lockout.refuses(client.counted_as, trio.current_time()):
        around.places.count_turned_away("locked_out")
        return LOCKED_OUT
    return around.places.take(session)


def _turn_away(socket: trio.socket.SocketType, reply: Reply | None) -> None:
    """Say it without waiting. What has come already is read: a socket that is closed on unread octets takes back what
    it has said."""
    with suppress(OSError):  # it is gone, which is what is wanted of it
        if reply is not None:
            os.write(socket.fileno(), reply.octets)
            os.read(socket.fileno(), _READ_BYTES_MAX)
    socket.close()
