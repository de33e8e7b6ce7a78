"""The operator's questions of a relay that runs: which messages, what became of how many, and why may this not send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.events import DomainUnverified, MessageSent, Outcome
from relay.finding.totals import Totals
from relay.operator import finding
from relay.principals import Operator
from relay.refusals import Refusal
from relay.times import DAY_US
from relay.views import traffic
from relay.views.counting import Traffic
from tests.world.drafts import DIDS
from tests.world.folding import STORY
from tests.world.history_views import START_US, fold
from tests.world.relay import DID, DOMAIN, World, open_world, run


async def final(world: World, to: str) -> int:
    message_id = await world.send(to=to)
    await world.until_final(message_id)
    return message_id


async def top(world: World, by: str) -> Any:
    asked = finding.Top(by=by, since="1h")
    return (await finding.top(world.core, asked, Operator("operator")))["rows"]


def ids(answer: Any) -> list[int]:
    return [each["messageId"] for each in answer["messages"]]


def test_what_happened_to_the_mail_to_somebody_and_who_bounces_most(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            good = await final(world, "bob@example.com")
            bad = await final(world, "permfail@example.com")
            answer = await world.command("find", recipient="PERMFAIL@example.com", since="1h")
            (found,) = answer["messages"]
            assert (found["messageId"], found["status"], found["bounceClass"]) == (
                bad,
                "bounced",
                "invalid_recipient",
            )
            assert found["lastReply"]["code"] == 550
            assert (found["provider"], found["did"], found["domain"]) == ("other", DID, DOMAIN)
            assert (answer["next"], answer["lookedBackTo"]) == (None, None)
            sender = found["from"].partition("<")[2].rstrip(">") or found["from"]
            assert ids(await world.command("find", **{"from": sender})) == [bad, good]
            assert ids(await world.command("find", **{"from": f"not.{sender}"})) == []
            assert ids(await world.command("find", **{"class": "invalid_recipient"})) == [bad]
            assert ids(await world.command("find", until="1h")) == []
            first = await world.command("find", limit=1)
            assert ids(first) == [bad]
            assert ids(await world.command("find", limit=1, after=int(first["next"]))) == [good]

            host = found["lastReply"]["mx"]
            assert ids(await world.command("find", mx=host)) == [bad, good]
            for by, name in (
                ("receiver", host),
                ("site", "example.com"),
                ("domain", DOMAIN),
                ("member", DID),
                ("provider", "other"),
            ):
                (row,) = await top(world, by)
                assert row["name"] == name
                assert (row["sent"], row["bouncedByClass"]) == (1, {"invalid_recipient": 1})
                assert row["bounceRate"] == 0.5
                assert row["medianSeconds"] is not None
                assert row["accepted"] == (None if by in ("receiver", "site") else 2)
            (row,) = await top(world, "class")
            assert (row["name"], row["bounced"]) == ("invalid_recipient", 1)
            # What was sent names its provider in the log, too.
            (sent,) = [event for event in world.events() if isinstance(event, MessageSent)]
            assert sent.provider == "other"

    run(main)


def test_why_a_domain_is_paused_and_by_which_mails(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            bounced = [await final(world, f"permfail+{number}@example.com") for number in range(10)]
            answer = await world.command("why", domain=DOMAIN)
            (paused,) = answer["hindrances"]
            assert (paused["what"], paused["by"], answer["did"]) == ("paused", None, DID)
            assert (answer["sendsTransactional"], answer["sendsBulk"]) == (paused["stops"] != "all", False)
            evidence = paused["evidence"]
            assert (evidence["bounced"], evidence["final"]) == (10, 10)
            assert evidence["rate"] > evidence["rateMax"]
            assert [each["message"]["messageId"] for each in paused["messages"]] == bounced[::-1]
            assert all(each["message"]["lastReply"]["code"] == 550 for each in paused["messages"])
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            assert (await world.command("why", domain=DOMAIN))["hindrances"] == []

    run(main)


def test_why_a_domain_or_a_member_may_not_send(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:

            async def what(**asked: str) -> list[tuple[str, str, str | None, str | None]]:
                found = (await world.command("why", **asked))["hindrances"]
                return [(each["what"], each["stops"], each["by"], each["reason"]) for each in found]

            await world.command("domain_pause", did=DID, domain=DOMAIN, reason="a letter came")
            await world.command("member_suspend", did=DID, reason="unpaid")
            suspended = ("suspended", "all", "operator", "unpaid")
            assert await what(did=DID) == [suspended]
            assert await what(domain=DOMAIN) == [suspended, ("paused", "all", "operator", "a letter came")]
            await world.command("member_resume", did=DID)
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            assert await what(domain=DOMAIN) == []
            await world.core.store.append([DomainUnverified(did=DID, domain=DOMAIN, failed=["spf"])])
            enforced = world.core.config.require_verified_domains
            assert await what(domain=DOMAIN) == ([("unverified", "all", None, None)] if enforced else [])
            assert await what(domain="nobody.example") == [("not_enrolled", "all", None, None)]
            assert await what(did=DIDS[1]) == [("no_member", "all", None, None)]
            for both in ({}, {"did": DID, "domain": DOMAIN}):
                with pytest.raises(Refusal):
                    await what(**both)

    run(main)


@pytest.mark.parametrize(
    "arguments",
    [
        {"by": "receivers"},
        {"by": "site", "did": DID},
        {"by": "class", "order": "size"},
        {"by": "class", "limit": 0},
    ],
)
def test_what_cannot_be_told_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        Totals(**arguments, since_us=START_US, until_us=START_US + 1, now_us=START_US)


def test_totals_do_not_depend_on_how_far_a_step_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    providers = ("google", "yahoo", None)
    outcomes = [
        event
        for number in range(30)
        for event in (
            *STORY[2:4],
            MessageSent(did=DIDS[0], message_id=4 + 3 * number, attempt=1, provider=providers[number % 3]),
        )
    ]
    end = START_US + 100 * DAY_US

    def told(rows_of_step: int) -> Any:
        monkeypatch.setattr("relay.finding.totals._ROWS_OF_STEP", rows_of_step)
        totals = Totals("provider", since_us=START_US, until_us=end, now_us=end)
        with fold([*STORY[:2], *outcomes], step_us=DAY_US // 9) as view:
            while totals.step(view):
                pass
        return msgspec.to_builtins(totals.answer())

    assert told(1) == told(400)
    assert {row["name"]: row["sent"] for row in told(3)["rows"]} == {"google": 10, "yahoo": 10, None: 10}
    assert told(3)["all"]["sent"] == 30


def test_a_members_days_are_its_own() -> None:
    sent = MessageSent(did=DIDS[0], message_id=4, attempt=1)
    with fold([*STORY[:4], sent]) as view:
        assert isinstance(sent, Outcome)
        days = traffic.days_of(view, DIDS[0], START_US, 2)
        assert (days[0], days[1].sent) == (Traffic(), 1)
        assert traffic.days_of(view, DIDS[1], START_US, 2) == [Traffic(), Traffic()]
