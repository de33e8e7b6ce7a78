"""Reading a request's body: never more of it than the route wants, and never for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
import trio
from quart import request

from relay.refusals import Refusal

Fields = TypeVar("Fields")

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


async def read_json(decode: Callable[[bytes], Fields], bytes_max: int) -> Fields:
    """The body as what `decode` (of msgspec) makes of it. Raises Refusal(UNSUPPORTED_MEDIA_TYPE or INVALID_REQUEST), or
    as `read_body`."""
    if request.mimetype and request.mimetype != "application/json":
        raise Refusal("UNSUPPORTED_MEDIA_TYPE", "Content-Type: send application/json")
    body = await read_body(bytes_max)
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise Refusal("INVALID_REQUEST", str(error)) from error  # it names the field
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("INVALID_REQUEST", f"the body is not JSON in UTF-8: {error}") from error


def _too_large(bytes_max: int) -> Refusal:
    return Refusal("PAYLOAD_TOO_LARGE", f"the request body is larger than {bytes_max} bytes")
