"""`providers`: a fortnight whose sums are known, what each provider demands of it, and what only the provider knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from relay.last_looks import Look
from relay.readiness import Known, Reported, complaint_rate, judged
from relay.refusals import Refusal
from relay.views.counting import Traffic
from spool.clock import wall_clock_us
from tests.world.internet import Internet
from tests.world.mx_options import MxOptions
from tests.world.pages import DOCS, examples, says
from tests.world.relay import DID, DOMAIN, EPOCH_US, OTHER_DID, make_directory, open_world, run, virtual_clock
from tests.world.self_signed import self_signed_context
from tests.world.zone_records import publish
from tools.cli import cli

DAYS = 14
DAY_SECONDS = 86_400


def internet() -> Internet:
    """Two domains at Google, one of which only its MX tells; one at Yahoo, without TLS; and one of nobody's."""
    world = Internet()
    tls = MxOptions(tls=self_signed_context("aspmx.l.google.com", days=400))
    google = world.add_host("aspmx.l.google.com", "198.41.0.1", tls)
    google.mood = lambda address, offer: "permfail" if address.startswith("permfail") else ""
    world.add_domain("gmail.com", google.name)
    world.add_domain("company.example", google.name)
    world.add_domain("yahoo.com", world.add_host("mta5.am0.yahoodns.net", "198.41.0.2").name)
    world.add_domain("small.example", world.add_host("mx.small.example", "198.41.0.3").name)
    return world


async def a_fortnight(world: Any) -> None:
    """Each day: two messages to Google, of which the second is refused on two days, and one to Yahoo."""
    for day in range(DAYS):
        begun = trio.current_time()
        refused = day in (3, 4)
        for to in ("reader@gmail.com", f"{'permfail' if refused else 'ann'}+{day}@company.example"):
            await world.until_final(await world.send(to=to))
        await trio.sleep(3600)
        message_id = await world.send(to=f"friend{day}@yahoo.com")
        await world.until_final(message_id)
        if day in (5, 6):
            await world.command("complaint_record", message=message_id)
            await world.command("complaint_record", message=message_id)  # twice is once
        if day < DAYS - 1:
            await trio.sleep(begun + DAY_SECONDS - trio.current_time())


def ending_yesterday() -> Callable[[], int]:
    """A clock by which the fortnight's last day is the real yesterday, for commands that are typed afterwards."""
    day_us = DAY_SECONDS * 1_000_000
    begin_us = (wall_clock_us() // day_us - DAYS) * day_us + 600 * 1_000_000
    return lambda: virtual_clock() - EPOCH_US + begin_us


def test_a_fortnight_whose_sums_are_known(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data", route="")
    answers: dict[str, Any] = {}

    async def main() -> None:
        async with open_world(directory, internet=internet(), clock=ending_yesterday()) as world:
            await a_fortnight(world)
            answers["all"] = await world.command("providers")
            today = answers["all"]["until"]
            await world.command(
                "provider_record", provider="google", domain=DOMAIN, date=today, spam_rate=0.0009
            )
            answers["recorded"] = await world.command(
                "provider_record",
                provider="google",
                domain=DOMAIN.upper(),
                date=today,
                spam_rate=0.004,
                compliance={"dmarc": "met"},
            )
            answers["google"] = await world.command("providers", provider="google", days=7)
            answers["nobody"] = await world.command("providers", did=OTHER_DID)

    run(main)
    found = {each["provider"]: each for each in answers["all"]["providers"]}
    assert list(found) == ["google", "yahoo"]
    google, yahoo = found["google"], found["yahoo"]
    # By MX, not by the recipient's domain.
    assert (google["accepted"], google["sent"], google["bounced"]) == (28, 26, 2)
    assert google["bouncedByClass"] == {"invalid_recipient": 2}
    assert google["bounceRate"] == 2 / 28
    assert (google["tlsRate"], yahoo["tlsRate"]) == (1.0, 0.0)
    # Google never tells of a complaint; Yahoo told of two.
    assert (google["complaints"], google["complaintRate"]) == (0, None)
    assert (yahoo["complaints"], yahoo["complaintRate"]) == (2, 2 / 14)
    assert [day["accepted"] for day in google["byDay"]] == [2] * DAYS
    assert [day["bounced"] for day in google["byDay"]] == [int(day in (3, 4)) for day in range(DAYS)]
    assert google["isLarge"] is False
    verdicts = {verdict["demand"]: verdict["verdict"] for verdict in yahoo["readiness"]}
    assert verdicts["tls"] == "not_met"
    assert verdicts["complaint_reports"] == "met"
    assert verdicts["spam_rate"] == verdicts["reverse_name"] == "unseen"

    assert answers["recorded"]["level"] == "red"
    (week,) = answers["google"]["providers"]
    assert (week["sent"], len(week["byDay"])) == (14, 7)
    (report,) = week["reports"]  # the last word for the day
    assert (report["domain"], report["spamRate"], report["compliance"]) == (DOMAIN, 0.004, {"dmarc": "met"})
    assert report["senders"] == [{"did": DID, "domain": DOMAIN, "sent": 2, "share": 1.0, "unsubscribes": 0}]
    verdicts = {verdict["demand"]: verdict["verdict"] for verdict in week["readiness"]}
    # Nobody has looked at its domain; of DMARC the provider itself says that it is right.
    assert (verdicts["spam_rate"], verdicts["dmarc"]) == ("not_met", "met")
    assert verdicts["spf_or_dkim"] == "unseen"
    assert answers["nobody"]["providers"] == []

    told = CliRunner().invoke(cli, ["providers", str(directory), "--days", "15"])
    assert told.exit_code == 0, told.output
    assert "NOT MET   less than 0.3% of mail is reported as spam" in told.output

    # docs/PROVIDERS.md, typed.
    for example in examples((DOCS / "PROVIDERS.md").read_text()):
        command = example.command.replace("DIR", str(directory)).removeprefix("atmos-relay ")
        command = command.replace("2026-11-01", answers["all"]["until"])
        typed = CliRunner().invoke(cli, command.split())
        assert typed.exit_code == 0, typed.output
        assert says(example.output.replace("2026-11-01", answers["all"]["until"]), typed.output), typed.output


def test_records_that_nobody_has_looked_at_are_not_called_wrong(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data", route="")

    async def main() -> None:
        async with open_world(directory, internet=internet()) as world:
            await world.until_final(await world.send(to="reader@gmail.com"))

            async def judged_now() -> tuple[str, str]:
                (google,) = (await world.command("providers"))["providers"]
                (verdict,) = [one for one in google["readiness"] if one["demand"] == "spf_or_dkim"]
                return verdict["verdict"], verdict["because"]

            assert await judged_now() == ("unseen", f"nothing is known yet of the DNS records of {DOMAIN}")
            await world.command("domain_verify", did=DID, domain=DOMAIN)
            wrong = ("not_met", f"the DNS records of {DOMAIN} were wrong when they were looked at last")
            assert await judged_now() == wrong
            needed = await world.command("dns", domain=DOMAIN)
            publish(world.dns, needed["domains"][0]["records"])
            assert (await world.command("domain_verify", did=DID, domain=DOMAIN))["verified"]
            assert (await judged_now())[0] == "met"
            # What was right once and is wrong now stands in the log.
            world.dns.txt[DOMAIN] = [(b"v=spf1 -all",)]
            await world.command("domain_verify", did=DID, domain=DOMAIN)
            world.core.dns_looks.put(DID, DOMAIN, Look(0, []))
            assert await judged_now() == wrong

    run(main)


def test_metrics_of_providers(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(make_directory(tmp_path / "data", route=""), internet=internet()) as world:
            await world.until_final(await world.send(to="reader@gmail.com"))
            await world.until_final(await world.send(to="permfail@company.example"))
            day = (await world.command("providers"))["until"]
            await world.command(
                "provider_record", provider="google", domain=DOMAIN, date=day, spam_rate=0.002
            )
            answer = await world.client.get("/metrics")
            page = (await answer.get_data()).decode()
        for line in (
            'atmos_provider_outcomes_total{bounce_class="none",provider="google",status="sent"} 1.0',
            'atmos_provider_outcomes_total{bounce_class="invalid_recipient",provider="google",status="bounced"} 1.0',
            'atmos_provider_sent_over_tls_total{provider="google"} 1.0',
            'atmos_provider_spam_rate{provider="google"} 0.002',
        ):
            assert line in page, page

    run(main)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"provider": "gogle"}, "provider"),
        ({"domain": "no domain"}, "domain"),
        ({"date": "2999-01-01"}, "date"),
        ({"date": "20251130"}, "date"),
        ({"spam_rate": 1.5}, "spam_rate"),
        ({"spam_rate": float("nan")}, "spam_rate"),
        ({"spam_rate": None}, "spam_rate"),
        ({"compliance": {"DMARC": "met"}}, "compliance"),
        ({"compliance": {"dmarc": "met\n"}}, "compliance"),
        ({"compliance": {f"d{number}": "met" for number in range(21)}}, "compliance"),
    ],
)
def test_what_is_no_report_of_a_provider(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            before = world.core.store.last_seq
            order = {"provider": "google", "domain": DOMAIN, "date": "2025-01-01", "spam_rate": 0.1, **change}
            with pytest.raises(Refusal) as refused:
                await world.command("provider_record", **order)
            assert str(refused.value).startswith(f"{field}: ")
            assert world.core.store.last_seq == before

    run(main)


def known(**changes: Any) -> Known:
    total = Traffic(accepted=10, sent=10, tls=10)
    return Known(total, 14, 10, 1, (), (), is_https=True)._replace(**changes)


def words(provider: str, known: Known) -> dict[str, str]:
    return {verdict.demand: verdict.word for verdict in judged(provider, known)}


def test_nothing_is_met_that_nobody_has_seen() -> None:
    nothing = known(total=Traffic(), domains=0)
    for provider in ("google", "yahoo", "microsoft", "other"):
        met = [demand for demand, word in words(provider, nothing).items() if word == "met"]
        # These the relay does itself.
        assert set(met) <= {"one_click", "unsubscribed"}


@pytest.mark.parametrize(
    ("changes", "demand", "word"),
    [
        ({}, "spf_or_dkim", "met"),
        ({"failing": ["member.example"]}, "spf_or_dkim", "not_met"),
        ({"unseen": ["member.example"]}, "spf_or_dkim", "unseen"),
        ({"unseen": ["member.example"], "failing": ["other.example"]}, "spf_or_dkim", "not_met"),
        ({"total": Traffic(sent=9, tls=9, deferred={"authentication_failed": 1})}, "spf_and_dkim", "not_met"),
        ({"total": Traffic(sent=9, tls=8)}, "tls", "not_met"),
        ({"total": Traffic(sent=9, bounced={"content_related": 1})}, "message_form", "not_met"),
        ({"is_https": False}, "one_click", "not_met"),
        ({"reported": [Reported("a.example", "2026-11-01", 0.0029, {})]}, "spam_rate", "met"),
        ({"reported": [Reported("a.example", "2026-11-01", 0.003, {})]}, "spam_rate", "not_met"),
        ({"reported": [Reported("a.example", "2026-11-01", None, {"dmarc": "not_met"})]}, "dmarc", "not_met"),
        (
            {
                "failing": ["b.example"],
                "reported": [Reported("a.example", "2026-11-01", None, {"dmarc": "met"})],
            },
            "dmarc",
            "met",
        ),
    ],
)
def test_each_demand(changes: dict[str, Any], demand: str, word: str) -> None:
    assert words("google", known(**changes))[demand] == word


def test_who_tells_of_no_complaint_has_no_rate_of_them() -> None:
    assert complaint_rate("google", Traffic(sent=1000)) is None
    assert complaint_rate("yahoo", Traffic(sent=1000)) == 0
    assert complaint_rate("yahoo", Traffic()) is None
