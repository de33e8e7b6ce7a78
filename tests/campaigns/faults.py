"""Which troubles a seed of the simulated world draws, and the relay that it draws them for."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from relay.config import CONFIG_FILE
from tests.campaigns.people import MEMBERS, TROUBLE_SECONDS
from tests.world.deterministic import make_seeded_directory
from tests.world.internet import DAY, HOUR, MINUTE, Trouble

FAULTS = (
    # of the machine
    "kill", "power", "stop", "failing-disk", "full-disk", "slow-disk", "clock", "lost-views", "old-views",
    # of the network and of receivers
    "dns", "receivers", "moods", "hang-ups",
    # what people do
    "crowd", "keys", "pauses", "suppressions", "orders", "limits", "reputation", "notifications",
    "erasures", "streams", "backups", "verification", "calls", "reports",
    "schedules", "batches", "webhooks",
)  # fmt: skip
SITES = {
    "one.example": ("mx1.one.example",),
    "two.example": ("mx1.two.example", "mx2.two.example"),
    "three.example": ("mx1.three.example",),
}
FREE_BYTES_MIN = 16_384
RETRY = """[retry]
delays_seconds = [60, 300, 900, 1800]
give_up_seconds = 14400
"""
SPOOL = """[spool]
segment_bytes = {segment_bytes}
free_bytes_min = {free_bytes_min}
retention_days = {retention_days}
"""
REPUTATION = """
[reputation]
messages_min = {messages_min}
bounces_min = 1
complaints_min = 1
transactional_per_hour_while_paused = 2
"""
NO_LIMITS = "tiers = [ { hour = 1000000, day = 1000000 } ]"
SMALL_TIERS = "tiers = [ { until_day = 1, hour = 4, day = 12 }, { hour = 6, day = 20 } ]"
HOST_TROUBLES = (
    "refuses", "silent", "mute", "busy", "throttles", "greylisting", "tempfail", "full", "421", "hang", "reset",
    "garbage", "permfail", "defer-message", "disconnect-after-dot", "hang-after-dot",
)  # fmt: skip
MOODS = (
    "tempfail", "full", "421", "garbage", "reset", "hang", "permfail", "disconnect-in-data", "disconnect-after-dot",
    "hang-after-dot", "refuse-early", "defer-message", "refuse-message", "close-after-message",
)  # fmt: skip


def draw_faults(seed: int) -> tuple[str, ...]:
    dice = random.Random(f"faults {seed}")
    return tuple(fault for fault in FAULTS if dice.random() < 0.5)


@cache
def _template() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="relay-template-")) / "data"
    return make_seeded_directory(directory, MEMBERS.values())


def _configure(data: Path, faults: Sequence[str], dice: random.Random) -> None:
    path = data / CONFIG_FILE
    spool = SPOOL.format(
        segment_bytes=dice.choice((4096, 16_384, 1 << 20)),
        free_bytes_min=FREE_BYTES_MIN if "full-disk" in faults else 0,
        retention_days=1 if "erasures" in faults else 30,
    )
    text = path.read_text().replace("[retry]\n", RETRY).replace("[spool]\n", spool)
    if "verification" in faults:
        text = text.replace("require_verified_domains = false", "require_verified_domains = true")
    if "limits" in faults:
        text = text.replace(NO_LIMITS, SMALL_TIERS)
        share = f"connections_per_member_max = {dice.choice((1, 2, 250))}"
        assert "# connections_per_member_max = 250" in text
        text = text.replace("# connections_per_member_max = 250", share)
    path.write_text(text + REPUTATION.format(messages_min=3 if "reputation" in faults else 1_000_000))


def _trouble(dice: random.Random, kinds: Sequence[str]) -> Trouble:
    begin = dice.uniform(0, TROUBLE_SECONDS)
    length = dice.choice((MINUTE, 10 * MINUTE, HOUR, DAY))
    return Trouble(dice.choice(kinds), begin, begin + length, count=dice.choice((1, 2, 600)))
