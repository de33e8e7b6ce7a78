"""A relay in a process of its own, in a small internet of its own: `python -m tests.browser.served serve DIR`.

The relay is the real one, with its doors, its disk and its admin socket. What it is given are a DNS that knows a few
providers (`SITES`), so that mail goes to hosts with the names that people know; a receiver behind all of them, by
aiosmtpd, which answers as the mailbox wants it (`REPLIES`); and a clock that may be some days behind (`DAYS_BEHIND`),
so that a relay can have a past. Connections lead to this machine, whatever they were meant for.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import trio
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from relay.core import Core
from relay.internet.resolver import LookupFailed, Mx, NoSuchName
from relay.logs import configure_logging
from relay.operator.membership_shown import Dns, dns
from relay.principals import Operator
from relay.service import open_relay
from relay.surroundings import Surroundings
from spool.clock import wall_clock_us
from tests.browser.hostile import HOSTILE_REPLY
from tests.world.daemon import free_port

DAYS_BEHIND: Final = "SERVED_DAYS_BEHIND"
_DAY_US: Final = 24 * 3600 * 1_000_000

#: Recipient domains, and the hosts that take their mail.
SITES: Final = {
    "people.example": "aspmx.l.google.com",
    "office.example": "office-example.mail.protection.outlook.com",
    "freemail.example": "mta5.am0.yahoodns.net",
    "village.example": "mx.village.example",
    "elsewhere.example": "mx.elsewhere.example",
    "silent.example": "mx.silent.example",
    "hostile.example": "mx.hostile.example",
}
#: Nobody listens there.
SILENT: Final = "mx.silent.example"

#: To RCPT, for these mailboxes at any domain. Whoever is not named is taken.
REPLIES: Final = {
    "nobody": "550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the "
    "recipient's email address for typos or unnecessary spaces.",
    "full": "452 4.2.2 The recipient's inbox is out of storage space",
    "blocked": "550 5.7.1 Service unavailable, client host blocked using a list; see https://lists.example/why",
    "hostile": f"550 5.7.1 {HOSTILE_REPLY}",
    "hostile-later": f"451 4.7.1 {HOSTILE_REPLY}",
}
GREYLISTED: Final = "451 4.7.1 Greylisted, please try again later"


class Names:
    """The DNS, as `relay.internet.resolver.Resolver` has it."""

    def __init__(self) -> None:
        self._addresses = {host: f"198.41.0.{number}" for number, host in enumerate(SITES.values(), 1)}
        self.silent = self._addresses[SILENT]
        self.core: Core | None = None
        #: Sending domains that publish nothing.
        self.bare: frozenset[str] = frozenset({"bare.example"})

    async def lookup_mx(self, domain: str) -> list[Mx]:
        """See Resolver."""
        if domain not in SITES:
            raise NoSuchName(domain)
        return [Mx(10, SITES[domain])]

    async def lookup_addresses(self, host: str) -> list[str]:
        """See Resolver."""
        if host not in self._addresses:
            raise NoSuchName(host)
        return [self._addresses[host]]

    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        """What `atmos-relay dns` prints is published."""
        if self.core is None:
            raise LookupFailed("nobody answers yet")
        answer: Any = await dns(self.core, Dns(), Operator("tests"))
        found: list[tuple[bytes, ...]] = [
            (record["value"].encode(),)
            for part in (answer["operator"], *answer["domains"])
            if part.get("domain") not in self.bare
            for record in part["records"]
            if record["type"] == "TXT" and record["name"] == name
        ]
        if not found:
            raise NoSuchName(name)
        return found

    async def lookup_names(self, address: str) -> list[str]:
        """See Resolver."""
        raise NoSuchName(address)


class Receiver:
    """Behind every host. Runs in a thread of its own, and keeps nothing."""

    def __init__(self) -> None:
        self._offered: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        mailbox = address.partition("@")[0].partition("+")[0].lower()
        if mailbox in REPLIES:
            return REPLIES[mailbox]
        if mailbox == "grey" and (envelope.mail_from, address) not in self._offered:
            self._offered[envelope.mail_from, address] = None
            return GREYLISTED
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        return "250 2.0.0 OK  1732900000 a640c23a62f3a-aa50 - gsmtp"


class WordyController(Controller):
    """Its replies may be as long as it likes."""

    def factory(self) -> SMTP:
        return SMTP(self.handler, ident="ready", enable_SMTPUTF8=True)


async def serve(directory: Path) -> None:
    behind_us = int(os.environ.get(DAYS_BEHIND, "0")) * _DAY_US
    names = Names()
    controller = WordyController(Receiver(), hostname="127.0.0.1", port=free_port())

    async def open_stream(host: str, port: int) -> trio.abc.Stream:
        if host == names.silent:
            raise ConnectionRefusedError(111, "Connection refused")
        return await trio.open_tcp_stream("127.0.0.1", controller.port if port == 25 else port)

    surroundings = Surroundings(
        clock=lambda: wall_clock_us() - behind_us, resolver=names, open_stream=open_stream
    )
    controller.start()
    try:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with open_relay(directory, surroundings) as relay:
                names.core = relay.core
                async for _ in signals:
                    break
                await relay.stop()
    finally:
        await trio.to_thread.run_sync(controller.stop)


if __name__ == "__main__":
    assert sys.argv[1] == "serve"
    configure_logging()
    trio.run(serve, Path(sys.argv[2]))
