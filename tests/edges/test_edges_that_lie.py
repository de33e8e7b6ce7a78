"""What an edge says that it may not say, and what it answers: it costs that edge, and nobody else."""

from __future__ import annotations

from types import NoneType
from typing import Any, cast

import msgspec
import pytest
import trio

from relay.edges import words
from relay.edges.host import _ask
from relay.processes.keeper import Worker
from relay.stream_places import TicketUse
from spool.errors import ReadersFullError
from tests.world.relay import DID

read = msgspec.msgpack.Decoder(words.TO_CORE).decode


@pytest.mark.parametrize(
    "word",
    [
        words.Refused({DID: -1_000_000}),
        words.Refused({DID: 0}),
        words.Refused({"": 1}),
        words.Refused({"d" * 600: 1}),
        words.Refused({"ü" * 200: 1}),
        words.LeavePlace("d" * 600),
        words.TakePlace("d" * 600, None),
        words.TakePlace(DID, TicketUse(b"n" * 1000, 1)),
        words.TakeMessage("1" * 1000),
    ],
    ids=str,
)
def test_what_would_be_an_error_or_a_burden_in_the_core_is_not_read(word: msgspec.Struct) -> None:
    """Of these some are keys that the views cannot have, some would be kept, and some give back what was counted."""
    with pytest.raises(msgspec.ValidationError):
        read(msgspec.msgpack.encode(word))


def test_what_an_edge_says_is_read() -> None:
    for word in (
        words.Refused({DID: 3, "did:web:" + "a" * 63 + ".example": 1}),
        words.LeavePlace(DID),
        words.TakePlace(DID, TicketUse(b"n" * 16, 1)),
        words.TakeMessage("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff%" + "i" * 15),
    ):
        assert read(msgspec.msgpack.encode(word)) == word


class _Raising:
    """A worker that raises in place of its answer, and is gone when it was killed."""

    name, pid = "edge 1", 1

    def __init__(self) -> None:
        self.channel = self
        self.gone = trio.Event()

    async def call(self, question: Any, answer: Any) -> None:
        assert answer is NoneType
        raise ReadersFullError

    def kill(self) -> None:
        self.gone.set()


def test_one_that_raises_what_it_was_to_do_is_killed_and_the_core_goes_on() -> None:
    """It may be true, where LMDB's table of readers is full; what it was told is not known there then."""

    async def main() -> None:
        worker = _Raising()
        with trio.fail_after(30):
            await _ask(cast(Worker, worker), words.LetGo())
        assert worker.gone.is_set()

    trio.run(main)
