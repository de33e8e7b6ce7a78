"""What the command line sends is what a relay knows; what is an operator's to decide, no member's request reaches."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from relay.operator import commands, without_relay
from relay.operator.protocol import short_path
from relay.operator.socket import AdminRequest
from relay.principals import FULL, SEND, Operator, Principal, Stranger
from relay.refusals import Refusal
from relay.registry import DECISIONS, Arguments, Decision, decision, decision_for
from tests.world.orders import COMMANDS
from tests.world.relay import DID, DOMAIN
from tools.cli import cli
from tools.doctor import stem_in_use

MEMBER = ("--did", DID)
ENROLLED = (*MEMBER, "--domain", DOMAIN)
SELECTED = ("--message", "7", "--message", "8", "--member", DID, "--site", "example.org")
#: Everything that the command line can ask of a relay, with every option that changes what is sent.
LINES = [
    ("member", "add", "DIR", *ENROLLED, "--domain", "other.example", "--offline"),
    ("member", "add", "DIR", *ENROLLED, "--handle", "mira.example.com"),
    ("member", "set-handle", "DIR", *MEMBER, "--handle", "mira.example.com", "--offline"),
    ("member", "set-handle", "DIR", *MEMBER, "--none"),
    ("member", "list", "DIR"),
    ("member", "show", "DIR", *MEMBER),
    ("member", "suspend", "DIR", *MEMBER, "--reason", "x"),
    ("member", "resume", "DIR", *MEMBER),
    ("member", "limits", "DIR", *MEMBER, "--hour", "5", "--day", "50"),
    ("member", "limits", "DIR", *MEMBER),
    ("member", "remove", "DIR", *MEMBER, "--reason", "x"),
    ("domain", "add", "DIR", *ENROLLED),
    ("domain", "list", "DIR"),
    ("domain", "verify", "DIR", *ENROLLED),
    ("domain", "pause", "DIR", *ENROLLED, "--reason", "x"),
    ("domain", "resume", "DIR", *ENROLLED),
    ("domain", "resume", "DIR", "--all"),
    ("domain", "set-forward", "DIR", *ENROLLED, "--to", "b@example.org"),
    ("domain", "set-forward", "DIR", "--domain", DOMAIN, "--none"),
    ("domain", "rotate-key", "DIR", "--domain", DOMAIN),
    ("domain", "rotate-key", "DIR", *ENROLLED, "--now"),
    ("domain", "remove", "DIR", *ENROLLED, "--reason", "x"),
    ("key", "issue", "DIR", *MEMBER),
    ("key", "issue", "DIR", *MEMBER, "--scope", "full", "--category", "verification"),
    ("key", "list", "DIR", *MEMBER),
    ("key", "list", "DIR"),
    ("key", "revoke", "DIR", *MEMBER, "--key-id", "x"),
    ("key", "revoke", "DIR", *MEMBER, "--key-id", "x", "--all-of-it"),
    ("suppression", "list", "DIR", *MEMBER),
    ("suppression", "list", "DIR", *MEMBER, "--recipient", "b@example.org", "--limit", "5", "--after", "9"),
    ("suppression", "add", "DIR", *MEMBER, "--recipient", "b@example.org", "--note", "x"),
    ("suppression", "remove", "DIR", *MEMBER, "--recipient", "b@example.org"),
    ("webhook", "list", "DIR"),
    ("webhook", "list", "DIR", *MEMBER),
    ("webhook", "list", "DIR", "--own"),
    ("webhook", "show", "DIR", "--id", "x"),
    ("webhook", "add", "DIR", "--url", "https://a.example/"),
    (
        "webhook",
        "add",
        "DIR",
        "--url",
        "x",
        "--type",
        "a",
        "--type",
        "b",
        "--from",
        "7",
        "--batch",
        "9",
        "--ed25519",
    ),
    ("webhook", "remove", "DIR", "--id", "x"),
    ("webhook", "pause", "DIR", "--id", "x"),
    ("webhook", "resume", "DIR", "--id", "x"),
    ("webhook", "rotate", "DIR", "--id", "x"),
    ("webhook", "replay", "DIR", "--id", "x", "--from", "7"),
    ("webhook", "replay", "DIR", "--id", "x", "--from", "7", "--to", "9"),
    ("webhook", "test", "DIR", "--id", "x"),
    ("pepper", "rotate", "DIR"),
    ("status", "DIR"),
    ("alarms", "DIR"),
    ("listings", "DIR"),
    ("console", "login", "DIR", "--did", DID),
    ("console", "logout", "DIR", "--all"),
    ("complaint", "record", "DIR", "--message", "7"),
    ("bounce", "paste", "DIR"),
    ("bounce", "record", "DIR"),
    ("bounce", "record", "DIR", "--message", "7", "--reason", "x"),
    ("dns", "DIR"),
    ("dns", "DIR", "--domain", DOMAIN),
    ("queue", "list", "DIR"),
    ("queue", "list", "DIR", *SELECTED, "--messages", "--limit", "5"),
    ("queue", "show", "DIR", "--message", "7"),
    ("queue", "flush", "DIR", *SELECTED),
    ("queue", "flush", "DIR", "--all", "--reason", "x"),
    ("queue", "hold", "DIR", *SELECTED, "--reason", "x"),
    ("queue", "release", "DIR", "--all"),
    ("queue", "cancel", "DIR", "--all", "--reason", "x"),
    ("log", "strip", "DIR"),
    ("log", "strip", "DIR", "--older-than", "7", "--dry-run"),
    ("log", "erase", "DIR", "--message", "7", "--reason", "x"),
    ("log", "erase", "DIR", "--recipient", "b@example.org", *MEMBER, "--reason", "x"),
    ("find", "DIR", "--recipient", "b@example.org", "--status", "bounced", "--since", "2h", "--limit", "5"),
    (
        "find",
        "DIR",
        "--from",
        "a@example.org",
        "--class",
        "spam_block",
        "--mx",
        "mx.example.org",
        "--after",
        "9",
    ),
    ("top", "DIR", "--by", "receiver", "--since", "7d"),
    ("why", "DIR", "--domain", DOMAIN),
    ("providers", "DIR"),
    (
        "provider",
        "record",
        "DIR",
        "--provider",
        "google",
        "--domain",
        DOMAIN,
        "--date",
        "2026-01-01",
        "--spam-rate",
        "0.1",
    ),
]
#: On standard input, for whoever reads it.
MAIL = "Auto-Submitted: auto-replied\n\nI am away.\n"


@contextmanager
def told(directory: Path) -> Iterator[list[bytes]]:
    """What somebody is told who sits where a relay would, and refuses everything."""
    lines: list[bytes] = []
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        with short_path(directory) as path:
            listener.bind(path)
        listener.listen()

        def refuse() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # shut down, below
                    return
                with connection, connection.makefile("rb") as file:
                    lines.append(file.readline())
                    connection.sendall(b'{"error": "not today", "code": "CONFLICT"}\n')

        thread = threading.Thread(target=refuse)
        thread.start()
        try:
            yield lines
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_everything_that_the_command_line_sends_is_known_and_nothing_else_is(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with told(directory) as lines:
        for words in LINES:
            before = len(lines)
            typed = [str(directory) if word == "DIR" else word for word in words]
            result = CliRunner().invoke(cli, typed, input=MAIL)
            assert str(result.exception) == "not today", (words, result.output)
            assert len(lines) == before + 1
        # `doctor` asks where the files alone do not say it, and tells what it hears.
        assert stem_in_use(directory, ["a", "b"]) == "one of a, b: not today"
    asked = [msgspec.json.decode(line, type=AdminRequest) for line in lines]
    for words, request in zip((*LINES, ("doctor",)), asked, strict=True):
        known = decision_for(request.command, Operator("root"))
        arguments = msgspec.json.decode(request.arguments, type=known.arguments)
        # Nothing that was given is lost on the way, and nothing else is meant.
        sent = json.loads(bytes(request.arguments))
        meant = msgspec.to_builtins(arguments)
        assert {name: meant[name] for name in sent} == sent, words
    # What is never sent cannot be asked for either.
    assert {request.command for request in asked} == set(COMMANDS)


def test_what_only_reads_is_known_without_the_rest() -> None:
    """Where no relay runs, only these modules are imported for it."""
    modules = {f"relay.operator.{name}" for name in without_relay.READING}
    for name, command in COMMANDS.items():
        assert command.reads == (command.run.__module__ in modules), name


@pytest.mark.parametrize("asker", [Principal(DID, "key"), Stranger()], ids=["a member", "a stranger"])
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_nobody_else_reaches_an_operators_decision_by_its_name(name: str, asker: Any) -> None:
    with pytest.raises(LookupError):
        decision_for(name, asker)
    assert decision_for(name, Operator("root")).name == name


def test_an_operator_is_no_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DECISIONS, "suppress", Decision("suppress", Arguments, commands.carry_out, Principal))
    assert decision_for("suppress", Principal(DID, "key", FULL)).by is Principal
    with pytest.raises(LookupError):
        decision_for("suppress", Operator("root"))


def test_a_key_to_send_with_is_good_for_sending_and_for_no_other_decision() -> None:
    """Whoever adds a decision for members finds it closed to such keys, until it says otherwise."""
    sending = {"send", "send_batch", "send_all", "cancel_messages", "reschedule_messages"}
    # Of its own session in the console, any key may ask, and end it.
    sending |= {"still_signed_in", "leave_console"}
    members = {name for name, found in DECISIONS.items() if found.by is Principal}
    assert members >= sending | {"suppress", "unsuppress", "set_forward_to", "add_own_webhook"}
    for name in members - sending:
        with pytest.raises(Refusal) as refused:
            decision_for(name, Principal(DID, "key", SEND))
        assert (refused.value.code, refused.value.http_status) == ("SCOPE_INSUFFICIENT", 403)
        assert decision_for(name, Principal(DID, "key", FULL)).name == name
    for name in sending:
        for scope in (SEND, FULL):
            assert decision_for(name, Principal(DID, "key", scope)).name == name
    assert Principal(DID, "key").scope == SEND, "who says nothing is given the least"


def test_a_name_is_given_once() -> None:
    async def member_list(core: Any, asked: Arguments, by: Operator) -> None: ...

    with pytest.raises(AssertionError, match="two decisions are called member_list"):
        decision(by=Operator)(member_list)
