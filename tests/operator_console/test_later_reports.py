"""A mail that was taken and came back later: lists say so, its page says why, and rates count it as the rule does."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
from click.testing import CliRunner

from relay.config import CONFIG_FILE
from tests.api.test_reports import report
from tests.console.visitor import Visitor
from tests.operator_console.test_finding_pages import REPUTATION
from tests.operator_console.visitor import open_door
from tests.world.relay import DID, DOMAIN, make_directory, open_world, run
from tools.cli import cli

SAID = "550 5.1.1 <friend@example.com>: no such user"


def test_the_operator_reads_why_a_mail_came_back_where_he_looks_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            returned = await world.send(to="friend@example.com")
            await world.until_final(returned)
            await report(world, returned)
            refused = await world.send(to="permfail@example.com")
            await world.until_final(refused)
            await operator.sign_in()

            listed = await operator.get("/find")
            assert "came back later: invalid recipient" in listed.text
            reply = (await world.message(refused))["lastReply"]
            assert f"{reply['code']} {reply['enhanced']} {reply['text']}" in listed.text

            page = await operator.get(f"/messages/{returned}")
            assert "Later its receiver reported that it failed." in page.text
            assert escape(SAID, quote=False) in page.html.partition("What to do.")[0]
            assert "Nobody has this address: take it off the list." in page.text
            assert f'href="/reputation/{DOMAIN}"' in page.html
            assert f'href="/members/{quote(DID)}/"' in page.html
            assert "Its receiver reported: failed" in page.text
            page = await operator.get(f"/messages/{refused}")
            assert "refused it for good." in page.text
            assert "Nobody has this address: take it off the list." in page.text

            # The rule counts both, of two messages.
            judged = await operator.get("/reputation")
            assert f"{DOMAIN} 2 2 100 % 0 0 % 2 invalid recipient" in judged.text

    run(main)


def test_who_asks_why_a_domain_is_paused_reads_the_words_of_the_reports_that_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=REPUTATION) as world, open_door(world) as operator:
            for number in range(3):
                returned = await world.send(to=f"friend+{number}@example.com")
                await world.until_final(returned)
                await report(world, returned)
            await trio.sleep(1)  # the guard looks at what was written, and then pauses
            await operator.sign_in()
            page = await operator.get(f"/reputation/{DOMAIN}")
            (row,) = re.findall(rf'<tr><th scope="row"><a href="/messages/{returned}">.*?</tr>', page.html)
            assert "<td>reported</td>" in row
            assert "came back later: <strong>invalid recipient</strong>" in row
            assert SAID.replace("<", "&lt;").replace(">", "&gt;") in row
            assert "250" not in row

    run(main)
    typed = CliRunner().invoke(cli, ["why", str(tmp_path / "data"), "--domain", DOMAIN, "--wide"])
    assert f"came back later: invalid_recipient: {SAID}" in typed.output


def test_counts_have_what_came_back_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            returned = await world.send(to="friend@example.com")
            await world.until_final(returned)
            await report(world, returned)
            await operator.sign_in()
            for by in ("domain", "receiver", "class", "provider"):
                top = await operator.get(f"/top?by={by}&since=2d")
                assert "Came back later Complaints" in top.text
                assert "came back later: 1 invalid recipient" in top.text
            providers = await operator.get("/providers")
            assert "Accepted Sent Bounced Came back later Deferred" in providers.text
            assert re.search(r"other 1 1 0 0 % 1 0 ", providers.text)
            provider = await operator.get("/providers/other")
            assert "Came back later 1" in provider.text
            assert "invalid_recipient took it, and it came back later 1" in provider.text
            (other,) = (await world.command("providers"))["providers"]
            assert (other["reported"], other["reportedByClass"]) == (1, {"invalid_recipient": 1})

    run(main)


def test_a_member_sees_in_the_list_what_came_back_and_which_bounces_the_picture_has_as_sent(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            returned = await world.send(to="friend@example.com")
            await world.until_final(returned)
            await report(world, returned)
            visitor = Visitor(world)
            await visitor.sign_in()
            assert (
                "came back later: <strong>invalid recipient</strong>" in (await visitor.get("/messages")).html
            )
            first = (await visitor.get("/")).html
            assert "1 of the bounces came back after its receiver had taken the mail" in first

    run(main)


@pytest.mark.parametrize(
    ("dnsbl", "route", "said"),
    [
        ("[]", "example.com", "[monitoring] dnsbl in relay.toml names none"),
        ('["zen.spamhaus.org"]', "example.com", "as far as it answered"),
        ('["zen.spamhaus.org"]', "*", "No list is asked: all mail goes by one route"),
    ],
)
def test_the_first_page_says_whether_any_list_is_asked(
    tmp_path: Path, dnsbl: str, route: str, said: str
) -> None:
    directory = tmp_path / "data"
    make_directory(directory)
    written = (directory / CONFIG_FILE).read_text().replace('"*" = ', f'"{route}" = ')
    written, changed = re.subn("(?m)^dnsbl = .*$", f"dnsbl = {dnsbl}", written)
    assert changed
    (directory / CONFIG_FILE).write_text(written)

    async def main() -> None:
        async with open_world(directory) as world, open_door(world) as operator:
            await operator.sign_in()
            assert said in (await operator.get("/")).text

    run(main)
