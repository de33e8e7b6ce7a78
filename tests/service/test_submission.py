"""The ports of submission in a running relay: started and stopped in order, their settings, certificate, metrics."""

from __future__ import annotations

import base64
import os
import signal
import smtplib
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
import trio

from relay.config_doors import SubmissionConfig, TlsConfig
from relay.listening import Listening
from relay.reception.submission_ports import _ports
from relay.settings import Settings
from tests.world.http import open_http
from tests.world.process import EDGES, PATIENCE_SECONDS, RelayProcess, configure, make_process_directory
from tests.world.relay import DOMAIN, open_world, run
from tests.world.self_signed import self_signed_pem
from tests.world.smtp_relay import FRIEND, SENDER, SmtpPort, SmtpRelay, accepted_ids, mail, open_smtp_relay
from tools.doctor import examine


def hand_in(world: SmtpRelay, port: SmtpPort, message: bytes | None = None, *, in_clear: bool = False) -> str:
    """What was said to the end of data."""
    client = (
        smtplib.SMTP("127.0.0.1", port.number, timeout=PATIENCE_SECONDS) if in_clear else world.connect(port)
    )
    with client:
        client.login(DOMAIN, world.key)
        client.mail(SENDER)
        client.rcpt(FRIEND)
        code, text = client.data(message or mail())
    return f"{code} {text.decode()}"


async def metrics(world: SmtpRelay) -> dict[str, float]:
    async with open_http(world.relay.address) as http:
        text = (await http.request("GET", "/metrics")).body.decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith("atmos_"))
    return {name: float(value) for name, _, value in lines}


def test_from_start_to_stop(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            (ready,) = world.relay.log_lines("service.ready")
            assert ready["submission"] == world.addresses
            assert len(world.addresses) == 3
            ids = []
            for number, (port, in_clear) in enumerate(
                [(world.starttls, False), (world.tls, False), (world.second, True)]
            ):
                said = await world.run(hand_in, world, port, mail(f"{number}"), in_clear=in_clear)
                assert said.startswith("250 2.0.0 accepted as ")
                ids += accepted_ids(said)
            # A repeat, on another port: the same mail.
            assert accepted_ids(await world.run(hand_in, world, world.tls, mail("0"))) == ids[:1]
            await world.mx.wait_messages(3)
            assert [message.data[-5:] for message in world.mx.messages] == [
                b"\r\n%d\r\n" % n for n in range(3)
            ]

            counted = await metrics(world)
            assert counted['atmos_submission_replies_total{command="AUTH",reply_class="2"}'] == 4
            assert counted['atmos_submission_replies_total{command="DATA",reply_class="2"}'] == 4
            assert counted["atmos_sends_accepted_total"] == 3
            expires = datetime.fromtimestamp(counted["atmos_tls_certificate_expires_seconds"], UTC)
            assert expires - datetime.now(UTC) > timedelta(days=59)
            findings = {finding.check: finding for finding in examine(world.directory)}
            assert findings["certificate"] == ("certificate", True, "for localhost, 59 days left")
            assert ", SMTP on 127.0.0.1:" in findings["relay"].says

            with socket.create_connection(("127.0.0.1", world.starttls.number), 30) as idle:
                heard = idle.makefile("rb")
                assert heard.readline().startswith(b"220 ")
                assert (await metrics(world))["atmos_submission_connections_open"] == 1
                await world.run(world.relay.terminate)
                assert (await world.run(heard.readline)).startswith(b"421 4.3.2 ")
                assert heard.read() == b""
            assert await world.run(world.relay.wait) == 0
            assert not (world.directory / "submission.address").exists()
            assert not world.relay.log_lines("service.grace_over")

    trio.run(main)


def test_a_message_that_is_being_handed_in_when_the_relay_stops_is_taken(tmp_path: Path) -> None:
    """A program that hears 451 loses its mail."""

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:

            def begin() -> tuple[socket.socket, BinaryIO]:
                client = socket.create_connection(("127.0.0.1", world.second.number), 30)
                heard = client.makefile("rb")
                assert heard.readline().startswith(b"220 ")
                pair = base64.b64encode(f"\0{DOMAIN}\0{world.key}".encode()).decode()
                for line in (
                    "HELO client.test",
                    "EHLO client.test",
                    f"AUTH PLAIN {pair}",
                    f"MAIL FROM:<{SENDER}>",
                    f"RCPT TO:<{FRIEND}>",
                    "DATA",
                ):
                    client.sendall(line.encode() + b"\r\n")
                    while (said := heard.readline())[3:4] == b"-":
                        pass
                    assert said[:1] in (b"2", b"3"), said
                client.sendall(mail("first")[:-2])
                return client, heard

            def end(client: socket.socket, heard: BinaryIO) -> list[bytes]:
                with client, heard:
                    client.sendall(b"\r\n.\r\n")
                    return heard.readlines()

            under_way = await world.run(begin)
            world.relay.terminate()
            await world.run(world.relay.wait_logged, "service.stopping")
            accepted, stops = await world.run(end, *under_way)
            assert accepted.startswith(b"250 2.0.0 accepted as "), accepted
            assert stops.startswith(b"421 4.3.2 ")
            assert await world.run(world.relay.wait) == 0
            await world.run(world.relay.start)
            (message,) = await world.mx.wait_messages(1)
            assert message.data.endswith(b"\r\nfirst\r\n")

    trio.run(main)


def test_a_refused_message_and_a_wrong_password_are_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_smtp_relay(tmp_path, settings="message_bytes_max = 65536") as world:
            said = await world.run(hand_in, world, world.tls, mail("x\r\n" * 30000))
            assert said.startswith("552 5.3.4 ")
            world.key = "wrong"
            with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.8"):
                await world.run(hand_in, world, world.tls)
            counted = await metrics(world)
            assert counted['atmos_submission_replies_total{command="DATA",reply_class="5"}'] == 1
            assert (
                counted['atmos_submission_replies_total{command="AUTH",reply_class="5"}'] == 2
            )  # PLAIN, then LOGIN

    trio.run(main)


def test_what_changes_while_it_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            before = world.addresses
            configure(
                world.directory,
                submission='bind = ["127.0.0.1:1"]\nmessage_bytes_max = 70000\nconnections_max = 1',
            )
            os.kill(world.relay.pid, signal.SIGHUP)
            await world.run(world.relay.wait_logged, "config.needs_restart")
            (waits,) = world.relay.log_lines("config.needs_restart")
            assert waits["settings"] == ["submission.bind"]
            assert world.addresses == before
            with world.connect(world.starttls) as client:
                client.ehlo()
                assert client.esmtp_features["size"] == "70000"
                client.login(DOMAIN, world.key)
                with pytest.raises(smtplib.SMTPConnectError, match="421"):
                    smtplib.SMTP("127.0.0.1", world.second.number, timeout=PATIENCE_SECONDS)

    trio.run(main)


def test_a_renewed_certificate_is_shown_without_a_signal(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:

            def shown() -> str:
                return ssl.get_server_certificate(("127.0.0.1", world.tls.number), timeout=PATIENCE_SECONDS)

            before = await world.run(shown)
            renewed = tmp_path / "renewed.pem"
            renewed.write_bytes(self_signed_pem("localhost", days=5))
            renewed.rename(world.directory / "tls.pem")
            # At once, or by edges, which are given it, in a second or two.
            give_up_at = trio.current_time() + (30 if EDGES else 0)
            while await world.run(shown) == before:
                assert trio.current_time() < give_up_at
                await trio.sleep(0.1)
            expires = (await metrics(world))["atmos_tls_certificate_expires_seconds"]
            assert expires < (datetime.now(UTC) + timedelta(days=6)).timestamp()
            findings = {finding.check: finding for finding in examine(world.directory)}
            assert not findings["certificate"].ok
            assert "4 days left: renew" in findings["certificate"].says

    trio.run(main)


def test_without_a_port_nobody_listens(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    with relay.running():
        assert not (relay.directory / "submission.address").exists()
        (ready,) = relay.log_lines("service.ready")
        assert ready["submission"] == []
        assert relay.stop() == 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"submission": 'bind = ["127.0.0.1:{taken}"]'}, "127.0.0.1 port {taken} cannot be listened on: "),
        (
            {"submission": 'bind = ["127.0.0.1:0"]', "tls": 'certificate = "a.pem"\nkey = "b.pem"'},
            "[tls] certificate, key: {directory}/a.pem and {directory}/b.pem cannot be used",
        ),
        ({"submission": 'bind = ["0.0.0.0:0"]'}, "submission.bind[0]: passwords would cross the network"),
    ],
    ids=["taken", "no certificate", "in the clear"],
)
def test_a_start_that_cannot_be_says_why_in_a_sentence(
    tmp_path: Path, settings: dict[str, str], sentence: str
) -> None:
    directory = make_process_directory(tmp_path / "data", route="127.0.0.1:9")
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        configure(directory, **{table: text.format(taken=taken) for table, text in settings.items()})
        relay = RelayProcess(directory)
        relay.launch()
        assert relay.wait() == 1
    (line,) = (line for line in relay.output.splitlines() if not line.startswith("{"))
    assert sentence.format(taken=taken, directory=directory) in line
    assert not (directory / "http.address").exists()


@pytest.mark.parametrize("has_certificate", [False, True])
def test_a_password_is_taken_in_the_clear_where_nobody_else_can_listen(
    tmp_path: Path, *, has_certificate: bool
) -> None:
    binds = ["127.0.0.1:587", "[::1]:587", "localhost:587", "127.9.9.9:1"]
    open_binds = ["0.0.0.0:587", "[::]:587", "192.0.2.1:587", "relay.example:587", "[::ffff:192.0.2.1]:587"]

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            edge = world.core.edge
            everywhere = (*binds, *open_binds)
            config = edge.config.__class__(
                operator_domain="relay.example",
                public_url="https://relay.example",
                submission=SubmissionConfig(bind=everywhere, bind_tls=everywhere),
                tls=TlsConfig(certificate="x", key="x"),
            )
            edge.__dict__["settings"] = Settings(config)
            ports = _ports(edge, None, [Listening("", ())] * 2 * len(everywhere))
            assert len(ports) == 2 * len(everywhere)
            for port, bind in zip(ports, everywhere * 2, strict=True):
                assert port.surroundings().rules.auth_in_clear is (bind in binds), bind

    run(main)
