"""Mail that members hand in over SMTP: who may, what becomes of it, and what is said where it is refused."""

from __future__ import annotations

import hashlib
from email.parser import BytesParser
from pathlib import Path

import pytest
import trio

from relay.events import MessageBounced, MessageQueued, MessageSent, SendAccepted
from relay.past.audit import audit
from spool.reader import LogReader
from tests.world.mx_options import MxOptions
from tests.world.relay import DID, DOMAIN, World, open_world, run
from tests.world.submitting import CLIENT, FRIEND, HEADER, MAIL, Submitter, submitter

LIMITED = "\n[warming]\ntiers = [ { hour = 2, day = 10 } ]\n"
BULK = MAIL.replace(b"\r\n\r\n", b"\r\nX-Atmos-Category: bulk\r\n\r\n", 1)
LOGIN = MAIL.replace(b"\r\n\r\n", b"\r\nX-Atmos-Category: login-link\r\n\r\n", 1)


def password(world: World) -> str:
    return world.credentials["Authorization"].removeprefix("Bearer ")


def sends(world: World) -> list[SendAccepted]:
    return [event for event in world.events() if isinstance(event, SendAccepted)]


# ------------------------------------------------------------------------------------------------ what arrives


def test_what_is_handed_in_arrives_below_the_relays_fields(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            kept = HEADER + b"X-Odd :".replace(b" ", b"") + b"  kept \r\n\r\n.\r\n..dots\r\nFrom me\r\n"
            given = (
                b"Bcc: secret@example.com,\r\n other@example.com\r\nX-ATMOS-Category: verification\r\n" + kept
            )
            (message_id,) = (await client.hand_in(given)).ids
            message = await world.until_final(message_id)
            assert (message["status"], message["via"], message["category"]) == (
                "sent",
                "smtp",
                "verification",
            )
            assert (message["from"], message["subject"]) == ("You <you@yourdomain.com>", "Hello")
            (received,) = world.mx.messages
            assert received.data.endswith(kept)
            assert b"secret@" not in received.data
            prefix = BytesParser().parsebytes(received.data.removesuffix(kept))
            assert prefix.keys() == [
                *["DKIM-Signature"] * 4,
                "Feedback-ID",
                "X-Atmos-Member-Did",
                "X-Atmos-Message",
                "Received",
            ]
            assert "by relay.example with ESMTPSA id" in prefix["Received"].replace("\r\n", "")
            assert CLIENT.address not in received.data.decode()
            assert received.mail_from.startswith(f"bounces+{message_id}-")
            status, listed, _ = await world.request("GET", "/v1/messages")
            assert (status, listed["messages"][0]["via"]) == (200, "smtp")

    run(main)


def test_bulk_mail_gets_the_relays_unsubscribe_and_keeps_the_url(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            given = b"List-Unsubscribe: <https://yourdomain.com/u>\r\n" + MAIL
            (message_id,) = (await client.hand_in(given)).ids
            assert (await world.until_final(message_id))["category"] == "bulk"
            (received,) = world.mx.messages
            parsed = BytesParser().parsebytes(received.data)
            (url,) = parsed.get_all("List-Unsubscribe")
            assert url.startswith("<https://relay.example/u/")
            assert parsed["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
            (send,) = sends(world)
            assert send.personal is not None
            assert send.personal.unsubscribe_url == "https://yourdomain.com/u"
            assert send.personal.raw == MAIL

    run(main)


def test_every_recipient_gets_one_mail_and_the_ids_are_consecutive(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            to = [f"friend{number}@example.com" for number in range(100)]
            heard = await client.hand_in(MAIL, [*to, to[0], "friend1@EXAMPLE.com"])
            assert len(heard.ids) == 100
            await world.until_so_many_are_final(100)
            assert sorted(message.rcpt_to[0] for message in world.mx.messages) == sorted(to)
            queued = [event for event in world.events() if isinstance(event, MessageQueued)]
            assert [event.personal.address for event in queued if event.personal] == to

    run(main)


def test_the_null_sender_is_kept_for_one_recipient_of_the_transactional_class(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", mx=MxOptions()) as world:
            await world.command("domain_set_forward", domain=DOMAIN, to="boss@elsewhere.example")
            client = await submitter(world)
            heard = await client.hand_in(MAIL, mail_from="")
            assert (heard.at, heard.said) == ("DATA", "554 5.6.0")
            heard = await client.hand_in(LOGIN, [FRIEND, "other@example.com"], mail_from="")
            assert (heard.at, heard.said) == ("RCPT", "452 4.5.3")
            (message_id,) = (await client.hand_in(LOGIN, mail_from="")).ids
            await world.until_final(message_id)
            assert [message.mail_from for message in world.mx.messages] == [""]
            # Nobody is told of the bounce of what had nobody to tell.
            heard = await client.hand_in(LOGIN, ["permfail@example.com"], mail_from="")
            assert (await world.until_final(heard.ids[0]))["status"] == "bounced"
            heard = await client.hand_in(LOGIN, ["permfail@example.com"])
            message = await world.until_final(heard.ids[0])
            assert [entry["type"] for entry in message["timeline"]][-1] == "dsn.queued"
            assert sum(event.TYPE == "dsn.queued" for event in world.events()) == 1

    run(main)


def test_a_header_in_utf_8_and_a_body_of_8_bits(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", mx=MxOptions(smtputf8=True)) as world:
            client = await submitter(world)
            given = "From: Jörg <jörg@yourdomain.com>\r\nSubject: Grüße\r\n\r\nÜ\r\n".encode()
            assert (await client.hand_in(given)).said == "554 5.6.0"
            heard = await client.hand_in(given, ["zoë@example.com"], smtputf8=True)
            message = await world.until_final(heard.ids[0])
            assert message["status"] == "sent"
            assert message["from"] == "Jörg <jörg@yourdomain.com>"
            (received,) = world.mx.messages
            assert received.data.endswith(given)
            assert b"with UTF8SMTPSA id" in received.data.replace(b"\r\n", b"")

    run(main)


@pytest.mark.parametrize(
    ("given", "enhanced"),
    [(HEADER + "\r\nÜ\r\n".encode(), "5.6.3"), (HEADER + b"X: \xc3\xbc\r\n\r\n", "5.6.7")],
)
def test_8_bits_for_a_receiver_that_takes_7_bounce(tmp_path: Path, given: bytes, enhanced: str) -> None:
    """To encode it anew would break what the member's program has signed."""

    async def main() -> None:
        async with open_world(tmp_path / "data", mx=MxOptions(eight_bit_mime=False, smtputf8=False)) as world:
            client = await submitter(world)
            (message_id,) = (await client.hand_in(given, smtputf8=True)).ids
            message = await world.until_final(message_id)
            assert (message["status"], message["lastReply"]["enhanced"]) == ("bounced", enhanced)
            assert world.mx.messages == []

    run(main)


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("octets", "to", "mail_from", "at", "said"),
    [
        (MAIL, [FRIEND], "you@elsewhere.example", "MAIL", "550 5.7.1"),
        (MAIL, [FRIEND], "you@sub.yourdomain.com", "MAIL", "550 5.7.1"),
        (MAIL, [FRIEND], "root", "MAIL", "553 5.1.7"),
        (MAIL, ["nobody"], "you@yourdomain.com", "RCPT", "553 5.1.3"),
        (MAIL, ['"a b"@example.com'], "you@yourdomain.com", "RCPT", "553 5.1.3"),
        (MAIL, ["a@[192.0.2.1]"], "you@yourdomain.com", "RCPT", "553 5.1.3"),
        (MAIL, ["@a.example:b@example.com"], "you@yourdomain.com", "RCPT", "553 5.1.3"),
        (MAIL, ["a%b.example@"], "you@yourdomain.com", "RCPT", "553 5.1.3"),
        (b"From: a@elsewhere.example\r\n\r\n", [FRIEND], "you@yourdomain.com", "DATA", "550 5.7.1"),
        (b"Sender: a@elsewhere.example\r\n" + MAIL, [FRIEND], "you@yourdomain.com", "DATA", "550 5.7.1"),
        (b"From: a@yourdomain.com\r\n" + MAIL, [FRIEND], "you@yourdomain.com", "DATA", "554 5.6.0"),
        (b"X-Atmos-Category: news\r\n" + MAIL, [FRIEND], "you@yourdomain.com", "DATA", "554 5.6.0"),
        (b"Received: x\r\n" * 51 + MAIL, [FRIEND], "you@yourdomain.com", "DATA", "554 5.4.6"),
        (b"", [FRIEND], "you@yourdomain.com", "DATA", "554 5.6.0"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    tmp_path: Path, octets: bytes, to: list[str], mail_from: str, at: str, said: str
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            before = world.core.store.last_seq
            heard = await client.hand_in(octets, to, mail_from=mail_from)
            assert (heard.at, heard.said) == (at, said)
            assert world.core.store.last_seq == before

    run(main)


def test_more_than_ever_fit_at_once_are_left_for_another_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=LIMITED) as world:
            client = await submitter(world)
            heard = await client.hand_in(MAIL, ["a@example.com", "b@example.com", "c@example.com"])
            assert (heard.at, heard.said) == ("RCPT", "452 4.5.3")
            assert len((await client.hand_in(MAIL, ["a@example.com", "b@example.com"])).ids) == 2
            heard = await client.hand_in(MAIL, ["c@example.com"])
            assert (heard.at, heard.said) == ("DATA", "451 4.7.1")
            assert heard.reply.text.endswith("; come again in 3600 s")
            await trio.sleep(3600)
            assert len((await client.hand_in(MAIL, ["c@example.com"])).ids) == 1

    run(main)


def test_writes_a_minute_are_asked_before_a_message_is_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            await world.request("GET", "/v1/messages")
            world.core.quota._limits = lambda: world.core.config.members.__class__(writes_per_minute=2)
            assert (await client.hand_in()).reply.code == 250
            assert (await client.hand_in(mail_from="a@elsewhere.example")).said == "550 5.7.1"
            heard = await client.hand_in()  # the very same, which would be a replay
            assert (heard.at, heard.said) == ("MAIL", "451 4.7.1")

    run(main)


# ------------------------------------------------------------------------------------------------ suppression


async def suppress(world: World, recipient: str) -> None:
    status, _, _ = await world.request("POST", "/v1/suppressions", json={"recipient": recipient})
    assert status == 201


def test_a_suppressed_recipient_becomes_a_message_that_is_bounced_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=LIMITED) as world:
            client = await submitter(world)
            await suppress(world, "off@example.com")
            await trio.sleep(60)
            started = trio.current_time()
            # What is suppressed counts in no limit: two an hour, and both are left.
            heard = await client.hand_in(MAIL, ["off@example.com", FRIEND])
            bounced, sent = heard.ids
            message = await world.until_final(bounced)
            assert trio.current_time() == started
            assert message["status"] == "bounced"
            assert message["timeline"][-1]["reason"] == "suppressed"
            assert (await world.until_final(sent))["status"] == "sent"
            assert (await client.hand_in(MAIL, ["other@example.com"])).reply.code == 250
            (first, second) = sends(world)
            assert (first.recipients, first.suppressed, first.wanted) == (2, 1, 1)
            assert second.suppressed == 0
            _, frames, _ = await world.request("GET", "/v1/events?limit=1000")
            assert [
                frame["recipient"] for frame in frames["events"] if frame["type"] == "message.bounced"
            ] == ["off@example.com"]

    run(main)


def test_a_suppressed_recipient_does_not_wait_behind_a_receiver_that_is_down(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", mute=True) as world:
            client = await submitter(world)
            await suppress(world, "off@example.com")
            for number in range(20):
                await client.hand_in(MAIL, [f"friend{number}@example.com"])
            await trio.sleep(30)
            started = trio.current_time()
            bounced, _ = (await client.hand_in(MAIL, ["off@example.com", FRIEND])).ids
            await world.until_final(bounced)
            assert trio.current_time() == started

    run(main)


def test_where_nobody_is_left_nothing_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            await suppress(world, FRIEND)
            before = world.core.store.last_seq
            heard = await client.hand_in(MAIL, [FRIEND, FRIEND.upper().replace("EXAMPLE.COM", "example.com")])
            assert (heard.at, heard.said) == ("DATA", "550 5.7.1")
            assert world.core.store.last_seq == before

    run(main)


# ------------------------------------------------------------------------------------------------ a retry


def test_the_same_message_again_is_the_same_mail(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            to = ["a@example.com", "b@example.com"]
            first = (await client.hand_in(MAIL, to)).ids
            assert (await (await submitter(world, DID)).hand_in(MAIL, to[::-1])).ids == first
            # Another recipient, sender or octet is another mail.
            assert (await client.hand_in(MAIL, [*to, "c@example.com"])).ids != first
            assert (await client.hand_in(MAIL, to, mail_from=f"me@{DOMAIN}")).ids != first
            assert (await client.hand_in(MAIL + b"\r\n", to)).ids != first
            await trio.sleep(24 * 3600)
            assert (await client.hand_in(MAIL, to)).ids != first

    run(main)


def test_two_messages_that_nothing_tells_apart_are_two(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            for octets in (MAIL.replace(b"Date:", b"X-Date:"), MAIL.replace(b"Message-ID:", b"X-Id:")):
                assert (await client.hand_in(octets)).ids != (await client.hand_in(octets)).ids

    run(main)


def test_a_key_of_the_members_own_overrides(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            keyed = b"X-Atmos-Idempotency-Key: one\r\nFrom: you@yourdomain.com\r\n\r\nHi\r\n"
            first = (await client.hand_in(keyed)).ids
            assert (await client.hand_in(keyed)).ids == first
            heard = await client.hand_in(keyed + b"x\r\n")
            assert (heard.at, heard.said) == ("DATA", "554 5.7.0")
            (send,) = sends(world)
            assert send.idempotency_key == hashlib.sha256(b"one").hexdigest()

    run(main)


def test_a_replay_is_answered_when_nothing_else_is(tmp_path: Path) -> None:
    """On a full disk, when the recipient is suppressed and the domain paused; but not to who may not send."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            first = (await client.hand_in()).ids
            await suppress(world, FRIEND)
            await world.command("domain_pause", did=DID, domain=DOMAIN)
            world.core.space._free_bytes = lambda: 0
            assert (await client.hand_in()).ids == first
            assert (await client.hand_in(MAIL + b"x\r\n")).said == "450 4.7.1"
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            assert (await client.hand_in(MAIL + b"x\r\n", ["a@example.com"])).said == "452 4.3.1"

    run(main)


# ------------------------------------------------------------------------------------------------ afterwards


def test_an_audit_composes_it_again_and_retention_takes_it_away(tmp_path: Path) -> None:
    async def main() -> None:
        directory = tmp_path / "data"
        async with open_world(directory) as world:
            client = await submitter(world)
            (message_id,) = (await client.hand_in(BULK + b"\xc3\xbc\r\n")).ids
            await world.until_final(message_id)
            with LogReader(directory / "log") as reader:
                found = audit(directory, reader, message_id)
            (composition,) = found.compositions
            assert composition.match is True
            assert {signature.valid for signature in found.signatures} == {True}
            assert found.problems == []
            await world.command("log_erase", by="maria", reason="asked", message=message_id)
            (send,) = sends(world)
            assert send.personal is None
            assert (send.via, send.received_with) == ("smtp", "ESMTPSA")
            message = await world.message(message_id)
            assert (message["via"], message["subject"], message["recipient"]) == ("smtp", None, None)
            assert all(
                b"Subject: Hello" not in path.read_bytes() for path in (directory / "log").glob("*.seg")
            )
            outcomes = [event for event in world.events() if isinstance(event, MessageSent | MessageBounced)]
            assert len(outcomes) == 1

    run(main)


def test_a_mail_of_ten_mebibytes_goes_the_whole_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", mx=MxOptions(size_max=20 << 20)) as world:
            client: Submitter = await submitter(world)
            body = (b"." + b"x" * 75 + b"\r\n") * ((10 << 20) // 78)
            heard = await client.hand_in(HEADER + b"\r\n" + body, ["a@example.com", "b@example.com"])
            for message_id in heard.ids:
                assert (await world.until_final(message_id))["status"] == "sent"
            assert [message.data.endswith(b"\r\n\r\n" + body) for message in world.mx.messages] == [
                True,
                True,
            ]
            heard = await client.hand_in(HEADER + b"\r\n" + b"x\r\n" * (6 << 20))
            assert (heard.at, heard.said) == ("DATA", "552 5.3.4")

    run(main)
