"""Members' own unsubscribe URLs are called, again where that failed, for 24 hours, and nowhere that is not public."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.codec import Recorded
from relay.decisions.retry import JITTER
from relay.events import (
    MemberAdded,
    RecipientSuppressed,
    SuppressedRecipient,
    UnsubscribeCalled,
)
from relay.internet.https import FetchError
from relay.unsubscribe_calls import (
    CONCURRENT_MAX,
    DELAYS_SECONDS,
    GIVE_UP_SECONDS,
)
from tests.world.relay import DID, run
from tests.world.unsubscribe_calls import (
    ADDRESS,
    URL,
    called,
    click,
    error_of,
    open_caller,
    until_settled,
)

SECOND = 1_000_000


class FakePost:
    """Answers with what it is given, the last for ever: a status, or what went wrong."""

    def __init__(self, *answers: int | FetchError) -> None:
        self.answers = list(answers)
        self.urls: list[str] = []

    async def __call__(self, url: str) -> int:
        self.urls.append(url)
        await trio.lowlevel.checkpoint()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, FetchError):
            raise answer
        return answer


# ------------------------------------------------------------------------------------------------ the schedule


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_a_url_that_answers_2xx_is_called_once(tmp_path: Path, status: int) -> None:
    async def main() -> None:
        post = FakePost(status)
        async with open_caller(tmp_path / "data", post) as core:
            seq = await click(core)
            (recorded,) = await until_settled(core)
            event = recorded.event
            assert post.urls == [URL]
            assert event == UnsubscribeCalled(
                did=DID, suppressed_seq=seq, message_id=seq - 1, attempt=1, status=status
            )

    run(main)


def test_what_failed_is_tried_again_until_it_is_heard(tmp_path: Path) -> None:
    async def main() -> None:
        post = FakePost(503, FetchError("member.example hung up"), 404, 200)
        async with open_caller(tmp_path / "data", post) as core:
            await click(core)
            made = await until_settled(core)
            events: list[Any] = [recorded.event for recorded in made]
            assert [event.attempt for event in events] == [1, 2, 3, 4]
            assert [event.status for event in events] == [503, None, 404, 200]
            assert [error_of(event) for event in events] == [
                "the server answered 503",
                "member.example hung up",
                "the server answered 404",
                None,
            ]
            for before, after in pairwise(made):
                assert isinstance(before.event, UnsubscribeCalled)
                assert before.event.next_attempt_at is not None
                assert after.time_us >= before.event.next_attempt_at
            assert events[-1].next_attempt_at is None
            assert post.urls == [URL] * 4

    run(main)


def test_it_is_given_up_after_24_hours(tmp_path: Path) -> None:
    async def main() -> None:
        post = FakePost(500)
        async with open_caller(tmp_path / "data", post) as core:
            seq = await click(core)
            clicked = core.store.get(seq).time_us
            made = await until_settled(core)
            events: list[Any] = [recorded.event for recorded in made]
            delays = [*DELAYS_SECONDS, *[DELAYS_SECONDS[-1]] * len(made)]
            for recorded, delay in zip(made[:-1], delays, strict=False):
                assert isinstance(recorded.event, UnsubscribeCalled)
                assert recorded.event.next_attempt_at is not None
                waits = (recorded.event.next_attempt_at - recorded.time_us) / SECOND
                assert waits == pytest.approx(delay, rel=JITTER + 0.001)
            assert [event.next_attempt_at is None for event in events] == [False] * (len(made) - 1) + [True]
            hours = (made[-1].time_us - clicked) / SECOND / 3600
            # Not sooner than the next try would have been too late.
            assert 24 - 6 * (1 + JITTER) < hours <= 24
            assert GIVE_UP_SECONDS == 24 * 3600

    run(main)


def test_a_redirect_is_not_followed_and_counts_as_a_failure(tmp_path: Path) -> None:
    async def main() -> None:
        post = FakePost(302, 200)
        async with open_caller(tmp_path / "data", post) as core:
            await click(core)
            first, second = await until_settled(core)
            assert error_of(first.event) == "the server answered 302; redirects are not followed"
            assert post.urls == [URL, URL]
            assert error_of(second.event) is None

    run(main)


def test_where_the_url_was_removed_by_retention_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        post = FakePost(500)
        async with open_caller(tmp_path / "data", post) as core:
            await click(core)
            await wait_all_tasks_blocked()
            whole = core.store.get

            def stripped(seq: int) -> Recorded:
                recorded = whole(seq)
                return recorded._replace(event=msgspec.structs.replace(recorded.event, personal=None))

            monkeypatch.setattr(core.store, "get", stripped)
            await until_settled(core)
            monkeypatch.undo()
            _, last = called(core)
            assert error_of(last.event) == "the URL was removed with the message's content"
            assert len(post.urls) == 1

    run(main)


def test_many_calls_are_made_at_once_but_not_more_than_the_bound(tmp_path: Path) -> None:
    async def main() -> None:
        under_way = most = 0
        answered = trio.Event()

        async def post(url: str) -> int:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await answered.wait()
            under_way -= 1
            return 200

        async with open_caller(tmp_path / "data", post) as core:
            total = 3 * CONCURRENT_MAX
            for number in range(total):
                await click(core, address=f"r{number}@example.com")
            await wait_all_tasks_blocked()
            assert under_way == CONCURRENT_MAX
            answered.set()
            assert len(await until_settled(core)) == total
            assert most == CONCURRENT_MAX

    run(main)


def test_a_call_that_hangs_delays_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async def post(url: str) -> int:
            if url.endswith("hang"):
                await trio.sleep_forever()
            return 200

        async with open_caller(tmp_path / "data", post) as core:
            await click(core, "https://member.example/hang", "a@example.com")
            second = await click(core, address="b@example.com")
            await wait_all_tasks_blocked()
            assert [recorded.event.suppressed_seq for recorded in called(core)] == [second]  # type: ignore[attr-defined]

    run(main)


def test_a_call_cut_short_by_a_stop_is_made_again_at_the_next_start(tmp_path: Path) -> None:
    async def main() -> None:
        entered = trio.Event()

        async def hang(url: str) -> int:
            entered.set()
            await trio.sleep_forever()
            raise AssertionError

        async with open_caller(tmp_path / "data", hang) as core:
            await click(core)
            await entered.wait()
        post = FakePost(200)
        async with open_caller(tmp_path / "data", post) as core:
            (recorded,) = await until_settled(core)
            assert isinstance(recorded.event, UnsubscribeCalled)
            assert (recorded.event.attempt, post.urls) == (1, [URL])

    run(main)


def test_a_try_that_is_due_while_the_relay_is_down_is_made_when_it_is_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_caller(tmp_path / "data", FakePost(500)) as core:
            await click(core)
            await wait_all_tasks_blocked()
            assert len(called(core)) == 1
        await trio.sleep(3600)
        async with open_caller(tmp_path / "data", FakePost(200)) as core:
            assert len(await until_settled(core)) == 2

    run(main)


def test_who_gave_no_url_is_not_called(tmp_path: Path) -> None:
    async def main() -> None:
        post = FakePost(200)
        async with open_caller(tmp_path / "data", post) as core:
            await core.store.append(
                [
                    MemberAdded(did=DID),
                    RecipientSuppressed(
                        did=DID, reason="manual", personal=SuppressedRecipient(address=ADDRESS)
                    ),
                ]
            )
            await trio.sleep(24 * 3600)
            assert (post.urls, called(core)) == ([], [])

    run(main)
