"""What is sent verifies with libraries that nobody here wrote, octet for octet; that of JavaScript in
`test_receivers.py`."""

from __future__ import annotations

import base64
import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from relay.message.keys import Pepper
from relay.webhooks.frames import Keys, Told, body_of, body_of_test, headers_of, headers_of_test
from relay.webhooks.secrets import ed25519_key, hmac_key, secret_text

PEPPER = Pepper(b"p" * 32)
KEY, OLD, ED = hmac_key(PEPPER, "wh1", 2), hmac_key(PEPPER, "wh1", 1), ed25519_key(PEPPER, "wh1", 2)


def now_us() -> int:
    return int(time.time() * 1e6)


def told(seq: int, text: str) -> Told:
    frame = {"seq": seq, "time": "2026-01-01T00:00:00.000000Z", "type": "message.sent", "note": text}
    return Told(seq, "2026-01-01T00:00:00.000000Z", "message.sent", msgspec.json.encode(frame))


@given(texts=st.lists(st.text(), min_size=1, max_size=5), is_batch=st.booleans())
def test_each_body_is_json_and_verifies_by_each_secret_that_signs(texts: list[str], is_batch: bool) -> None:
    events = [told(number + 7, text) for number, text in enumerate(texts if is_batch else texts[:1])]
    body = body_of(events, is_batch=is_batch)
    headers = dict(headers_of("wh1", events, body, now_us(), Keys([KEY, OLD], [ED])))
    for key in (KEY, OLD):
        verified = Webhook(secret_text(key)).verify(body, headers)
        data = verified["data"]
        assert verified["timestamp"] == "2026-01-01T00:00:00.000000Z"
        assert [event["note"] for event in (data["events"] if is_batch else [data])] == texts[: len(events)]
        assert verified["type"] == ("batch" if is_batch else "message.sent")
    last = events[-1].seq
    assert (headers["webhook-id"], headers["Atmos-Cursor"]) == (f"wh1.{last}", str(last))
    if is_batch:
        assert verified["data"]["cursor"] == last
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(hmac_key(PEPPER, "wh1", 3))).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(KEY)).verify(body + b" ", headers)


def test_v1a_is_ed25519_of_the_same_octets() -> None:
    body = body_of([told(7, "a")], is_batch=False)
    headers = dict(headers_of("wh1", [told(7, "a")], body, 1_700_000_000_999_999, Keys([KEY], [ED])))
    assert headers["webhook-timestamp"] == "1700000000"
    (signature,) = [text[4:] for text in headers["webhook-signature"].split() if text.startswith("v1a,")]
    ED.public_key().verify(base64.b64decode(signature), b"wh1.7.1700000000." + body)


def test_a_test_has_an_id_of_its_own_and_no_cursor() -> None:
    body = body_of_test("wh1", now_us())
    headers = dict(headers_of_test("wh1", body, now_us(), Keys([KEY])))
    assert Webhook(secret_text(KEY)).verify(body, headers)["type"] == "webhook.test"
    assert headers["webhook-id"].startswith("wh1.test-")
    assert set(headers) == {"Content-Type", "webhook-id", "webhook-timestamp", "webhook-signature"}
    assert json.loads(body)["data"] == {"webhookId": "wh1"}
