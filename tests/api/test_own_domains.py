"""`/v1/domains`: a member sees what to publish and what is wrong, has the DNS looked at, and enrols where it may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.last_looks import KEPT_MAX, LastLooks, Look
from relay.quota import DEAR_AT_WORK_MAX, DEAR_PER_MINUTE, DEAR_WAIT_SECONDS_MAX
from tests.world.asgi import call
from tests.world.dns import FakeDns
from tests.world.process import configure
from tests.world.relay import (
    DID,
    DOMAIN,
    OPERATOR_DOMAIN,
    OTHER_DID,
    OTHER_DOMAIN,
    World,
    make_directory,
    open_world,
    run,
)
from tests.world.zone_records import publish

PATH = "/v1/domains"


def strict_directory(tmp_path: Path, **settings: str) -> Path:
    """Of a relay that requires verified domains."""
    directory = make_directory(tmp_path / "data")
    path = directory / "relay.toml"
    path.write_text(path.read_text().replace("verified_domains = false", "verified_domains = true"))
    configure(directory, **settings)
    return directory


async def shown(world: World, domain: str = DOMAIN, headers: dict[str, str] | None = None) -> Any:
    status, answer, _ = await world.request("GET", PATH, headers=headers)
    assert status == 200, answer
    (found,) = [each for each in answer["domains"] if each["domain"] == domain]
    return found


async def verify(world: World, domain: str = DOMAIN, **more: Any) -> tuple[int, Any]:
    status, answer, _ = await world.request("POST", f"{PATH}/{domain}/verify", **more)
    return status, answer


async def enrol(world: World, domain: str, **more: Any) -> tuple[int, Any]:
    status, answer, _ = await world.request("POST", PATH, json={"domain": domain}, **more)
    return status, answer


def test_a_member_publishes_verifies_and_sends_without_the_operator(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(strict_directory(tmp_path)) as world:
            before = await shown(world)
            assert (before["verified"], before["checkedAt"], before["failed"]) == (False, None, [])
            assert (before["status"], before["pause"]) == ("active", None)
            assert [record["ok"] for record in before["records"]] == [None] * 5
            assert [record["found"] for record in before["records"]] == [None] * 5
            operators = (await world.command("dns", domain=DOMAIN))["domains"][0]
            named = ("type", "name", "value", "purpose")
            assert [{name: record[name] for name in named} for record in before["records"]] == operators[
                "records"
            ]
            status, answer = await verify(world)
            assert (status, answer["verified"]) == (200, False)
            assert [record["ok"] for record in answer["records"]] == [False] * 5
            assert all(record["found"] == [] and record["fix"] for record in answer["records"])
            assert await shown(world) == answer, "what was found is remembered"
            assert (await world.post_send())[1]["code"] == "DOMAIN_UNVERIFIED"
            publish(world.dns, before["records"])
            assert await shown(world) == answer, "to look at the list asks the DNS nothing"
            status, answer = await verify(world, DOMAIN.upper())
            assert (status, answer["verified"]) == (200, True)
            assert [record["ok"] for record in answer["records"]] == [True] * 5
            assert answer["firstVerifiedAt"] is not None
            assert await shown(world) == {
                **answer,
                "records": [_short(record) for record in answer["records"]],
            }
            assert (await world.post_send())[0] == 200

    run(main)


def _short(record: Any) -> Any:
    return {**record, "found": [value[:300] for value in record["found"]]}


def test_what_is_wrong_is_said_for_each_record(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(strict_directory(tmp_path)) as world:
            publish(world.dns, (await shown(world))["records"])
            world.dns.txt[DOMAIN] = [(b"v=spf1 -all",)]
            world.dns.broken.add(f"_dmarc.{DOMAIN}")
            status, answer = await verify(world)
            assert (status, answer["verified"]) == (200, False)
            assert [record["ok"] for record in answer["records"]] == [True, True, True, False, None]
            spf, dmarc = answer["records"][3:]
            assert spf["found"] == ["v=spf1 -all"]
            assert f"include:{OPERATOR_DOMAIN}" in spf["fix"]
            assert "could not tell" in dmarc["fix"]

    run(main)


def test_a_domain_that_fails_after_it_was_verified(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(strict_directory(tmp_path)) as world:
            publish(world.dns, (await shown(world))["records"])
            assert (await verify(world))[1]["verified"]
            world.dns.txt[DOMAIN] = []
            _, answer = await verify(world)
            assert (answer["verified"], answer["failed"]) == (True, ["spf"])
            assert answer["failingSince"] is not None

    run(main)


def test_after_a_restart_what_was_decided_is_known_and_what_was_found_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        directory = strict_directory(tmp_path)
        async with open_world(directory) as world:
            publish(world.dns, (await shown(world))["records"])
            await verify(world)
            _, before = await verify(world)
            credentials = world.credentials
        async with open_world(directory, enrol=False) as world:
            world.credentials = credentials
            after = await shown(world)
            nothing = {"ok": None, "found": None, "fix": None}
            assert after == {
                **before,
                "checkedAt": after["checkedAt"],
                "records": [{**record, **nothing} for record in before["records"]],
            }
            assert after["verified"]
            assert after["checkedAt"] is not None

    run(main)


@pytest.mark.parametrize(
    ("settings", "stops", "why"),
    [
        ("operator", "all", f"the domain {DOMAIN} is paused since "),
        ("bounces", "bulk", f"the domain {DOMAIN} is paused_bounce_rate for bulk mail"),
    ],
)
def test_why_it_is_paused(tmp_path: Path, settings: str, stops: str, why: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            if settings == "operator":
                await world.command("domain_pause", did=DID, domain=DOMAIN, reason="call me")
            else:
                sent = [await world.send(to=f"permfail+{number}@example.com") for number in range(10)]
                for message in sent:
                    await world.until_final(message)
            pause = (await shown(world))["pause"]
            assert pause["stops"] == stops
            assert pause["why"].startswith(why)
            assert (await world.post_send())[1]["error"] == f"from: {pause['why']}"
            if settings == "operator":
                assert (pause["reason"], pause["evidence"]) == ("call me", None)
            else:
                assert pause["reason"] is None
                assert pause["evidence"]["bounced"] >= 3
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            assert (await shown(world))["pause"] is None

    run(main)


def test_a_member_has_its_own_domains_and_no_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            _, answer, _ = await world.request("GET", PATH)
            assert [each["domain"] for each in answer["domains"]] == [DOMAIN]
            assert (await shown(world, OTHER_DOMAIN, other))["domain"] == OTHER_DOMAIN
            for domain in (OTHER_DOMAIN, "unheard-of.example", f"www.{DOMAIN}"):
                status, answer = await verify(world, domain)
                assert (status, answer["code"]) == (404, "NOT_FOUND")
            for domain in ("x", "a_b.example", "%00", "a" * 2_000):
                status, answer = await verify(world, domain)
                assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert world.dns.asked == []
            await world.command("member_suspend", did=DID)
            assert await shown(world), "a suspended member may read"
            status, answer = await verify(world)
            assert (status, answer["code"]) == (403, "MEMBER_SUSPENDED")

    run(main)


# ------------------------------------------------------------------------------------------------ bounds


class SlowDns(FakeDns):
    """It answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = trio.Event()
        self.names: set[str] = set()

    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        self.names.add(name)
        await self.may_answer.wait()
        return []


async def answers_to(world: World, path: str, headers: dict[str, str], statuses: list[int]) -> None:
    status, _ = await call(world.app, "POST", path, headers)
    statuses.append(status)


def test_a_members_checks_come_one_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        dns = SlowDns()
        async with open_world(tmp_path / "data", dns=dns) as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            statuses: list[int] = []
            async with trio.open_nursery() as nursery:
                path = f"{PATH}/{DOMAIN}/verify"
                nursery.start_soon(answers_to, world, path, world.credentials, statuses)
                await wait_all_tasks_blocked()
                status, answer, headers = await world.request("POST", path)
                assert (status, answer["code"], headers["retry-after"]) == (429, "RATE_LIMITED", "5")
                assert "still at work" in answer["error"]
                # Another member is not kept waiting by it.
                nursery.start_soon(answers_to, world, f"{PATH}/{OTHER_DOMAIN}/verify", other, statuses)
                await wait_all_tasks_blocked()
                assert {f"_atmos-verify.{DOMAIN}", f"_atmos-verify.{OTHER_DOMAIN}"} <= dns.names
                dns.may_answer.set()
            assert statuses == [200, 200]

    run(main)


def test_so_many_checks_a_minute(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            for _ in range(DEAR_PER_MINUTE):
                assert (await verify(world))[0] == 200
            asked = len(world.dns.asked)
            status, answer, headers = await world.request("POST", f"{PATH}/{DOMAIN}/verify")
            assert (status, answer["code"]) == (429, "RATE_LIMITED")
            assert len(world.dns.asked) == asked
            assert (await verify(world, OTHER_DOMAIN, headers=other))[0] == 200
            await trio.sleep(int(headers["retry-after"]))
            assert (await verify(world))[0] == 200

    run(main)


def test_so_many_checks_of_all_at_a_time_and_who_waits_too_long_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        dns = SlowDns()
        async with open_world(tmp_path / "data", dns=dns, enrol=False) as world:
            statuses: list[int] = []
            async with trio.open_nursery() as nursery:
                for number in range(DEAR_AT_WORK_MAX + 1):
                    did, domain = f"did:web:m{number}.example", f"m{number}.example"
                    headers = await world.enrol(did, domain)
                    nursery.start_soon(answers_to, world, f"{PATH}/{domain}/verify", headers, statuses)
                await trio.sleep(DEAR_WAIT_SECONDS_MAX + 1)
                assert statuses == [503]
                dns.may_answer.set()
            assert sorted(statuses) == [200] * DEAR_AT_WORK_MAX + [503]

    run(main)


def test_a_check_that_changes_something_asks_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_world(strict_directory(tmp_path)) as world:
            publish(world.dns, (await shown(world))["records"])
            monkeypatch.setattr(world.core.space, "_free_bytes", lambda: 10_000)
            status, answer = await verify(world)
            assert (status, answer["code"]) == (503, "QUEUE_FULL")

    run(main)


def test_what_is_remembered_is_bounded() -> None:
    looks: LastLooks[int] = LastLooks()
    for number in range(KEPT_MAX + 10):
        looks.put(DID, f"{number}.example", Look(number, [number]))
        looks.put(DID, "0.example", Look(number, [number]))
    assert looks.of(DID, "1.example") is None
    assert looks.of(DID, "0.example") == Look(KEPT_MAX + 9, [KEPT_MAX + 9])
    assert looks.of(OTHER_DID, "0.example") is None
    assert len(looks._looks) == KEPT_MAX


# ------------------------------------------------------------------------------------------------ enrolling


def test_the_operator_enrols_domains_unless_it_says_otherwise(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            before = world.core.store.last_seq
            status, answer = await enrol(world, "new.example")
            assert (status, answer["code"]) == (403, "SELF_SERVICE_OFF")
            assert "operator enrols" in answer["error"]
            assert world.core.store.last_seq == before
            assert not (tmp_path / "data/keys/new.example").exists()

    run(main)


def test_a_member_enrols_a_domain_and_verifies_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(strict_directory(tmp_path, members="self_service = true")) as world:
            status, answer = await enrol(world, OTHER_DOMAIN.upper())
            assert status == 201
            assert (answer["domain"], answer["verified"], answer["status"]) == (OTHER_DOMAIN, False, "active")
            assert await shown(world, OTHER_DOMAIN) == answer
            publish(world.dns, answer["records"])
            assert (await verify(world, OTHER_DOMAIN))[1]["verified"]
            assert (await world.post_send(**{"from": f"you@{OTHER_DOMAIN}"}))[0] == 200
            status, page, _ = await world.request("GET", "/v1/events")
            assert [event["domain"] for event in page["events"] if event["type"] == "domain.added"] == [
                DOMAIN,
                OTHER_DOMAIN,
            ]

    run(main)


def test_what_may_not_be_enrolled_makes_no_keys(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        configure(directory, members="self_service = true\ndomains_max = 2")
        async with open_world(directory) as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            before = sorted((directory / "keys").rglob("*"))
            for domain, code in (
                (DOMAIN, "CONFLICT"),
                (OPERATOR_DOMAIN, "CONFLICT"),
                (f"my.{OPERATOR_DOMAIN}", "CONFLICT"),
                ("localhost", "INVALID_REQUEST"),
                ("../../etc", "INVALID_REQUEST"),
            ):
                assert (await enrol(world, domain))[1]["code"] == code, domain
                await trio.sleep(60)
            assert sorted((directory / "keys").rglob("*")) == before
            assert len((await world.request("GET", PATH, headers=other))[1]["domains"]) == 1

    run(main)


def test_many_at_once_make_keys_for_no_more_than_may_be(tmp_path: Path) -> None:
    """Each would fit by itself: two hundred names, and two hundred pairs of files and tenths of a second."""

    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        configure(directory, members="self_service = true")
        async with open_world(directory) as world:
            before = {path.name for path in (directory / "keys").iterdir()}
            statuses: list[int] = []

            async def one(number: int) -> None:
                body = b'{"domain": "n%d.example"}' % number
                status, _ = await call(world.app, "POST", PATH, world.credentials, body)
                statuses.append(status)

            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(one, number)
            assert sorted(set(statuses)) == [201, 429]
            assert statuses.count(201) == 1
            await trio.sleep(60)
            status, answer = await enrol(world, "third.example")
            assert (status, answer["code"]) == (409, "CONFLICT")
            assert len({path.name for path in (directory / "keys").iterdir()} - before) == 1

    run(main)


def test_without_room_no_keys_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        configure(directory, members="self_service = true")
        async with open_world(directory) as world:
            monkeypatch.setattr(world.core.space, "_free_bytes", lambda: 10_000)
            status, answer = await enrol(world, "new.example")
            assert (status, answer["code"]) == (503, "QUEUE_FULL")
            assert not (directory / "keys/new.example").exists()

    run(main)
