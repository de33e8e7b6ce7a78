"""Members' own unsubscribe URLs are called, again where that failed, for 24 hours, and nowhere that is not public."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from relay.codec import Recorded
from relay.core import Core, open_core
from relay.decisions.retry import JITTER
from relay.events import (
    Content,
    Event,
    MemberAdded,
    MessageQueued,
    Recipient,
    RecipientSuppressed,
    SendAccepted,
    SuppressedRecipient,
    UnsubscribeCalled,
)
from relay.internet.https import FetchError
from relay.surroundings import Surroundings
from relay.unsubscribe_calls import (
    BODY,
    CONCURRENT_MAX,
    DELAYS_SECONDS,
    GIVE_UP_SECONDS,
    Post,
    call_members,
    one_click_post,
)
from relay.views import calls
from tests.world.dns import FakeDns
from tests.world.https import Authority, Outside, Stream, open_https_server, serve_https
from tests.world.one_click import delivered, one_click
from tests.world.relay import DID, DOMAIN, call_here, make_directory, open_world, run, virtual_clock

URL = "https://member.example/off?u=1"
HOST = "member.example"
PUBLIC = "93.184.215.14"
ADDRESS = "friend@example.com"
AUTHORITY = Authority()
SERVER = AUTHORITY.certificate(HOST)
OpenStream = Callable[[str, int], Awaitable[Stream]]
SECOND = 1_000_000


@asynccontextmanager
async def open_caller(
    directory: Path,
    post: Post | None = None,
    *,
    addresses: tuple[str, ...] = (PUBLIC,),
    open_stream: OpenStream = trio.open_tcp_stream,
) -> AsyncIterator[Core]:
    """A relay without its edges, in which nothing runs but the caller. Without `post`, it speaks real HTTPS to HOST,
    which has these addresses."""
    if not directory.exists():
        make_directory(directory)
    world = Surroundings(
        clock=virtual_clock,
        offload=call_here,
        open_stream=open_stream,
        resolver=FakeDns(addresses={HOST: list(addresses)}),
        tls=AUTHORITY.trust,
        dice=random.Random(0),
    )
    async with open_core(directory, world) as core, trio.open_nursery() as nursery:
        await nursery.start(call_members, core, post or one_click_post(world))
        yield core
        nursery.cancel_scope.cancel()


async def click(core: Core, url: str | None = URL, address: str = ADDRESS) -> int:
    """A mail with the member's own URL, and its recipient's click. Returns the click's sequence number."""
    now = core.store.now_us()
    send = SendAccepted(
        did=DID,
        domain=DOMAIN,
        category="bulk",
        recipients=1,
        key_id="k",
        selector_stem="s",
        operator_domain="relay.example",
        operator_stem="s",
        message_id_entropy="e",
        personal=Content(from_address=f"you@{DOMAIN}", subject="Hi", text="Hi", unsubscribe_url=url),
    )
    queued = MessageQueued(
        did=DID,
        domain=DOMAIN,
        category="bulk",
        index=1,
        next_attempt_at=now,
        give_up_at=now,
        personal=Recipient(given=address, address=address),
    )
    _, message = await core.store.append([send, queued])
    (suppressed,) = await core.store.append(
        [
            RecipientSuppressed(
                did=DID,
                reason="unsubscribe",
                message_id=message.seq,
                call_at=core.store.now_us(),
                personal=SuppressedRecipient(address=address),
            )
        ]
    )
    return suppressed.seq


def called(core: Core) -> list[Recorded]:
    every = [core.store.get(seq) for seq in range(1, core.store.last_seq + 1)]
    return [recorded for recorded in every if isinstance(recorded.event, UnsubscribeCalled)]


def error_of(event: Event) -> str | None:
    assert isinstance(event, UnsubscribeCalled)
    return None if event.personal is None else event.personal.error


def waiting(core: Core) -> int:
    with core.store.read() as view:
        return len(list(calls.calls(view)))


async def until_settled(core: Core) -> list[Recorded]:
    """The calls made, when none is waiting any more."""
    while waiting(core):
        news = trio.Event()

        def observe(recorded: Sequence[Recorded], news: trio.Event = news) -> None:
            news.set()

        core.store.observers.append(observe)
        await news.wait()
        core.store.observers.remove(observe)
    return called(core)


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


# ------------------------------------------------------------------------------------------------ over TLS


def answering(status: str, requests: list[bytes]) -> Callable[[Stream, bytes], Awaitable[None]]:
    async def handle(stream: Stream, request: bytes) -> None:
        requests.append(request)
        head = f"HTTP/1.1 {status}\r\nLocation: https://{HOST}/elsewhere\r\nContent-Length: 5\r\n\r\n"
        await stream.send_all(head.encode() + b"hello")

    return handle


def test_the_member_hears_what_rfc_8058_says_over_real_https(tmp_path: Path) -> None:
    async def main() -> None:
        requests: list[bytes] = []
        async with open_https_server(SERVER, answering("200 OK", requests)) as port:
            outside = Outside(port)
            async with open_caller(tmp_path / "data", open_stream=outside.open_stream) as core:
                await click(core)
                (recorded,) = await until_settled(core)
        assert isinstance(recorded.event, UnsubscribeCalled)
        assert (recorded.event.status, error_of(recorded.event)) == (200, None)
        assert outside.connected == [(PUBLIC, 443)]
        (request,) = requests
        head, _, body = request.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /off?u=1 HTTP/1.1"
        assert b"content-type: application/x-www-form-urlencoded" in [line.lower() for line in lines]
        assert body == BODY == b"List-Unsubscribe=One-Click"
        # Nothing of whose click it was, beyond what the member put into its URL.
        assert ADDRESS.encode() not in request

    trio.run(main)  # real sockets: a clock that jumps would not wait for them


class Inside:
    """HTTPS in memory, on a clock that jumps."""

    def __init__(self, nursery: trio.Nursery, status: str) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._nursery = nursery
        self._handle = answering(status, self.requests)

    async def open_stream(self, address: str, port: int) -> Stream:
        self.connections += 1
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(serve_https, theirs, SERVER, self._handle)
        return ours


def test_a_real_redirect_leads_nowhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            inside = Inside(nursery, "307 Temporary Redirect")
            async with open_caller(tmp_path / "data", open_stream=inside.open_stream) as core:
                await click(core)
                made = await until_settled(core)
            assert len(made) > 5
            assert {error_of(recorded.event) for recorded in made} == {
                "the server answered 307; redirects are not followed"
            }
            assert {request.partition(b" HTTP/1.1\r\n")[0] for request in inside.requests} == {
                b"POST /off?u=1"
            }

    run(main)


@pytest.mark.parametrize("private", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1"])
def test_an_address_that_is_not_public_is_never_connected_to_and_that_is_recorded(
    tmp_path: Path, private: str
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            inside = Inside(nursery, "200 OK")
            addresses = (PUBLIC, private)
            async with open_caller(
                tmp_path / "data", addresses=addresses, open_stream=inside.open_stream
            ) as core:
                await click(core)
                made = await until_settled(core)
            assert inside.connections == 0
            for recorded in made:
                assert isinstance(recorded.event, UnsubscribeCalled)
                assert recorded.event.status is None
                assert private in (error_of(recorded.event) or "")

    run(main)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://localhost/",
        "https://nowhere.example/",
        "https://a:b@c.example/",
    ],
)
def test_a_url_that_is_not_to_be_called_is_recorded_and_given_up_in_the_end(tmp_path: Path, url: str) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            inside = Inside(nursery, "200 OK")
            async with open_caller(tmp_path / "data", open_stream=inside.open_stream) as core:
                await click(core, url)
                made = await until_settled(core)
            assert inside.connections == 0
            assert all(error_of(recorded.event) for recorded in made)

    run(main)


def test_a_server_that_never_answers_is_left_after_a_bounded_time(tmp_path: Path) -> None:
    async def main() -> None:
        silent: list[Stream] = []

        async def open_stream(address: str, port: int) -> Stream:
            ours, theirs = memory_stream_pair()
            silent.append(theirs)
            return ours

        async with open_caller(tmp_path / "data", open_stream=open_stream) as core:
            await click(core)
            made = await until_settled(core)
            assert error_of(made[0].event) == f"{HOST} did not answer within 20 seconds"

    run(main)


def test_in_a_whole_relay_a_click_has_the_member_called(tmp_path: Path) -> None:
    """From the mail that was delivered to the event of the call; nobody may be called at this address."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            world.dns.addresses[HOST] = ["127.0.0.1"]
            _, path = await delivered(world, headers={"List-Unsubscribe": f"<{URL}>"})
            assert (await one_click(world, path)).status == 200
            first, *_ = await until_settled(world.core)
            assert "127.0.0.1" in (error_of(first.event) or "")

    run(main)
