"""One HTTP exchange, where hypercorn and quart-trio meet: what neither of them sees to.

- **An answer that comes before the request is whole does not leave a dead connection.** A refusal (401, 413 ...) is
  sent at once, but quart-trio, told of its end, cancels the very call in which hypercorn closes the connection: it
  would stay open, and the next request on it would never be answered. So the end of the answer waits a moment for the
  rest of the request, which is read and dropped: mostly it is on its way, and the connection can be kept. Where it does
  not come, the connection is closed; by then the client has had time to read the answer, which a reset might destroy.
  While it waits, the connection rests: it gives way to who comes (`relay.api.places`).
- **A request target that is no URL is not found**, instead of an answer that is not JSON.
"""

from __future__ import annotations

from typing import Any

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable, ASGISendEvent
from quart import Request
from quart_trio.asgi import TrioASGIHTTPConnection

from relay.api.request import say_that_it_rests

#: So long the end of an answer waits for the end of its request.
REST_OF_REQUEST_SECONDS_MAX = 2.0

#: What quart calls a path that nothing can match.
_NOWHERE = " "


class Exchange(TrioASGIHTTPConnection):
    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        request_whole = trio.Event()

        async def receive_noting_the_end() -> ASGIReceiveEvent:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                request_whole.set()
            return message

        async def send_ending_in_order(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                if not request_whole.is_set():
                    say_that_it_rests(self.scope)
                with trio.move_on_after(REST_OF_REQUEST_SECONDS_MAX):
                    await request_whole.wait()
                # Shielded, because hypercorn's first step in it is the `http.disconnect` that cancels this task.
                with trio.CancelScope(shield=True):
                    await send(message)
            else:
                await send(message)

        await super().__call__(receive_noting_the_end, send_ending_in_order)

    def _create_request_from_scope(self, send: Any) -> Request:
        try:
            return super()._create_request_from_scope(send)
        except (ValueError, IndexError):  # "http://[/" and ""
            self.scope["path"] = _NOWHERE
            return super()._create_request_from_scope(send)
