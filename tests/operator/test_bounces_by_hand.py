"""What the operator records by hand of mail that came back: as if it had come by mail, with who and why."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.events import DsnQueued, MessageBounceReported, MessageComplained, RecipientSuppressed
from relay.operator.client import administer
from relay.refusals import Refusal
from relay.reports.read import read_mail
from tests.world.relay import DID, DOMAIN, World, open_world, run

DSN = """\
From: mailer-daemon@mx.example\r
Content-Type: multipart/report; report-type=delivery-status; boundary=x\r
\r
--x\r
Content-Type: text/plain\r
\r
Sorry.\r
--x\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example\r
\r
Final-Recipient: rfc822; bob@mx.example\r
Action: {action}\r
Status: {status}\r
Diagnostic-Code: smtp; 550 {status} no such user\r
--x\r
Content-Type: text/rfc822-headers\r
\r
X-Atmos-Message: {token}\r
Subject: x\r
--x--\r
"""
COMPLAINT = """\
Content-Type: multipart/report; report-type=feedback-report; boundary=x\r
\r
--x\r
Content-Type: text/plain\r
\r
x\r
--x\r
Content-Type: message/feedback-report\r
\r
Feedback-Type: {kind}\r
User-Agent: x/1\r
Version: 1\r
\r
--x\r
Content-Type: text/rfc822-headers\r
\r
X-Atmos-Message: {token}\r
--x--\r
"""


def dsn(token: str, action: str = "failed", status: str = "5.1.1") -> bytes:
    return DSN.format(token=token, action=action, status=status).encode()


def complaint(token: str, kind: str = "abuse") -> bytes:
    return COMPLAINT.format(token=token, kind=kind).encode()


def order(mail: bytes, **more: Any) -> dict[str, Any]:
    """As the command line makes it of a mail."""
    return {
        "reading": msgspec.to_builtins(read_mail(mail)),
        "sha256": hashlib.sha256(mail).hexdigest(),
        "size": len(mail),
        **more,
    }


def raw(mail: bytes) -> str:
    return base64.b64encode(mail).decode()


async def sent(world: World, to: str = "bob@example.com") -> tuple[int, str]:
    message_id = await world.send(to=to)
    assert (await world.until_final(message_id))["status"] == "sent"
    return message_id, world.core.message_tokens.token(message_id)


def test_a_bounce_that_came_later_counts_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain=DOMAIN, to="owner@example.org")
            message_id, token = await sent(world)
            mail = dsn(token)
            before = len(world.events())
            shown = await world.command("bounce_paste", **order(mail))
            assert len(world.events()) == before, "a look changes nothing"
            answer = await world.command("bounce_record", **order(mail, raw=raw(mail), reason="a letter"))
            assert shown == answer
            assert answer == {
                "messageId": message_id,
                "did": DID,
                "domain": DOMAIN,
                "recipient": "bob@example.com",
                "status": "sent",
                "recorded": ["message.bounce_reported", "dsn.queued", "recipient.suppressed"],
                "counts": True,
                "suppressed": "bounced",
                "notified": True,
            }
            reported, queued, suppressed = world.events()[before : before + 3]
            assert isinstance(reported, MessageBounceReported)
            assert isinstance(queued, DsnQueued)
            assert isinstance(suppressed, RecipientSuppressed)
            assert (reported.by, reported.counts, reported.size) == ("operator", True, len(mail))
            assert reported.personal is not None
            assert (reported.personal.why, reported.personal.raw) == ("a letter", mail)
            assert reported.personal.diagnostic == "550 5.1.1 no such user"
            again = await world.command("bounce_record", **order(mail, raw=raw(mail)))
            assert (again["recorded"], again["counts"]) == ([], False)
            other = await world.command("bounce_record", **order(mail + b"\r\n"))
            assert (other["recorded"], other["counts"]) == (["message.bounce_reported"], False)

    run(main)


@pytest.mark.parametrize(
    ("mail", "recorded"),
    [
        (dsn("TOKEN", action="delayed", status="4.4.1"), ["message.bounce_reported"]),
        (dsn("TOKEN", action="delivered", status="2.0.0"), ["message.bounce_reported"]),
        (complaint("TOKEN", "not-spam"), ["message.bounce_reported"]),
        (complaint("TOKEN"), ["message.complained", "recipient.suppressed"]),
        (complaint("TOKEN", "opt-out"), ["message.complained", "recipient.suppressed"]),
    ],
    ids=["delayed", "delivered", "not-spam", "abuse", "opt-out"],
)
def test_what_each_kind_makes(tmp_path: Path, mail: bytes, recorded: list[str]) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id, token = await sent(world)
            answer = await world.command("bounce_record", **order(mail.replace(b"TOKEN", token.encode())))
            assert (answer["messageId"], answer["recorded"]) == (message_id, recorded)
            is_complaint = recorded[0] == "message.complained"
            assert answer["counts"] == is_complaint
            assert answer["suppressed"] == ("complaint" if is_complaint else None)
            if is_complaint:
                complained = next(event for event in world.events() if isinstance(event, MessageComplained))
                assert (complained.authenticated, complained.via, complained.by) == (
                    True,
                    "operator",
                    "operator",
                )

    run(main)


def test_which_message_it_is_about_is_proved_or_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id, token = await sent(world)
            other, _ = await sent(world, "carol@example.com")
            forged = f"{message_id}-{'a' * 16}"
            for nobodys in (dsn(""), dsn(forged), dsn(f"{other}-{token.partition('-')[2]}")):
                assert await world.command("bounce_paste", **order(nobodys)) == {"messageId": None}
                with pytest.raises(Refusal, match="no token of this relay's") as refused:
                    await world.command("bounce_record", **order(nobodys))
                assert refused.value.code == "NOT_FOUND"
            said = await world.command("bounce_record", **order(dsn(forged), message=other))
            assert (said["messageId"], said["recipient"]) == (other, "carol@example.com")
            # What is said stands above what is in the mail.
            said = await world.command("bounce_record", **order(dsn(token), message=other))
            assert said["messageId"] == other
            # A later pepper, and the one before it.
            await world.command("pepper_rotate")
            assert (await world.command("bounce_paste", **order(dsn(token))))["messageId"] == message_id
            for unknown in (999_999, 2**53):
                for name in ("bounce_paste", "bounce_record"):
                    with pytest.raises(Refusal):
                        await world.command(name, **order(dsn(token), message=unknown))

    run(main)


def test_what_says_nothing_or_is_no_order_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id, token = await sent(world)
            good = order(dsn(token))
            before = len(world.events())
            for bad in (
                order(b"Subject: x\r\n\r\nhello\r\n", message=message_id),
                good | {"reading": {"kind": "something"}},
                good | {"reading": {"tokens": 7}},
                good | {"sha256": "x"},
                good | {"sha256": "A" * 64},
                good | {"raw": "***"},
                good | {"raw": "é"},
            ):
                with pytest.raises(Refusal) as refused:
                    await world.command("bounce_record", **bad)
                assert refused.value.code == "INVALID_REQUEST"
            assert len(world.events()) == before

    run(main)


def test_a_directory_that_nobody_serves_answers_the_same(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    known: dict[str, Any] = {}

    async def main() -> None:
        async with open_world(directory) as world:
            known["id"], known["token"] = await sent(world)
            await world.command("pepper_rotate")
            known["later"], known["later token"] = await sent(world, "carol@example.com")
            known["answer"] = await world.command("bounce_paste", **order(dsn(known["token"])))

    run(main)
    assert administer(directory, "bounce_paste", order(dsn(known["token"]))) == known["answer"]
    later: Any = administer(directory, "bounce_paste", order(dsn(known["later token"])))
    assert later["messageId"] == known["later"]
    recorded: Any = administer(directory, "bounce_record", order(dsn(known["token"])))
    assert recorded["messageId"] == known["id"]
    assert recorded["counts"]
