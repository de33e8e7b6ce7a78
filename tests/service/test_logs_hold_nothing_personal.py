"""Application logs hold no key, token, address, subject, body or reply (SPEC 8), whatever happens to the relay.

Everything personal that goes in is a word that occurs nowhere else; afterwards it is looked for in all that the
process has written. The log must not be silent either: what an operator needs is in it.
"""

import re
from pathlib import Path

import trio

from tests.world.http import HttpConnection, open_http
from tests.world.mx import Mx, open_mx
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory

#: What a client sends, by where.
PERSONAL = {
    "recipient": "recipientcanary",
    "name": "Namecanary",
    "subject": "Subjectcanary",
    "text": "textcanary",
    "html": "htmlcanary",
    "reply to": "replytocanary",
    "header": "headercanary",
    "idempotency key": "idempotencycanary",
    "query": "querycanary",
    "path": "pathcanary",
    "user agent": "agentcanary",
}
#: The fixed sender's local part and the receiver's replies.
ALSO_PERSONAL = ["you@", "Greylisted", "No such mailbox", "do not like the content", "no SMTP"]
WRONG_KEY = "atmos_wrongkeycanary"

#: What becomes of each at the receiver: everything that it can do to a message at once.
FATES = [
    "",
    "tempfail",
    "permfail",
    "full",
    "garbage",
    "reset",
    "disconnect-in-data",
    "refuse-message",
    "421",
]


def mail(fate: str = "") -> dict[str, object]:
    return {
        "from": f"{PERSONAL['name']} <you@yourdomain.com>",
        "to": f"{fate}+{PERSONAL['recipient']}@example.com".removeprefix("+"),
        "subject": PERSONAL["subject"],
        "text": PERSONAL["text"],
        "html": f"<p>{PERSONAL['html']}</p>",
        "replyTo": f"{PERSONAL['reply to']}@yourdomain.com",
        "headers": {"X-Story": PERSONAL["header"]},
    }


#: A wrong field of each kind, with something personal in it.
REFUSED = [
    {"to": f"{PERSONAL['recipient']} at example.com"},
    {"to": [f"{PERSONAL['recipient']}@example.com"] * 51},
    {"from": f"you@{PERSONAL['recipient']}.example"},
    {"subject": f"{PERSONAL['subject']}\r\nBcc: x"},
    {"text": f"{PERSONAL['text']}\0"},
    {"headers": {"From": PERSONAL["header"]}},
    {"headers": {PERSONAL["header"]: "a\nb"}},
    {"category": PERSONAL["text"]},
    {PERSONAL["text"]: 1},
]


def test_whatever_happens_nothing_personal_is_logged(tmp_path: Path) -> None:
    broken = tmp_path / "broken"

    async def main() -> None:
        async with open_mx() as mx:
            relay = RelayProcess(
                make_process_directory(tmp_path / "data", route=mx.address),
                command=("-m", "tests.world.sabotage", "decision", str(broken)),
            )
            credentials = relay.enrol()
            secrets = [credentials["Authorization"].split()[1]]
            with relay.running(), trio.fail_after(PATIENCE_SECONDS):
                async with open_http(relay.address) as http:
                    await send_all_sorts(http, credentials)
                    await refuse_all_sorts(http, credentials)
                    await wait_until_all_are_tried(http, credentials)
                    secrets.append(await use_an_unsubscribe_link(http, mx))
                    broken.touch()
                    request_id = await provoke_a_defect(http, credentials)
                    broken.unlink()
                secrets.append(
                    relay.enrol("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "other.example")["Authorization"]
                )
                assert await trio.to_thread.run_sync(relay.stop) == 0
            (defect,) = relay.log_lines("http.defect")
            assert defect["request_id"] == request_id
            assert "BrokenPartError" in defect["exception"][0]
            assert len(relay.log_lines("admin.command")) == 1
            assert_absent([*PERSONAL.values(), *ALSO_PERSONAL, WRONG_KEY, *secrets], relay.output)
            assert all(line.startswith("{") for line in relay.output.splitlines())

    trio.run(main)


def test_a_poisoned_log_says_why_and_nothing_else(tmp_path: Path) -> None:
    broken = tmp_path / "broken"

    async def main() -> None:
        relay = RelayProcess(
            make_process_directory(tmp_path / "data", route="127.0.0.1:9"),
            command=("-m", "tests.world.sabotage", "sync", str(broken)),
        )
        credentials = relay.enrol()
        with relay.running(), trio.fail_after(PATIENCE_SECONDS):
            broken.touch()
            async with open_http(relay.address) as http:
                answer = await http.post_send(credentials, **mail())
                assert answer.status == 503
            assert await trio.to_thread.run_sync(relay.wait) == 1
        assert "the log is poisoned" in relay.output
        assert_absent([*PERSONAL.values(), "you@", credentials["Authorization"].split()[1]], relay.output)

    trio.run(main)


async def send_all_sorts(http: HttpConnection, credentials: dict[str, str]) -> None:
    for fate in FATES:
        answer = await http.post_send(
            {**credentials, "Idempotency-Key": PERSONAL["idempotency key"] + fate}, **mail(fate)
        )
        assert answer.status == 200, answer


async def refuse_all_sorts(http: HttpConnection, credentials: dict[str, str]) -> None:
    for wrong in REFUSED:
        answer = await http.post_send(credentials, **{**mail(), **wrong})
        assert answer.status in (400, 403), (wrong, answer)
    strange = {**credentials, "User-Agent": PERSONAL["user agent"]}
    for path, status in [
        (f"/v1/messages?recipient={PERSONAL['query']}@example.com", 200),
        (f"/v1/messages?after={PERSONAL['query']}", 400),
        (f"/{PERSONAL['path']}@example.com", 404),
        (f"/v1/messages/{PERSONAL['path']}", 404),
    ]:
        assert (await http.request("GET", path, strange)).status == status
    wrong_key = {**credentials, "Authorization": f"Bearer {WRONG_KEY}"}
    assert (await http.post_send(wrong_key, **mail())).status == 401
    not_json = {**credentials, "Content-Type": "application/json"}
    answer = await http.request("POST", "/v1/send", not_json, PERSONAL["text"].encode())
    assert answer.status == 400


async def wait_until_all_are_tried(http: HttpConnection, credentials: dict[str, str]) -> None:
    """Polls: the API has no way to wait."""
    while True:
        listed = (await http.request("GET", "/v1/messages", credentials)).json()["messages"]
        assert len(listed) == len(FATES)
        if all(message["lastReply"] is not None for message in listed):
            return
        await trio.sleep(0.02)


async def use_an_unsubscribe_link(http: HttpConnection, mx: Mx) -> str:
    """Look at it, press the button, and try one that is broken. Returns the token."""
    found = re.search(
        rb"^List-Unsubscribe: <https://relay\.example/u/(\S+)>", mx.messages[0].data, re.MULTILINE
    )
    assert found is not None
    token = found[1].decode()
    await http.request("GET", f"/u/{token}")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    await http.request("POST", f"/u/{token}", form, b"List-Unsubscribe=One-Click")
    await http.request("POST", f"/u/{token}x", form, b"List-Unsubscribe=One-Click")
    return token


async def provoke_a_defect(http: HttpConnection, credentials: dict[str, str]) -> str:
    answer = await http.post_send(credentials, **mail())
    assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
    request_id: str = answer.json()["requestId"]
    assert request_id in answer.json()["error"]
    return request_id


def assert_absent(words: list[str], output: str) -> None:
    found = [word for word in words if word.lower() in output.lower()]
    assert found == [], output
