"""What the tests of verification share."""

from __future__ import annotations

from tests.world.dns import FakeDns


def strings(*values: str, octets: int = 255) -> tuple[tuple[bytes, ...], ...]:
    """Records, each split as a name server would."""
    return tuple(
        tuple(value[at : at + octets].encode() for at in range(0, len(value), octets)) for value in values
    )


def publish(dns: FakeDns, records: list[dict[str, str]]) -> None:
    """What a member does with what `dns` prints."""
    for record in records:
        dns.txt[record["name"]] = list(strings(record["value"]))
