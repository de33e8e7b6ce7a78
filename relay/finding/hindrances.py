"""Why may this domain, or this member, not send? What stands in the way, since when, by whom, and the messages that
counted.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

import msgspec

from relay.codec import Recorded
from relay.config import Config
from relay.events import Evidence, MessageBounceReported
from relay.finding.search import FoundMessage, found_message
from relay.presentation import Report, report_of
from relay.times import rfc3339
from relay.views import members, messages, reputation
from relay.views.members import DomainState
from spool.views import Snapshot

#: Messages shown of those that counted.
COUNTED_MAX: Final = 20
#: Shown in one step.
_SHOWN_AT_A_TIME: Final = 8


class CountedMessage(msgspec.Struct, rename="camel", kw_only=True):
    """A message that counted in the rate for which a domain was paused."""

    #: `bounced`, `reported` (it was sent, and reported as failed later) or `complained`
    counted_as: str
    counted_at: str
    message: FoundMessage
    #: Of what was `reported`; null for others, and of what was removed its words are null.
    report: Report | None


class EvidenceShown(msgspec.Struct, rename="camel", kw_only=True):
    window_start: str
    window_end: str
    #: Messages that counted, and of these those that bounced; complaints.
    final: int
    bounced: int
    complaints: int
    #: Of the rate that was too high: it, and what it may be at most now.
    rate: float
    rate_max: float


class Hindrance(msgspec.Struct, rename="camel", kw_only=True):
    #: `paused`, `unverified`, `failing` (verified still, and its DNS records are wrong), `not_enrolled`, `suspended` or
    #: `no_member`
    what: str
    #: `all`, `bulk` or, of one that stops nothing yet, `nothing`
    stops: str
    since: str | None
    #: Who did it: a Unix user, or a session of the console; null: the relay itself, or nobody wrote it down then.
    by: str | None
    #: In the words of who did it.
    reason: str | None
    #: One sentence of what is so, and one of what to do.
    says: str
    fix: str
    #: DNS checks that failed last.
    failed: list[str]
    evidence: EvidenceShown | None
    #: The newest first, COUNTED_MAX at most.
    messages: list[CountedMessage]


class WhyAnswer(msgspec.Struct, rename="camel", kw_only=True):
    #: Null where a member was asked about.
    domain: str | None
    did: str | None
    #: Nothing stands in the way of mail of the transactional class; of the bulk class.
    sends_transactional: bool
    sends_bulk: bool
    hindrances: list[Hindrance]


class Hindrances:
    """A `relay.finding.Question`. `get` reads an event of the log."""

    def __init__(
        self,
        config: Config,
        get: Callable[[int], Recorded],
        *,
        domain: str | None = None,
        did: str | None = None,
    ) -> None:
        """One of the two. Of a domain that several members have enrolled, those are told of it who cannot have it."""
        assert (domain is None) != (did is None)
        self._config, self._get, self._domain, self._did = config, get, domain, did
        self._found: list[Hindrance] | None = None
        self._owner = did
        #: (what counted, message, whose messages it is shown with) that are still to be shown.
        self._to_show: list[tuple[int, int, Hindrance]] = []

    def step(self, view: Snapshot) -> bool:
        if self._found is None:
            self._found = self._of_member(view, self._did) if self._did is not None else self._of_domain(view)
            return bool(self._to_show)
        some, self._to_show = self._to_show[:_SHOWN_AT_A_TIME], self._to_show[_SHOWN_AT_A_TIME:]
        for seq, message_id, hindrance in some:
            shown = self._shown(view, seq, message_id)
            if shown is not None:
                hindrance.messages.append(shown)
        return bool(self._to_show)

    def answer(self) -> WhyAnswer:
        """When `step` has said that there is nothing more to look at."""
        found = self._found or []
        return WhyAnswer(
            domain=self._domain,
            did=self._owner,
            sends_transactional=all(each.stops != "all" for each in found),
            sends_bulk=all(each.stops == "nothing" for each in found),
            hindrances=found,
        )

    def _of_member(self, view: Snapshot, did: str | None) -> list[Hindrance]:
        member = None if did is None else members.member(view, did)
        if member is None:
            return [
                _hindrance(
                    "no_member",
                    says=f"{did} is no member of this relay.",
                    fix="Add it with `member add`, or look for its right DID with `member list`.",
                )
            ]
        if member.status != "suspended":
            return []
        recorded = self._get(member.suspended_seq)
        return [
            _hindrance(
                "suspended",
                recorded=recorded,
                says="The member is suspended: nothing of its is accepted, and what waits is held.",
                fix="`member resume` lets it send again, and what was held goes on.",
            )
        ]

    def _of_domain(self, view: Snapshot) -> list[Hindrance]:
        assert self._domain is not None
        state = members.domain(view, self._domain)
        if state is None:
            return [
                _hindrance(
                    "not_enrolled",
                    says=f"No member has {self._domain} enrolled.",
                    fix="Enrol it with `domain add`.",
                )
            ]
        self._owner = state.did
        return [*self._of_member(view, state.did), *self._of_records(state), *self._of_pause(view, state)]

    def _of_records(self, state: DomainState) -> list[Hindrance]:
        failed = f" What was wrong: {', '.join(state.failed)}." if state.failed else ""
        look = "`dns` shows the records that it needs; then `domain verify`."
        if not self._config.require_verified_domains:
            return []
        if not state.verified:
            since = state.unverified_at
            says = (
                "Its DNS records have not been right yet." if since is None else "Its DNS records were lost."
            )
            return [
                _hindrance(
                    "unverified",
                    since_us=state.added_at if since is None else since,
                    says=f"The domain is not verified, so nothing of its is accepted. {says}{failed}",
                    fix=look,
                    failed=state.failed,
                )
            ]
        if state.failing_since is not None:
            return [
                _hindrance(
                    "failing",
                    stops="nothing",
                    since_us=state.failing_since,
                    says=f"It may send still, but its DNS records are wrong, and it will lose that.{failed}",
                    fix=look,
                    failed=state.failed,
                )
            ]
        return []

    def _of_pause(self, view: Snapshot, state: DomainState) -> list[Hindrance]:
        if state.status == "active":
            return []
        recorded = self._get(state.paused_seq)
        what = "its mail" if state.stops == "all" else "its bulk mail (the transactional class goes on)"
        if state.evidence is None:
            says = f"The operator has paused {what}."
        else:
            shown = self._evidence(state)
            kind, count = (
                ("Complaints", shown.complaints)
                if _is_for_complaints(state)
                else (
                    "Bounces",
                    shown.bounced,
                )
            )
            says = (
                f"The relay has paused {what}. {kind}: {count} of {shown.final} messages, "
                f"{shown.rate:.2%}; at most {shown.rate_max:.2%} may be."
            )
        hindrance = _hindrance(
            "paused",
            stops=state.stops,
            recorded=recorded,
            says=says,
            fix="When its cause is mended, `domain resume` lets it send again; rates are counted anew from then on.",
        )
        if state.evidence is not None:
            hindrance.evidence = self._evidence(state)
            self._to_show += self._counted(view, state, state.evidence, hindrance)
        return [hindrance]

    def _evidence(self, state: DomainState) -> EvidenceShown:
        found = state.evidence
        assert found is not None
        complained, limits = _is_for_complaints(state), self._config.reputation
        count = found.complaints if complained else found.bounced
        return EvidenceShown(
            window_start=rfc3339(found.window_start),
            window_end=rfc3339(found.window_end),
            final=found.final,
            bounced=found.bounced,
            complaints=found.complaints,
            rate=count / max(1, found.final),
            rate_max=limits.complaint_rate_max if complained else limits.bounce_rate_max,
        )

    def _counted(
        self, view: Snapshot, state: DomainState, found: Evidence, hindrance: Hindrance
    ) -> list[tuple[int, int, Hindrance]]:
        counted = reputation.counted(
            view,
            state.domain,
            found.window_start,
            found.window_end,
            complaints=_is_for_complaints(state),
        )
        return [(seq, message_id, hindrance) for seq, message_id in islice(counted, COUNTED_MAX)]

    def _shown(self, view: Snapshot, seq: int, message_id: int) -> CountedMessage | None:
        state = messages.message(view, message_id)
        if state is None:
            return None
        recorded = self._get(seq)
        kinds = {"message.bounced": "bounced", "message.complained": "complained"}
        is_report = isinstance(recorded.event, MessageBounceReported)
        return CountedMessage(
            counted_as="reported" if is_report else kinds[recorded.event.TYPE],
            counted_at=rfc3339(recorded.time_us),
            message=found_message(state, self._get),
            report=report_of(recorded) if is_report else None,
        )


def _is_for_complaints(state: DomainState) -> bool:
    return state.status == "paused_complaint_rate"


def _hindrance(
    what: str,
    *,
    says: str,
    fix: str,
    stops: str = "all",
    since_us: int | None = None,
    recorded: Recorded | None = None,
    failed: tuple[str, ...] = (),
) -> Hindrance:
    """`recorded`: the event by which somebody did it."""
    event = None if recorded is None else recorded.event
    if recorded is not None:
        since_us = recorded.time_us
    return Hindrance(
        what=what,
        stops=stops,
        since=None if since_us is None else rfc3339(since_us),
        by=getattr(event, "by", None),
        reason=getattr(event, "reason", None),
        says=says,
        fix=fix,
        failed=list(failed),
        evidence=None,
        messages=[],
    )
