"""A scheduled mail goes out at its time: not before, not dated otherwise, and not if it is not wanted any more."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from relay.events import MessageQueued, SendAccepted
from relay.times import DAY_US, SECOND_US, parse_rfc3339
from tests.world.queue_orders import done, order, passed, types
from tests.world.relay import DID, open_world, run
from tests.world.scheduled import (
    DAY,
    HOUR,
    cancel,
    date_us,
    has_other_bytes,
    in_seconds,
    move,
    schedule,
    signed_at,
)


def test_it_waits_thirty_days_and_goes_out_at_its_time_and_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            at = in_seconds(world, 30 * DAY)
            message_id = await world.send(scheduledAt=at, category="login-link")
            message = await world.message(message_id)
            assert (message["status"], message["nextAttemptAt"]) == ("queued", at)
            await trio.sleep(30 * DAY - 1)
            assert world.mx.messages == []
            sent = await world.until_final(message_id)
            assert (sent["status"], sent["attempts"]) == ("sent", 1)
            assert world.core.store.now_us() - parse_rfc3339(at) < SECOND_US
            (received,) = world.mx.messages
            assert date_us(received.data) == parse_rfc3339(at) // SECOND_US * SECOND_US
            assert signed_at(received.data) == {parse_rfc3339(at) // SECOND_US}

    run(main)


def test_its_time_for_being_given_up_begins_with_its_own(tmp_path: Path) -> None:
    """A login link is given up after an hour."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            begun = world.core.store.now_us()
            message_id = await schedule(world, 3 * DAY, to="tempfail-99@example.com", category="login-link")
            bounced = await world.until_final(message_id)
            assert bounced["timeline"][-1]["reason"] == "expired"
            lasted = (world.core.store.now_us() - begun) / SECOND_US - 3 * DAY
            assert 0 < lasted <= HOUR
            assert bounced["attempts"] > 3

    run(main)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("in 1 hour", "is no RFC 3339 time"),
        ("2027-01-01T00:00:00", "names no zone"),
        ("", "is no RFC 3339 time"),
        ("2020-01-01T00:00:00Z", "is past"),
        ("2030-01-01T00:00:00Z", "is more than 30 days ahead"),
    ],
)
def test_what_is_no_time_to_send_at_is_refused_and_not_sent_at_once(
    tmp_path: Path, text: str, problem: str
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            status, answer = await world.post_send(scheduledAt=text)
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert answer["error"].startswith(f"scheduledAt: {problem}")
            assert not any(isinstance(event, SendAccepted) for event in world.events())

    run(main)


def test_the_ends_of_what_may_be_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await trio.sleep(HOUR)
            for seconds, expected in ((-60.000001, 400), (30 * DAY + 0.000001, 400), (30 * DAY, 200)):
                status, _ = await world.post_send(scheduledAt=in_seconds(world, seconds))
                assert status == expected, seconds
            # A minute past means now, and it is a mail like any other.
            message_id = await schedule(world, -60)
            assert (await world.until_final(message_id))["status"] == "sent"
            queued = world.core.store.get(message_id).event
            assert isinstance(queued, MessageQueued)
            assert not queued.scheduled
            assert date_us(world.mx.messages[0].data) > world.core.store.now_us() - 2 * SECOND_US

    run(main)


def test_moved_it_goes_out_at_the_new_time_sooner_or_later_and_is_dated_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            later, sooner = await schedule(world, HOUR), await schedule(world, 20 * DAY)
            at_later, at_sooner = in_seconds(world, 2 * DAY), in_seconds(world, 60)
            status, answer = await move(world, later, at_later)
            assert (status, answer["nextAttemptAt"], answer["status"]) == (200, at_later, "queued")
            assert (await move(world, sooner, at_sooner))[0] == 200
            await world.until_final(sooner)
            assert world.core.store.now_us() - parse_rfc3339(at_sooner) < SECOND_US
            await world.until_final(later)
            assert world.core.store.now_us() - parse_rfc3339(at_later) < SECOND_US
            assert [date_us(message.data) for message in world.mx.messages] == [
                parse_rfc3339(at) // SECOND_US * SECOND_US for at in (at_sooner, at_later)
            ]
            # As it was asked for is as it is: no event says it once more.
            assert (await types(world, later)).count("message.rescheduled") == 1
            for message_id in (later, sooner):
                assert not has_other_bytes(world, message_id)

    run(main)


def test_moved_to_where_it_is_nothing_happens_and_to_now_it_goes_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await schedule(world, DAY)
            at = (await world.message(message_id))["nextAttemptAt"]
            events = len(world.events())
            assert (await move(world, message_id, at))[0] == 200
            assert len(world.events()) == events
            assert (await move(world, message_id, in_seconds(world, 0)))[0] == 200
            with trio.fail_after(1):
                assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


def test_once_tried_its_bytes_stay_and_no_order_of_its_member_reaches_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            at = in_seconds(world, HOUR)
            message_id = await world.send(to="defer-message-2@example.com", scheduledAt=at)
            await world.until(message_id, "deferred")
            for status, answer in (
                await cancel(world, message_id),
                await move(world, message_id, in_seconds(world, DAY)),
            ):
                assert (status, answer["code"]) == (409, "NOT_CANCELLABLE")
                assert "was tried already, and may have been delivered" in answer["error"]
            # The operator hurries it: no byte changes.
            await trio.sleep(30)
            assert done(await order(world, "flush", message=[message_id])) == [message_id]
            sent = await world.until_final(message_id)
            assert len({entry["sha256"] for entry in sent["timeline"] if "sha256" in entry}) == 1
            assert date_us(world.mx.messages[0].data) == parse_rfc3339(at) // SECOND_US * SECOND_US
            assert not has_other_bytes(world, message_id)

    run(main)


def test_a_flush_of_what_is_scheduled_must_name_it_and_dates_it_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await schedule(world, 10 * DAY, category="login-link")
            await trio.sleep(DAY)
            assert passed(await order(world, "flush", everything=True)) == {"scheduled": [message_id]}
            assert world.mx.messages == []
            flushed_at = world.core.store.now_us()
            assert done(await order(world, "flush", message=[message_id])) == [message_id]
            assert (await world.until_final(message_id))["status"] == "sent"
            assert date_us(world.mx.messages[0].data) == flushed_at // SECOND_US * SECOND_US
            assert not has_other_bytes(world, message_id)

    run(main)


def test_a_flush_leaves_it_as_long_as_it_would_have_had(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await schedule(world, 10 * DAY, to="tempfail-99@example.com", category="login-link")
            begun = world.core.store.now_us()
            await order(world, "flush", message=[message_id])
            assert (await world.until_final(message_id))["timeline"][-1]["reason"] == "expired"
            assert world.core.store.now_us() - begun <= HOUR * SECOND_US

    run(main)


def test_a_pause_and_a_hold_keep_it_also_when_it_is_moved(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            paused, held = await schedule(world, HOUR), await schedule(world, HOUR)
            await world.command("domain_pause", did=DID, domain="yourdomain.com", reason="a test")
            await order(world, "hold", message=[held])
            await trio.sleep(2 * HOUR)
            assert world.mx.messages == []
            assert "message.held" in await types(world, paused)
            at = in_seconds(world, HOUR)
            for message_id in (paused, held):
                assert (await move(world, message_id, at))[0] == 200
            await trio.sleep(2 * HOUR)
            assert world.mx.messages == []
            await world.command("domain_resume", did=DID, domain="yourdomain.com")
            await order(world, "release", message=[held])
            for message_id in (paused, held):
                assert (await world.until_final(message_id))["status"] == "sent"
            # Late, but of the time that was chosen.
            wanted = parse_rfc3339(at) // SECOND_US * SECOND_US
            assert {date_us(message.data) for message in world.mx.messages} == {wanted}

    run(main)


def test_who_moves_what_the_operator_holds_does_not_release_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await schedule(world, DAY)
            await order(world, "hold", message=[message_id])
            for seconds in (HOUR, 0):
                assert (await move(world, message_id, in_seconds(world, seconds)))[0] == 200
                await trio.sleep(2 * HOUR)
                assert world.mx.messages == []
            await order(world, "release", message=[message_id])
            assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


def test_who_is_suppressed_meanwhile_gets_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await schedule(world, DAY)
            await world.request("POST", "/v1/suppressions", json={"recipient": "friend@example.com"})
            bounced = await world.until_final(message_id)
            assert bounced["timeline"][-1]["reason"] == "suppressed"
            await trio.sleep(2 * DAY)
            assert world.mx.messages == []

    run(main)


def test_retention_waits_for_it(tmp_path: Path) -> None:
    """Its personal data are kept until it is final, and for their time from then on."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await schedule(world, 29 * DAY)
            await trio.sleep(28 * DAY)
            await world.command("log_strip", older_than=1)
            message = await world.message(message_id)
            assert (message["status"], message["recipient"]) == ("queued", "friend@example.com")
            assert (await world.until_final(message_id))["status"] == "sent"
            assert world.core.store.now_us() >= 29 * DAY_US

    run(main)


def test_a_bounce_of_it_quotes_the_date_that_it_had(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain="yourdomain.com", to="owner@elsewhere.example")
            at = in_seconds(world, DAY)
            message_id = await world.send(to="permfail@example.com", scheduledAt=in_seconds(world, HOUR))
            assert (await move(world, message_id, at))[0] == 200
            await world.until_final(message_id)
            await trio.sleep(HOUR)
            (dsn,) = world.mx.messages
            quoted = dsn.data.partition(b"text/rfc822-headers")[2]
            assert date_us(quoted[quoted.index(b"Date:") :]) == parse_rfc3339(at) // SECOND_US * SECOND_US

    run(main)
