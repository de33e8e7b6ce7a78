"""From which addresses mail goes out: what the kernel says, or, behind a router, what the DNS has for our name."""

from ipaddress import ip_address
from typing import Any

import pytest
import trio

from relay.internet import own_addresses as module
from relay.internet.own_addresses import OwnAddress, own_addresses
from relay.networks import Address, Family
from tests.world.dns import FakeDns

PUBLIC = ip_address("198.51.99.25")
PRIVATE = ip_address("192.168.7.2")
PUBLIC_V6 = ip_address("2a01:4f8::25")
PRIVATE_V6 = ip_address("fd00::2")
NAME = "relay.example"


def found(
    monkeypatch: pytest.MonkeyPatch, sources: list[Address], of_the_name: list[str], **also: Any
) -> tuple[OwnAddress, ...]:
    async def source_addresses(families: tuple[Family, ...]) -> tuple[Address, ...]:
        return tuple(sources)

    # The one thing that a test machine cannot be given: another address of its own.
    monkeypatch.setattr(module, "source_addresses", source_addresses)
    dns = FakeDns(addresses={NAME: of_the_name}, **also)

    async def main() -> tuple[OwnAddress, ...]:
        return await own_addresses(dns, ehlo_name=NAME.title())

    return trio.run(main)


def test_a_public_address_is_the_one_that_mail_goes_out_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, [PUBLIC, PUBLIC_V6], ["203.0.113.9"]) == (
        OwnAddress(PUBLIC),
        OwnAddress(PUBLIC_V6),
    )


def test_behind_a_router_it_is_the_one_of_our_name(monkeypatch: pytest.MonkeyPatch) -> None:
    # A private address in the DNS is no better than our own.
    names = ["192.168.7.9", str(PUBLIC), str(PUBLIC_V6)]
    assert found(monkeypatch, [PRIVATE, PRIVATE_V6], names) == (
        OwnAddress(PUBLIC, behind=PRIVATE),
        OwnAddress(PUBLIC_V6, behind=PRIVATE_V6),
    )
    assert found(monkeypatch, [PRIVATE, PRIVATE_V6], [str(PUBLIC)])[1] == OwnAddress(PRIVATE_V6)


def test_where_the_dns_cannot_tell_it_is_the_private_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, [PRIVATE], [], broken={NAME}) == (OwnAddress(PRIVATE),)


def test_the_kernel_is_asked_for_each_family_and_nobody_else() -> None:
    async def main() -> tuple[OwnAddress, ...]:
        return await own_addresses(FakeDns(), ehlo_name=NAME, families=("ipv4",))

    assert all(own.family == "ipv4" for own in trio.run(main))
