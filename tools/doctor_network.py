"""`doctor --network`: what others see of the relay, looked at from this machine.

It takes the DNS library, TLS and the key files along, so that `doctor` imports it only for that. It changes nothing. A
relay that runs is only asked which of the operator's keys are in use.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from relay.config import Config
from relay.internet.resolv_conf import ResolvConf
from relay.message.keys import KeyFileError, KeyRing
from relay.message.signer import Signer
from relay.operator.client import administer
from relay.own_network.findings import NetworkFinding
from relay.own_network.looking import World, look_at_network
from relay.refusals import Refusal
from relay.surroundings import Surroundings
from spool.errors import SpoolError

#: For a relay that runs; see `tools.doctor`.
_PATIENCE_SECONDS = 5.0


def look(
    directory: Path, config: Config, tell: Callable[[NetworkFinding], None], world: World | None = None
) -> None:
    """`tell` is given one finding after the other, as soon as it is there. `world` None: the real one."""

    try:
        signers = _signers(directory, config)
    except KeyFileError as error:
        # Which `doctor` says without the network, too.
        tell(NetworkFinding("DKIM", config.operator_domain, False, "key files that can be read", str(error)))
        signers = []

    async def main() -> None:
        async for finding in look_at_network(world or _real_world(), config, signers):
            tell(finding)

    trio.run(main)


def _real_world() -> World:
    surroundings = Surroundings()
    servers = ResolvConf().changed(0.0)
    return World(surroundings, surroundings.dns(), servers.addresses if servers else ())


def _signers(directory: Path, config: Config) -> list[Signer]:
    """Of the operator's keys in use. Those that wait need not be in the DNS yet. Raises KeyFileError."""
    ring = KeyRing(directory)
    domain = config.operator_domain
    stems = ring.stems(domain)
    if len(stems) > 1:
        try:
            answer: Any = administer(directory, "operator_key", {}, patience_seconds=_PATIENCE_SECONDS)
            stems = [answer["selector"]]
        except (TimeoutError, Refusal, SpoolError, OSError):
            stems = [ring.operator_stem(domain)]
    return [signer for stem in stems for signer in ring.signers(domain, stem)]
