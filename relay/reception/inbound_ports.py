"""The ports for strangers, as `[inbound]` and `[tls]` of `relay.toml` have them: port 25.

No password is taken here. STARTTLS is offered where there is a certificate; whether a client uses it is its affair, as
it is everywhere on port 25 (RFC 3207 section 4). Each client waits GREETING_SECONDS for its greeting, and who talks
before it is refused: whoever sends mail in masses does not wait for answers.

What may change while the relay runs is asked for each connection, or whenever it is needed; addresses need a restart.

May import what `relay.edge` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from relay.config import Config
from relay.edge import Edge
from relay.listening import Listening
from relay.lockout import Lockout
from relay.reception.certificates import Certificates
from relay.reception.inbound import Inbound
from relay.reception.ports import Port, serve_smtp
from relay.reception.role import GRACE_SECONDS, Role
from relay.reception.rules import Rules
from relay.reception.session import Limits, Surroundings

GREETING_SECONDS: Final = 0.2


async def serve_inbound(
    edge: Edge,
    certificates: Certificates | None,
    listening: Sequence[Listening],
    *,
    close: trio.Event,
    task_status: trio.TaskStatus[Sequence[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve there until `close`, and then as `relay.reception.ports` says. Reports the addresses."""
    surroundings = inbound_surroundings(edge, certificates)
    ports = [Port(each, surroundings) for each in listening]
    await serve_smtp(ports, close=close, grace_seconds=GRACE_SECONDS, task_status=task_status)


def inbound_surroundings(edge: Edge, certificates: Certificates | None) -> Callable[[], Surroundings[None]]:
    """Of all ports of the role: what stands behind them, asked for each connection."""
    role = Role(edge, edge.metrics.inbound, lambda: edge.config.inbound)
    door, nobody_guesses = Inbound(edge), Lockout()

    def surroundings() -> Surroundings[None]:
        return Surroundings(
            door=door,
            rules=_rules(edge.config, has_tls=certificates is not None),
            places=role.places,
            buffers=role.buffers,
            lockout=nobody_guesses,
            certificates=certificates,
            limits=Limits(sniff_seconds=GREETING_SECONDS),
            count_reply=role.count_reply,
        )

    return surroundings


def _rules(config: Config, *, has_tls: bool) -> Rules:
    return Rules.inbound(
        config.ehlo_name, has_tls=has_tls, message_bytes_max=config.inbound.message_bytes_max
    )
