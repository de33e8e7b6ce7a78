"""What goes wrong for one member or one message stays there: the relay and everybody else go on."""

from pathlib import Path

import pytest
import trio
import trio.testing

from relay.config import CONFIG_FILE
from relay.delivery.deliverer import LOOKUPS_MAX
from relay.internet.resolver import Mx
from relay.refusals import Refusal
from tests.world.dns import FakeDns
from tests.world.internet import Internet, Trouble
from tests.world.relay import OTHER_DID, OTHER_DOMAIN, make_directory, open_world, run


def test_a_lost_signing_key_defers_that_domains_mail_only(tmp_path: Path) -> None:
    async def main() -> None:
        directory = tmp_path / "data"
        async with open_world(directory) as world:
            credentials = world.credentials
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
        (key,) = (directory / "keys" / OTHER_DOMAIN).glob("*r.pem")
        key.rename(tmp_path / key.name)
        async with open_world(directory, enrol=False) as world:
            world.credentials = other
            message_id = await world.send(**{"from": f"you@{OTHER_DOMAIN}"})
            deferred = await world.until(message_id, "deferred")
            assert "signing key" in deferred["lastReply"]["text"]
            assert deferred["lastReply"]["bounceClass"] == "bad_configuration"
            world.credentials = credentials
            assert (await world.until_final(await world.send()))["status"] == "sent"
            world.credentials = other
            (tmp_path / key.name).rename(key)
            assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


def test_the_operators_domain_cannot_be_enrolled(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            before = world.core.store.last_seq
            for domain in ("relay.example", "mail.relay.example"):
                with pytest.raises(Refusal, match="the relay's own"):
                    await world.enrol(OTHER_DID, domain)
            assert world.core.store.last_seq == before

    run(main)


def test_the_longest_did_and_domain_fit(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            long = ".".join(["x" * 60] * 4) + ".ex"
            did, domain = f"did:web:{long}", long
            world.credentials = await world.enrol(did, domain)
            message = await world.until_final(await world.send(**{"from": f"a@{domain}"}))
            assert message["status"] == "sent"
            _, answer, _ = await world.request("GET", "/member/status")
            assert [entry["domain"] for entry in answer["domains"]] == [domain]

    run(main)


def test_a_banner_that_refuses_is_recorded_with_who_said_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", banner=b"554 5.7.1 Not you") as world:
            deferred = await world.until(await world.send(), "deferred")
            assert deferred["lastReply"]["code"] == 554
            assert deferred["lastReply"]["mx"] == "127.0.0.1"
            assert deferred["timeline"][-1]["mxAddress"] == "127.0.0.1"
            assert "sha256" not in deferred["timeline"][-1]

    run(main)


def test_who_writes_to_many_that_never_answer_leaves_connections_to_others(tmp_path: Path) -> None:
    async def main() -> None:
        directory, internet = make_directory(tmp_path / "data", route=""), Internet()
        path = directory / CONFIG_FILE
        path.write_text(
            path.read_text()
            .replace("# connections_max = 500", "connections_max = 20")
            .replace("# connections_per_member_max = 250", "connections_per_member_max = 10")
        )
        internet.add_domain("example.com", internet.add_host("mx.example.com", "198.41.1.1").name)
        for number in range(20):
            host = internet.add_host(f"mx.silent{number}.example", f"198.41.0.{number + 1}")
            host.troubles = [Trouble("silent")]
            internet.add_domain(f"silent{number}.example", host.name)
        async with open_world(directory, internet=internet) as world:
            alice, world.credentials = world.credentials, await world.enrol(OTHER_DID, OTHER_DOMAIN)
            for number in range(20):
                status, _ = await world.post_send(
                    **{"from": f"you@{OTHER_DOMAIN}"},
                    to=[f"reader{index}@silent{number}.example" for index in range(5)],
                )
                assert status == 200
            await trio.testing.wait_all_tasks_blocked()
            assert sum(internet.connections_max.values()) == 10
            before = trio.current_time()
            world.credentials = alice
            assert (await world.until_final(await world.send()))["status"] == "sent"
            assert trio.current_time() < before + 1

    run(main)


class SlowDns(FakeDns):
    """A name service that takes a minute for each question."""

    under_way = under_way_max = 0

    async def lookup_mx(self, domain: str) -> list[Mx]:
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        await trio.sleep(60)
        self.under_way -= 1
        return await super().lookup_mx(domain)


def test_any_number_of_domains_is_looked_up_by_a_bounded_number_of_tasks(tmp_path: Path) -> None:
    """A backlog of 100,000 domains, due at once, must not cost a task for each."""

    async def main() -> None:
        domains = [f"receiver{number}.example" for number in range(LOOKUPS_MAX + 50)]
        internet, slow = Internet(), SlowDns()
        for domain in domains:
            slow.broken.add(domain)
        internet.dns = slow
        async with open_world(make_directory(tmp_path / "data", route=""), internet=internet) as world:
            before = trio.lowlevel.current_statistics().tasks_living
            for begin in range(0, len(domains), 50):
                status, _ = await world.post_send(
                    to=[f"you@{domain}" for domain in domains[begin : begin + 50]]
                )
                assert status == 200
            await trio.testing.wait_all_tasks_blocked()
            assert slow.under_way == LOOKUPS_MAX
            assert trio.lowlevel.current_statistics().tasks_living <= before + LOOKUPS_MAX
            await trio.sleep(1000)
            assert {name for kind, name in slow.asked if kind == "MX"} == {*domains}
            assert slow.under_way_max == LOOKUPS_MAX

    run(main)
