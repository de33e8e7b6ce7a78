"""How much a domain may send: warming tiers by its age, and what a member was given instead (SPEC 4). Pure.

A domain starts small, because mailbox providers distrust what suddenly sends much. It may have `hour` recipients
accepted in any rolling hour and `day` in any rolling day. A request counts as a whole: it passes or it is refused.

A refusal's `Retry-After` is true: the first second at which that same request would pass, if nothing else is sent
until then. Both windows and the domain's coming tiers are looked at. Beside mail that is scheduled it is looked for a
day ahead; where there is no room until then, it is a time before which there is none. Of a request that names its time
it is the first time behind that one with room for it.

A domain that is paused for its bounces has a trickle besides: so many recipients an hour, counted from the pause on.
Only the transactional class comes here then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from relay.config import Config, WarmingTier
from relay.decisions.windows import Ceiling, Windows
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


class Standing(NamedTuple):
    """How much of its limits a domain has used."""

    hour_used: int
    day_used: int
    limits: DomainLimits
    #: When it may send more, and how much; None: it stays as it is, as while the domain waits for its verification.
    next_phase: Phase | None


def standing(
    view: Snapshot, config: Config, member: MemberState, domain: DomainState, now_us: int
) -> Standing:
    """As it is now, whether it may send at all or not. (A pause has a limit of its own besides.)"""
    to_come = phases(config, member, domain, now_us)
    now = next(to_come)
    return Standing(
        warming.used(view, domain.domain, now_us, HOUR_US),
        warming.used(view, domain.domain, now_us, DAY_US),
        now.limits,
        next(to_come, None) if age_starts_at(config, domain) <= now_us else None,
    )


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
    at_us: int | None = None,
    changes: Mapping[int, int] | None = None,
) -> None:
    """Raise Refusal(RATE_LIMITED) if `recipients` more would pass a limit of the domain.

    `reserved`: accepted recipients that are on their way into the log, and so not in the view yet. With `at_us` they
    are scheduled for that time, and must fit then. `changes`: beginning of a minute -> how many more scheduled
    recipients it has than the view, or fewer: they are on their way, or are those that are to be moved.
    """
    if not recipients:
        return
    wanted_at = now_us if at_us is None else at_us
    trickle = config.reputation.transactional_per_hour_while_paused if domain.is_stopped(bulk=True) else None
    if trickle is not None and recipients > trickle:
        raise _too_many_at_once(domain, recipients, DomainLimits(trickle, trickle), retry_after_us=HOUR_US)

    to_come = phases(config, member, domain, wanted_at)
    known: list[tuple[tuple[Ceiling, ...], int | None]] = []

    def ceilings_at(time_us: int) -> tuple[tuple[Ceiling, ...], int | None]:
        while not known or (known[-1][1] is not None and known[-1][1] <= time_us):
            phase = next(to_come)
            known.append((_ceilings(phase.limits, trickle, domain.paused_at), phase.end_us))
        return next(each for each in known if each[1] is None or each[1] > time_us)

    windows = Windows(
        view, domain.domain, around_us=wanted_at, now_us=now_us, reserved=reserved, changes=changes
    )
    at = windows.first_fit(recipients, wanted_at, ceilings_at)
    if at == wanted_at:
        return
    limits = current_limits(config, member, domain, wanted_at)
    if at is None:
        window_us = HOUR_US if recipients > limits.hour else DAY_US
        raise _too_many_at_once(domain, recipients, limits, retry_after_us=window_us)
    if recipients > min(limits):
        raise _too_many_at_once(domain, recipients, limits, retry_after_us=at - now_us, until_us=at)
    paused = "" if trickle is None else f" ({trickle} an hour while it is {domain.status})"
    when, room = "now", ""
    if at_us is not None:
        when, room = f"around {rfc3339(at_us)}", f"; {rfc3339(at)} has room"
    elif windows.has_scheduled:
        room = " beside what is scheduled"
    raise Refusal(
        "RATE_LIMITED",
        f"the domain {domain.domain} may send to {limits.hour} recipients an hour and {limits.day} a day {when}"
        f"{paused}; the {recipients} of this request are more than are left{room}",
        retry_after_seconds=_seconds(at - now_us),
    )


def _ceilings(limits: DomainLimits, trickle: int | None, paused_at: int) -> tuple[Ceiling, ...]:
    both = Ceiling(limits.day, DAY_US), Ceiling(limits.hour, HOUR_US)
    return both if trickle is None else (*both, Ceiling(trickle, HOUR_US, paused_at))


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
