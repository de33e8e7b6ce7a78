"""`/metrics` of several processes is one page: sums, and what becomes of who does not answer or has ended."""

from __future__ import annotations

import msgspec
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from relay.metrics import EdgeMetrics
from relay.metrics_page import ANSWER_SECONDS_MAX, Family, MetricsPage
from tests.world.relay import run

REFUSED = "atmos_sends_refused_total"
STREAMS = "atmos_streams_open"
EXPIRES = "atmos_tls_certificate_expires_seconds"


class Worker:
    """Another process, which answers when it is let."""

    def __init__(self, page: MetricsPage, name: str, *, answers: bool = True) -> None:
        self.metrics = EdgeMetrics()
        self.answers = answers
        self.times_asked = 0
        self._page, self._name = page, name
        page.add(name, self._ask)

    def answer(self) -> None:
        travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(self.metrics.families()), type=list[Family])
        self._page.told(self._name, travelled)

    def _ask(self) -> None:
        self.times_asked += 1
        if self.answers:
            trio.lowlevel.spawn_system_task(self._answer_later)

    async def _answer_later(self) -> None:
        await trio.sleep(0.1)
        self.answer()


def samples(text: bytes) -> dict[str, float]:
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_counters_and_gauges_are_added_up_and_a_certificate_expires_with_the_first() -> None:
    async def main() -> None:
        own = EdgeMetrics()
        page = MetricsPage(own.families)
        one, other = Worker(page, "edge 1"), Worker(page, "edge 2")
        for metrics, count in ((own.refused, 1), (one.metrics.refused, 10), (other.metrics.refused, 100)):
            metrics.labels("RATE_LIMITED").inc(count)
        other.metrics.refused.labels("QUEUE_FULL").inc()
        one.metrics.streams.set_function(lambda: 3)
        other.metrics.streams.set(4)
        assert samples(await page.text())[EXPIRES] == 0
        one.metrics.certificate_expires.set(2000)
        other.metrics.certificate_expires.set(1000)
        text = await page.text()
        found = samples(text)
        assert (found[REFUSED + "RATE_LIMITED"], found[REFUSED + "QUEUE_FULL"]) == (111, 1)
        assert (found[STREAMS], found[EXPIRES]) == (7, 1000)
        assert text.count(b"# TYPE " + REFUSED.encode()) == 1
        assert samples(page.own_text())[REFUSED + "RATE_LIMITED"] == 1

    run(main)


def test_nobody_is_waited_for_longer_than_a_second_and_no_counter_goes_back() -> None:
    async def main() -> None:
        unanswered: list[int] = []
        page = MetricsPage(EdgeMetrics().families, unanswered.append)
        good, stuck = Worker(page, "edge 1"), Worker(page, "edge 2")
        for worker in (good, stuck):
            worker.metrics.refused.labels("X").inc(10)
            worker.metrics.streams.set(5)
        assert samples(await page.text())[REFUSED + "X"] == 20
        assert unanswered == []

        stuck.answers = False
        good.metrics.refused.labels("X").inc()
        stuck.metrics.refused.labels("X").inc()
        before = trio.current_time()
        for _ in range(2):
            found = samples(await page.text())
            assert (found[REFUSED + "X"], found[STREAMS]) == (21, 5)
        assert trio.current_time() - before == 2 * ANSWER_SECONDS_MAX
        assert unanswered == [1, 1]
        assert stuck.times_asked == 2, "it is not asked again before it has answered"

        # Late is better than never.
        stuck.answer()
        found = samples(await page.text())
        assert (found[REFUSED + "X"], found[STREAMS]) == (22, 5)
        stuck.answer()
        stuck.answers = True
        assert samples(await page.text())[STREAMS] == 10

        page.lose("edge 2")
        found = samples(await page.text())
        assert (found[REFUSED + "X"], found[STREAMS]) == (22, 5)
        again = Worker(page, "edge 2")
        again.metrics.refused.labels("X").inc()
        found = samples(await page.text())
        assert found[REFUSED + "X"] == 23

    run(main)


def test_who_is_lost_while_it_is_asked_keeps_nobody_waiting() -> None:
    async def main() -> None:
        unanswered: list[int] = []
        page = MetricsPage(EdgeMetrics().families, unanswered.append)
        Worker(page, "edge 1", answers=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(page.text)
            await trio.testing.wait_all_tasks_blocked()
            before = trio.current_time()
            page.lose("edge 1")
        assert trio.current_time() == before
        assert unanswered == []

    run(main)
