"""The operator's order that puts on record what a mailbox provider says of a domain's mail on one day."""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Any

import msgspec

from relay.core import Core
from relay.events import ProviderReported
from relay.fields import domain_in
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.providers import PROVIDERS
from relay.readiness import spam_level
from relay.refusals import invalid
from relay.registry import Arguments, decision
from relay.times import utc

#: What a provider's page can say of a domain at once.
COMPLIANCE_MAX = 20
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_WORD_CHARACTERS_MAX = 60


class ProviderRecord(Arguments, frozen=True, kw_only=True):
    provider: str
    domain: str
    #: `2026-11-30`, as the provider has its days.
    date: str
    #: 0 to 1.
    spam_rate: float | None = None
    #: Of `relay.readiness`, or the provider's own.
    compliance: dict[str, str] = msgspec.field(default_factory=dict)


@decision(by=Operator)
async def provider_record(core: Core, order: ProviderRecord, by: Operator) -> CommandAnswer:
    """The last word for a provider, domain and day counts."""
    if order.provider not in PROVIDERS:
        raise invalid("provider", f"expected one of {', '.join(PROVIDERS)}")
    domain = domain_in("domain", order.domain)
    day = _day_in(order.date, core)
    rate = order.spam_rate
    if rate is not None and not (math.isfinite(rate) and 0 <= rate <= 1):
        raise invalid("spam_rate", "expected a share from 0 to 1: 0.0007 is 0.07 %")
    _check_compliance(order.compliance)
    if rate is None and not order.compliance:
        raise invalid(
            "spam_rate", "there is nothing to record: name a rate, or what the provider says of a demand"
        )
    event = ProviderReported(
        provider=order.provider,
        domain=domain,
        date=day,
        spam_rate=rate,
        compliance=order.compliance,
        by=by.user,
    )
    await core.store.append([event])
    answer: dict[str, Any] = {
        "provider": order.provider,
        "domain": domain,
        "date": day,
        "spamRate": rate,
        "level": None if rate is None else spam_level(rate),
        "compliance": order.compliance,
    }
    return answer


def _day_in(text: str, core: Core) -> str:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise invalid("date", "expected a day, as 2026-11-30") from None
    # A provider's day may have begun before UTC's.
    if (
        day.isoformat() != text
        or not date(2000, 1, 1) <= day
        or (day - utc(core.store.now_us()).date()).days > 1
    ):
        raise invalid("date", "expected a day that has begun, as 2026-11-30")
    return text


def _check_compliance(compliance: dict[str, str]) -> None:
    if len(compliance) > COMPLIANCE_MAX:
        raise invalid("compliance", f"expected {COMPLIANCE_MAX} demands at most")
    for name, word in compliance.items():
        if not _NAME.fullmatch(name):
            raise invalid(
                "compliance", f"{name[:40]!r} is no name of a demand: lower case letters, digits and _"
            )
        if not (word and len(word) <= _WORD_CHARACTERS_MAX and word.isprintable()):
            raise invalid("compliance", f"{name}: expected met, not_met, or a few words")
