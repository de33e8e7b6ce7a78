"""What the pages of the console cost, with a million messages in the log: asked over HTTP, of a real relay, by a member
and by the operator who have signed in. `benchmarks.finding` has the log, and yields these rows.

Of each page: processor time of the relay's process (the mean of some requests, once Python and Jinja have it), and how
large it is. While they are made, the loop does nothing else: so its longest step (`benchmarks.steps`) is what a send
that comes at the same time would wait for.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from benchmarks.command import Effort
from benchmarks.report import Demand, Row
from benchmarks.steps import longest_step
from benchmarks.world import BenchedRelay
from relay.file_names import CONSOLE_ADDRESS_FILE

REQUESTS = 10
#: Of the pages of which something is asked.
MILLISECONDS_MAX, KILOBYTES_MAX = 50, 30
STEP_SECONDS_MAX = 0.05


class Messages(NamedTuple):
    """Of one member: what the pages are asked for."""

    did: str
    domain: str
    recipient: str
    sent: str
    bounced: str


class _Visitor:
    """Somebody who has signed in, over one connection."""

    def __init__(self, address: str, home: str, link: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=600)
        self._home = home
        self._headers = {"Sec-Fetch-Site": "same-origin"}
        form = urlencode({"link": link.partition("?link=")[2]})
        headers = {**self._headers, "Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", f"{home}/sign-in", form, headers)
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 303, f"not signed in: {answer.status}"
        self._headers["Cookie"] = answer.getheader("Set-Cookie", "").partition(";")[0]

    def get(self, path: str) -> bytes:
        self._connection.request("GET", self._home + path, headers=self._headers)
        answer = self._connection.getresponse()
        page = answer.read()
        assert answer.status == 200, f"{path}: {answer.status}"
        return page


def measure_pages(relay: BenchedRelay, case: str, effort: Effort) -> Iterator[Row]:
    """Of a relay that runs as `benchmarks.steps`; `case` is what the rows say of the log."""
    some = messages_of_one(relay)
    console = relay.directory / CONSOLE_ADDRESS_FILE
    relay.wait_until(console.exists, "serves the operator's console")
    login = partial(relay.command, "console", "login", "--json")
    member = _Visitor(relay.address, "/console", json.loads(login("--did", some.did))["url"])
    operator = _Visitor(console.read_text().split()[0], "", json.loads(login())["url"])
    for door, visitor, pages in (
        ("a member", member, _of_member(some)),
        ("the operator", operator, _of_operator(some)),
    ):
        for path in pages.values():
            visitor.get(path)
        longest_step(relay)
        slowest = (0.0, "")
        row = partial(Row, question="finding", lower_is_better=True)
        for name, path in pages.items():
            values = [_milliseconds(relay, visitor, path) for _ in range(effort.rounds)]
            slowest = max(slowest, (longest_step(relay), name))
            is_asked = name.endswith("message") or name == "messages"
            yield row(
                case=f"{door}: {name}, {case}",
                what="ms of processor",
                values=values,
                asked=Demand("median", at_most=MILLISECONDS_MAX) if is_asked else None,
            )
            yield row(
                case=f"{door}: {name}, {case}",
                what="KB",
                values=[len(visitor.get(path)) / 1000],
                asked=Demand("median", at_most=KILOBYTES_MAX) if name.endswith("message") else None,
            )
        seconds, name = slowest
        yield row(
            case=f"{door}: the longest step of any page ({name}), {case}",
            what="seconds of processor",
            values=[seconds],
            asked=Demand("median", at_most=STEP_SECONDS_MAX),
        )


def _milliseconds(relay: BenchedRelay, visitor: _Visitor, path: str) -> float:
    used = relay.cpu_seconds()
    for _ in range(REQUESTS):
        visitor.get(path)
    return (relay.cpu_seconds() - used) / REQUESTS * 1000


def _of_member(some: Messages) -> dict[str, str]:
    return {
        "overview": "/",
        "messages": "/messages",
        "messages to one recipient": f"/messages?recipient={quote(some.recipient)}",
        "messages of one class": "/messages?class=invalid_recipient",
        "messages that match nothing": "/messages?category=transactional",
        "a sent message": f"/messages/{some.sent}",
        "a bounced message": f"/messages/{some.bounced}",
        "suppressions": "/suppressions",
        "keys": "/keys",
        "webhooks": "/webhooks",
    }


def _of_operator(some: Messages) -> dict[str, str]:
    find = {"recipient": some.recipient, "class": "invalid_recipient", "mx": "mx7.example"}
    return {
        "overview": "/",
        "queue": "/queue",
        "find": "/find",
        **{f"find by {name}": f"/find?{urlencode({name: value})}" for name, value in find.items()},
        "find what is not there": "/find?provider=apple",
        **{f"top by {by}": f"/top?by={by}" for by in ("receiver", "site", "class", "member")},
        "a sent message": f"/messages/{some.sent}",
        "a bounced message": f"/messages/{some.bounced}",
        "a member's message": f"/members/{some.did}/messages/{some.bounced}",
        "a member's overview": f"/members/{some.did}/",
        "a member's messages": f"/members/{some.did}/messages",
        "members": "/members",
        "domains": "/domains",
        "providers": "/providers",
        "a provider": "/providers/google",
        "reputation": "/reputation",
        "why a domain": f"/reputation/{some.domain}",
        "log": "/log",
    }


def messages_of_one(relay: BenchedRelay) -> Messages:
    """Of the member whose message is the newest."""
    newest = _found(relay)
    of_member = partial(_found, relay, "--did", newest["did"])
    return Messages(
        newest["did"],
        newest["domain"],
        newest["recipient"],
        of_member("--status", "sent")["messageId"],
        of_member("--status", "bounced")["messageId"],
    )


def _found(relay: BenchedRelay, *options: str) -> Any:
    done = relay.run_command("find", str(relay.directory), "--json", "--limit", "1", *options)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["messages"]
    return found
