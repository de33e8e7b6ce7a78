"""The task that asks lists of senders to refuse (`[monitoring] dnsbl`, `dnsbl_domains`) for the relay's own sources.

Sources are the public addresses that mail goes out from, and, for lists of domains, the operator's domain and those of
members that are verified. Each list is asked when the relay has run for FIRST_SECONDS (one that is begun again and
again asks nobody) and then every EVERY_SECONDS. Where all mail goes by a route (`"*"`), receivers see another machine,
and nobody is asked.

What changes is an event; what stays is none. **Unknown changes nothing**: a list that does not answer has not let go of
anybody. It only tells: pausing somebody is for the operator to decide. Cancelled, it has recorded what it knew by then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice

import trio

from relay.core import Core
from relay.events import Event, SourceDelisted, SourceListed
from relay.internet.dnsbl import (
    Listed,
    NotListed,
    Unknown,
    Verdict,
    ask_list,
    can_be_asked,
    kind_of,
    why_no_answers,
)
from relay.internet.own_addresses import own_addresses
from relay.internet.public_addresses import why_not_public
from relay.last_looks import ListLook
from relay.views import listings, members
from spool.views import Snapshot

logger = logging.getLogger(__name__)

FIRST_SECONDS = 60.0
EVERY_SECONDS = 6 * 3600.0
#: Of each list, and one after the other. So many domains are asked for in turn of their names.
DOMAINS_MAX = 2_000
#: A list whose answers fail so often in a row is left alone until the next round.
FAILURES_MAX = 3

_TOO_LONG = "together with the list's name it is too long for the DNS"


async def watch_lists(core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Until cancelled; an unexpected exception ends it, and with it the process."""
    task_status.started()
    await trio.sleep(FIRST_SECONDS)
    while True:
        await ask_all(core)
        await trio.sleep(EVERY_SECONDS)


async def ask_all(core: Core) -> None:
    """One round."""
    addresses, domains = await _addresses(core), _domains(core)
    monitoring = core.config.monitoring
    wanted = [(dnsbl, addresses) for dnsbl in monitoring.dnsbl] if addresses else []
    wanted += [(dnsbl, domains) for dnsbl in monitoring.dnsbl_domains]
    if "*" in core.config.delivery.routes:
        wanted = []
    asked = {(source, dnsbl) for dnsbl, sources in wanted for source in sources}
    core.list_looks.keep_only(asked)
    async with trio.open_nursery() as nursery:
        for dnsbl, sources in wanted:
            nursery.start_soon(_ask_one, core, dnsbl, sources)
    is_known = bool(addresses) or "*" in core.config.delivery.routes
    recorded = await core.store.decide(partial(_asked_no_more, core, asked, is_known))
    if recorded:
        logger.info("dnsbl.asked_no_more", extra={"listings": len(recorded)})


async def _addresses(core: Core) -> list[str]:
    config = core.config
    found = await own_addresses(
        core.surroundings.dns(), ehlo_name=config.ehlo_name, families=config.delivery.families
    )
    return [str(own.address) for own in found if why_not_public(own.address) is None]


def _domains(core: Core) -> list[str]:
    own = core.config.operator_domain
    with core.store.read() as view:
        verified = (state.domain for state in members.domains(view) if state.verified)
        return [own, *islice((domain for domain in verified if domain != own), DOMAINS_MAX)]


async def _ask_one(core: Core, dnsbl: str, sources: Sequence[str]) -> None:
    """All sources, of one list."""
    resolver = core.surroundings.dns()
    why_not: dict[str, str | None] = {}
    failures = 0
    for source in sources:
        if not can_be_asked(source, dnsbl):
            # That says nothing of the list, which others are still looked for in.
            core.list_looks.put(source, dnsbl, ListLook(core.store.now_us(), _TOO_LONG))
            continue
        kind = kind_of(source)
        if kind not in why_not:
            why_not[kind] = await why_no_answers(resolver, dnsbl, kind)
        because = why_not[kind]
        verdict: Verdict = await ask_list(resolver, dnsbl, source) if because is None else Unknown(because)
        failures = failures + 1 if isinstance(verdict, Unknown) else 0
        if failures >= FAILURES_MAX and because is None:
            assert isinstance(verdict, Unknown)
            why_not[kind] = verdict.because
        unknown = verdict.because if isinstance(verdict, Unknown) else None
        core.list_looks.put(source, dnsbl, ListLook(core.store.now_us(), unknown))
        if unknown is None:
            await _record(core, dnsbl, source, verdict)
        await core.pause()
    for kind, because in why_not.items():
        if because is not None:
            logger.warning("dnsbl.unknown", extra={"dnsbl": dnsbl, "kind": kind, "because": because})


async def _record(core: Core, dnsbl: str, source: str, verdict: Verdict) -> None:
    with core.store.read() as view:
        if not _changed(source, dnsbl, verdict, view):
            return
    recorded = await core.store.decide(partial(_changed, source, dnsbl, verdict))
    for item in recorded:
        logger.warning(item.event.TYPE, extra={"source": source, "dnsbl": dnsbl, "seq": item.seq})


def _changed(source: str, dnsbl: str, verdict: Verdict, view: Snapshot) -> list[Event]:
    before = listings.listing(view, source, dnsbl)
    match verdict:
        case Listed():
            if before is None or before.codes != verdict.codes:
                codes = list(verdict.codes)
                return [SourceListed(source=source, dnsbl=dnsbl, codes=codes, text=verdict.text)]
        case NotListed():
            if before is not None:
                return [SourceDelisted(source=source, dnsbl=dnsbl)]
        case Unknown():
            pass
    return []


def _asked_no_more(
    core: Core, asked: Iterable[tuple[str, str]], are_addresses_known: bool, view: Snapshot
) -> list[Event]:
    """The end of listings that nobody looks at any more: of an address that mail goes out from no more, of a list that
    is configured no more. Of which addresses mail goes out from cannot always be found out; then they stay."""
    monitoring = core.config.monitoring
    kept = {*asked}
    ended: list[Event] = []
    for listing in listings.listings(view):
        if (listing.source, listing.dnsbl) in kept:
            continue
        is_address = kind_of(listing.source) != "domain"
        if is_address and listing.dnsbl in monitoring.dnsbl and not are_addresses_known:
            continue
        ended.append(SourceDelisted(source=listing.source, dnsbl=listing.dnsbl))
    return ended
