"""JSON answers."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Response

_encode = msgspec.json.Encoder().encode


def json_answer(value: Any, status: int = 200) -> Response:
    return Response(_encode(value), status, content_type="application/json")
