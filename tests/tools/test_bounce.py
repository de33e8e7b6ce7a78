"""`bounce paste` and `bounce record` as an operator types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.mail_reading import Reading
from relay.refusals import Refusal
from tests.operator.test_bounces_by_hand import complaint, dsn
from tests.world.relay import open_world, run
from tools import bounce
from tools.bounce_words import tell_reading
from tools.cli import cli

NOBODYS = f"7-{'a' * 16}"


def typed(*words: object, mail: bytes = b"") -> Result:
    return CliRunner().invoke(cli, ["bounce", *map(str, words)], input=mail)


def lines(*words: object, mail: bytes = b"", status: int = 0) -> list[str]:
    result = typed(*words, mail=mail)
    assert result.exit_code == status, (result.output, result.exception)
    return result.output.splitlines()


class Place:
    """A directory with two messages that were sent, which nobody serves, and their tokens."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ids: list[int] = []
        self.tokens: list[str] = []

        async def main() -> None:
            async with open_world(directory) as world:
                for to in ("bob@example.com", "carol@example.com"):
                    message_id = await world.send(to=to)
                    await world.until_final(message_id)
                    self.ids.append(message_id)
                    self.tokens.append(world.core.message_tokens.token(message_id))

        run(main)


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("bounce") / "data")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data")


def test_a_mail_alone_is_understood_in_sentences() -> None:
    assert lines("paste", mail=dsn(NOBODYS)) == [
        "This is a delivery report (RFC 3464).",
        "The mail failed for good.",
        "Class invalid_recipient. Nobody has this address: take it off the list.",
        "The receiver said: 550 5.1.1 no such user",
        "It was told by mx.example.",
        f"It has what may be the token of a message: {NOBODYS}. Name DIR to see whether it is.",
    ]
    assert lines("paste", mail=dsn(""))[-1].startswith("No token of a message is in it")
    assert lines("paste", mail=dsn("", "delayed", "4.4.1"))[1].startswith("The mail is late")
    for action, ends in (("failed", ": it was given up; send it again later."), ("delayed", "again later.")):
        mail = dsn("", action, "4.4.1").replace(b"550 4.4.1 no such user", b"connection timed out")
        (helps,) = (
            line for line in lines("paste", mail=mail) if line.startswith("Class no_answer_from_host. ")
        )
        assert helps.endswith(ends)
        assert ("once it has bounced" in helps) == (action == "delayed")
    assert lines("paste", mail=dsn("", "failed", "4.4.1"))[1].startswith(
        "The mail failed: whoever had it has given"
    )
    assert lines("paste", mail=dsn("", "delivered", "2.0.0"))[1] == "The mail was delivered."
    assert (
        lines("paste", mail=complaint(""))[1] == "The recipient calls the mail spam. (Feedback-Type: abuse)"
    )
    assert "no spam" in lines("paste", mail=complaint("", "not-spam"))[1]
    away = b"Auto-Submitted: auto-replied\r\nSubject: Out of office\r\n\r\nI am away.\r\n"
    assert "automatic answer" in lines("paste", mail=away)[0]


def test_what_says_nothing_of_a_mail_is_status_1(looked_at: Place) -> None:
    # With a directory, too: there is nothing that could be recorded of it.
    for directory in ([], [looked_at.directory]):
        assert lines("paste", *directory, mail=b"Subject: lunch\r\n\r\nAt noon?\r\n", status=1) == [
            "This is no report of a kind that this relay knows.",
            "Nothing in it says what became of a mail.",
        ]


def test_programs_get_json(looked_at: Place) -> None:
    told: Any = json.loads(typed("paste", "--json", mail=dsn(NOBODYS)).output)
    assert told["kind"] == "dsn"
    assert told["verdict"] == "permanent"
    assert told["meaning"] == "Nobody has this address: take it off the list."
    assert told["tokens"] == [NOBODYS]
    assert "about" not in told
    told = json.loads(typed("paste", looked_at.directory, "--json", mail=dsn(looked_at.tokens[0])).output)
    assert told["about"]["messageId"] == looked_at.ids[0]
    assert told["about"]["counts"]


def test_with_a_directory_it_says_what_would_follow(looked_at: Place) -> None:
    first, token = looked_at.ids[0], looked_at.tokens[0]

    def ends(mail: bytes) -> list[str]:
        said = lines("paste", looked_at.directory, mail=mail)
        return said[
            next(at for at, line in enumerate(said) if line.startswith(("It is about", "No token"))) :
        ]

    about = f"It is about message {first} to bob@example.com from yourdomain.com (sent)."
    assert ends(dsn(token)) == [
        about,
        "Recorded by hand, it would be in the message's timeline as message.bounce_reported.",
        "It would then count as a bounce of yourdomain.com; suppress the recipient (bounced).",
    ]
    assert ends(complaint(token))[2] == (
        "It would then count as a complaint of yourdomain.com; suppress the recipient (complaint)."
    )
    assert ends(dsn(token, "delayed", "4.4.1"))[2] == (
        "Nothing else would change: it does not say that the mail failed for good."
    )
    assert ends(dsn(token, "failed", "4.4.1"))[2].startswith(
        "Nothing else would change: only what failed for good"
    )
    assert ends(dsn(NOBODYS))[0].startswith("No token of this relay's is in it")


def test_the_token_may_be_in_the_header_of_the_mail_itself(looked_at: Place) -> None:
    """The copy that an operator has says whom it came to; a relay knows that from the envelope."""
    for end in (b"\r\n", b"\n"):
        header = b"Delivered-To: bounces+%b@relay.example\r\n" % looked_at.tokens[0].encode()
        mail = (header + dsn("")).replace(b"\r\n", end)
        assert any(
            f"message {looked_at.ids[0]} " in line for line in lines("paste", looked_at.directory, mail=mail)
        )


def test_it_is_recorded_once(place: Place) -> None:
    first, mail = place.ids[0], dsn(place.tokens[0])
    about = f"It is about message {first} to bob@example.com from yourdomain.com (sent)."
    assert lines("record", place.directory, "--reason", "a letter", mail=mail) == [
        about,
        "It is in the message's timeline as message.bounce_reported.",
        "It has counted as a bounce of yourdomain.com; suppressed the recipient (bounced).",
    ]
    assert lines("record", place.directory, mail=mail) == [
        about,
        "This very mail was recorded about that message before; nothing has changed.",
    ]
    assert lines("paste", place.directory, mail=mail)[-1].endswith("nothing would change.")
    (line,) = (
        line
        for line in CliRunner().invoke(cli, ["log", "cat", str(place.directory)]).output.splitlines()
        if "message.bounce_reported" in line
    )
    assert "it failed (invalid_recipient), mx.example: 550 5.1.1" in line
    assert line.endswith("a letter")


def test_who_names_the_message_needs_no_token(place: Place, tmp_path: Path) -> None:
    saved = tmp_path / "mail"
    saved.write_bytes(b"\nFrom mailer-daemon Thu Jan  1 00:00:00 2026\n" + dsn("").replace(b"\r\n", b"\n"))
    result = typed("record", place.directory, "--file", saved)
    assert isinstance(result.exception, Refusal)  # told as a sentence, status 1
    assert "--message" in str(result.exception)
    told = typed("record", place.directory, "--file", saved, "--message", place.ids[1], "--json")
    answer = json.loads(told.output)
    assert (answer["messageId"], answer["recipient"], answer["counts"]) == (
        place.ids[1],
        "carol@example.com",
        True,
    )


@pytest.mark.parametrize("mail", [b"", b"\r\n \r\n", b"From x\n"])
def test_without_a_mail_it_is_usage(mail: bytes) -> None:
    result = typed("paste", mail=mail)
    assert result.exit_code == 2
    assert "there is no mail" in result.output


def test_a_mail_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounce, "OCTETS_MAX", 1000)
    assert typed("paste", mail=b"Subject: x\n" * 90).exit_code == 1
    result = typed("paste", mail=b"Subject: x\n" * 100)
    assert result.exit_code == 2
    assert "longer than 1,000 octets" in result.output


def test_no_stranger_writes_on_the_terminal() -> None:
    hostile = "\x1b[2J\x9b\u202e"
    reading = Reading(
        kind="dsn",
        action="failed",
        enhanced="5.1.1",
        bounce_class=hostile,
        diagnostic=hostile,
        reporting_mta=hostile,
        remote_mta=hostile,
        feedback_type=hostile,
        tokens=(hostile,),
    )
    assert all(sentence.isprintable() for sentence in tell_reading(reading))
