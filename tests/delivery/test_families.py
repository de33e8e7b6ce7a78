"""By which kinds of addresses mail goes out, and the other kind's turn where a receiver does not like our address."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.config import CONFIG_FILE
from relay.networks import parse_address
from relay.own_network import nameless
from tests.world.dns import FakeDns
from tests.world.internet import Internet
from tests.world.relay import World, make_directory, open_world, run

V4, V6 = "198.41.0.7", "2001:503:ba3e::7"
DISLIKED = b"550 5.7.1 Client host blocked using zen.blocklist.example\r\n"
BAD_SENDER = b"550 5.1.8 Sender address rejected: Domain not found\r\n"


def refuses(answer: bytes) -> Callable[[trio.abc.Stream], Awaitable[None]]:
    """A receiver that says this to every MAIL."""

    async def serve(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"220 mx ESMTP\r\n")
        waiting = bytearray()
        while data := await stream.receive_some(1000):
            waiting += data
            while b"\r\n" in waiting:
                line, _, rest = bytes(waiting).partition(b"\r\n")
                waiting[:] = rest
                verb = line[:4].upper()
                await stream.send_all(
                    {b"EHLO": b"250 mx\r\n", b"MAIL": answer, b"QUIT": b"221 bye\r\n"}.get(
                        verb, b"250 ok\r\n"
                    )
                )

    return serve


def delivered(
    tmp_path: Path, families: str, *, v4: bytes | None, v6: bytes | None, records: list[str] | None = None
) -> Any:
    """What became of one message. `v4`, `v6`: what the receiver says to MAIL there; None: it takes the message."""

    shown: list[Any] = []

    async def main() -> None:
        directory, internet = make_directory(tmp_path / "data", route=""), Internet()
        path = directory / CONFIG_FILE
        path.write_text(path.read_text().replace('# families = ["ipv4"]', f"families = {families}"))
        assert families in path.read_text()
        host = internet.add_host("mx.example.com", V4)
        internet._at[V6] = host
        internet.dns.addresses[host.name] = [V4, V6] if records is None else records
        internet.add_domain("example.com", host.name)
        for address, answer in ((V4, v4), (V6, v6)):
            if answer is not None:
                internet.services[address, 25] = refuses(answer)
        async with open_world(directory, internet=internet) as world:
            shown.append(await world.until_final(await world.send()))

    run(main)
    return shown[0]


def steps(shown: Any) -> list[tuple[str, Any]]:
    """Type and address of each outcome."""
    return [
        (entry["type"], entry.get("mxAddress"))
        for entry in shown["timeline"]
        if entry["type"] in ("message.sent", "message.deferred", "message.bounced")
    ]


def test_a_refusal_of_our_address_waits_for_the_other_family(tmp_path: Path) -> None:
    shown = delivered(tmp_path, '["ipv4", "ipv6"]', v4=DISLIKED, v6=None)
    assert steps(shown) == [("message.deferred", V4), ("message.sent", V6)]
    assert shown["timeline"][2]["reply"]["code"] == 550


def test_in_the_order_of_the_setting(tmp_path: Path) -> None:
    shown = delivered(tmp_path, '["ipv6", "ipv4"]', v4=None, v6=DISLIKED)
    assert steps(shown) == [("message.deferred", V6), ("message.sent", V4)]


def test_where_both_are_refused_it_is_over(tmp_path: Path) -> None:
    shown = delivered(tmp_path, '["ipv4", "ipv6"]', v4=DISLIKED, v6=DISLIKED)
    assert steps(shown) == [("message.deferred", V4), ("message.bounced", V6)]


def test_where_the_receiver_has_one_family_it_is_over_at_once(tmp_path: Path) -> None:
    shown = delivered(tmp_path, '["ipv4", "ipv6"]', v4=DISLIKED, v6=None, records=[V4])
    assert steps(shown) == [("message.bounced", V4)]


def test_what_another_address_of_ours_would_not_mend_is_over_at_once(tmp_path: Path) -> None:
    shown = delivered(tmp_path, '["ipv4", "ipv6"]', v4=BAD_SENDER, v6=None)
    assert steps(shown) == [("message.bounced", V4)]


@pytest.mark.parametrize(("families", "used"), [('["ipv4"]', V4), ('["ipv6"]', V6)])
def test_a_family_that_is_not_named_is_never_used(tmp_path: Path, families: str, used: str) -> None:
    shown = delivered(tmp_path, families, v4=DISLIKED, v6=DISLIKED)
    assert steps(shown) == [("message.bounced", used)]


def test_a_receiver_that_has_only_the_other_one(tmp_path: Path) -> None:
    shown = delivered(tmp_path, '["ipv4"]', v4=None, v6=None, records=[V6])
    assert shown["status"] == "bounced"
    assert f"mx.example.com has {V6}, and [delivery] families has ipv4" in str(shown)


@pytest.mark.parametrize("has_an_address", [True, False])
def test_a_machine_that_no_mail_can_leave_is_warned_of_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, has_an_address: bool
) -> None:
    async def source_addresses(families: Any) -> Any:
        assert families == ("ipv4",)
        return (parse_address("192.0.2.1"),) if has_an_address else ()

    monkeypatch.setattr(nameless, "source_addresses", source_addresses)

    async def main() -> None:
        async with open_world(make_directory(tmp_path / "data", route="")):
            await trio.testing.wait_all_tasks_blocked()

    with caplog.at_level(logging.WARNING):
        run(main)
    assert ("delivery.no_address" in caplog.messages) is not has_an_address


@pytest.mark.parametrize(
    ("families", "names", "warned"),
    [
        ('["ipv4", "ipv6"]', {}, True),
        ('["ipv4", "ipv6"]', {V6: ["relay.example"]}, False),
        ('["ipv4"]', {}, False),
    ],
)
def test_an_address_without_a_name_is_warned_of_at_the_start(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    families: str,
    names: dict[str, list[str]],
    warned: bool,
) -> None:
    async def own_addresses(*arguments: Any, **options: Any) -> Any:
        return [nameless_own]

    from relay.internet.own_addresses import OwnAddress

    nameless_own = OwnAddress(parse_address(V6))
    # The one thing that a test machine cannot be given: another address of its own.
    monkeypatch.setattr(nameless, "own_addresses", own_addresses)
    resolver = FakeDns(names=names, addresses={"relay.example": [V6]})

    async def main() -> None:
        directory = make_directory(tmp_path / "data", route="")
        path = directory / CONFIG_FILE
        path.write_text(path.read_text().replace('# families = ["ipv4"]', f"families = {families}"))
        async with open_world(directory, dns=resolver) as world:
            assert isinstance(world, World)
            await trio.testing.wait_all_tasks_blocked()

    with caplog.at_level(logging.WARNING):
        run(main)
    assert ("delivery.address_without_name" in caplog.messages) is warned
