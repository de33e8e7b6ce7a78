"""Reading a request's body: never more of it than the route wants, and never for ever."""

from __future__ import annotations

import trio
from quart import request

from relay.refusals import Refusal

BODY_SECONDS_MAX = 4.0


async def read_body(bytes_max: int) -> bytes:
    """The whole body. Raises Refusal(PAYLOAD_TOO_LARGE) as soon as it is known to be larger, or REQUEST_TIMEOUT."""
    if (request.content_length or 0) > bytes_max:
        raise _too_large(bytes_max)
    body = bytearray()
    with trio.move_on_after(BODY_SECONDS_MAX):
        async for part in request.body:
            body += part
            if len(body) > bytes_max:
                raise _too_large(bytes_max)
        return bytes(body)
    raise Refusal("REQUEST_TIMEOUT", f"the request body did not arrive within {BODY_SECONDS_MAX:.0f} s")


def _too_large(bytes_max: int) -> Refusal:
    return Refusal("PAYLOAD_TOO_LARGE", f"the request body is larger than {bytes_max} bytes")
