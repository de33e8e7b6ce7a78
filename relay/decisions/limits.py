"""How much a domain may send: warming tiers by its age, and what a member was given instead (SPEC 4). Pure.

A domain starts small, because mailbox providers distrust what suddenly sends much. It may have `hour` recipients
accepted in any rolling hour and `day` in any rolling day. A request counts as a whole: it passes or it is refused.

A refusal's `Retry-After` is true: the first second at which that same request would pass, if nothing else is sent until
then. Both windows and the domain's coming tiers are looked at.

A domain that is paused for its bounces has a trickle besides: so many recipients an hour, counted from the pause on.
Only the transactional class comes here then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from relay.config import Config, WarmingTier
from relay.refusals import Refusal
from relay.times import DAY_US, HOUR_US, SECOND_US, rfc3339
from relay.views import warming
from relay.views.members import DomainState, MemberState
from spool.views import Snapshot


class DomainLimits(NamedTuple):
    hour: int
    day: int


class Phase(NamedTuple):
    """A time in a domain's life with its limits; the last one has no end."""

    start_us: int
    end_us: int | None
    limits: DomainLimits


def age_starts_at(config: Config, domain: DomainState) -> int:
    """From when a domain's age is counted: since its name was first verified, or first enrolled where no verification
    is asked for; whoever had it then.

    A domain that waits for its verification is as young as can be.
    """
    if not config.require_verified_domains:
        return domain.name_added_at
    return domain.first_verified_at or (1 << 62)


def phases(config: Config, member: MemberState, domain: DomainState, now_us: int) -> Iterator[Phase]:
    """The phase that the domain is in now, and those to come."""
    if member.hour_limit is not None and member.day_limit is not None:
        yield Phase(now_us, None, DomainLimits(member.hour_limit, member.day_limit))
        return
    born = age_starts_at(config, domain)
    for start, tier in zip(_tier_starts(config.warming.tiers), config.warming.tiers, strict=True):
        end = None if tier.until_day is None else born + tier.until_day * DAY_US
        if end is None or end > now_us:
            yield Phase(max(now_us, born + start * DAY_US), end, DomainLimits(tier.hour, tier.day))


def _tier_starts(tiers: tuple[WarmingTier, ...]) -> list[int]:
    return [0, *(tier.until_day for tier in tiers if tier.until_day is not None)]


def current_limits(config: Config, member: MemberState, domain: DomainState, now_us: int) -> DomainLimits:
    return next(phases(config, member, domain, now_us)).limits


def most_at_once(config: Config, member: MemberState, domain: DomainState, now_us: int) -> int:
    """To how many recipients one request can be now, whatever was sent before: more never fit."""
    most = min(current_limits(config, member, domain, now_us))
    if domain.is_stopped(bulk=True):
        most = min(most, config.reputation.transactional_per_hour_while_paused)
    return most


def check_limits(
    view: Snapshot,
    config: Config,
    member: MemberState,
    domain: DomainState,
    *,
    recipients: int,
    reserved: int,
    now_us: int,
) -> None:
    """Raise Refusal(RATE_LIMITED) if `recipients` more would pass a limit of the domain.

    `reserved`: accepted recipients that are on their way into the log, and so not in the view yet.
    """
    if not recipients:
        return
    trickle = config.reputation.transactional_per_hour_while_paused if domain.is_stopped(bulk=True) else None
    if trickle is not None and recipients > trickle:
        raise _too_many_at_once(domain, recipients, DomainLimits(trickle, trickle), retry_after_us=HOUR_US)
    possible = False
    # What there is already, of whatever age: a window has what came to it since the window's start.
    total = warming.total_until(view, domain.domain, now_us) + reserved
    for phase in phases(config, member, domain, now_us):
        if recipients > min(phase.limits):
            continue
        possible = True
        at = max(
            _passes_at(view, domain.domain, total + recipients - phase.limits.hour, HOUR_US, now_us),
            _passes_at(view, domain.domain, total + recipients - phase.limits.day, DAY_US, now_us),
            phase.start_us,
        )
        if trickle is not None:
            needed = total + recipients - trickle
            at = max(at, _passes_at(view, domain.domain, needed, HOUR_US, now_us, since_us=domain.paused_at))
        if phase.end_us is not None and at >= phase.end_us:
            continue
        if at <= now_us:
            return
        limits = current_limits(config, member, domain, now_us)
        if recipients > min(limits):
            raise _too_many_at_once(domain, recipients, limits, retry_after_us=at - now_us, until_us=at)
        paused = "" if trickle is None else f" ({trickle} an hour while it is {domain.status})"
        raise Refusal(
            "RATE_LIMITED",
            f"the domain {domain.domain} may send to {limits.hour} recipients an hour and {limits.day} a day now"
            f"{paused}; the {recipients} of this request are more than are left",
            retry_after_seconds=_seconds(at - now_us),
        )
    assert not possible, "in the last phase, every request that fits its limits passes some day"
    limits = current_limits(config, member, domain, now_us)
    window_us = HOUR_US if recipients > limits.hour else DAY_US
    raise _too_many_at_once(domain, recipients, limits, retry_after_us=window_us)


def check_bytes(view: Snapshot, config: Config, did: str, size: int, now_us: int) -> None:
    """Raise Refusal(RATE_LIMITED) if `size` octets more would pass `[members] bytes_per_day`.

    Sends that are on their way into the log at this moment are not counted; there are few at a time (`relay.writes`).
    """
    most = config.members.bytes_per_day
    start = now_us - DAY_US
    needed = warming.bytes_until(view, did, now_us) + size - most
    if needed <= warming.bytes_until(view, did, start):
        return
    passes_at = now_us + DAY_US
    for time_us, running_total in warming.bytes_after(view, did, start):
        if running_total >= needed:
            passes_at = time_us + DAY_US
            break
    raise Refusal(
        "RATE_LIMITED",
        f"your mail of the last 24 hours and this one are more than {most} bytes ([members] bytes_per_day)",
        retry_after_seconds=_seconds(passes_at - now_us),
    )


def _too_many_at_once(
    domain: DomainState,
    recipients: int,
    limits: DomainLimits,
    *,
    retry_after_us: int,
    until_us: int | None = None,
) -> Refusal:
    """No waiting within these limits lets the request pass. `until_us`: until they are others."""
    many = f"{recipients} recipient{'' if recipients == 1 else 's'}"
    rate = f"{limits.hour} an hour" if recipients > limits.hour else f"{limits.day} a day"
    most = min(limits)
    remedy = f"send to at most {most} at once" if most else "the operator sets its limits"
    older = "" if until_us is None else f" before {rfc3339(until_us)}, when the domain is older"
    return Refusal(
        "RATE_LIMITED",
        f"{many} at {rate} (the domain {domain.domain}): this can never fit as it is{older}; {remedy}",
        retry_after_seconds=_seconds(retry_after_us),
    )


def _seconds(microseconds: int) -> int:
    """Rounded up: a second before its time, it is not yet."""
    return -(-microseconds // SECOND_US)


def _passes_at(
    view: Snapshot, domain: str, needed: int, window_us: int, now_us: int, *, since_us: int = 0
) -> int:
    """The first time at which the window begins after the running total has reached `needed`. What was sent until
    `since_us` is in no window."""
    start = max(now_us - window_us, since_us)
    if warming.total_until(view, domain, start) >= needed:
        return now_us
    # One row a send and one recipient a row at least: this ends after `limit` rows.
    for time_us, running_total in warming.sends_after(view, domain, start):
        if running_total >= needed:
            return time_us + window_us
    return now_us + window_us  # what is reserved now leaves the window then
