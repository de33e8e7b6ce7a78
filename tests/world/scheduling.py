"""What the tests of scheduler share."""

from relay.delivery.scheduler import (
    Scheduler,
    SchedulerLimits,
    Start,
)
from relay.delivery.sites import (
    SiteLimits,
)
from relay.views.due import Lane, lane_of

SITE, OTHER_SITE = "mx.example", "mx.example.net"


def lane(member: str = "alice", domain: str = "example.com", *, category: str = "login-link") -> Lane:
    return lane_of(did=member, category=category, address=f"friend@{domain}")


def limits(
    *,
    connections_max: int = 100,
    per_site: int = 20,
    per_member: int = 100,
    per_minute: int | None = None,
    site_per_minute: int | None = None,
    messages: int = 100,
    seconds: float = 300,
    idle: float = 5,
) -> SchedulerLimits:
    return SchedulerLimits(
        connections_max=connections_max,
        member_connections_max=per_member,
        messages_per_minute_max=per_minute,
        messages_per_connection_max=messages,
        connection_seconds_max=seconds,
        idle_seconds_max=idle,
        of_site=lambda name: SiteLimits(per_site, site_per_minute),
    )


def begin_all(scheduler: Scheduler, now: float = 0) -> list[tuple[int, Start]]:
    """Start whatever is to be started, as if every lane had no end of messages."""
    begun = []
    while (start := scheduler.next_start(now)) is not None:
        begun.append((scheduler.begin(start, now), start))
        assert len(begun) < 10_000
    return begun
