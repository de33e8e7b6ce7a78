"""The ports for members, as `[submission]` and `[tls]` of `relay.toml` have them.

The invariant: **all ports of the role are one place**: they share connections, memory, and who has guessed too many
passwords, so that nobody gains anything by going from one to the other.

What may change while the relay runs is asked for each connection, or whenever it is needed: sizes, counts, bounds, the
sniffing, our name. Addresses and the paths of the certificate need a restart; what is in its files does not.

A password is taken in the clear on an address of this machine alone, from this machine.

May import what `relay.edge` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import trio

from relay.config import Config, ConfigError, TlsConfig, is_loopback
from relay.edge import Edge
from relay.principals import Principal
from relay.reception.buffers import Buffers
from relay.reception.certificates import CertificateError, Certificates
from relay.reception.lockout import Lockout
from relay.reception.places import WHY, Places
from relay.reception.ports import Port, serve_smtp
from relay.reception.rules import Rules
from relay.reception.session import Limits, Surroundings
from relay.reception.submission import Submission

#: A message that is being handed in when the relay is stopped has so long to come to its end.
GRACE_SECONDS = 8.0


def open_certificates(directory: Path, tls: TlsConfig) -> Certificates | None:
    """None: `[tls]` has none. Raises ConfigError where its files cannot be used."""
    if not tls.is_there:
        return None
    try:
        return Certificates(directory / tls.certificate, directory / tls.key)
    except CertificateError as error:
        raise ConfigError(f"[tls] certificate, key: {error}") from error


async def serve_submission(
    edge: Edge,
    certificates: Certificates | None,
    *,
    close: trio.Event,
    task_status: trio.TaskStatus[Sequence[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `close`, and then as `relay.reception.ports` says. Reports the addresses, those of `bind` first.
    Raises OSError where one cannot be had."""
    ports = _ports(edge, certificates)
    await serve_smtp(ports, close=close, grace_seconds=GRACE_SECONDS, task_status=task_status)


def _ports(edge: Edge, certificates: Certificates | None) -> list[Port[Principal]]:
    metrics, submission = edge.metrics, edge.config.submission
    turned_away = {why: metrics.submission_turned_away.labels(why) for why in WHY}
    places = Places(
        lambda: edge.config.submission.connections_max,
        per_address_max=lambda: edge.config.submission.connections_per_address_max,
        count_turned_away=lambda why: turned_away[why].inc(),
    )
    buffers = Buffers(lambda: edge.config.submission.buffered_bytes_max)
    edge.settings.observers.append(lambda before: buffers.look_again())
    metrics.submission_connections.set_function(lambda: places.connections)
    if certificates is not None:
        metrics.certificate_expires.set_function(lambda: certificates.not_after.timestamp())
    door, lockout = Submission(edge), Lockout()
    replies = cache(metrics.submission_replies.labels)

    def surroundings(bind: str, *, is_tls_at_once: bool) -> Surroundings[Principal]:
        config = edge.config
        return Surroundings(
            door=door,
            rules=_rules(config, has_tls=certificates is not None, auth_in_clear=is_loopback(bind)),
            places=places,
            buffers=buffers,
            lockout=lockout,
            certificates=certificates,
            limits=Limits(sniff_seconds=config.submission.sniff_seconds),
            is_tls_at_once=is_tls_at_once,
            count_reply=lambda command, code: replies(command, code // 100).inc(),
        )

    return [
        Port(*_host_and_port(bind), partial(surroundings, bind, is_tls_at_once=is_tls_at_once))
        for binds, is_tls_at_once in ((submission.bind, False), (submission.bind_tls, True))
        for bind in binds
    ]


def _rules(config: Config, *, has_tls: bool, auth_in_clear: bool) -> Rules:
    return Rules.submission(
        config.ehlo_name,
        has_tls=has_tls,
        auth_in_clear=auth_in_clear,
        message_bytes_max=config.submission.message_bytes_max,
        recipients_max=config.submission.recipients_max,
    )


def _host_and_port(bind: str) -> tuple[str, int]:
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)
