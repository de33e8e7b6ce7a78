"""What somebody asks for while events are told: some of them again, and a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
import trio.testing

from relay.events import WebhookPaused, WebhookProgressed, WebhookResumed, WebhookRewound
from relay.principals import Operator
from relay.refusals import Refusal
from relay.webhooks import orders
from relay.webhooks.attempts import WebhookAttempt
from relay.webhooks.shown import UnderWay
from tests.world.relay import DID, run
from tests.world.webhooks import FOR_EVER, open_teller


def test_a_replay_comes_before_what_is_new_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add()
            seqs = await teller.happens(6)
            await teller.until_told(one, seqs)
            await teller.order(WebhookPaused(did=DID, webhook_id=one.webhook_id))
            seqs += await teller.happens(2)
            await teller.order(
                WebhookRewound(did=DID, webhook_id=one.webhook_id, after_seq=seqs[1], until_seq=seqs[4])
            )
            await teller.order(WebhookResumed(did=DID, webhook_id=one.webhook_id))
            await teller.until_told(one, seqs[2:5] + seqs[6:])
            assert one.taken == seqs[:6] + seqs[2:5] + seqs[6:]
            again = one.requests[6:9]
            assert [request.headers.get("atmos-replay") for request in one.requests] == [None] * 6 + [
                "true"
            ] * 3 + [None] * 2
            assert [request.id for request in again] == [request.id for request in one.requests[2:5]]
            assert [request.body for request in again] == [request.body for request in one.requests[2:5]]

    run(main)


def test_what_was_told_a_moment_ago_is_told_again_as_well(tmp_path: Path) -> None:
    """How far it has got is written once a minute."""

    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add()
            seqs = await teller.happens(5)
            await teller.until_told(one, seqs)
            assert not teller.logged(WebhookProgressed)
            ordered = await orders.replay(
                teller.core, Operator("root"), one.webhook_id, after_seq=seqs[1], until_seq=None
            )
            assert ordered.replay == UnderWay(from_=seqs[1], to=seqs[4])
            await teller.until(lambda: len(one.taken) == 8)
            assert one.taken == seqs + seqs[2:]

    run(main)


def test_a_test_has_the_time_of_any_request_and_more_than_four_at_a_time_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            hanging = [await teller.add(lambda request: FOR_EVER) for _ in range(5)]
            begun = trio.current_time()
            attempts: list[WebhookAttempt] = []

            async def test(webhook_id: str) -> None:
                attempts.append(await teller.webhooks.test(webhook_id))

            async with trio.open_nursery() as nursery:
                for one in hanging[:4]:
                    nursery.start_soon(test, one.webhook_id)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(Refusal, match="other webhooks are being tested") as refused:
                    await teller.webhooks.test(hanging[4].webhook_id)
                assert refused.value.code == "TEMPORARILY_UNAVAILABLE"
            assert {(attempt.http_status, attempt.error) for attempt in attempts} == {(None, "timeout")}
            assert trio.current_time() - begun == pytest.approx(20, abs=0.5)

    run(main)


def test_a_test_that_waited_for_its_turn_is_not_sent_where_another_machine_may_act_by_then(
    tmp_path: Path,
) -> None:
    async def slowly(_: object) -> int:
        await trio.sleep(2)
        return 204

    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            slow, last = [await teller.add(slowly) for _ in range(4)], await teller.add()

            async def test_last() -> None:
                with pytest.raises(Refusal, match="try again"):
                    await teller.webhooks.test(last.webhook_id)

            async with trio.open_nursery() as nursery:
                for one in slow:
                    nursery.start_soon(teller.webhooks.test, one.webhook_id)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(test_last)
                await trio.testing.wait_all_tasks_blocked()
                teller.core.before_acting = trio.sleep_forever
            assert last.requests == []

    run(main)


def test_a_test_comes_at_once_and_moves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add(lambda request: 500 if len(one.requests) == 1 else 204)
            (seq,) = await teller.happens()
            await trio.sleep(1)
            one_test = await teller.webhooks.test(one.webhook_id)
            assert (one_test.is_test, one_test.http_status, one_test.first_seq) == (True, 204, None)
            assert json.loads(one.requests[1].body)["type"] == "webhook.test"
            assert "atmos-cursor" not in one.requests[1].headers
            assert one.requests[0].told == [seq]
            assert len(one.requests) == 2

    run(main)


def test_a_test_waits_as_long_for_its_answer_as_other_requests_do(tmp_path: Path) -> None:
    async def slowly(_: object) -> int:
        await trio.sleep(15)
        return 204

    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add(slowly)
            assert (await teller.webhooks.test(one.webhook_id)).http_status == 204
            one.answer = lambda _: FOR_EVER
            assert (await teller.webhooks.test(one.webhook_id)).error == "timeout"

    run(main)
