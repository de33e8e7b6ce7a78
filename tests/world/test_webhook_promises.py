"""The judge of webhooks sees what an endpoint may not be told, and nothing in what it may be."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from relay.codec import Recorded
from relay.events import (
    MemberSuspended,
    WebhookAdded,
    WebhookPaused,
    WebhookProgressed,
    WebhookResumed,
    WebhookRewound,
    WebhookSkipped,
)
from tests.world.webhook_listener import Endpoint, Knock, Listener
from tests.world.webhook_promises import SKIP_SECONDS, broken_webhook_promises

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
ADDED = WebhookAdded(did=DID, webhook_id="w", cursor=1, pepper=1)


def log_of(*events: Any) -> list[Recorded]:
    """Its member's events where a number stands: what they are is all the same."""
    return [
        Recorded(seq, seq, MemberSuspended(did=DID) if isinstance(event, int) else event)
        for seq, event in enumerate(events, 1)
    ]


LOG = log_of(1, ADDED, 3, 4, 5, 6)


def knock(
    *seqs: int, status: int = 200, life: int = 1, log_seq: int = 6, at: float = 0, **more: Any
) -> Knock:
    return Knock(
        [*seqs],
        ["member.suspended"] * len(seqs),
        more.pop("replay", False),
        life,
        log_seq,
        at,
        status,
        **more,
    )


def found(*knocks: Knock, log: list[Recorded] = LOG, whole_until: int | None = 6) -> str:
    endpoint = Endpoint("w", [SECRET], knocks=[*knocks])
    return "; ".join(broken_webhook_promises(log, endpoint, whole_until=whole_until))


def test_in_order_each_once_and_again_where_it_was_not_taken() -> None:
    assert found(*map(knock, (3, 4, 5, 6))) == found(knock(3, 4), knock(5, 6)) == ""
    assert found(knock(3), knock(4, status=500), knock(4, 5), knock(6)) == ""
    # The tail, after a restart.
    assert found(knock(3), knock(4), knock(3, life=2), *(knock(n, life=2) for n in (4, 5, 6))) == ""


def test_what_is_left_out_or_out_of_order_is_seen() -> None:
    assert "never told [6]" in found(*map(knock, (3, 4, 5)))
    assert "[4] should have come before" in found(*map(knock, (3, 5, 6)))
    assert "[4] should have come before" in found(
        knock(3), knock(4, status=500), knock(5), knock(4), knock(6)
    )
    assert "the log has [3, 4] from there" in found(knock(3, 5), knock(4), knock(6))
    assert "should have come before" in found(knock(4, life=2), knock(5, life=2), knock(6, life=2))


def test_what_was_taken_comes_again_only_where_the_relay_cannot_know() -> None:
    assert "it was taken already" in found(*map(knock, (3, 4, 3, 4, 5, 6)))
    log = [*LOG, *log_of(1, 2, 3, 4, 5, 6, WebhookProgressed(did=DID, webhook_id="w", until_seq=4))[6:]]
    again = [knock(3), knock(4), *(knock(n, life=2, log_seq=7) for n in (4, 5, 6))]
    assert "it has got to 4" in found(*again, log=log)


def test_it_is_silent_where_it_was_told_to_be() -> None:
    paused, resumed = (kind(did=DID, webhook_id="w", by="root") for kind in (WebhookPaused, WebhookResumed))
    log = log_of(1, ADDED, 3, paused, 5, resumed)
    assert "it is to be told nothing" in found(knock(3), knock(5, log_seq=5), log=log, whole_until=None)
    assert found(knock(3, log_seq=3), knock(5, log_seq=6), log=log, whole_until=6) == ""


def test_what_is_skipped_was_refused_for_a_day() -> None:
    log = log_of(
        1, ADDED, 3, 4, 5, 6, WebhookSkipped(did=DID, webhook_id="w", skipped_seq=4, http_status=400)
    )

    def skipped(after: float, **more: Any) -> str:
        refused = [knock(4, at=at, **{"status": 400, **more}) for at in (0, after - 1)]
        return found(knock(3), *refused, knock(5, at=after), knock(6, at=after), log=log)

    assert skipped(SKIP_SECONDS + 1) == ""
    assert "less than a day" in skipped(SKIP_SECONDS / 2)
    assert "was never refused" in skipped(SKIP_SECONDS + 1, status=500)


def test_a_replay_is_what_was_ordered() -> None:
    log = [*LOG, *log_of(*LOG, WebhookRewound(did=DID, webhook_id="w", after_seq=3, until_seq=5))[6:]]
    first = [knock(n) for n in (3, 4, 5, 6)]

    def replayed(*seqs: int) -> str:
        return found(*first, *(knock(seq, replay=True, log_seq=7) for seq in seqs), log=log)

    assert replayed(4, 5) == ""
    assert "the replay brings [4, 5]" in replayed(4, 5, 6)
    assert "the replay is not in its order" in replayed(5, 4)
    assert "was never told again [5]" in replayed(4)
    assert "the replay is not in its order" in replayed(4, 4, 5)
    assert "nobody has ordered a replay" in found(*first, knock(4, replay=True))


def test_the_listener_looks_at_what_a_request_is() -> None:
    body = json.dumps(
        {"type": "member.suspended", "timestamp": "", "data": {"seq": 3, "type": "member.suspended"}}
    )

    def request(*, secret: bytes = bytes(32), cursor: int = 3, signed: str = body) -> bytes:
        digest = hmac.new(secret, f"w.3.7.{signed}".encode(), hashlib.sha256).digest()
        head = f"POST / HTTP/1.1\r\nWebhook-Id: w.3\r\nWebhook-Timestamp: 7\r\nAtmos-Cursor: {cursor}\r\n"
        head += f"Webhook-Signature: v1a,xx v1,{base64.b64encode(digest).decode()}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    async def told(*requests: bytes) -> Listener:
        listener = Listener(now=lambda: 300)
        listener.endpoint("w", SECRET)
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.serve, theirs)
            for one in requests:
                await ours.send_all(one)
                assert b" 200 " in await ours.receive_some()
            await ours.aclose()
        return listener

    good = trio.run(told, request(), request())
    assert (good.breaches, good.connections) == ([], 1)
    assert [(one.seqs, one.was_taken, one.is_answered) for one in good.endpoints["w"].knocks] == [
        ([3], True, True)
    ] * 2
    for bad, sentence in (
        (request(secret=b"another"), "no signature of it is right"),
        (request(signed=body + " "), "no signature of it is right"),
        (request(cursor=4), "its cursor is 4"),
    ):
        (breach,) = trio.run(told, bad).breaches
        assert sentence in breach


@pytest.mark.parametrize("status", [408, 410, 425, 429, 500, 301])
def test_these_never_make_an_event_skipped(status: int) -> None:
    log = log_of(
        1, ADDED, 3, 4, 5, 6, WebhookSkipped(did=DID, webhook_id="w", skipped_seq=4, http_status=status)
    )
    refused = [knock(4, at=at, status=status) for at in (0, SKIP_SECONDS)]
    assert "never refused" in found(knock(3), *refused, knock(5, at=SKIP_SECONDS + 1), knock(6), log=log)
