"""`atmos-relay queue` as an operator types it: against a relay that runs, one that does not, and a long queue."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.delivery.sites import DOWN_SECONDS
from relay.operator.client import administer
from relay.operator.protocol import ALREADY
from tests.world.http import open_http
from tests.world.operator import ME, Operator
from tests.world.process import RelayProcess, make_process_directory
from tests.world.relay import DID, make_directory
from tools import queue

#: Nobody listens there: everything is deferred.
NOWHERE = "127.0.0.1:1"


def send(relay: RelayProcess, credentials: dict[str, str], count: int) -> list[int]:
    async def main() -> list[int]:
        ids = []
        async with open_http(relay.address) as http:
            for number in range(count):
                answer = await http.post_send(credentials, to=f"friend{number}@example.com")
                assert answer.status == 200
                ids.append(answer.json()["accepted"][0]["messageId"])
        return ids

    return trio.run(main)


def ordered(relay: RelayProcess, *words: str) -> subprocess.CompletedProcess[str]:
    name, *options = words
    return relay.run_command("queue", name, str(relay.directory), *options)


def rows(relay: RelayProcess) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(relay.command("queue", "list", "--messages", "--json"))[
        "messages"
    ]
    return messages


def test_an_evening_at_the_queue(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))
    credentials = relay.enrol()
    with relay.running():
        first, second, third = send(relay, credentials, 3)
        relay.wait_until(lambda: all(row["attempts"] for row in rows(relay)), "tries them")

        table = relay.command("queue", "list").splitlines()
        assert table[0].split()[:5] == ["site", "waiting", "due", "held", "inFlight"]
        assert table[1].split()[:2] == ["example.com", "3"]

        said = ordered(relay, "flush", "--message", str(first), "--reason", "now")
        assert (said.returncode, said.stdout) == (0, f"1 message ({first}) due now.\n")
        # 1 while one of them is being tried at this very moment.
        hold = ("hold", "--site", "example.com", "--member", DID, "--reason", "a look")
        relay.wait_until(lambda: ordered(relay, *hold).returncode == 0, "holds them all")
        assert [row["heldBy"] for row in rows(relay)] == ["operator"] * 3
        assert "held: operator" in relay.command("queue", "list", "--messages")
        said = ordered(relay, "cancel", "--message", str(third), "--message", "1", "--reason", "a mistake")
        assert said.returncode == 1  # 1 is no message
        assert said.stdout.splitlines() == [
            f"1 message ({third}) cancelled.",
            "1 message (1) passed over: there is no such message.",
        ]
        assert relay.stop() == 0

    # It does not run any more; its queue is as it was.
    assert [row["messageId"] for row in rows(relay)] == [first, second]
    said = ordered(relay, "release", "--all")
    assert said.stdout == f"2 messages ({first}, {second}) released.\n"
    shown = relay.command("queue", "show", "--message", str(third))
    assert f"by={ME}" in shown
    assert "cancelled by the operator: a mistake" in shown
    story = relay.command("log", "cat", "--message", str(third))
    assert f"held by {ME}: a look" in story
    assert f'bounced, cancelled by {ME}: 5.0.0 "cancelled by the operator: a mistake"' in story


def test_a_site_that_answers_nobody_is_shown_with_until_when_and_why(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))
    credentials = relay.enrol()

    def site() -> dict[str, Any]:
        (row,) = json.loads(relay.command("queue", "list", "--json"))["sites"]
        return dict(row)

    with relay.running():
        # As many failures in a row as the window is wide.
        send(relay, credentials, 6)
        relay.wait_until(lambda: site()["downUntil"] is not None, "finds that nobody listens there")
        asked_at = datetime.now(UTC)
        down = site()
        assert (down["receivers"], down["connectionsAtMost"]) == (f"route {NOWHERE}", 1)
        until = datetime.fromisoformat(down["downUntil"])
        assert timedelta() < until - asked_at <= timedelta(seconds=DOWN_SECONDS + 1)
        assert down["downBecause"].startswith("no connection to 127.0.0.1")
        titles, row = relay.command("queue", "list").splitlines()
        assert titles.split()[-3:] == ["receivers", "connections", "state"]
        assert re.search(r"  0 of 1 +down until \S+Z, because no connection to 127.0.0.1: .+$", row)
        assert relay.stop() == 0

    # Nobody knows any more.
    left = site()
    assert left["waiting"] == 6
    assert [left[name] for name in ("receivers", "connections", "downUntil", "downBecause")] == [None] * 4


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("flush",), 2),
        (("flush", "--all", "--member", DID), 2),
        (("hold", "--all"), 2),
        (("cancel", "--all"), 2),
        (("show",), 2),
        (("hold", "--all", "--reason", "one\ntwo"), 1),
        (("flush", "--member", "nobody"), 1),
        (("list", "--site", "not a site"), 1),
        (("show", "--message", "9"), 1),
        (("list",), 0),
        (("cancel", "--all", "--reason", "x"), 0),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_exit_status(
    tmp_path: Path, words: tuple[str, ...], status: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    operator = Operator(make_directory(tmp_path / "data"), monkeypatch, capsys)
    name, *options = words
    said = operator.run("queue", name, "DIR", *options)
    assert (said.status, said.err == "") == (status, status == 0)


def test_the_pieces_of_a_long_order_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))
    credentials = relay.enrol()
    with relay.running():
        ids = send(relay, credentials, 5)
        assert relay.stop() == 0

    def in_pieces(directory: Path, command: str, arguments: dict[str, Any]) -> Any:
        return administer(directory, command, {**arguments, "limit": 2})

    monkeypatch.setattr(queue, "administer", in_pieces)
    arguments = {"everything": True, "reason": "x"}
    answer = queue.give_in_full(relay.directory, "queue_hold", arguments, "held")
    assert answer == {"done": {"count": 5, "messages": ids}, "passed": []}
    again = queue.give_in_full(relay.directory, "queue_hold", arguments, "held")
    assert again["passed"] == [{"because": ALREADY, "count": 5, "messages": ids}]
