"""The main job: a POST becomes an event, a signed mail, and a status that can be read back."""

from pathlib import Path

from relay.message.signing import verify
from tests.world.relay import DOMAIN, OTHER_DID, open_world, run


def test_a_send_is_delivered_signed_and_its_timeline_read_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(subject="Grüße", html="<p>Hi</p>", replyTo="Me <me@yourdomain.com>")
            message = await world.until_final(message_id)
            assert message["status"] == "sent"
            assert [entry["type"] for entry in message["timeline"]] == [
                "message.queued",
                "attempt.started",
                "message.sent",
            ]
            assert message["subject"] == "Grüße"
            assert message["nextAttemptAt"] is None
            assert message["lastReply"]["code"] == 250
            (received,) = world.mx.messages
            assert received.rcpt_to == ("friend@example.com",)
            assert received.mail_from.startswith(f"bounces+{message_id}-")
            dns = await world.command("dns")
            records = {
                record["name"]: record["value"]
                for part in (dns["operator"], *dns["domains"])
                for record in part["records"]
                if record["type"] == "TXT"
            }
            verdicts = verify(received.data, records.get)
            assert [verdict.d for verdict in verdicts] == [DOMAIN, DOMAIN, "relay.example", "relay.example"]
            assert all(verdict.valid for verdict in verdicts)

    run(main)


def test_another_members_message_is_not_found(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send()
            other = await world.enrol(OTHER_DID, "other.example")
            for path in (
                f"/v1/messages/{message_id}",
                "/v1/messages/1",
                "/v1/messages/999",
                "/v1/messages/x",
            ):
                status, answer, _ = await world.request("GET", path, headers=other)
                assert (status, answer["code"]) == (404, "NOT_FOUND")
            status, answer, _ = await world.request("GET", "/v1/messages", headers=other)
            assert answer == {"messages": [], "next": None}

    run(main)
