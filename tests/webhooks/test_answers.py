"""What an endpoint answers, and what follows from it: when it is asked again, and what is left out or disabled."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import trio

from relay.codec import Recorded
from relay.events import (
    WebhookDisabled,
    WebhookPaused,
    WebhookProgressed,
    WebhookResumed,
    WebhookSkipped,
)
from relay.views.webhooks import webhook
from spool.errors import CorruptionError
from tests.world.relay import DID, OTHER_DID, run
from tests.world.webhooks import FOR_EVER, Request, in_turn, open_teller

DAY = 24 * 3600


@pytest.mark.parametrize(
    "bad", [(500, ""), (301, "Location: https://elsewhere.example/\r\n"), (429, ""), (404, ""), FOR_EVER]
)
def test_the_next_event_waits_until_this_one_is_taken_and_its_id_stays(
    tmp_path: Path, bad: tuple[int, str] | bytes
) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add(in_turn(bad, bad, bad))
            seqs = await teller.happens(3)
            await teller.until_told(one, seqs, 600)
            assert [request.told for request in one.requests] == [[seqs[0]]] * 4 + [[seqs[1]], [seqs[2]]]
            assert len({request.id for request in one.requests}) == 3
            waited = [b.at - a.at for a, b in zip(one.requests, one.requests[1:4], strict=False)]
            hung = 20 if bad == FOR_EVER else 0
            for seconds, wanted in zip(waited, (5, 30, 120), strict=True):
                assert 0.9 * wanted <= seconds - hung <= 1.1 * wanted + 0.1
            # The attempt's time, not the event's.
            times = [int(request.headers["webhook-timestamp"]) for request in one.requests[:4]]
            assert times == sorted(set(times))

    run(main)


def test_retry_after_is_heeded_up_to_an_hour(tmp_path: Path) -> None:
    async def main() -> None:
        answers = in_turn(
            (429, "Retry-After: 77\r\n"), (503, "Retry-After: 999999\r\n"), (503, "Retry-After: x\r\n")
        )
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add(answers)
            seqs = await teller.happens()
            await teller.until_told(one, seqs, 2 * 3600)
            waited = [b.at - a.at for a, b in pairwise(one.requests)]
            assert waited[0] == pytest.approx(77, abs=0.1)
            assert waited[1] == pytest.approx(3600, abs=0.1)
            assert 108 <= waited[2] <= 132.1

    run(main)


def test_a_slow_drip_ends_with_the_time_of_a_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:

            async def drip(request: Request) -> bytes:
                await trio.sleep(19)
                return b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhi"

            one = await teller.add(drip)
            await teller.happens()
            await teller.until(lambda: len(one.requests) == 2, 60)
            assert 20 + 4.5 <= one.requests[1].at - one.requests[0].at <= 20 + 5.6
            (attempt, *_) = teller.webhooks.attempts(one.webhook_id)
            assert (attempt.http_status, attempt.error) == (None, "timeout")

    run(main)


def test_410_ends_it_at_once_and_resume_goes_on_from_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add(in_turn(204, 410))
            seqs = await teller.happens(4)
            await teller.until(lambda: bool(teller.logged(WebhookDisabled)))
            await trio.sleep(DAY)
            assert one.statuses == [204, 410]
            ((_, _, event),) = teller.logged(WebhookDisabled)
            assert isinstance(event, WebhookDisabled)
            assert (event.because, event.until_seq, event.http_status) == ("gone", seqs[0], 410)
            await teller.order(WebhookResumed(did=DID, webhook_id=one.webhook_id))
            await teller.until_told(one, seqs)
            assert one.taken == seqs

    run(main)


@pytest.mark.parametrize("bad", [400, 500])
def test_what_takes_nothing_for_five_days_is_disabled_and_nothing_is_skipped(
    tmp_path: Path, bad: int
) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add(lambda request: bad)
            seqs = await teller.happens(3)
            await teller.until(lambda: bool(teller.logged(WebhookDisabled)), 6 * DAY)
            assert 5 * DAY <= trio.current_time() <= 5 * DAY + 2 * 3600
            ((_, _, event),) = teller.logged(WebhookDisabled)
            assert isinstance(event, WebhookDisabled)
            assert (event.because, event.http_status) == ("failing", bad)
            assert not teller.logged(WebhookSkipped)
            one.answer = lambda request: 204
            await teller.order(WebhookResumed(did=DID, webhook_id=one.webhook_id))
            await teller.until_told(one, seqs)
            # One an hour, and of 4xx the one behind it, too.
            assert len(one.requests) < 5 * 24 * (2 if bad == 400 else 1) + 20

    run(main)


@pytest.mark.parametrize("batch", [1, 10])
def test_an_event_refused_for_a_day_is_skipped_when_the_one_behind_it_is_taken(
    tmp_path: Path, batch: int
) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            bad: list[int] = []
            one = await teller.add(lambda request: 422 if set(bad) & set(request.told) else 204, batch=batch)
            await teller.order(WebhookPaused(did=DID, webhook_id=one.webhook_id))
            seqs = await teller.happens(25)
            bad.append(seqs[7])
            await teller.order(WebhookResumed(did=DID, webhook_id=one.webhook_id))
            good = [seq for seq in seqs if seq not in bad]
            await trio.sleep(DAY - 60)
            assert one.taken == good[:7]
            assert not teller.logged(WebhookSkipped)
            await teller.until_told(one, good, 3 * 3600)
            assert one.taken == good
            ((_, _, event),) = teller.logged(WebhookSkipped)
            assert isinstance(event, WebhookSkipped)
            assert (event.skipped_seq, event.http_status) == (bad[0], 422)
            with teller.core.store.read() as view:
                state = webhook(view, one.webhook_id)
            assert state is not None
            assert state.cursor >= bad[0]

    run(main)


def test_that_an_event_is_skipped_is_in_the_log_before_that_its_webhook_is_past_it(tmp_path: Path) -> None:
    """Else a relay that is killed in between has left one out, and nobody would ever know."""

    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            turns, asked = teller.core.store._turns, trio.Event()
            bad: list[int] = []

            async def answer(request: Request) -> int | tuple[int, str]:
                if request.told == bad:
                    return 422, "Retry-After: 50\r\n"
                # It takes 15 s, and somebody else is about to decide something when it has its answer, as is whoever
                # writes how far it has got: 60 s after the refusal.
                asked.set()
                await trio.sleep(5)
                await turns.acquire(None)
                await trio.sleep(10)
                return 204

            one = await teller.add(answer)
            seqs = await teller.happens(2)
            bad.append(seqs[0])
            await asked.wait()
            await trio.sleep(20)
            turns.release()
            await teller.until_told(one, [seqs[1]], 5)
            await trio.sleep(120)
            ((skipped, _, _),) = teller.logged(WebhookSkipped)
            past = [seq for seq, _, event in teller.logged(WebhookProgressed) if event.until_seq >= bad[0]]
            assert past
            assert skipped < min(past)

    run(main)


def test_of_the_moment_nothing_is_skipped(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            answers = [408, 425, 429, 503, 302]
            bad: list[int] = []

            def answer(request: Request) -> int:
                if request.told != bad:
                    return 204
                answers.append(answers.pop(0))
                return answers[-1]

            one = await teller.add(answer)
            seqs = await teller.happens(2)
            bad.append(seqs[0])
            await trio.sleep(3 * DAY)
            assert one.taken == []
            bad.clear()
            await teller.until_told(one, seqs, 2 * 3600)

    run(main)


def test_a_batch_that_failed_comes_again_as_it_was_although_there_is_more_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add(in_turn(500), batch=10)
            first = await teller.happens(3)
            await teller.until(lambda: len(one.requests) == 1)
            more = await teller.happens(4)
            await teller.until_told(one, first + more)
            assert [request.told for request in one.requests] == [first, first, more]

    run(main)


def test_what_cannot_be_read_is_neither_left_out_nor_the_end_of_the_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one, other = await teller.add(), await teller.add(did=OTHER_DID)
            bad: list[int] = []
            get = teller.core.store.get

            def sometimes(seq: int) -> Recorded:
                if seq in bad:
                    raise CorruptionError(
                        file="s", offset=0, seq=seq, part="payload", problem="a flipped bit"
                    )
                return get(seq)

            monkeypatch.setattr(teller.core.store, "get", sometimes)
            bad.append(teller.core.store.last_seq + 2)
            seqs = await teller.happens(3)
            theirs = await teller.happens(did=OTHER_DID)
            await teller.until_told(other, theirs)
            await trio.sleep(3600)
            assert seqs[1] not in one.taken
            bad.clear()
            await teller.until_told(one, seqs, 700)

    run(main)


def test_the_metric_says_how_late_the_latest_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:

            def behind() -> float:
                families = {family.name: family for family in teller.core.metrics.families()}
                return float(families["atmos_webhooks_behind_seconds"].samples[0].value)

            one = await teller.add()
            await teller.happens()
            await trio.sleep(100)
            assert behind() == 0
            one.answer = lambda request: 500
            await teller.happens()
            await trio.sleep(100)
            await teller.happens()
            assert 99 < behind() < 101

    run(main)
