"""Which messages? Newest first, by whatever is known of them.

`Search` goes through the narrowest index that the question names (recipient, MX host, tag, class, status, member), and
looks at each message's state for the rest. Members are few, so what has an index of its own for each member is found by
asking for each of them: that is bounded by the number of members times the number of rows wanted. A From address stands
in the log alone; messages of its domain are looked at, and of each the log.

After ROWS_MAX rows the search ends, whatever it has found; `answer().next` goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from heapq import heappush, heappushpop
from typing import Final

import msgspec

from relay.codec import Recorded
from relay.dids import is_valid_did
from relay.events import NOBODY, MessageQueued, SendAccepted
from relay.fields import address_in, domain_in, since_in, until_in
from relay.presentation import MessageSummary, message_summary
from relay.providers import PROVIDERS
from relay.refusals import invalid
from relay.requests import tag_in
from relay.times import rfc3339_or_none
from relay.views import members, messages, receivers
from relay.views.messages import MessageState
from spool.views import Snapshot

#: Of one answer.
LIMIT_MAX: Final = 1_000
#: So many rows are looked at for one answer: a fifth of a second's work, in steps. Of a member's own, a fifth.
ROWS_MAX: Final = 100_000
ROWS_OF_MEMBER_MAX: Final = 20_000
#: Where many members are asked after, each is looked into so far at least.
_ROWS_OF_ONE_MIN: Final = 200
#: Of one step: a few milliseconds.
_ROWS_OF_STEP: Final = 500
#: What costs as much as so many rows: to begin with another member, and to look into the log.
_ROWS_FOR_A_SOURCE, _ROWS_FOR_THE_LOG = 10, 40
#: Shown in one step.
_SHOWN_AT_A_TIME: Final = 8
_CLASS = re.compile(r"[a-z_]{1,40}")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Messages for which all that is given holds. In normal form: `wanted_in` makes it of what somebody wrote."""

    #: A bare address: the recipient's; of the From field.
    recipient: str | None = None
    sender: str | None = None
    #: Sending domain.
    domain: str | None = None
    did: str | None = None
    #: A word of `relay.views.messages.STATUSES`.
    status: str | None = None
    #: Of its last failure, a word of `relay.delivery.bounce_classes`; also of one that was reported later.
    bounce_class: str | None = None
    #: A word of `relay.providers`: whose receivers were last asked.
    provider: str | None = None
    #: A host that it was tried at.
    mx: str | None = None
    category: str | None = None
    tag: str | None = None
    #: Accepted in [since, until).
    since_us: int | None = None
    until_us: int | None = None


class FoundMessage(MessageSummary, rename="camel", kw_only=True):
    """What lists show of a message, and what the operator asks for besides."""

    did: str
    #: Sending domain.
    domain: str
    #: When it became final; null: it waits.
    final_at: str | None
    #: Whose receivers were last asked, in a word of `relay.providers`; null: nobody's, or not known.
    provider: str | None
    #: Of its last failure, one word of docs/BOUNCE_CLASSES.md; null: there was none.
    bounce_class: str | None


class FindAnswer(msgspec.Struct, rename="camel"):
    messages: list[FoundMessage]
    #: What to give as `after` for those that follow; null: there are none.
    next: str | None
    #: With `next`, where fewer than wanted were found among the rows that one answer may look at: all that was accepted
    #: since then was looked at, and `next` goes on from there.
    looked_back_to: str | None


def wanted_in(
    now_us: int,
    *,
    recipient: str | None = None,
    sender: str | None = None,
    domain: str | None = None,
    did: str | None = None,
    status: str | None = None,
    bounce_class: str | None = None,
    provider: str | None = None,
    mx: str | None = None,
    category: str | None = None,
    tag: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Wanted:
    """What somebody wrote, in normal form. Raises Refusal(INVALID_REQUEST), which names the field."""
    if did is not None and not is_valid_did(did):
        raise invalid("did", "is no DID")
    if status is not None and status not in messages.STATUSES:
        raise invalid("status", f"expected one of {', '.join(messages.STATUSES)}")
    if bounce_class is not None and not _CLASS.fullmatch(bounce_class):
        raise invalid("class", "expected a word of docs/BOUNCE_CLASSES.md")
    if provider is not None and provider not in PROVIDERS:
        raise invalid("provider", f"expected one of {', '.join(PROVIDERS)}")
    if mx is not None and not 1 <= len(mx) <= 300:
        raise invalid("mx", "expected the name of a host")
    if tag is not None:
        tag_in(tag)
    return Wanted(
        recipient=None if recipient is None else address_in("recipient", recipient),
        sender=None if sender is None else address_in("from", sender),
        domain=None if domain is None else domain_in("domain", domain),
        did=did,
        status=status,
        bounce_class=bounce_class,
        provider=provider,
        mx=mx,
        category=category,
        tag=tag,
        since_us=None if since is None else since_in("since", since, now_us),
        until_us=None if until is None else until_in("until", until, now_us),
    )


class Search:
    """A `relay.finding.Question`. `get` reads an event of the log."""

    def __init__(
        self,
        wanted: Wanted,
        get: Callable[[int], Recorded],
        *,
        limit: int = 50,
        after: int | None = None,
        rows_max: int = ROWS_MAX,
    ) -> None:
        """Raises Refusal(INVALID_REQUEST)."""
        if not 1 <= limit <= LIMIT_MAX:
            raise invalid("limit", f"expected a number from 1 to {LIMIT_MAX}")
        if after is not None and not 1 <= after < 2**53:
            raise invalid("after", "expected the `next` of an answer")
        self._wanted, self._get, self._limit, self._rows_max = wanted, get, limit, rows_max
        #: Its From address is below the domain that it was sent for.
        self._domain = wanted.domain or (wanted.sender and wanted.sender.rpartition("@")[2])
        words = (self._domain, wanted.did, wanted.status, wanted.bounce_class, wanted.provider)
        #: What stands in the state of each message that is wanted.
        self._words = [word.encode() for word in (*words, wanted.category, wanted.tag) if word]
        self._before = after
        #: Ids from here on are wanted.
        self._first = 0
        #: Whose messages are still to be looked at, the last first; None: everybody's at once. Before the first step
        #: nobody knows.
        self._sources: list[str | None] | None = None
        self._rows_of_source = rows_max
        #: Of the source that is looked at: where to go on, and how many rows were.
        self._at: int | None = None
        self._looked_at = 0
        #: The newest that were found, one more than wanted, the oldest first.
        self._found: list[int] = []
        #: All from this id on were looked at, in every source.
        self._looked_back_to = 0
        self._shown: list[FoundMessage] = []
        self._looked_back_us: int | None = None

    def step(self, view: Snapshot) -> bool:
        if self._sources is None:
            self._sources = self._begin(view)
            return True
        budget = _ROWS_OF_STEP
        while self._sources and budget > 0:
            budget -= self._look(view, self._sources[-1], budget)
        if self._sources:
            return True
        return self._show(view)

    def _begin(self, view: Snapshot) -> list[str | None]:
        wanted = self._wanted
        if wanted.since_us is not None:
            self._first = messages.first_accepted_from(view, wanted.since_us)
        if wanted.until_us is not None:
            end = messages.first_accepted_from(view, wanted.until_us)
            self._before = end if self._before is None else min(end, self._before)
        self._at = self._before
        sources = self._sources_of(view)
        self._rows_of_source = max(self._rows_max // max(1, len(sources)), _ROWS_OF_ONE_MIN)
        return sources

    def _sources_of(self, view: Snapshot) -> list[str | None]:
        wanted = self._wanted
        if wanted.did is not None:
            return [wanted.did]
        if any((wanted.recipient, wanted.bounce_class, wanted.tag)) or (wanted.status and not wanted.mx):
            return [NOBODY, *members.dids(view)]
        if self._domain is not None and not wanted.mx:
            # Whoever had the name before is found by their DID.
            return [state.did for state in members.enrolments(view, self._domain)] or [None]
        return [None]

    def _rows(self, view: Snapshot, source: str | None) -> Iterator[tuple[int, MessageState | None]]:
        """Ids of messages of this source, newest first, with the state of those that may fit."""
        wanted = self._wanted
        by_host = wanted.mx is not None and not wanted.recipient
        if source is None and not by_host:
            return messages.all_with(view, self._words, before=self._at)
        if wanted.mx is not None and by_host:
            ids = receivers.tried_at(view, wanted.mx, before=self._at)
        else:
            assert source is not None
            ids = messages.ids_of(
                view,
                source,
                status=wanted.status,
                recipient=wanted.recipient,
                tag=wanted.tag,
                bounce_class=wanted.bounce_class,
                before=self._at,
            )
        return ((each, messages.message_with(view, each, self._words)) for each in ids)

    def _look(self, view: Snapshot, source: str | None, budget: int) -> int:
        """At some rows of this source, the last of those that are left; what that cost."""
        cost = _ROWS_FOR_A_SOURCE
        for message_id, state in self._rows(view, source):
            is_full = len(self._found) > self._limit
            if message_id < self._first or (is_full and message_id < self._found[0]):
                break
            if self._looked_at >= self._rows_of_source:
                # What others have that is older is for the next answer.
                self._looked_back_to = max(self._looked_back_to, message_id + 1)
                break
            if cost >= budget:
                return cost
            self._at = message_id
            row_cost = 1 if state is None else self._row(view, state)
            cost += row_cost
            self._looked_at += row_cost
        assert self._sources is not None
        self._sources.pop()
        self._at, self._looked_at = self._before, 0
        return cost

    def _row(self, view: Snapshot, state: MessageState) -> int:
        if not self._fits(view, state):
            return 1
        wanted = self._wanted
        if wanted.sender is None or self._sender_of(state) == wanted.sender:
            add = heappushpop if len(self._found) > self._limit else heappush
            add(self._found, state.message_id)
        return 1 if wanted.sender is None else 1 + _ROWS_FOR_THE_LOG

    def _fits(self, view: Snapshot, state: MessageState) -> bool:
        wanted = self._wanted
        return (
            (wanted.did is None or state.did == wanted.did)
            and (wanted.domain is None or state.domain == wanted.domain)
            and (wanted.status is None or state.status == wanted.status)
            and (wanted.bounce_class is None or state.bounce_class == wanted.bounce_class)
            and (wanted.provider is None or state.provider == wanted.provider)
            and (wanted.category is None or state.category == wanted.category)
            and (wanted.tag is None or state.tag == wanted.tag)
            and (wanted.sender is None or state.domain == wanted.sender.rpartition("@")[2])
            and (wanted.mx is None or receivers.was_tried_at(view, wanted.mx, state.message_id))
            and (wanted.recipient is None or messages.is_to(view, state.message_id, wanted.recipient))
        )

    def _sender_of(self, state: MessageState) -> str | None:
        queued = self._get(state.message_id).event
        if not isinstance(queued, MessageQueued):
            return None
        if queued.personal is not None and queued.personal.heading is not None:
            return queued.personal.heading.from_address
        accepted = self._get(state.send_seq).event
        assert isinstance(accepted, SendAccepted)
        return None if accepted.personal is None else accepted.personal.from_address

    def _show(self, view: Snapshot) -> bool:
        ids = self._ids_shown()
        for message_id in ids[len(self._shown) : len(self._shown) + _SHOWN_AT_A_TIME]:
            state = messages.message(view, message_id)
            assert state is not None
            self._shown.append(found_message(state, self._get))
        if len(self._shown) < len(ids):
            return True
        if self._looked_back_to and len(ids) < self._limit:
            state = next(messages.states_from(view, self._looked_back_to), None)
            self._looked_back_us = None if state is None else state.accepted_at
        return False

    def _ids_shown(self) -> list[int]:
        newest = sorted((each for each in self._found if each >= self._looked_back_to), reverse=True)
        return newest[: self._limit]

    def answer(self) -> FindAnswer:
        """When `step` has said that there is nothing more to look at."""
        more = sum(1 for each in self._found if each >= self._looked_back_to) > self._limit
        following = str(self._shown[-1].message_id) if more else None
        if not more and self._looked_back_to:
            following = str(self._looked_back_to)
        return FindAnswer(self._shown, following, rfc3339_or_none(None if more else self._looked_back_us))


def found_message(state: MessageState, get: Callable[[int], Recorded]) -> FoundMessage:
    summary = message_summary(state, get)
    return FoundMessage(
        **{name: getattr(summary, name) for name in summary.__struct_fields__},
        did=state.did,
        domain=state.domain,
        final_at=rfc3339_or_none(state.final_at),
        provider=state.provider,
        bounce_class=state.bounce_class,
    )
