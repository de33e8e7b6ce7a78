"""/etc/resolv.conf as it is found on machines: absent, empty, wrong, and another one a moment later."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from relay.internet.resolv_conf import (
    FILE_BYTES_MAX,
    LOCAL_MACHINE,
    LOOKED_AT_SECONDS,
    ResolvConf,
    name_servers,
)
from relay.internet.resolver import DnsResolver
from tests.world.dns import open_dns_server

HERE = "host.example. 60 A 93.184.216.1\n"
THERE = "host.example. 60 A 93.184.216.2\n"
SOA = ". 60 SOA ns. admin. 1 1 1 1 60\n"


@pytest.mark.parametrize(
    ("contents", "addresses", "skipped"),
    [
        ("nameserver 192.0.2.1\nnameserver 2001:db8::1\n", ("192.0.2.1", "2001:db8::1"), 0),
        ("  nameserver\t192.0.2.1 # ours\r\nsearch example\n", ("192.0.2.1",), 0),
        ("nameserver fe80::1%eth0", ("fe80::1%eth0",), 0),
        ("\ufeffnameserver 192.0.2.1", ("192.0.2.1",), 0),
        ("", None, 0),
        ("# nameserver 192.0.2.1\n;nameserver 192.0.2.2\n", None, 0),
        ("nameserver\n", None, 1),
        ("nameserver one.example\nnameserver 192.0.2.1,192.0.2.2\nnameserver 192.0.2.300\n", None, 3),
        ("nameserver one.example\nnameserver 192.0.2.1\n", ("192.0.2.1",), 1),
        ("search .. ...\ndomain " + "x" * 300 + "\nnameserver 192.0.2.1\n", ("192.0.2.1",), 0),
        ("\0\xff\n\nnameserver 192.0.2.1", ("192.0.2.1",), 0),
    ],
)
def test_what_a_file_says(contents: str, addresses: tuple[str, ...] | None, skipped: int) -> None:
    found = name_servers(contents.encode())
    assert found.addresses == (addresses or (LOCAL_MACHINE,))
    assert (found.are_named, found.lines_skipped) == (addresses is not None, skipped)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ("timeout:1", 1),
        ("timeout:1 rotate timeout:3", 3),
        ("timeout:0", None),
        ("timeout:-1", None),
        ("timeout:x", None),
        ("timeout", None),
        ("timeout:٣", None),
        ("timeout:99999", 30),
        ("timeout:" + "9" * 5000, None),
    ],
)
def test_options(options: str, seconds: int | None) -> None:
    found = name_servers(f"options {options}\noptions edns0\n".encode())
    assert (found.timeout_seconds, found.edns, found.rotate) == (seconds, True, "rotate" in options)


@given(
    st.binary(max_size=200) | st.text(st.sampled_from("nameserver 127.0\n#:%options timeout")).map(str.encode)
)
def test_any_octets_name_servers_that_can_be_asked(contents: bytes) -> None:
    servers = name_servers(contents)
    assert servers.addresses
    DnsResolver()._asking(servers)


def test_the_file_is_looked_at_now_and_then_and_only_what_is_new_is_told(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    conf = ResolvConf(path)
    assert conf.changed(0.0) == name_servers(b"")
    path.write_text("nameserver 192.0.2.1\n")
    assert conf.changed(LOOKED_AT_SECONDS / 2) is None
    assert conf.changed(LOOKED_AT_SECONDS) == name_servers(b"nameserver 192.0.2.1\n")
    assert conf.changed(2 * LOOKED_AT_SECONDS) is None
    path.unlink()
    assert conf.changed(3 * LOOKED_AT_SECONDS) == name_servers(b"")
    path.write_bytes(b"nameserver 192.0.2.1\n" * FILE_BYTES_MAX)
    assert conf.changed(4 * LOOKED_AT_SECONDS) is not None


@pytest.mark.parametrize("what", ["directory", "fifo", "device", "loop", "dangling"])
def test_what_is_no_file_names_no_server_and_holds_nobody_up(tmp_path: Path, what: str) -> None:
    path = tmp_path / "resolv.conf"
    match what:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "dangling":
            path.symlink_to(tmp_path / "nothing")
    assert ResolvConf(path).changed(0.0) == name_servers(b"")


def with_two_servers(check: Callable[[int], Awaitable[None]]) -> None:
    """Two name servers at one port, at 127.0.0.1 and 127.0.0.2, which do not say the same."""

    async def main() -> None:
        async with (
            open_dns_server(SOA + HERE) as first,
            open_dns_server(SOA + THERE, host="127.0.0.2", port=first.port),
        ):
            await check(first.port)

    trio.run(main, clock=trio.testing.MockClock(rate=20))


async def says(dns: DnsResolver, address: str) -> None:
    """It does so a few seconds later, by the hasty clock of these tests."""
    await trio.sleep(LOOKED_AT_SECONDS)
    assert await dns.lookup_addresses("host.example") == [address]


def by_rename(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def by_a_link(path: Path, text: str) -> None:
    target = path.with_name(f"target-{text.split()[-1]}")
    target.write_text(text)
    link = path.with_suffix(".link")
    link.symlink_to(target)
    link.rename(path)


def by_rewriting(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.mark.parametrize("change", [by_rename, by_a_link, by_rewriting])
def test_a_change_is_seen_within_seconds(tmp_path: Path, change: Callable[[Path, str], None]) -> None:
    path = tmp_path / "resolv.conf"

    async def check(port: int) -> None:
        dns = DnsResolver(resolv_conf=path, port=port)  # the file is not there
        await says(dns, "93.184.216.1")
        change(path, "nameserver 127.0.0.2\n")
        await says(dns, "93.184.216.2")
        change(path, "nameserver 127.0.0.1\n")
        await says(dns, "93.184.216.1")
        change(path, "nameserver nobody\nnameserver 127.0.0.2\n")
        await says(dns, "93.184.216.2")
        path.unlink()
        await says(dns, "93.184.216.1")

    with_two_servers(check)
