"""`watch`: a member's status stream in the terminal, for as long as it is wanted.

The contract: **each event is printed once, in order, whatever happens to the connection or to the relay.** Where it
breaks, it is made again with the last printed `seq` as the cursor, after a pause that doubles and has jitter, so that a
relay that comes back is not met by all of its readers at once.

Exit status: 0 when nobody reads any more or on Ctrl-C, 1 when the relay refuses (credentials, a cursor of the future, a
revoked key), 2 usage.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import click
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError

from relay.dids import is_valid_did
from tools.output import json_option, printable, quiet_when_nobody_reads, report_line, wait_until_nobody_reads

FRAME_BYTES_MAX = 1024 * 1024
CONNECT_SECONDS_MAX = 20.0
CLOSE_SECONDS_MAX = 1.0
#: So long a relay may say nothing to a ping before it counts as gone.
PING_SECONDS = 30.0
PAUSE_SECONDS_FIRST = 0.5
PAUSE_SECONDS_MAX = 30.0
#: Policy violation (RFC 6455, 7.4.1): the relay does not want us, and will not the next time.
_UNWANTED = 1008

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class RefusedError(click.ClickException):
    """The relay will say the same again: there is no use in trying."""


@click.command("watch")
@click.argument("base_url", metavar="BASE_URL")
@click.option("--did", required=True, envvar="ATMOS_DID", help="Whose events.  [env: ATMOS_DID]")
@click.option(
    "--key",
    required=True,
    envvar="ATMOS_KEY",
    help="API key. Better in the environment: everybody on this machine can read command lines.  [env: ATMOS_KEY]",
)
@click.option("--cursor", type=click.IntRange(min=0), help="Begin behind this seq; 0: with the first event.")
@json_option
def watch_command(base_url: str, did: str, key: str, cursor: int | None, as_json: bool) -> None:
    """Print a member's events as they happen, until Ctrl-C.

    From now on, or from a cursor.
    """
    watch = Watch(stream_url(base_url), _headers(did, key), cursor, as_json)
    refusals: list[BaseException] = []
    with quiet_when_nobody_reads():
        try:
            trio.run(watch.run)
        except* KeyboardInterrupt:
            pass  # that is how it is meant to end
        except* RefusedError as group:
            refusals += _leaves(group)  # raised here, it would be in a group again
    for refusal in refusals:
        raise refusal


def stream_url(base_url: str) -> str:
    """`https://relay.example` -> `wss://relay.example/v1/stream`."""
    parts = urlsplit(base_url)
    try:
        is_address = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:  # a port that is none
        is_address = False
    if not is_address or parts.query or parts.fragment or "@" in parts.netloc:
        raise click.BadParameter(
            "expected the relay's address, such as https://relay.example", param_hint="BASE_URL"
        )
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}/v1/stream"


def _headers(did: str, key: str) -> list[tuple[bytes, bytes]]:
    if not is_valid_did(did):
        raise click.BadParameter("not a valid did:plc: or did:web:", param_hint="--did")
    if not re.fullmatch(r"[!-~]+", key):
        raise click.BadParameter("expected `atmos_...`", param_hint="--key")
    return [(b"X-Atmos-DID", did.encode()), (b"Authorization", f"Bearer {key}".encode())]


class Watch:
    def __init__(
        self, url: str, headers: list[tuple[bytes, bytes]], cursor: int | None, as_json: bool
    ) -> None:
        self._url = url
        self._headers = headers
        self._cursor = cursor
        self._as_json = as_json
        self._pauses = _pauses()

    async def run(self) -> None:
        """Until nobody reads what is printed. Raises RefusedError."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_until_nobody_reads, nursery.cancel_scope)
            while True:
                try:
                    await self._connected()
                    problem = "the relay ended the stream"
                except* (OSError, trio.BrokenResourceError, trio.TooSlowError, ConnectionRejected) as group:
                    if any(isinstance(error, BrokenPipeError) for error in _leaves(group)):
                        raise
                    for error in _leaves(group):
                        if isinstance(error, ConnectionRejected) and _is_final(error):
                            raise RefusedError(_why(error)) from None
                    problem = "; ".join(_said(error) for error in _leaves(group))
                pause = next(self._pauses)
                click.echo(f"{self._url}: {printable(problem)}; again in {pause:.1f} s", err=True)
                await trio.sleep(pause)

    async def _connected(self) -> None:
        """One connection, to its end."""
        url = self._url if self._cursor is None else f"{self._url}?cursor={self._cursor}"
        async with open_websocket(url, self._headers) as connection:
            if self._cursor is None:
                # Before the first event, too, there is something to lose.
                self._cursor = _begin(connection)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ping, connection)
                await self._print_all(connection)
                nursery.cancel_scope.cancel()

    async def _print_all(self, connection: WebSocketConnection) -> None:
        try:
            while True:
                frame = json.loads(await connection.get_message())
                if "seq" in frame:
                    click.echo(json.dumps(frame) if self._as_json else as_line(frame))
                    self._cursor = frame["seq"]
                    self._pauses = _pauses()
                elif "error" in frame:
                    raise RefusedError(printable(f"{frame['error']}: {frame.get('message')}"))
                else:
                    click.echo(printable(f"{frame.get('info')}: {frame.get('message')}"), err=True)
        except ConnectionClosed as closed:
            if closed.reason is not None and closed.reason.code == _UNWANTED:
                raise RefusedError(printable(closed.reason.reason or "the relay closed the stream")) from None


@asynccontextmanager
async def open_websocket(
    url: str, headers: list[tuple[bytes, bytes]], **options: Any
) -> AsyncIterator[WebSocketConnection]:
    """A connection to a `ws:` or `wss:` URL. What goes wrong comes in an exception group.

    On a stream of our own: trio-websocket would leave the socket open where the other side closes first, and hide what
    is wrong with a certificate.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    secure = parts.scheme == "wss"
    port = parts.port or (443 if secure else 80)
    async with AsyncExitStack() as stack:
        with trio.fail_after(CONNECT_SECONDS_MAX):
            stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]
            if secure:
                stream = await trio.open_ssl_over_tcp_stream(parts.hostname, port, https_compatible=True)
                await stack.enter_async_context(stream)
                await stream.do_handshake()
            else:
                stream = await trio.open_tcp_stream(parts.hostname, port)
                await stack.enter_async_context(stream)
        nursery = await stack.enter_async_context(_reader_nursery())
        resource = f"{parts.path}?{parts.query}" if parts.query else parts.path
        with trio.fail_after(CONNECT_SECONDS_MAX):
            connection = await wrap_client_stream(
                nursery,
                stream,
                parts.netloc,
                resource,
                extra_headers=headers,
                max_message_size=FRAME_BYTES_MAX,
                **options,
            )
        try:
            yield connection
        finally:
            with trio.move_on_after(CLOSE_SECONDS_MAX):
                await connection.aclose()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _reader_nursery() -> AsyncIterator[trio.Nursery]:
    """The task of trio-websocket that reads answers pings, also when we have begun to close, which wsproto refuses."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except* LocalProtocolError:
        pass


def _is_final(rejection: ConnectionRejected) -> bool:
    """Whether the relay would say the same again."""
    return bool(rejection.status_code < 500 and rejection.status_code != 429)


def _begin(connection: WebSocketConnection) -> int | None:
    found = {name.lower(): value for name, value in connection.handshake_headers}.get(b"atmos-cursor")
    return int(found) if found is not None and found.isdigit() else None


async def _ping(connection: WebSocketConnection) -> None:
    """End the connection where nobody is at its other end."""
    try:
        while True:
            await trio.sleep(PING_SECONDS)
            with trio.fail_after(PING_SECONDS):
                await connection.ping()
    except trio.TooSlowError:
        raise OSError("the relay does not answer") from None
    except ConnectionClosed:
        pass  # `_print_all` sees it too


def _pauses() -> Iterator[float]:
    """Before the first, the second ... try in a row."""
    pause = PAUSE_SECONDS_FIRST
    while True:
        yield pause * random.uniform(0.5, 1)  # jitter, no secret
        pause = min(pause * 2, PAUSE_SECONDS_MAX)


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _said(error: BaseException) -> str:
    """What went wrong, in a sentence."""
    if isinstance(error, ConnectionRejected):
        return _why(error)
    if isinstance(error, trio.TooSlowError):
        return "the relay does not answer"
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):  # of each address of the host
        return "; ".join(dict.fromkeys(map(_said, _leaves(cause))))
    if isinstance(cause, OSError) and cause.errno and not isinstance(cause, socket.gaierror):
        return os.strerror(cause.errno).lower()
    return str(cause) or type(cause).__name__


def _why(rejection: ConnectionRejected) -> str:
    """The JSON error, or what there is instead of it."""
    try:
        answer = json.loads(rejection.body or b"")
        return printable(f"{answer['code']}: {answer['error']}")
    except (ValueError, KeyError, TypeError):
        return f"the answer is HTTP {rejection.status_code}; is this the address of a relay?"


def as_line(frame: dict[str, Any]) -> str:
    """`448  2025-01-07T10:11:12.000000Z  message.deferred  message 447 to a@b.example: deferred, 451 4.2.0 "later"`"""
    story = "".join(_story(frame))
    return printable(
        f"{frame['seq']:>7}  {frame.get('time')}  {frame.get('type') or '':<20}  {story}".rstrip()
    )


def _story(frame: dict[str, Any]) -> Iterator[str]:
    """What it is about, then what happened to it."""
    if "messageId" in frame:
        yield f"message {frame['messageId']}"
    if "recipient" in frame:
        to = frame["recipient"] or "a recipient (personal data removed)"
        yield f" to {to}" if "messageId" in frame else to
    yield frame.get("domain", "")
    facts = [str(frame[key]) for key in ("status", "because", "reason", "note") if frame.get(key)]
    if frame.get("attempt"):
        facts.append(f"attempt {frame['attempt']}")
    if reply := frame.get("reply"):
        facts.append(_reply(reply))
    if report := frame.get("report"):
        facts.append(report_line(report))
    if frame.get("via"):
        facts.append(_complaint(frame))
    if frame.get("failed"):
        facts.append(", ".join(frame["failed"]))
    if "forwardTo" in frame:
        facts.append(f"bounces are told to {frame['forwardTo'] or 'nobody'}")
    if frame.get("nextAttemptAt"):
        facts.append(f"next at {frame['nextAttemptAt']}")
    if facts:
        yield ": " + ", ".join(facts)


def _complaint(frame: dict[str, Any]) -> str:
    by = frame.get("provider") or (
        "the operator" if frame["via"] == "operator" else "a report that nobody known signed"
    )
    kind = f" ({frame['feedbackType']})" if frame.get("feedbackType") else ""
    return f"by {by}{kind}{'' if frame.get('authenticated') else ', which counts as an unsubscribe'}"


def _reply(reply: dict[str, Any]) -> str:
    codes = [str(reply[key]) for key in ("code", "enhanced") if reply.get(key) is not None]
    text = [f'"{reply["text"]}"'] if reply.get("text") else []
    return " ".join([*codes, *text])
