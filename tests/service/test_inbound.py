"""Port 25 in a running relay: started and stopped in order, its settings, its child, and what `doctor` says."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import urllib.request
from pathlib import Path

import pytest

from relay.codec import decode
from relay.events import MailReceived
from relay.file_names import INBOUND_ADDRESS_FILE, LOG_DIRECTORY
from spool.reader import LogReader
from tests.world.process import (
    EDGES,
    PATIENCE_SECONDS,
    RelayProcess,
    configure,
    make_process_directory,
    wait_until,
)
from tests.world.self_signed import self_signed_pem
from tests.world.strangers import LETTER, OPERATOR_MAILBOX
from tools.doctor import examine

ABUSE = "abuse@relay.example"


def make_directory(path: Path, settings: str = "", *, tls: bool = False, **tables: str) -> Path:
    """Everything is routed to where nobody is."""
    directory = make_process_directory(path, route="127.0.0.1:9")
    listening = f'bind = ["127.0.0.1:0", "127.0.0.1:0"]\noperator_mailbox = "{OPERATOR_MAILBOX}"\n'
    if tls:
        pem = directory / "tls.pem"
        pem.touch(0o600)
        pem.write_bytes(self_signed_pem("localhost", days=60))
        tables["tls"] = 'certificate = "tls.pem"\nkey = "tls.pem"'
    configure(directory, inbound=listening + settings, **tables)
    return directory


def numbers(relay: RelayProcess) -> list[int]:
    addresses = (relay.directory / INBOUND_ADDRESS_FILE).read_text().split()
    return [int(address.rpartition(":")[2]) for address in addresses]


def bring(relay: RelayProcess, octets: bytes = LETTER, to: str = ABUSE) -> str:
    with smtplib.SMTP("127.0.0.1", numbers(relay)[0], timeout=PATIENCE_SECONDS) as client:
        client.ehlo("stranger.test")
        client.mail("ann@example.com")
        code, text = client.rcpt(to)
        if code == 250:
            code, text = client.data(octets)
    return f"{code} {text.decode()}"


def events(relay: RelayProcess) -> list[object]:
    reader = LogReader(relay.directory / LOG_DIRECTORY)
    try:
        return [decode(record).event for record in reader.read(1)]
    finally:
        reader.close()


def test_from_start_to_stop(tmp_path: Path) -> None:
    relay = RelayProcess(make_directory(tmp_path / "data", tls=True))
    with relay.running():
        relay.wait_logged("service.ready")
        (ready,) = relay.log_lines("service.ready")
        assert len(ready["inbound"]) == 2
        assert ready["inbound"] == (relay.directory / INBOUND_ADDRESS_FILE).read_text().split()
        assert ready["submission"] == []
        assert bring(relay) == "250 2.0.0 taken"
        assert any(isinstance(event, MailReceived) for event in events(relay))
        with smtplib.SMTP("localhost", numbers(relay)[1], timeout=PATIENCE_SECONDS) as client:
            client.ehlo()
            assert client.esmtp_features["size"] == "11534336"
            assert not client.has_extn("auth")
            assert client.starttls()[0] == 220
            assert client.docmd("NOOP")[0] in (250, 503)
        findings = {finding.check: finding for finding in examine(relay.directory)}
        assert ", mail comes in on 127.0.0.1:" in findings["relay"].says
        assert findings["certificate"].says == "for localhost, 59 days left"

        with socket.create_connection(("127.0.0.1", numbers(relay)[0]), 30) as idle:
            heard = idle.makefile("rb")
            assert heard.readline().startswith(b"220 relay.example ESMTP")
            relay.terminate()
            assert heard.readline().startswith(b"421 4.3.2 ")
            assert heard.read() == b""
        assert relay.wait() == 0
        assert not (relay.directory / INBOUND_ADDRESS_FILE).exists()
        assert not relay.log_lines("service.grace_over")
        assert not relay.log_lines("smtp.door_defect")


def test_a_mail_that_is_being_brought_when_the_relay_stops_is_taken(tmp_path: Path) -> None:
    relay = RelayProcess(make_directory(tmp_path / "data"))
    with relay.running():
        with socket.create_connection(("127.0.0.1", numbers(relay)[0]), 30) as client:
            heard = client.makefile("rb")
            assert heard.readline().startswith(b"220 ")
            for line in ("HELO stranger.test", "MAIL FROM:<>", f"RCPT TO:<{ABUSE}>", "DATA"):
                client.sendall(line.encode() + b"\r\n")
                assert heard.readline()[:1] in (b"2", b"3"), line
            client.sendall(LETTER)
            relay.terminate()
            relay.wait_logged("service.stopping")
            client.sendall(b".\r\n")
            assert heard.readline() == b"250 2.0.0 taken\r\n"
            assert heard.readline().startswith(b"421 4.3.2 ")
        assert relay.wait() == 0
        (mail,) = (event for event in events(relay) if isinstance(event, MailReceived))
        assert mail.received_with == "SMTP"


def test_what_changes_while_it_runs(tmp_path: Path) -> None:
    relay = RelayProcess(make_directory(tmp_path / "data"))
    with relay.running():
        before = numbers(relay)
        configure(
            relay.directory,
            inbound='bind = ["127.0.0.1:1"]\nmessage_bytes_max = 70000\nmessages_per_hour = 1',
        )
        os.kill(relay.pid, signal.SIGHUP)
        relay.wait_logged("config.needs_restart")
        (waits,) = relay.log_lines("config.needs_restart")
        assert waits["settings"] == ["inbound.bind"]
        assert numbers(relay) == before
        with smtplib.SMTP("127.0.0.1", before[0], timeout=PATIENCE_SECONDS) as client:
            client.ehlo()
            assert client.esmtp_features["size"] == "70000"
        assert bring(relay) == "250 2.0.0 taken"
        assert bring(relay, LETTER + b"another\r\n").startswith("452 4.3.1 ")
        # A file without a mailbox is none.
        configure(relay.directory, inbound='operator_mailbox = ""')
        os.kill(relay.pid, signal.SIGHUP)
        relay.wait_logged("config.refused")


def test_a_child_reads_and_one_that_is_killed_is_made_again(tmp_path: Path) -> None:
    relay = RelayProcess(make_directory(tmp_path / "data"))

    def children() -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{relay.pid}/task/{relay.pid}/children").read_text().split()]

    with relay.running():
        assert bring(relay) == "250 2.0.0 taken"
        (before,) = children()
        os.kill(before, signal.SIGKILL)
        assert bring(relay, LETTER + b"again\r\n") == "250 2.0.0 taken"
        wait_until(lambda: len(children()) == 1, lambda: "there is one child")
        (after,) = children()
        assert after != before
        # One that hangs over a mail is killed for it, and counted.
        os.kill(after, signal.SIGSTOP)
        assert bring(relay, LETTER + b"and again\r\n") == "250 2.0.0 taken"
        with urllib.request.urlopen(f"http://{relay.address}/metrics", timeout=PATIENCE_SECONDS) as answer:
            assert 'atmos_mail_reader_failures_total{why="late"} 1.0' in answer.read().decode()
        assert bring(relay, LETTER + b"and once more\r\n") == "250 2.0.0 taken"
        wait_until(lambda: len(children()) == 1, lambda: "there is one child")
        assert children() != [after]
        (after,) = children()
        assert relay.stop() == 0
        assert not Path(f"/proc/{after}").exists()


@pytest.mark.parametrize("before_the_answer", [False, True])
def test_a_killed_relay_has_what_it_took_and_knows_it_again(
    tmp_path: Path, *, before_the_answer: bool
) -> None:
    relay = RelayProcess(make_directory(tmp_path / "data"))
    relay.enrol()
    with relay.running():
        if before_the_answer:
            with socket.create_connection(("127.0.0.1", numbers(relay)[0]), 30) as client:
                heard = client.makefile("rb")
                assert heard.readline().startswith(b"220 ")
                for line in (
                    "HELO stranger.test",
                    "MAIL FROM:<ann@example.com>",
                    f"RCPT TO:<{ABUSE}>",
                    "DATA",
                ):
                    client.sendall(line.encode() + b"\r\n")
                    assert heard.readline()[:1] in (b"2", b"3"), line
                client.sendall(LETTER + b".\r\n")
                relay.kill()
        else:
            assert bring(relay) == "250 2.0.0 taken"
            relay.kill()
        relay.start()
        assert bring(relay) == "250 2.0.0 taken"
        assert relay.stop() == 0
        assert sum(isinstance(event, MailReceived) for event in events(relay)) == 1


def test_without_a_port_nobody_listens_and_no_child_is_made(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    with relay.running():
        assert not (relay.directory / INBOUND_ADDRESS_FILE).exists()
        relay.wait_logged("service.ready")
        (ready,) = relay.log_lines("service.ready")
        assert ready["inbound"] == []
        assert len(Path(f"/proc/{relay.pid}/task/{relay.pid}/children").read_text().split()) == EDGES
        assert relay.stop() == 0


def test_a_port_that_is_taken_is_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        directory = make_directory(tmp_path / "data")
        configure(directory, inbound=f'bind = ["127.0.0.1:{taken}"]')
        relay = RelayProcess(directory)
        relay.launch()
        assert relay.wait() == 1
    (line,) = (line for line in relay.output.splitlines() if not line.startswith("{"))
    assert f"127.0.0.1 port {taken} cannot be listened on: " in line
