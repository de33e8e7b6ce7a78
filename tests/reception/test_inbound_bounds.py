"""What strangers can cost: messages a minute, what is written an hour and a day, the disk, memory; their manners."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.events import MailReceived, MessageBounceReported
from relay.quota import LAST_MAILS_PER_MINUTE
from relay.receiving import LAST_MAIL_BYTES_MAX
from relay.reception.certificates import Certificates
from tests.world.doors import talking
from tests.world.process import configure
from tests.world.relay import DOMAIN, OPERATOR_DOMAIN, World, run
from tests.world.self_signed import self_signed_pem
from tests.world.strangers import (
    BOUNCE,
    LETTER,
    bounce_address,
    bring,
    client,
    count,
    events,
    open_inbound_world,
    port,
    stranger,
)

TAKEN = "250 2.0.0 taken"
ABUSE, POSTMASTER, FBL = (f"{name}@{OPERATOR_DOMAIN}" for name in ("abuse", "postmaster", "fbl"))
RESERVE = 1_000_000_000


def letter(number: int, size: int = 0) -> bytes:
    return LETTER + b"%d\r\n" % number + (b"x" * 998 + b"\r\n") * (size // 1000)


async def sent(world: World) -> int:
    message_id = await world.send()
    await world.until_final(message_id)
    return message_id


# ------------------------------------------------------------------------------------------------ a minute


@pytest.mark.parametrize("address", ["192.0.2.9", "127.0.0.1", "2001:db8::1"])
def test_an_address_begins_so_many_messages_a_minute(tmp_path: Path, address: str) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data", "messages_per_minute_per_address = 3") as world:
            async with stranger(world, address) as talk:
                for number in range(3):
                    assert await bring(talk, letter(number), ABUSE) == TAKEN
                said = await bring(talk, letter(3), ABUSE)
                assert said.startswith("450 4.7.1 your address has begun 3 messages in a minute"), said
                # Nor by another connection, nor for nothing.
                another = "2001:db8::2" if ":" in address else address
                async with stranger(world, another) as again:
                    assert (await again.ask("MAIL FROM:<>")).startswith("450 4.7.1 ")
                async with stranger(world, "198.51.100.1") as other:
                    assert await bring(other, letter(4), ABUSE) == TAKEN
                await trio.sleep(20)
                assert await bring(talk, letter(3), ABUSE) == TAKEN
            assert len(events(world, MailReceived)) == 5

    run(main)


def test_bounds_are_asked_at_each_use(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world, stranger(world) as talk:
            settings = "messages_per_minute_per_address = 1\nmessage_bytes_max = 65536"
            configure(tmp_path / "data", inbound=settings)
            await world.core.read_settings_again()
            assert await bring(talk, letter(1), ABUSE) == TAKEN
            assert (await bring(talk, letter(2), ABUSE)).startswith("450 4.7.1 ")
            async with stranger(world, "192.0.2.10") as other:
                assert "SIZE 65536" in await other.ask("EHLO again")
            configure(tmp_path / "data", inbound="messages_per_hour = 1\nmessages_per_minute_per_address = 9")
            await world.core.read_settings_again()
            await trio.sleep(60)
            assert (await bring(talk, letter(3), ABUSE)).startswith("250 ")
            assert (await bring(talk, letter(4), ABUSE)).startswith("452 4.3.1 ")

    run(main)


# ------------------------------------------------------------------------------------------------ budgets


def test_a_budget_for_each_kind_and_each_domain_or_mailbox(tmp_path: Path) -> None:
    async def main() -> None:
        settings = 'forward = "all"\nmessages_per_hour = 2\nmessages_per_minute_per_address = 1000'
        async with open_inbound_world(tmp_path / "data", settings) as world:
            await world.command("domain_set_forward", domain=DOMAIN, to="boss@elsewhere.example")
            to = {
                "operator": ABUSE,
                "member": f"any@{DOMAIN}",
                "report": bounce_address(world, await sent(world)),
            }
            async with stranger(world) as talk:
                for recipient in to.values():
                    for number in range(2):
                        assert await bring(talk, letter(number), recipient) == TAKEN
                    said = await bring(talk, letter(2), recipient)
                    assert said == "452 4.3.1 so much mail has come for this address that yours has to wait"
                    # A repeat writes nothing, and is answered.
                    assert await bring(talk, letter(1), recipient) == TAKEN
            await trio.sleep(1800)
            async with stranger(world) as talk:
                for recipient in to.values():
                    assert await bring(talk, letter(2), recipient) == TAKEN
            assert len(events(world, MailReceived)) == 6
            assert len(events(world, MessageBounceReported)) == 3
            assert count(world, 'atmos_inbound_refused_total{why="rate_limited"}') == 3

    run(main)


def test_the_operators_mailbox_has_one_budget_whichever_domain_was_written_to(tmp_path: Path) -> None:
    """Of a member's domain that names no mailbox, the operator is the postmaster. There may be thousands of them."""

    async def main() -> None:
        settings = "messages_per_hour = 2\nmessages_per_minute_per_address = 1000"
        async with open_inbound_world(tmp_path / "data", settings) as world, stranger(world) as talk:
            for number, recipient in enumerate([POSTMASTER, f"postmaster@{DOMAIN}"]):
                assert await bring(talk, letter(number), recipient) == TAKEN
            for recipient in (f"postmaster@{DOMAIN}", ABUSE):
                assert (await bring(talk, letter(9), recipient)).startswith("452 4.3.1 "), recipient
            assert len(events(world, MailReceived)) == 2

    run(main)


def test_a_budget_of_bytes(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data", "bytes_per_day = 1000000") as world:
            async with stranger(world) as talk:
                assert await bring(talk, letter(1, 600_000), ABUSE) == TAKEN
                assert (await bring(talk, letter(2, 600_000), ABUSE)).startswith("452 4.3.1 ")
                assert await bring(talk, letter(3), ABUSE) == TAKEN
            await trio.sleep(24 * 3600)
            async with stranger(world) as talk:
                assert await bring(talk, letter(2, 600_000), ABUSE) == TAKEN

    run(main)


# ------------------------------------------------------------------------------------------------ the disk


def test_on_a_disk_that_is_nearly_full_the_postmaster_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        settings = "messages_per_minute_per_address = 1000"
        async with open_inbound_world(tmp_path / "data", settings) as world:
            configure(tmp_path / "data", spool=f"free_bytes_min = {RESERVE}")
            await world.core.read_settings_again()
            report = bounce_address(world, await sent(world))
            free = 0
            monkeypatch.setattr(world.core.space, "_free_bytes", lambda: free)
            full = "452 4.3.1 the disk is almost full; come again later"
            async with stranger(world) as talk:
                # Half the reserve is for strangers; members have none of it.
                free = RESERVE * 6 // 10
                for recipient in (report, FBL, ABUSE):
                    assert await bring(talk, letter(1), recipient) == TAKEN
                free = RESERVE * 4 // 10
                for recipient in (report, FBL):
                    assert await bring(talk, letter(2), recipient) == full
                    assert await bring(talk, letter(1), recipient) == TAKEN  # a repeat
                for number in range(LAST_MAILS_PER_MINUTE):
                    recipient = (ABUSE, POSTMASTER, "postmaster")[number % 3]
                    assert await bring(talk, letter(10 + number), recipient) == TAKEN
                assert await bring(talk, letter(30), ABUSE) == full
                await trio.sleep(60)
                assert await bring(talk, letter(30, LAST_MAIL_BYTES_MAX + 2000), ABUSE) == full
                assert await bring(talk, letter(30), f"postmaster@{DOMAIN}") == full
                assert await bring(talk, letter(30), ABUSE) == TAKEN
                free = RESERVE * 2 // 10
                assert await bring(talk, letter(31), ABUSE) == full
                free = 10 * RESERVE
                assert await bring(talk, letter(31), FBL) == TAKEN
            assert count(world, 'atmos_inbound_refused_total{why="queue_full"}') == 6

    run(main)


# ------------------------------------------------------------------------------------------------ manners


def test_who_talks_before_the_greeting_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            surroundings: Any = port(world)
            async with talking(surroundings, client=client("192.0.2.9")) as talk:
                await talk.say("EHLO mx.stranger.example", "MAIL FROM:<>")
                assert (await talk.hear()).startswith("554 5.5.1 ")
                assert await talk.hear() == ""

    run(main)


@pytest.mark.parametrize("bare", [b"\n", b"\r", b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n"])
def test_a_bare_line_end_is_refused_there_and_then(tmp_path: Path, bare: bytes) -> None:
    """What one server takes for an end and the next one does not is a mail inside another (CVE-2023-51764)."""

    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            async with stranger(world) as talk:
                for line in ("MAIL FROM:<>", f"RCPT TO:<{ABUSE}>", "DATA"):
                    assert (await talk.ask(line))[0] in "23"
                await talk.send(
                    LETTER + b"x" + bare + f"MAIL FROM:<>\r\nRCPT TO:<{ABUSE}>\r\nDATA\r\n".encode()
                )
                assert (await talk.hear()).startswith("521 5.5.2 ")
                assert await talk.hear() == ""
            assert not events(world, MailReceived)

    run(main)


def test_there_is_no_auth(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world, stranger(world) as talk:
            assert "AUTH" not in await talk.ask("EHLO again")
            assert (await talk.ask("AUTH PLAIN AGFubgBrZXk=")).startswith("502 5.5.1 ")

    run(main)


def test_what_is_offered_and_any_sender(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world, stranger(world) as talk:
            offered = await talk.ask("EHLO again")
            for word in ("SIZE 11534336", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES"):
                assert word in offered
            assert "STARTTLS" not in offered
            senders = [
                "",
                "ann@example.com",
                '"a b"@example.com',
                "root",
                "@a.example:b@c.example",
                "x@[192.0.2.1]",
            ]
            for number, sender in enumerate(senders):
                said = await bring(
                    talk, letter(number), ABUSE, mail_from=sender, options=" BODY=8BITMIME SIZE=99"
                )
                assert said == TAKEN, sender
            await talk.send("MAIL FROM:<zoë@example.com> SMTPUTF8\r\n".encode())
            assert (await talk.hear()).startswith("250 ")
            await talk.ask("RSET")
            assert (await talk.ask("MAIL FROM:<> SIZE=11534337")).startswith("552 5.3.4 ")
            assert len(events(world, MailReceived)) == len(senders)

    run(main)


def test_a_mail_of_11_mb_is_taken_whole_and_a_larger_one_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            message_id = await sent(world)
            large = BOUNCE.removesuffix(b"--b--\r\n") + b"--b\r\n\r\n" + (b"x" * 98 + b"\r\n") * 115_000
            assert 11_400_000 < len(large) < 11_534_336
            async with stranger(world) as talk:
                assert await bring(talk, large, bounce_address(world, message_id)) == TAKEN
                assert await bring(talk, large, ABUSE) == TAKEN
                too_large = large + (b"x" * 98 + b"\r\n") * 2000
                assert (await bring(talk, too_large, ABUSE)).startswith("552 5.3.4 ")
            (report,) = events(world, MessageBounceReported)
            assert (report.size, report.counts) == (len(large), True)
            assert report.personal is not None
            assert report.personal.raw == large[: 64 * 1024]
            (mail,) = events(world, MailReceived)
            assert mail.personal is not None
            assert mail.personal.raw == large
            assert port(world).buffers.held_bytes == 0

    run(main)


def test_who_hangs_up_before_the_end_has_said_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            before = world.core.store.last_seq
            whole = LETTER + b".\r\n"
            for cut in (0, 1, len(LETTER) // 2, len(LETTER), len(LETTER) + 2):
                async with stranger(world) as talk:
                    for line in ("MAIL FROM:<>", f"RCPT TO:<{ABUSE}>", "DATA"):
                        assert (await talk.ask(line))[0] in "23"
                    await talk.send(whole[:cut])
            assert world.core.store.last_seq == before
            # And who hangs up behind it does not hear that it was taken; it is.
            async with stranger(world) as talk:
                for line in ("MAIL FROM:<>", f"RCPT TO:<{ABUSE}>", "DATA"):
                    assert (await talk.ask(line))[0] in "23"
                await talk.send(whole)
            assert len(events(world, MailReceived)) == 1
            async with stranger(world) as talk:
                assert await bring(talk, LETTER, ABUSE) == TAKEN
            assert len(events(world, MailReceived)) == 1
            assert port(world).places.connections == 0

    run(main)


def test_connections_of_an_address_have_a_bound_and_this_machines_have_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data", "connections_per_address_max = 1") as world:
            async with stranger(world):
                with pytest.raises(AssertionError):
                    async with stranger(world):
                        pass
                async with stranger(world, "127.0.0.1"), stranger(world, "127.0.0.1"):
                    assert count(world, "atmos_inbound_connections_open") == 3
            turned_away = 'atmos_inbound_turned_away_total{why="connections_per_address"}'
            assert count(world, turned_away) == 1

    run(main)


def test_who_tries_one_name_after_the_other_is_sent_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world, stranger(world) as talk:
            await talk.ask("MAIL FROM:<>")
            said = [await talk.ask(f"RCPT TO:<name{number}@{OPERATOR_DOMAIN}>") for number in range(20)]
            assert {each[:9] for each in said[:-1]} == {"550 5.1.1"}
            assert said[-1].startswith("421 4.7.0 ")
            assert await talk.hear() == ""

    run(main)


def test_tls_by_starttls(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    pem.write_bytes(self_signed_pem("relay.example"))

    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            certificates = Certificates(pem, pem)
            async with stranger(world, certificates=certificates) as talk:
                assert "STARTTLS" in await talk.ask("EHLO again")
                assert (await talk.ask("STARTTLS")).startswith("220 ")
                context = ssl.create_default_context(cafile=str(pem))
                stream = trio.SSLStream(talk.stream, context, server_hostname="relay.example")
                talk.stream = stream
                assert "STARTTLS" not in await talk.ask("EHLO mx.stranger.example")
                assert await bring(talk, LETTER, ABUSE) == TAKEN
            (mail,) = events(world, MailReceived)
            assert mail.received_with == "ESMTPS"

    run(main)
