"""`find`, `top` and `why`: what is asked for, how it is told, and what they are called elsewhere."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.finding import totals
from relay.views.messages import STATUSES
from tests.world.asked_about import FORUM, SHOP, ask, make_story
from tools import finding
from tools.cli import cli


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_story(tmp_path_factory.mktemp("story") / "data")


def asked_json(story: Path, command: str) -> Any:
    return json.loads(ask(story, f"atmos-relay {command} --json").output)


def test_the_words_are_those_of_the_views() -> None:
    assert finding.STATUSES == STATUSES
    assert (finding.BYS, finding.ORDERS) == (totals.BYS, totals.ORDERS)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ("--recipient ida@harbour.example", 2),
        ("--recipient IDA@harbour.example --status deferred", 1),
        ("--from tea@shop.example", 4),
        ("--domain forum.example --since 2026-09-22 --until 2026-09-22T18:30:00Z", 6),
        (f"--did {SHOP} --category transactional", 4),
        ("--class invalid_recipient", 4),
        ("--mx mx.harbour.example", 2),
        ("--provider microsoft", 6),
        (f"--did {FORUM} --status bounced --class quota_issues", 0),
        ("--since yesterday", 13),
    ],
)
def test_all_that_is_given_must_hold(story: Path, filters: str, count: int) -> None:
    answer = asked_json(story, f"find {filters}")
    ids = [message["messageId"] for message in answer["messages"]]
    assert (len(ids), answer["next"]) == (count, None)
    assert ids == sorted(ids, reverse=True)


def test_page_by_page_it_is_the_same(story: Path) -> None:
    whole = [message["messageId"] for message in asked_json(story, "find")["messages"]]
    pages, after = [], ""
    while True:
        answer = asked_json(story, f"find --limit 5 {after}")
        pages += [message["messageId"] for message in answer["messages"]]
        if answer["next"] is None:
            break
        assert f"--after {answer['next']}\n" in ask(story, f"atmos-relay find --limit 5 {after}").output
        after = f"--after {answer['next']}"
    assert pages == whole


def test_what_strangers_wrote_moves_no_cursor(story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "\x1b[2Jgone\u202e"
    found = asked_json(story, "find --limit 1")["messages"][0]
    hostile = {
        **found,
        "recipient": evil,
        "from": evil,
        "status": "deferred",
        "lastReply": {"code": 451, "enhanced": None, "text": evil, "mx": evil, "bounceClass": None},
    }
    monkeypatch.setattr(
        finding, "administer", lambda *_: {"messages": [hostile], "next": None, "lookedBackTo": None}
    )
    printed = CliRunner().invoke(cli, ["find", str(story)]).output
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert printed.count("\\x1b[2Jgone\\u202e") == 3


def test_top_says_all_together_below_the_rows(story: Path) -> None:
    answer = asked_json(story, "top --by member")
    assert {row["name"] for row in answer["rows"]} == {FORUM, SHOP}
    assert answer["all"]["sent"] == sum(row["sent"] for row in answer["rows"]) == 16
    printed = ask(story, "atmos-relay top --by member").output
    (last,) = [line for line in printed.splitlines() if line.startswith("(all)")]
    assert last.split()[1] == "16"
    assert asked_json(story, f"top --by domain --did {SHOP}")["total"] == 1


def test_why_fits_a_terminal_and_says_whether_anything_is_wrong(story: Path) -> None:
    paused = ask(story, "atmos-relay why --domain forum.example")
    assert paused.exit_code == 1
    assert max(map(len, paused.output.split("\n\n")[-1].splitlines())) <= 80
    assert paused.output.count("invalid_recipient: 550 5.1.1") == 4
    good = ask(story, "atmos-relay why --domain shop.example")
    assert (good.exit_code, good.output.split()[0]) == (0, "ok")
    assert ask(story, f"atmos-relay why --did {SHOP}").exit_code == 0


def test_the_table_of_providers_fits_a_terminal(story: Path) -> None:
    table = ask(story, "atmos-relay providers").output.split("\n\n")[0].splitlines()
    assert {line.split()[0] for line in table} >= {"google", "microsoft"}
    assert max(map(len, table)) <= 80


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("find --status snet", "Did you mean sent?"),
        ("find --class invalid_recipent", "Did you mean invalid_recipient?"),
        ("find --provider gogle", "Did you mean google?"),
        ("top", "Missing option '--by'"),
        ("top --by memeber", "Did you mean member?"),
        ("why", "give either --domain DOMAIN or --did DID"),
        ("log audit --since 2h", "--since goes with --recipient"),
        ("log audit", "--recipient ADDRESS"),
        ("log audit 14 --recipient a@b.example", "either a message's id or --recipient"),
    ],
)
def test_wrong_use(story: Path, command: str, said: str) -> None:
    answer = ask(story, f"atmos-relay {command}")
    assert (answer.exit_code, said in answer.output) == (2, True), answer.output


def test_audit_of_a_recipient_tells_the_newest_and_names_the_others(story: Path) -> None:
    ids = [one["messageId"] for one in asked_json(story, "find --recipient ida@harbour.example")["messages"]]
    newest = ask(story, "atmos-relay log audit --recipient ida@harbour.example").output
    first, _, rest = newest.partition("\n\n")
    assert first == f"The newest to ida@harbour.example; there are 1 other: {ids[1]}"
    assert rest == ask(story, f"atmos-relay log audit {ids[0]}").output
    told = asked_json(story, "log audit --recipient ida@harbour.example --since yesterday")
    assert (told["messageId"], told["others"], told["andMore"]) == (ids[0], [], False)
    nobody = CliRunner().invoke(
        cli, shlex.split(f"log audit {story} --recipient nobody@nowhere.example --since 2026-09-22")
    )
    assert nobody.exit_code == 1
    assert "there is no message to nobody@nowhere.example that was accepted since 2026-09-22" in nobody.output
