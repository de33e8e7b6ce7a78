"""What the consoles let nobody do: other sites, texts of strangers, keys that are revoked, guesses, and more than the
command line can."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click
import pytest
from playwright.sync_api import Browser

from relay.codec import decode
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.browser.asking import FROM_HERE, Answered, ask, form_token
from tests.browser.browsing import NARROW_LIGHT, WIDE_LIGHT, Tab, look
from tests.browser.commands import BY_HAND, COMMANDS
from tests.browser.conftest import Door, sign_in_by_key
from tests.browser.doors import GETS, POSTS, ROUTES, Route
from tests.browser.filled import DID, DOMAIN, OTHER_DID, FilledRelay
from tests.browser.hostile import MARK
from tools.cli import cli

# As in test_pages: the first test builds what all of them look at.
pytestmark = pytest.mark.timeout(900)

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PREVIEW_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
)
HOMES = {"member": "/console/", "operator": "/"}
#: What the relay writes of its own accord, while nobody asks for anything.
_BY_ITSELF = (
    "attempt.",
    *("message.deferred", "message.sent", "message.bounced"),
    *("webhook.progressed", "webhook.skipped", "webhook.disabled"),
    *("alarm.", "log."),
)


def acts_since(relay: FilledRelay, seq: int) -> list[Any]:
    with LogReader(relay.directory / LOG_DIRECTORY) as reader:
        events = [decode(record).event for record in reader.read(seq + 1)]
    return [event for event in events if not kind_of(event).startswith(_BY_ITSELF)]


def kind_of(event: Any) -> str:
    return str(event.TYPE)


def last_seq(relay: FilledRelay) -> int:
    with LogReader(relay.directory / LOG_DIRECTORY) as reader:
        return max(record.seq for record in reader.read(1))


# ------------------------------------------------------------------------------------------------ other sites


@pytest.mark.parametrize("route", POSTS, ids=str)
def test_another_site_changes_nothing(route: Route, relay: FilledRelay, doors: dict[str, Door]) -> None:
    """With the visitor's cookies, and with the form's token, should another site ever have it."""
    door = doors[route.door]
    path = next(route.paths(relay))
    token = form_token(door, HOMES[route.door])
    form = {"token": token, "did": DID, "key": relay.keys[DID], "confirm": "yes", "reason": "x"}
    seq = last_seq(relay)
    foreign: tuple[dict[str, str], ...] = (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": door.url},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {},
    )
    for headers in foreign:
        assert ask(door, "POST", path, form, headers).status == 403, (path, headers)
    if not route.page.is_open:
        for wrong in ("", "0" * 32):
            assert ask(door, "POST", path, {**form, "token": wrong}).status == 403, path
        answered = ask(door, "POST", path, form, cookies=False)
        assert answered.status in (401, 403), path
    assert acts_since(relay, seq) == []


def test_a_page_of_another_port_of_this_host_changes_nothing(
    relay: FilledRelay, chromium: Browser, doors: dict[str, Door]
) -> None:
    """To a browser that is the same site, so the cookies do come with its form."""
    door = doors["member"]
    form = (
        f'<form method="post" action="{door.url}/console/suppressions">'
        '<input name="recipient" value="victim@people.example"></form>'
        "<script>document.forms[0].submit()</script>"
    )
    seq = last_seq(relay)
    with serving(form) as url, look(chromium, WIDE_LIGHT, door.state) as tab:
        with tab.page.expect_response(lambda response: response.request.method == "POST") as posted:
            tab.page.goto(url, wait_until="commit")
        assert "cookie" in posted.value.request.all_headers()
        assert posted.value.status == 403
        tab.page.wait_for_load_state()
    assert acts_since(relay, seq) == []


@contextmanager
def serving(page: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def test_the_operators_console_is_for_who_asks_by_its_name(doors: dict[str, Door]) -> None:
    headers = {**FROM_HERE, "Host": "evil.example"}
    assert ask(doors["operator"], "GET", "/", headers=headers).status == 421


# ------------------------------------------------------------------------------------------------ what is answered


@pytest.mark.parametrize("route", GETS, ids=str)
def test_every_answer_has_the_policy_and_changes_nothing(
    route: Route, relay: FilledRelay, doors: dict[str, Door]
) -> None:
    if route.path.endswith("/audit"):
        pytest.skip("it reads the whole log; the pages' own test has it")
    seq = last_seq(relay)
    door, path = doors[route.door], next(route.paths(relay))
    for answered in (ask(door, "GET", path), ask(door, "GET", path, cookies=False), ask(door, "PUT", path)):
        is_guarded(answered, POLICY)
    if not route.page.is_open:
        assert ask(door, "GET", path, cookies=False).status == 303
    assert acts_since(relay, seq) == []


def is_guarded(answered: Answered, policy: str) -> None:
    assert answered.headers["content-security-policy"] == policy
    assert answered.headers["cache-control"] == "no-store"
    assert answered.headers["x-content-type-options"] == "nosniff"
    assert answered.headers["referrer-policy"] == "no-referrer"


def test_what_is_not_there_has_the_policy_too(doors: dict[str, Door]) -> None:
    for name, door in doors.items():
        for path in ("nothing", "static/nothing", "static/console.css", f"messages/1{MARK}<b>"):
            is_guarded(ask(door, "GET", HOMES[name] + path.replace("<", "%3C")), POLICY)


def test_the_preview_is_kept_in(relay: FilledRelay, chromium: Browser, doors: dict[str, Door]) -> None:
    """The HTML of a mail has a policy of its own, and does nothing in its frame nor by itself."""
    for name, base in (("member", "/console"), ("operator", f"/members/{DID}")):
        door, path = doors[name], f"{base}/messages/{relay.messages['hostile']}"
        is_guarded(ask(door, "GET", f"{path}/html"), PREVIEW_POLICY)
        with look(chromium, WIDE_LIGHT, door.state) as tab:
            tab.go(f"{door.url}{path}/contents")
            # It is loaded when it is looked at, which may be later than the page.
            tab.page.locator("iframe").scroll_into_view_if_needed()
            frame = tab.page.locator("iframe").element_handle().content_frame()
            assert frame is not None
            frame.wait_for_url("**/html")
            assert frame.evaluate("window.owned") is None
            assert tab.page.locator("iframe").get_attribute("sandbox") == ""
            assert tab.what_hostile_text_did() == []
            assert tab.shows_hostile_text()
            tab.go(f"{door.url}{path}/html")
            assert tab.page.evaluate("window.owned") is None


@pytest.mark.parametrize(
    ("door", "path"),
    [
        ("member", "/console/messages"),
        ("member", "/console/messages/{hostile_put_off}"),
        ("member", "/console/messages/{hostile_bounced}"),
        ("member", "/console/messages/{held}"),
        ("member", "/console/messages/{hostile}/contents"),
        ("member", "/console/suppressions"),
        ("operator", "/find?status=bounced"),
        ("operator", "/messages/{hostile_bounced}"),
        ("operator", f"/members/{DID}/suppressions"),
    ],
)
def test_a_hostile_text_is_shown_as_text(
    door: str, path: str, relay: FilledRelay, chromium: Browser, doors: dict[str, Door]
) -> None:
    """That it is there is what makes the other tests of it worth something."""
    with look(chromium, NARROW_LIGHT, doors[door].state) as tab:
        assert tab.go(doors[door].url + path.format(**relay.messages)).status == 200
        assert tab.shows_hostile_text()
        assert tab.what_hostile_text_did() == []
        assert f"{MARK}'49" not in tab.page.inner_text("body")


# ------------------------------------------------------------------------------------------------ who is let in


def test_a_session_ends_with_its_key(relay: FilledRelay, chromium: Browser) -> None:
    issued = relay.order("key_issue", did=DID)
    with look(chromium, WIDE_LIGHT) as tab:
        sign_in_by_key(tab, relay, DID, issued["apiKey"])
        assert tab.page.url.endswith("/console/")
        relay.order("key_revoke", did=DID, key_id=issued["keyId"])
        tab.page.reload()
        assert tab.page.url.endswith("/sign-in")


def test_ten_wrong_keys_and_the_address_has_to_wait(relay: FilledRelay, doors: dict[str, Door]) -> None:
    """Even the right one is not looked at then; who is elsewhere is let in."""

    def sign_in(address: str, key: str) -> Answered:
        headers = {**FROM_HERE, "X-Forwarded-For": address}
        form = {"did": DID, "key": key}
        return ask(doors["member"], "POST", "/console/sign-in", form, headers, cookies=False)

    for _ in range(10):
        assert sign_in("198.51.100.7", "atmos_" + "x" * 43).status == 401
    assert sign_in("198.51.100.7", "atmos_" + "x" * 43).status == 429
    assert sign_in("198.51.100.7", relay.keys[DID]).status == 429
    assert sign_in("198.51.100.8", relay.keys[DID]).status == 303


def test_a_member_sees_and_changes_only_its_own(relay: FilledRelay, doors: dict[str, Door]) -> None:
    other = relay.send("ann@people.example", did=OTHER_DID, domain="bazaar.example", category="transactional")
    door = doors["member"]
    token = form_token(door, "/console/")
    for path in (
        f"/console/messages/{other}",
        f"/console/messages/{other}/contents",
        "/console/domains/bazaar.example",
    ):
        assert ask(door, "GET", path).status == 404
    for path in (f"/console/messages/{other}/cancel", f"/console/messages/{other}/again"):
        assert ask(door, "POST", path, {"token": token, "once": "0" * 32}).status in (403, 404)
    for route in ROUTES:  # nothing of the operator's is at the members' door
        if route.door == "operator" and route.page.method == "GET":
            assert ask(door, "GET", "/console" + next(route.paths(relay)).split("?")[0]).status in (
                200,
                303,
                404,
            )
            assert ask(door, "GET", next(route.paths(relay)).split("?")[0]).status == 404


# ------------------------------------------------------------------------------------------------ by hand


def test_without_scripts(relay: FilledRelay, chromium: Browser, doors: dict[str, Door]) -> None:
    """A member suppresses an address and takes it back; finds a mail, and reads why it did not arrive."""
    with look(chromium, NARROW_LIGHT, scripts=False) as tab:
        sign_in_by_key(tab, relay, DID, relay.keys[DID])
        page = tab.page
        page.get_by_role("link", name="Suppressions").click()
        page.get_by_label("Address", exact=True).fill("fay@people.example")
        # A page is there before all of it is.
        with page.expect_navigation():
            page.get_by_role("button", name="Stop all mail to it").click()
        assert "fay@people.example" in page.inner_text("main")
        row = page.get_by_role("row").filter(has_text="fay@people.example")
        row.locator("summary").click()
        with page.expect_navigation():
            row.get_by_role("button").click()
        assert "fay@people.example" not in page.get_by_role("table").first.inner_text()
        page.get_by_role("link", name="Messages").click()
        page.get_by_label("Status").select_option("bounced")
        with page.expect_navigation():
            page.get_by_role("button", name="Find").click()
        with page.expect_navigation():
            page.get_by_role("row").filter(has_text="Reset your password").get_by_role("link").first.click()
        assert "The email account that you tried to reach does not exist." in page.inner_text("main")
        assert tab.faults == []


@pytest.mark.parametrize("route", GETS, ids=str)
def test_by_the_keyboard_alone(
    route: Route, relay: FilledRelay, chromium: Browser, doors: dict[str, Door]
) -> None:
    """Whatever can be used is reached by Tab, in the order of the page, and shows that it is reached."""
    if (
        route.path.startswith("/members/{did}/")
        and "domain" not in route.path
        and "membership" not in route.path
    ):
        pytest.skip("the same page as the member's")
    with look(chromium, WIDE_LIGHT, doors[route.door].state) as tab:
        # Nothing happens meanwhile, as far as it hears: rows that come anew are not those that were counted.
        tab.page.route_web_socket("**/*", lambda _: None)
        tab.go(doors[route.door].url + next(route.paths(relay)))
        wanted = tab.page.evaluate(_USABLE)
        assert wanted > 0
        reached: list[Any] = []
        for _ in range(4 * wanted):
            tab.page.keyboard.press("Tab")
            at = tab.page.evaluate(_REACHED)
            if reached and at["index"] == reached[-1]["index"]:
                continue  # a date has a stop for the day, the month and the year
            if len(reached) == wanted:
                break
            reached.append(at)
        assert [each["index"] for each in reached] == list(range(wanted)), route.path
        assert all(each["shows"] for each in reached), [each for each in reached if not each["shows"]]


def test_signing_in_by_the_keyboard_alone(relay: FilledRelay, chromium: Browser) -> None:
    with look(chromium, NARROW_LIGHT) as tab:
        tab.go(f"http://{relay.address}/console/")
        keyboard = tab.page.keyboard
        _tab_to(tab, "did")
        keyboard.type(DID)
        keyboard.press("Tab")
        keyboard.type(relay.keys[DID])
        with tab.page.expect_navigation():
            keyboard.press("Enter")
        assert tab.page.url.endswith("/console/")
        keyboard.press("Tab")
        keyboard.press("Enter")  # "Skip to the page"
        assert tab.page.evaluate("document.activeElement.id") == "main"


def _tab_to(tab: Tab, name: str) -> None:
    for _ in range(30):
        tab.page.keyboard.press("Tab")
        if tab.page.evaluate("document.activeElement.name") == name:
            return
    pytest.fail(f"nobody comes to {name} by Tab")


_USABLE = """() => {
  const one = new Set();  // of a group of radio buttons, Tab comes to one
  const usable = [...document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")]
    .filter(each => !each.disabled && each.checkVisibility({visibilityProperty: true}))
    .filter(each => {
      if (each.type !== "radio") return true;
      const group = document.querySelectorAll(`input[type=radio][name="${each.name}"]`);
      const chosen = [...group].find(other => other.checked) || group[0];
      return each === chosen;
    });
  window.usable = usable;
  return usable.length;
}"""
_REACHED = """() => {
  const each = document.activeElement, style = getComputedStyle(each);
  const shows = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  return {index: window.usable.indexOf(each), shows, what: each.outerHTML.slice(0, 120)};
}"""


# ------------------------------------------------------------------------------------------------ what it can do


def test_the_consoles_can_do_nothing_that_the_command_line_cannot() -> None:
    paths = {route.page.path for route in POSTS}
    assert paths == COMMANDS.keys() | BY_HAND.keys()
    for path, commands in COMMANDS.items():
        for words in commands:
            assert _command(words) is not None, (path, words)


def _command(words: str) -> click.Command | None:
    command: click.Command | None = cli
    for word in words.split():
        assert isinstance(command, click.Group), words
        command = command.get_command(click.Context(command), word)
    return command


def test_an_operators_act_is_recorded_with_who_did_it(relay: FilledRelay, doors: dict[str, Door]) -> None:
    door = doors["operator"]
    token = form_token(door, "/")
    seq = last_seq(relay)
    answered = ask(
        door, "POST", f"/reputation/{DOMAIN}/pause", {"token": token, "did": DID, "reason": "to see it"}
    )
    assert answered.status == 303, answered.text
    (paused,) = [act for act in acts_since(relay, seq) if kind_of(act) == "domain.paused"]
    assert paused.by.startswith("console:")
    assert len(paused.by) == len("console:") + 8
    answered = ask(
        door, "POST", f"/reputation/{DOMAIN}/resume", {"token": token, "did": DID, "reason": "seen"}
    )
    assert answered.status == 303, answered.text
    (resumed,) = [act for act in acts_since(relay, seq) if kind_of(act) == "domain.resumed"]
    assert resumed.by == paused.by
    # Members are not told who it was.
    assert "console:" not in ask(doors["member"], "GET", f"/console/domains/{DOMAIN}").text


def test_a_member_sends_again_and_the_operator_does_not_in_its_name(
    relay: FilledRelay, doors: dict[str, Door]
) -> None:
    form = {"token": form_token(doors["member"], "/console/"), "once": "0" * 32}
    old = relay.messages["sent"]
    answered = ask(doors["member"], "POST", f"/console/messages/{old}/again", form)
    assert answered.status == 303, answered.text
    again = ask(doors["member"], "POST", f"/console/messages/{old}/again", form)
    assert again.headers["location"] == answered.headers["location"]  # once is once
    form = {"token": form_token(doors["operator"], "/"), "once": "0" * 32}
    seq = last_seq(relay)
    answered = ask(doors["operator"], "POST", f"/members/{DID}/messages/{old}/again", form)
    assert 400 <= answered.status < 500, answered.text
    assert acts_since(relay, seq) == []


def test_logging_everybody_out(relay: FilledRelay, chromium: Browser, doors: dict[str, Door]) -> None:
    """The last test: nobody has signed in behind it."""
    relay.command("console", "logout", "--all")
    for name, door in doors.items():
        answered = ask(door, "GET", HOMES[name])
        assert answered.status == 303
        assert answered.headers["location"].endswith("/sign-in")
