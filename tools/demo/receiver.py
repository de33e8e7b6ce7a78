"""The demo's receiver: the MX for everything, by aiosmtpd, which nobody here wrote.

How it behaves is decided by the mailbox, at any domain (`MOODS`); whoever is not named there gets mail as people do. It
runs in a thread and a loop of its own; what it took comes to the demo's loop by `received`.

Everything is bounded: of more mails than CHANNEL_MAX that nobody has fetched, and of more deferred ones than
PUT_OFF_MAX, the oldest are forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
from collections import OrderedDict
from typing import Any, Final, NamedTuple

import trio
from aiosmtpd.controller import Controller

from tools.demo.mailbox import Mailbox
from tools.demo.reports import FeedbackProvider, bounce_report

SECONDS_MAX = 30
#: The operator's mailbox is elsewhere, as it must be, and so it is in the demo's mailbox, too.
SLOW_SECONDS: Final = 10
CHANNEL_MAX: Final = 100
PUT_OFF_MAX: Final = 10_000

#: What the receiver does for each mailbox, at any domain.
MOODS: Final = {
    "bounce": "refused: there is no such mailbox",
    "defer": "put off once, and taken a minute later",
    "slow": f"taken, after {SLOW_SECONDS} seconds",
    "complain": "taken; then its owner says that it is spam",
    "later": "taken; a moment later it comes back",
}


class Taken(NamedTuple):
    mail_from: str
    rcpt_to: str
    message: bytes


class Receiver:
    """Takes every mail, hands it to the demo, and puts it into the mailbox, if there is one to look into."""

    def __init__(self, mailbox: Mailbox | None = None) -> None:
        self._mailbox = mailbox
        self._send, self.received = trio.open_memory_channel[bytes](CHANNEL_MAX)
        self._send_later, self._later = trio.open_memory_channel[Taken](CHANNEL_MAX)
        self._token = trio.lowlevel.current_trio_token()
        self._put_off: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port(0))

    # ------------------------------------------------------------ in the receiver's own thread and loop

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        mood = mood_of(address)
        if mood == "bounce":
            return f"550 5.1.1 There is no mailbox {address} here"
        if mood == "defer" and self._is_first_time(envelope.mail_from, address):
            return "451 4.7.1 Greylisted, try again in a minute"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    def _is_first_time(self, mail_from: str, address: str) -> bool:
        # The relay's envelope senders name the message, so each message is put off once.
        mail = (mail_from, address)
        if mail in self._put_off:
            return False
        self._put_off[mail] = None
        if len(self._put_off) > PUT_OFF_MAX:
            self._put_off.popitem(last=False)
        return True

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        taken = Taken(envelope.mail_from, envelope.rcpt_tos[0], envelope.original_content)
        if mood_of(taken.rcpt_to) == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        self._token.run_sync_soon(self._take, taken)
        return "250 2.0.0 The demo has it"

    # ------------------------------------------------------------ in the demo's

    def _take(self, taken: Taken) -> None:
        if self._mailbox is not None:
            self._mailbox.put(*taken)
        with contextlib.suppress(trio.WouldBlock):  # when it is only serving, nobody takes them any more
            self._send.send_nowait(taken.message)
        if mood_of(taken.rcpt_to) in ("later", "complain"):
            with contextlib.suppress(trio.WouldBlock):
                self._send_later.send_nowait(taken)

    async def report(self, address: str, provider: FeedbackProvider) -> None:
        """Send what comes back of each mail for `later` and `complain` to the relay's port for mail that comes in."""
        async for taken in self._later:
            if mood_of(taken.rcpt_to) == "complain":
                report, to = provider.complaint(taken.rcpt_to, taken.message), provider.report_to
            else:
                report, to = bounce_report(taken.mail_from, taken.rcpt_to, taken.message), taken.mail_from
            await trio.to_thread.run_sync(hand_in, address, to, report)


def hand_in(address: str, to: str, report: bytes) -> None:
    """As mail servers do it (RFC 3464): with the null sender."""
    host, _, port = address.rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=SECONDS_MAX) as client:
        client.sendmail("", [to], report)


def mood_of(address: str) -> str:
    """One of MOODS, or "" for a mailbox like any other."""
    mailbox = address.rpartition("@")[0].lower()
    return mailbox if mailbox in MOODS else ""


def free_port(wanted: int) -> int:
    """`wanted`, if nothing listens there, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free on 127.0.0.1")
