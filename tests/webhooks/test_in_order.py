"""An endpoint is told of events in the order of the log, each at least once, and no gap is silent."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import trio

from relay.events import (
    NOBODY,
    WebhookPaused,
    WebhookProgressed,
    WebhookResumed,
)
from tests.world.relay import DID, OTHER_DID, run
from tests.world.webhooks import Receiver, in_turn, open_teller

DAY = 24 * 3600


def test_each_event_comes_as_it_stands_in_the_stream_over_one_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            await teller.happens()
            one, other = await teller.add(), await teller.add(did=OTHER_DID)
            seqs = await teller.happens(20)
            (theirs,) = await teller.happens(did=OTHER_DID)
            await teller.until_told(one, seqs)
            await teller.until_told(other, [theirs])
            assert one.taken == seqs
            assert teller.receiver.connections == 2
            for request, seq in zip(one.requests, seqs, strict=True):
                assert request.id == f"{one.webhook_id}.{seq}"
                assert request.headers["atmos-cursor"] == str(seq)
                assert "atmos-replay" not in request.headers
                body = json.loads(request.body)
                assert body["type"] == body["data"]["type"] == "recipient.suppressed"
                assert body["timestamp"] == body["data"]["time"]
                assert body["data"]["recipient"] == "friend@example.com"

    run(main)


def test_a_batch_brings_many_and_says_where_it_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add(in_turn(500), batch=10)
            await teller.order(WebhookPaused(did=DID, webhook_id=one.webhook_id))
            seqs = await teller.happens(25)
            await teller.order(WebhookResumed(did=DID, webhook_id=one.webhook_id))
            await teller.until(lambda: len(one.requests) == 1)
            seqs += await teller.happens(5)
            await teller.until_told(one, seqs)
            assert one.taken == seqs
            first, *rest = one.requests
            # What failed comes again as it was, also where there is more meanwhile.
            assert first.told == rest[0].told == seqs[:10]
            assert [len(request.told) for request in rest] == [10, 10, 10]
            for request in one.requests:
                body = json.loads(request.body)
                assert body["type"] == "batch"
                assert body["data"]["cursor"] == request.told[-1]
                assert request.id == f"{one.webhook_id}.{request.told[-1]}"

    run(main)


def test_what_it_did_not_ask_for_is_not_told_and_moves_its_place_without_an_event(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add(types=["recipient.unsuppressed"])
            last = (await teller.happens(3000))[-1]
            await trio.sleep(300)
            assert one.requests == []
            assert not teller.logged(WebhookProgressed)
            assert teller.core.store.last_seq == last
        assert teller.core.store.last_seq == last

    run(main)


def test_the_operators_webhook_is_told_of_everybodys_events_and_whose_they_are(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            seqs = await teller.happens(5000, did=OTHER_DID)
            one = await teller.add(did=NOBODY, cursor=0, batch=100)
            await teller.until(lambda: len(one.taken) == len(seqs))
            seqs += await teller.happens(3)
            seqs += await teller.happens(3, did=OTHER_DID)
            await teller.until(lambda: len(one.taken) == len(seqs))
            assert one.taken == seqs
            events = [
                event for request in one.requests for event in json.loads(request.body)["data"]["events"]
            ]
            assert [event["did"] for event in events] == [OTHER_DID] * 5000 + [DID] * 3 + [OTHER_DID] * 3

    run(main)


def test_a_busy_endpoint_adds_one_event_a_minute_and_an_idle_one_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            busy, idle = await teller.add(), await teller.add(did=OTHER_DID)
            seqs = []
            for _ in range(1200):
                seqs += await teller.happens()
                await trio.sleep(0.5)
            written = teller.logged(WebhookProgressed)
            assert 9 <= len(written) <= 10
            assert all(b.time_us - a.time_us >= 60_000_000 for a, b in pairwise(written))
            await trio.sleep(3600)
            assert len(teller.logged(WebhookProgressed)) <= 11
            assert {recorded.event.webhook_id for recorded in teller.logged(WebhookProgressed)} == {
                busy.webhook_id
            }
            assert idle.requests == []
            await teller.happens()
            await trio.sleep(1)
            assert busy.taken[:-1] == seqs
            unwritten = len(teller.logged(WebhookProgressed))
            teller.webhooks.stop()
            await teller.webhooks.ended.wait()
            # At the stop, what was unwritten.
            assert len(teller.logged(WebhookProgressed)) == unwritten + 1

    run(main)


def test_after_a_stop_nothing_is_told_twice_and_after_a_kill_the_last_minute_is(tmp_path: Path) -> None:
    async def main() -> None:
        receiver = Receiver()
        async with open_teller(tmp_path / "data", receiver) as teller:
            one = await teller.add()
            seqs = await teller.happens(5)
            await teller.until_told(one, seqs)
        async with open_teller(tmp_path / "data", receiver, in_order=False) as teller:
            more = await teller.happens(3)
            await teller.until_told(one, more)
            assert one.taken == seqs + more
            await trio.sleep(61)
            last = await teller.happens(2)
            await teller.until_told(one, last)
        async with open_teller(tmp_path / "data", receiver) as teller:
            await trio.sleep(1)
            assert one.taken == seqs + more + last + last
            ids = [request.id for request in one.requests]
            assert ids[-2:] == ids[-4:-2]

    run(main)


def test_what_others_wrote_while_it_started_is_told_too(tmp_path: Path) -> None:
    async def main() -> None:
        receiver = Receiver()
        async with open_teller(tmp_path / "data", receiver) as teller:
            every = [await teller.add(did=NOBODY), await teller.add()]
            last = (await teller.happens())[-1]
            await teller.until_told(every[0], [last])
        async with open_teller(tmp_path / "data", receiver, meanwhile=3) as teller:
            await teller.happens(2)
            await teller.until(lambda: all(len(one.taken) == 6 for one in every))
            streamed = [
                seq
                for seq in range(last, teller.core.store.last_seq + 1)
                if teller.core.store.get(seq).event.STREAMED
            ]
            assert every[0].taken == every[1].taken == streamed

    run(main)
