"""Alarms begin: a line in the log, a mail to the operator and to the member, once a day."""

from __future__ import annotations

import email
import email.policy
import logging
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio

from relay.alarm_watch import MAILS_AN_HOUR_MAX, Expiry, watch_alarms
from relay.events import (
    NOBODY,
    AlarmQueued,
    DomainAdded,
    DomainCheckFailed,
    DomainPaused,
    DomainResumed,
    DomainUnverified,
    DomainVerified,
    Evidence,
    SourceDelisted,
    SourceListed,
)
from relay.times import DAY_US, SECOND_US
from tests.world.process import configure
from tests.world.relay import DID, DOMAIN, World, make_directory, open_world, run, virtual_clock

OPERATOR = "ops@elsewhere.example"
MEMBER = "me@elsewhere.example"
HOUR = 3600
EVIDENCE = Evidence(window_start=1, window_end=2, first_seq=1, last_seq=2, final=40, bounced=3, complaints=0)
PAUSED = DomainPaused(did=DID, domain=DOMAIN, status="paused_bounce_rate", evidence=EVIDENCE)


def directory_of(tmp_path: Path, **sections: str) -> Path:
    directory = make_directory(tmp_path / "data")
    configure(directory, inbound=f'operator_mailbox = "{OPERATOR}"', **sections)
    return directory


def mails(world: World) -> list[AlarmQueued]:
    return [event for event in world.events() if isinstance(event, AlarmQueued)]


def told(of: Iterable[AlarmQueued]) -> list[tuple[str, str, str, str]]:
    found = []
    for mail in of:
        assert mail.personal is not None
        found.append((mail.did, mail.personal.address, mail.alarm, mail.about))
    return found


def test_a_pause_is_told_to_the_operator_and_to_the_member_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_world(directory_of(tmp_path)) as world:
            await world.command("domain_set_forward", domain=DOMAIN, to=MEMBER)
            await world.core.store.append([PAUSED])
            await trio.sleep(1)
            operators, members = mails(world)
            assert told([operators, members]) == [
                (NOBODY, OPERATOR, "domain_paused", DOMAIN),
                (DID, MEMBER, "domain_paused", DOMAIN),
            ]
            assert any("domain resume" in line for line in operators.says)
            assert not any("atmos-relay" in line or DID in line for line in members.says)
            lines = [record for record in caplog.records if record.getMessage() == "alarm.domain_paused"]
            assert [getattr(line, "about", None) for line in lines] == [DOMAIN]
            page = await world.core.metrics_page.text()
            assert b'atmos_alarms{name="domain_paused"} 1.0' in page
            assert b'atmos_alarms{name="clock_jumped"} 0.0' in page

            # It goes out, although all of that domain's mail is held.
            await world.until_so_many_are_final(2)
            (mail,) = [one for one in world.mx.messages if one.rcpt_to == (MEMBER,)]
            read = email.message_from_bytes(mail.data, policy=email.policy.default)
            assert read["Subject"] == f"{DOMAIN} is paused"
            _, shown, _ = await world.request("GET", "/v1/messages?limit=1")
            assert (shown["messages"][0]["category"], shown["messages"][0]["subject"]) == (
                "alarm",
                f"{DOMAIN} is paused",
            )

            # It stays so for days: nobody has to hear it again.
            await trio.sleep(3 * 24 * HOUR)
            assert len(mails(world)) == 2

    with caplog.at_level(logging.WARNING):
        run(main)


def test_what_comes_and_goes_is_told_once_a_day(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(directory_of(tmp_path)) as world:
            store = world.core.store
            for _ in range(5):
                await store.append([PAUSED])
                await trio.sleep(HOUR)
                await store.append([DomainResumed(did=DID, domain=DOMAIN)])
                await trio.sleep(HOUR)
            await store.append([PAUSED])
            assert len(mails(world)) == 1
            # It is so when the day is over: now it is told.
            await trio.sleep(15 * HOUR)
            assert len(mails(world)) == 2

    run(main)


def test_lost_records_are_told_and_what_comes_of_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(directory_of(tmp_path)) as world:
            store = world.core.store
            await store.append([DomainVerified(did=DID, domain=DOMAIN)])
            await store.append([DomainCheckFailed(did=DID, domain=DOMAIN, failed=["spf"])])
            await trio.sleep(72 * HOUR)
            await store.append([DomainUnverified(did=DID, domain=DOMAIN, failed=["spf"])])
            await trio.sleep(72 * HOUR)
            first, second = mails(world)
            assert "may not send from" in first.says[0]
            assert "may not send, since" in second.says[0]

    run(main)


def test_a_start_tells_what_was_not_told(tmp_path: Path) -> None:
    async def main() -> None:
        directory = directory_of(tmp_path, monitoring="mail_alarms = false")
        async with open_world(directory) as world:
            await world.core.store.append([PAUSED])
            await trio.sleep(HOUR)
            assert mails(world) == []
        text = (directory / "relay.toml").read_text()
        (directory / "relay.toml").write_text(text.replace("mail_alarms = false", "mail_alarms = true"))
        for _ in range(2):
            async with open_world(directory, enrol=False) as world:
                await trio.sleep(HOUR)
                assert len(mails(world)) == 1

    run(main)


def test_to_whom_no_mail_may_go(tmp_path: Path) -> None:
    """A member on whose list the operator's mailbox stands silences nothing; one who is on a list gets nothing."""

    async def main() -> None:
        async with open_world(directory_of(tmp_path)) as world:
            await world.command("domain_set_forward", domain=DOMAIN, to=MEMBER)
            for address in (OPERATOR, MEMBER):
                await world.request("POST", "/v1/suppressions", json={"recipient": address})
            await world.core.store.append([PAUSED])
            await world.until_so_many_are_final(1)
            assert told(mails(world)) == [(NOBODY, OPERATOR, "domain_paused", DOMAIN)]
            assert [one.rcpt_to for one in world.mx.messages] == [(OPERATOR,)]

    run(main)


def test_much_that_goes_wrong_at_once_does_not_fill_the_mailbox(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(directory_of(tmp_path)) as world:
            names = [f"d{number}.example" for number in range(MAILS_AN_HOUR_MAX + 50)]
            for name in names:
                added = DomainAdded(
                    did=DID, domain=name, selector_stem="s", rsa_public="r", ed25519_public="e"
                )
                paused = DomainPaused(did=DID, domain=name, status="paused_bounce_rate", evidence=EVIDENCE)
                await world.core.store.append([added, paused])
            await trio.sleep(HOUR / 2)
            assert len(mails(world)) == MAILS_AN_HOUR_MAX
            await trio.sleep(HOUR)
            assert len(mails(world)) == 2 * MAILS_AN_HOUR_MAX
            await trio.sleep(4 * HOUR)
            assert sorted(mail.about for mail in mails(world)) == sorted(names)

    run(main)


def test_domains_that_go_wrong_do_not_keep_the_machines_alarms_from_the_operator(tmp_path: Path) -> None:
    async def main() -> None:
        ahead = 0
        async with open_world(directory_of(tmp_path), clock=lambda: virtual_clock() + ahead) as world:
            for number in range(MAILS_AN_HOUR_MAX + 5):
                name = f"d{number}.example"
                added = DomainAdded(
                    did=DID, domain=name, selector_stem="s", rsa_public="r", ed25519_public="e"
                )
                paused = DomainPaused(did=DID, domain=name, status="paused_bounce_rate", evidence=EVIDENCE)
                await world.core.store.append([added, paused])
            await trio.sleep(HOUR / 10)
            assert len(mails(world)) == MAILS_AN_HOUR_MAX
            ahead = 100 * SECOND_US
            await trio.sleep(61)
            assert [mail.alarm for mail in mails(world)[MAILS_AN_HOUR_MAX:]] == ["clock_jumped"]

    run(main)


def test_a_listed_address_is_told_until_it_is_let_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(directory_of(tmp_path)) as world:
            listed = SourceListed(source="192.0.2.25", dnsbl="zen.example", codes=["127.0.0.2"])
            await world.core.store.append([listed])
            await trio.sleep(1)
            assert told(mails(world)) == [(NOBODY, OPERATOR, "source_listed", "192.0.2.25")]
            assert world.core.alarms.counts()["source_listed"] == 1
            await world.core.store.append([SourceDelisted(source="192.0.2.25", dnsbl="zen.example")])
            assert world.core.alarms.counts()["source_listed"] == 0

    run(main)


def test_a_certificate_that_expires_is_told_each_day(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(directory_of(tmp_path), enrol=False) as world, trio.open_nursery() as nursery:
            shown = Expiry("tls.pem", virtual_clock() + 15 * DAY_US)
            await nursery.start(watch_alarms, world.core, lambda: shown)
            await trio.sleep(23 * HOUR)
            assert world.core.alarms.active() == []
            await trio.sleep(49 * HOUR)
            assert [mail.about for mail in mails(world)] == ["tls.pem"] * 2
            shown = Expiry("tls.pem", virtual_clock() + 90 * DAY_US)
            await trio.sleep(24 * HOUR)
            assert world.core.alarms.active() == []
            assert len(mails(world)) == 2
            nursery.cancel_scope.cancel()

    run(main)


def test_a_disk_that_fills_is_told_before_nothing_is_accepted(tmp_path: Path) -> None:
    async def main() -> None:
        # No disk has that much; the log may have so little.
        directory = directory_of(tmp_path)
        text = (directory / "relay.toml").read_text()
        text = text.replace("# bytes_max = 0", "bytes_max = 1000").replace(
            "# free_bytes_min = 1073741824", "free_bytes_min = 1000000000000000"
        )
        (directory / "relay.toml").write_text(text)
        async with open_world(directory, enrol=False) as world:
            await world.enrol()
            await trio.sleep(120)
            assert [(mail.alarm, mail.about) for mail in mails(world)] == [
                ("disk_near_reserve", "disk"),
                ("disk_near_reserve", "log"),
            ]

    run(main)


def test_a_clock_that_is_set_is_seen_both_ways(tmp_path: Path) -> None:
    async def main() -> None:
        ahead = 0
        async with open_world(directory_of(tmp_path), clock=lambda: virtual_clock() + ahead) as world:
            await trio.sleep(2 * HOUR)
            assert world.core.alarms.active() == []
            ahead = 100 * SECOND_US
            await trio.sleep(61)
            (forward,) = world.core.alarms.active()
            assert "forward by 100 seconds" in forward.says[0]
            ahead = -1000 * SECOND_US
            await trio.sleep(61)
            back, behind = world.core.alarms.active()
            assert "back by 1,100 seconds" in back.says[0]
            assert "behind the last event" in behind.says[0]
            await trio.sleep(2 * HOUR)
            assert world.core.alarms.active() == [back]
            await trio.sleep(25 * HOUR)
            assert world.core.alarms.active() == []

    run(main)
