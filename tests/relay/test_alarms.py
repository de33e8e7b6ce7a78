"""Which alarms are active, and what they say."""

from __future__ import annotations

from pathlib import Path

from relay import alarms
from relay.events import (
    NOBODY,
    DomainCheckFailed,
    DomainPaused,
    DomainUnverified,
    DomainVerified,
    Evidence,
    SourceDelisted,
    SourceListed,
)
from tests.world.relay import DID, DOMAIN, OTHER_DID, World, open_world, run

EVIDENCE = Evidence(window_start=1, window_end=2, first_seq=1, last_seq=2, final=40, bounced=3, complaints=0)


def active(world: World) -> list[tuple[str, str, str]]:
    return [(alarm.name, alarm.about, alarm.did) for alarm in world.core.alarms.active()]


def test_what_is_wrong_with_a_domain_is_active_until_it_is_right(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            store = world.core.store
            assert active(world) == []
            await store.append(
                [DomainPaused(did=DID, domain=DOMAIN, status="paused_bounce_rate", evidence=EVIDENCE)]
            )
            (alarm,) = world.core.alarms.active()
            assert (alarm.name, alarm.about, alarm.did) == ("domain_paused", DOMAIN, DID)
            assert alarm.since_us == store.get(store.last_seq).time_us
            assert "3 of 40 messages" in alarm.says[0]
            assert "3 of 40 messages" in alarm.says_member[0]
            assert not any("atmos-relay" in line for line in alarm.says_member)
            (shown,) = await world.command("alarm_list")
            assert (shown["name"], shown["about"], shown["did"]) == ("domain_paused", DOMAIN, DID)
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            assert active(world) == []

            # It was never right: nothing was lost.
            await store.append([DomainCheckFailed(did=DID, domain=DOMAIN, failed=["spf"])])
            await store.append([DomainVerified(did=DID, domain=DOMAIN)])
            assert active(world) == []
            await store.append([DomainCheckFailed(did=DID, domain=DOMAIN, failed=["spf"])])
            assert active(world) == [("domain_unverified", DOMAIN, DID)]
            (first,) = world.core.alarms.active()
            assert "may not send from" in first.says_member[0]
            await store.append([DomainUnverified(did=DID, domain=DOMAIN, failed=["spf"])])
            (second,) = world.core.alarms.active()
            assert "may not send, since" in second.says_member[0]
            # Who was told of the one is told of the other.
            assert second.since_us == store.get(store.last_seq).time_us
            await store.append([DomainVerified(did=DID, domain=DOMAIN)])
            assert active(world) == []

    run(main)


def test_who_only_claims_a_name_is_not_told_of_its_pause(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.enrol(OTHER_DID, DOMAIN)
            await world.command("domain_pause", domain=DOMAIN, did=DID, reason="spam")
            assert active(world) == [("domain_paused", DOMAIN, DID)]
            with world.core.store.read() as view:
                assert alarms.of_member(view, OTHER_DID) == []
                assert [alarm.about for alarm in alarms.of_member(view, DID)] == [DOMAIN]

    run(main)


def test_a_listed_address_is_one_alarm_until_the_last_list_lets_it_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            store = world.core.store
            for dnsbl, codes in (("zen.example", ["127.0.0.2"]), ("bl.example", ["127.0.0.9"])):
                await store.append([SourceListed(source="192.0.2.25", dnsbl=dnsbl, codes=codes)])
            first = store.get(store.last_seq - 1).time_us
            await store.append(
                [SourceListed(source="192.0.2.25", dnsbl="zen.example", codes=["127.0.0.3"], text="why")]
            )
            (alarm,) = world.core.alarms.active()
            assert (alarm.name, alarm.about, alarm.did) == ("source_listed", "192.0.2.25", NOBODY)
            assert alarm.since_us == first
            assert "zen.example answers 127.0.0.3: why" in alarm.says
            await store.append([SourceDelisted(source="192.0.2.25", dnsbl="zen.example")])
            assert [one["dnsbl"] for one in await world.command("listing_list")] == ["bl.example"]
            await store.append([SourceDelisted(source="192.0.2.25", dnsbl="bl.example")])
            assert active(world) == []
            assert world.core.alarms.counts() == dict.fromkeys(alarms.NAMES, 0)

    run(main)
