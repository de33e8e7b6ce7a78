"""What acts on the world: all of a running relay that does something by itself, and not because somebody asks.

Delivery and its couriers, what releases held mail and finishes removals, the watch over reputation, calls of members'
URLs and webhooks, verification, confirmations, keys, retention, alarms, lists of senders. It begins as one, when
`open_acting` is entered, and that may be later than the doors. Two relays that act on the same log would send the same
mail twice.

Each of these looks through the views when it begins, and goes on with what it finds there. So it is nothing to it
whether the log was written by this process, by the one before, or on another machine.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from relay.alarm_watch import Expiry, watch_alarms
from relay.core import Core
from relay.couriers.host import open_couriers
from relay.delivery.carrier import Carrier
from relay.delivery.connect import Connector
from relay.delivery.courier import Courier
from relay.delivery.deliverer import Deliverer
from relay.delivery.releases import release_held
from relay.dnsbl_watch import watch_lists
from relay.domains.rotation import switch_keys
from relay.domains.verification import reverify_domains
from relay.forward_confirmations import ask_the_unasked
from relay.operator.handle_checks import reverify_handles
from relay.operator.removal import cancel_what_is_left
from relay.operator.retention import keep_retention
from relay.own_network.nameless import warn_of_nameless_addresses
from relay.reputation_guard import guard_reputation
from relay.unsubscribe_calls import call_members, one_click_post
from relay.webhooks.deliver import Webhooks

#: Who carries the errands of a relay, which has a courier of its own.
CarriedBy = Callable[[Core, Carrier], AbstractAsyncContextManager[Carrier]]


def processes(core: Core) -> tuple[int, int]:
    """How many edges and couriers there are, on the cores that this process may use."""
    return core.config.service.processes(len(os.sched_getaffinity(0)))


@asynccontextmanager
async def carried_by_couriers(core: Core, own: Carrier) -> AsyncIterator[Carrier]:
    """Other processes, as many as are configured."""
    _, count = processes(core)
    if not count:
        yield own
        return
    async with open_couriers(core, own, count) as couriers:
        yield couriers


class Acting:
    """All that acts, while it does. Made by `open_acting`."""

    def __init__(self, deliverer: Deliverer, webhooks: Webhooks) -> None:
        self.deliverer = deliverer
        self.webhooks = webhooks
        self.delivery_ended = trio.Event()

    async def run_deliverer(self, task_status: trio.TaskStatus[None]) -> None:
        await self.deliverer.run(task_status)
        self.delivery_ended.set()

    def stop(self) -> None:
        """Nothing new is attempted."""
        self.deliverer.stop()
        self.webhooks.stop()

    def abandon(self) -> None:
        """What is under way is to end now."""
        self.deliverer.abandon()
        self.webhooks.abandon()

    async def wait_ended(self) -> None:
        """After `stop`: until nothing is under way any more."""
        await self.delivery_ended.wait()
        await self.webhooks.ended.wait()


@asynccontextmanager
async def open_acting(
    core: Core,
    *,
    carried_by: CarriedBy = carried_by_couriers,
    certificate: Callable[[], Expiry | None],
) -> AsyncIterator[Acting]:
    """Everything that acts, inside the block. Leave it when `Acting.wait_ended` has returned; leaving without cuts it
    short. `certificate`: what SMTP shows now, where it shows one.

    What ends in an unexpected exception cancels the block, and raises it, in an exception group.
    """
    connector = Connector(lambda: core.config, core.surroundings)
    courier = Courier(
        core.store.get,
        core.composer,
        connector,
        heavy_work=core.heavy_work,
        sending=core.sending,
        before_dot=lambda connection: core.before_acting(),
    )
    async with carried_by(core, courier) as carrier:
        deliverer = Deliverer(core, connector, carrier)
        async with trio.open_nursery() as nursery:
            acting = Acting(deliverer, Webhooks(core))
            await nursery.start(acting.run_deliverer)
            await nursery.start(cancel_what_is_left, core)
            await nursery.start(release_held, core)
            await nursery.start(guard_reputation, core)
            await nursery.start(call_members, core, one_click_post(core.surroundings))
            await nursery.start(acting.webhooks.run)
            await nursery.start(reverify_domains, core)
            await nursery.start(reverify_handles, core)
            await nursery.start(ask_the_unasked, core)
            await nursery.start(switch_keys, core)
            await nursery.start(keep_retention, core)
            await nursery.start(watch_alarms, core, certificate)
            await nursery.start(watch_lists, core)
            nursery.start_soon(warn_of_nameless_addresses, core)
            yield acting
            nursery.cancel_scope.cancel()
