"""What all ports of one role (submission's, or inbound mail's) share, as its section of `relay.toml` has it.

The invariant: **all ports of a role are one place**: they share connections, memory and counters, so that nobody gains
anything by going from one to the other. Two roles share nothing but the certificate: strangers cannot take what is
there for members.

Bounds are asked for at each use, so that they may change while the relay runs.

May import what `relay.edge` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from relay.config import ConfigError
from relay.config_doors import InboundConfig, SubmissionConfig, TlsConfig
from relay.edge import Edge
from relay.metrics import SmtpMetrics
from relay.reception.buffers import Buffers
from relay.reception.certificates import CertificateError, Certificates
from relay.reception.places import WHY, Places

#: A message that is being handed in when the relay is stopped has so long to come to its end.
GRACE_SECONDS = 8.0


class Role:
    """Made once for all ports of a role."""

    def __init__(
        self, edge: Edge, metrics: SmtpMetrics, section: Callable[[], SubmissionConfig | InboundConfig]
    ) -> None:
        turned_away = {why: metrics.turned_away.labels(why) for why in WHY}
        self.places = Places(
            lambda: section().connections_max,
            per_address_max=lambda: section().connections_per_address_max,
            count_turned_away=lambda why: turned_away[why].inc(),
        )
        self.buffers = Buffers(lambda: section().buffered_bytes_max)
        self._replies = cache(metrics.replies.labels)
        edge.settings.observers.append(lambda before: self.buffers.look_again())
        metrics.connections.set_function(lambda: self.places.connections)

    def count_reply(self, command: str, code: int) -> None:
        self._replies(command, code // 100).inc()


def open_certificates(directory: Path, tls: TlsConfig) -> Certificates | None:
    """None: `[tls]` has none. Raises ConfigError where its files cannot be used."""
    if not tls.is_there:
        return None
    try:
        return Certificates(directory / tls.certificate, directory / tls.key)
    except CertificateError as error:
        raise ConfigError(f"[tls] certificate, key: {error}") from error
