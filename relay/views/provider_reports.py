"""What mailbox providers say of domains' mail, as the operator recorded it: by provider, domain and day, the last word.

Nothing here is personal, and rows stay for good.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from relay.codec import Recorded
from relay.events import ProviderReported
from spool.views import Snapshot, Transaction

#: Day (`2026-11-30`), provider, domain, each behind a NUL -> Report. By day first: the last ones are asked for.
_REPORTS = "provider_reports"


class Report(msgspec.Struct, array_like=True):
    provider: str
    domain: str
    date: str
    spam_rate: float | None
    compliance: dict[str, str]
    by: str
    recorded_at: int
    #: Of its `provider.reported`.
    seq: int


_report = msgspec.msgpack.Decoder(Report)
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class ProviderReportsProjector:
    name = "provider_reports"
    version = 1
    tables = (_REPORTS,)
    minds = (ProviderReported,)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ProviderReported):
            report = Report(
                event.provider,
                event.domain,
                event.date,
                event.spam_rate,
                event.compliance,
                event.by,
                recorded.time_us,
                recorded.seq,
            )
            tx.put(_REPORTS, f"{event.date}\0{event.provider}\0{event.domain}".encode(), _encode(report))


def reports(view: Snapshot, since: str, until: str) -> Iterator[Report]:
    """Of the days from `since` to `until`, both as `2026-11-30`; the oldest first."""
    for _, value in view.scan(_REPORTS, since.encode(), until.encode() + b"\xff"):
        yield _report.decode(value)
