"""What a search finds, compared with a look at every message; in pages, however few rows an answer may look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.characters import comparable
from relay.codec import Recorded, decode
from relay.events import MessageQueued, Outcome
from relay.finding.search import LIMIT_MAX, FindAnswer, Search, Wanted, wanted_in
from relay.refusals import Refusal
from relay.views import messages
from spool.views import Snapshot
from tests.world.drafts import DIDS, domain_of
from tests.world.folding import STORY, address_of, queued_of
from tests.world.histories import HOSTS, RECIPIENTS, histories, repeatable
from tests.world.history_views import START_US, History, fold, records_of


def asked(view: Snapshot, history: History, wanted: Wanted, **bounds: Any) -> FindAnswer:
    log = records_of(history)

    def get(seq: int) -> Recorded:
        return decode(log[seq - 1])

    search = Search(wanted, get, **bounds)
    steps = 0
    while search.step(view):
        steps += 1
        assert steps < 1_000
    return search.answer()


def pages(view: Snapshot, history: History, wanted: Wanted, **bounds: Any) -> Iterator[list[int]]:
    after = None
    while True:
        answer = asked(view, history, wanted, after=after, **bounds)
        yield [each.message_id for each in answer.messages]
        if answer.next is None:
            return
        assert after is None or int(answer.next) < after, "it goes on"
        after = int(answer.next)


def fits(view: Snapshot, history: History, message_id: int, wanted: Wanted) -> bool:
    queued = queued_of(history)[message_id]
    state = messages.message(view, message_id)
    assert state is not None
    hosts = {
        event.personal.mx
        for event in history
        if isinstance(event, Outcome) and event.message_id == message_id and event.personal is not None
    }
    is_mail = isinstance(queued, MessageQueued)
    return all(
        (
            wanted.recipient is None or comparable(address_of(queued)) == comparable(wanted.recipient),
            wanted.did is None or queued.did == wanted.did,
            wanted.domain is None or queued.domain == wanted.domain,
            wanted.status is None or state.status == wanted.status,
            wanted.bounce_class is None or state.bounce_class == wanted.bounce_class,
            wanted.provider is None or state.provider == wanted.provider,
            # The relay's own mail is counted at no receiver.
            wanted.mx is None or (is_mail and wanted.mx in hosts),
            wanted.tag is None or state.tag == wanted.tag,
            wanted.sender is None or (is_mail and wanted.sender == "x@d.example"),
            wanted.since_us is None or state.accepted_at >= wanted.since_us,
            wanted.until_us is None or state.accepted_at < wanted.until_us,
        )
    )


def perhaps(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, None, *values])


@repeatable
@given(
    histories(),
    st.builds(
        Wanted,
        recipient=perhaps(*RECIPIENTS),
        domain=perhaps(*map(domain_of, DIDS)),
        did=perhaps(*DIDS),
        status=perhaps(*messages.STATUSES),
        bounce_class=perhaps("invalid_recipient", "mailbox_full"),
        provider=perhaps("google", "other"),
        mx=perhaps(*HOSTS),
        tag=perhaps("spring.2026"),
        since_us=perhaps(START_US + 10),
        until_us=perhaps(START_US + 20),
    ),
    st.sampled_from([1, 2, 50]),
    st.sampled_from([1, 200_000]),
)
def test_it_finds_what_a_look_at_every_message_finds(
    history: History, wanted: Wanted, limit: int, rows_max: int
) -> None:
    with fold(history) as view:
        expected = [each for each in queued_of(history) if fits(view, history, each, wanted)]
        found = list(pages(view, history, wanted, limit=limit, rows_max=rows_max))
    assert [each for page in found for each in page] == expected[::-1]
    assert all(len(page) <= limit for page in found)


@pytest.mark.parametrize(
    "given",
    [
        {"did": "no did"},
        {"status": "lost"},
        {"bounce_class": "A" * 600},
        {"bounce_class": "a" * 600},
        {"provider": "goggle"},
        {"mx": "m" * 600},
        {"tag": "\0"},
        {"recipient": "nobody"},
        {"sender": "A <a@example.com>, b@example.com"},
        {"domain": "-"},
        {"since": "soon"},
        {"until": "2026-02-30"},
    ],
)
def test_what_nobody_can_mean_is_refused_by_its_name(given: dict[str, str]) -> None:
    with pytest.raises(Refusal) as refused:
        wanted_in(START_US, **given)
    (name,) = given
    assert str(refused.value).startswith({"bounce_class": "class", "sender": "from"}.get(name, name))


@pytest.mark.parametrize("bounds", [{"limit": 0}, {"limit": LIMIT_MAX + 1}, {"after": 0}, {"after": 2**53}])
def test_an_answer_has_a_bound(bounds: dict[str, int]) -> None:
    with pytest.raises(Refusal):
        Search(Wanted(), lambda seq: pytest.fail("nothing is read"), **bounds)


def test_one_answer_looks_at_so_many_rows_and_says_where_it_stopped() -> None:
    history: History = [*STORY[:2], *STORY[2:4] * 250]
    wanted = Wanted(did=DIDS[0], provider="google")
    with fold(history) as view:
        answer = asked(view, history, wanted, rows_max=1)
        # Message 502 is the newest, and each second number is one.
        assert (answer.messages, answer.next) == ([], "103")
        assert answer.looked_back_to is not None
        assert list(pages(view, history, wanted, rows_max=1)) == [[], []]
