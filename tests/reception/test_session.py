"""Sessions over streams of memory, on a clock that jumps: time, room, TLS, ends, and whatever a client does."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.reception.buffers import Buffers
from relay.reception.certificates import Certificates
from relay.reception.replies import STOPPING
from relay.reception.rules import Rules
from relay.reception.session import Limits, Session
from tests.world.doors import CLEAR, CLIENT, MagicDoor, Talk, around, begin_message, logged_in, talking
from tests.world.self_signed import self_signed_pem

RIGHT = "AUTH PLAIN AGFubgBrZXk="
LIMITS = Limits()
KIB = 1024


def run(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=MockClock(autojump_threshold=0))


def now() -> float:
    return trio.current_time()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    pem = tmp_path_factory.mktemp("tls") / "pem"
    pem.write_bytes(self_signed_pem("relay.test"))
    return Certificates(pem, pem)


# -- a message


def test_a_message_from_greeting_to_goodbye() -> None:
    async def main() -> None:
        door = MagicDoor()
        async with talking(around(door, CLEAR())) as talk:
            await logged_in(talk)
            await begin_message(talk)
            assert await talk.ask("Subject: x", "", "..Hello.", ".") == "250 2.0.0 accepted as 1"
            assert await talk.ask("QUIT") == "221 2.0.0 goodbye"
            assert await talk.hear() == ""
        (handed,) = door.handed
        assert (handed.who, handed.protocol) == ("ann", "ESMTPA")
        assert (handed.mail_from, handed.recipients) == ("a@b.example", ("c@d.example",))
        assert handed.message.octets == b"Subject: x\r\n\r\n.Hello.\r\n"

    run(main)


def test_a_group_is_answered_in_one_go() -> None:
    """RFC 2920 section 3.2: replies that are ready together are sent together."""

    async def main() -> None:
        async with talking(around(MagicDoor(), CLEAR())) as talk:
            await logged_in(talk)
            await talk.say(
                "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "RCPT TO:<refused@d.example>", "DATA"
            )
            said = await talk.stream.receive_some()
            assert [line[:3] for line in said.split(b"\r\n")[:-1]] == [b"250", b"250", b"550", b"354"]

    run(main)


def test_a_defect_of_the_door_ends_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        shared = around(MagicDoor(), CLEAR())
        async with talking(shared) as other, talking(shared) as talk:
            await logged_in(talk)
            await begin_message(talk, recipient="broken@d.example")
            assert (await talk.ask("Hello.", ".")).startswith("451 4.3.0 ")
            assert (await talk.hear()).startswith("421 4.3.0 ")
            assert await talk.hear() == ""
            await logged_in(other)
        assert [record.message for record in caplog.records] == ["smtp.door_defect"]
        assert shared.buffers.held_bytes == 0

    with caplog.at_level(logging.ERROR):
        run(main)


def test_a_door_that_ends_it() -> None:
    async def main() -> None:
        async with talking(around(MagicDoor(), CLEAR())) as talk:
            await logged_in(talk)
            assert (await talk.ask("MAIL FROM:<a@b.example>")).startswith("250 ")
            assert await talk.ask("RCPT TO:<stop@d.example>") == "421 4.3.2 enough"
            assert await talk.hear() == ""

    run(main)


def test_a_message_whose_client_is_gone_is_nothing() -> None:
    async def main() -> None:
        door = MagicDoor()
        async with talking(around(door, CLEAR())) as talk:
            await logged_in(talk)
            await begin_message(talk)
            await talk.send(b"Hello.\r\n.\r")
            await talk.stream.aclose()
            await talk.ended.wait()
        assert door.handed == []

    run(main)


# -- opening


def test_the_greeting_waits_for_a_first_octet() -> None:
    async def main() -> None:
        async with talking(around(MagicDoor(), CLEAR())) as talk:
            began = now()
            assert await talk.hear() == "220 relay.test ESMTP"
            assert now() - began == pytest.approx(LIMITS.sniff_seconds)
        async with talking(around(MagicDoor(), CLEAR(), limits=Limits(sniff_seconds=0))) as talk:
            began = now()
            assert await talk.hear() == "220 relay.test ESMTP"
            assert now() == began

    run(main)


@pytest.mark.parametrize("octets", [b"EHLO client.test\r\n", b"G", b"\r\n", b"\x16\x03\x01"], ids=repr)
def test_who_talks_too_early(octets: bytes) -> None:
    """0x16, too, where there is no TLS."""

    async def main() -> None:
        async with talking(around(MagicDoor(), CLEAR())) as talk:
            await talk.send(octets)
            assert (await talk.hear()).startswith("554 5.5.1 ")
            assert await talk.hear() == ""

    run(main)


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def under_tls(talk: Talk) -> None:
    talk.stream = trio.SSLStream(talk.stream, client_context(), server_hostname="relay.test")
    await talk.stream.do_handshake()


@pytest.mark.parametrize("how", ["sniffed", "at once", "starttls"])
def test_tls(certificates: Certificates, how: str) -> None:
    async def main() -> None:
        door = MagicDoor()
        shared = around(
            door,
            Rules.submission("relay.test", has_tls=True),
            certificates=certificates,
            is_tls_at_once=how == "at once",
        )
        async with talking(shared) as talk:
            if how == "starttls":
                await talk.hear()
                assert "STARTTLS" in await talk.ask("EHLO client.test")
                assert (await talk.ask(RIGHT)).startswith("530 5.7.0 ")
                assert (await talk.ask("STARTTLS")).startswith("220 ")
            await under_tls(talk)
            if how != "starttls":
                assert await talk.hear() == "220 relay.test ESMTP"
            offered = await talk.ask("EHLO client.test")
            assert "STARTTLS" not in offered
            assert "AUTH PLAIN LOGIN" in offered
            assert (await talk.ask(RIGHT)).startswith("235 ")
            await begin_message(talk)
            assert (await talk.ask("Hello.", ".")).startswith("250 ")
            assert (await talk.ask("QUIT")).startswith("221 ")
            await talk.stream.aclose()
        assert [handed.protocol for handed in door.handed] == ["ESMTPSA"]

    run(main)


def test_what_comes_in_the_clear_behind_starttls_is_never_said(certificates: Certificates) -> None:
    """In one piece the machine sees it; in two it is what the handshake chokes on."""

    async def main() -> None:
        shared = around(MagicDoor(), Rules.submission("relay.test", has_tls=True), certificates=certificates)
        async with talking(shared) as talk:
            await talk.hear()
            assert (await talk.ask("STARTTLS", "EHLO evil.test")).startswith("554 5.5.1 ")
            assert await talk.hear() == ""
        async with talking(shared) as talk:
            await talk.hear()
            assert (await talk.ask("STARTTLS")).startswith("220 ")
            await talk.say("EHLO evil.test")
            await talk.ended.wait()

    run(main)


@pytest.mark.parametrize("how", ["sniffed", "at once"])
def test_a_handshake_that_does_not_go_on(certificates: Certificates, how: str) -> None:
    async def main() -> None:
        shared = around(
            MagicDoor(),
            Rules.submission("relay.test", has_tls=True),
            certificates=certificates,
            is_tls_at_once=how == "at once",
        )
        async with talking(shared) as talk:
            await talk.send(b"\x16\x03\x01")
            began = now()
            await talk.ended.wait()
            assert now() - began == pytest.approx(LIMITS.handshake_seconds)

    run(main)


# -- time


async def drip(talk: Talk, octets: bytes, seconds: float) -> None:
    """For ever, or until nobody reads it."""
    while True:
        try:
            await talk.send(octets)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        await trio.sleep(seconds)


@pytest.mark.parametrize("dripping", [False, True])
def test_who_does_not_log_in(dripping: bool) -> None:
    async def main() -> None:
        async with talking(around(MagicDoor(), CLEAR())) as talk, trio.open_nursery() as nursery:
            began = now()
            await talk.hear()
            await talk.ask("EHLO client.test")
            if dripping:
                nursery.start_soon(drip, talk, b"A", 5.0)
            assert (await talk.hear()).startswith("421 4.4.2 ")
            assert now() - began == pytest.approx(LIMITS.opening_seconds)
            nursery.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize("dripping", [False, True])
def test_who_says_nothing_more(dripping: bool) -> None:
    async def main() -> None:
        async with talking(around(MagicDoor(), CLEAR())) as talk, trio.open_nursery() as nursery:
            await logged_in(talk)
            began = now()
            if dripping:
                nursery.start_soon(drip, talk, b"A", 5.0)
            assert (await talk.hear()).startswith("421 4.4.2 ")
            assert now() - began == pytest.approx(LIMITS.command_seconds)
            nursery.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize(
    ("dripping", "seconds"), [(False, LIMITS.data_block_seconds), (True, LIMITS.data_seconds)]
)
def test_a_message_without_end(dripping: bool, seconds: float) -> None:
    async def main() -> None:
        async with talking(around(MagicDoor(), CLEAR())) as talk, trio.open_nursery() as nursery:
            await logged_in(talk)
            await begin_message(talk)
            began = now()
            if dripping:
                nursery.start_soon(drip, talk, b"A\r\n", 5.0)
            assert (await talk.hear()).startswith("421 4.4.2 ")
            assert now() - began == pytest.approx(seconds)
            nursery.cancel_scope.cancel()

    run(main)


def test_who_reads_nothing() -> None:
    """The stream of memory takes everything; here is one that does not."""

    class Stuck(trio.abc.Stream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await trio.sleep_forever()

        async def wait_send_all_might_not_block(self) -> None:
            await trio.sleep_forever()

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        began = now()
        await Session(Stuck(), CLIENT, around(MagicDoor(), CLEAR())).serve()
        assert now() - began == pytest.approx(LIMITS.sniff_seconds + LIMITS.write_seconds)

    run(main)


# -- room


def line_octets(count: int) -> bytes:
    return (b"x" * 62 + b"\r\n") * (count // 64)


def test_a_large_message_waits_for_room_and_is_refused_at_last() -> None:
    async def main() -> None:
        door = MagicDoor()
        buffers = Buffers(lambda: 1024 * KIB)
        shared = around(door, CLEAR(), buffers=buffers)
        other = buffers.lease("somebody")
        others = [buffers.lease(f"somebody {number}") for number in range(4)]
        await other.cover(100 * KIB)
        for lease in others[:3]:
            await lease.cover(256 * KIB)
        async with talking(shared) as talk, trio.open_nursery() as nursery:
            await logged_in(talk)
            await begin_message(talk)
            nursery.start_soon(talk.send, line_octets(200 * KIB) + b".\r\n")
            began = now()
            # Its first 64 KiB, and a little, are held; 156 KiB are free, and 200 are wanted in the end.
            assert await talk.hear() == (
                "452 4.3.1 the relay holds as much unfinished mail as it can; try again in a minute"
            )
            assert now() - began == pytest.approx(LIMITS.room_seconds)
            assert buffers.held_bytes == 100 * KIB + 3 * 256 * KIB
            # The connection goes on, and a small message finds room.
            await begin_message(talk)
            nursery.start_soon(talk.send, line_octets(64 * KIB) + b".\r\n")
            assert (await talk.hear()).startswith("250 ")
            # A large one waits until there is room.
            await begin_message(talk, size=200 * KIB)
            nursery.start_soon(talk.send, line_octets(200 * KIB) + b".\r\n")
            await trio.sleep(30)
            assert len(door.handed) == 1
            other.release()
            assert (await talk.hear()).startswith("250 ")
            assert len(door.handed[1].message.octets) == 200 * KIB
        assert buffers.held_bytes == 3 * 256 * KIB

    run(main)


def test_what_is_held_is_given_back_however_it_ends() -> None:
    async def main() -> None:
        shared = around(MagicDoor(), CLEAR(message_bytes_max=300 * KIB))
        for octets in (
            line_octets(200 * KIB),
            line_octets(200 * KIB) + b".\r\n",
            line_octets(200 * KIB) + b"\0\r\n.\r\n",
            line_octets(400 * KIB) + b".\r\n",
        ):
            async with talking(shared) as talk:
                await logged_in(talk)
                await begin_message(talk)
                await talk.send(octets)
                await wait_all_tasks_blocked()
                if octets.endswith(b".\r\n"):
                    await talk.hear()
                    await wait_all_tasks_blocked()
                    assert shared.buffers.held_bytes == 0
                else:
                    assert shared.buffers.held_bytes >= 200 * KIB
                    await talk.stream.aclose()
                    await talk.ended.wait()
            assert shared.buffers.held_bytes == 0

    run(main)


# -- ends


def test_a_stop_while_nothing_is_said() -> None:
    async def main() -> None:
        async with talking(around(MagicDoor(), CLEAR())) as talk:
            await logged_in(talk)
            talk.session.end(STOPPING)
            assert (await talk.hear()).startswith("421 4.3.2 ")
            assert await talk.hear() == ""

    run(main)


def test_a_stop_before_the_greeting() -> None:
    async def main() -> None:
        async with talking(around(MagicDoor(), CLEAR())) as talk:
            await wait_all_tasks_blocked()
            talk.session.end(STOPPING)
            assert (await talk.hear()).startswith("421 4.3.2 ")

    run(main)


def test_a_stop_while_a_message_comes() -> None:
    """It is heard out, and its answer comes before the goodbye."""

    async def main() -> None:
        door = MagicDoor()
        async with talking(around(door, CLEAR())) as talk:
            await logged_in(talk)
            await begin_message(talk)
            await talk.say("Hello.")
            await wait_all_tasks_blocked()
            talk.session.end(STOPPING)
            await wait_all_tasks_blocked()
            assert (await talk.ask(".")).startswith("250 ")
            assert (await talk.hear()).startswith("421 4.3.2 ")
        assert len(door.handed) == 1
        async with talking(around(door, CLEAR())) as talk:
            await logged_in(talk)
            await begin_message(talk)
            await talk.say("Hello.")
            await wait_all_tasks_blocked()
            talk.session.end(STOPPING, is_urgent=True)
            assert (await talk.hear()).startswith("421 4.3.2 ")
        assert len(door.handed) == 1

    run(main)


def test_a_stop_while_it_is_decided() -> None:
    async def main() -> None:
        door = MagicDoor()
        async with talking(around(door, CLEAR())) as talk:
            await logged_in(talk)
            await begin_message(talk)
            door.let_go = trio.Event()
            await talk.say("Hello.", ".")
            await wait_all_tasks_blocked()
            talk.session.end(STOPPING, is_urgent=True)
            await wait_all_tasks_blocked()
            door.let_go.set()
            assert (await talk.hear()).startswith("250 ")
            assert (await talk.hear()).startswith("421 4.3.2 ")

    run(main)


def test_rules_of_inbound() -> None:
    async def main() -> None:
        door = MagicDoor()
        rules = replace(Rules.inbound("relay.test", has_tls=False), refused_recipients_max=2)
        async with talking(around(door, rules)) as talk:
            assert (await talk.hear()).startswith("220 ")
            await talk.ask("EHLO client.test")
            await begin_message(talk)
            assert (await talk.ask("Hello.", ".")).startswith("250 ")
            assert (await talk.ask("MAIL FROM:<>")).startswith("250 ")
            assert (await talk.ask("RCPT TO:<refused@d.example>")).startswith("550 ")
            assert (await talk.ask("RCPT TO:<refused@d.example>")).startswith("421 ")
        assert [(handed.who, handed.protocol) for handed in door.handed] == [(None, "ESMTP")]

    run(main)
