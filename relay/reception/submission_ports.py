"""The ports for members, as `[submission]` and `[tls]` of `relay.toml` have them.

All ports of the role are one place (`relay.reception.role`), and share who has guessed too many passwords, too.

What may change while the relay runs is asked for each connection, or whenever it is needed: sizes, counts, bounds, the
sniffing, our name. Addresses and the paths of the certificate need a restart; what is in its files does not.

A password is taken in the clear on an address of this machine alone, from this machine.

May import what `relay.edge` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import trio

from relay.config import Config, is_loopback
from relay.edge import Edge
from relay.listening import Listening
from relay.lockout import Lockout
from relay.principals import Principal
from relay.reception.certificates import Certificates
from relay.reception.ports import Port, serve_smtp
from relay.reception.role import GRACE_SECONDS, Role
from relay.reception.rules import Rules
from relay.reception.session import Limits, Surroundings
from relay.reception.submission import Submission


async def serve_submission(
    edge: Edge,
    certificates: Certificates | None,
    listening: Sequence[Listening],
    *,
    close: trio.Event,
    task_status: trio.TaskStatus[Sequence[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve there until `close`, and then as `relay.reception.ports` says. `listening` is for each of `bind`, then of
    `bind_tls`; so are the addresses that it reports."""
    ports = _ports(edge, certificates, listening)
    await serve_smtp(ports, close=close, grace_seconds=GRACE_SECONDS, task_status=task_status)


def _ports(
    edge: Edge, certificates: Certificates | None, listening: Sequence[Listening]
) -> list[Port[Principal]]:
    submission = edge.config.submission
    role = Role(edge, edge.metrics.submission, lambda: edge.config.submission)
    door, lockout = Submission(edge), Lockout()

    def surroundings(bind: str, *, is_tls_at_once: bool) -> Surroundings[Principal]:
        config = edge.config
        return Surroundings(
            door=door,
            rules=_rules(config, has_tls=certificates is not None, auth_in_clear=is_loopback(bind)),
            places=role.places,
            buffers=role.buffers,
            lockout=lockout,
            certificates=certificates,
            limits=Limits(sniff_seconds=config.submission.sniff_seconds),
            is_tls_at_once=is_tls_at_once,
            count_reply=role.count_reply,
        )

    binds = [(bind, False) for bind in submission.bind] + [(bind, True) for bind in submission.bind_tls]
    return [
        Port(each, partial(surroundings, bind, is_tls_at_once=is_tls_at_once))
        for each, (bind, is_tls_at_once) in zip(listening, binds, strict=True)
    ]


def _rules(config: Config, *, has_tls: bool, auth_in_clear: bool) -> Rules:
    return Rules.submission(
        config.ehlo_name,
        has_tls=has_tls,
        auth_in_clear=auth_in_clear,
        message_bytes_max=config.submission.message_bytes_max,
        recipients_max=config.submission.recipients_max,
    )
