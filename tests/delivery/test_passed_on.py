"""Mail that came in and is passed on: what a receiver gets, what its member sees of it, what an audit says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from relay.buffers import Held
from relay.decisions.inbound_mail import Incoming, pass_on
from relay.events import NOBODY, AttemptStarted, MessageSent
from relay.heavy_work import ON_LOOP_OCTETS_MAX
from tests.delivery.test_large_mail import Watched
from tests.world.audited import tell
from tests.world.relay import DID, DOMAIN, OPERATOR_DOMAIN, OTHER_DID, OTHER_DOMAIN, World, open_world, run

OWNER = "owner@elsewhere.example"
MAIL = (
    b"DKIM-Signature: v=1; a=rsa-sha256; d=shop.example; s=2026; h=from; bh=AAAA; b=AAAA\r\n"
    b"From: =?utf-8?q?Zo=C3=AB?= <zoe@shop.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Message-ID: <r1@shop.example>\r\n\r\nThank you!\r\n.\r\n..\r\n"
)


async def passed_on(
    world: World, raw: bytes = MAIL, *, did: str = DID, to: str = OWNER, mail_from: str = "zoe@shop.example"
) -> int:
    """As the door appends it; returns the message id."""
    incoming = Incoming(
        kind="reply" if did else "operator",
        did=did,
        domain=DOMAIN if did else OPERATOR_DOMAIN,
        reading="unknown",
        mail_from=mail_from,
        rcpt_to=(f"news@{DOMAIN}",),
        client_address="192.0.2.25",
        ehlo_name="out.shop.example",
        received_by="mail.relay.example",
        received_with="ESMTPS",
        raw=raw,
        sha256=hashlib.sha256(raw).hexdigest(),
        digest=hashlib.sha256(mail_from.encode() + raw).hexdigest(),
    )
    core = world.core
    recorded = await core.store.decide(
        lambda view: pass_on(view, incoming, to, config=core.config, now_us=core.store.now_us())
    )
    message_id: int = recorded[1].seq
    return message_id


def told(directory: Path, message_id: int) -> Any:
    result = tell(directory, message_id, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_it_arrives_as_it_came_below_two_fields(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await passed_on(world)
            shown = await world.until_final(message_id)
            assert (shown["status"], shown["category"], shown["via"]) == ("sent", "forward", None)
            assert (shown["from"], shown["subject"]) == ("Zoë <zoe@shop.example>", "Grüße")
            assert (shown["recipient"], shown["reports"]) == (OWNER, [])
            assert [entry["type"] for entry in shown["timeline"]] == [
                "forward.queued", "attempt.started", "message.sent",
            ]  # fmt: skip
            (received,) = world.mx.messages
            token = world.core.composer.bounces.token(message_id)
            assert received.data.endswith(b"\r\nX-Atmos-Forwarded: " + token.encode() + b"\r\n" + MAIL)
            assert received.data.startswith(
                b"Received: from out.shop.example ([192.0.2.25]) by mail.relay.example with"
            )
            assert received.mail_from == f"forward+{token}@{OPERATOR_DOMAIN}"
            assert received.rcpt_to == (OWNER,)

            _, listed, _ = await world.request("GET", "/v1/messages")
            assert [one["subject"] for one in listed["messages"]] == ["Grüße"]
            _, events, _ = await world.request("GET", "/v1/events")
            seen = [event for event in events["events"] if event.get("messageId") == message_id]
            assert [event["type"] for event in seen][:1] == ["forward.queued"]
            assert {event["recipient"] for event in seen} == {OWNER}
            assert seen[0]["status"] == "queued"

            found = told(directory, message_id)
            assert [one["match"] for one in found["compositions"]] == [True]
            assert [event["type"] for event in found["events"]][:2] == ["mail.received", "forward.queued"]
            assert found["signatures"] == [
                {"d": "shop.example", "s": "2026", "valid": None, "key": "not known"}
            ]
            assert (found["messageIdHeader"], found["decision"]) == ("<r1@shop.example>", None)
            text = tell(directory, message_id).stdout
            for line in (
                f"Came in for the domain {DOMAIN}, as reply",
                f"Queued, to be passed on to {OWNER}",
                "attempt 1: composed again, the bytes are those that were sent",
                "signature d=shop.example s=2026: not checked (public key: not known)",
            ):
                assert line in text

    run(main)


def test_the_null_sender_stays_null(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.until_final(await passed_on(world, mail_from=""))
            assert [message.mail_from for message in world.mx.messages] == [""]

    run(main)


def test_the_operators_is_no_members_to_see(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            world.credentials = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            message_id = await passed_on(world, did=NOBODY)
            await world.until_so_many_are_final(1)
            status, _, _ = await world.request("GET", f"/v1/messages/{message_id}")
            assert status == 404
            shown = await world.command("queue_show", message=message_id)
            assert (shown["did"], shown["subject"], shown["recipient"]) == ("", "Grüße", OWNER)

    run(main)


@pytest.mark.parametrize(
    ("raw", "to", "enhanced"),
    [
        ("Subject: Grüße\r\n\r\nx\r\n".encode(), OWNER, "5.6.7"),
        ("Subject: x\r\n\r\nGrüße\r\n".encode(), OWNER, "5.6.3"),
    ],
)
def test_where_the_receiver_cannot_take_it_it_bounces_as_other_mail_does(
    tmp_path: Path, raw: bytes, to: str, enhanced: str
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", eight_bit_mime=False, smtputf8=False) as world:
            shown = await world.until_final(await passed_on(world, raw, to=to))
            assert (shown["status"], shown["lastReply"]["enhanced"]) == ("bounced", enhanced)
            assert not any(event.TYPE == "dsn.queued" for event in world.events())

    run(main)


def test_it_is_deferred_and_tried_again_with_the_same_octets(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            shown = await world.until_final(await passed_on(world, to="tempfail@elsewhere.example"))
            assert shown["status"] == "sent"

    run(main)


def test_a_large_one_is_made_beside_the_loop_and_its_memory_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest that may come in: no buffer holds it twice without somebody having made room."""
    raw = MAIL + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * (11_000_000 // 72)
    taken: list[int] = []
    take = Held.take

    async def taking(self: Held, octets: int) -> None:
        taken.append(octets)
        await take(self, octets)

    async def main() -> None:
        watched = Watched()
        monkeypatch.setattr(Held, "take", taking)
        async with open_world(tmp_path / "data", offload=watched.offload) as world:
            message_id = await passed_on(world, raw)
            await world.until_final(message_id)
            assert (watched.composed, len(raw) > ON_LOOP_OCTETS_MAX) == (1, True)
            assert taken == [2 * len(raw)]
            assert world.core.sending.octets == 0
            (received,) = world.mx.messages
            assert received.data.endswith(raw)
            (sent,) = [event for event in world.events() if isinstance(event, MessageSent)]
            assert sent.sha256 == hashlib.sha256(received.data).hexdigest()
            assert sum(isinstance(event, AttemptStarted) for event in world.events()) == 1

    run(main)
