"""Ports of loopback, and clients that nobody here wrote: smtplib, swaks, curl, openssl."""

from __future__ import annotations

import shutil
import smtplib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.listening import listen_smtp
from relay.reception.certificates import Certificates
from relay.reception.interface import Client
from relay.reception.ports import Port, _off_loopback, serve_smtp
from relay.reception.rules import Rules
from relay.reception.session import Limits, Surroundings
from tests.world.doors import CLEAR, MagicDoor, around
from tests.world.process import PATIENCE_SECONDS
from tests.world.self_signed import self_signed_pem

MESSAGE = "Subject: hello\r\n\r\nHello.\r\n.\r\n..\r\n"
needs_swaks = pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not here: apt install swaks")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here: apt install curl")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    pem = tmp_path_factory.mktemp("tls") / "pem"
    pem.write_bytes(self_signed_pem("localhost"))
    return Certificates(pem, pem)


def submission(
    door: MagicDoor, certificates: Certificates, *, is_tls_at_once: bool = False, sniff_seconds: float = 0.2
) -> Surroundings[str]:
    """`sniff_seconds`: long for a client that begins TLS on the port of STARTTLS: on a busy machine it is slow to."""
    rules, limits = Rules.submission("relay.test", has_tls=True), Limits(sniff_seconds=sniff_seconds)
    return around(door, rules, limits=limits, certificates=certificates, is_tls_at_once=is_tls_at_once)


@asynccontextmanager
async def listening(
    *surroundings: Surroundings[str],
    close: trio.Event | None = None,
    grace_seconds: float = 8,
    **options: Any,
) -> AsyncIterator[list[int]]:
    """The numbers of the ports."""
    close = trio.Event() if close is None else close
    ports = [Port(await listen_smtp("127.0.0.1:0"), partial(_the_same, each)) for each in surroundings]
    serve = partial(serve_smtp, ports, close=close, grace_seconds=grace_seconds, **options)
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(serve)
            yield [int(address.rpartition(":")[2]) for address in addresses]
            close.set()


def _the_same(surroundings: Surroundings[str]) -> Surroundings[str]:
    return surroundings


def with_client(client: Callable[..., Any], *surroundings: Surroundings[str]) -> Any:
    """Run a client that blocks, given the numbers of the ports, in a thread."""

    async def main() -> Any:
        async with listening(*surroundings) as numbers:
            return await trio.to_thread.run_sync(client, *numbers)

    return trio.run(main)


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def send_with(smtp: smtplib.SMTP, message: str = MESSAGE, *, to: tuple[str, ...] = ("c@d.example",)) -> Any:
    smtp.login("ann", "key")
    return smtp.sendmail("a@b.example", to, message.encode())


# -- smtplib


@pytest.mark.parametrize("how", ["starttls", "sniffed", "at once"])
def test_smtplib_under_tls(certificates: Certificates, how: str) -> None:
    door = MagicDoor()

    def client(number: int, number_at_once: int) -> None:
        if how == "starttls":
            with smtplib.SMTP("localhost", number) as smtp:
                smtp.starttls(context=unverified())
                assert send_with(smtp) == {}
        else:
            chosen = number if how == "sniffed" else number_at_once
            with smtplib.SMTP_SSL("localhost", chosen, context=unverified()) as smtps:
                assert send_with(smtps) == {}

    both = submission(door, certificates), submission(door, certificates, is_tls_at_once=True)
    with_client(client, *both)
    (handed,) = door.handed
    assert (handed.who, handed.protocol, handed.recipients) == ("ann", "ESMTPSA", ("c@d.example",))
    assert handed.message.octets == MESSAGE.encode()


def test_smtplib_in_many_ways() -> None:
    door = MagicDoor()

    def client(number: int) -> None:
        with smtplib.SMTP("localhost", number) as smtp:
            with pytest.raises(smtplib.SMTPAuthenticationError) as wrong:
                smtp.login("ann", "not")
            assert wrong.value.smtp_code == 535
            assert send_with(smtp, to=("c@d.example", "refused@d.example")) == {
                "refused@d.example": (550, b"5.1.1 no such mailbox")
            }
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                smtp.sendmail("a@b.example", ["refused@d.example"], MESSAGE)
            with pytest.raises(smtplib.SMTPDataError) as full:
                smtp.sendmail("a@b.example", ["full@d.example"], MESSAGE)
            assert full.value.smtp_code == 452
            with pytest.raises(smtplib.SMTPSenderRefused) as big:
                smtp.sendmail("a@b.example", ["c@d.example"], "x" * (11 * 1024 * 1024))
            assert big.value.smtp_code == 552
            big_message = ("x" * 998 + "\r\n") * 9_000
            smtp.sendmail("a@b.example", ["big@d.example"], big_message)
            assert door.handed[-1].message.octets == big_message.encode()
            assert smtp.verify("ann")[0] == 252

    with_client(client, around(door, CLEAR()))
    assert [handed.recipients[0] for handed in door.handed] == [
        "c@d.example",
        "full@d.example",
        "big@d.example",
    ]


# -- swaks, curl, openssl


def swaks(number: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        "swaks",
        "--server",
        f"127.0.0.1:{number}",
        "--from",
        "a@b.example",
        "--to",
        "c@d.example",
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)


def login(mechanism: str) -> tuple[str, ...]:
    return ("--auth", mechanism, "--auth-user", "ann", "--auth-password", "key")


@needs_swaks
@pytest.mark.parametrize(
    "options",
    [
        ("--tls", *login("PLAIN")),
        ("--tls", *login("LOGIN")),
        ("--tls", "--pipeline", *login("PLAIN")),
        ("--tls-on-connect", *login("LOGIN")),
        ("--tls-on-connect", "--pipeline", *login("LOGIN")),
    ],
    ids=" ".join,
)
def test_swaks(certificates: Certificates, options: tuple[str, ...]) -> None:
    door = MagicDoor()
    sniff_seconds = 20 if "--tls-on-connect" in options else 0.2
    port = submission(door, certificates, sniff_seconds=sniff_seconds)
    done = with_client(partial_of(swaks, *options), port)
    assert done.returncode == 0, done.stdout + done.stderr
    (handed,) = door.handed
    assert (handed.who, handed.protocol) == ("ann", "ESMTPSA")
    assert handed.message.octets.endswith(b"\r\n")


@needs_swaks
def test_swaks_without_a_password_or_tls(certificates: Certificates) -> None:
    door = MagicDoor()
    shared = submission(door, certificates)
    for options, said in (
        (("--tls",), "530 5.7.0 say AUTH first"),
        ((), "530 5.7.0 say STARTTLS and AUTH first"),
        (("--tls", *login("CRAM-MD5")), "requested type not available"),
    ):
        done = with_client(partial_of(swaks, *options), shared)
        assert done.returncode != 0
        assert said.lower() in (done.stdout + done.stderr).lower()
    assert door.handed == []


@needs_curl
def test_curl(certificates: Certificates, tmp_path: Path) -> None:
    door = MagicDoor()
    (tmp_path / "mail").write_text(MESSAGE, newline="")

    def client(number: int, number_at_once: int, number_sniffed: int) -> None:
        for url in (
            f"smtp://127.0.0.1:{number}",
            f"smtps://127.0.0.1:{number_at_once}",
            f"smtps://127.0.0.1:{number_sniffed}",
        ):
            command = [
                "curl",
                "--silent",
                "--show-error",
                "--insecure",
                "--ssl-reqd",
                "--user",
                "ann:key",
                url,
            ]
            command += ["--mail-from", "a@b.example", "--mail-rcpt", "c@d.example"]
            subprocess.run(
                [*command, "--upload-file", str(tmp_path / "mail")], check=True, timeout=PATIENCE_SECONDS
            )

    with_client(
        client,
        submission(door, certificates),
        submission(door, certificates, is_tls_at_once=True),
        submission(door, certificates, sniff_seconds=20),
    )
    assert [handed.message.octets for handed in door.handed] == [MESSAGE.encode()] * 3


@needs_openssl
def test_openssl(certificates: Certificates) -> None:
    """By hand, as an operator looks at it: what TLS is spoken, and that the end of it is clean."""

    def client(number: int, number_at_once: int) -> list[str]:
        said = []
        for options in (["-starttls", "smtp", "-port", str(number)], ["-port", str(number_at_once)]):
            command = ["openssl", "s_client", "-host", "127.0.0.1", "-crlf", "-ign_eof", *options]
            done = subprocess.run(
                command, input="QUIT\n", capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
            )
            said.append(done.stdout + done.stderr)
        return said

    both = submission(MagicDoor(), certificates), submission(MagicDoor(), certificates, is_tls_at_once=True)
    for said in with_client(client, *both):
        assert "TLSv1.3" in said
        assert "221 2.0.0 goodbye" in said
        assert "unexpected eof" not in said


def partial_of(run: Callable[..., Any], *options: str) -> Callable[[int], Any]:
    return lambda number: run(number, *options)


# -- letting in, turning away, stopping


def said_to(number: int, octets: bytes = b"") -> bytes:
    """Everything that is said to whoever says this and waits."""
    with socket.create_connection(("127.0.0.1", number), timeout=PATIENCE_SECONDS) as connection:
        if octets:
            connection.sendall(octets)
        said = b""
        while more := connection.recv(65536):
            said += more
        return said


def test_one_address_has_so_many(certificates: Certificates) -> None:
    """But for a trusted one."""

    async def main() -> None:
        shared = around(MagicDoor(), CLEAR(), per_address_max=2)
        async with listening(shared, trusted=()) as (number,):
            streams = [await trio.open_tcp_stream("127.0.0.1", number) for _ in range(2)]
            for stream in streams:
                assert (await stream.receive_some()).startswith(b"220 ")
            said = await trio.to_thread.run_sync(said_to, number)
            assert said.startswith(b"421 4.7.0 too many connections")
            await streams[0].aclose()
            # The server has seen it when the same connection's task has ended; nothing else goes on meanwhile.
            await trio.testing.wait_all_tasks_blocked(0.05)
            another = await trio.open_tcp_stream("127.0.0.1", number)
            assert (await another.receive_some()).startswith(b"220 ")
            for stream in (*streams, another):
                await stream.aclose()
        async with listening(shared) as (number,):
            streams = [await trio.open_tcp_stream("127.0.0.1", number) for _ in range(5)]
            for stream in streams:
                assert (await stream.receive_some()).startswith(b"220 ")
                await stream.aclose()

    trio.run(main)


def test_who_is_locked_out_is_told_at_the_door() -> None:
    async def main() -> None:
        shared = around(MagicDoor(), CLEAR())
        for _ in range(10):
            shared.lockout.failed("127.0.0.1", trio.current_time(), is_trusted=False)
        async with listening(shared, trusted=()) as (number,):
            said = await trio.to_thread.run_sync(said_to, number)
            assert said.startswith(b"421 4.7.0 too many wrong passwords")
            assert shared.places.connections == 0
        async with listening(shared) as (number,):
            stream = await trio.open_tcp_stream("127.0.0.1", number)
            assert (await stream.receive_some()).startswith(b"220 ")
            await stream.aclose()

    trio.run(main)


def test_last_words_arrive() -> None:
    """A socket that is closed on unread octets takes back what it has said."""

    async def main() -> None:
        async with listening(around(MagicDoor(), CLEAR())) as (number,):
            said = await trio.to_thread.run_sync(said_to, number, b"POST / HTTP/1.1\r\n" + b"x" * 300_000)
            assert said.startswith(b"554 5.5.1 ")

    trio.run(main)


def test_a_stop() -> None:
    """Whoever says nothing hears it at once; a message that is being handed in has its time."""

    async def main() -> None:
        door, close = MagicDoor(), trio.Event()
        async with listening(around(door, CLEAR()), close=close, grace_seconds=20) as (number,):
            idle, busy = [await trio.open_tcp_stream("127.0.0.1", number) for _ in range(2)]
            for stream in (idle, busy):
                assert (await stream.receive_some()).startswith(b"220 ")
                await stream.send_all(b"EHLO client.test\r\n")
                await stream.receive_some()
            await busy.send_all(b"AUTH PLAIN AGFubgBrZXk=\r\n")
            assert (await busy.receive_some()).startswith(b"235 ")
            await busy.send_all(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
            assert b"354 " in await busy.receive_some()
            close.set()
            assert await idle.receive_some() == b"421 4.3.2 the relay is stopping; come back in a moment\r\n"
            assert await idle.receive_some() == b""
            await idle.aclose()
            with pytest.raises(OSError):
                await trio.open_tcp_stream("127.0.0.1", number)
            await busy.send_all(b"Hello.\r\n.\r\n")
            said = b"".join([each async for each in busy])
            assert said.startswith(b"250 2.0.0 accepted as 1\r\n421 4.3.2 ")
            await busy.aclose()
        assert len(door.handed) == 1

    trio.run(main)


def test_a_stop_whose_time_is_over() -> None:
    async def main() -> None:
        door, close = MagicDoor(), trio.Event()
        door.let_go = trio.Event()
        async with listening(around(door, CLEAR()), close=close, grace_seconds=0.1) as (number,):
            slow, undecided = [await trio.open_tcp_stream("127.0.0.1", number) for _ in range(2)]
            for stream in (slow, undecided):
                await stream.receive_some()
                await stream.send_all(b"EHLO client.test\r\n")
                await stream.receive_some()
                await stream.send_all(b"AUTH PLAIN AGFubgBrZXk=\r\n")
                await stream.receive_some()
                await stream.send_all(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
                assert b"354 " in await stream.receive_some()
            await undecided.send_all(b"Hello.\r\n.\r\n")
            await trio.testing.wait_all_tasks_blocked(0.05)
            close.set()
            assert (await slow.receive_some()).startswith(b"421 4.3.2 ")
            await slow.aclose()
            assert await undecided.receive_some() == b""  # cut off, and nothing said
            await undecided.aclose()
        assert door.handed == []

    trio.run(main)


def test_a_password_in_the_clear_is_taken_from_loopback_alone() -> None:
    """Whatever the rules of the port say."""
    shared = around(MagicDoor(), CLEAR())
    for address, is_taken in (
        ("127.0.0.1", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ):
        client = Client(address, address, is_trusted=True)
        assert _off_loopback(shared, client).rules.auth_in_clear == is_taken
