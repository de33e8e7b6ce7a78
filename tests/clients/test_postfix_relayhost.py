"""Postfix of a member, which hands everything to the relay: SASL, TLS, retries, and what becomes of a refusal."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from tests.world.arrived import assert_signed
from tests.world.daemon import free_port, open_daemon_directory, require_daemon
from tests.world.postfix import running_instance
from tests.world.process import PATIENCE_SECONDS, wait_until
from tests.world.relay import DOMAIN
from tests.world.smtp_relay import FRIEND, SENDER, SmtpRelay, mail, open_smtp_relay

_MAIN = """\
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
minimal_backoff_time = 1s
maximal_backoff_time = 1s
queue_run_delay = 1s
"""

#: As docs/SMTP.md has them; there the relay's port is 587.
_SETTINGS = """\
relayhost = [localhost]:{port}
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:/etc/postfix/relay_password
smtp_sasl_security_options = noanonymous
smtp_sasl_tls_security_options = noanonymous
smtp_tls_security_level = verify
smtp_tls_wrappermode = {wrapper}
smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup  unix       n - n - 0     cleanup
qmgr     unix       n - n - 1     qmgr
rewrite  unix       - - n - -     trivial-rewrite
bounce   unix       - - n - 0     bounce
defer    unix       - - n - 0     bounce
trace    unix       - - n - 0     bounce
error    unix       - - n - -     error
retry    unix       - - n - -     error
anvil    unix       - - n - 1     anvil
proxymap unix       - - n - -     proxymap
tlsmgr   unix       - - n 1000? 1 tlsmgr
smtp     unix       - - n - -     smtp
postlog  unix-dgram n - n - 1     postlogd
"""


class Relayhost(NamedTuple):
    port: int
    directory: Path

    @property
    def log(self) -> str:
        return (self.directory / "maillog").read_text()

    def hand_in(self, message: bytes, *to: str) -> None:
        with smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE_SECONDS) as client:
            assert client.sendmail(SENDER, to, message) == {}

    def wait_logged(self, text: str) -> str:
        wait_until(lambda: text in self.log, lambda: f"{text!r} is in {self.log}")
        return next(line for line in self.log.splitlines() if text in line)


def settings_of(world: SmtpRelay, *, wrapper: bool) -> dict[str, str]:
    """Settings, and the file with the password."""
    port = (world.tls if wrapper else world.starttls).number
    return {
        "settings": _SETTINGS.format(port=port, wrapper="yes" if wrapper else "no"),
        "passwords": f"[localhost]:{port} {DOMAIN}:{world.key}\n",
    }


@contextmanager
def running_relayhost(world: SmtpRelay, *, settings: str, passwords: str) -> Iterator[Relayhost]:
    port = free_port()
    with open_daemon_directory("relayhost", owner="root") as directory:
        (directory / "etc").mkdir()
        (directory / "etc" / "ca.pem").write_bytes(world.certificate.read_bytes())
        (directory / "etc" / "password").write_text(passwords)
        settings = settings.replace("/etc/postfix/relay_password", str(directory / "etc" / "password"))
        settings = settings.replace("/etc/ssl/certs/ca-certificates.crt", str(directory / "etc" / "ca.pem"))
        with running_instance(directory, main=_MAIN + settings, master=_MASTER.format(port=port)):
            yield Relayhost(port, directory)


@pytest.mark.parametrize("wrapper", [False, True], ids=["587", "465"])
def test_postfix_as_a_relayhost(tmp_path: Path, *, wrapper: bool) -> None:
    require_daemon("postfix")

    async def main() -> None:
        async with open_smtp_relay(tmp_path) as world:
            with running_relayhost(world, **settings_of(world, wrapper=wrapper)) as relayhost:
                handed_in = mail(
                    ".\r\n..\r\nGr\u00fc\u00dfe", fields="Content-Type: text/plain; charset=utf-8\r\n"
                )
                await world.run(relayhost.hand_in, handed_in, FRIEND, "other@example.org")
                messages = await world.mx.wait_messages(2)
                for message in messages:
                    # Below our fields stands Postfix's Received, and then the message.
                    assert message.data.endswith(handed_in)
                    above = message.data[: -len(handed_in)].partition(b"X-Atmos-Member-Did: ")[2]
                    assert above.count(b"\r\nReceived: ") == 2
                await world.run(assert_signed, world.relay, messages)
                line = await world.run(relayhost.wait_logged, "status=sent")
                assert "250 2.0.0 accepted as " in line

                # What will never work is bounced at once by the relayhost, to its own users.
                await world.run(
                    relayhost.hand_in,
                    handed_in.replace(b"From: You", b"X-Atmos-Category: x\r\nFrom: You"),
                    FRIEND,
                )
                line = await world.run(relayhost.wait_logged, "status=bounced")
                assert "554 5.6.0 " in line

    trio.run(main)


def test_a_relay_that_is_away_is_asked_again_by_postfix(tmp_path: Path) -> None:
    require_daemon("postfix")

    async def main() -> None:
        async with open_smtp_relay(tmp_path, port=free_port()) as world:
            with running_relayhost(world, **settings_of(world, wrapper=False)) as relayhost:
                assert await world.run(world.relay.stop) == 0
                await world.run(relayhost.hand_in, mail(), FRIEND)
                await world.run(relayhost.wait_logged, "status=deferred")
                await world.run(world.relay.start)
                (message,) = await world.mx.wait_messages(1)
                assert message.data.endswith(mail())

    trio.run(main)
