"""What the world's receivers say, and the class of each: `bounce_corpus.txt`, read through our own SMTP client."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.delivery import bounce_classes
from relay.delivery.bounce_classes import (
    RULES,
    TEXT_CHARACTERS_MAX,
    BounceClass,
    Rule,
    classify,
    is_about,
    words_of,
)
from relay.delivery.replies import Failure, FailureKind
from relay.delivery.reply_reader import Command, SmtpReply
from relay.delivery.smtp import Client
from relay.message.advice import ADVICE, Advice

CORPUS = Path(__file__).parent.parent / "bounce_corpus.txt"
CLASSES_PAGE = Path(__file__).parent.parent.parent / "docs" / "BOUNCE_CLASSES.md"
COMMANDS = {command.value.casefold(): command for command in Command}


class Example(NamedTuple):
    line: int
    expected: BounceClass
    reply: SmtpReply


def read_corpus(text: str) -> Iterator[Example]:
    head: tuple[int, Command, BounceClass] | None = None
    wire: list[str] = []
    for number, line in enumerate([*text.splitlines(), "## the end"], 1):
        if line.startswith("    "):
            assert head, f"line {number}: a reply to nothing"
            wire.append(line.strip())
            continue
        if head:
            at, command, expected = head
            yield Example(at, expected, reply_of(command, wire))
            head, wire = None, []
        if line and not line.startswith("#"):
            said, _, word = line.partition(" -> ")
            head = number, COMMANDS[said.casefold()], BounceClass(word)


def reply_of(command: Command, wire: list[str]) -> SmtpReply:
    """As our client reads it; it has to be one whole reply."""
    client = Client("relay.example")
    client.receive_data("".join(f"{line}\r\n" for line in wire).encode())
    reply = client.next_event()
    assert isinstance(reply, SmtpReply), wire
    assert len(reply.lines) == len(wire), wire
    return replace(reply, command=command)


EXAMPLES = list(read_corpus(CORPUS.read_text()))


def decided_by(reply: SmtpReply) -> Rule:
    rule = bounce_classes.rule_for(reply)
    assert rule is not None
    return rule


# ------------------------------------------------------------------------------------------------ the corpus


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line {example.line}")
def test_each_reply_has_its_class(example: Example) -> None:
    assert classify(example.reply) is example.expected, decided_by(example.reply).why


def test_the_corpus_is_large_and_repeats_nothing() -> None:
    assert len(EXAMPLES) >= 200
    said = Counter((example.reply.command, example.reply.lines) for example in EXAMPLES)
    assert [reply for reply, times in said.items() if times > 1] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.why)
def test_every_rule_decides_some_reply_by_each_of_its_phrases_and_statuses(rule: Rule) -> None:
    """A condition that no reply needs is one that nobody has seen, or that an earlier rule hides."""
    decided = [example.reply for example in EXAMPLES if decided_by(example.reply) is rule]
    assert decided
    words = [words_of(reply.text) for reply in decided]
    assert [phrase for phrase in rule.phrases if not any(f" {phrase} " in text for text in words)] == []
    statuses = [reply.enhanced[2:] if reply.enhanced else "" for reply in decided]
    assert [
        wanted for wanted in rule.statuses if not any(is_about(found, wanted) for found in statuses)
    ] == []


def test_every_rule_has_a_reason_of_its_own() -> None:
    assert max(Counter(rule.why for rule in RULES).values()) == 1


def test_phrases_are_written_as_words_are_compared() -> None:
    for rule in RULES:
        assert [phrase for phrase in rule.phrases if words_of(phrase) != f" {phrase} "] == []


# ------------------------------------------------------------------------------------------------ every reply


@settings(derandomize=True)
@given(
    st.sampled_from(Command),
    st.integers(400, 599),
    st.none() | st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True),
    st.lists(st.text(max_size=80), min_size=1, max_size=4),
)
def test_every_refusal_has_a_class(command: Command, code: int, status: str | None, lines: list[str]) -> None:
    enhanced = None if status is None else f"{code // 100}.{status}"
    assert classify(SmtpReply(command, code, enhanced, tuple(lines))) in BounceClass


def test_what_is_accepted_has_no_class() -> None:
    assert classify(SmtpReply(Command.END_OF_DATA, 250, "2.0.0", ("user unknown, but never mind",))) is None


def test_every_kind_of_failure_has_a_class() -> None:
    classes = {kind: classify(Failure(kind, "a sentence")) for kind in FailureKind}
    assert None not in classes.values()
    assert classes[FailureKind.NULL_MX] is BounceClass.BAD_DOMAIN
    assert classes[FailureKind.CONNECT] is BounceClass.NO_ANSWER_FROM_HOST


def test_every_class_can_come_about() -> None:
    by_failure = {classify(Failure(kind, "a sentence")) for kind in FailureKind}
    assert set(BounceClass) == by_failure | {rule.bounce_class for rule in RULES}


def test_only_so_much_of_a_text_is_read() -> None:
    def said(text: str) -> BounceClass | None:
        return classify(SmtpReply(Command.MAIL, 550, None, (text,)))

    before = "x" * (TEXT_CHARACTERS_MAX - len(" user unknown"))
    assert said(f"{before} user unknown") is BounceClass.INVALID_RECIPIENT
    assert said(f"{before}x user unknown") is BounceClass.UNCATEGORIZED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("User  Unknown.", " user unknown "),
        ("https://mail.example/?p=NoSuchUser", " https mail example p nosuchuser "),
        ("<spam@example.com>: not_here", " not here "),
        ("doesn't, \N{REPLACEMENT CHARACTER} Straße", " doesn t straße "),
        ("", "  "),
    ],
)
def test_words_are_compared_without_case_punctuation_and_addresses(text: str, words: str) -> None:
    assert words_of(text) == words


# ------------------------------------------------------------------------------------------------ the page


def test_the_page_explains_every_class_and_no_other() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", CLASSES_PAGE.read_text(), flags=re.MULTILINE)
    assert listed == [bounce_class.value for bounce_class in BounceClass]
    assert listed == list(ADVICE)


def test_the_page_and_the_relay_say_the_same_of_each_class() -> None:
    said = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", CLASSES_PAGE.read_text(), flags=re.MULTILINE)
    assert {word: Advice(*row) for word, *row in said} == ADVICE
