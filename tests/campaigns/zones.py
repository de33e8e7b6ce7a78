"""The DNS of one simulated relay's members, and whether what the relay makes of it is true.

Members publish the records that the relay tells them at enrolment. Then, for days, records are withdrawn, damaged, slow
to come or not to be had, for minutes or until the world is healed; and `domain verify` is ordered now and then.

`Zones` sees every answer that the name servers give, and every event when it becomes true:

- `domain.verified` needs each record to have been seen as it was published, a moment before
- `domain.check_failed` and `domain.unverified` need each record that they name to have been seen wrong: a DNS that does
  not tell takes nothing from anybody
- a verified domain is looked at again CHECK_SECONDS after its last check, or as soon as there is a relay again, but for
  the RETRY_SECONDS after an answer that told nothing
- who is told that a domain is verified finds it in the log
- once the world is healed, what was verified is found right within a day, and the rest is verified when it is ordered

What of this the log alone must show (the grace time, and who may send) is in `tests.world.promises`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import trio

from relay.codec import Recorded
from relay.domains.diagnosis import CHECKS, Strings
from relay.domains.verification import CHECK_SECONDS, RETRY_SECONDS
from relay.events import DomainCheckFailed, DomainUnverified, DomainVerified
from tests.campaigns.people import DAYS_SECONDS, MEMBERS, People, pace
from tests.world.internet import DAY, HOUR, MINUTE, Trouble, TroubledDns
from tests.world.machine import Machine
from tests.world.relay import World

#: From the first answer of a check until its event is true, at most: the slowest answers, twice, and the slowest disk.
MOMENT_SECONDS = 5 * MINUTE
SLOW_SECONDS = 20.0


class _Seen(NamedTuple):
    """An answer of the name servers about one record. `right` None: they did not tell."""

    at: float
    right: bool | None


class Zones:
    def __init__(
        self,
        machine: Machine,
        people: People,
        dns: TroubledDns,
        breaches: list[str],
        *,
        keeps_time: bool,
        seed: int,
    ) -> None:
        """`keeps_time`: nobody sets the clock, so that it is known when a domain is due."""
        self._keeps_time = keeps_time
        self._machine = machine
        self._people = people
        self._dns = dns
        self._breaches = breaches
        self._dice = random.Random(f"zones {seed}")
        #: Domain -> check -> the record's name.
        self._names: dict[str, dict[str, str]] = {}
        self._seen: dict[str, list[_Seen]] = defaultdict(list)
        self._untold_at: dict[str, float] = {}
        #: Verified domain -> when its last check became known, and whether its records were right.
        self._checked: dict[str, tuple[float, bool]] = {}
        self._up_since = 0.0
        #: The last answer that was given while a relay was up.
        self._asked_at = 0.0

    async def publish(self, world: World) -> None:
        """What the relay says, and trouble with it. Most members verify at once."""
        self._dns.on_txt.append(self._answered)
        for did, domain in MEMBERS.items():
            records = (await world.command("dns", domain=domain))["domains"][0]["records"]
            self._names[domain] = {check: item["name"] for check, item in zip(CHECKS, records, strict=True)}
            for item in records:
                self._dns.txt[item["name"]] = [(item["value"].encode(),)]
            if self._dice.random() < 0.8:
                await self._verify(did, domain)
            for _ in range(self._dice.randint(0, 6)):
                self._dns.troubles.setdefault(self._dice.choice(records)["name"], []).append(self._trouble())

    def _trouble(self) -> Trouble:
        begin = self._dice.choice((self._dice.uniform(0, DAY), self._dice.uniform(0, DAYS_SECONDS)))
        length = self._dice.choice((10 * MINUTE, 3 * HOUR, 30 * HOUR, 110 * HOUR, 110 * HOUR))
        kind = self._dice.choice(("gone", "gone", "damaged", "damaged", "servfail", "slow"))
        return Trouble(kind, begin, begin + length, count=self._dice.uniform(1, SLOW_SECONDS))

    async def live(self) -> None:
        while not self._people.is_over:
            await trio.sleep(self._dice.expovariate(1 / (HOUR * pace())))
            await self._verify(*self._dice.choice(list(MEMBERS.items())))

    async def _verify(self, did: str, domain: str) -> bool:
        """Whether the relay says that it is."""
        before = len(self._machine.journal.events)
        answer = await self._people.command("domain_verify", did=did, domain=domain)
        if answer is None or not answer["verified"]:
            return False
        since = self._machine.journal.events[before:]
        if not any(isinstance(item.event, DomainVerified) and item.event.domain == domain for item in since):
            self._breaches.append(f"{domain} was said to be verified, and the log does not say so")
        return True

    async def settle(self) -> None:
        """The world is healed: after a day all is well."""
        await trio.sleep(CHECK_SECONDS + HOUR)
        self._look_for_late_checks()
        for did, domain in MEMBERS.items():
            if domain not in self._checked:
                if not await self._verify(did, domain):
                    self._breaches.append(f"{domain} has its records, and is not verified")
            elif not self._checked[domain][1]:
                self._breaches.append(f"{domain} has its records again, and the relay does not see it")

    # ---------------------------------------------------------------- what was answered, and what was made of it

    def _answered(self, name: str, answer: list[Strings] | None) -> None:
        now = trio.current_time()
        right = None if answer is None else answer == self._dns.txt.get(name)
        self._seen[name].append(_Seen(now, right))
        if self._machine.world is not None:
            self._asked_at = now
        for domain, names in self._names.items():
            if right is None and name in names.values():
                self._untold_at[domain] = now

    def see(self, recorded: Sequence[Recorded]) -> None:
        now = trio.current_time()
        since = now - MOMENT_SECONDS
        if self._machine.world is None:  # a life begins, with what became true at the end of another
            self._up_since = now
            since = min(since, self._asked_at - MOMENT_SECONDS)
        self._look_for_late_checks()
        for item in recorded:
            match item.event:
                case DomainVerified(domain=domain):
                    for check in CHECKS:
                        self._expect(item, domain, check, since, right=True)
                    self._checked[domain] = now, True
                case DomainCheckFailed(domain=domain, failed=failed):
                    for check in failed:
                        self._expect(item, domain, check, since, right=False)
                    self._checked[domain] = now, False
                case DomainUnverified(domain=domain, failed=failed):
                    for check in failed:
                        self._expect(item, domain, check, since, right=False)
                    self._checked.pop(domain, None)

    def _expect(self, item: Recorded, domain: str, check: str, since: float, *, right: bool) -> None:
        seen = self._seen[self._names[domain][check]]
        if not any(answer.right is right for answer in seen if answer.at >= since):
            how = "right" if right else "wrong"
            self._breaches.append(
                f"seq {item.seq}, {item.event.TYPE} of {domain}: the record for {check} was not seen {how}"
            )

    def _look_for_late_checks(self) -> None:
        for domain, (checked_at, _) in self._checked.items():
            due_at = max(
                checked_at + CHECK_SECONDS,
                self._up_since,
                self._untold_at.get(domain, 0.0) + RETRY_SECONDS,
            )
            late = trio.current_time() - due_at
            if self._keeps_time and late > MOMENT_SECONDS:
                self._breaches.append(f"{domain} should have been looked at again {late:.0f} s ago")
