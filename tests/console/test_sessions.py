"""Cookies of the console: what is sealed opens, what was changed does not; and what forms may send."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.console.sessions import SESSION_HOURS, Sessions, form_token
from relay.message.keys import Pepper, Peppers
from relay.message.tokens import ConsoleSession
from relay.times import HOUR_US
from tests.console.visitor import Visitor
from tests.world.relay import DID, open_world, run

NOW_US = 1_790_000_000_000_000
SECRET = b"0123456789abcdef"


def opened_by(sessions: Sessions, cookie: str, now_us: int = NOW_US) -> ConsoleSession | None:
    return sessions.in_cookies(f"other=1; {cookie}", now_us)


@pytest.mark.parametrize("is_https", [True, False])
def test_a_cookie_is_whole_or_none(is_https: bool) -> None:
    sessions = Sessions(Peppers({1: Pepper(bytes(32))}), "atmos", lambda: is_https)
    session = sessions.begin(DID, "key1", 3, NOW_US, SECRET)
    said = sessions.cookie(session).split("; ")
    assert said[0].startswith("__Host-atmos=" if is_https else "atmos=")
    assert ("Secure" in said) == is_https
    assert {"Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=43200"} <= set(said)
    assert opened_by(sessions, said[0]) == session
    assert opened_by(sessions, said[0], NOW_US + SESSION_HOURS * HOUR_US) is None
    assert opened_by(sessions, said[0], NOW_US - 1) is None, "it begins in the future"
    name, _, value = said[0].partition("=")
    for at in range(0, len(value), 7):
        other = "A" if value[at] != "A" else "B"
        assert opened_by(sessions, f"{name}={value[:at]}{other}{value[at + 1 :]}") is None, at
    assert opened_by(Sessions(Peppers({1: Pepper(b"1" * 32)}), "atmos", lambda: is_https), said[0]) is None


def test_a_later_pepper_seals_and_the_earlier_still_opens() -> None:
    peppers = Peppers({1: Pepper(bytes(32))})
    sessions = Sessions(peppers, "atmos", lambda: False)
    old = sessions.cookie(sessions.begin(DID, "key1", 0, NOW_US, SECRET)).partition(";")[0]
    peppers.add(2, Pepper(b"2" * 32))
    peppers.use(2)
    new = sessions.cookie(sessions.begin(DID, "key1", 0, NOW_US, SECRET)).partition(";")[0]
    assert new != old
    assert opened_by(sessions, old) == opened_by(sessions, new) is not None


def test_a_door_that_remembers_takes_only_what_it_has_begun_itself() -> None:
    peppers = Peppers({1: Pepper(bytes(32))})
    door = Sessions(peppers, "atmos", lambda: False, remembered_max=2)
    forged = Sessions(peppers, "atmos", lambda: False)
    made_elsewhere = forged.begin("", "", 0, NOW_US, SECRET)
    assert opened_by(door, forged.cookie(made_elsewhere).partition(";")[0]) is None
    begun = [door.begin("", "", 0, NOW_US, bytes([number]) * 16) for number in range(3)]
    cookies = [door.cookie(each).partition(";")[0] for each in begun]
    assert [opened_by(door, each) is not None for each in cookies] == [False, True, True]
    door.end(begun[1])
    assert opened_by(door, cookies[1]) is None


def test_the_token_of_forms_is_another_for_each_session_and_not_its_secret() -> None:
    one, other = (ConsoleSession(DID, "k", NOW_US, 0, bytes([number]) * 16) for number in range(2))
    assert form_token(one) != form_token(other)
    assert form_token(one) not in one.secret.hex()


def test_a_form_is_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            visitor = Visitor(world)
            await visitor.sign_in()
            large = {"recipient": "x" * 64 * 1024, "note": ""}
            assert (await visitor.post("/suppressions", large)).status == 413
            many = {f"f{number}": "" for number in range(1001)}
            assert (await visitor.post("/suppressions", many)).status == 400
            json = await world.client.post(
                "/console/suppressions",
                headers={"Cookie": visitor.cookie, "Sec-Fetch-Site": "same-origin"},
                json={"recipient": "a@example.com"},
            )
            assert json.status_code == 415

    run(main)
