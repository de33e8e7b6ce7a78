"""Streams of several edges: the core counts them, tickets go from one to the other, and what edges hear is never too
much and never too little."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.codec import Recorded
from relay.config_doors import HttpConfig
from relay.console_links import SESSION_SECONDS
from relay.console_logins import LeaveConsole, RedeemConsoleLink, VouchedFor
from relay.edge import Edge
from relay.events import KeyRevoked, MemberSuspended
from relay.news import NAMES_MAX, Heard, News
from relay.principals import Principal, Stranger
from relay.refusals import Refusal
from relay.stream_places import TICKET_SECONDS, HeldPlaces, StreamPlaces, TicketUse
from relay.streams import Streams
from relay.times import SECOND_US
from tests.world.another_edge import another_edge
from tests.world.relay import DID, OTHER_DID, OTHER_DOMAIN, World, open_world, run
from tests.world.stream import Closed, Refused, open_stream
from tests.world.streaming import nothing_comes

# ------------------------------------------------------------------------------------------------ places


async def refused(held: HeldPlaces, did: str, ticket: TicketUse | None = None) -> str:
    with pytest.raises(Refusal) as refusal:
        await held.take(did, ticket)
    return refusal.value.code


def test_the_bounds_are_those_of_all_edges_together_and_a_lost_one_frees_what_it_held() -> None:
    async def main() -> None:
        limits = HttpConfig(streams_max=5, streams_per_member_max=3)
        places = StreamPlaces(lambda: limits, lambda: 0)
        one, other = places.held(), places.held()
        for held in (one, other, one):
            await held.take("did:a", None)
        assert await refused(other, "did:a") == "RATE_LIMITED"
        await one.take("did:b", None)
        await one.take("did:c", None)
        assert await refused(other, "did:d") == "TEMPORARILY_UNAVAILABLE"
        assert places.count == 5

        other.leave("did:b")  # which it does not hold
        assert places.count == 5
        one.leave("did:a")
        assert ("did:a" in one, "did:a" in other, places.count) == (True, True, 4)
        await other.take("did:d", None)

        one.lose()
        assert places.count == 2
        assert "did:a" not in one
        # What it had asked for before, and what it had given back.
        assert await refused(one, "did:a") == "TEMPORARILY_UNAVAILABLE"
        one.leave("did:a")
        assert places.count == 2
        for _ in range(2):
            await other.take("did:a", None)
        assert await refused(other, "did:a") == "RATE_LIMITED"
        other.lose()
        assert places.count == 0
        for _ in range(3):
            await places.held().take("did:a", None)

    trio.run(main)


def test_a_ticket_is_used_once_even_by_an_attempt_and_even_when_the_clock_is_set_back() -> None:
    async def main() -> None:
        now_us = 1000 * SECOND_US
        places = StreamPlaces(lambda: HttpConfig(streams_per_member_max=1), lambda: now_us)
        one, other = places.held(), places.held()
        end = now_us + TICKET_SECONDS * SECOND_US
        first, second, third = (TicketUse(bytes([number]) * 16, end) for number in range(3))
        await one.take("did:a", first)
        assert await refused(other, "did:b", first) == "AUTH_FAILED"
        assert await refused(other, "did:a", second) == "RATE_LIMITED"
        one.leave("did:a")
        assert await refused(other, "did:a", second) == "AUTH_FAILED"
        now_us = end - 1
        await other.take("did:a", third)
        other.leave("did:a")
        now_us = end + TICKET_SECONDS * SECOND_US + 1
        late = TicketUse(b"l" * 16, now_us)
        assert await refused(one, "did:a", late) == "AUTH_FAILED"
        assert not places._used & {first.nonce, second.nonce}, "it remembers for no longer than it has to"
        now_us = 1000 * SECOND_US
        for ticket in (first, second, third, late):
            assert await refused(one, "did:a", ticket) == "AUTH_FAILED"

    trio.run(main)


def test_a_ticket_of_one_edge_opens_a_stream_at_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, another_edge(world) as edge:
            _, answer, _ = await world.request("POST", "/v1/stream/ticket")
            ticket = answer["ticket"]
            async with open_stream(world, edge=edge.edge, credentials={}, ticket=ticket, cursor=0) as stream:
                assert (await stream.next())["type"] == "member.added"
            for used_again_at in (world.core.edge, edge.edge):
                with pytest.raises(Refused) as refusal:
                    async with open_stream(world, edge=used_again_at, credentials={}, ticket=ticket):
                        pass
                assert refusal.value.answer["code"] == "AUTH_FAILED"
            await wait_all_tasks_blocked()
            assert world.core.stream_places.count == 0

    run(main)


# ------------------------------------------------------------------------------------------------ news


def test_a_stream_at_another_edge_gets_all_events_and_ends_with_its_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, another_edge(world) as edge:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            issued = await world.command("key_issue", did=DID)
            by_second = {**world.credentials, "Authorization": f"Bearer {issued['apiKey']}"}
            async with AsyncExitStack() as stack:
                streams = [
                    await stack.enter_async_context(open_stream(world, edge=edge.edge, credentials=who))
                    for who in (world.credentials, by_second, other)
                ]
                await wait_all_tasks_blocked()
                await world.until_final(await world.send())
                for stream in streams[:2]:
                    seen = [event["type"] for event in await stream.take(3)]
                    assert seen == ["message.queued", "attempt.started", "message.sent"]
                await nothing_comes(streams[2])
                told = edge.told
                await world.enrol("did:plc:cccccccccccccccccccccccc", "third.example")
                await wait_all_tasks_blocked()
                assert edge.told == told, "it hears of nobody who has no stream there"

                # While it does not hear, events come together.
                edge.news_pass.shut()
                for _ in range(5):
                    await world.until_final(await world.send())
                await world.command("key_revoke", did=DID, key_id=issued["keyId"])
                await wait_all_tasks_blocked()
                edge.news_pass.open()
                assert len(await streams[0].take(15)) == 15
                assert edge.told <= told + 2
                with pytest.raises(Closed) as closed:
                    while True:
                        await streams[1].next()
                assert closed.value.code == 1008

    run(main)


async def _revoke(world: World) -> None:
    (key,) = (event.key_id for event in world.events() if event.TYPE == "key.issued" and event.did == DID)
    await world.command("key_revoke", did=DID, key_id=key)


@pytest.mark.parametrize("by_ticket", [False, True])
def test_a_key_that_is_revoked_while_a_place_is_asked_for_opens_nothing(
    tmp_path: Path, by_ticket: bool
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, another_edge(world) as edge:
            how: dict[str, Any] = {}
            if by_ticket:
                _, answer, _ = await world.request("POST", "/v1/stream/ticket")
                how = {"credentials": {}, "ticket": answer["ticket"]}
            edge.answers_pass.shut()
            code = None

            async def open_it() -> None:
                nonlocal code
                with pytest.raises(Refused) as refusal:
                    async with open_stream(world, edge=edge.edge, **how):
                        pass
                code = refusal.value.answer["code"]

            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_it)
                await wait_all_tasks_blocked()
                assert DID in edge.held
                await _revoke(world)
                # It has heard of it, and had no stream to end.
                await wait_all_tasks_blocked()
                assert edge.told == 1
                edge.answers_pass.open()
            assert code == "AUTH_FAILED"
            assert (world.core.stream_places.count, edge.streams.count) == (0, 0)

    run(main)


def test_what_happens_while_a_place_is_asked_for_is_seen(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, another_edge(world) as edge:
            before = world.core.store.last_seq
            edge.answers_pass.shut()
            async with trio.open_nursery() as nursery:

                async def open_it() -> None:
                    async with open_stream(world, edge=edge.edge, cursor=before) as stream:
                        assert (await stream.next())["type"] == "message.queued"

                nursery.start_soon(open_it)
                await wait_all_tasks_blocked()
                await world.send()
                await wait_all_tasks_blocked()
                edge.answers_pass.open()

    run(main)


def test_whoever_leaves_while_asking_and_an_edge_that_is_lost_leave_no_place_taken(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, another_edge(world) as edge:
            edge.answers_pass.shut()
            with trio.CancelScope() as gone:
                async with trio.open_nursery() as nursery:

                    async def open_it() -> None:
                        async with open_stream(world, edge=edge.edge):
                            raise AssertionError("it was gone before")

                    nursery.start_soon(open_it)
                    await wait_all_tasks_blocked()
                    assert world.core.stream_places.count == 1
                    gone.cancel()
                    edge.answers_pass.open()
            assert world.core.stream_places.count == 0
            async with open_stream(world, edge=edge.edge), open_stream(world):
                assert world.core.stream_places.count == 2
                edge.held.lose()
                assert world.core.stream_places.count == 1
            assert world.core.stream_places.count == 0

    run(main)


@pytest.mark.parametrize("end", [Streams.stop, Streams.send_away])
def test_an_edge_that_sends_its_readers_away_opens_no_stream_that_it_had_asked_for(
    tmp_path: Path, end: Callable[[Streams], None]
) -> None:
    async def main() -> None:
        async with (
            open_world(tmp_path / "data") as world,
            another_edge(world) as edge,
            open_stream(world, edge=edge.edge) as stream,
        ):
            edge.answers_pass.shut()
            async with trio.open_nursery() as nursery:

                async def open_it() -> None:
                    with pytest.raises(Refused) as refusal:
                        async with open_stream(world, edge=edge.edge):
                            pass
                    assert refusal.value.status == 503

                nursery.start_soon(open_it)
                await wait_all_tasks_blocked()
                end(edge.streams)
                edge.answers_pass.open()
            with pytest.raises(Closed) as closed:
                await stream.next()
            assert closed.value.code == 1001

    run(main)


def _recorded(*events: Any) -> list[Recorded]:
    return [Recorded(number, 0, event) for number, event in enumerate(events, 1)]


def test_news_are_told_once_and_not_lost_by_who_gives_up_waiting() -> None:
    async def main() -> None:
        listening = {"did:a", "did:b", "did:c"}
        news = News(listening)
        with trio.move_on_after(1) as patience:
            await news.next()
        assert patience.cancelled_caught
        suspended = [MemberSuspended(did=did, reason="x") for did in ("did:b", "did:a", "did:z")]
        news.observe(_recorded(*suspended, *suspended, KeyRevoked(did="did:c", key_id="k1")))
        news.observe(_recorded(KeyRevoked(did="did:z", key_id="k2")))
        with trio.CancelScope() as scope:
            scope.cancel()
            await news.next()
        assert scope.cancelled_caught
        assert await news.next() == Heard(("did:b", "did:a"), (("did:c", "k1"),))

        heard: list[Heard] = []

        async def wait() -> None:
            heard.append(await news.next())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            news.observe(_recorded(*suspended))
            nursery.cancel_scope.cancel()  # at the same moment
        if not heard:
            with trio.fail_after(1):
                await wait()
        assert heard == [Heard(("did:b", "did:a"))]
        with trio.move_on_after(1) as patience:
            await news.next()
        assert patience.cancelled_caught

    run(main)


def test_too_many_names_are_everybody() -> None:
    class Everybody(frozenset[str]):
        def __contains__(self, did: object) -> bool:
            return True

    async def main() -> None:
        news = News(Everybody())
        for count in (NAMES_MAX, NAMES_MAX + 1, 3 * NAMES_MAX):
            for number in range(count):
                did = f"did:{number}"
                news.observe(
                    _recorded(
                        MemberSuspended(did=did, reason="x"),
                        KeyRevoked(did=did, key_id="k"),
                    )
                )
            heard = await news.next()
            if count == NAMES_MAX:
                assert heard.dids is not None
                assert heard.revoked is not None
                assert len(heard.dids) == len(heard.revoked) == NAMES_MAX
            else:
                assert heard == Heard(None, None)

    run(main)


def test_everybody_and_all_keys_mean_the_same_and_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, another_edge(world) as edge:
            issued = await world.command("key_issue", did=DID)
            by_second = {**world.credentials, "Authorization": f"Bearer {issued['apiKey']}"}
            async with (
                open_stream(world, edge=edge.edge) as good,
                open_stream(world, edge=edge.edge, credentials=by_second) as bad,
            ):
                edge.news_pass.shut()
                await world.command("key_revoke", did=DID, key_id=issued["keyId"])
                await world.send()
                for stream in (good, bad):
                    await nothing_comes(stream)
                edge.streams.hear(Heard(None, None))
                assert (await good.next())["type"] == "message.queued"
                with pytest.raises(Closed) as closed:
                    await bad.next()
                assert closed.value.code == 1008

    run(main)


# ------------------------------------------------------------------------------------------------ sessions


async def vouched_for(world: World) -> Principal:
    """A member's session in the console by a link of the operator's."""
    url = str((await world.command("console_login", did=DID))["url"])
    found: VouchedFor = await world.core.decide(
        "redeem_console_link", RedeemConsoleLink(token=url.partition("?link=")[2]), Stranger()
    )
    return Principal(found.did, found.key_id, found.scope)


def ticket_of(edge: Edge, session: Principal) -> dict[str, Any]:
    ticket, _ = edge.streams.issue_ticket(session, edge.store.now_us())
    return {"edge": edge, "credentials": {}, "ticket": ticket}


@pytest.mark.parametrize("is_cores", [True, False])
def test_what_a_session_by_a_link_has_opened_ends_with_it(tmp_path: Path, is_cores: bool) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, another_edge(world) as another:
            edge = world.core.edge if is_cores else another.edge
            session, other = await vouched_for(world), await vouched_for(world)
            unused = ticket_of(edge, session)
            async with (
                open_stream(world, **ticket_of(edge, session)) as stream,
                open_stream(world, **ticket_of(edge, other)) as others,
                open_stream(world, edge=edge) as by_key,
            ):
                await wait_all_tasks_blocked()
                await world.core.decide("leave_console", LeaveConsole(), session)
                with pytest.raises(Closed, match="session that opened this stream is over"):
                    await stream.next()
                with pytest.raises(Refused) as refusal:
                    async with open_stream(world, **unused):
                        pass
                assert refusal.value.answer["code"] == "AUTH_FAILED"
                await nothing_comes(others)
                # And after its twelve hours, whether anything happens or not.
                await trio.sleep(SESSION_SECONDS)
                with pytest.raises(Closed, match="session that opened this stream is over"):
                    await others.next()
                await nothing_comes(by_key)

    run(main)


def test_a_session_that_ends_while_its_place_is_on_the_way_opens_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, another_edge(world) as edge:
            session = await vouched_for(world)
            asked = ticket_of(edge.edge, session)
            edge.answers_pass.shut()
            async with trio.open_nursery() as nursery:

                async def open_it() -> None:
                    with pytest.raises(Refused):
                        async with open_stream(world, **asked):
                            pass

                nursery.start_soon(open_it)
                await wait_all_tasks_blocked()
                await world.core.decide("leave_console", LeaveConsole(), session)
                await wait_all_tasks_blocked()
                edge.answers_pass.open()
            assert world.core.stream_places.count == 0

    run(main)
