"""Stories of a relay: a file says what receivers do and when, what is sent, and how it must end.

`tests/scenarios/*.toml` are the files; the format is shown, with comments, by `ordinary_week.toml`. `play` runs one
through the whole relay on a clock that jumps and returns what is wrong; `tell` is the log that it left, as
`atmos-relay log cat` prints it. That is kept beside the file (`*.story`), to be read and compared. After a change that
is meant to change the stories:

    python -m tests.world.scenario tests/scenarios/*.toml
"""

from __future__ import annotations

import re
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio
from click.testing import CliRunner

from relay.codec import decode
from relay.config import load_config
from relay.events import Outcome
from spool.reader import LogReader
from tests.world.checker import breaches
from tests.world.deterministic import UnsyncedDisk, make_seeded_directory, run_seeded
from tests.world.internet import DAY, Internet, Trouble
from tests.world.mx_options import MxOptions
from tests.world.relay import World, open_world
from tests.world.self_signed import self_signed_context
from tools.cli import cli

#: A Monday, 2026-09-21T00:00:00Z: on this day of the calendar the seeded keys are good.
BEGIN_US = 1_789_948_800_000_000
_MOMENT = re.compile(r"day ([1-9][0-9]?) ([0-2][0-9]):([0-5][0-9])")


class TroubleLine(msgspec.Struct, forbid_unknown_fields=True, rename={"begin": "from"}):
    kind: str
    begin: str = "day 1 00:00"
    until: str | None = None
    count: float = 0
    mailbox: str = ""
    #: One host of the domain; all of them where it is "".
    host: str = ""

    def trouble(self) -> Trouble:
        end = float("inf") if self.until is None else moment(self.until)
        return Trouble(self.kind, moment(self.begin), end, self.count, self.mailbox)


class DomainLine(msgspec.Struct, forbid_unknown_fields=True):
    names: list[str]
    mx: list[str]
    tls: bool = False
    trouble: list[TroubleLine] = []


class MailLine(msgspec.Struct, forbid_unknown_fields=True, rename={"sender": "from"}):
    at: str
    sender: str
    to: str | list[str]
    subject: str
    ends: str
    #: How many, or from how many to how many.
    attempts: int | tuple[int, int]
    category: str = "bulk"
    #: What its own story, `log cat --message`, must contain.
    says: list[str] = []
    #: How often each recipient has it in the end; None: once if it ends `sent`, else not at all.
    receipts: int | None = None


class Scenario(msgspec.Struct, forbid_unknown_fields=True):
    title: str
    members: dict[str, str]
    domain: list[DomainLine]
    mail: list[MailLine]
    seed: int = 0


def read_scenario(path: Path) -> Scenario:
    return msgspec.convert(tomllib.loads(path.read_text()), Scenario)


def moment(text: str) -> float:
    """`day 2 14:00`, in seconds after the beginning of day 1."""
    match = _MOMENT.fullmatch(text)
    assert match is not None, f"{text!r} is not like 'day 2 14:00'"
    day, hour, minute = map(int, match.groups())
    return (day - 1) * DAY + hour * 3600.0 + minute * 60.0


def play(scenario: Scenario, directory: Path) -> list[str]:
    """Run it; the log is left in `directory`. Returns a sentence for everything that is not as the scenario says."""
    internet = _make_internet(scenario)
    make_seeded_directory(directory, scenario.members.values())
    sent: list[tuple[MailLine, int]] = []

    async def main() -> None:
        async with open_world(
            directory,
            internet=internet,
            disk=UnsyncedDisk(),
            enrol=False,
            seed=scenario.seed,
            clock=lambda: BEGIN_US + round(trio.current_time() * 1_000_000),
        ) as world:
            await _send_all(world, scenario, sent)

    run_seeded(main, scenario.seed)
    with LogReader(directory / "log") as reader:
        events = [decode(record) for record in reader.read(1)]
    wrong = breaches(
        events,
        load_config(directory),
        receipts=internet.receipts,
        connections_max=internet.connections_max.values(),
    )
    for mail, message_id in sent:
        attempts = max(
            item.event.attempt
            for item in events
            if isinstance(item.event, Outcome) and item.event.message_id == message_id
        )
        receipts = sum(receipt.message_id == message_id for receipt in internet.receipts)
        wrong += _differences(
            mail, message_id, tell(directory, "--message", str(message_id)), attempts, receipts
        )
    return wrong


def _make_internet(scenario: Scenario) -> Internet:
    internet = Internet()
    for number, line in enumerate(scenario.domain):
        for position, name in enumerate(line.mx, 1):
            options = MxOptions(tls=self_signed_context(name) if line.tls else None)
            host = internet.add_host(name, f"198.41.{number}.{position}", options)
            host.troubles = [
                trouble.trouble()
                for trouble in line.trouble
                if trouble.host in ("", name) and trouble.kind not in _OF_DNS
            ]
        for name in line.names:
            internet.add_domain(name, *line.mx)
            internet.dns.troubles[name] = [
                trouble.trouble() for trouble in line.trouble if trouble.kind in _OF_DNS
            ]
    return internet


_OF_DNS = frozenset({"gone", "servfail"})


async def _send_all(world: World, scenario: Scenario, sent: list[tuple[MailLine, int]]) -> None:
    """Returns when everything that was sent is final."""
    credentials = {domain: await world.enrol(did, domain) for did, domain in scenario.members.items()}
    for mail in scenario.mail:
        await trio.sleep_until(moment(mail.at))
        world.credentials = credentials[mail.sender.rpartition("@")[2].rstrip(">")]
        fields: dict[str, Any] = {"from": mail.sender, "to": mail.to, "subject": mail.subject}
        status, answer = await world.post_send(**fields, category=mail.category)
        assert status == 200, answer
        sent += [(mail, accepted["messageId"]) for accepted in answer["accepted"]]
    await world.until_so_many_are_final(len(sent))


def _differences(mail: MailLine, message_id: int, story: str, attempts: int, receipts: int) -> list[str]:
    ends = f"message {message_id}: {mail.ends}"
    expected = mail.receipts if mail.receipts is not None else int(mail.ends == "sent")
    wrong = [f"it does not say {phrase!r}" for phrase in (ends, *mail.says) if phrase not in story]
    least, most = (mail.attempts, mail.attempts) if isinstance(mail.attempts, int) else mail.attempts
    if not least <= attempts <= most:
        wrong.append(f"{attempts} attempts, not {mail.attempts}")
    if receipts != expected:
        wrong.append(f"received {receipts} times, not {expected}")
    return [f"{mail.at}, {mail.subject!r} to {mail.to}: {sentence}" for sentence in wrong]


def tell(directory: Path, *options: str) -> str:
    """What `atmos-relay log cat` prints."""
    result = CliRunner().invoke(cli, ["log", "cat", str(directory), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def main(paths: Sequence[str]) -> None:
    for name in paths:
        path = Path(name)
        with tempfile.TemporaryDirectory(prefix="scenario-") as temporary:
            directory = Path(temporary) / "data"
            wrong = play(read_scenario(path), directory)
            path.with_suffix(".story").write_text(tell(directory))
        print(f"{path.with_suffix('.story')} is written")
        for sentence in wrong:
            print(f"  {sentence}")


if __name__ == "__main__":
    main(sys.argv[1:])
