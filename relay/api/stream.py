"""`GET /v1/stream`: a member's events on a websocket, as they happen and from wherever it left off (SPEC 5).

The contract: **with the `seq` of the last frame as its next cursor, a reader gets each of its events once, in the order
of the log, whatever broke in between.** What is sent is read from the log when the reader has taken what was sent
before; a slow one holds up nobody, and nothing piles up for it.

Before the upgrade everything that is wrong is an HTTP answer with the JSON error. The answer to the upgrade says in
`Atmos-Cursor` where the stream begins, so that whoever came without a cursor can resume even before its first event.
What the client sends is read and dropped.

This is plain ASGI: what Quart would add (routing, a request context, a queue) is nothing that a stream needs, and
would be held for each idle one.
"""

from __future__ import annotations

from typing import Any

import msgspec
import trio

from relay.api.answers import Answer, error_answer
from relay.api.credentials import listener_of
from relay.api.nodes import check_fit, wait_until_known
from relay.api.request import Receive, Request, Send
from relay.edge import Edge
from relay.refusals import Refusal
from relay.stream_pages import (
    FUTURE_CURSOR,
    OUTDATED_CURSOR,
    events_after,
    is_future,
    kept_from,
    parse_cursor,
)
from relay.streams import Ending, Subscriber

PATH = "/v1/stream"
#: So many events are read from the log at a time for one reader, which takes well below a millisecond.
PAGE_EVENTS = 8
#: So long the peer has to answer a close frame.
CLOSE_SECONDS_MAX = 2.0

ARGUMENTS = frozenset({"cursor", "ticket", "did"})
#: JSON Schema of a cursor.
CURSOR = {"type": "integer", "minimum": 0}


async def serve_stream(edge: Edge, scope: Any, receive: Receive, send: Send) -> None:
    """One websocket, from its request to its end."""
    await receive()  # websocket.connect
    request = Request(scope, receive, legal_arguments=ARGUMENTS)
    try:
        if edge.node is not None:
            check_fit(edge)
            await wait_until_known(edge, request)
        principal, ticket = listener_of(edge, request)
        asked = request.argument("cursor")
        cursor = None if asked is None else parse_cursor(asked)
        async with edge.streams.open(principal, ticket) as subscriber:
            await _serve(edge, subscriber, cursor, receive, send)
    except Refusal as refusal:  # before the upgrade: there are none behind it
        answer, _ = error_answer(refusal, method="GET", route=PATH)
        await answer_by_http(send, answer)


async def answer_by_http(send: Send, answer: Answer) -> None:
    """Answer the request for a websocket with something else."""
    start = {"status": answer.status, "headers": answer.raw_headers()}
    await send({"type": "websocket.http.response.start", **start})
    await send({"type": "websocket.http.response.body", "body": answer.body, "more_body": False})


async def _serve(
    edge: Edge, subscriber: Subscriber, cursor: int | None, receive: Receive, send: Send
) -> None:
    begin = edge.store.last_seq if cursor is None else cursor
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drop_what_comes, receive, nursery.cancel_scope)
        headers = [(b"atmos-cursor", str(begin).encode())]
        await send({"type": "websocket.accept", "subprotocol": None, "headers": headers})
        ending = await _write(edge, subscriber, begin, send)
        await send({"type": "websocket.close", "code": ending.code, "reason": ending.reason})
        # The peer's own close frame ends this by way of `_drop_what_comes`.
        with trio.move_on_after(CLOSE_SECONDS_MAX):
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()


async def _drop_what_comes(receive: Receive, connected: trio.CancelScope) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass
    connected.cancel()


async def _write(edge: Edge, subscriber: Subscriber, cursor: int, send: Send) -> Ending:
    """Send the events behind `cursor`, the old ones and then the new ones, until there is a reason to end."""
    if is_future(edge.store, cursor):
        await _send_json(send, {"error": "FutureCursor", "message": FUTURE_CURSOR})
        return Ending(1008, "FutureCursor")
    oldest = kept_from(edge.store)
    if 0 < cursor < oldest:
        await _send_json(send, {"info": "OutdatedCursor", "message": OUTDATED_CURSOR})
    cursor = max(cursor, oldest)
    while True:
        events = events_after(edge.store, subscriber.principal.did, cursor, limit=PAGE_EVENTS)
        for event in events:
            if subscriber.ending is not None:
                return subscriber.ending
            await _send_json(send, event)
            cursor = event.seq
        if not events:
            await subscriber.wait()
            if subscriber.ending is not None:
                return subscriber.ending


async def _send_json(send: Send, value: Any) -> None:
    await send({"type": "websocket.send", "text": msgspec.json.encode(value).decode()})
