"""Reports and mail that came in, when their time is over and when the operator says so.

Every world asserts at its end that the views are a fresh fold of the log as it is then.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from relay.events import NOBODY, PayloadErased
from relay.refusals import Refusal
from tests.world.directories import names_in
from tests.world.erasing import erase
from tests.world.inbound_log import OPERATORS
from tests.world.relay import DOMAIN, OTHER_DID, OTHER_DOMAIN, World, open_world, run
from tests.world.removals import DAY, FRIEND, of_type
from tests.world.reporting import complain, mail_from, passed_on, report

OURS = "ann@home.example"
WORDS = b"550 nobody knows %b\r\n" % FRIEND.encode()


def in_the_log(directory: Path, text: str) -> bool:
    return any(not name.startswith("views/") for name in names_in(directory, text))


def payloads(world: World, *types: str) -> list[bool]:
    """Of each event of these types: whether it has its payload."""
    return [event.personal is not None for event in world.events() if event.TYPE in types]


def test_reports_expire_by_their_own_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send(to="friend@example.com")
            await world.until_final(message_id)
            await trio.sleep(20 * DAY)
            await report(world, message_id, raw=b"early report")
            await trio.sleep(11.5 * DAY)
            # The message's own data are gone, the report's are not.
            assert payloads(world, "message.queued") == [False]
            assert payloads(world, "message.bounce_reported") == [True]
            # One comes when nobody knows any more to whom the message was.
            await complain(world, message_id, raw=b"late report")
            await trio.sleep(20 * DAY)
            assert payloads(world, "message.bounce_reported", "message.complained") == [False, True]
            assert (in_the_log(directory, "early report"), in_the_log(directory, "late report")) == (
                False,
                True,
            )
            await trio.sleep(12 * DAY)
            assert payloads(world, "message.bounce_reported", "message.complained") == [False, False]
            assert not in_the_log(directory, "late report")
            assert {event.because for event in of_type(world, PayloadErased)} == {"retention"}
            # Everything that was counted stays so.
            days = await world.request("GET", "/member/deliverability")
            assert days[0] == 200
            assert (await world.message(message_id))["status"] == "sent"

    directory = tmp_path / "data"
    run(main)


def test_mail_that_was_passed_on_goes_with_its_own_message(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            await passed_on(world, mail_from(FRIEND), OURS)
            await trio.sleep(29 * DAY)
            assert payloads(world, "mail.received", "forward.queued") == [True, True]
            await trio.sleep(2 * DAY)
            assert payloads(world, "mail.received", "forward.queued") == [False, False]
            for text in (FRIEND, OURS, "Re: Hello"):
                assert not in_the_log(directory, text)

    run(main)


def test_who_asks_is_forgotten_as_recipient_and_as_sender(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            await world.enrol(OTHER_DID, OTHER_DOMAIN)
            mine, others = await world.send(to=FRIEND), await world.send(to="foe@example.com")
            for message_id in (mine, others):
                await world.until_final(message_id)
            # It does not name her; that it is about mail to her, the views know.
            await report(world, mine, raw=b"nothing but base64: Zm9v")
            await complain(world, mine, raw=b"the same")
            await report(world, others, raw=b"kept: it is about somebody else")
            await passed_on(world, mail_from(FRIEND.upper(), 1), OURS)
            await passed_on(world, mail_from(FRIEND, 2, did=OTHER_DID, domain=OTHER_DOMAIN), OURS)
            await passed_on(world, mail_from(FRIEND, 3, did=NOBODY, domain="relay.example"), OPERATORS)
            await passed_on(world, mail_from("foe@example.com", 4), OURS)
            await passed_on(world, mail_from("", 5), FRIEND)
            answer = await erase(world, recipient=FRIEND)
            # Mail to her, three of hers, and one that was passed on to her.
            assert (answer["messages"], answer["reports"], answer["recordsOfNoMessage"]) == (5, 2, 0)
            assert set(answer["stillNamed"]) == {"recipient.suppressed"}
            assert payloads(world, "mail.received") == [False, False, False, True, False]
            assert payloads(world, "message.bounce_reported") == [False, True]
            assert payloads(world, "message.complained") == [False]
            assert in_the_log(directory, "foe@example.com")
            assert not in_the_log(directory, "Zm9v")
            again = await erase(world, recipient=FRIEND)
            assert (again["messages"], again["reports"]) == (0, 0)

    run(main)


def test_a_sender_whose_domain_was_not_written_in_a_labels_is_the_same(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    typed, kept = "anna@München.example", "anna@xn--mnchen-3ya.example"

    async def main() -> None:
        async with open_world(directory) as world:
            await passed_on(world, mail_from(typed, 1), OURS)
            await passed_on(world, mail_from(kept.upper(), 2), OURS)
            await passed_on(world, mail_from(FRIEND, 3, raw=f"Cc: {typed.lower()}\r\n\r\n".encode()), OURS)
            answer = await erase(world, recipient=typed)
            assert answer["messages"] == 2
            # Somebody else's mail, which names her.
            assert answer["stillNamed"] == {"mail.received": 1}
            assert payloads(world, "mail.received") == [False, False, True]
            assert not in_the_log(directory, kept)

    run(main)


def test_of_one_member_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.enrol(OTHER_DID, OTHER_DOMAIN)
            await passed_on(world, mail_from(FRIEND, 1), OURS)
            await passed_on(world, mail_from(FRIEND, 2, did=OTHER_DID, domain=OTHER_DOMAIN), OURS)
            await passed_on(world, mail_from(FRIEND, 3, did=NOBODY, domain="relay.example"), OPERATORS)
            answer = await erase(world, recipient=FRIEND, did=OTHER_DID)
            assert answer["messages"] == 1
            assert payloads(world, "mail.received") == [True, False, True]

    run(main)


def test_a_report_that_names_who_asks_is_found_when_its_message_went_before(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send(to=FRIEND)
            await world.until_final(message_id)
            await erase(world, message=message_id)
            await report(world, message_id, raw=WORDS)
            await report(world, message_id, raw=b"names nobody")
            answer = await erase(world, recipient=FRIEND)
            assert (answer["messages"], answer["reports"], answer["stillNamed"]) == (0, 1, {})
            assert payloads(world, "message.bounce_reported") == [False, True]
            assert not in_the_log(directory, FRIEND)
            # By its message the other is found, too.
            answer = await erase(world, message=message_id)
            assert (answer["messages"], answer["reports"]) == (0, 1)
            assert payloads(world, "message.bounce_reported") == [False, False]
            assert (await erase(world, message=message_id))["reports"] == 0

    run(main)


def test_a_message_and_the_reports_about_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            first, second = await world.send(to=FRIEND), await world.send(to=FRIEND)
            for message_id in (first, second):
                await world.until_final(message_id)
                await report(world, message_id, raw=WORDS)
            answer = await erase(world, message=first)
            assert (answer["messages"], answer["reports"]) == (1, 1)
            assert answer["stillNamed"]["message.bounce_reported"] == 1
            assert payloads(world, "message.bounce_reported") == [False, True]
            forward = await passed_on(world, mail_from("foe@example.com"), OURS)
            await erase(world, message=forward)
            assert payloads(world, "mail.received", "forward.queued") == [False, False]
            assert [event.message_ids for event in of_type(world, PayloadErased)] == [[first], [forward]]

    run(main)


def test_what_a_notification_under_way_quotes_stays(tmp_path: Path) -> None:
    """The DSN about a report repeats its words at every attempt."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to=FRIEND)
            await world.until_final(message_id)
            await world.command("domain_set_forward", domain=DOMAIN, to="ann@home.example")
            dsn = len(world.events()) + 2
            types = [event.TYPE for event in await report(world, message_id, raw=WORDS, hold=True)]
            assert types == ["message.bounce_reported", "dsn.queued", "recipient.suppressed", "message.held"]
            with pytest.raises(Refusal) as refused:
                await erase(world, message=message_id)
            assert f"message {dsn}, is under way" in refused.value.message
            # As one of the messages to her, and as a record that names her.
            answer = await erase(world, recipient=FRIEND)
            assert answer["messages"] == answer["reports"] == 0
            assert {kept["messageId"] for kept in answer["kept"]} == {message_id}
            assert answer["keptCount"] == 2
            await trio.sleep(32.5 * DAY)
            assert payloads(world, "message.queued", "message.bounce_reported") == [True, True]
            await world.command("queue_cancel", message=[dsn], reason="nobody reads it")
            answer = await erase(world, recipient=FRIEND)
            assert (answer["messages"], answer["reports"]) == (1, 1)
            assert payloads(world, "message.queued", "message.bounce_reported") == [False, False]

    run(main)


def test_no_send_is_kept_in_memory_whose_words_were_erased(tmp_path: Path) -> None:
    """Of a send to several, the courier in this process keeps what they share."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, answer = await world.post_send(to=[FRIEND, "another@example.com"])
            for accepted in answer["accepted"]:
                await world.until_final(accepted["messageId"])
            assert world.core.composer._sends._by_seq
            await erase(world, recipient=FRIEND)
            assert world.core.composer._sends._by_seq == {}

    run(main)
