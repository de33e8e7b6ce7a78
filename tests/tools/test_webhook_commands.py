"""The operator's `webhook` commands where no relay runs, and what the log says of webhooks in words."""

from __future__ import annotations

import pytest

from relay.codec import encode
from spool.record import Record
from tests.golden_events.facts import DID as OF_THE_GOLDEN
from tests.golden_events.webhook_literals import WEBHOOKS
from tests.world.operator import Operator
from tests.world.relay import DID
from tools.log.event_text import as_line, show

URL = "https://ops.example/hook?token=1"


def test_a_webhook_of_the_operators_is_added_ordered_about_and_removed(operator: Operator) -> None:
    operator.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    made = operator.run(
        "webhook", "add", "DIR", "--url", URL, "--type", "message.sent", "--from", "0", "--json"
    ).json
    assert (made["did"], made["url"], made["types"], made["cursor"]) == (None, URL, ["message.sent"], 0)
    assert made["secret"].startswith("whsec_")
    named = ("--id", made["webhookId"])
    (row,) = operator.run("webhook", "list", "DIR", "--json").json
    assert row == {name: value for name, value in made.items() if name not in ("secret", "publicKey")}
    assert operator.run("webhook", "list", "DIR", "--did", DID, "--json").json == []
    assert operator.run("webhook", "list", "DIR", "--own", "--json").json == [row]
    assert operator.run("webhook", "pause", "DIR", *named, "--json").json["status"] == "paused"
    assert operator.run("webhook", "resume", "DIR", *named, "--json").json["status"] == "active"
    rotated = operator.run("webhook", "rotate", "DIR", *named, "--json").json
    assert (rotated["secretVersion"], rotated["secret"] != made["secret"]) == (2, True)
    assert operator.run("webhook", "show", "DIR", *named, "--json").json["attempts"] == []
    assert "has got to 0" in operator.refused("webhook", "replay", "DIR", *named, "--from", "0")
    assert "no running relay" in operator.refused("webhook", "test", "DIR", *named)
    assert "did you mean `message.sent`" in operator.refused(
        "webhook", "add", "DIR", "--url", URL, "--type", "message.send"
    )
    shown = operator.run("webhook", "show", "DIR", *named).out
    assert f"{made['webhookId']} of the operator is active." in shown
    assert (
        operator.run("webhook", "remove", "DIR", *named).out == f"Webhook {made['webhookId']} is removed.\n"
    )
    assert operator.run("webhook", "list", "DIR").out == "There are no webhooks.\n"
    assert f"there is no {made['webhookId']}" in operator.refused("webhook", "show", "DIR", *named)


SAID = {
    "webhook.added": "is added: it is told of message.sent, message.bounced after 447 (by postmaster)",
    "webhook.removed": "is removed, with the key that made it (by postmaster)",
    "webhook.paused": "is paused (by postmaster)",
    "webhook.resumed": "goes on (by postmaster)",
    "webhook.rewound": "is told again of the events after 400 and up to 447 (by postmaster)",
    "webhook.secret_rotated": "has secret 2, made by pepper 3 (by postmaster)",
    "webhook.progressed": "was told of everything up to 447, and again up to 410; 3 requests failed since then, "
    "the last with HTTP 422",
    "webhook.skipped": "is not told of 448, which it refused for a day with HTTP 422",
    "webhook.disabled": "is disabled at 447: its endpoint is gone, and answered last with HTTP 410",
}


@pytest.mark.parametrize("name", SAID)
def test_each_event_of_a_webhook_is_a_sentence(name: str) -> None:
    event = WEBHOOKS[name, 1]
    record = Record(448, 0, 0, True, *encode(event), bytes(32), bytes(32), False, 1, 448)
    line = as_line(show(record))
    assert line.endswith(f"webhook whabcdefghijklmnop234567 of {OF_THE_GOLDEN} {SAID[name]}")
