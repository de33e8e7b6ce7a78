"""A story that the operator's questions are asked about: two members, three days, four receivers, the same every time.

On Monday both members' mail arrives. From Tuesday noon on a company's server is not there, and its mail waits. A forum
sends its digest to an old list on Tuesday evening: mailboxes that do not exist, and one that is full; its domain is
paused for that. On Wednesday at six in the morning the relay stops, and somebody asks.

docs/OPERATING.md shows the commands that ask, with what they print on a terminal of 80 columns at that time. After a
change that is meant to change that, this writes their output into the page again:

    python -m tests.world.asked_about
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import trio
from click.testing import CliRunner, Result

from relay.times import utc
from tests.world.deterministic import UnsyncedDisk, make_seeded_directory, run_seeded
from tests.world.internet import DAY, HOUR, Internet, Trouble
from tests.world.mx_options import MxOptions
from tests.world.pages import DOCS, Example, examples
from tests.world.relay import open_world
from tests.world.scenario import BEGIN_US
from tests.world.self_signed import self_signed_context
from tools.cli import cli
from tools.naming import DIRECTORY_VARIABLE
from tools.output import WIDTH_UNKNOWN

PAGE = DOCS / "OPERATING.md"
#: The part of the page that asks.
SECTION = re.compile(r"^## Five questions\n.*?(?=^## )", re.MULTILINE | re.DOTALL)

FORUM, SHOP = "did:plc:harbourharbourharbour234", "did:plc:teashopteashopteashop234"
SEED = 7
#: Its server is gone from then on.
TUESDAY_NOON = 1 * DAY + 12 * HOUR
#: Wednesday at six.
ASKED = 2 * DAY + 6 * HOUR

_RECEIVERS = {
    # The recipients' domain: its MX, and whether that speaks TLS.
    "bigmail.example": ("gmail-smtp-in.l.google.com", True),
    "kontor.example": ("kontor-example.mail.protection.outlook.com", True),
    "harbour.example": ("mx.harbour.example", True),
    "oldtown.example": ("mail.oldtown.example", False),
}


def make_story(directory: Path) -> Path:
    """The data directory in which it happened. No relay runs on it any more."""
    internet = Internet()
    for number, (domain, (host_name, has_tls)) in enumerate(_RECEIVERS.items(), 1):
        options = MxOptions(tls=self_signed_context(host_name) if has_tls else None)
        host = internet.add_host(host_name, f"198.41.0.{number}", options)
        host.mood = _mood
        internet.add_domain(domain, host_name)
        if domain == "harbour.example":
            host.troubles.append(Trouble("refuses", TUESDAY_NOON))
    make_seeded_directory(directory, ["forum.example", "shop.example"])

    async def main() -> None:
        async with open_world(
            directory,
            internet=internet,
            disk=UnsyncedDisk(),
            enrol=False,
            seed=SEED,
            clock=lambda: BEGIN_US + round(trio.current_time() * 1_000_000),
        ) as world:
            forum = await world.enrol(FORUM, "forum.example")
            shop = await world.enrol(SHOP, "shop.example")

            async def send(
                at: float, who: dict[str, str], to: list[str], subject: str, category: str
            ) -> None:
                await trio.sleep_until(at)
                world.credentials = who
                name = "Harbour Forum <news@forum.example>" if who is forum else "Tea Shop <tea@shop.example>"
                mail = {"from": name, "to": to, "subject": subject, "category": category}
                status, answer = await world.post_send(**mail)
                assert status == 200, answer

            readers = [f"{name}@bigmail.example" for name in ("ann", "ben", "cleo", "dora", "emil", "fay")]
            await send(9 * HOUR, forum, readers, "This week in the forum", "bulk")
            for number, customer in enumerate(
                ("gus@kontor.example", "hal@oldtown.example", "ida@harbour.example")
            ):
                await send((10 + number) * HOUR, shop, [customer], "Your tea is on its way", "transactional")
            await send(
                TUESDAY_NOON + HOUR, shop, ["ida@harbour.example"], "Your tea has arrived", "transactional"
            )
            await send(DAY + 18 * HOUR, forum, readers, "The tide tables", "bulk")
            old = [f"old-{number}@kontor.example" for number in range(1, 5)]
            await send(
                DAY + 19 * HOUR,
                forum,
                [*old, "full@kontor.example", "jon@oldtown.example"],
                "We miss you",
                "bulk",
            )
            await trio.sleep_until(ASKED)

    run_seeded(main, SEED)
    return directory


def _mood(address: str, offer: int) -> str:
    if address.startswith("old-"):
        return "permfail"
    return "full" if address.startswith("full@") else ""


# ------------------------------------------------------------------------------------------------ the page


def asked() -> list[Example]:
    (section,) = SECTION.findall(PAGE.read_text())
    return list(examples(section))


def ask(directory: Path, command: str) -> Result:
    """As the page has it: the variable names the directory, on a terminal, on that Wednesday morning."""
    now = BEGIN_US / 1_000_000 + ASKED
    with (
        mock.patch.dict(os.environ, {DIRECTORY_VARIABLE: str(directory)}),
        mock.patch("tools.output._terminal_width", return_value=WIDTH_UNKNOWN),
        mock.patch("tools.output.time.time", return_value=now),
        mock.patch("relay.data_directory.wall_clock_us", return_value=round(now * 1_000_000)),
    ):
        return CliRunner().invoke(cli, shlex.split(command)[1:], catch_exceptions=False)


def _answered(section: str, directory: Path) -> Iterator[str]:
    for line in _without_outputs(section):
        yield line
        if line.startswith("$ atmos-relay "):
            yield from ask(directory, line.removeprefix("$ ")).output.rstrip("\n").split("\n")


def _without_outputs(section: str) -> Iterator[str]:
    inside = False
    for line in section.split("\n"):
        if line.startswith("```"):
            inside = line == "```console"
        if not inside or line.startswith(("```", "$ ")):
            yield line


def main() -> None:
    page = PAGE.read_text()
    with tempfile.TemporaryDirectory(prefix="asked-") as name:
        directory = make_story(Path(name) / "data")
        found = SECTION.search(page)
        assert found is not None
        text = "\n".join(_answered(found.group(), directory))
    PAGE.write_text(page[: found.start()] + text + page[found.end() :])
    print(f"{PAGE} has what they say of {utc(BEGIN_US):%A} and the days after it")


if __name__ == "__main__":
    main()
