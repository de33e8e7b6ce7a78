"""What a webhook promises to whoever listens, as a checker of the log and of what came. Pure.

Of each endpoint, by its requests (`tests.world.webhook_listener`) and the log:
  1  what is new comes in the log's order: its member's events, of the types that it asked for, behind its cursor, each
     of them, one request after the other. After one that was not taken comes the same again. Only the tail may come
     twice: where the relay began a new life, or where it was ordered to stop or go on, and then nothing up to the last
     `webhook.progressed` that the log had
  2  nothing is left out that no `webhook.skipped` names. That names an event which the endpoint has answered with 4xx,
     when it came alone, and SKIP_SECONDS after the first time the event behind it was taken
  3  a replay brings what its `webhook.rewound` says: from there, in order, until there
  4  where it is asked for (`whole_until`), everything up to that event has come and was taken
  5  nothing comes once the log says that it is paused, removed or disabled, but what was on its way
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from relay.codec import Recorded
from relay.events import (
    NOBODY,
    WebhookAdded,
    WebhookDisabled,
    WebhookPaused,
    WebhookProgressed,
    WebhookRemoved,
    WebhookResumed,
    WebhookRewound,
    WebhookSkipped,
)
from tests.world.webhook_listener import Endpoint, Knock

#: For how long an event is refused before it is left out.
SKIP_SECONDS = 24 * 3600.0
#: What answers say that the event itself is not wanted.
NOT_OF_THE_EVENT = (408, 410, 425, 429)


class _Rewound(NamedTuple):
    seq: int
    after_seq: int
    until_seq: int


def is_refusal(status: int) -> bool:
    return 400 <= status < 500 and status not in NOT_OF_THE_EVENT


class _Span(NamedTuple):
    """Of the log, in which an endpoint may be told things."""

    begin: int
    end: int | None


def broken_webhook_promises(
    log: Sequence[Recorded],
    endpoint: Endpoint,
    *,
    whole_until: int | None = None,
    on_its_way: int = 0,
    clock_us: int = 0,
    only_whole: bool = False,
) -> list[str]:
    """`on_its_way`: so many events may come into the log before an order that is in it has stopped what was about to
    go. `clock_us`: by so much the relay's clock was set, in all, so that its days may be shorter. `only_whole`: only
    what is missing yet."""
    judge = _Judge(log, endpoint, on_its_way, SKIP_SECONDS - clock_us / 1e6)
    judge.judge(whole_until)
    return judge.missing if only_whole else judge.found + judge.missing


class _Judge:
    def __init__(
        self, log: Sequence[Recorded], endpoint: Endpoint, on_its_way: int, skip_seconds: float
    ) -> None:
        self.endpoint = endpoint
        self.found: list[str] = []
        #: What it should have been told, and was not.
        self.missing: list[str] = []
        self._on_its_way = on_its_way
        self._skip_seconds = skip_seconds
        own = [item for item in log if getattr(item.event, "webhook_id", None) == endpoint.webhook_id]
        self._added = next(item.event for item in own if isinstance(item.event, WebhookAdded))
        self._progress = [
            (item.seq, item.event.until_seq) for item in own if isinstance(item.event, WebhookProgressed)
        ]
        self._skipped = {
            item.event.skipped_seq: item.seq for item in own if isinstance(item.event, WebhookSkipped)
        }
        self._rewound = [
            _Rewound(item.seq, item.event.after_seq, item.event.until_seq)
            for item in own
            if isinstance(item.event, WebhookRewound)
        ]
        #: Replay -> how many of its events were taken.
        self._replayed: dict[int, int] = {}
        self._orders = [
            item.seq
            for item in own
            if isinstance(item.event, WebhookPaused | WebhookResumed | WebhookDisabled | WebhookRewound)
        ]
        self._silences = _silences(own)
        self._types = {item.seq: item.event.TYPE for item in log}
        #: All that it may be told of, and what of that is new to it.
        self._told_of = self._listed(log)
        self.expected = [seq for seq in self._told_of if seq > self._added.cursor]
        #: Index of the next new event.
        self._next = 0
        #: Event -> when it was refused first, since nothing but refusals came.
        self._refused: dict[int, float] = {}

    def _listed(self, log: Sequence[Recorded]) -> list[int]:
        added = self._added
        return [
            item.seq
            for item in log
            if item.event.STREAMED
            and (getattr(item.event, "did", NOBODY) == added.did if added.did else _is_of_a_member(item))
            and (not added.types or item.event.TYPE in added.types)
        ]

    def judge(self, whole_until: int | None) -> None:
        before: Knock | None = None
        before_replay: Knock | None = None
        for knock in self.endpoint.knocks:
            if not knock.seqs:
                self._break(knock, "it brings nothing")
                continue
            if any(
                begin + self._on_its_way < knock.log_seq and (end is None or knock.log_seq < end)
                for begin, end in self._silences
            ):
                self._break(knock, "it is to be told nothing")
            if knock.is_replay:
                self._see_replay(knock, before_replay)
                before_replay = knock
            else:
                self._see_new(knock, before)
                before = knock
        self._judge_skipped()
        if whole_until is not None:
            self._judge_replay()
            owed = self.expected[self._next : bisect_right(self.expected, whole_until)]
            left = [seq for seq in owed if seq not in self._skipped]
            if left:
                self.missing.append(f"{self.endpoint.webhook_id} was never told {left[:10]}")

    def _see_new(self, knock: Knock, before: Knock | None) -> None:
        index = bisect_left(self.expected, knock.seqs[0])
        count = len(knock.seqs)
        wanted = self.expected[index : index + count]
        without_skipped = [seq for seq in self.expected[index:] if seq not in self._skipped][:count]
        if knock.seqs not in (wanted, without_skipped):
            self._break(knock, f"the log has {wanted} from there")
            return
        if knock.types != [self._types[seq] for seq in knock.seqs]:
            self._break(knock, f"they are said to be {knock.types}")
        done = self._done(knock.log_seq)
        if index < self._next:
            if before is None or before.life != knock.life or self._was_ordered(before, knock):
                self._next = index  # the tail comes again, and from here on it is as it was
            else:
                self._break(knock, f"up to {self.expected[self._next - 1]} it was taken already")
        if knock.seqs[0] <= done:
            self._break(knock, f"the log says that it has got to {done}")
        left_out = [seq for seq in self.expected[self._next : index] if not self._is_skipped(seq, knock)]
        if left_out:
            self._break(knock, f"{left_out} should have come before")
        self._note_refusal(knock)
        if knock.was_taken:
            self._next = bisect_right(self.expected, knock.seqs[-1])

    def _note_refusal(self, knock: Knock) -> None:
        if is_refusal(knock.status):
            self._refused.setdefault(knock.seqs[0], knock.at)
        elif knock.was_taken:
            self._refused.pop(knock.seqs[0], None)

    def _is_skipped(self, seq: int, knock: Knock) -> bool:
        """It is left out, or may be: the one behind it is tried."""
        if seq in self._skipped:
            return True
        return seq in self._refused and knock.at - self._refused[seq] >= self._skip_seconds

    def _was_ordered(self, before: Knock, knock: Knock) -> bool:
        return any(before.log_seq <= seq <= knock.log_seq for seq in self._orders)

    def _done(self, log_seq: int) -> int:
        return max((until for seq, until in self._progress if seq <= log_seq), default=self._added.cursor)

    def _judge_skipped(self) -> None:
        """An event of a replay may be, though it was taken when it was new."""
        for skipped in self._skipped:
            refused = [
                knock.at
                for knock in self.endpoint.knocks
                if knock.seqs == [skipped] and is_refusal(knock.status)
            ]
            behind = [
                knock.at
                for knock in self.endpoint.knocks
                if refused
                and knock.was_taken
                and knock.seqs[:1] > [skipped]
                and knock.at >= refused[0] + self._skip_seconds
            ]
            if not refused:
                self.found.append(f"{self.endpoint.webhook_id}: {skipped} is skipped, and was never refused")
            elif not behind:
                self.found.append(
                    f"{self.endpoint.webhook_id}: {skipped} is skipped, and was refused for less than a day"
                )

    def _see_replay(self, knock: Knock, before: Knock | None) -> None:
        orders = self._orders_of(knock)
        if not orders:
            self._break(knock, "nobody has ordered a replay")
            return
        for order in orders:
            wanted = self._wanted(order)
            index = bisect_left(wanted, knock.seqs[0])
            if knock.seqs == wanted[index : index + len(knock.seqs)]:
                break
        else:
            self._break(knock, f"the replay brings {self._wanted(orders[0])}")
            return
        taken = self._replayed.setdefault(order.seq, 0)
        if index < taken and before is not None and before.life != knock.life:
            taken = index
        if index < taken or not all(self._is_skipped(seq, knock) for seq in wanted[taken:index]):
            self._break(knock, f"the replay is not in its order: {wanted[taken:][:5]} comes next")
        self._replayed[order.seq] = max(taken, index + len(knock.seqs)) if knock.was_taken else taken
        self._note_refusal(knock)

    def _orders_of(self, knock: Knock) -> list[_Rewound]:
        """The last that the log had; and one before it, while what it brought may be on its way yet."""
        known = [order for order in self._rewound if order.seq <= knock.log_seq]
        late = [
            order for order, following in pairwise(known) if knock.log_seq <= following.seq + self._on_its_way
        ]
        return [*known[-1:], *reversed(late)]

    def _wanted(self, order: _Rewound) -> list[int]:
        return [seq for seq in self._told_of if order.after_seq < seq <= order.until_seq]

    def _judge_replay(self) -> None:
        """The last one that was ordered comes to its end; one before it may have been broken off by it."""
        for order in self._rewound[-1:]:
            left = self._wanted(order)[self._replayed.get(order.seq, 0) :]
            left = [seq for seq in left if seq not in self._skipped]
            if left:
                self.missing.append(f"{self.endpoint.webhook_id} was never told again {left[:10]}")

    def _break(self, knock: Knock, sentence: str) -> None:
        self.found.append(
            f"{self.endpoint.webhook_id} was told {knock.seqs} at {knock.at:.0f} s, life {knock.life}: {sentence}"
        )


def _is_of_a_member(item: Recorded) -> bool:
    return bool(getattr(item.event, "did", NOBODY))


def _silences(own: Sequence[Recorded]) -> list[_Span]:
    found: list[_Span] = []
    begin: int | None = None
    for item in own:
        if isinstance(item.event, WebhookPaused | WebhookRemoved | WebhookDisabled):
            begin = item.seq if begin is None else begin
        elif isinstance(item.event, WebhookResumed) and begin is not None:
            found.append(_Span(begin, item.seq))
            begin = None
    return [*found, _Span(begin, None)] if begin is not None else found
