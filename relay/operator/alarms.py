"""The operator's command that shows what wants a person, and what lists say of the relay's addresses."""

from __future__ import annotations

from typing import Any

from relay.data_directory import Readable
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.registry import Arguments, decision
from relay.times import rfc3339
from relay.views import listings


class AlarmList(Arguments, frozen=True, kw_only=True):
    """All alarms that are active now."""


@decision(by=Operator, reads=True, remembered=True)
async def alarm_list(core: Readable, asked: AlarmList, by: Operator) -> CommandAnswer:
    """Of each kind `relay.alarms.SHOWN_MAX` at most. Beside a relay: those that the log tells of."""
    return [
        {
            "name": alarm.name,
            "about": alarm.about,
            "since": rfc3339(alarm.since_us),
            "did": alarm.did or None,
            "says": alarm.says,
        }
        for alarm in core.alarms.active()
    ]


class ListingList(Arguments, frozen=True, kw_only=True):
    """What lists of senders to refuse say of the relay's addresses and domains: those that name them, and, of a running
    relay, those that gave no answer when they were asked last."""


@decision(by=Operator, reads=True, remembered=True)
async def listing_list(core: Readable, asked: ListingList, by: Operator) -> CommandAnswer:
    with core.store.read() as view:
        shown: list[dict[str, Any]] = [
            {
                "state": "listed",
                "source": listing.source,
                "dnsbl": listing.dnsbl,
                "codes": list(listing.codes),
                "text": listing.text,
                "since": rfc3339(listing.since),
            }
            for listing in listings.listings(view)
        ]
    shown += [
        {
            "state": "unknown",
            "source": source,
            "dnsbl": dnsbl,
            "because": look.unknown,
            "since": rfc3339(look.at),
        }
        for (source, dnsbl), look in sorted(core.list_looks.unknown().items())
    ]
    return shown
