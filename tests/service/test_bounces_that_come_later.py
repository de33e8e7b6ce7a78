"""Real mail servers take a mail and bounce it later: what the member then sees of it."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.reports.real.__main__ import KINDS
from tests.world.bouncers import RECIPIENTS
from tests.world.bouncers.every import BOUNCERS
from tests.world.daemon import free_port
from tests.world.inbound_relay import running_inbound_relay
from tests.world.mx import Mx, open_mx

EXPECTED = tomllib.loads((Path(__file__).parents[1] / "reports" / "real" / "expected.toml").read_text())
NOTIFIED = "notify@example.net"
#: Only of a mailbox that is not there is nothing sent to any more.
SUPPRESSED = {RECIPIENTS["unknown"]: "bounced"}


@pytest.mark.parametrize("name", BOUNCERS)
def test_a_mail_that_was_taken_and_bounces_later(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with open_mx() as next_hop:
            await trio.to_thread.run_sync(bounce_and_look, tmp_path, name, next_hop)

    trio.run(main)


def bounce_and_look(tmp_path: Path, name: str, next_hop: Mx) -> None:
    port = free_port()
    with (
        BOUNCERS[name](next_hop=next_hop.port, home=port) as bouncer,
        running_inbound_relay(
            tmp_path / "data", route=bouncer.address, port=port, forward_to=NOTIFIED
        ) as relay,
    ):
        sent = {kind: relay.send(recipient) for kind, recipient in RECIPIENTS.items()}
        failures = 0
        for kind, message_id in sent.items():
            kinds = KINDS.get(kind, (kind,))
            try:
                message = relay.wait_message(message_id, partial(has_reports, len(kinds)))
            except AssertionError:
                raise AssertionError(f"{relay.message(message_id)} {bouncer.log} {relay.output}") from None
            for report, said in zip(message["reports"], kinds, strict=True):
                check_report(report, EXPECTED[f"{name}-{said}"])
                failures += report["reportedAction"] == "failed"
            # The message was taken, and stays what it was.
            assert message["status"] == "sent"
        assert relay.suppressions() == SUPPRESSED
        # The member's own mailbox is told of each that is final.
        relay.wait_until(lambda: len(notified_of(next_hop)) == failures, f"{failures} notifications")
        assert relay.stop() == 0


def has_reports(count: int, message: Any) -> bool:
    return len(message["reports"]) == count


def notified_of(mx: Mx) -> list[Any]:
    return [message for message in mx.messages if message.rcpt_to == (NOTIFIED,)]


def check_report(report: Any, expected: dict[str, Any]) -> None:
    for field, value in (
        ("kind", expected["kind"]),
        ("reportedAction", expected["action"]),
        ("enhanced", expected["enhanced"]),
        ("reportingMta", expected.get("reporting_mta", "mx.test")),
    ):
        assert report[field] == value, report
    if "bounce_class" in expected:
        assert report["bounceClass"] == expected["bounce_class"], report
    assert expected["words"] in report["diagnostic"]
    # What to do, in a sentence.
    assert report["advice"].endswith(".")
    assert report["counts"] == (expected["action"] == "failed" and expected["enhanced"].startswith("5."))
