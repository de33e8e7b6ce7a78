"""Two relays whose members and operators pass on mail to each other, and who bounce at each other, fall silent; so do
autoresponders behind them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from relay.events import AttemptStarted
from tests.world.daemon import free_port
from tests.world.inbound_relay import InboundRelay, make_inbound_directory
from tests.world.mx import Mx, open_mx
from tests.world.mx_options import ReceivedMessage
from tests.world.process import configure
from tests.world.relay import DID, DOMAIN, OPERATOR_DOMAIN, OTHER_DOMAIN

OTHER_OPERATOR_DOMAIN = "relay-b.example"
#: Of the mails that a loop could make without an end.
ENOUGH = 20


class Two(NamedTuple):
    a: InboundRelay
    b: InboundRelay

    def wait_silent(self) -> None:
        """Nothing waits at either, and nothing has happened at either between two looks at both."""

        def is_silent() -> bool:
            before = [len(relay.records()) for relay in self]
            waiting = [relay.waiting() for relay in self]
            return waiting == [0, 0] and before == [len(relay.records()) for relay in self]

        self.a.wait_until(is_silent, f"both are silent. {self.b.output}")

    def attempts(self) -> list[int]:
        return [sum(isinstance(item.event, AttemptStarted) for item in relay.records()) for relay in self]


@contextmanager
def two_relays(
    tmp_path: Path,
    elsewhere: str,
    *,
    settings: str = 'forward = "all"',
    mailboxes: tuple[str, str] = ("", ""),
) -> Iterator[Two]:
    """Each routes mail for the other's domains to it, and all else to `elsewhere`. Each domain's mail is passed on to
    its mailbox; "" is one at the other's domain."""
    ports = free_port(), free_port()
    a = InboundRelay(tmp_path / "a")
    b = InboundRelay(tmp_path / "b", domain=OTHER_DOMAIN, operator_domain=OTHER_OPERATOR_DOMAIN)
    with ExitStack() as stack:
        for relay, other, port, other_port, mailbox in (
            (a, b, *ports, mailboxes[0]),
            (b, a, *ports[::-1], mailboxes[1]),
        ):
            make_inbound_directory(
                relay.directory,
                route=elsewhere,
                port=port,
                operator_domain=relay.operator_domain,
                operator_mailbox=f"postmaster@{other.operator_domain}",
                settings=settings,
            )
            routes = {
                other.domain: f"127.0.0.1:{other_port}",
                other.operator_domain: f"127.0.0.1:{other_port}",
                "*": elsewhere,
            }
            lines = ", ".join(f'"{domain}" = "{route}"' for domain, route in routes.items())
            configure(relay.directory, delivery=f"routes = {{ {lines} }}")
            relay.credentials = relay.enrol(DID, relay.domain)
            relay.command(
                "domain", "set-forward", "--domain", relay.domain, "--to", mailbox or f"them@{other.domain}"
            )
            stack.enter_context(relay.running())
        yield Two(a, b)
        assert [relay.stop() for relay in (a, b)] == [0, 0]


def stranger_s(text: str, mail_from: str = "someone@example.org") -> bytes:
    return f"From: {mail_from}\r\nSubject: {text}\r\nMessage-ID: <{text}@example.org>\r\n\r\nHi\r\n".encode()


def test_mail_in_a_circle_ends_after_one_round(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            await trio.to_thread.run_sync(circle, tmp_path, mx)

    trio.run(main)


def circle(tmp_path: Path, mx: Mx) -> None:
    with two_relays(tmp_path, mx.address) as two:
        a, b = two
        # Of a stranger, with a sender and without; to a member, and to the operator.
        for number, mail_from in enumerate(("someone@example.org", "")):
            for rcpt_to in (f"you@{DOMAIN}", f"postmaster@{OPERATOR_DOMAIN}"):
                said = a.hand_in(mail_from, rcpt_to, stranger_s(f"{number}-{rcpt_to[:2]}"))
                assert said.code == 250, said
        two.wait_silent()
        # From A to B, from B to A, which has seen it before.
        assert two.attempts() == [4, 4]
        # Of a member, to the other's member, whose mail comes back to the sender's domain; and to nobody there, of
        # which the sender's domain is told by a notification that takes the same way.
        a.send(f"me@{OTHER_DOMAIN}")
        refused = a.send(f"nobody@{OTHER_OPERATOR_DOMAIN}")
        b.send(f"you@{DOMAIN}")
        two.wait_silent()
        assert a.message(refused)["status"] == "bounced"
        assert sum(two.attempts()) <= ENOUGH
        # Nobody else heard of any of it.
        assert mx.messages == []


@pytest.mark.parametrize("forward", ["replies", "all"])
def test_autoresponders_that_answer_each_other_through_relays(tmp_path: Path, forward: str) -> None:
    """They say nowhere that they are machines, and answer whatever comes to whoever is in From: only a person who does
    that by hand is worse. What passes on all mail is bounded by the budget of each domain."""
    budget = 5

    async def main() -> None:
        async with open_mx() as mx, trio.open_nursery() as nursery:
            with trio.fail_after(100):
                await trio.to_thread.run_sync(start, tmp_path, mx)
            nursery.cancel_scope.cancel()

    def start(tmp_path: Path, mx: Mx) -> None:
        mailboxes = ("auto-a@mailbox.example", "auto-b@mailbox.example")
        settings = f'forward = "{forward}"\nmessages_per_hour = {budget}'
        with two_relays(tmp_path, mx.address, settings=settings, mailboxes=mailboxes) as two:
            domains = {mailboxes[0]: DOMAIN, mailboxes[1]: OTHER_DOMAIN}
            # A member writes to the other's; whoever is there answers, and so does the member's mailbox, and so on.
            two.a.send(f"me@{OTHER_DOMAIN}")
            said: Counter[int] = Counter()
            answered = 0
            while True:
                two.wait_silent()
                if answered == len(mx.messages):
                    break
                for message in mx.messages[answered:]:
                    answered += 1
                    said[answer(two, message, domains, answered)] += 1
            assert answered <= 2 * budget
            # The last answer was refused.
            assert sum(count for code, count in said.items() if code != 250) >= 1, said

    trio.run(main)


def answer(two: Two, message: ReceivedMessage, domains: dict[str, str], number: int) -> int:
    """Of the autoresponder in a mailbox, by a new mail in the name of its domain; what it heard."""
    domain = domains[message.rcpt_to[0]]
    header = message.data.partition(b"\r\n\r\n")[0].decode()
    (to,) = re.findall(r"^From: .*?([^ <>\r]+@[^ <>\r]+)>?\r?$", header, re.MULTILINE)
    message_ids = re.findall(r"^Message-ID: (.*?)\r?$", header, re.MULTILINE | re.IGNORECASE)
    mail = (
        f"From: me@{domain}\r\nTo: {to}\r\nSubject: Re: your mail\r\nMessage-ID: <{number}@{domain}>\r\n"
        f"In-Reply-To: {message_ids[-1]}\r\n\r\nThank you.\r\n"
    ).encode()
    relay = two.a if to.endswith(f"@{two.a.domain}") else two.b
    return relay.hand_in(f"me@{domain}", to, mail).code


def test_an_autoresponder_that_answers_to_the_envelope(tmp_path: Path) -> None:
    """As RFC 3834 wants it: it answers to where bounces go, and is heard there, and that is all."""

    async def main() -> None:
        async with open_mx() as mx:
            await trio.to_thread.run_sync(start, tmp_path, mx)

    def start(tmp_path: Path, mx: Mx) -> None:
        with two_relays(tmp_path, mx.address, mailboxes=("away@mailbox.example", "")) as two:
            relay = two.a
            assert relay.hand_in("someone@example.org", f"you@{DOMAIN}", stranger_s("hello")).code == 250
            relay.wait_until(lambda: len(mx.messages) == 1, "it is passed on")
            mail = (
                b"From: away@mailbox.example\r\nSubject: Out of office\r\nAuto-Submitted: auto-replied\r\n\r\n"
                b"I am away until Monday.\r\n"
            )
            assert relay.hand_in("", mx.messages[0].mail_from, mail).code == 250
            # And again, as it does not know that it was heard.
            assert relay.hand_in("", mx.messages[0].mail_from, mail).code == 250
            two.wait_silent()
            assert [item.event.TYPE for item in relay.records()].count("message.bounce_reported") == 1
            assert len(mx.messages) == 1

    trio.run(main)
