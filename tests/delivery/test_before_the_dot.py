"""The final dot: what happens before it, between it and the reply, and when somebody wants to stop it."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
import trio.testing

from relay.delivery.outcomes import AttemptOutcome, Peer
from relay.delivery.replies import DeliveryVerdict, FailureKind
from relay.delivery.session import Session, start_session
from relay.message.envelope import Envelope
from relay.surroundings import Timeouts

ENVELOPE = Envelope("ann@relay.test", "bob@mx.test")
MESSAGE = b"Subject: hello\r\n\r\nHello.\r\n"
ALL_BUT_THE_DOT = (
    b"EHLO relay.test\r\nMAIL FROM:<ann@relay.test>\r\nRCPT TO:<bob@mx.test>\r\nDATA\r\n" + MESSAGE
)


class Stage:
    """A receiver in memory that has said 354 in advance, and a session with it."""

    def __init__(self, session: Session, server: trio.abc.Stream) -> None:
        self.session = session
        self.server = server
        self.heard = b""

    async def deliver(self, hook: Callable[[], Awaitable[None]]) -> AttemptOutcome:
        return await self.session.deliver(ENVELOPE, MESSAGE, before_final_dot=hook)

    async def hear(self, expected: bytes) -> None:
        """Read until `expected` has been heard in all."""
        while len(self.heard) < len(expected):
            data = await self.server.receive_some(1000)
            assert data
            self.heard += data
        assert self.heard == expected

    async def talk_up_to_354(self) -> None:
        """Answer the envelope, command by command."""
        for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            self.heard += await self.server.receive_some(1000)
            await self.server.send_all(reply)
        await self.hear(ALL_BUT_THE_DOT)

    async def assert_silence(self) -> None:
        """Nothing more comes, although everybody has had time."""
        with trio.move_on_after(3600) as waiting:
            data = await self.server.receive_some(1000)
            raise AssertionError(f"heard {data!r}")
        assert waiting.cancelled_caught

    async def assert_closed(self) -> None:
        """Only the end of the stream comes."""
        assert await self.server.receive_some(1000) == b""


def on_stage(
    scene: Callable[[Stage, trio.Nursery], Awaitable[None]], timeouts: Timeouts = Timeouts()
) -> None:
    async def main() -> None:
        client_side, server_side = trio.testing.memory_stream_pair()
        await server_side.send_all(b"220 mx.test\r\n")

        async def answer_ehlo() -> None:
            assert await server_side.receive_some(1000) == b"EHLO relay.test\r\n"
            await server_side.send_all(b"250 mx.test\r\n")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_ehlo)
            session = await start_session(
                client_side, peer=Peer("mx.test", "192.0.2.1", 25), ehlo_name="relay.test", timeouts=timeouts
            )
            stage = Stage(session, server_side)
            stage.heard = b"EHLO relay.test\r\n"
            await scene(stage, nursery)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Hook:
    """A before_final_dot that waits to be released."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.released = trio.Event()

    async def __call__(self) -> None:
        self.entered.set()
        await self.released.wait()


def test_the_dot_waits_for_the_hook() -> None:
    async def scene(stage: Stage, nursery: trio.Nursery) -> None:
        hook = Hook()

        async def server() -> None:
            await stage.talk_up_to_354()
            await stage.assert_silence()
            assert hook.entered.is_set()
            hook.released.set()
            await stage.hear(ALL_BUT_THE_DOT + b".\r\n")
            await stage.server.send_all(b"250 ok\r\n")

        nursery.start_soon(server)
        outcome = await stage.deliver(hook)
        assert outcome.verdict is DeliveryVerdict.SENT
        assert outcome.started

    on_stage(scene, Timeouts(transaction=1e6))


def test_a_hook_that_fails_means_no_dot_and_its_own_exception() -> None:
    async def scene(stage: Stage, nursery: trio.Nursery) -> None:
        async def server() -> None:
            await stage.talk_up_to_354()
            await stage.assert_closed()

        async def hook() -> None:
            # Of a kind that the session itself takes for the receiver's fault, when it is the receiver's.
            raise trio.BrokenResourceError("the log is poisoned")

        nursery.start_soon(server)
        with pytest.raises(trio.BrokenResourceError, match="poisoned"):
            await stage.deliver(hook)
        assert not stage.session.usable

    on_stage(scene)


def test_cancelled_before_the_dot_means_no_dot() -> None:
    async def scene(stage: Stage, nursery: trio.Nursery) -> None:
        hook = Hook()
        with trio.CancelScope() as scope:

            async def server() -> None:
                await stage.talk_up_to_354()
                await hook.entered.wait()
                scope.cancel()
                await stage.assert_closed()

            nursery.start_soon(server)
            await stage.deliver(hook)
        assert scope.cancelled_caught
        assert not stage.session.usable

    on_stage(scene)


def test_between_dot_and_reply_nothing_cancels() -> None:
    async def scene(stage: Stage, nursery: trio.Nursery) -> None:
        outcomes = []
        with trio.CancelScope() as scope:

            async def server() -> None:
                await stage.talk_up_to_354()
                await stage.hear(ALL_BUT_THE_DOT + b".\r\n")
                scope.cancel()
                await stage.assert_silence()
                await stage.server.send_all(b"250 ok\r\n")

            nursery.start_soon(server)
            hook = Hook()
            hook.released.set()
            outcomes.append(await stage.deliver(hook))
        assert [outcome.verdict for outcome in outcomes] == [DeliveryVerdict.SENT]

    on_stage(scene, Timeouts(final_dot=1e6))


def test_closing_from_outside_ends_even_the_wait_for_the_reply() -> None:
    async def scene(stage: Stage, nursery: trio.Nursery) -> None:
        async def server() -> None:
            await stage.talk_up_to_354()
            await stage.hear(ALL_BUT_THE_DOT + b".\r\n")
            await stage.session.aclose()
            await stage.assert_closed()

        nursery.start_soon(server)
        hook = Hook()
        hook.released.set()
        outcome = await stage.deliver(hook)
        assert outcome.failure is not None
        assert (outcome.verdict, outcome.failure.kind) == (DeliveryVerdict.DEFERRED, FailureKind.ABANDONED)
        assert outcome.started
        assert not outcome.judgement.blame_site

    on_stage(scene)


@pytest.mark.parametrize(
    ("early", "verdict", "code"),
    [
        (b"421 4.3.2 Shutting down\r\n", DeliveryVerdict.DEFERRED, 421),
        (b"452 4.3.1 Disk full\r\n", DeliveryVerdict.DEFERRED, 452),
        (b"552 5.3.4 Too big\r\n", DeliveryVerdict.BOUNCED, 552),
        (b"250 2.0.0 Accepted unseen\r\n", DeliveryVerdict.DEFERRED, None),
        (b"", DeliveryVerdict.DEFERRED, None),
    ],
)
def test_what_is_said_before_the_dot_stops_it(
    early: bytes, verdict: DeliveryVerdict, code: int | None
) -> None:
    async def scene(stage: Stage, nursery: trio.Nursery) -> None:
        hook = Hook()

        async def server() -> None:
            await stage.talk_up_to_354()
            await hook.entered.wait()
            if early:
                await stage.server.send_all(early)
            else:
                await stage.server.aclose()
            await trio.testing.wait_all_tasks_blocked()
            hook.released.set()
            if early:
                await stage.assert_closed()

        nursery.start_soon(server)
        outcome = await stage.deliver(hook)
        assert outcome.verdict is verdict
        assert (outcome.reply.code if outcome.reply else None) == code
        assert outcome.started
        assert not stage.session.usable
        assert not outcome.judgement.reconnect

    on_stage(scene)


def test_a_refusal_before_the_hook_spares_it() -> None:
    async def scene(stage: Stage, nursery: trio.Nursery) -> None:
        async def server() -> None:
            for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n552 5.3.4 No room\r\n"):
                await stage.server.receive_some(1000)
                await stage.server.send_all(reply)

        async def hook() -> None:
            raise AssertionError("nothing is to be made durable for a message that is refused")

        nursery.start_soon(server)
        outcome = await stage.deliver(hook)
        assert outcome.verdict is DeliveryVerdict.BOUNCED
        assert not outcome.started

    on_stage(scene)


def test_the_last_words_of_a_receiver_that_hung_up_are_read() -> None:
    async def scene(stage: Stage, nursery: trio.Nursery) -> None:
        await stage.server.send_all(b"421 4.4.2 Idle for too long\r\n")
        await stage.server.aclose()
        outcome = await stage.deliver(Hook())
        assert outcome.reply is not None
        assert outcome.reply.code == 421
        assert not stage.session.usable

    on_stage(scene)


def test_a_refusal_half_way_ends_the_sending_at_once() -> None:
    async def main() -> None:
        client_side, server_side = trio.testing.lockstep_stream_pair()

        async def server() -> None:
            for reply in (b"220 hi\r\n", b"250 mx\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                await server_side.send_all(reply)
                await server_side.receive_some(1000)
            await server_side.send_all(b"552 5.3.4 Too big\r\n")
            # It neither reads on nor hangs up.

        async with trio.open_nursery() as nursery:
            nursery.start_soon(server)
            peer = Peer("mx.test", "192.0.2.1", 25)
            session = await start_session(client_side, peer=peer, ehlo_name="relay.test")
            before = trio.current_time()
            outcome = await session.deliver(ENVELOPE, b"Hello.\r\n" * 1000, before_final_dot=Hook())
            assert trio.current_time() == before
            assert outcome.verdict is DeliveryVerdict.BOUNCED
            assert not outcome.started

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# -- time, which is virtual here


async def silence(server: trio.abc.Stream) -> None:
    await trio.sleep_forever()


async def drip(server: trio.abc.Stream) -> None:
    """A byte of a legal, very long reply every second."""
    while True:
        for byte in b"250-still thinking\r\n":
            await server.send_all(bytes([byte]))
            await trio.sleep(1)


@pytest.mark.parametrize("behaviour", [silence, drip])
@pytest.mark.parametrize(
    ("replies", "seconds"),
    [
        ([], 300),
        ([b"250 ok\r\n"], 300),
        ([b"250 ok\r\n", b"250 ok\r\n"], 120),
        ([b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"], 600),
    ],
    ids=["MAIL", "RCPT", "DATA", "end of data"],
)
def test_each_answer_has_its_time_and_dripping_does_not_stretch_it(
    replies: list[bytes], seconds: float, behaviour: Callable[[trio.abc.Stream], Awaitable[None]]
) -> None:
    async def scene(stage: Stage, nursery: trio.Nursery) -> None:
        async def server() -> None:
            for reply in replies:
                await stage.server.receive_some(1000)
                await stage.server.send_all(reply)
            if len(replies) == 3:
                await stage.hear(MESSAGE + b".\r\n")
            with suppress(trio.BrokenResourceError):  # it is hung up on
                await behaviour(stage.server)

        stage.heard = b""
        nursery.start_soon(server)
        hook = Hook()
        hook.released.set()
        before = trio.current_time()
        outcome = await stage.deliver(hook)
        elapsed = trio.current_time() - before
        assert outcome.failure is not None
        assert outcome.failure.kind is FailureKind.TIMEOUT
        assert elapsed == pytest.approx(seconds)
        assert not stage.session.usable
        nursery.cancel_scope.cancel()

    on_stage(scene)


@pytest.mark.parametrize(
    ("bytes_per_second", "seconds"), [(100, 180), (1000, 1200)], ids=["block", "ceiling"]
)
def test_a_receiver_that_reads_slowly_costs_bounded_time(bytes_per_second: int, seconds: float) -> None:
    async def main() -> None:
        client_side, server_side = trio.testing.lockstep_stream_pair()

        async def server() -> None:
            for reply in (b"220 hi\r\n", b"250 mx\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                await server_side.send_all(reply)
                if reply != b"354 go\r\n":
                    await server_side.receive_some(1000)
            while True:
                data = await server_side.receive_some(bytes_per_second)
                if not data:
                    return
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(server)
            peer = Peer("mx.test", "192.0.2.1", 25)
            session = await start_session(client_side, peer=peer, ehlo_name="relay.test")
            hook = Hook()
            before = trio.current_time()
            outcome = await session.deliver(ENVELOPE, b"Hello.\r\n" * 200_000, before_final_dot=hook)
            assert trio.current_time() - before == pytest.approx(seconds)
            assert outcome.failure is not None
            assert outcome.failure.kind is FailureKind.TIMEOUT
            assert not hook.entered.is_set()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
