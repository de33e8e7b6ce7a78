"""The operator's pages: what is asked there is what the commands answer, and what is ordered has the session's name."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import trio

from relay.events import DomainAdded, DomainPaused, MemberAdded, MessageHeld
from relay.operator.membership_shown import KEYS_AT_A_TIME
from relay.operator_console.command_line import CommandLine, Printed
from tests.operator_console.visitor import open_door
from tests.world.queue_orders import deferred
from tests.world.relay import DID, DOMAIN, open_world, run

HOSTILE = '"><script>alert(1)</script>\u202egpj.exe'


def test_an_order_is_shown_with_its_count_before_it_is_given(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            first = await deferred(world, "tempfail-7@example.com")
            second = await deferred(world, "tempfail-8@example.com")
            await operator.sign_in()
            assert "example.com" in (await operator.get("/queue")).text

            before = world.core.store.last_seq
            shown = await operator.post("/queue/preview", {"act": "hold", "site": "example.com"})
            assert "Hold : 2 messages wait that this would be about" in shown.text
            assert world.core.store.last_seq == before, "a preview changes nothing"

            # What is accepted after the preview is not meant.
            later = await deferred(world, "tempfail-9@example.com")
            order = {"act": "hold", "site": "example.com", "until": str(before), "reason": "a look"}
            done = await operator.post("/queue/order", order)
            assert "Hold: done with 2 messages" in done.text
            held = [event for event in world.events() if isinstance(event, MessageHeld)]
            assert sorted(event.message_id for event in held) == [first, second]
            assert {event.by[:8] for event in held} == {"console:"}
            assert len(held[0].by) == len("console:") + 8

            shown = await operator.get(f"/messages/{first}")
            assert held[0].by in shown.text
            assert "held" in shown.text
            chosen = [
                ("act", "cancel"),
                ("message", str(later)),
                ("message", str(first)),
                ("reason", "enough"),
            ]
            assert "done with 2 messages" in (await operator.post("/queue/order", chosen)).text
            assert (await world.message(first))["status"] == "bounced"

    run(main)


def test_nothing_is_ordered_without_a_selection_or_a_reason_or_by_what_is_no_act(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            await deferred(world)
            await operator.sign_in()
            before = world.core.store.last_seq
            for form in (
                {"act": "cancel", "everything": "yes"},
                {"act": "cancel", "reason": "x"},
                {"act": "cancel", "reason": "x", "site": ""},
                {"act": "cancel", "reason": "x", "everything": "true"},
                {"act": "strip", "reason": "x", "everything": "yes"},
                {"act": "hold", "reason": "x", "message": "1e3"},
                {"act": "hold", "reason": "x", "did": "no did"},
                {"act": "hold", "reason": "a\u2028b", "everything": "yes"},
            ):
                seen = await operator.post("/queue/order", form)
                assert seen.status == 400, form
                assert seen.alerts, form
            assert world.core.store.last_seq == before

    run(main)


def test_what_strangers_wrote_is_text_on_every_page(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            message_id = await deferred(world, subject=HOSTILE)
            await operator.sign_in()
            pages = [
                "/queue",
                "/queue?site=example.com",
                f"/messages/{message_id}",
                f"/queue?site={'x' * 300}",
            ]
            for page in pages:
                seen = await operator.get(page)
                assert seen.status in (200, 400), page
                assert "<script>alert" not in seen.html, page
                assert "\u202e" not in seen.html, page
            assert "&lt;script&gt;" in (await operator.get(f"/messages/{message_id}")).html

    run(main)


def test_the_first_page_says_what_is_paused_and_pausing_has_a_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            await operator.sign_in()
            assert "no alarm is active" in (await operator.get("/")).text
            form = {"did": DID, "reason": "spam"}
            seen = await operator.post(f"/reputation/{DOMAIN}/pause", form)
            assert (seen.status, seen.location) == (303, f"/reputation/{DOMAIN}?done=paused")
            (paused,) = (event for event in world.events() if isinstance(event, DomainPaused))
            assert paused.by is not None
            assert paused.by.startswith("console:")
            seen = await operator.get("/")
            assert f"domain paused: {DOMAIN}" in seen.text
            assert "Paused 1" in seen.text
            status = await world.command("status")
            assert status["pausedDomains"] == [DOMAIN]
            assert status["machine"]["accepting"] is True

    run(main)


def test_the_text_for_a_member_has_what_it_may_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_nothing(*_: object, **__: object) -> Printed:
        return Printed(0, "all of it", False)

    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            message_id = await deferred(world, "tempfail-7@example.com")
            await operator.sign_in()
            order = {"act": "hold", "message": str(message_id), "reason": "a look"}
            assert (await operator.post("/queue/order", order)).status == 200
            (held,) = [event for event in world.events() if isinstance(event, MessageHeld)]
            monkeypatch.setattr(CommandLine, "run", run_nothing)
            seen = await operator.get(f"/messages/{message_id}/audit")
            (text,) = re.findall(r'data-copy="the text for its member">([^<]*)<', seen.html)
            assert "It is held: the operator of the relay holds it." in text
            assert "tempfail-7@example.com" in text
            assert "    4" in text, "the receiver's words"
            assert held.by not in seen.html
            assert "all of it" in seen.html

    run(main)


def test_lists_of_thousands_are_made_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            dids = [f"did:web:m{number}.example" for number in range(2 * KEYS_AT_A_TIME)]
            for did in dids:
                name = did.removeprefix("did:web:")
                added = DomainAdded(
                    did=did, domain=name, selector_stem="s", rsa_public="r", ed25519_public="e"
                )
                await world.core.store.append([MemberAdded(did=did), added])
            pieces: list[str] = []

            async def pause() -> None:
                pieces.append(command)

            monkeypatch.setattr(world.core, "pause", pause)
            for command in ("member_list", "domain_list"):
                rows = await world.command(command)
                assert {row["did"] for row in rows} == {DID, *dids}
                assert pieces.count(command) == 3

    run(main)


def test_a_machine_that_has_no_process_left_ends_no_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            await operator.sign_in()
            monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
            assert (await operator.post("/log/verify", {})).status == 303
            await trio.sleep(1)
            seen = await operator.get("/log")
            assert seen.status == 503
            assert "no process could be begun for it" in seen.text
            assert (await operator.get("/queue")).status == 200

    run(main)


def test_what_is_no_message_no_member_and_no_page_is_not_found(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            await operator.sign_in()
            for path in (
                "/messages/1e3",
                "/messages/99",
                "/messages/99/audit",
                "/members/did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/",
                "/members/x\0y/",
                "/nowhere",
            ):
                assert (await operator.get(path)).status == 404, path

    run(main)
