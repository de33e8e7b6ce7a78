"""DKIM keys are rotated: published first, used once the DNS has them, and the old ones kept while mail needs them."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.core import open_core
from relay.domains.rotation import LOOK_SECONDS
from relay.events import SendAccepted, SigningKeyDeleted
from relay.file_names import LOG_DIRECTORY
from relay.message.key_files import KeyFiles
from relay.message.keys import KeyRing
from relay.operator.protocol import short_path
from relay.past.audit import audit
from relay.refusals import Refusal
from relay.views import members
from spool.reader import LogReader
from tests.world.orders import administer, order
from tests.world.relay import DID, DOMAIN, OPERATOR_DOMAIN, OTHER_DID, World, make_directory, open_world, run
from tests.world.zone_records import publish
from tools.doctor import examine

DAY = 24 * 3600


async def rotate(world: World, domain: str = DOMAIN, **more: Any) -> Any:
    return await world.command("domain_rotate_key", domain=domain, **more)


def selectors(message: bytes, domain: str) -> set[str]:
    """Of the signatures in the name of a domain."""
    found = re.findall(rb"DKIM-Signature:.*?(?=\r\n[^ \t])", message, re.DOTALL | re.IGNORECASE)
    names = set()
    for signature in found:
        tags = dict(
            part.strip().split("=", 1) for part in re.sub(rb"\s", b"", signature).decode().split(";") if part
        )
        if tags["d"] == domain:
            names.add(tags["s"])
    return names


async def last_selectors(world: World, domain: str) -> set[str]:
    await world.until_final(await world.send())
    return selectors(world.mx.messages[-1].data, domain)


def test_doctor_names_the_keys_in_use_and_those_that_wait(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")

    def said() -> str:
        (finding,) = (finding for finding in examine(directory) if finding.check == "keys")
        assert finding.ok, finding
        return finding.says

    async def main() -> None:
        async with open_world(directory) as world:
            made = await rotate(world, OPERATOR_DOMAIN)
            old, new = made["selector"], made["made"]
            while_it_runs = await trio.to_thread.run_sync(said)
            assert while_it_runs.endswith(f"(selector stem {old}; {new} waits until the DNS has it)")
        # The same by the log alone.
        assert said() == while_it_runs
        async with open_core(directory) as core:
            await order(core, "domain_rotate_key", domain=OPERATOR_DOMAIN, now=True)
        assert said().endswith(f"(selector stem {new})")

    # The thread asks the relay over its socket, which gives it real time.
    trio.run(main)


def test_doctor_is_not_held_up_by_a_relay_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = make_directory(tmp_path / "data")
    monkeypatch.setattr("tools.doctor._PATIENCE_SECONDS", 0.05)
    keys = KeyRing(directory)
    (stem,) = keys.stems(OPERATOR_DOMAIN)
    keys.create(OPERATOR_DOMAIN, "atmos20990101")
    with socket.socket(socket.AF_UNIX) as hanging, short_path(directory) as path:
        hanging.bind(path)
        hanging.listen()
        (finding,) = (finding for finding in examine(directory) if finding.check == "keys")
    assert f"(selector stem one of {stem}, atmos20990101: the relay does not say which)" in finding.says


@pytest.mark.parametrize("domain", [DOMAIN, OPERATOR_DOMAIN])
def test_new_keys_are_used_once_the_dns_shows_them(tmp_path: Path, domain: str) -> None:
    directory = make_directory(tmp_path / "data")

    async def main() -> None:
        async with open_world(directory) as world:
            before = await rotate(world, domain)
            old, new = before["selector"], before["made"]
            assert old != new
            assert before["nextSelector"] == new
            # Both are to be published; nothing is signed with the new ones before they are.
            names = [record["name"] for record in before["records"]]
            for stem in (old, new):
                assert {f"{stem}r._domainkey.{domain}", f"{stem}e._domainkey.{domain}"} <= set(names)
            assert [check["ok"] for check in before["checks"]] == [False, False]
            assert await last_selectors(world, domain) == {f"{old}r", f"{old}e"}
            # Given again, it makes no others.
            assert (await rotate(world, domain))["made"] == new
            waiting = await world.send(to="tempfail-9@example.com")
            await world.until(waiting, "deferred")

            # One of two is not enough.
            publish(world.dns, before["records"])
            broken = f"{new}e._domainkey.{domain}"
            right, world.dns.txt[broken] = world.dns.txt[broken], [(b"v=DKIM1; k=ed25519; p=AAAA",)]
            await trio.sleep(LOOK_SECONDS + 60)
            assert await last_selectors(world, domain) == {f"{old}r", f"{old}e"}
            world.dns.txt[broken] = right
            await trio.sleep(LOOK_SECONDS + 60)
            assert await last_selectors(world, domain) == {f"{new}r", f"{new}e"}

            # The old one may go from the DNS when the last mail that it signed is final.
            answer = await world.command("dns")
            shown = answer["operator"] if domain == OPERATOR_DOMAIN else answer["domains"][0]
            (retired,) = shown["retired"]
            assert (shown["selector"], shown["nextSelector"]) == (new, None)
            assert (retired["selector"], retired["removable"]) == (old, False)
            assert retired["names"] == [f"{old}r._domainkey.{domain}", f"{old}e._domainkey.{domain}"]
            ended = await world.until_final(waiting)
            assert ended["status"] == "sent"
            received = next(one for one in world.mx.messages if b"tempfail-9@" in one.data)
            assert selectors(received.data, domain) == {f"{old}r", f"{old}e"}
            answer = await world.command("dns")
            shown = answer["operator"] if domain == OPERATOR_DOMAIN else answer["domains"][0]
            assert shown["retired"][0]["removable"] is True
            last = await world.send()
            await world.until_final(last)
        # It holds for what comes after, and for who only reads.
        answer = await administer(directory, "dns", {})
        shown = answer["operator"] if domain == OPERATOR_DOMAIN else answer["domains"][0]
        assert shown["selector"] == new
        with LogReader(directory / LOG_DIRECTORY) as reader:
            for message_id in (waiting, last):
                found = audit(directory, reader, message_id)
                assert found.problems == []
                assert [signature.valid for signature in found.signatures] == [True] * 4
        async with open_world(directory, enrol=False) as world:
            assert world.core.operator_stem == (new if domain == OPERATOR_DOMAIN else "atmos20260101")

    run(main)


def test_now_does_not_ask_the_dns(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            answer = await rotate(world, now=True)
            assert answer["selector"] == answer["made"]
            assert await last_selectors(world, DOMAIN) == {f"{answer['made']}r", f"{answer['made']}e"}
            assert world.dns.asked == []
            again = await rotate(world, now=True)
            assert again["made"] not in (answer["made"], answer["retired"][0]["selector"])
            assert len(again["retired"]) == 2

    run(main)


def test_a_verified_domain_that_publishes_the_new_and_takes_out_the_old_stays_verified(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            answer = await world.command("dns", domain=DOMAIN)
            publish(world.dns, answer["domains"][0]["records"])
            assert (await world.command("domain_verify", did=DID, domain=DOMAIN))["verified"]
            answer = await rotate(world)
            old = answer["selector"]
            publish(world.dns, answer["records"])
            for kind in "re":
                del world.dns.txt[f"{old}{kind}._domainkey.{DOMAIN}"]
            verified = await world.command("domain_verify", did=DID, domain=DOMAIN)
            assert verified["verified"]
            assert {check["name"] for check in verified["checks"]} >= {
                f"{answer['made']}r._domainkey.{DOMAIN}"
            }
            with world.core.store.read() as view:
                state = members.domain(view, DOMAIN)
            assert state is not None
            assert (state.selector_stem, state.next_key, state.failing_since) == (answer["made"], None, None)

    run(main)


def test_whose_key_it_is_must_be_clear(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.enrol(OTHER_DID)
            with pytest.raises(Refusal, match="several members"):
                await rotate(world)
            mine, theirs = await rotate(world, did=DID), await rotate(world, did=OTHER_DID)
            assert mine["made"] != theirs["made"]
            with pytest.raises(Refusal, match="not enrolled"):
                await rotate(world, "nobody.example")

    run(main)


def test_a_crash_between_the_files_and_their_event_changes_no_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the operator's keys that no event names, the newest sign; so those in use are named first."""
    directory = make_directory(tmp_path / "data")

    class Killed(Exception): ...

    async def main() -> None:
        async with open_world(directory) as world:
            credentials = world.credentials
            for domain in (OPERATOR_DOMAIN, DOMAIN):
                with monkeypatch.context() as patch, pytest.raises(Killed):
                    patch.setattr("relay.decisions.rotation.create_operator_key", _killed(Killed))
                    patch.setattr("relay.decisions.rotation.create_key", _killed(Killed))
                    await rotate(world, domain)
                assert len(KeyFiles(directory).stems(domain)) == 2
        async with open_world(directory, enrol=False) as world:
            world.credentials = credentials
            assert await last_selectors(world, OPERATOR_DOMAIN) == {"atmos20260101r", "atmos20260101e"}
            for domain in (OPERATOR_DOMAIN, DOMAIN):
                answer = await rotate(world, domain)
                publish(world.dns, answer["records"])
                assert (await rotate(world, domain))["selector"] == answer["made"]

    run(main)


def _killed(error: type[Exception]) -> Any:
    def die(*_: object) -> Any:
        raise error

    return die


def test_the_files_of_a_retired_key_go_when_nothing_can_be_retried_or_audited(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")
    files = KeyFiles(directory)

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send()
            await world.until_final(message_id)
            old = {
                domain: (await rotate(world, domain, now=True))["retired"][0]["selector"] for domain in BOTH
            }
            await trio.sleep(29 * DAY)
            for domain in BOTH:
                assert old[domain] in files.stems(domain)
            await trio.sleep(4 * DAY)
            await wait_all_tasks_blocked()
            for domain in BOTH:
                assert old[domain] not in files.stems(domain)
                assert len(files.stems(domain)) == 1
            deleted = [event for event in world.events() if isinstance(event, SigningKeyDeleted)]
            assert {(event.domain, event.selector_stem) for event in deleted} == set(old.items())
            answer = await world.command("dns")
            assert answer["operator"]["retired"] == answer["domains"][0]["retired"] == []
            assert (await world.until_final(await world.send()))["status"] == "sent"

    run(main)


BOTH = (OPERATOR_DOMAIN, DOMAIN)


def test_held_mail_keeps_the_key_that_signed_it(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")

    async def main() -> None:
        async with open_world(directory) as world:
            held = await world.send(to="tempfail-1@example.com")
            await world.until(held, "deferred")
            await world.command("queue_hold", message=[held], reason="a look")
            await rotate(world, now=True)
            accepted = next(event for event in world.events() if isinstance(event, SendAccepted))
            await trio.sleep(60 * DAY)
            assert accepted.selector_stem in KeyFiles(directory).stems(DOMAIN)
            answer = await world.command("dns", domain=DOMAIN)
            assert [key["removable"] for key in answer["domains"][0]["retired"]] == [False]

    run(main)


def test_removed_while_a_key_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            answer = await rotate(world)
            removed = await world.command("domain_remove", did=DID, domain=DOMAIN)
            assert f"{answer['made']}r._domainkey.{DOMAIN}" in removed["removableRecords"]
            publish(world.dns, answer["records"])
            await trio.sleep(2 * LOOK_SECONDS)
            await world.command("domain_add", did=DID, domain=DOMAIN)
            with world.core.store.read() as view:
                state = members.domain(view, DOMAIN)
            assert state is not None
            assert state.selector_stem not in (answer["made"], answer["selector"])

    run(main)
