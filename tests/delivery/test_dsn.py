"""A bounce is made known to the domain's `forward_to`, once, whatever happens; and nobody is told of a notice's own."""

from __future__ import annotations

import email
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from relay.codec import Recorded
from relay.core import Core
from relay.domains.records import dkim_record
from relay.events import (
    AttemptStarted,
    DomainPaused,
    DsnQueued,
    Event,
    MessageBounced,
    MessageQueued,
    MessageSent,
    RecipientSuppressed,
    SendAccepted,
)
from relay.message.outgoing import PayloadGoneError
from relay.message.signing import DkimVerdict, verify
from relay.views import messages
from tests.mailauth import verify_all
from tests.world.directories import copy_of
from tests.world.relay import DID, DOMAIN, OPERATOR_DOMAIN, World, assert_views_are_the_log, open_world, run

OWNER = "owner@elsewhere.example"
HOUR = 3600


async def forward(world: World, to: str = OWNER) -> None:
    await world.command("domain_set_forward", domain=DOMAIN, to=to)


def dsns(world: World) -> list[DsnQueued]:
    return [event for event in world.events() if isinstance(event, DsnQueued)]


def dsn_id(world: World) -> int:
    """The message id of the only DSN there is."""
    (seq,) = [seq for seq, event in enumerate(world.events(), 1) if isinstance(event, DsnQueued)]
    return seq


def types(message: Any) -> list[str]:
    return [entry["type"] for entry in message["timeline"]]


def test_a_bounce_makes_one_dsn_with_the_null_sender(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await forward(world)
            message_id = await world.send(to="permfail@example.com", subject="For the timeline")
            await world.until_final(message_id)
            dsn = await world.until_final(dsn_id(world))
            (received,) = world.mx.messages
            assert (received.mail_from, received.rcpt_to) == ("", (OWNER,))
            assert len(world.mx.messages) == len(dsns(world)) == 1

            read = email.message_from_bytes(received.data)
            status = read.get_payload(1).get_payload()[1]  # type: ignore[union-attr,index]
            assert status["Final-Recipient"] == "rfc822; permfail@example.com"
            assert status["Diagnostic-Code"] == "smtp; 550 5.1.1 No such mailbox here"
            assert read["In-Reply-To"] in str(read.get_payload(2))

            # "What happened to my mail" is answered in one place, and the notice has a story of its own.
            message = await world.message(message_id)
            assert types(message) == ["message.queued", "attempt.started", "message.bounced", "dsn.queued"]
            assert (message["status"], message["attempts"]) == ("bounced", 1)
            told = message["timeline"][-1]
            assert (told["messageId"], told["about"]) == (dsn["messageId"], message_id)
            assert "status" not in told
            assert types(dsn) == ["dsn.queued", "attempt.started", "message.sent"]
            assert dsn["timeline"][0]["status"] == "queued"
            assert {key: dsn[key] for key in ("category", "from", "recipient", "subject", "status")} == {
                "category": "dsn",
                "from": f"Mail Delivery System <mailer-daemon@{OPERATOR_DOMAIN}>",
                "recipient": OWNER,
                "subject": "Your mail could not be delivered",
                "status": "sent",
            }
            _, page, _ = await world.request("GET", "/v1/messages")
            assert [entry["messageId"] for entry in page["messages"]] == [dsn["messageId"], message_id]

    run(main)


def test_the_operators_two_keys_sign_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await forward(world)
            await world.until_final(await world.send(to="permfail@example.com"))
            await world.until_final(dsn_id(world))
            (received,) = world.mx.messages
            signers = world.core.keyring.signers(OPERATOR_DOMAIN, world.core.operator_stem)
            records = {record.name: record.value for record in map(dkim_record, signers)}
            expected = [DkimVerdict(signer.domain, signer.selector, True) for signer in signers]
            assert verify(received.data, records.get) == expected
            assert verify_all([received.data], records) == [expected]

    run(main)


def test_no_crash_can_part_a_bounce_from_its_dsn(tmp_path: Path) -> None:
    """They are one batch, which is recovered whole or not at all; a restart makes no second one."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            credentials = world.credentials
            await forward(world)
            message_id = await world.send(to="permfail@example.com")
            await world.until_final(message_id)
            store = world.core.store
            # The mailbox does not exist, so that it is suppressed as well.
            bounce, dsn, suppressed = (store.record(dsn_id(world) + place) for place in (-1, 0, 1))
            assert isinstance(store.get(bounce.seq).event, MessageBounced)
            assert isinstance(store.get(suppressed.seq).event, RecipientSuppressed)
            assert bounce.batch_seq == dsn.batch_seq == suppressed.batch_seq == bounce.seq
            assert (bounce.batch_end, dsn.batch_end, suppressed.batch_end) == (False, False, True)
            copy_of(tmp_path / "data", tmp_path / "killed")
        async with open_world(tmp_path / "killed", enrol=False) as world:
            world.credentials = credentials
            assert (await world.until_final(dsn_id(world)))["status"] == "sent"
            assert len(dsns(world)) == 1
            assert_views_are_the_log(world.relay, tmp_path / "killed")

    run(main)


def test_every_attempt_of_a_dsn_sends_the_same_bytes(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await forward(world, "defer-message-2@elsewhere.example")
            await world.until_final(await world.send(to="permfail@example.com", subject="Grüße"))
            dsn = await world.until_final(dsn_id(world))
            assert (dsn["status"], dsn["attempts"]) == ("sent", 3)
            digests = [entry["sha256"] for entry in dsn["timeline"] if "sha256" in entry]
            assert len(digests) == 3
            assert len(set(digests)) == 1

    run(main)


def test_a_dsn_that_bounces_makes_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await forward(world, "permfail@elsewhere.example")
            message_id = await world.send(to="permfail@example.com")
            await world.until_final(message_id)
            dsn = await world.until_final(dsn_id(world))
            assert dsn["status"] == "bounced"
            await trio.sleep(24 * HOUR)
            assert len(dsns(world)) == 1
            assert world.mx.messages == []

    run(main)


def test_a_message_that_is_given_up_makes_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await forward(world)
            message_id = await world.send(to="tempfail-99@example.com", category="login-link")
            message = await world.until_final(message_id)
            assert message["timeline"][-2]["reason"] == "expired"
            await world.until_final(dsn_id(world))
            (received,) = world.mx.messages
            assert received.rcpt_to == (OWNER,)
            assert b"\r\nStatus: 4.7.1\r\n" in received.data
            assert len(dsns(world)) == 1

    run(main)


@pytest.mark.parametrize("told", [False, True], ids=["nobody", "taken back"])
def test_without_a_forward_to_there_is_none(tmp_path: Path, told: bool) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            if told:
                await forward(world)
                await forward(world, "")
            await world.until_final(await world.send(to="permfail@example.com"))
            assert dsns(world) == []

    run(main)


def test_a_suppressed_recipient_makes_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await forward(world)
            message_id = await world.send(to="tempfail-9@example.com")
            await world.until(message_id, "deferred")
            await world.request("POST", "/v1/suppressions", json={"recipient": "tempfail-9@example.com"})
            stopped = await world.until_final(message_id)
            assert stopped["timeline"][-1]["reason"] == "suppressed"
            assert dsns(world) == []

    run(main)


def test_nothing_of_the_members_stops_or_holds_a_dsn(tmp_path: Path) -> None:
    """Its domain is paused, it is suspended, it has suppressed the mailbox: the relay tells it all the same."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            owner = "tempfail-1@elsewhere.example"
            await forward(world, owner)
            await world.until_final(await world.send(to="permfail@example.com"))
            dsn = dsn_id(world)
            await world.until(dsn, "deferred")
            await world.request("POST", "/v1/suppressions", json={"recipient": owner})
            await world.command("domain_pause", did=DID, domain=DOMAIN)
            await world.command("member_suspend", did=DID)
            sent = await world.until_final(dsn)
            assert types(sent)[-2:] == ["attempt.started", "message.sent"]

    run(main)


def test_dsns_count_in_no_limit_and_in_no_rate(tmp_path: Path) -> None:
    """Ten messages of which one bounces are at 10 %; the DSN that bounces too, and its complaint, change nothing."""
    settings = (
        "\n[reputation]\nbounce_rate_max = 0.2\nmessages_min = 1\n"
        "[warming]\ntiers = [ { hour = 10, day = 10 } ]\n"
    )

    async def main() -> None:
        async with open_world(tmp_path / "data", settings=settings) as world:
            await forward(world, "permfail@elsewhere.example")
            for number in range(8):
                await world.until_final(await world.send(to=f"friend+{number}@example.com"))
            await world.until_final(await world.send(to="permfail@example.com"))
            await world.until_final(dsn_id(world))
            await world.command("complaint_record", message=dsn_id(world))
            _, answer, _ = await world.request("GET", "/member/deliverability")
            assert (answer["sent_14d"], answer["bounced_14d"], answer["complaints_14d"]) == (8, 1, 0)
            assert (answer["status"], answer["daily_sends"][-1]) == ("active", 9)
            assert not any(isinstance(event, DomainPaused) for event in world.events())
            assert (await world.post_send())[0] == 200
            assert (await world.post_send())[0] == 429

    run(main)


def test_who_calls_a_dsn_spam_gets_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await forward(world)
            await world.until_final(await world.send(to="permfail@example.com"))
            dsn = dsn_id(world)
            await world.until_final(dsn)
            answer = await world.command("complaint_record", message=dsn)
            assert answer["recorded"] == ["message.complained", "recipient.suppressed"]
            assert types(await world.message(dsn))[-1] == "message.complained"
            await world.until_final(await world.send(to="permfail+2@example.com"))
            assert len(dsns(world)) == 1
            status, answer, _ = await world.request(
                "PUT", "/member/forward-to", json={"domain": DOMAIN, "forward_to": OWNER.upper()}
            )
            assert (status, answer["code"]) == (409, "SUPPRESSION_LOCKED")

    run(main)


def test_a_dsn_to_the_smoke_sink_is_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await forward(world, f"smoke-sink@{OPERATOR_DOMAIN}")
            await world.until_final(await world.send(to="permfail@example.com"))
            assert types(await world.until_final(dsn_id(world))) == ["dsn.queued", "message.sent"]
            assert world.mx.messages == []

    run(main)


# ------------------------------------------------------------------------------------------------ what retention leaves


def stripped(core: Core, *gone: type[Event]) -> Any:
    """As `Store.get`, from a log without the payloads of these events."""

    def get(seq: int) -> Recorded:
        recorded = core.store.get(seq)
        if not isinstance(recorded.event, gone):
            return recorded
        return recorded._replace(event=msgspec.structs.replace(recorded.event, personal=None))

    return get


def test_a_dsn_whose_original_was_stripped_can_never_be_made(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await forward(world)
            await world.until_final(await world.send(to="permfail@example.com"))
            core: Core = world.core
            with core.store.read() as view:
                state = messages.message(view, dsn_id(world))
            assert state is not None
            outgoing = core.composer.outgoing_of(state, core.store.get)
            await world.until_final(dsn_id(world))
            (received,) = world.mx.messages
            assert outgoing.message == received.data
            for gone in (SendAccepted, MessageQueued, DsnQueued):
                with pytest.raises(PayloadGoneError):
                    core.composer.outgoing_of(state, stripped(core, gone))
            # What the receiver said can be missing.
            core.composer.outgoing_of(state, stripped(core, MessageBounced))

    run(main)


def test_it_is_given_up_then_and_nothing_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await forward(world, "tempfail-1@elsewhere.example")
            await world.until_final(await world.send(to="permfail@example.com"))
            dsn = dsn_id(world)
            await world.until(dsn, "deferred")
            get = stripped(world.core, SendAccepted)
            with monkeypatch.context() as patch:
                patch.setattr(type(world.core.composer), "gather", gather_stripped(world.core, get))
                message = await world.until_final(dsn)
            assert (message["status"], message["timeline"][-1]["reason"]) == ("bounced", "undeliverable")
            assert not isinstance(world.events()[-1], AttemptStarted | MessageSent)
            assert (await world.until_final(await world.send()))["status"] == "sent"

    run(main)


def gather_stripped(core: Core, get: Any) -> Any:
    real = type(core.composer).gather
    return lambda composer, state, _: real(composer, state, get)
