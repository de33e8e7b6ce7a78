"""HTTP at a node that follows: what it says of itself, and that nobody is told that there is no such thing before it
has caught up."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from email.parser import BytesHeaderParser
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.message.tokens import Unsubscribe
from relay.own_keys import IssueOwnKey
from relay.principals import Principal
from relay.reception.commands import Transaction
from relay.reception.data import Message
from relay.reception.inbound import Inbound
from relay.reception.interface import Admitted, Client, Visit
from relay.reception.submission import Submission
from tests.edges.test_acceptance_seam import member_of, wanted
from tests.nodes.beside_a_leader import with_follower as beside_a_leader
from tests.world.nodes import LEADER, Follower
from tests.world.relay import DID, DOMAIN, OTHER_DID, World
from tests.world.stream import Closed, Refused, open_stream


def with_follower(tmp_path: Path, test: Callable[[World, Follower], Awaitable[None]]) -> None:
    async def in_world(world: World, follower: Follower, _: Principal) -> None:
        await test(world, follower)

    beside_a_leader(tmp_path, in_world)


MAIL = {"from": "you@yourdomain.com", "to": "friend@example.com", "subject": "Hello", "text": "Hi\n"}


async def a_new_key(world: World) -> dict[str, str]:
    """Made at the leader, by decision: credentials of the same member."""
    member = member_of(world)._replace(scope="full")
    issued = await world.core.decide("issue_own_key", IssueOwnKey(), member)
    return {"X-Atmos-DID": DID, "Authorization": f"Bearer {issued.api_key}"}


async def meanwhile(follower: Follower, asked: Awaitable[Any]) -> Any:
    """What it gives, when the follower gets what it has not, only after it was asked."""
    given: list[Any] = []

    async def ask() -> None:
        given.append(await asked)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert not given
        follower.feed.go_on()
    return given[0]


def test_a_send_to_a_follower_is_found_there_at_once(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        status, answer, _ = await follower.request(
            "POST", "/v1/send", headers={**world.credentials, "Idempotency-Key": "k"}, json=MAIL
        )
        assert status == 200
        (accepted,) = answer["accepted"]
        path = f"/v1/messages/{accepted['messageId']}"
        assert (await follower.request("GET", path, headers=world.credentials))[0] == 200
        # The key is known at both.
        for ask in (follower.request, world.request):
            status, again, headers = await ask(
                "POST", "/v1/send", headers={**world.credentials, "Idempotency-Key": "k"}, json=MAIL
            )
            assert (status, again) == (200, answer)
            assert {name.lower(): value for name, value in headers.items()}["idempotent-replayed"] == "true"

    with_follower(tmp_path, test)


def test_without_a_leader_a_send_is_503_and_reading_goes_on(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        message_id = await world.send()
        await wait_all_tasks_blocked()
        follower.leader = None
        status, answer, headers = await follower.request(
            "POST", "/v1/send", headers=world.credentials, json=MAIL
        )
        assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert int(headers["Retry-After"]) > 0
        for path in (f"/v1/messages/{message_id}", "/v1/messages", "/v1/events", "/member/status"):
            assert (await follower.request("GET", path, headers=world.credentials))[0] == 200

    with_follower(tmp_path, test)


# ------------------------------------------------------------------------------------------- what it says of itself


def test_who_leads(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        status, answer, headers = await follower.request("GET", "/leader", headers={})
        assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert float(headers["Atmos-Lag"]) >= 0
        follower.leader = LEADER._replace(name="b")
        status, answer, headers = await follower.request("GET", "/leader", headers={})
        assert (status, answer, headers["Atmos-Lag"]) == (200, {"role": "leader"}, "0")
        follower.leader = LEADER
        # One machine has no such thing, and says nothing of the kind.
        status, _, headers = await world.request("GET", "/leader")
        assert status == 404
        assert "atmos-lag" not in {name.lower() for name in headers}

    with_follower(tmp_path, test)


def test_each_answer_says_how_late_it_is(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        follower.feed.hold()
        await world.send()
        await trio.sleep(2)
        for path in ("/v1/messages", "/healthz", "/nothing"):
            _, _, headers = await follower.request("GET", path, headers=world.credentials)
            assert float(headers["Atmos-Lag"]) >= 2
        async with open_stream(world, edge=follower.core.edge) as stream:
            assert float(stream.headers["atmos-lag"]) >= 2
        follower.feed.go_on()

    with_follower(tmp_path, test)


def test_a_node_that_never_had_all_does_not_say_how_late_it_is(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        follower.feed.hold()
        follower.feed.level_at = -math.inf
        _, answer, headers = await follower.request("GET", "/readyz", headers={})
        assert (headers["Atmos-Lag"], answer["lagSeconds"]) == ("unknown", None)
        follower.feed.go_on()

    with_follower(tmp_path, test)


def test_it_is_ready_while_it_can_be_read(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        status, answer, _ = await follower.request("GET", "/readyz", headers={})
        assert (status, answer["accepting"], answer["role"]) == (200, True, "follower")
        assert answer["lagSeconds"] < 1
        follower.leader = None
        status, answer, _ = await follower.request("GET", "/readyz", headers={})
        assert (status, answer["accepting"], answer["code"]) == (200, False, "TEMPORARILY_UNAVAILABLE")
        follower.leader = LEADER._replace(name="b")
        status, answer, _ = await follower.request("GET", "/readyz", headers={})
        assert (status, answer["accepting"], answer["role"], answer["lagSeconds"]) == (200, True, "leader", 0)
        assert "role" not in (await world.request("GET", "/readyz"))[1]

    with_follower(tmp_path, test)


# ------------------------------------------------------------------------------------------- what is not known yet


def test_a_key_that_was_just_made_is_good_here(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        follower.feed.hold()
        made = await a_new_key(world)
        status, _, _ = await meanwhile(follower, follower.request("GET", "/v1/messages", headers=made))
        assert status == 200
        follower.feed.hold()
        made = await a_new_key(world)
        status, _, _ = await meanwhile(
            follower, follower.request("POST", "/v1/send", headers=made, json=MAIL)
        )
        assert status == 200

    with_follower(tmp_path, test)


def test_so_it_is_where_the_key_is_all_that_is_given(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        follower.feed.hold()
        made = await a_new_key(world)
        alone = {"Authorization": made["Authorization"]}
        status, answer, _ = await meanwhile(follower, follower.request("GET", "/emails/1", headers=alone))
        assert status == 404, answer

    with_follower(tmp_path, test)


def test_a_wrong_key_is_401_at_once(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        wrong = {"X-Atmos-DID": DID, "Authorization": "Bearer atmos_wrong"}
        begun = trio.current_time()
        assert (await follower.request("GET", "/v1/messages", headers=wrong))[0] == 401
        assert trio.current_time() == begun

    with_follower(tmp_path, test)


def test_a_message_that_was_just_sent_is_found_here(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        follower.feed.hold()
        message_id = await world.send()
        path = f"/v1/messages/{message_id}"
        status, _, _ = await meanwhile(follower, follower.request("GET", path, headers=world.credentials))
        assert status == 200
        begun = trio.current_time()
        nowhere = "/v1/messages/99999"
        assert (await follower.request("GET", nowhere, headers=world.credentials))[0] == 404
        assert trio.current_time() == begun

    with_follower(tmp_path, test)


def test_a_cursor_that_was_given_at_another_node_is_good_here(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        follower.feed.hold()
        await world.core.decide("send", wanted(), member_of(world))
        cursor = world.core.store.last_seq
        page = f"/v1/events?cursor={cursor}"
        status, answer, _ = await meanwhile(
            follower, follower.request("GET", page, headers=world.credentials)
        )
        assert status == 200
        assert answer["cursor"] >= cursor
        status, answer, _ = await follower.request(
            "GET", "/v1/events?cursor=99999", headers=world.credentials
        )
        assert (status, answer["code"]) == (400, "INVALID_REQUEST")

    with_follower(tmp_path, test)


def test_a_stream_goes_on_at_another_node_without_gap_or_repeat(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        async with open_stream(world, cursor=0) as stream:
            before = [frame["seq"] for frame in await stream.take(2)]
        follower.feed.hold()
        await world.core.decide("send", wanted(), member_of(world))
        await wait_all_tasks_blocked()
        last = world.core.store.last_seq
        known = follower.core.store.last_seq
        assert last > known

        async def go_on() -> None:
            await wait_all_tasks_blocked()
            follower.feed.go_on()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            # It has seen more at the leader than there is here.
            async with open_stream(world, edge=follower.core.edge, cursor=last - 1) as stream:
                frame = await stream.next()
                assert frame["seq"] == last
        assert before == sorted(set(before))

    with_follower(tmp_path, test)


def test_a_cursor_of_another_relay_is_told_so(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        async with open_stream(world, edge=follower.core.edge, cursor=99999) as stream:
            assert (await stream.next())["error"] == "FutureCursor"
            with pytest.raises(Closed):
                await stream.next()

    with_follower(tmp_path, test)


def test_a_ticket_of_another_node_opens_a_stream_here(tmp_path: Path) -> None:
    """Of a key that is not known here yet, besides."""

    async def test(world: World, follower: Follower) -> None:
        world.core.ticket_key = follower.core.ticket_key
        follower.feed.hold()
        made = await a_new_key(world)
        _, answer, _ = await world.request("POST", "/v1/stream/ticket", headers=made)

        async def go_on() -> None:
            await wait_all_tasks_blocked()
            follower.feed.go_on()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            async with open_stream(
                world, edge=follower.core.edge, credentials={}, ticket=answer["ticket"], cursor=0
            ) as stream:
                await stream.next()
        with pytest.raises(Refused) as refused:
            async with open_stream(world, edge=follower.core.edge, credentials={}, ticket=answer["ticket"]):
                pass
        assert refused.value.status == 401

    with_follower(tmp_path, test)


@pytest.mark.parametrize("why", ["nobody leads", "it is behind"])
def test_nobody_is_told_that_it_is_not_there_where_that_is_not_known(tmp_path: Path, why: str) -> None:
    async def test(world: World, follower: Follower) -> None:
        follower.feed.hold()
        message_id = await world.send()
        made = await a_new_key(world)
        if why == "nobody leads":
            follower.leader = None
        for path, credentials in (
            (f"/v1/messages/{message_id}", world.credentials),
            ("/v1/messages", made),
            ("/v1/events?cursor=99999", world.credentials),
        ):
            status, answer, headers = await follower.request("GET", path, headers=credentials)
            assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE")
            assert int(headers["Retry-After"]) > 0
        with pytest.raises(Refused) as refused:
            async with open_stream(world, edge=follower.core.edge, cursor=99999):
                pass
        assert refused.value.status == 503
        follower.leader = LEADER
        follower.feed.go_on()

    with_follower(tmp_path, test)


# ------------------------------------------------------------------------------------------- over SMTP


def test_a_password_that_was_just_made_is_good_over_smtp(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        door = Submission(follower.core.edge)
        client = Client(address="192.0.2.1", counted_as="192.0.2.1", is_trusted=False)
        follower.feed.hold()
        made = await a_new_key(world)
        password = made["Authorization"].removeprefix("Bearer ")
        answer = await meanwhile(follower, door.authenticate(DID, password, client))
        assert isinstance(answer, Admitted)
        wrong = await door.authenticate(DID, "wrong", client)
        assert not isinstance(wrong, Admitted)
        assert wrong.code == 535
        follower.leader = None
        wrong = await door.authenticate(DID, "wrong", client)
        assert not isinstance(wrong, Admitted)
        assert 400 <= wrong.code < 500

    with_follower(tmp_path, test)


def test_who_was_let_in_again_is_not_refused_by_a_node_that_is_behind(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        door = Submission(follower.core.edge)
        client = Client(address="192.0.2.1", counted_as="192.0.2.1", is_trusted=False)
        password = world.credentials["Authorization"].removeprefix("Bearer ")

        async def send() -> int:
            status, _, _ = await follower.request("POST", "/v1/send", headers=world.credentials, json=MAIL)
            return status

        async def authenticate() -> bool:
            return isinstance(await door.authenticate(DID, password, client), Admitted)

        for ask, good in ((send, 200), (authenticate, True)):
            await world.command("member_suspend", did=DID, reason="spam")
            await wait_all_tasks_blocked()
            assert await ask() in (403, False)
            follower.feed.hold()
            await world.command("member_resume", did=DID)
            assert await meanwhile(follower, ask()) == good
        # Reading he might, and waits for nobody.
        await world.command("member_suspend", did=DID, reason="spam")
        await wait_all_tasks_blocked()
        follower.feed.hold()
        assert (await follower.request("GET", "/v1/messages", headers=world.credentials))[0] == 200
        follower.feed.go_on()

    with_follower(tmp_path, test)


def test_a_domain_that_was_just_enrolled_is_good_over_smtp(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        door = Submission(follower.core.edge)
        client = Client(address="192.0.2.1", counted_as="192.0.2.1", is_trusted=False)
        who = Admitted(member_of(world), DID)
        visit = Visit(client=client, tls="TLSv1.3", ehlo_name="a.example", admitted=who)
        follower.feed.hold()
        await world.command("domain_add", did=DID, domain="new.example")
        new, foreign = (Transaction(mail_from=f"me@{of}.example") for of in ("new", "foreign"))
        assert (await meanwhile(follower, door.mail(visit, new))).code == 250
        assert (await door.mail(visit, foreign)).code >= 500
        follower.leader = None
        assert 400 <= (await door.mail(visit, foreign)).code < 500

    with_follower(tmp_path, test)


# ------------------------------------------------------------------------------------------- what strangers ask


def test_a_link_in_a_mail_of_a_member_that_is_new_here(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        follower.feed.hold()
        await world.enrol(OTHER_DID, "other.example")
        tokens = world.core.composer.unsubscribe
        token = tokens.seal(Unsubscribe(OTHER_DID, world.core.store.last_seq, "friend@example.com"))
        status = await meanwhile(follower, follower.page("GET", f"/u/{token}"))
        assert status == 200
        assert await follower.page("GET", "/u/nothing") == 404
        follower.leader = None
        assert await follower.page("GET", "/u/nothing") == 503
        assert await follower.page("GET", f"/u/{token}") == 200

    with_follower(tmp_path, test)


def test_mail_for_what_is_new_here_is_taken(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        follower.core.mail_reader = world.core.mail_reader
        door = Inbound(follower.core.edge)
        visit = Visit(Client(address="192.0.2.1", counted_as="192.0.2.1", is_trusted=False))
        follower.feed.hold()
        message_id = await world.send()
        address = world.core.message_tokens.make(message_id)
        transaction = Transaction(mail_from="")
        reply = await meanwhile(follower, door.recipient(visit, transaction, address))
        assert reply.code == 250
        nobody = await door.recipient(visit, transaction, "nobody@relay.example")
        assert nobody.code == 550
        follower.leader = None
        nobody = await door.recipient(visit, transaction, "nobody@relay.example")
        assert 400 <= nobody.code < 500

    with_follower(tmp_path, test)


def test_an_answer_to_a_mail_that_is_new_here_is_taken(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower) -> None:
        follower.core.mail_reader = world.core.mail_reader
        door = Inbound(follower.core.edge)
        visit = Visit(Client(address="192.0.2.1", counted_as="192.0.2.1", is_trusted=False))
        transaction = Transaction(mail_from="ann@example.org", recipients=[f"you@{DOMAIN}"])
        await world.command("domain_set_forward", domain=DOMAIN, to="boss@elsewhere.example")
        await wait_all_tasks_blocked()
        follower.feed.hold()
        await world.until_final(await world.send())
        sent = BytesHeaderParser().parsebytes(world.mx.messages[-1].data)["Message-ID"]
        answer = f"From: ann@example.org\r\nIn-Reply-To: {sent}\r\n\r\nHello\r\n".encode()
        reply = await meanwhile(follower, door.data(visit, transaction, message_of(answer)))
        assert reply.code == 250
        another = message_of(answer.replace(sent.encode(), b"<0@example.com>"))
        assert (await door.data(visit, transaction, another)).code == 550
        follower.leader = None
        assert 400 <= (await door.data(visit, transaction, another)).code < 500

    with_follower(tmp_path, test)


def message_of(octets: bytes) -> Message:
    return Message(octets, normalised=False, sha256=sha256(octets).digest())
