"""Lists are asked for the relay's own addresses and domains; what changes is an event."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio

from relay import dnsbl_watch
from relay.dnsbl_watch import FAILURES_MAX
from relay.events import DomainAdded, DomainVerified, Event, SourceDelisted, SourceListed
from relay.internet.own_addresses import OwnAddress
from tests.world.dns import FakeDns
from tests.world.process import configure
from tests.world.relay import DID, DOMAIN, World, make_directory, open_world, run

OWN = "198.41.0.25"
_AT = "25.0.41.198.bl.example"
HOUR = 3600
ROUND = 6 * HOUR


@pytest.fixture(autouse=True)
def from_there(monkeypatch: pytest.MonkeyPatch) -> list[OwnAddress]:
    """Where mail goes out from: this machine has no public address."""
    found = [OwnAddress(ip_address(OWN))]

    async def own_addresses(*_: Any, **__: Any) -> tuple[OwnAddress, ...]:
        return tuple(found)

    monkeypatch.setattr(dnsbl_watch, "own_addresses", own_addresses)
    return found


def zone() -> FakeDns:
    return FakeDns(
        addresses={"2.0.0.127.bl.example": ["127.0.0.2"], "test.names.example": ["127.0.1.2"]},
    )


def directory_of(tmp_path: Path, *, route: str = "") -> Path:
    directory = make_directory(tmp_path / "data", route=route)
    path = directory / "relay.toml"
    head, _, rest = path.read_text().partition("\ndnsbl = ")
    path.write_text(f'{head}\ndnsbl = ["bl.example"]\n{rest.partition(chr(10))[2]}')
    configure(directory, monitoring='dnsbl_domains = ["names.example"]')
    return directory


def seen(world: World) -> list[Event]:
    return [event for event in world.events() if isinstance(event, SourceListed | SourceDelisted)]


def test_what_changes_is_an_event_and_unknown_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        dns = zone()
        async with open_world(directory_of(tmp_path), dns=dns) as world:
            await world.core.store.append([DomainVerified(did=DID, domain=DOMAIN)])
            await trio.sleep(2 * 60)
            assert seen(world) == []
            assert world.core.list_looks.of(OWN, "bl.example").unknown is None
            assert not any("names.example" in name and OWN in name for _, name in dns.asked)

            dns.addresses[_AT] = ["127.0.0.9", "127.0.0.2"]
            dns.txt[_AT] = [(b"why",)]
            dns.addresses[f"{DOMAIN}.names.example"] = ["127.0.1.2"]
            await trio.sleep(ROUND)
            listed = SourceListed(
                source=OWN, dnsbl="bl.example", codes=["127.0.0.2", "127.0.0.9"], text="why"
            )
            of_domain = SourceListed(source=DOMAIN, dnsbl="names.example", codes=["127.0.1.2"])
            assert sorted(seen(world), key=str) == sorted([listed, of_domain], key=str)
            await trio.sleep(2 * ROUND)
            assert len(seen(world)) == 2

            # The list fails, and then refuses us: that is no news of the address.
            dns.broken.add(_AT)
            await trio.sleep(ROUND)
            dns.broken.clear()
            dns.addresses["2.0.0.127.bl.example"] = ["127.255.255.254"]
            await trio.sleep(ROUND)
            assert len(seen(world)) == 2
            page = await world.core.metrics_page.text()
            assert b'atmos_dnsbl_sources{dnsbl="bl.example",state="listed"} 1.0' in page
            assert b'atmos_dnsbl_sources{dnsbl="bl.example",state="unknown"} 1.0' in page
            (unknown,) = [one for one in await world.command("listing_list") if one["state"] == "unknown"]
            assert "127.255.255.254" in unknown["because"]

            dns.addresses["2.0.0.127.bl.example"] = ["127.0.0.2"]
            dns.addresses[_AT] = ["127.0.0.2"]
            del dns.addresses[f"{DOMAIN}.names.example"]
            await trio.sleep(ROUND)
            changed = SourceListed(source=OWN, dnsbl="bl.example", codes=["127.0.0.2"], text="why")
            gone = SourceDelisted(source=DOMAIN, dnsbl="names.example")
            assert sorted(seen(world)[2:], key=str) == sorted([changed, gone], key=str)
            del dns.addresses[_AT], dns.txt[_AT]
            await trio.sleep(ROUND)
            assert seen(world)[4:] == [SourceDelisted(source=OWN, dnsbl="bl.example")]

    run(main)


def test_names_that_are_too_long_for_the_dns_do_not_hide_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        dns = zone()
        long = [".".join([f"a{number}" + "a" * 58] * 4) for number in range(FAILURES_MAX + 1)]
        # What a resolver says of them.
        dns.broken.update(f"{name}.names.example" for name in long)
        async with open_world(directory_of(tmp_path), dns=dns) as world:
            for name in (*long, DOMAIN):
                added = DomainAdded(
                    did=DID, domain=name, selector_stem="s", rsa_public="r", ed25519_public="e"
                )
                verified = DomainVerified(did=DID, domain=name)
                await world.core.store.append([verified] if name == DOMAIN else [added, verified])
            dns.addresses[f"{DOMAIN}.names.example"] = ["127.0.1.2"]
            await trio.sleep(2 * 60)
            assert [event.source for event in seen(world) if isinstance(event, SourceListed)] == [DOMAIN]
            assert not any(name.startswith("a0") for _, name in dns.asked)
            look = world.core.list_looks.of(long[0], "names.example")
            assert look is not None
            assert "too long" in (look.unknown or "")

    run(main)


def test_nobody_is_asked_for_what_is_not_public_nor_where_a_route_takes_all_mail(
    tmp_path: Path, from_there: list[OwnAddress]
) -> None:
    async def main() -> None:
        from_there[:] = [OwnAddress(ip_address("192.168.0.2")), OwnAddress(ip_address("fd00::1"))]
        dns = zone()
        async with open_world(directory_of(tmp_path), dns=dns) as world:
            await trio.sleep(ROUND)
            assert not any(name.endswith("bl.example") for _, name in dns.asked)
            assert seen(world) == []
        from_there[:] = [OwnAddress(ip_address(OWN))]
        dns = zone()
        async with open_world(directory_of(tmp_path / "routed", route="127.0.0.1:25"), dns=dns) as world:
            await trio.sleep(ROUND)
            assert dns.asked == []

    run(main)


def test_a_listing_that_nobody_looks_at_any_more_ends(tmp_path: Path, from_there: list[OwnAddress]) -> None:
    async def main() -> None:
        dns = zone()
        dns.addresses[_AT] = ["127.0.0.2"]
        directory = directory_of(tmp_path)
        async with open_world(directory, dns=dns) as world:
            await trio.sleep(HOUR)
            assert len(seen(world)) == 1
            # That it cannot be found out from where mail goes says nothing.
            from_there.clear()
            await trio.sleep(ROUND)
            assert len(seen(world)) == 1
            from_there.append(OwnAddress(ip_address("198.41.0.26")))
            await trio.sleep(ROUND)
            assert seen(world)[1:] == [SourceDelisted(source=OWN, dnsbl="bl.example")]

    run(main)
