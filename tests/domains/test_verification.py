"""Domain verification: every likely mistake in the DNS by example, and what follows from a check, day after day.

The diagnosis is pure, so its examples are tables of facts. What follows from it runs through a whole relay on a clock
that jumps. One test asks a real DNS server.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.core import open_core
from relay.domains.diagnosis import (
    Finding,
)
from relay.domains.records import DnsRecord, zone_text
from relay.domains.rounds import LOOKS_AT_ONCE_MAX
from relay.domains.verification import (
    CHECK_SECONDS,
    GRACE_SECONDS,
    RETRY_SECONDS,
    check_domain,
)
from relay.internet.resolver import DnsResolver, LookupFailed, NoSuchName
from relay.operator.socket import serve_admin_socket
from relay.refusals import Refusal
from relay.surroundings import Surroundings
from relay.views import members
from tests.world.dns import FakeDns, open_dns_server
from tests.world.orders import order
from tests.world.relay import (
    DID,
    DOMAIN,
    OPERATOR_DOMAIN,
    OTHER_DID,
    OTHER_DOMAIN,
    World,
    make_directory,
    open_world,
    run,
)
from tests.world.zone_records import publish

HOUR = 3600


# ------------------------------------------------------------------------------------------------ a relay


class Domain:
    """The domain of a world's member, through the relay's own doors."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def publish(self) -> None:
        answer = await self.world.command("dns", domain=DOMAIN)
        publish(self.world.dns, answer["domains"][0]["records"])

    async def verify(self) -> Any:
        return await self.world.command("domain_verify", did=DID, domain=DOMAIN)

    async def may_send(self) -> bool:
        status, answer = await self.world.post_send()
        assert status == 200 or answer["code"] == "DOMAIN_UNVERIFIED", answer
        return status == 200

    def asked(self) -> list[tuple[str, str]]:
        """What the DNS was asked of the domain: the relay looks for its own address as well."""
        return [asked for asked in self.world.dns.asked if asked[1] != OPERATOR_DOMAIN]

    @property
    def state(self) -> members.DomainState:
        with self.world.core.store.read() as view:
            state = members.domain(view, DOMAIN)
        assert state is not None
        return state

    def break_spf(self) -> None:
        self.world.dns.txt[DOMAIN] = [(b"v=spf1 -all",)]

    def break_dns(self) -> None:
        self.world.dns.broken |= set(self.world.dns.txt)

    def mend_dns(self) -> None:
        self.world.dns.broken.clear()

    def events(self) -> list[str]:
        """What the checks made true, in order."""
        kinds = ("domain.verified", "domain.check_failed", "domain.unverified")
        return [event.TYPE for event in self.world.events() if event.TYPE in kinds]


@asynccontextmanager
async def open_domain(directory: Path, *, settings: str = "") -> AsyncIterator[Domain]:
    """A relay that requires verified domains, with a member whose domain has its records and is not verified."""
    make_directory(directory, settings)
    path = directory / "relay.toml"
    path.write_text(
        path.read_text().replace("require_verified_domains = false", "require_verified_domains = true")
    )
    async with open_world(directory) as world:
        domain = Domain(world)
        await domain.publish()
        yield domain


def with_domain(directory: Path, test: Callable[[Domain], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_domain(directory / "data") as domain:
            await test(domain)

    run(main)


def test_a_domain_may_send_once_it_is_verified(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        assert not await domain.may_send()
        answer = await domain.verify()
        assert answer["verified"] is True
        assert await domain.may_send()
        assert domain.state.first_verified_at == domain.state.checked_at
        assert domain.events() == ["domain.verified"]

    with_domain(tmp_path, story)


def test_a_domain_whose_records_are_wrong_is_not_verified_and_nothing_is_recorded(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        domain.break_spf()
        answer = await domain.verify()
        assert answer["verified"] is False
        assert not await domain.may_send()
        assert domain.events() == []

    with_domain(tmp_path, story)


def test_a_domain_whose_dns_cannot_tell_is_not_verified_either(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        domain.break_dns()
        answer = await domain.verify()
        assert answer["verified"] is False
        assert [check["ok"] for check in answer["checks"]] == [None] * 5
        assert domain.events() == []

    with_domain(tmp_path, story)


def test_a_verified_domain_is_looked_at_once_a_day_and_not_oftener(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.world.dns.asked.clear()
        await trio.sleep(10 * CHECK_SECONDS + HOUR)
        assert domain.events() == ["domain.verified"] * 11
        # Five records, and nothing else while they are right.
        assert len(domain.asked()) == 10 * 5

    with_domain(tmp_path, story)


def test_a_domain_that_was_never_verified_is_left_alone(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await trio.sleep(30 * CHECK_SECONDS)
        assert domain.asked() == []

    with_domain(tmp_path, story)


def test_broken_records_stop_sending_after_the_grace_time(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        first = domain.state.first_verified_at
        domain.break_spf()
        await trio.sleep(CHECK_SECONDS + HOUR)
        assert domain.events()[1:] == ["domain.check_failed"]
        failing_since = domain.state.failing_since
        await trio.sleep(GRACE_SECONDS - 2 * HOUR)
        assert await domain.may_send()
        await trio.sleep(2 * HOUR)
        assert not await domain.may_send()
        assert domain.events()[1:] == ["domain.check_failed"] * 3 + ["domain.unverified"]
        assert domain.state.failing_since == failing_since
        # Nobody looks until the operator asks; then its age goes on from where it was.
        await domain.publish()
        await trio.sleep(10 * CHECK_SECONDS)
        assert not await domain.may_send()
        await domain.verify()
        assert await domain.may_send()
        assert domain.state.first_verified_at == first
        assert domain.state.failing_since is None

    with_domain(tmp_path, story)


def test_the_events_name_the_checks_that_failed(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_spf()
        del domain.world.dns.txt[f"_dmarc.{DOMAIN}"]
        await trio.sleep(CHECK_SECONDS + GRACE_SECONDS + HOUR)
        failed = [event.failed for event in domain.world.events() if hasattr(event, "failed")]
        assert failed == [["spf", "dmarc"]] * 4

    with_domain(tmp_path, story)


def test_records_mended_within_the_grace_time_are_as_if_nothing_had_been(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        for _ in range(3):  # each time the grace is whole again
            domain.break_spf()
            await trio.sleep(3 * CHECK_SECONDS)
            assert domain.state.failing_since is not None
            await domain.publish()
            await trio.sleep(CHECK_SECONDS)
            assert domain.state.failing_since is None
            assert await domain.may_send()

    with_domain(tmp_path, story)


def test_the_grace_ends_on_time_even_where_the_operator_looked_in_between(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_spf()
        await domain.verify()
        await trio.sleep(GRACE_SECONDS - 10 * HOUR)
        await domain.verify()  # the next check would be 14 h after the grace
        await trio.sleep(9 * HOUR)
        assert await domain.may_send()
        await trio.sleep(2 * HOUR)
        assert not await domain.may_send()

    with_domain(tmp_path, story)


def test_an_operator_who_looks_within_the_grace_time_does_not_end_it(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_spf()
        for _ in range(20):
            assert (await domain.verify())["verified"] is False
        assert await domain.may_send()

    with_domain(tmp_path, story)


def test_a_week_without_dns_takes_nothing_from_anybody(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_dns()
        domain.world.dns.asked.clear()
        await trio.sleep(7 * CHECK_SECONDS)
        assert await domain.may_send()
        assert domain.events() == ["domain.verified"]
        # Asked again every hour from the end of the first day, which is no storm.
        assert len(domain.asked()) <= 5 * 6 * CHECK_SECONDS / RETRY_SECONDS + 5
        domain.mend_dns()
        await trio.sleep(RETRY_SECONDS + 1)
        assert domain.events() == ["domain.verified"] * 2

    with_domain(tmp_path, story)


def test_a_dns_that_goes_silent_at_the_end_of_the_grace_time_extends_it(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_spf()
        await trio.sleep(CHECK_SECONDS + GRACE_SECONDS - HOUR)
        domain.break_dns()
        await trio.sleep(7 * CHECK_SECONDS)
        assert await domain.may_send()
        domain.mend_dns()  # the record is still wrong
        await trio.sleep(RETRY_SECONDS + 1)
        assert not await domain.may_send()

    with_domain(tmp_path, story)


def test_what_is_wrong_for_certain_counts_whatever_else_cannot_be_told(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_spf()
        domain.world.dns.broken.add(f"_dmarc.{DOMAIN}")
        await domain.verify()
        assert domain.events() == ["domain.verified", "domain.check_failed"]

    with_domain(tmp_path, story)


def test_the_days_are_counted_across_a_restart(tmp_path: Path) -> None:
    """When a domain is due stands in the views. A relay that was away is late, and no more than that."""

    async def main() -> None:
        directory = tmp_path / "data"
        async with open_domain(directory) as domain:
            await domain.verify()
            await trio.sleep(CHECK_SECONDS - HOUR)
            published = dict(domain.world.dns.txt)
        async with open_world(directory, enrol=False, dns=FakeDns(txt=published)) as world:
            domain = Domain(world)
            await trio.sleep(HOUR / 2)
            assert domain.events() == ["domain.verified"]
            await trio.sleep(HOUR)
            assert domain.events() == ["domain.verified"] * 2
        await trio.sleep(5 * CHECK_SECONDS)
        async with open_world(directory, enrol=False, dns=FakeDns(txt=published)) as world:
            domain = Domain(world)
            await trio.sleep(1)
            assert domain.events() == ["domain.verified"] * 3

    run(main)


class SlowDns(FakeDns):
    """Takes a second to tell a DMARC record, and knows how many domains have waited for theirs at once."""

    waiting = 0
    waiting_most = 0

    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        if name.startswith("_dmarc."):
            self.waiting += 1
            self.waiting_most = max(self.waiting_most, self.waiting)
            await trio.sleep(1)
            self.waiting -= 1
        return await super().lookup_txt(name)


def test_no_more_than_a_few_domains_are_checked_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        directory, dns = make_directory(tmp_path / "data", "domains_max = 20\n"), SlowDns()
        names = [f"d{number}.example" for number in range(2 * LOOKS_AT_ONCE_MAX)]
        async with open_world(directory, enrol=False, dns=dns) as world:
            await world.enrol(DID, *names)
            for enrolled in (await world.command("dns"))["domains"]:
                publish(dns, enrolled["records"])
            async with trio.open_nursery() as nursery:
                for name in names:
                    nursery.start_soon(partial(world.command, "domain_verify", did=DID, domain=name))
            assert dns.waiting_most == len(names)
            dns.waiting_most = 0
            await trio.sleep(CHECK_SECONDS + HOUR)
            assert Domain(world).events() == ["domain.verified"] * 2 * len(names)
            assert dns.waiting_most == LOOKS_AT_ONCE_MAX

    run(main)


# ------------------------------------------------------------------------------------------------ the command


def test_the_answer_for_programs(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        domain.break_spf()
        answer = await domain.verify()
        assert list(answer) == ["did", "domain", "verified", "checks"]
        assert (answer["did"], answer["domain"], answer["verified"]) == (DID, DOMAIN, False)
        by_name = {check["name"]: check for check in answer["checks"]}
        assert len(by_name) == 5
        assert by_name[DOMAIN] == {
            "name": DOMAIN,
            "type": "TXT",
            "purpose": by_name[DOMAIN]["purpose"],
            "expected": f"v=spf1 include:{OPERATOR_DOMAIN} ~all",
            "found": ["v=spf1 -all"],
            "ok": False,
            "fix": "the record lacks include:relay.example; make it: v=spf1 include:relay.example -all",
        }
        assert [check["ok"] for check in answer["checks"]] == [True, True, True, False, True]

    with_domain(tmp_path, story)


@pytest.mark.parametrize(("did", "name"), [(OTHER_DID, DOMAIN), (DID, OTHER_DOMAIN)])
def test_somebody_elses_domain(tmp_path: Path, did: str, name: str) -> None:
    async def story(domain: Domain) -> None:
        with pytest.raises(Refusal) as raised:
            await domain.world.command("domain_verify", did=did, domain=name)
        assert raised.value.code == "NOT_FOUND"
        assert domain.asked() == []

    with_domain(tmp_path, story)


def test_the_command_line(tmp_path: Path) -> None:
    """`atmos-relay domain verify`, in a process of its own, by way of a relay's socket."""
    directory, dns = make_directory(tmp_path / "data"), FakeDns()

    async def verify(*options: str) -> tuple[int, str]:
        words = ["domain", "verify", str(directory), "--did", DID, "--domain", DOMAIN, *options]
        done = await trio.run_process(
            [sys.executable, "-m", "relay", *words], capture_stdout=True, capture_stderr=True, check=False
        )
        assert done.stderr == b""
        return done.returncode, done.stdout.decode()

    async def main() -> None:
        async with open_core(directory, Surroundings(resolver=dns)) as core, trio.open_nursery() as nursery:
            await nursery.start(serve_admin_socket, core)
            await order(core, "member_add", did=DID, domains=[DOMAIN], offline=True)
            answer: Any = await order(core, "dns", domain=DOMAIN)
            publish(dns, answer["domains"][0]["records"])

            status, printed = await verify()
            assert status == 0
            assert [line[:7] for line in printed.splitlines()[:-1]] == ["ok     "] * 5
            assert printed.endswith(f"{DOMAIN} is verified.\n")

            owner = f"_atmos-verify.{DOMAIN}"
            dns.txt[f"{owner}.{DOMAIN}"] = dns.txt.pop(owner)
            dns.broken.add(f"_dmarc.{DOMAIN}")
            status, printed = await verify()
            assert status == 1
            lines = printed.splitlines()
            assert lines[0] == f"PROBLEM  TXT {owner}"
            assert lines[2:4] == [f"         expected  atmos-verify={DID}", "         found     nothing"]
            assert lines[4].startswith(
                f"         fix       the record stands at {owner}.{DOMAIN}: the registrar"
            )
            assert f"UNKNOWN  TXT _dmarc.{DOMAIN}" in lines
            assert lines[-1] == f"{DOMAIN} is NOT verified."

            status, printed = await verify("--json")
            assert status == 1
            answer = json.loads(printed)
            assert (answer["verified"], answer["checks"][0]["ok"]) == (False, False)
            nursery.cancel_scope.cancel()

    trio.run(main)


# ------------------------------------------------------------------------------------------------ a real DNS


def test_dnspython_asks_a_real_server(tmp_path: Path) -> None:
    """The zone is what `atmos-relay dns` prints: an RSA key is longer than a string, and comes in two."""

    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        async with open_core(directory) as core:
            await order(core, "member_add", did=DID, domains=[DOMAIN], offline=True)
            answer: Any = await order(core, "dns", domain=DOMAIN)
            records = [DnsRecord(**record) for record in answer["domains"][0]["records"]]
            with core.store.read() as view:
                state = members.domain(view, DOMAIN)
            assert state is not None

            async def check(zone: str) -> dict[str, Finding]:
                async with open_dns_server(f"$TTL 60\n. SOA ns. admin. 1 1 1 1 1\n{zone}") as resolver:
                    dns = DnsResolver(resolver)
                    rsa = await dns.lookup_txt(records[1].name)
                    assert [[len(string) for string in record] for record in rsa] in ([[255, 155]], [[255]])
                    return {found.check: found for found in await check_domain(core, state, dns)}

            zone = zone_text(records)
            findings = await check(zone)
            assert [found.ok for found in findings.values()] == [True] * 5
            assert findings["dkim-rsa"].found == (records[1].value,)

            owner, rsa = records[0].name, records[1].value
            broken = zone.replace(f'"{rsa[255:]}"', "").replace(f"{owner}.", f"{owner}.{DOMAIN}.")
            findings = await check(broken)
            assert [found.ok for found in findings.values()] == [False, False, True, True, True]
            assert f"stands at {owner}.{DOMAIN}: the registrar" in str(findings["ownership"].fix)
            assert "cut off after 255 octets" in str(findings["dkim-rsa"].fix)

    trio.run(main)


def test_a_real_server_that_fails_has_told_nothing() -> None:
    async def main() -> None:
        async with open_dns_server(". 60 SOA ns. admin. 1 1 1 1 1") as resolver:
            dns = DnsResolver(resolver)
            with pytest.raises(LookupFailed):
                await dns.lookup_txt("servfail.example")
            with pytest.raises(NoSuchName):
                await dns.lookup_txt("nothing.example")

    trio.run(main)
