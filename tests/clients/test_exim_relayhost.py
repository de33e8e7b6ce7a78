"""Exim of a member, which hands everything to the relay.

Its package and Postfix's exclude each other, so the program is looked for where `EXIM` says, too: unpacked from its
package into any directory. It starts only where there is the user of its package, Debian-exim: `.ci/run` makes it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from tests.world.arrived import assert_signed
from tests.world.daemon import open_daemon_directory, require_daemon
from tests.world.process import PATIENCE_SECONDS
from tests.world.relay import DOMAIN
from tests.world.smtp_relay import FRIEND, SENDER, SmtpPort, SmtpRelay, accepted_ids, mail, open_smtp_relay

_CONFIGURATION = """\
primary_hostname = client.test
exim_user = nobody
exim_group = nogroup
exim_path = {program}
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
log_selector = +smtp_confirmation
keep_environment =
disable_ipv6 = true
begin routers
relay:
  driver = manualroute
  route_list = * localhost byname
  self = send
  transport = relay
begin transports
relay:
  driver = smtp
  port = {port}
  protocol = {protocol}
  hosts_require_auth = *
  hosts_require_tls = *
  tls_verify_certificates = {directory}/ca.pem
  tls_verify_hosts = *
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{user}^{key}
"""


def exim() -> str:
    return os.environ.get("EXIM") or require_daemon("exim4")


def deliver(world: SmtpRelay, program: str, directory: Path, port: SmtpPort, message: bytes) -> str:
    """Hand the message to Exim, which delivers it in the foreground; returns what it has logged."""
    (directory / "ca.pem").write_bytes(world.certificate.read_bytes())
    (directory / "spool").mkdir(exist_ok=True)
    for path in (directory, directory / "spool"):
        shutil.chown(path, "nobody", pwd.getpwnam("nobody").pw_gid)
    configuration = directory / "exim.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            directory=directory,
            program=program,
            port=port.number,
            protocol="smtps" if port.is_tls_at_once else "smtp",
            user=DOMAIN,
            key=world.key,
        )
    )
    done = subprocess.run(
        [program, "-C", configuration, "-odf", "-f", SENDER, FRIEND, "other@example.org"],
        input=message.replace(b"\r\n", b"\n"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    # Who delivers is nobody, and writes its log to where it can.
    return (directory / "mainlog").read_text() + done.stdout.decode()


@pytest.mark.parametrize("kind", ["starttls", "tls"])
def test_exim_as_a_relayhost(tmp_path: Path, kind: str) -> None:
    program = exim()

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            with open_daemon_directory("exim", owner="root") as directory:
                handed_in = mail(".x\r\n..")
                log = await world.run(deliver, world, program, directory, getattr(world, kind), handed_in)
            assert 'C="250 2.0.0 accepted as ' in log, log
            ids = accepted_ids(log)
            messages = await world.mx.wait_messages(2)
            assert len(ids) == 2
            for message in messages:
                # Exim's Received stands on top of what it was given; it may put the envelope's sender there, too.
                header, _, body = handed_in.partition(b"\r\n\r\n")
                assert message.data.endswith(b"\r\n\r\n" + body)
                for field in header.split(b"\r\n"):
                    assert field + b"\r\n" in message.data
                assert message.data.count(b"\r\nReceived: ") == 2
            await world.run(assert_signed, world.relay, messages)

    trio.run(main)
