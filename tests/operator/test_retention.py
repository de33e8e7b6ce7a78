"""Personal data go when their time is over or when the operator says so, and nothing else changes (SPEC 8).

Every world asserts at its end that the views are a fresh fold of the log as it is then: after the strip.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import trio

from relay.codec import decode, encode
from relay.events import LogStripped, PayloadErased
from relay.file_names import LOG_DIRECTORY
from relay.refusals import Refusal
from spool import LogReader
from tests.world.directories import names_in
from tests.world.erasing import erase
from tests.world.one_click import unsubscribe_path
from tests.world.process import configure
from tests.world.relay import (
    DID,
    DOMAIN,
    OTHER_DID,
    OTHER_DOMAIN,
    make_directory,
    open_world,
    run,
)
from tests.world.removals import DAY, FRIEND, listed, of_type


def skeletons(directory: Path) -> list[tuple[int, int, bytes, bytes, bytes]]:
    """What no strip may change."""
    with LogReader(directory / LOG_DIRECTORY) as reader:
        return [
            (record.seq, record.time_us, record.skeleton, record.payload_sha256, record.chain)
            for record in reader.read(1)
        ]


def test_after_thirty_days_they_go_and_the_rest_stays(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send(to=FRIEND, subject="Only for you", category="bulk")
            bounced = await world.send(to="refuse-message@example.com")
            before = await world.until_final(message_id)
            await world.until_final(bounced)
            link = unsubscribe_path(world.mx.messages[0].data)
            old = skeletons(directory)
            await trio.sleep(29.5 * DAY)
            assert (await world.message(message_id)) == before
            late = await world.send(to="late@example.com")
            await world.until_final(late)

            await trio.sleep(2 * DAY)
            after = await world.message(message_id)
            assert (after["recipient"], after["subject"], after["status"]) == (None, None, "sent")
            for entry in (*before["timeline"], *after["timeline"]):
                for field in ("mx", "mxAddress", "text", "reply"):
                    entry.pop(field, None)
            assert [entry["type"] for entry in after["timeline"]] == [
                entry["type"] for entry in before["timeline"]
            ]
            assert await listed(world) == [late, bounced, message_id]
            assert await listed(world, f"?recipient={FRIEND}") == []
            assert await listed(world, "?recipient=late@example.com") == [late]
            assert skeletons(directory)[: len(old)] == old

            # Two days, two runs: what was final on the first and what was accepted with it.
            erased = of_type(world, PayloadErased)
            assert {message for event in erased for message in event.message_ids} == {message_id, bounced}
            assert {event.because for event in erased} == {"retention"}
            assert sum(event.payloads for event in of_type(world, LogStripped)) > 4
            for text in (FRIEND, "refuse-message@example.com", "Only for you"):
                assert names_in(directory, text) == []
            assert names_in(directory, "late@example.com") != []

            # The link in the mail works without them, and the suppression has the address again.
            answer = await world.client.post(link, form={"List-Unsubscribe": "One-Click"})
            assert answer.status_code == 200
            _, refused = await world.post_send(to=FRIEND, category="bulk")
            assert refused["accepted"] == []

    run(main)


def test_what_belongs_to_no_message_goes_when_nobody_needs_it_any_more(tmp_path: Path) -> None:
    """The reasons of removals, and the mailboxes that heard of bounces and do no more."""
    directory = make_directory(tmp_path / "data")
    others = ("other.example", "third.example")

    def in_the_log(address: str) -> list[str]:
        """Views have mailboxes that are in use; of what they held, pages stay until LMDB needs the room."""
        return [name for name in names_in(directory, address) if not name.startswith("views/")]

    async def main() -> None:
        async with open_world(directory) as world:
            await world.command("domain_add", did=DID, domain=others[0])
            for domain, to in ((DOMAIN, "old@example.com"), (DOMAIN, "kept@example.com")):
                await world.command("domain_set_forward", domain=domain, to=to)
            await world.command("domain_set_forward", domain=others[0], to="gone@example.com")
            await world.command("domain_remove", did=DID, domain=others[0], reason="gone@example.com asked")
            await trio.sleep(29 * DAY)
            assert all(in_the_log(name) for name in ("old@example.com", "gone@example.com"))
            await trio.sleep(2 * DAY)
            for name in ("old@example.com", "gone@example.com"):
                assert in_the_log(name) == []
            assert in_the_log("kept@example.com") != []
            assert sum(len(event.seqs) for event in of_type(world, PayloadErased)) == 3

            # By order, and only where it says the address.
            await world.command("domain_add", did=DID, domain=others[1])
            for domain, why in ((others[1], "kept@example.com asked"), (DOMAIN, "maria@example.com asked")):
                await world.command("domain_remove", did=DID, domain=domain, reason=why)
            answer = await world.command("log_erase", recipient="kept@example.com", reason="ticket 1")
            assert (answer["recordsOfNoMessage"], answer["stillNamed"]) == (2, {})
            assert in_the_log("maria@example.com") != []

    run(main)


@pytest.mark.parametrize("days", [36_500, 25_000])
def test_more_days_than_there_have_been_since_1970_remove_nothing(tmp_path: Path, days: int) -> None:
    directory = make_directory(tmp_path / "data")
    configure(directory, spool=f"retention_days = {days}")

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send()
            before = await world.until_final(message_id)
            await trio.sleep(2 * DAY)  # the relay has looked twice
            for dry_run in (True, False):
                answer = await world.command("log_strip", older_than=days, dry_run=dry_run)
                assert (answer["messages"], answer["segments"]) == (0, [])
            assert await world.message(message_id) == before

    run(main)


def test_a_send_whose_recipients_were_all_rejected_goes_by_its_own_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.request("POST", "/v1/suppressions", json={"recipient": FRIEND})
            _, answer = await world.post_send(to=FRIEND, subject="Nobody gets this")
            assert answer["accepted"] == []
            assert names_in(tmp_path / "data", "Nobody gets this") == []  # its content was never kept
            await trio.sleep(31.5 * DAY)
            (erased,) = of_type(world, PayloadErased)
            assert (erased.message_ids, len(erased.send_ids)) == ([], 1)
            # The suppression is in force, and keeps what it needs.
            _, answer = await world.post_send(to=FRIEND)
            assert answer["accepted"] == []

    run(main)


def test_what_is_still_needed_waits(tmp_path: Path) -> None:
    """A notification under way quotes the message; a call of the member's URL needs the URL; a queue needs its mail."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain=DOMAIN, to="tempfail-9@elsewhere.example")
            waiting = await world.send(to="tempfail-9@example.com")
            await world.until(waiting, "deferred")
            with pytest.raises(Refusal, match="not final"):
                await erase(world, message=waiting)
            answer = await erase(world, recipient="tempfail-9@example.com")
            assert answer["messages"] == 0
            assert answer["kept"][0]["messageId"] == waiting

            bounced = await world.send(to="refuse-message@example.com")
            await world.until_final(bounced)
            with pytest.raises(Refusal, match="notification of its bounce"):
                await erase(world, message=bounced)

            headers = {"List-Unsubscribe": "<https://member.example/off>"}
            called = await world.send(to=FRIEND, category="bulk", headers=headers)
            await world.until_final(called)
            link = unsubscribe_path(next(m.data for m in world.mx.messages if b"To: friend@" in m.data))
            await world.client.post(link, form={"List-Unsubscribe": "One-Click"})
            with pytest.raises(Refusal, match="still to be called"):
                await erase(world, message=called)
            await trio.sleep(2 * DAY)  # given up, all of them
            for message_id in (called, bounced):
                assert (await erase(world, message=message_id))["messages"] == 1
                assert (await erase(world, message=message_id))["messages"] == 0
            with pytest.raises(Refusal, match="no message 1"):
                await erase(world, message=1)

    run(main)


def test_an_order_works_at_once_and_says_what_stays(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            _, answer = await world.post_send(to=[FRIEND, "other@example.com"], subject="For both")
            first, second = [entry["messageId"] for entry in answer["accepted"]]
            upper = await world.send(to="Friend@example.com", subject="Shouted")
            for message_id in (first, second, upper):
                await world.until_final(message_id)
            await world.request("POST", "/v1/suppressions", json={"recipient": FRIEND})
            torn = directory / LOG_DIRECTORY / "torn"
            torn.mkdir()
            (torn / "00000000000000000001-80.bytes").write_bytes(b"...Friend@Example.com...")
            (torn / "00000000000000000001-90.bytes").write_bytes(b"nobody")

            said = await erase(world, recipient=FRIEND)
            assert said["messages"] == 2
            assert said["tornCopies"] == 1
            assert [path.name for path in torn.iterdir()] == ["00000000000000000001-90.bytes"]
            assert said["stillNamed"] == {"recipient.suppressed": 1}
            assert names_in(directory, "Shouted") == []
            # The content of a send is its recipients' together.
            assert (await world.message(first))["recipient"] is None
            assert (await world.message(second))["subject"] == "For both"
            await erase(world, message=second)
            assert (await world.message(second))["subject"] is None
            assert names_in(directory, "other@example.com") == []

            for event in of_type(world, PayloadErased):
                assert (event.did, event.because, event.by) == (DID, "operator", "maria")
                assert event.reason == "ticket 4711"
            with pytest.raises(Refusal, match="must not name an address"):
                await world.command("log_erase", by="maria", reason=f"for {FRIEND}", message=second)
            # In the segment that is written now, and after it was sealed by the order, all goes on.
            assert (await world.until_final(await world.send(to="new@example.com")))["status"] == "sent"

    run(main)


def test_of_a_message_too_it_is_said_where_its_address_still_stands(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            ids = [await world.send(to=FRIEND), await world.send(to="Friend@example.com")]
            for message_id in ids:
                await world.until_final(message_id)
            await world.request("POST", "/v1/suppressions", json={"recipient": FRIEND})
            said = await erase(world, message=ids[0])
            assert (said["messages"], said["tornCopies"]) == (1, 0)
            assert said["stillNamed"] == {"message.queued": 1, "recipient.suppressed": 1}
            # Nobody knows any more whose it was.
            assert (await erase(world, message=ids[0]))["stillNamed"] is None
            assert (await erase(world, message=ids[1]))["stillNamed"] == {"recipient.suppressed": 1}

    run(main)


def test_an_order_may_mean_one_member(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            mine = await world.send(to=FRIEND)
            own, world.credentials = world.credentials, other
            theirs = await world.send(to=FRIEND, **{"from": f"them@{OTHER_DOMAIN}"})
            await world.until_final(theirs)
            world.credentials = own
            await world.until_final(mine)
            with pytest.raises(Refusal, match="there is no message"):
                await erase(world, message=mine, did=OTHER_DID)
            said = await erase(world, recipient=FRIEND, did=OTHER_DID)
            assert (said["messages"], said["stillNamed"]) == (1, {"message.queued": 1})
            assert (await world.message(mine))["recipient"] == FRIEND
            assert (await erase(world, recipient=FRIEND))["messages"] == 1

    run(main)


def test_a_replay_of_an_erased_send_sends_nothing_and_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            mail = {"from": f"you@{DOMAIN}", "to": FRIEND, "subject": "Once", "text": "Hi\n"}
            headers = {**world.credentials, "Idempotency-Key": "once"}
            _, answer, _ = await world.request("POST", "/v1/send", json=mail, headers=headers)
            message_id = answer["accepted"][0]["messageId"]
            await world.until_final(message_id)
            await erase(world, message=message_id)
            status, answer, _ = await world.request("POST", "/v1/send", json=mail, headers=headers)
            assert (status, answer["code"]) == (422, "IDEMPOTENCY_CONFLICT")
            assert len(world.mx.messages) == 1

    run(main)


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.until_final(await world.send(to=FRIEND))
            await trio.sleep(3 * DAY)
            last_seq = world.core.store.last_seq
            said = await world.command("log_strip", older_than=2, dry_run=True)
            assert (said["messages"], said["segments"]) == (1, [])
            assert world.core.store.last_seq == last_seq
            said = await world.command("log_strip", older_than=4)
            assert said["messages"] == 0
            said = await world.command("log_strip", older_than=2)
            assert (said["messages"], len(said["segments"])) == (1, 1)
            assert names_in(tmp_path / "data", FRIEND) == []

    run(main)


def test_what_stays_of_a_payload_cannot_be_tried_out(tmp_path: Path) -> None:
    """Its digest: whoever knows all but the address must not be able to find the address by trying."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            ids = [await world.send(to=FRIEND, subject="The same") for _ in range(2)]
            for message_id in ids:
                await world.until_final(message_id)
            store = world.core.store
            records = [store.record(seq) for message_id in ids for seq in (message_id - 1, message_id)]
            assert len({record.payload_sha256 for record in records}) == 4
            for record in records:
                guess = encode(decode(record).event)
                assert guess.skeleton == record.skeleton
                assert hashlib.sha256(guess.payload or b"").digest() != record.payload_sha256

    run(main)
