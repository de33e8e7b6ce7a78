"""A thousand endpoints, of which half are dead: nobody else's events are late for that."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from relay.codec import Recorded
from relay.events import WebhookRemoved
from relay.webhooks.places import HUNG_SECONDS, PLACES_MAX
from tests.world.relay import run
from tests.world.webhooks import FOR_EVER, HOST, Endpoint, Teller, members, open_teller, takes

ENDPOINTS = 1000
EVENTS = 3
#: What an answer takes.
SECONDS = 0.2


async def slowly(_: object) -> int:
    await trio.sleep(SECONDS)
    return 204


async def _told(teller: Teller, good: list[Endpoint], dids: list[str]) -> float:
    """How long it takes until all the good ones have their events."""
    began = trio.current_time()
    before = len(good[0].taken)
    for did in dids:
        await teller.happens(EVENTS, did=did)
    await teller.until(lambda: all(len(one.taken) == before + EVENTS for one in good), 100)
    return trio.current_time() - began


@pytest.mark.timeout(300)
def test_dead_endpoints_slow_nobody(tmp_path: Path) -> None:
    async def main(dead: bool) -> tuple[float, float]:
        dids = members(ENDPOINTS)
        allow = [f"{did} {HOST}:80" for did in dids]
        async with open_teller(tmp_path / f"data{dead}", allow=allow) as teller:
            every = [await teller.add(slowly, did=did, scheme="http") for did in dids]
            good = every[::2]
            for one in every[1::2]:
                one.answer = (lambda _: FOR_EVER) if dead else takes
            if not dead:
                dids = dids[::2]
            first = await _told(teller, good, dids)
            # Those that are dead are known now, and some of them are always being tried.
            await trio.sleep(60)
            then = await _told(teller, good, dids)
            assert teller.receiver.most_under_way <= 64
            for one in good:
                assert one.taken == sorted(one.taken)
            return first, then

    took: dict[bool, tuple[float, float]] = {}

    async def both() -> None:
        for dead in (False, True):
            took[dead] = await main(dead)

    run(both)
    (_, alone), (at_first, beside_dead) = took[False], took[True]
    assert beside_dead <= 1.1 * alone
    # Before anybody can know it, they may be late by that, once.
    assert at_first <= alone + 60


def test_connections_rest_for_a_while_and_then_are_closed(tmp_path: Path) -> None:
    async def main() -> None:
        dids = members(300)
        async with open_teller(tmp_path / "data", allow=[f"{did} {HOST}:80" for did in dids]) as teller:
            for did in dids:
                await teller.add(did=did, scheme="http")
            for did in dids:
                await teller.happens(did=did)
            await trio.sleep(1)
            assert 200 < teller.receiver.open <= 256
            await trio.sleep(31)
            assert teller.receiver.open == 0

    run(main)


def test_one_member_has_eight_requests_under_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            every = [await teller.add(slowly) for _ in range(10)]
            seqs = await teller.happens(2)
            await teller.until(lambda: all(one.taken == seqs for one in every))
            assert teller.receiver.most_under_way == 8

    run(main)


def test_one_is_removed_at_the_moment_at_which_it_would_lose_its_place(tmp_path: Path) -> None:
    """The task looks whose request is to be ended, before the turn of one that was just removed has ended."""

    async def main() -> None:
        *dids, last = members(PLACES_MAX + 1)
        async with open_teller(
            tmp_path / "data", allow=[f"{did} {HOST}:80" for did in (*dids, last)]
        ) as teller:
            new = await teller.add(did=last, scheme="http")
            for did in dids:
                await teller.add(lambda _: FOR_EVER, did=did, scheme="http")
                await teller.happens(did=did)
            await teller.until(lambda: teller.receiver.under_way.total() == PLACES_MAX)
            await trio.sleep(HUNG_SECONDS)
            webhooks = teller.webhooks
            async with trio.open_nursery() as nursery:
                webhooks._want(webhooks._known[new.webhook_id])
                loses = webhooks._known[webhooks._places.surplus(trio.current_time()) or ""].endpoint
                removed = WebhookRemoved(did=loses.did, webhook_id=loses.webhook_id)
                webhooks._observe([Recorded(teller.core.store.last_seq, 0, removed)])
                webhooks._begin_what_may(nursery)
            (seq,) = await teller.happens(did=last)
            await teller.until_told(new, [seq])

    run(main)
