"""The operator's question `providers`: what became of mail at each mailbox provider, and are its demands met?"""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

from relay.data_directory import Readable
from relay.domains.diagnosis import failed_checks
from relay.finding import carried_through
from relay.finding.by_provider import DAYS_MAX, ByProvider, Records, Sender, Shares
from relay.operator.finding import in_turn
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.readiness import LARGE_PER_DAY, Known, Reported, complaint_rate, judged, spam_level
from relay.refusals import invalid
from relay.registry import Arguments, decision
from relay.times import DAY_US, rfc3339, utc
from relay.views import provider_reports
from relay.views.counting import Traffic

#: Of domains whose records are wrong, or not known.
_NAMED_MAX = 5
#: Of what providers said, the worst.
_REPORTS_MAX = 200


class Providers(Arguments, frozen=True, kw_only=True):
    #: Of UTC, today's being one.
    days: int = 14
    #: Of that one alone.
    provider: str | None = None
    #: Of that member's mail alone, without what providers say of domains.
    did: str | None = None


@decision(by=Operator, reads=True, remembered=True)
async def providers(core: Readable, asked: Providers, by: Operator) -> CommandAnswer:
    if not 1 <= asked.days <= DAYS_MAX:
        raise invalid("days", f"expected 1 to {DAYS_MAX} days")
    turns, now_us = in_turn(core), core.store.now_us()
    counted = ByProvider(now_us, asked.days, did=asked.did)
    await carried_through(counted, core.store, turns)
    with core.store.read() as view:
        reports = [
            report
            for report in provider_reports.reports(view, _name(counted.days[0]), _name(counted.days[-1]))
            if asked.provider in (None, report.provider) and asked.did is None
        ]
    shares = Shares({(one.provider, _day(one.date)) for one in reports if _is_bad(one)})
    await carried_through(shares, core.store, turns)
    records = Records(sender for senders in counted.senders.values() for sender in senders)
    await carried_through(records, core.store, turns)
    names = sorted(
        {*counted.found, *(report.provider for report in reports)},
        key=lambda name: (-counted.total(name).accepted, name),
    )
    answers = []
    for name in names:
        if asked.provider not in (None, name):
            continue
        own = [report for report in reports if report.provider == name]
        known = _known(core, counted, records, name, own)
        answers.append(_answer(core, name, counted, known, own, shares))
        await core.pause()
    return {"since": _name(counted.days[0]), "until": _name(counted.days[-1]), "providers": answers}


def _answer(
    core: Readable,
    name: str,
    counted: ByProvider,
    known: Known,
    reports: list[provider_reports.Report],
    shares: Shares,
) -> dict[str, Any]:
    by_day = counted.found.get(name, {})
    return {
        "provider": name,
        **_sums(name, known.total),
        "isLarge": None if not known.total.accepted else known.busiest_day >= LARGE_PER_DAY,
        "busiestDay": known.busiest_day,
        "byDay": [{"date": _name(day), **_sums(name, by_day.get(day, Traffic()))} for day in counted.days],
        "reports": [_report(core, report, shares) for report in reports[-_REPORTS_MAX:]],
        "readiness": [
            {
                "demand": verdict.demand,
                "says": verdict.says,
                "since": verdict.since or None,
                "fromPerDay": verdict.from_per_day,
                "verdict": verdict.word,
                "because": verdict.because,
                "shownBy": verdict.shown_by,
            }
            for verdict in judged(name, known)
        ],
    }


def _sums(provider: str, total: Traffic) -> dict[str, Any]:
    """Rates are null where there is nothing to tell them from, or nobody tells."""
    final = total.sent + total.bounced_count
    return {
        "accepted": total.accepted,
        "sent": total.sent,
        "deferred": total.deferred_count,
        "bounced": total.bounced_count,
        "reported": total.reported_count,
        "complaints": total.complaints,
        "unsubscribes": total.unsubscribes,
        "deferredByClass": _most_first(total.deferred),
        "bouncedByClass": _most_first(total.bounced),
        # They were sent, on whatever day, and are in no bounce rate here.
        "reportedByClass": _most_first(total.reported),
        "bounceRate": total.bounced_count / final if final else None,
        "complaintRate": complaint_rate(provider, total),
        "tlsRate": total.tls / total.sent if total.sent else None,
        "medianSeconds": total.median_seconds(),
    }


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _report(core: Readable, report: provider_reports.Report, shares: Shares) -> dict[str, Any]:
    own = report.domain == core.config.operator_domain
    return {
        "domain": report.domain,
        "date": report.date,
        "spamRate": report.spam_rate,
        "level": None if report.spam_rate is None else spam_level(report.spam_rate),
        "compliance": report.compliance,
        "by": report.by,
        "recordedAt": rfc3339(report.recorded_at),
        "seq": report.seq,
        # The operator's domain signs all mail, so what is said of it is said of all.
        "senders": [
            msgspec.to_builtins(share)
            for share in shares.of(report.provider, _day(report.date), domain=None if own else report.domain)
        ],
    }


def _known(
    core: Readable,
    counted: ByProvider,
    records: Records,
    provider: str,
    reports: list[provider_reports.Report],
) -> Known:
    senders = set(counted.senders.get(provider, ())) - records.gone
    unknown = senders & records.unknown
    found_wrong = {sender for sender in unknown if _was_wrong(core, sender)}
    return Known(
        total=counted.total(provider),
        days=len(counted.days),
        busiest_day=max((each.accepted for each in counted.found.get(provider, {}).values()), default=0),
        domains=len(senders),
        failing=_domains(senders & records.wrong | found_wrong),
        unseen=_domains(unknown - found_wrong),
        is_https=core.config.public_url.startswith("https://"),
        reported=[Reported(one.domain, one.date, one.spam_rate, one.compliance) for one in reports],
    )


def _was_wrong(core: Readable, sender: Sender) -> bool:
    """When this process looked at its DNS records last, where it did."""
    look = core.dns_looks.of(sender.did, sender.domain)
    return look is not None and bool(failed_checks(look.findings))


def _domains(senders: set[Sender]) -> list[str]:
    return sorted({sender.domain for sender in senders})[:_NAMED_MAX]


def _is_bad(report: provider_reports.Report) -> bool:
    return report.spam_rate is not None and spam_level(report.spam_rate) != "good"


def _name(day: int) -> str:
    return f"{utc(day * DAY_US):%Y-%m-%d}"


def _day(name: str) -> int:
    """Since 1970."""
    return date.fromisoformat(name).toordinal() - date(1970, 1, 1).toordinal()
