"""Answers to requests that came whole: what goes out is what h11 makes of the same answer."""

from __future__ import annotations

from functools import partial

import h11
import pytest
import trio
import trio.testing

from relay.api.whole_request import WholeRequest, plain_head

JSON = [(b"content-type", b"application/json"), (b"content-length", b"2")]
DATE = (b"date", b"Sun, 29 Nov 2026 17:00:00 GMT")


def h11_head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
    assert type(connection.next_event()) is h11.Request
    head: bytes | None = connection.send(h11.Response(status_code=status, headers=headers))
    assert head is not None
    return head


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, [*JSON, DATE]),
        (401, [*JSON, (b"www-authenticate", b"Bearer"), DATE]),
        (429, [*JSON, (b"retry-after", b"1"), DATE]),
        (204, [DATE]),
        (503, [*JSON, DATE]),
    ],
)
def test_the_head_is_h11s(status: int, headers: list[tuple[bytes, bytes]]) -> None:
    assert plain_head(status, headers) == h11_head(status, headers)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"text/html")],  # h11 chooses how to say where it ends
        [*JSON, (b"connection", b"close")],
        [*JSON, (b"transfer-encoding", b"chunked")],
        [*JSON, (b"location", b"/a\r\nset-cookie: b")],
        [*JSON, (b"location", b"/a\nset-cookie: b")],
        [*JSON, (b"location", b"/a\rb")],
    ],
)
def test_what_is_not_plain_is_left_to_h11(headers: list[tuple[bytes, bytes]]) -> None:
    assert plain_head(200, headers) is None


def test_the_application_gets_the_body_once_and_its_answer_is_put_together() -> None:
    async def main() -> None:
        request = WholeRequest(b"{}")
        assert await request.receive() == {"type": "http.request", "body": b"{}", "more_body": False}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request.receive)
            await trio.testing.wait_all_tasks_blocked()  # nothing more comes, not even an end
            nursery.cancel_scope.cancel()
        await request.send({"type": "http.response.start", "status": 200, "headers": JSON})
        body = partial(dict, type="http.response.body")
        await request.send(body(body=b"a", more_body=True))
        assert not request.is_answered
        await request.send(body(body=b"b"))
        assert (request.status, request.answer, request.is_answered) == (200, b"ab", True)

    trio.run(main)
