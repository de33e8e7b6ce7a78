"""An attacker's day at the port for strangers: what they can write to the log is a report that shows a token, mail for
the operator, and replies, each within its budget. Everything else leaves no trace in it.

One address may hand in as much as it likes here, so that only these rules keep the log as it is.
"""

from __future__ import annotations

import random
import smtplib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from relay.decisions.reports import REPORTS_MAX
from tests.world.inbound_relay import InboundRelay, running_inbound_relay
from tests.world.mx import open_mx
from tests.world.process import PATIENCE_SECONDS
from tests.world.relay import DOMAIN, OPERATOR_DOMAIN

SETTINGS = "messages_per_minute_per_address = 1000000"
#: As in `[inbound] messages_per_hour`.
BUDGET = 60
#: What an open relay has been talked into.
RELAYING = (
    "<victim@elsewhere.example>",
    f"<victim%elsewhere.example@{OPERATOR_DOMAIN}>",
    "<elsewhere.example!victim>",
    f"<elsewhere.example!victim@{OPERATOR_DOMAIN}>",
    f"<@{OPERATOR_DOMAIN}:victim@elsewhere.example>",
    f"<@{DOMAIN},@{OPERATOR_DOMAIN}:victim@elsewhere.example>",
    f"<victim@elsewhere.example@{OPERATOR_DOMAIN}>",
    f'<"victim@elsewhere.example"@{OPERATOR_DOMAIN}>',
    '<"victim@elsewhere.example">',
    "<victim@[127.0.0.1]>",
    "<victim@localhost>",
    "<victim>",
    "victim@elsewhere.example",
    f"<postmaster@{OPERATOR_DOMAIN}.elsewhere.example>",
    f"<postmaster@elsewhere.{OPERATOR_DOMAIN}>",
    f"<postmaster@{OPERATOR_DOMAIN}> <victim@elsewhere.example>",
    f"<postmaster@{OPERATOR_DOMAIN}\0@elsewhere.example>",
)
#: These are mailboxes at a member's domain, however they look: whatever is taken for them goes to the member.
LOOKS_LIKE_RELAYING = f"victim%elsewhere.example@{DOMAIN}", f"elsewhere.example!victim@{DOMAIN}"
SENDERS = (
    "<>",
    "<spam@elsewhere.example>",
    f"<postmaster@{OPERATOR_DOMAIN}>",
    f"<you@{DOMAIN}>",
    "<x@localhost>",
)
JUNK = b"From: spam@elsewhere.example\r\nTo: you\r\nSubject: Buy\r\nMessage-ID: <%d@spam>\r\n\r\nBuy %d\r\n"


@contextmanager
def silent(relay: InboundRelay) -> Iterator[None]:
    """Nothing is written meanwhile."""
    before = relay.records()
    yield
    assert relay.records() == before


def connect(relay: InboundRelay) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", relay.port, timeout=PATIENCE_SECONDS)
    client.ehlo("attacker.test")
    return client


def open_relay(relay: InboundRelay) -> None:
    for sender in SENDERS:
        with connect(relay) as client:
            for recipient in RELAYING:
                client.rset()
                assert client.docmd(f"MAIL FROM:{sender}")[0] == 250
                code, text = client.docmd(f"RCPT TO:{recipient}")
                assert 500 <= code < 600, (sender, recipient, code, text)
                code, text = client.docmd("DATA")
                assert code in (503, 554), (code, text)


def guess_tokens(relay: InboundRelay, message_ids: list[int], dice: random.Random) -> None:
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    guesses = []
    for message_id in message_ids:
        right = relay.bounce_address(message_id)
        local, _, domain = right.partition("@")
        prefix, _, mac = local.rpartition("-")
        for index, letter in enumerate(mac):
            other = alphabet[(alphabet.index(letter) + 1) % 32]
            guesses.append(f"{prefix}-{mac[:index]}{other}{mac[index + 1 :]}@{domain}")
        guesses += [
            f"bounces+{message_id + 1}-{mac}@{domain}",
            f"bounces+0{message_id}-{mac}@{domain}",
            f"{local}x@{domain}",
            f"{local[:-1]}@{domain}",
            f"x{local}@{domain}",
        ]
        for _ in range(30):
            mac = "".join(dice.choices(alphabet, k=16))
            guesses += [f"{word}+{message_id}-{mac}@{domain}" for word in ("bounces", "forward", "BOUNCES")]
    while guesses:
        # Who asks for many that are not here is sent away, and comes again.
        client = connect(relay)
        client.mail("")
        code = 0
        while guesses and code != 421:
            code, text = client.rcpt(guesses.pop())
            assert 500 <= code < 600 or code == 421, (code, text)
        client.close()


def junk(relay: InboundRelay, recipients: list[str], count: int) -> Counter[int]:
    """What was said that decided about each mail. Whoever sends junk keeps its connection until it is sent away."""
    said: Counter[int] = Counter()
    while said.total() < count:
        client = connect(relay)
        try:
            code = 0
            while said.total() < count and code != 421:
                number = said.total()
                code = hand_in(client, recipients[number % len(recipients)], JUNK % (number, number))
                said[code] += code != 421
        except smtplib.SMTPServerDisconnected:
            continue
        finally:
            client.close()
    return +said


def hand_in(client: smtplib.SMTP, recipient: str, mail: bytes) -> int:
    for code, _ in (client.docmd("RSET"), client.mail("spam@elsewhere.example"), client.rcpt(recipient)):
        if code != 250:
            return code
    return client.data(mail)[0]


def test_an_attacker_s_day(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            await trio.to_thread.run_sync(attack, tmp_path, mx.address)

    trio.run(main)


def attack(tmp_path: Path, route: str) -> None:
    dice = random.Random(1)
    with running_inbound_relay(
        tmp_path / "data", route=route, settings=SETTINGS, forward_to="member@mailbox.example"
    ) as relay:
        ids = [relay.send(f"friend-{number}@example.com") for number in range(3)]
        for message_id in ids:
            relay.wait_sent(message_id)
        with silent(relay):
            open_relay(relay)
            guess_tokens(relay, ids, dice)
            nobody = [
                f"{local}@{domain}"
                for local in (
                    "admin",
                    "root",
                    "info",
                    "you",
                    "bounces",
                    "forward",
                    "mailer-daemon",
                    "noreply",
                )
                for domain in (OPERATOR_DOMAIN, DOMAIN, "elsewhere.example")
            ]
            assert set(junk(relay, [*nobody, *LOOKS_LIKE_RELAYING], 1000)) == {550}

        before = Counter(item.event.TYPE for item in relay.records())
        operators = [f"{local}@{OPERATOR_DOMAIN}" for local in ("postmaster", "abuse", "fbl", "POSTMASTER")]
        assert junk(relay, operators, 3 * BUDGET) == {250: BUDGET, 452: 2 * BUDGET}
        # Who has a token of a message has received it.
        report = junk(relay, [relay.bounce_address(ids[0])], 3 * REPORTS_MAX)
        assert report == {250: REPORTS_MAX, 550: 2 * REPORTS_MAX}
        relay.wait_until(lambda: relay.waiting() == 0, "what was taken is passed on")
        written = Counter(item.event.TYPE for item in relay.records()) - before
        assert written == {
            "mail.received": BUDGET,
            "forward.queued": BUDGET,
            "attempt.started": BUDGET,
            "message.sent": BUDGET,
            "message.bounce_reported": REPORTS_MAX,
        }
        # Members were not kept from anything by it.
        relay.wait_sent(relay.send("another-friend@example.com"))
        assert relay.suppressions() == {}
        assert relay.stop() == 0
