"""What the tests of policy simulate share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.codec import Recorded
from relay.config import Config, ReputationConfig, WarmingConfig, WarmingTier
from relay.events import (
    DomainAdded,
    DomainPaused,
    DomainResumed,
    Event,
    MemberAdded,
    MessageBounced,
    MessageComplained,
    MessageQueued,
    MessageSent,
    SendAccepted,
)
from relay.past.simulation import POLICY_PROJECTORS, Simulation, simulate
from spool.views.scratch import open_scratch
from tests.world.relay import DID

START_US = 1_764_000_000_000_000


DOMAINS = ("a.example", "b.example")


OUTCOMES = {"sent": MessageSent, "bounced": MessageBounced, "complained": MessageComplained}


#: So lax that nothing is refused or paused.
LAX = WarmingConfig(tiers=(WarmingTier(hour=10**6, day=10**6),))


TOLERANT = ReputationConfig(messages_min=10**6)


def policy(
    warming: WarmingConfig = LAX, reputation: ReputationConfig = TOLERANT, *, verified: bool = False
) -> Config:
    return Config(
        operator_domain="relay.example",
        public_url="https://relay.example",
        require_verified_domains=verified,
        warming=warming,
        reputation=reputation,
    )


def tiers(*limits: tuple[int | None, int, int]) -> WarmingConfig:
    """(until_day, hour, day) of each."""
    return WarmingConfig(tiers=tuple(WarmingTier(until_day=u, hour=h, day=d) for u, h, d in limits))


def simulated(log: Sequence[Recorded], config: Config) -> Simulation:
    with open_scratch(POLICY_PROJECTORS) as tables:
        return simulate(log, config, tables)


class Draft:
    """A log in the making: one member, two domains that were enrolled at the beginning."""

    def __init__(self) -> None:
        self.log: list[Recorded] = []
        self.now = START_US
        self.add(MemberAdded(did=DID))
        for name in DOMAINS:
            self.add(DomainAdded(did=DID, domain=name, selector_stem="s", rsa_public="", ed25519_public=""))

    def add(self, event: Event) -> int:
        self.log.append(Recorded(len(self.log) + 1, self.now, event))
        return len(self.log)

    def after(self, microseconds: int) -> Draft:
        self.now += microseconds
        return self

    def send(self, recipients: int = 1, domain: str = DOMAINS[0]) -> int:
        """Sequence number of the `send.accepted`; those of its messages follow."""
        seq = self.add(
            SendAccepted(
                did=DID,
                domain=domain,
                category="bulk",
                recipients=recipients,
                key_id="k",
                selector_stem="s",
                operator_domain="relay.example",
                operator_stem="s",
                message_id_entropy="e",
            )
        )
        for index in range(1, recipients + 1):
            self.add(
                MessageQueued(
                    did=DID, domain=domain, category="bulk", index=index, next_attempt_at=0, give_up_at=1
                )
            )
        return seq

    def fares(self, message_id: int, how: str) -> int:
        more: dict[str, Any] = {} if how == "complained" else {"attempt": 1}
        if how == "bounced":
            more["reason"] = "rejected"
        return self.add(OUTCOMES[how](did=DID, message_id=message_id, **more))

    def resume(self, domain: str = DOMAINS[0]) -> int:
        return self.add(DomainResumed(did=DID, domain=domain))

    def pause(self, status: str, domain: str = DOMAINS[0]) -> int:
        return self.add(DomainPaused(did=DID, domain=domain, status=status))
