"""Who hears of what came in by mail, besides the log: the member by a notification, the operator by an alarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.events import DsnQueued, MessageBounceReported
from tests.world.process import configure
from tests.world.relay import DOMAIN, OPERATOR_DOMAIN, run
from tests.world.strangers import (
    BOUNCE,
    LETTER,
    bounce_address,
    bring,
    events,
    open_inbound_world,
    stranger,
)
from tests.world.submitting import MAIL, submitter

BOSS = "boss@elsewhere.example"
TAKEN = "250 2.0.0 taken"


def test_mail_that_the_operators_mailbox_does_not_take_is_an_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            configure(tmp_path / "data", inbound='operator_mailbox = "permfail@elsewhere.example"')
            await world.core.read_settings_again()
            # A member's mail that bounces is no such alarm.
            await world.until_final(await world.send(to="permfail@example.com"))
            async with stranger(world) as talk:
                for number in range(2):
                    letter = LETTER + b"%d\r\n" % number
                    assert await bring(talk, letter, f"abuse@{OPERATOR_DOMAIN}") == TAKEN
            await world.until_so_many_are_final(3)
        (alarm,) = [item for item in caplog.records if item.message == "inbound.not_passed_on"]
        assert vars(alarm)["bounce_class"] == "invalid_recipient"

    run(main)


def test_who_submitted_with_the_null_sender_hears_of_no_bounce(tmp_path: Path) -> None:
    """RFC 5321 section 6.1, also of one that comes later."""

    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain=DOMAIN, to=BOSS)
            client = await submitter(world)
            login = MAIL.replace(b"\r\n\r\n", b"\r\nX-Atmos-Category: login-link\r\n\r\n", 1)
            for number, mail_from in enumerate((f"you@{DOMAIN}", "")):
                mail = login + b"%d\r\n" % number
                (message_id,) = (await client.hand_in(mail, mail_from=mail_from)).ids
                await world.until_final(message_id)
                async with stranger(world) as talk:
                    report = BOUNCE + b"%d\r\n" % number
                    assert await bring(talk, report, bounce_address(world, message_id)) == TAKEN
                assert len(events(world, DsnQueued)) == 1
            assert [report.counts for report in events(world, MessageBounceReported)] == [True, True]

    run(main)
