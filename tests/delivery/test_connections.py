"""Connections: kept while there is backlog, never more than allowed, and no destination waits for another."""

import ssl
from pathlib import Path

import trio
import trio.testing

from relay.delivery.deliverer import IDLE_SECONDS_MAX
from relay.internet.resolver import Mx as MxRecord
from tests.world.relay import make_directory, open_world, run
from tests.world.self_signed import self_signed_context


def test_a_backlog_goes_over_few_connections_with_one_transaction_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        config = directory / "relay.toml"
        config.write_text(
            config.read_text().replace("[delivery]\n", "[delivery]\nconnections_per_site_max = 3\n")
        )
        async with open_world(directory) as world:
            to = [f"friend{number}@example.com" for number in range(50)]
            status, answer = await world.post_send(to=to, category="transactional")
            assert status == 200
            for accepted in answer["accepted"]:
                assert (await world.until_final(accepted["messageId"]))["status"] == "sent"
            assert sorted(message.rcpt_to[0] for message in world.mx.messages) == sorted(to)
            assert world.mx.sessions_open_max == 3
            assert world.mx.sessions == 3
            await trio.sleep(IDLE_SECONDS_MAX)
            await trio.testing.wait_all_tasks_blocked()
            assert world.mx.commands.count("QUIT") == 3

    run(main)


def test_a_421_between_messages_means_a_new_connection_and_not_a_failed_attempt(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", messages_per_session=1) as world:
            to = [f"friend{number}@example.com" for number in range(30)]
            _, answer = await world.post_send(to=to)
            for accepted in answer["accepted"]:
                message = await world.until_final(accepted["messageId"])
                assert (message["status"], message["attempts"]) == ("sent", 1)
            assert world.mx.sessions == 30

    run(main)


def test_a_dead_destination_delays_nobody_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(make_directory(tmp_path / "data", route=""), mute=True) as world:
            world.dns.mx["dead.example"] = [MxRecord(10, "mx.dead.example")]
            world.dns.addresses["mx.dead.example"] = ["93.184.216.35"]
            world.dns.mx["alive.example"] = [MxRecord(10, "mx.alive.example")]
            world.dns.addresses["mx.alive.example"] = ["93.184.216.34"]
            dead = [await world.send(to=f"a{number}@dead.example") for number in range(40)]
            world.mx.configure(mute=False)
            await trio.testing.wait_all_tasks_blocked()
            started = trio.current_time()
            message = await world.until_final(await world.send(to="friend@alive.example"))
            assert message["status"] == "sent"
            assert message["lastReply"]["mx"] == "mx.alive.example"
            assert trio.current_time() - started < 1  # of the virtual clock: nothing was waited for
            assert (await world.message(dead[0]))["status"] == "queued"

    run(main)


def test_mx_routing_and_its_refusals(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(make_directory(tmp_path / "data", route="")) as world:
            world.dns.mx["null.example"] = [MxRecord(0, "")]
            world.dns.addresses["private.example"] = ["10.0.0.1", "127.0.0.1", "::1"]
            world.dns.addresses["implicit.example"] = ["93.184.216.34"]
            for domain, enhanced, bounce_class in (
                ("null.example", "5.1.10", "bad_domain"),
                ("private.example", "5.4.4", "routing_errors"),
                ("missing.example", "5.1.2", "bad_domain"),
            ):
                message = await world.until_final(await world.send(to=f"friend@{domain}"))
                assert (message["status"], message["lastReply"]["enhanced"]) == ("bounced", enhanced)
                assert message["lastReply"]["bounceClass"] == bounce_class
            message = await world.until_final(await world.send(to="friend@implicit.example"))
            assert message["status"] == "sent"

    run(main)


def test_starttls_is_used_where_it_is_offered_and_recorded(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", tls=self_signed_context()) as world:
            message = await world.until_final(await world.send())
            (received,) = world.mx.messages
            assert received.tls == "TLSv1.3"
            tls = message["timeline"][-1]["tls"]
            assert tls["version"] == "TLSv1.3"
            assert tls["certificate"].startswith("unverified")

    run(main)


def test_a_broken_starttls_falls_back_to_plain_text(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", tls=self_signed_context(), starttls_broken=True) as world:
            message = await world.until_final(await world.send())
            assert (message["status"], message["attempts"]) == ("sent", 1)
            assert "tls" not in message["timeline"][-1]

    run(main)


def test_without_the_fallback_a_broken_starttls_defers(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        config = directory / "relay.toml"
        config.write_text(
            config.read_text().replace("[delivery]\n", "[delivery]\nplaintext_after_tls_failure = false\n")
        )
        context: ssl.SSLContext = self_signed_context()
        async with open_world(directory, tls=context, starttls_broken=True) as world:
            message_id = await world.send()
            deferred = await world.until(message_id, "deferred")
            assert "STARTTLS" in deferred["lastReply"]["text"]
            world.mx.configure(starttls_broken=False)
            assert (await world.until_final(message_id))["status"] == "sent"

    run(main)
