"""The official SDKs of Resend, for JavaScript and Python: with another base URL and another key they work here."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import resend
import trio

from relay.times import rfc3339
from tests.world.daemon import require_file, require_program
from tests.world.mx import Mx, open_mx
from tests.world.pages import DOCS
from tests.world.process import PATIENCE_SECONDS, RelayProcess, configure, make_process_directory
from tests.world.relay import DID

NODE = Path(__file__).parent / "node"
SENDER = "You <you@yourdomain.com>"
PICTURE = bytes(range(256)) * 20

#: What an SDK gave for each call: `{"data": ...}` or `{"error": {"statusCode", "name", "message"}}`.
Outcomes = list[dict[str, Any]]
Call = tuple[Any, ...]


def javascript(url: str, key: str, calls: list[Call]) -> Outcomes:
    require_file(NODE / "node_modules" / "resend", "make tests/clients/node/node_modules/.ready")
    program = require_program("node", package="nodejs")
    done = subprocess.run(
        [program, str(NODE / "resend.js"), key],
        input=json.dumps({"calls": calls}, default=_as_bytes),
        stdout=subprocess.PIPE,
        env={**os.environ, "RESEND_BASE_URL": url},
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    outcomes: Outcomes = json.loads(done.stdout)
    return outcomes


def _as_bytes(value: bytes) -> dict[str, str]:
    return {"$bytes": base64.b64encode(value).decode()}


#: Where the SDK for Python has another name for a method, or for a field.
PYTHON_CALLS: dict[str, Callable[..., Any]] = {
    "emails.send": resend.Emails.send,
    "emails.get": resend.Emails.get,
    "emails.update": resend.Emails.update,
    "emails.cancel": resend.Emails.cancel,
    "batch.send": resend.Batch.send,
}
PYTHON_FIELDS = {
    "replyTo": "reply_to",
    "scheduledAt": "scheduled_at",
    "contentType": "content_type",
    "contentId": "content_id",
    "idempotencyKey": "idempotency_key",
    "topicId": "topic_id",
}


def python(url: str, key: str, calls: list[Call]) -> Outcomes:
    resend.api_url, resend.api_key = url, key
    outcomes: Outcomes = []
    for name, *given in calls:
        try:
            answer = PYTHON_CALLS[name](*map(_in_python, given))
        except resend.exceptions.ResendError as error:
            outcome = {"statusCode": error.code, "name": error.error_type, "message": error.message}
            outcomes.append({"error": outcome | {"class": type(error).__name__}})
        else:
            outcomes.append({"data": json.loads(json.dumps(answer))})
    return outcomes


def _in_python(value: Any) -> Any:
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, list):
        return [_in_python(one) for one in value]
    if isinstance(value, dict):
        return {PYTHON_FIELDS.get(name, name): _in_python(one) for name, one in value.items()}
    return value


SDKS: dict[str, Callable[[str, str, list[Call]], Outcomes]] = {"npm": javascript, "PyPI": python}
by_each = pytest.mark.parametrize("sdk", SDKS)


class Program:
    """Somebody's program, which was written for Resend."""

    def __init__(self, sdk: str, relay: RelayProcess, mx: Mx, key: str) -> None:
        self._sdk = SDKS[sdk]
        self._relay = relay
        self.mx = mx
        self.key = key

    async def outcomes(self, *calls: Call, key: str | None = None) -> Outcomes:
        url = f"http://{self._relay.address}"
        return await trio.to_thread.run_sync(self._sdk, url, key or self.key, list(calls))

    async def all(self, *calls: Call) -> list[Any]:
        outcomes = await self.outcomes(*calls)
        assert all("data" in outcome for outcome in outcomes), [o for o in outcomes if "error" in o]
        return [outcome["data"] for outcome in outcomes]

    async def errors(self, *calls: Call, key: str | None = None) -> list[Any]:
        outcomes = await self.outcomes(*calls, key=key)
        assert all("error" in outcome for outcome in outcomes), outcomes
        return [outcome["error"] for outcome in outcomes]

    async def until(self, email_id: str, last_event: str) -> Any:
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                (shown,) = await self.all(("emails.get", email_id))
                if shown["last_event"] == last_event:
                    return shown
                await trio.sleep(0.1)


@asynccontextmanager
async def open_program(tmp_path: Path, sdk: str, edges: int = 0) -> AsyncIterator[Program]:
    async with open_mx() as mx:
        directory = make_process_directory(tmp_path / "data", route=mx.address)
        configure(directory, service=f"edges = {edges}")
        relay = RelayProcess(directory)
        relay.enrol()
        made = relay.command("key", "issue", "--did", DID, "--category", "transactional", "--json")
        with relay.running(), trio.fail_after(PATIENCE_SECONDS):
            yield Program(sdk, relay, mx, json.loads(made)["apiKey"])


def mail(to: str | list[str] = "friend@example.com", **fields: Any) -> dict[str, Any]:
    return {"from": SENDER, "to": to, "subject": "Hello", "text": "Hi\n", **fields}


def in_a_while(hours: int) -> str:
    return rfc3339(time.time_ns() // 1000 + hours * 3600 * 1_000_000)


@by_each
def test_a_mail_with_all_that_there_is(tmp_path: Path, sdk: str) -> None:
    async def main() -> None:
        async with open_program(tmp_path, sdk) as program:
            fields = mail(
                ["Ann <ann@example.com>", "bob@example.com"],
                cc="carol@example.com",
                bcc=["eve@example.com"],
                replyTo=["help@yourdomain.com", "Ann <ann@example.com>"],
                html='<p>Look: <img src="cid:picture"></p>',
                headers={"X-Entity-Ref-ID": "17"},
                tags=[{"name": "kind", "value": "welcome"}],
                attachments=[
                    {"filename": "notes.txt", "content": base64.b64encode(b"Notes").decode()},
                    {
                        "filename": "picture.png",
                        "content": PICTURE,
                        "contentType": "image/png",
                        "contentId": "picture",
                    },
                ],
            )
            (sent,) = await program.all(("emails.send", fields))
            received = await program.mx.wait_messages(4)
            assert sorted(to for message in received for to in message.rcpt_to) == [
                f"{name}@example.com" for name in ("ann", "bob", "carol", "eve")
            ]
            for each in received:
                parsed = message_from_bytes(each.data, policy=policy.default)
                assert isinstance(parsed, EmailMessage)
                assert parsed["To"] == "Ann <ann@example.com>, bob@example.com"
                assert parsed["Cc"] == "carol@example.com"
                assert parsed["Bcc"] is None
                assert b"eve@" not in each.data
                assert parsed["Reply-To"] == "help@yourdomain.com, Ann <ann@example.com>"
                assert parsed["X-Entity-Ref-ID"] == "17"
                files = {
                    part.get_filename(): part.get_payload(decode=True)
                    for part in parsed.walk()
                    if part.get_filename()
                }
                assert files == {"notes.txt": b"Notes", "picture.png": PICTURE}
            assert len({message_from_bytes(each.data)["Message-ID"] for each in received}) == 1
            shown = await program.until(sent["id"], "delivered")
            assert shown["object"] == "email"
            assert shown["message_id"] == message_from_bytes(received[0].data)["Message-ID"]
            assert shown["from"] == SENDER
            assert shown["to"] == fields["to"]
            assert (shown["cc"], shown["bcc"]) == (["carol@example.com"], ["eve@example.com"])
            assert shown["reply_to"] == fields["replyTo"]
            assert (shown["subject"], shown["text"], shown["html"]) == ("Hello", "Hi\n", fields["html"])
            assert shown["tags"] == fields["tags"]
            assert shown["scheduled_at"] is None

    trio.run(main)


@by_each
def test_a_time_that_is_changed_and_cancelled(tmp_path: Path, sdk: str) -> None:
    async def main() -> None:
        async with open_program(tmp_path, sdk) as program:
            first, then = in_a_while(1), in_a_while(2)
            (sent,) = await program.all(("emails.send", mail(scheduledAt=first)))
            which = sent["id"]
            update = ("emails.update", {"id": which, "scheduledAt": then})
            shown, updated, moved, cancelled, gone = await program.all(
                ("emails.get", which),
                update,
                ("emails.get", which),
                ("emails.cancel", which),
                ("emails.get", which),
            )
            assert (shown["last_event"], shown["scheduled_at"]) == ("scheduled", first)
            assert (moved["last_event"], moved["scheduled_at"]) == ("scheduled", then)
            for changed in (updated, cancelled):
                assert (changed["object"], changed["id"]) == ("email", which)
            assert gone["last_event"] == "canceled"
            (sent,) = await program.all(("emails.send", mail()))
            await program.until(sent["id"], "delivered")
            (error,) = await program.errors(("emails.cancel", sent["id"]))
            assert (error["statusCode"], error["name"]) == (422, "validation_error")
            assert len(program.mx.messages) == 1

    trio.run(main)


@by_each
@pytest.mark.parametrize("edges", [0, 1])
def test_a_batch_and_a_key_that_makes_it_safe_to_repeat(tmp_path: Path, sdk: str, edges: int) -> None:
    async def main() -> None:
        async with open_program(tmp_path, sdk, edges) as program:
            mails = [mail(f"a{number}@example.com", subject=f"Number {number}") for number in range(5)]
            batch = ("batch.send", mails, {"idempotencyKey": "all-hands/5"})
            first, again = await program.all(batch, batch)
            assert again["data"] == first["data"]
            received = await program.mx.wait_messages(5)
            assert {message_from_bytes(each.data)["Subject"] for each in received} == {
                one["subject"] for one in mails
            }
            shown = await program.all(*(("emails.get", one["id"]) for one in first["data"]))
            assert [one["to"] for one in shown] == [[one["to"]] for one in mails]
            conflict, wrong = await program.errors(
                ("batch.send", mails[:1], {"idempotencyKey": "all-hands/5"}),
                ("batch.send", [mails[0], mail("nobody")]),
            )
            assert (conflict["statusCode"], conflict["name"]) == (409, "invalid_idempotent_request")
            assert (wrong["statusCode"], wrong["name"]) == (422, "validation_error")
            assert wrong["message"].startswith("[1] to: ")
            (one,) = await program.all(("emails.send", mail(), {"idempotencyKey": "one"}))
            (same,) = await program.all(("emails.send", mail(), {"idempotencyKey": "one"}))
            assert same["id"] == one["id"]
            assert len(await program.mx.wait_messages(6)) == 6

    trio.run(main)


@by_each
def test_what_is_refused_is_refused_in_their_shape(tmp_path: Path, sdk: str) -> None:
    async def main() -> None:
        async with open_program(tmp_path, sdk) as program:
            refused = {
                "template: ": mail(template={"id": "welcome"}),
                "attachments[0].path: ": mail(attachments=[{"filename": "a", "path": "https://a.example/"}]),
                "scheduled_at: ": mail(scheduledAt="in 1 min"),
                "reply_to: ": mail(replyTo="nobody"),
            }
            errors = await program.errors(*(("emails.send", fields) for fields in refused.values()))
            for error, begins in zip(errors, refused, strict=True):
                assert (error["statusCode"], error["name"]) == (422, "validation_error")
                assert error["message"].startswith(begins)
            nobodys, unknown = [
                *await program.errors(("emails.send", mail()), key="re_123"),
                *await program.errors(("emails.get", "4ef9a417-02e9-4d39-ad75-9611e0fcc33c")),
            ]
            assert (nobodys["statusCode"], nobodys["name"]) == (403, "invalid_api_key")
            assert (unknown["statusCode"], unknown["name"]) == (404, "not_found")
            if sdk == "PyPI":  # which has a class for each that it knows
                assert [error["class"] for error in (errors[0], nobodys)] == [
                    "ValidationError",
                    "InvalidApiKeyError",
                ]

    trio.run(main)


PAGE = (DOCS / "SEND_API.md").read_text()


def on_the_page(language: str) -> str:
    (program,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(program)


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_the_programs_of_the_page(tmp_path: Path, language: str) -> None:
    """As they stand there, and nothing in the environment but the relay and the key."""
    if language == "javascript":
        require_file(NODE / "node_modules" / "resend", "make tests/clients/node/node_modules/.ready")
        command = [require_program("node", package="nodejs"), "--input-type=module", "-"]
    else:
        command = [sys.executable, "-"]
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    key = relay.enrol()["Authorization"].removeprefix("Bearer ")
    with relay.running():
        done = subprocess.run(
            command,
            input=on_the_page(language),
            stdout=subprocess.PIPE,
            env={**os.environ, "RELAY": f"http://{relay.address}", "KEY": key},
            cwd=NODE,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        )
    assert re.fullmatch(r"[1-9][0-9]* (queued|delivery_delayed)\n", done.stdout), done.stdout
