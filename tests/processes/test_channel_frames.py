"""What passes through a channel: cut anywhere it is read, gathered it is sent, and what may not be sent ends it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from relay.processes import channel as channel_module
from relay.processes.channel import FRAME_BYTES_MAX, ChannelClosed
from relay.processes.frames import BrokenFrame
from tests.processes.channels import (
    Echo,
    Echoed,
    News,
    Wait,
    beside_a_socket,
    frame,
    in_trio,
    leaves,
    pair,
)


@in_trio
async def test_frames_may_be_cut_anywhere() -> None:
    octets = b"".join(
        [
            frame(channel_module._TELL, 0, msgspec.msgpack.encode(News(1))),
            frame(channel_module._BEAT, 0),
            frame(channel_module._TELL, 0, msgspec.msgpack.encode(News(2))),
            frame(channel_module._CALL, 9, msgspec.msgpack.encode(Echo("x", b"y"))),
            frame(channel_module._ALIVE, 0),
            frame(channel_module._TELL, 0, msgspec.msgpack.encode(News(3))),
        ]
    )
    expected = frame(channel_module._ALIVE, 0) + frame(
        channel_module._ANSWER, 9, msgspec.msgpack.encode(Echoed("x", b"y"))
    )
    for cuts in [*((cut,) for cut in range(1, len(octets))), tuple(range(1, len(octets)))]:
        heard: list[int] = []
        async with beside_a_socket(hear=lambda news, heard=heard: heard.append(news.number)) as (
            _,
            raw,
            ended,
        ):  # type: ignore[misc]
            for begin, end in zip((0, *cuts), (*cuts, len(octets)), strict=True):
                await raw.send_all(octets[begin:end])
                await trio.testing.wait_all_tasks_blocked()
            received = b""
            while len(received) < len(expected):
                received += await raw.receive_some(1000)
            assert received == expected
            await raw.send_eof()
            await ended()
        assert heard == [1, 2, 3]


@pytest.mark.parametrize(
    "octets",
    [
        frame(channel_module._CALL, 1, size=FRAME_BYTES_MAX + 1),
        frame(99, 1),
        frame(channel_module._CALL, 1, b"\xc1"),
        frame(channel_module._CALL, 1, msgspec.msgpack.encode(Echoed("no question"))),
        frame(channel_module._TELL, 0, msgspec.msgpack.encode({"type": "Unknown"})),
        frame(channel_module._ANSWER, 1, msgspec.msgpack.encode(Echoed(""))),
        frame(channel_module._CALL, 1, msgspec.msgpack.encode(Wait(""))) * 2,
        frame(channel_module._CALL, 1, b"\x82\xa4type\xa4Echo\xa4text\xa1\xff"),
        frame(channel_module._CALL, 1, b"\x82\xa4type\xa4Echo\xa1x" + b"\x91" * 10_000 + b"\xc0"),
    ],
    ids=[
        "oversize",
        "kind",
        "nonsense",
        "no-question",
        "unknown",
        "answer-to-nothing",
        "number-twice",
        "no-utf-8",
        "nested-deep",
    ],
)
@in_trio
async def test_what_may_not_be_sent_is_the_other_sides_defect(octets: bytes) -> None:
    async def answer(_: Any) -> Any:
        await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as raised:
        async with beside_a_socket(answer) as (_, raw, ended):
            await raw.send_all(octets)
            await ended()
    assert [type(error) for error in leaves(raised.value)] == [BrokenFrame]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (channel_module._ANSWER, msgspec.msgpack.encode({"text": 5})),
        (channel_module._ANSWER, b""),
        (channel_module._RAISED, msgspec.msgpack.encode(["SystemExit", []])),
        (channel_module._RAISED, msgspec.msgpack.encode(["Refusal", ["too few"]])),
        (channel_module._RAISED, b"\xc1"),
        (channel_module._RAISED, b"\x92\xa7Refusal" + b"\x91" * 10_000 + b"\xc0"),
        (channel_module._NOTHING_DONE, b""),
    ],
)
@in_trio
async def test_an_answer_that_is_none(kind: int, body: bytes) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with beside_a_socket() as (here, raw, ended), trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ChannelClosed):
                    await here.call(Echo(), Echoed)

            nursery.start_soon(ask)
            await raw.receive_some(1000)
            await raw.send_all(frame(kind, 1, body))
            await ended()
    assert [type(error) for error in leaves(raised.value)] == [BrokenFrame]


@in_trio
async def test_calls_at_a_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "CALLS_MAX", 10)

    async def answer(_: Any) -> Any:
        await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as raised:
        async with beside_a_socket(answer) as (here, raw, ended):
            asked = [frame(channel_module._CALL, n, msgspec.msgpack.encode(Wait(""))) for n in range(11)]
            await raw.send_all(b"".join(asked[:10]))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(here._answering) == 10
            await raw.send_all(asked[10])
            await ended()
    assert [type(error) for error in leaves(raised.value)] == [BrokenFrame]


@in_trio
async def test_a_frame_that_is_too_large_is_the_callers_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "FRAME_BYTES_MAX", 1000)
    async with pair() as (here, _, _):
        with pytest.raises(ValueError, match="too large"):
            await here.call(Echo("", b"x" * 1000), Echoed)
        assert (await here.call(Echo("next"), Echoed)).text == "next"
        assert here._waiting == {}


# ------------------------------------------------------------------------------------------------------- how it is sent


@in_trio
async def test_frames_of_one_turn_go_out_in_one_send(monkeypatch: pytest.MonkeyPatch) -> None:
    sends: list[tuple[int, int]] = []
    writev = os.writev

    def counted(fd: int, pieces: Any) -> int:
        sends.append((fd, len(pieces)))
        return writev(fd, pieces)

    async with pair() as (here, there, _):
        await here.call(Echo(), Echoed)
        monkeypatch.setattr(channel_module.os, "writev", counted)
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(here.call, Echo(str(number)), Echoed)
        # Head and body of fifty questions, and of fifty answers.
        assert sends == [(here._fd, 100), (there._fd, 100)]


@in_trio
async def test_what_waits_for_a_side_that_does_not_read_goes_out_when_it_reads() -> None:
    async with beside_a_socket() as (here, raw, _):
        for number in range(3000):
            here.tell(Echo(str(number), b"x" * 1000))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert here._is_full
        unsent = here._unsent_bytes
        assert unsent > 0
        await raw.receive_some(400_000)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert here._unsent_bytes < unsent
        here.tell(Echo("behind"))
        received = b""
        while b"behind" not in received:
            received = received[-10:] + await raw.receive_some(400_000)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert here._unsent_bytes == 0
        assert not here._is_full


@in_trio
async def test_one_that_goes_on_asking_and_never_reads_is_not_answered_for_ever() -> None:
    """A beat shows that its loop runs, so it is not silent; what it makes this side hold would have no end."""
    most = 1_000_000
    with pytest.raises(ExceptionGroup) as raised:
        async with (
            beside_a_socket(unsent_bytes_max=most) as (here, raw, ended),
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(ended)
            while not here.has_ended:
                assert here._unsent_bytes < 2 * most
                with suppress(trio.BrokenResourceError):
                    await raw.send_all(frame(channel_module._BEAT, 0) * 1000)
    assert [type(error) for error in leaves(raised.value)] == [BrokenFrame]


@in_trio
async def test_heartbeats_show_that_the_other_loop_runs() -> None:
    async with beside_a_socket() as (here, raw, _):
        heard_at = here.heard_at
        here.beat()
        assert await raw.receive_some(1000) == frame(channel_module._BEAT, 0)
        await trio.sleep(0.01)
        assert here.heard_at == heard_at
        await raw.send_all(frame(channel_module._ALIVE, 0))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert here.heard_at > heard_at
        await raw.send_all(frame(channel_module._BEAT, 0))
        assert await raw.receive_some(1000) == frame(channel_module._ALIVE, 0)


@in_trio
async def test_nothing_is_left_behind() -> None:
    before = set(os.listdir("/proc/self/fd"))
    async with pair() as (here, _, _):
        await here.call(Echo(), Echoed)
    assert set(os.listdir("/proc/self/fd")) == before
