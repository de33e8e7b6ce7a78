"""Sites through the whole relay: what is shared, what is put off, who goes first, and who never waits for whom."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from relay.delivery.deliverer import IDLE_SECONDS_MAX, SITE_SECONDS
from relay.delivery.sites import DOWN_SECONDS
from relay.internet.resolver import Mx as MxRecord
from tests.world.dns import FakeDns
from tests.world.relay import OTHER_DID, OTHER_DOMAIN, World, make_directory, open_world, run
from tests.world.self_signed import self_signed_context


def dns_of(**domains: str) -> FakeDns:
    """Domains (`a` is `a.example`), each with the host that is its MX."""
    dns = FakeDns()
    for number, host in enumerate(sorted(set(domains.values()))):
        dns.addresses[host] = [f"93.184.216.{number + 1}"]
    for domain, host in domains.items():
        dns.mx[f"{domain}.example"] = [MxRecord(10, host)]
    return dns


def directory_with(tmp_path: Path, *settings: str, route: str = "") -> Path:
    """A data directory that asks the DNS, with lines for the table [delivery]."""
    directory = make_directory(tmp_path / "data", route=route)
    config = directory / "relay.toml"
    config.write_text(
        config.read_text().replace("\n[delivery]\n", "\n[delivery]\n" + "\n".join(settings) + "\n")
    )
    return directory


#: What fails on purpose is not to pause its domain.
NO_PAUSES = "\n[reputation]\nmessages_min = 1000000\n"


async def sent(world: World, message_id: int) -> Any:
    message = await world.until_final(message_id)
    assert message["status"] == "sent"
    return message


def test_a_connection_rests_for_the_next_message_and_then_says_goodbye(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await sent(world, await world.send())
            await trio.sleep(IDLE_SECONDS_MAX - 1)
            await sent(world, await world.send())
            assert world.mx.sessions == world.mx.sessions_open == 1
            await trio.sleep(IDLE_SECONDS_MAX + 1)
            assert world.mx.sessions_open == 0
            assert world.mx.commands[-1] == "QUIT"
            await sent(world, await world.send())
            assert world.mx.sessions == 2

    run(main)


def test_a_resting_connection_that_its_server_closed_costs_no_attempt(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", messages_per_session=1) as world:
            await sent(world, await world.send())
            message = await sent(world, await world.send())
            assert message["attempts"] == 1
            assert world.mx.sessions == 2

    run(main)


def test_stopping_does_not_wait_for_connections_that_rest(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await sent(world, await world.send())
            before = trio.current_time()
            await world.relay.stop()
            assert trio.current_time() - before < 1  # of the virtual clock
            assert world.mx.commands[-1] == "QUIT"

    run(main)


def test_domains_at_one_provider_share_its_connections(tmp_path: Path) -> None:
    async def main() -> None:
        dns = dns_of(**{f"customer{number}": "mx.provider.example" for number in range(30)})
        async with open_world(directory_with(tmp_path), dns=dns) as world:
            to = [f"friend@customer{number}.example" for number in range(30)]
            _, answer = await world.post_send(to=to)
            for accepted in answer["accepted"]:
                await sent(world, accepted["messageId"])
            assert world.mx.sessions < 10
            assert sorted(message.rcpt_to[0] for message in world.mx.messages) == sorted(to)

    run(main)


def test_a_site_that_is_down_is_not_asked_for_every_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", banner=b"421 4.3.2 Not now") as world:
            _, answer = await world.post_send(to=[f"friend{number}@example.com" for number in range(40)])
            ids = [accepted["messageId"] for accepted in answer["accepted"]]
            stories = [await world.until(message_id, "deferred") for message_id in ids]
            texts = [story["lastReply"]["text"] for story in stories]
            assert world.mx.sessions == texts.count("Not now") < 10
            put_off = "not tried, because it failed just now: 421 Not now"
            assert texts.count(put_off) == 40 - world.mx.sessions
            # What was put off is no attempt that was begun, but it counts in the schedule of retries.
            story = stories[texts.index(put_off)]
            assert [entry["type"] for entry in story["timeline"]] == ["message.queued", "message.deferred"]
            assert story["attempts"] == 1
            world.mx.configure(banner=b"220 mx.test ESMTP")
            for message_id in ids:
                await sent(world, message_id)

    run(main)


def test_a_site_that_cannot_do_what_it_offers_goes_down_as_well(tmp_path: Path) -> None:
    """Where nothing is sent in the clear, each handshake that fails is one for nothing."""

    async def main() -> None:
        directory = directory_with(tmp_path, "plaintext_after_tls_failure = false", route="127.0.0.1:25")
        broken = {"tls": self_signed_context("mx.test"), "starttls_broken": True}
        async with open_world(directory, **broken) as world:
            _, answer = await world.post_send(to=[f"friend{number}@example.com" for number in range(40)])
            ids = [accepted["messageId"] for accepted in answer["accepted"]]
            stories = [await world.until(message_id, "deferred") for message_id in ids]
            texts = [story["lastReply"]["text"] for story in stories]
            assert world.mx.sessions == sum(text.startswith("STARTTLS: ") for text in texts) < 10
            put_off = "not tried, because it failed just now: STARTTLS: "
            assert sum(text.startswith(put_off) for text in texts) == 40 - world.mx.sessions

    run(main)


def test_a_flush_asks_a_site_that_is_down(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", banner=b"421 4.3.2 Not now") as world:
            _, answer = await world.post_send(to=[f"friend{number}@example.com" for number in range(20)])
            ids = [accepted["messageId"] for accepted in answer["accepted"]]
            for message_id in ids:
                await world.until(message_id, "deferred")
            world.mx.configure(banner=b"220 mx.test ESMTP")
            before = trio.current_time()
            await world.command("queue_flush", everything=True, by="root", reason="it is back")
            for message_id in ids:
                await sent(world, message_id)
            assert trio.current_time() - before < 1

    run(main)


def test_mail_to_a_site_that_stays_down_is_given_up_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=NO_PAUSES, banner=b"554 5.7.1 Go away") as world:
            _, answer = await world.post_send(
                to=[f"friend{number}@example.com" for number in range(30)], category="login-link"
            )
            for accepted in answer["accepted"]:
                message = await world.until_final(accepted["messageId"])
                assert (message["status"], message["timeline"][-1]["reason"]) == ("bounced", "expired")
            assert trio.current_time() <= 3600 + DOWN_SECONDS
            assert world.mx.messages == []

    run(main)


def test_a_login_link_overtakes_a_digest(tmp_path: Path) -> None:
    async def main() -> None:
        directory = directory_with(tmp_path, "connections_per_site_max = 2", route="127.0.0.1:25")
        async with open_world(directory) as world:
            digest = [f"reader{number}@example.com" for number in range(50)]
            await world.post_send(to=digest, category="bulk")
            world.credentials = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            link = await world.send(**{"from": f"login@{OTHER_DOMAIN}"}, category="login-link")
            await sent(world, link)
            recipients = [message.rcpt_to[0] for message in world.mx.messages]
            assert recipients.index("friend@example.com") < 40

    run(main)


@pytest.mark.parametrize("trouble", ["hang", "slow", "421", "reset", "huge", "garbage", "hang-after-dot"])
def test_a_destination_in_trouble_delays_nobody_else(tmp_path: Path, trouble: str) -> None:
    """On a clock that only jumps when all else waits, a delay is exactly what somebody had to wait for."""

    async def main() -> None:
        dns = dns_of(bad="mx.bad.example", good="mx.good.example")
        async with open_world(
            directory_with(tmp_path), dns=dns, drip_seconds=1.0 if trouble == "slow" else None
        ) as world:
            for number in range(40):
                await world.send(to=f"{trouble}+{number}@bad.example")
            await trio.testing.wait_all_tasks_blocked()
            world.mx.configure(drip_seconds=None)
            for number in range(10):
                before = trio.current_time()
                await sent(world, await world.send(to=f"friend{number}@good.example"))
                assert trio.current_time() - before < 0.1

    run(main)


def test_the_operator_can_name_a_provider_by_its_mx_host(tmp_path: Path) -> None:
    async def main() -> None:
        dns = dns_of(a="mx.provider.example", b="mx.provider.example", c="mx.other.example")
        async with open_world(directory_with(tmp_path), dns=dns, banner=b"421 4.3.2 Not now") as world:
            ids = [await world.send(to=f"friend@{name}.example") for name in "abc"]
            for message_id in ids:
                await world.until(message_id, "deferred")
            held = await world.command(
                "queue_hold", site="mx.provider.example", by="root", reason="they asked for it"
            )
            assert held["done"]["messages"] == ids[:2]
            listed = await world.command("queue_list")
            assert {site["site"]: site["receivers"] for site in listed["sites"]} == {
                "a.example": "mx.provider.example",
                "b.example": "mx.provider.example",
                "c.example": "mx.other.example",
            }

    run(main)


def test_rates_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        directory = directory_with(
            tmp_path,
            "messages_per_minute_max = 60",
            'sites = { "slow.example" = { messages_per_minute_max = 6, connections_max = 1 } }',
        )
        dns = dns_of(slow="mx.slow.example", quick="mx.quick.example")
        async with open_world(directory, dns=dns) as world:
            before = trio.current_time()
            ids = {
                name: [
                    accepted["messageId"]
                    for accepted in (
                        await world.post_send(
                            to=[f"friend{number}@{name}.example" for number in range(count)]
                        )
                    )[1]["accepted"]
                ]
                for name, count in (("slow", 7), ("quick", 30))
            }
            for message_id in ids["slow"]:
                await sent(world, message_id)
            # Seven messages are six pauses of 10 s; another site's turn may take a second in between.
            assert 60 <= trio.current_time() - before < 75
            for message_id in ids["quick"]:
                await sent(world, message_id)
            assert 36 <= trio.current_time() - before < 75

    run(main)


def test_a_backlog_follows_its_domain_to_another_provider(tmp_path: Path) -> None:
    """A lane that never runs empty is looked up again like any other."""

    async def main() -> None:
        dns = dns_of(a="mx.old.example", b="mx.new.example")
        directory = directory_with(tmp_path, 'sites = { "old.example" = { messages_per_minute_max = 1 } }')
        async with open_world(directory, dns=dns) as world:
            _, answer = await world.post_send(to=[f"friend{number}@a.example" for number in range(30)])
            first, *others = [accepted["messageId"] for accepted in answer["accepted"]]
            await sent(world, first)
            dns.mx["a.example"] = [MxRecord(10, "mx.new.example")]
            before = trio.current_time()
            for message_id in others:
                await sent(world, message_id)
            assert trio.current_time() - before < 3 * SITE_SECONDS
            stories = [await world.message(message_id) for message_id in others]
            assert [story["attempts"] for story in stories] == [1] * len(others)

    run(main)


def test_stopping_does_not_wait_for_name_servers_that_hang(tmp_path: Path) -> None:
    class HangingDns(FakeDns):
        async def lookup_mx(self, domain: str) -> list[MxRecord]:
            await trio.sleep_forever()
            raise AssertionError

    async def main() -> None:
        async with open_world(directory_with(tmp_path), dns=HangingDns()) as world:
            await world.send(to="friend@example.com")
            await trio.testing.wait_all_tasks_blocked()
            before = trio.current_time()
            await world.relay.stop()
            assert trio.current_time() - before < 1

    run(main)


def test_a_suppression_that_comes_during_an_attempt_stops_the_message_right_after_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            # Something else is due before this one is again, so that nothing but the suppression wakes the relay.
            await world.until(await world.send(to="tempfail@example.com"), "deferred")
            await trio.sleep(10)
            world.mx.configure(drip_seconds=0.1)
            message_id = await world.send(to="421@example.com", category="bulk")
            await trio.sleep(2)
            address = {"recipient": "421@example.com"}
            status, _, _ = await world.request("POST", "/v1/suppressions", json=address)
            assert status in (200, 201)
            assert (await world.message(message_id))["status"] == "queued"
            await world.until(message_id, "deferred", "bounced")
            deferred_at = trio.current_time()
            await world.until(message_id, "bounced")
            assert trio.current_time() - deferred_at < 1

    run(main)


def test_addresses_that_hang_are_not_tried_for_hours(tmp_path: Path) -> None:
    """Twenty of them, each of which would be waited for ten minutes; a login link lives for an hour."""

    async def main() -> None:
        dns = dns_of(bad="mx.bad.example")
        dns.addresses["mx.bad.example"] = [f"93.184.216.{number}" for number in range(1, 21)]
        async with open_world(directory_with(tmp_path), dns=dns, mute=True) as world:
            before = trio.current_time()
            message_id = await world.send(to="friend@bad.example", category="login-link")
            await world.until(message_id, "deferred", "bounced")
            assert trio.current_time() - before < 1800
            tried_first = world.mx.sessions
            await world.until_final(message_id)
            assert world.mx.sessions > tried_first
            assert trio.current_time() - before < 3600 + 1800

    run(main)


@pytest.mark.parametrize("trouble", ["disconnect-in-data", "reset", "garbage"])
def test_messages_at_which_a_receiver_breaks_off_do_not_put_off_the_others(
    tmp_path: Path, trouble: str
) -> None:
    """It has greeted us: somebody is at home, and it may be these messages that its filter stumbles over."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            bad = [f"{trouble}+{number}@example.com" for number in range(30)]
            good = [f"friend{number}@example.com" for number in range(10)]
            _, answer = await world.post_send(to=bad + good)
            for accepted in answer["accepted"][len(bad) :]:
                message = await sent(world, accepted["messageId"])
                assert message["attempts"] == 1

    run(main)
