"""The seam of attempts keeps one contract, whoever carries: the core's own process, or another one over a socket.

The relay's own deliverer carries nothing here: errands are given by the tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.config_nodes import NodesConfig
from relay.core import Core
from relay.delivery.carrier import Carrier, CourierLost, Errand
from relay.delivery.courier import ROOM_SECONDS_MAX
from relay.delivery.outcomes import Carried, NotTried, Peer
from relay.delivery.replies import DeliveryVerdict, FailureKind
from relay.delivery.reply_reader import Command
from relay.message.keys import KeyRing
from spool.errors import LogStalledError
from tests.world.couriers import Couriers, Rests, errand_for
from tests.world.relay import World, open_world, run

LARGE = "Käse, Brot und Wein.\n" * 20_000
KINDS = ("here", "away")


class Seam:
    """A carrier, beside a relay that has the messages."""

    def __init__(self, kind: str) -> None:
        self.couriers = Couriers(1 if kind == "away" else 0)
        self.carrier: Carrier
        self.world: World
        #: Who composes, in either case.
        self.courier: Any
        self.starts = 0

    @asynccontextmanager
    async def carried_by(self, core: Core, own: Carrier) -> AsyncIterator[Carrier]:
        async with self.couriers(core, own) as self.carrier:
            await wait_all_tasks_blocked()
            processes = self.couriers.processes
            self.courier = processes[0].service._courier if processes else own
            yield Rests()
            await self.carrier.hang_up()

    async def start(self) -> None:
        self.starts += 1
        await trio.lowlevel.checkpoint()

    async def carry(
        self,
        to: str,
        *,
        connection: int = 1,
        start: Callable[[], Awaitable[None]] | None = None,
        **fields: Any,
    ) -> Carried:
        return await self.carrier.carry(
            connection, await errand_for(self.world, to=to, **fields), start or self.start
        )

    def on_several_machines(self, before_acting: Callable[[], Awaitable[None]]) -> None:
        self.world.core.before_acting = before_acting
        for process in self.couriers.processes:
            process.service._config = msgspec.structs.replace(process.service._config, nodes=NodesConfig())

    async def accepted(self) -> int:
        """How many messages the receiver has taken."""
        await wait_all_tasks_blocked()
        return len(self.world.mx.messages)


Scenario = Callable[[Seam], Awaitable[None]]


@pytest.fixture(params=KINDS)
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """Play a scenario over one carrier."""

    def play(scenario: Scenario, **options: Any) -> None:
        async def main() -> None:
            seam = Seam(request.param)
            async with open_world(tmp_path / "data", carried_by=seam.carried_by, **options) as seam.world:
                await scenario(seam)
                seam.world.relay.deliverer.abandon()

        run(main)

    return play


def test_the_dot_waits_for_the_start_and_the_outcome_says_all(play: Callable[..., None]) -> None:
    async def scenario(seam: Seam) -> None:
        async def slow_start() -> None:
            await seam.start()
            await trio.sleep(60)
            assert await seam.accepted() == 0

        before = trio.current_time()
        carried = await seam.carry("friend@example.com", start=slow_start)
        assert seam.starts == 1
        assert await seam.accepted() == 1
        outcome = carried.outcome
        assert outcome is not None
        assert outcome.verdict is DeliveryVerdict.SENT
        assert outcome.started
        assert outcome.body_begun
        assert carried.usable
        assert carried.not_tried is None
        assert carried.peer == Peer("127.0.0.1", "127.0.0.1", 25)
        received = seam.world.mx.messages[0].data
        assert carried.sha256 == hashlib.sha256(received).hexdigest()
        assert carried.size == len(received)
        assert 60 <= carried.seconds <= trio.current_time() - before
        assert seam.carrier.connections == 1

    play(scenario)


def test_the_dot_waits_until_nobody_else_can_be_acting(play: Callable[..., None]) -> None:
    async def scenario(seam: Seam) -> None:
        async def slow_leave() -> None:
            before = await seam.accepted()
            assert seam.starts == before + 1, "it is asked for at the last moment"
            await trio.sleep(60)
            assert await seam.accepted() == before

        seam.on_several_machines(slow_leave)
        carried = await seam.carry("friend@example.com")
        assert await seam.accepted() == 1
        assert carried.outcome is not None
        assert carried.outcome.verdict is DeliveryVerdict.SENT
        assert carried.seconds >= 60
        # On a connection that is open already, too.
        assert (await seam.carry("other@example.com")).seconds >= 60

    play(scenario)


def test_a_dot_that_may_not_leave_is_not_sent_and_the_receiver_cannot_have_the_message(
    play: Callable[..., None],
) -> None:
    async def scenario(seam: Seam) -> None:
        seam.on_several_machines(trio.sleep_forever)
        with trio.move_on_after(30):
            carried = await seam.carry("friend@example.com")
        assert carried.outcome is not None
        assert carried.outcome.verdict is DeliveryVerdict.DEFERRED
        assert not carried.outcome.started
        assert await seam.accepted() == 0

    play(scenario)


@pytest.mark.parametrize(
    ("to", "verdict", "command"),
    [
        ("permfail@example.com", DeliveryVerdict.BOUNCED, Command.RCPT),
        ("tempfail@example.com", DeliveryVerdict.DEFERRED, Command.RCPT),
        ("refuse-message@example.com", DeliveryVerdict.BOUNCED, Command.END_OF_DATA),
        ("disconnect-in-data@example.com", DeliveryVerdict.DEFERRED, Command.END_OF_DATA),
    ],
)
def test_what_the_receiver_says(
    play: Callable[..., None], to: str, verdict: DeliveryVerdict, command: Command
) -> None:
    async def scenario(seam: Seam) -> None:
        carried = await seam.carry(to)
        assert carried.outcome is not None
        assert (carried.outcome.verdict, carried.outcome.command) == (verdict, command)
        assert carried.usable == (carried.outcome.reply is not None)
        assert seam.carrier.connections == carried.usable
        assert (carried.sha256 is not None) == (command is Command.END_OF_DATA)
        assert seam.starts == 1

    play(scenario)


def test_nobody_at_home(play: Callable[..., None]) -> None:
    async def scenario(seam: Seam) -> None:
        carried = await seam.carry("friend@example.com")
        assert carried.outcome is not None
        assert carried.outcome.failure is not None
        assert carried.outcome.failure.kind is FailureKind.TIMEOUT
        assert not carried.usable
        assert seam.carrier.connections == 0

    play(scenario, mute=True)


def test_a_connection_is_used_again_and_replaced_where_it_was_given_up(play: Callable[..., None]) -> None:
    async def scenario(seam: Seam) -> None:
        mx = seam.world.mx
        for _ in range(3):
            assert (await seam.carry("friend@example.com")).usable
        assert (mx.sessions, len(mx.messages)) == (1, 3)
        await seam.carry("friend@example.com", connection=2)
        assert mx.sessions == 2
        assert seam.carrier.connections == 2
        # The first has said its three, and hangs up at the next MAIL: a new connection, and one attempt.
        assert (await seam.carry("friend@example.com")).usable
        assert (mx.sessions, len(mx.messages), seam.starts) == (3, 5, 5)

    play(scenario, messages_per_session=3)


def test_parting_says_goodbye(play: Callable[..., None]) -> None:
    async def scenario(seam: Seam) -> None:
        await seam.carry("friend@example.com")
        await seam.carrier.part(1)
        assert seam.world.mx.commands[-1] == "QUIT"
        assert seam.carrier.connections == 0
        await seam.carrier.part(1)
        await seam.carrier.part(2)
        assert (await seam.carry("friend@example.com")).usable
        assert seam.world.mx.sessions == 2

    play(scenario)


def test_without_room_nothing_is_begun(play: Callable[..., None]) -> None:
    async def scenario(seam: Seam) -> None:
        assert (await seam.carry("friend@example.com")).usable
        sending = seam.courier._sending
        with sending.held("somebody else") as held:
            await held.take(sending.octets_max)
            before = trio.current_time()
            carried = await seam.carry("friend@example.com", text=LARGE)
            assert trio.current_time() - before == ROOM_SECONDS_MAX
        assert carried == Carried(usable=True, not_tried=NotTried.NO_ROOM)
        assert seam.starts == 1
        assert (await seam.carry("friend@example.com", text=LARGE)).outcome is not None

    play(scenario)


def test_without_a_payload_nothing_is_begun(play: Callable[..., None]) -> None:
    async def scenario(seam: Seam) -> None:
        errand = await errand_for(seam.world, to="friend@example.com")
        # As if its send were an event whose payload is gone.
        errand = errand._replace(state=msgspec.structs.replace(errand.state, send_seq=1))
        carried = await seam.carrier.carry(1, errand, seam.start)
        assert carried == Carried(usable=False, not_tried=NotTried.PAYLOAD_GONE)
        assert seam.starts == 0

    play(scenario)


def test_without_a_key_nothing_is_begun(play: Callable[..., None], tmp_path: Path) -> None:
    async def scenario(seam: Seam) -> None:
        for file in (tmp_path / "data" / "keys").glob("yourdomain.com*"):
            file.rename(file.with_name(f"lost-{file.name}"))
        seam.courier._composer.keyring = KeyRing(tmp_path / "data")  # it may have read them already
        carried = await seam.carry("friend@example.com")
        assert carried == Carried(usable=False, not_tried=NotTried.KEY_MISSING)
        assert seam.starts == 0

    play(scenario)


def test_a_start_that_cannot_be_recorded_is_raised_and_nothing_is_sent(play: Callable[..., None]) -> None:
    async def scenario(seam: Seam) -> None:
        async def refused() -> None:
            await wait_all_tasks_blocked()  # the body is there, and the dot is not
            assert seam.world.mx.commands[-1] == "DATA"
            raise LogStalledError("the disk does not answer")

        with pytest.RaisesGroup(LogStalledError, allow_unwrapped=True, flatten_subgroups=True):
            await seam.carry("friend@example.com", start=refused)
        assert await seam.accepted() == 0

    play(scenario)


async def _cancelled(carry: Callable[[], Awaitable[Carried]], *, after: float = 30.0) -> Carried | None:
    """What it returns although it is cancelled; None: it raised Cancelled."""
    carried: Carried | None = None
    with trio.move_on_after(after) as scope:
        carried = await carry()
    assert scope.cancel_called
    assert scope.cancelled_caught == (carried is None)
    return carried


def test_cancelled_before_the_start_it_was_never_begun(play: Callable[..., None]) -> None:
    async def scenario(seam: Seam) -> None:
        assert await _cancelled(partial(seam.carry, "friend@example.com", start=trio.sleep_forever)) is None
        assert await seam.accepted() == 0
        # Neither is a connection left behind that cannot be used.
        assert seam.carrier.connections == 0
        assert (await seam.carry("friend@example.com", connection=2)).usable

    play(scenario)


def test_cancelled_before_the_dot_what_is_known_is_told(play: Callable[..., None]) -> None:
    async def scenario(seam: Seam) -> None:
        await seam.carry("friend@example.com")
        carried = await _cancelled(partial(seam.carry, "hang@example.com"))
        assert carried is not None
        assert carried.outcome is not None
        assert carried.outcome.failure is not None
        assert carried.outcome.failure.kind is FailureKind.ABANDONED
        assert not carried.outcome.started
        assert carried.peer is not None
        assert not carried.usable
        assert seam.carrier.connections == 0

    play(scenario)


def test_behind_the_dot_only_hanging_up_ends_it(play: Callable[..., None]) -> None:
    async def scenario(seam: Seam) -> None:
        async def hang_up_later() -> None:
            await trio.sleep(60)
            await seam.carrier.hang_up()

        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_up_later)
            carried = await _cancelled(partial(seam.carry, "hang-after-dot@example.com"))
        assert trio.current_time() - before == 60
        assert carried is not None
        assert carried.outcome is not None
        assert carried.outcome.failure is not None
        assert carried.outcome.failure.kind is FailureKind.ABANDONED
        assert carried.outcome.started
        assert carried.sha256 is not None

    play(scenario)


async def _never(errand: Errand, held: Any) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize("stage", ["composing", "starting", "before the dot", "behind the dot"])
def test_a_courier_that_is_lost(tmp_path: Path, stage: str) -> None:
    async def main() -> None:
        seam = Seam("away")
        async with open_world(tmp_path / "data", carried_by=seam.carried_by) as seam.world:
            (process,) = seam.couriers.processes
            is_started = False

            async def start() -> None:
                nonlocal is_started
                if stage == "starting":
                    process.kill()
                    # It is recorded all the same: the disk was at it.
                    await process.gone.wait()
                is_started = True

            async def kill() -> None:
                await wait_all_tasks_blocked()
                process.kill()

            if stage == "composing":
                seam.courier._outgoing = _never
            to = "hang-after-dot@example.com" if stage == "behind the dot" else "hang@example.com"
            async with trio.open_nursery() as nursery:
                if stage != "starting":
                    nursery.start_soon(kill)
                with pytest.raises(CourierLost):
                    await seam.carry(to, start=start)
            assert is_started == (stage != "composing")
            # Who comes next finds another.
            assert (await seam.carry("friend@example.com")).usable
            seam.world.relay.deliverer.abandon()

    run(main)
