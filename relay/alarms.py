"""What wants a person: the alarms by name, what each says, and which of them are active now.

An alarm is *about* one thing: a domain, an address of the relay's own, a file. It is active as long as what it says is
so. Those of domains and of lists are read from the views, so they are the same in a running relay, beside it, and after
a restart; those of this machine (disk, certificate, clock) are noted by the task that looks at it
(`relay.alarm_watch`), and are known only while a relay runs.

The words of an alarm are the relay's own. What strangers wrote (a list's TXT record) is shown without what could be
taken for anything else than text (`relay.characters`), and never told to members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, Protocol

import msgspec

from relay.events import NOBODY
from relay.times import DAY_US, HOUR_US, SECOND_US, rfc3339
from relay.views import alarms, listings, members
from spool.views import Snapshot

DOMAIN_PAUSED: Final = "domain_paused"
DOMAIN_UNVERIFIED: Final = "domain_unverified"
SOURCE_LISTED: Final = "source_listed"
DISK_NEAR_RESERVE: Final = "disk_near_reserve"
CERTIFICATE_EXPIRES: Final = "certificate_expires"
CLOCK_JUMPED: Final = "clock_jumped"

NAMES: Final = (
    DOMAIN_PAUSED,
    DOMAIN_UNVERIFIED,
    SOURCE_LISTED,
    DISK_NEAR_RESERVE,
    CERTIFICATE_EXPIRES,
    CLOCK_JUMPED,
)
#: About the machine that the relay runs on; there are a handful, whatever members do.
OF_MACHINE: Final = (DISK_NEAR_RESERVE, CERTIFICATE_EXPIRES, CLOCK_JUMPED)
#: Of these a mail goes out each day while they are active: they get worse by themselves. Of others, when they begin.
TOLD_DAILY: Final = (DISK_NEAR_RESERVE, CERTIFICATE_EXPIRES)

#: Of each kind, who asks is given so many: a page, and an answer, have an end. Their number is another question.
SHOWN_MAX: Final = 200

#: Where lists say why, and take removals.
_PAGES: Final = {
    "zen.spamhaus.org": "https://check.spamhaus.org/",
    "dbl.spamhaus.org": "https://check.spamhaus.org/",
    "b.barracudacentral.org": "https://www.barracudacentral.org/rbl/removal-request",
    "bl.spamcop.net": "https://www.spamcop.net/bl.shtml",
    "psbl.surriel.com": "https://psbl.org/",
}

CERTIFICATE_DAYS: Final = 14
#: A domain whose records are wrong may send for so long after they were first seen to be.
GRACE_HOURS: Final = 72


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    about: str
    since_us: int
    #: What is so, and what the operator can do; a line that begins with a space is a command to be pasted.
    says: list[str]
    #: The member whom it concerns, and what that one is told; NOBODY: it is the operator's alone.
    did: str = NOBODY
    says_member: list[str] = msgspec.field(default_factory=list)


class ViewsToRead(Protocol):
    """What `with` makes the views of this moment of."""

    def __enter__(self) -> Snapshot: ...
    def __exit__(self, *error: Any) -> bool | None: ...


class Alarms:
    """Which are active. `read` opens the views."""

    def __init__(self, read: Callable[[], ViewsToRead]) -> None:
        self._read = read
        #: Of this machine, by name and what they are about.
        self._noted: dict[tuple[str, str], Alarm] = {}

    def active(self) -> list[Alarm]:
        """The operator's list: of this machine, of lists, of domains; SHOWN_MAX of each kind at most."""
        with self._read() as view:
            of_lists = list(islice(of_listings(view), SHOWN_MAX))
            of_domains = list(islice(_of_names(view, alarms.names_in_trouble(view)), SHOWN_MAX))
        return [*self.noted(), *of_lists, *of_domains]

    def counts(self) -> dict[str, int]:
        """How many are active of each name; of domains, SHOWN_MAX stands for as many or more."""
        counts = dict.fromkeys(NAMES, 0)
        for alarm in self.active():
            counts[alarm.name] += 1
        return counts

    def noted(self) -> list[Alarm]:
        """Those of this machine."""
        return sorted(self._noted.values(), key=lambda alarm: (alarm.name, alarm.about))

    def note(self, alarm: Alarm) -> None:
        """It is so; since when, the first who says so knows."""
        before = self._noted.get((alarm.name, alarm.about))
        if before is not None:
            alarm = msgspec.structs.replace(alarm, since_us=before.since_us)
        self._noted[alarm.name, alarm.about] = alarm

    def end(self, name: str, about: str) -> None:
        """It is so no more, if it ever was."""
        self._noted.pop((name, about), None)


# ------------------------------------------------------------------------------------------------ domains


def of_name(view: Snapshot, name: str) -> list[Alarm]:
    """What is wrong with a name: its pause concerns the member who has it, its records each whose they were."""
    return [alarm for state in members.enrolments(view, name) for alarm in _of_enrolment(view, state)]


def of_member(view: Snapshot, did: str) -> list[Alarm]:
    """What is wrong with a member's own domains; what that one may read of it is `says_member`."""
    return [alarm for state in members.domains_of(view, did) for alarm in _of_enrolment(view, state)]


def _of_enrolment(view: Snapshot, state: members.DomainState) -> Iterator[Alarm]:
    if state.status != "active":
        holder = members.domain(view, state.domain)
        if holder is not None and holder.did == state.did:
            yield _paused(state)
    if alarms.has_lost_records(state):
        yield _lost_records(state)


def _of_names(view: Snapshot, names: Iterable[str]) -> Iterator[Alarm]:
    for name in names:
        yield from of_name(view, name)


def _paused(state: members.DomainState) -> Alarm:
    evidence = state.evidence
    if evidence is None:
        because = "by the operator's order" + (f": {state.pause_reason}" if state.pause_reason else "")
        fix = "Ask the operator what is to be done."
    elif state.status == "paused_complaint_rate":
        because = f"for complaints, {evidence.complaints} about {evidence.final} messages"
        fix = "Write only to who asked for it, then ask the operator to resume the domain."
    else:
        because = f"for bounces, {evidence.bounced} of {evidence.final} messages"
        fix = (
            "Take the addresses that do not exist off your list, then ask the operator to resume the domain."
        )
    what = f"is paused since {_when(state.paused_at)} {because}."
    if state.stops != "all":
        what += " A little mail of the transactional class may go on."
    return Alarm(
        name=DOMAIN_PAUSED,
        about=state.domain,
        since_us=state.paused_at,
        says=[
            f"The domain {state.domain} of {state.did} {what}",
            "Which messages counted, and whether it may send again, is for you to see and to say:",
            f"  atmos-relay why DIR --domain {state.domain}",
            f"  atmos-relay domain resume DIR --domain {state.domain}",
        ],
        did=state.did,
        says_member=[f"Your domain {state.domain} {what}", fix],
    )


def _lost_records(state: members.DomainState) -> Alarm:
    wrong = f"Wrong are: {', '.join(state.failed)}." if state.failed else "A check of them failed."
    if state.verified:
        assert state.failing_since is not None
        since = state.failing_since
        until = state.failing_since + GRACE_HOURS * HOUR_US
        what = f"has lost DNS records that it needs, and may not send from {_when(until)} on"
    else:
        # No later check is recorded of a domain that is not verified.
        since = state.checked_at or state.failing_since or state.added_at
        what = f"may not send, since {_when(since)}: the DNS records that it needs are wrong"
    return Alarm(
        name=DOMAIN_UNVERIFIED,
        about=state.domain,
        since_us=since,
        says=[
            f"The domain {state.domain} of {state.did} {what}. {wrong}",
            "What was expected and what was found, record by record:",
            f"  atmos-relay domain verify DIR --domain {state.domain}",
        ],
        did=state.did,
        says_member=[
            f"Your domain {state.domain} {what}. {wrong}",
            "Publish the records as they are shown to you (GET /v1/domains, or the console), then have them looked "
            "at again.",
        ],
    )


# ------------------------------------------------------------------------------------------------ lists


def of_listings(view: Snapshot) -> Iterator[Alarm]:
    """One for each source that is listed, since the first of the lists had it."""
    found: dict[str, list[listings.Listing]] = {}
    for listing in listings.listings(view):
        found.setdefault(listing.source, []).append(listing)
    for source, on in found.items():
        yield Alarm(
            name=SOURCE_LISTED,
            about=source,
            since_us=min(listing.since for listing in on),
            says=[
                f"{source} is named by {', '.join(listing.dnsbl for listing in on)}: receivers that ask there "
                "refuse mail from it.",
                *(
                    f"{listing.dnsbl} answers {', '.join(listing.codes)}"
                    + (f": {listing.text}" if listing.text else ".")
                    + (f" Its page: {_PAGES[listing.dnsbl]}" if listing.dnsbl in _PAGES else "")
                    for listing in on
                ),
                "Find out which member's mail it is for, stop that mail, then ask the list to remove it; the "
                "relay asks again every six hours.",
            ],
        )


# ------------------------------------------------------------------------------------------------ this machine


def disk_near_reserve(now_us: int, *, free: int, reserve: int) -> Alarm:
    refuses = free <= reserve
    return Alarm(
        name=DISK_NEAR_RESERVE,
        about="disk",
        since_us=now_us,
        says=[
            f"{free:,} bytes are free where the log is; below {reserve:,} ([spool] free_bytes_min) the relay "
            + ("accepts nothing, and that is now so." if refuses else "accepts nothing more."),
            "Make room on that disk, or give it more. Mail that was accepted goes out.",
        ],
    )


def log_near_bound(now_us: int, *, size: int, bound: int) -> Alarm:
    return Alarm(
        name=DISK_NEAR_RESERVE,
        about="log",
        since_us=now_us,
        says=[
            f"The log has {size:,} bytes; at {bound:,} ([spool] bytes_max) the relay accepts nothing more.",
            "Raise bytes_max, or let retention remove more ([spool] retention_days).",
        ],
    )


def certificate_expires(now_us: int, *, path: str, not_after_us: int) -> Alarm:
    left = not_after_us - now_us
    when = (
        f"has expired on {_when(not_after_us)}: clients refuse to log in"
        if left < 0
        else f"expires on {_when(not_after_us)}"
    )
    return Alarm(
        name=CERTIFICATE_EXPIRES,
        about=path,
        since_us=not_after_us - CERTIFICATE_DAYS * DAY_US,
        says=[
            f"The certificate in {path} {when}.",
            "See why it is not renewed. The relay reads new files by itself, and needs no restart.",
        ],
    )


def clock_jumped(now_us: int, *, by_us: int) -> Alarm:
    seconds = abs(by_us) / SECOND_US
    way = "forward" if by_us > 0 else "back"
    return Alarm(
        name=CLOCK_JUMPED,
        about="clock",
        since_us=now_us,
        says=[
            f"This machine's clock has jumped {way} by {seconds:,.0f} seconds, or the machine was suspended.",
            "What was due meanwhile is tried now. Retries, limits and links go by this clock: see that it is kept "
            "by NTP (`timedatectl`).",
        ],
    )


def clock_behind_log(now_us: int, *, by_us: int) -> Alarm:
    return Alarm(
        name=CLOCK_JUMPED,
        about="clock of the log",
        since_us=now_us,
        says=[
            f"This machine's clock is {by_us / SECOND_US:,.0f} seconds behind the last event of the log.",
            "The relay's time stands still until the clock has come there. If the clock is right now, that is only "
            "to be waited for; if not, set it (`timedatectl`).",
        ],
    )


def _when(time_us: int) -> str:
    return rfc3339(time_us - time_us % SECOND_US).replace(".000000", "")
