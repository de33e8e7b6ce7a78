"""A data directory that an earlier commit wrote is opened, verified, replayed, audited, and goes on.

`tests/fixtures/data_directory/README.md` says what is in it. What is expected is what that commit's own commands said.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.codec import decode
from spool.reader import LogReader
from tests.world.internet import Internet
from tests.world.operator import command
from tests.world.relay import open_world, run

FIXTURE = Path(__file__).parent.parent / "fixtures" / "data_directory"
SAID = json.loads((FIXTURE / "said.json").read_text())
#: Fields that commands have learned to say since: by name, wherever they stand.
ADDED_SINCE: frozenset[str] = frozenset(
    {
        "forwardConfirmed",
        "handle",
        "handleProvedAt",
        "reported",
        "handleCheckedAt",
        "handleFailingSince",
        "reportedSeq",
        "complainedSeq",
    }
)
#: The same of API keys: elsewhere these names are not new.
ADDED_TO_KEYS: frozenset[str] = frozenset({"scope", "category", "issuedBy"})
FORUM = "did:plc:harbourharbourharbour234"
#: What waited when that relay was killed, and what it had sent last.
DEFERRED, HELD, SENT, UNDER_WAY = 125, 129, 134, 138
LAST_SEQ = 139
#: An hour later.
BEGIN_US = 1_790_000_000_000_000 + 9 * 86_400_000_000 + 3_600_000_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    shutil.copytree(FIXTURE / "data", directory)
    for path in directory.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return directory


def said(*words: object) -> Any:
    """What a command says today, without what it could not say then."""
    result = command(*words, "--json")
    assert isinstance(result.exception, SystemExit | None), result.exception
    return json.loads(result.stdout, object_hook=_without_additions)


def _without_additions(found: dict[str, Any]) -> dict[str, Any]:
    added = ADDED_SINCE | ADDED_TO_KEYS if "keyId" in found else ADDED_SINCE
    return {key: value for key, value in found.items() if key not in added}


def test_every_type_of_event_of_then_is_in_it(data: Path) -> None:
    """So that what is said below is said of all of them."""
    with LogReader(data / "log") as reader:
        types = Counter(decode(record).event.TYPE for record in reader.read(1))
    assert (len(types), sum(types.values())) == (32, LAST_SEQ)


def test_it_is_whole(data: Path) -> None:
    verdict = said("log", "verify", data)
    assert verdict["problems"] == []
    assert (verdict["records"], verdict["stripped"]) == (LAST_SEQ, 46)
    inspected = said("log", "inspect", data)["segments"]
    assert [segment["sealed"] for segment in inspected] == [True] * 6 + [False]


def test_the_views_say_what_they_said(data: Path) -> None:
    names = [name for name in SAID["replay"] if name not in ("seq", "time")]
    words = [word for name in names for word in ("--view", name)]
    assert said("log", "replay", data, *words) == SAID["replay"]


@pytest.mark.parametrize("message_id", SAID["audit"])
def test_an_audit_tells_the_same_story(data: Path, message_id: str) -> None:
    assert said("log", "audit", data, message_id) == SAID["audit"][message_id]


def test_its_mail_goes_on(data: Path) -> None:
    credentials = json.loads((FIXTURE / "credentials.json").read_text())[FORUM]
    internet = Internet()
    internet.add_host("mx.mail.example", "198.41.0.1")
    internet.add_domain("mail.example", "mx.mail.example")
    keyed = {**credentials, "Idempotency-Key": "login 2"}
    mail = {
        "from": "Hi <hi@forum.example>",
        "to": "ann@mail.example",
        "subject": "Grüße",
        "text": "Hello,\nthere is news.\n",
    }

    async def main() -> None:
        def clock() -> int:
            return BEGIN_US + round(trio.current_time() * 1_000_000)

        async with open_world(data, internet=internet, enrol=False, clock=clock) as world:
            world.credentials = credentials
            assert [event.TYPE for event in world.events()[LAST_SEQ : LAST_SEQ + 2]] == [
                "log.views_rebuilt",
                "attempt.interrupted",
            ]
            # The key is remembered with its answer, and nothing is sent twice.
            status, answer, _ = await world.request("POST", "/v1/send", json=mail, headers=keyed)
            assert (status, answer["accepted"][0]["messageId"]) == (200, SENT)

            assert (await world.until_final(DEFERRED))["status"] == "sent"
            repeated = await world.until_final(UNDER_WAY)
            assert [entry["type"] for entry in repeated["timeline"]] == [
                "message.queued",
                "attempt.started",
                "attempt.interrupted",
                "attempt.started",
                "message.sent",
            ]
            held = await world.message(HELD)
            assert (held["status"], held["timeline"][-1]["type"]) == ("deferred", "message.held")
            await world.command("queue_release", by="maria", message=[HELD])
            assert (await world.until_final(HELD))["status"] == "sent"
            new = await world.send(**mail)
            assert (await world.until_final(new))["status"] == "sent"
        assert sorted(receipt.message_id for receipt in internet.receipts) == [DEFERRED, HELD, UNDER_WAY, new]

    run(main)
    assert said("log", "verify", data)["ok"]
