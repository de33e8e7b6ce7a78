"""Bugs that are planted between the processes of a relay: `python -m tests.campaigns.bugs_of_processes NAME serve DIR`.

It is `atmos-relay serve DIR` with that bug, for good; what else may stand before `serve` is for `tests.world.sabotage`.

    hasty-edge       an edge answers a send before the core has
    silent-death     what a courier had begun when it died is forgotten, and tried again as if it had not been begun
    two-couriers     a message is given to two couriers, to be on the safe side
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Awaitable, Callable

import trio

import relay.edges.host
from relay.couriers.away import AwayCourier
from relay.couriers.host import Couriers
from relay.delivery.carrier import CourierLost, Errand
from relay.delivery.outcomes import Carried
from relay.processes.keeper import Role

Start = Callable[[], Awaitable[None]]


def hasty_edge() -> None:
    def role(name: str, module: str, *more: object) -> Role:
        return Role(name, "tests.campaigns.hasty_edge", *more)  # type: ignore[arg-type]

    relay.edges.host.Role = role  # type: ignore[misc, assignment]


def silent_death() -> None:
    carry = AwayCourier.carry

    async def carry_and_forget(
        courier: AwayCourier, connection: int, errand: Errand, start: Start
    ) -> Carried:
        try:
            return await carry(courier, connection, errand, start)
        except CourierLost:
            await trio.sleep_forever()
            raise

    AwayCourier.carry = carry_and_forget  # type: ignore[method-assign]


def two_couriers() -> None:
    carry = Couriers.carry

    async def carry_twice(couriers: Couriers, connection: int, errand: Errand, start: Start) -> Carried:
        async def started() -> None:
            """The other one has it in the log already."""

        carried = await carry(couriers, connection, errand, start)
        await couriers._own.carry(-connection, errand, started)
        return carried

    Couriers.carry = carry_twice  # type: ignore[method-assign]


BUGS = {"hasty-edge": hasty_edge, "silent-death": silent_death, "two-couriers": two_couriers}

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    runpy.run_module("tests.world.sabotage", run_name="__main__", alter_sys=True)
