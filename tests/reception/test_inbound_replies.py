"""Mail for members: what is a reply and is passed on, who may write to whom, and what is said to everybody else."""

from __future__ import annotations

from collections.abc import Callable
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.codec import Recorded
from relay.events import MailReceived
from relay.mail_reading import NotReadNow, Reading
from relay.reception.inbound import is_aligned, is_at_or_below
from tests.message.test_verifying import record, sign
from tests.world.relay import DID, DOMAIN, OPERATOR_DOMAIN, World, run
from tests.world.strangers import LETTER, bring, count, events, open_inbound_world, stranger

BOSS = "boss@elsewhere.example"
FRIEND = "friend@example.com"
TAKEN = "250 2.0.0 taken"
SPF_PASSES = [(b"v=spf1 ip4:192.0.2.9 -all",)]


async def written_to(world: World, **fields: str) -> str:
    """A mail to FRIEND that has arrived; its Message-ID."""
    await world.command("domain_set_forward", domain=DOMAIN, to=BOSS)
    await world.until_final(await world.send(to=FRIEND, **fields))
    message_id: str = BytesHeaderParser().parsebytes(world.mx.messages[-1].data)["Message-ID"]
    return message_id


def letter(**fields: str) -> bytes:
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return named.encode() + LETTER


async def answer(world: World, octets: bytes, mail_from: str = FRIEND, *, to: str = f"you@{DOMAIN}") -> str:
    async with stranger(world) as talk:
        return await bring(talk, octets, to, mail_from=mail_from)


@pytest.mark.parametrize("field", ["In_Reply_To", "References"])
def test_a_reply_is_passed_on_as_it_came(tmp_path: Path, field: str) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            message_id = await written_to(world)
            reply = letter(**{field: f"<0@example.com> {message_id}"})
            # Whoever sends it, and a second time.
            for sender in ("ann@example.org", "ann@example.org"):
                assert await answer(world, reply, sender) == TAKEN
            await world.until_so_many_are_final(2)
            (received,) = events(world, MailReceived)
            assert (received.did, received.kind, received.domain) == (DID, "reply", DOMAIN)
            passed_on = world.mx.messages[-1]
            assert passed_on.rcpt_to == (BOSS,)
            assert passed_on.mail_from.startswith("forward+")
            assert passed_on.data.endswith(reply)
            top = BytesHeaderParser().parsebytes(passed_on.data.removesuffix(reply))
            assert top.keys() == ["Received", "X-Atmos-Forwarded"]
            assert "from mx.stranger.example ([192.0.2.9]) by relay.example with ESMTP id" in " ".join(
                top["Received"].split()
            )
            assert count(world, 'atmos_inbound_passed_on_total{kind="reply"}') == 1
            # And what was passed on once does not come again.
            said = await answer(world, passed_on.data, "ann@example.org")
            assert said.startswith("550 5.4.6 ")
            assert count(world, 'atmos_inbound_refused_total{why="loop"}') == 1

    run(main)


@pytest.mark.parametrize("what", ["nothing", "another's", "a forged one", "an unknown sender", "null"])
def test_what_is_no_reply_is_refused_and_says_what_to_do(tmp_path: Path, what: str) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            message_id = await written_to(world)
            fields = {}
            match what:
                case "another's":
                    fields = {"In_Reply_To": "<1.2@other.example>"}
                case "a forged one":
                    fields = {"In_Reply_To": message_id.replace(".", ".0", 1)}
            sender = {"an unknown sender": "ann@example.com", "null": ""}.get(what, FRIEND)
            world.dns.txt["example.com"] = [(b"v=spf1 ip4:192.0.2.10 -all",)]
            said = await answer(world, letter(**fields), sender)
            assert said.startswith(
                "550 5.7.1 only replies are taken here: answer a mail that came from this address"
            )
            assert not events(world, MailReceived)
            assert count(world, 'atmos_inbound_refused_total{why="no_reply"}') == 1

    run(main)


def test_of_the_mails_that_one_claims_to_answer_few_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their numbers are no secret, and each may be as large as a mail can be."""

    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            message_id = await written_to(world)
            others = [await world.send(to=f"friend-{number}@example.com") for number in range(8)]
            await world.until_so_many_are_final(9)
            store, read = world.core.store, list[int]()
            get = type(store).get

            def counted(self: Any, seq: int) -> Recorded:
                read.append(seq)
                return get(self, seq)

            monkeypatch.setattr(type(store), "get", counted)
            forged = [f"<{number}.{letter}@{DOMAIN}>" for letter in "ab" for number in others]
            assert (await answer(world, letter(References=" ".join(forged)))).startswith("550 5.7.1 ")
            assert len(read) == len(set(read)) == 5
            # The one that it answers may stand behind some that nobody sent.
            reply = letter(In_Reply_To=message_id, References=" ".join(forged[:3] * 4))
            assert await answer(world, reply) == TAKEN
            assert await answer(world, letter(References=" ".join([message_id, *forged[:3]]))) == TAKEN

    run(main)


def test_all_mail_where_the_setting_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data", 'forward = "all"') as world:
            message_id = await written_to(world)
            assert await answer(world, LETTER, "ann@example.org") == TAKEN
            assert await answer(world, letter(In_Reply_To=message_id), "ann@example.org") == TAKEN
            assert [mail.kind for mail in events(world, MailReceived)] == ["other", "reply"]

    run(main)


def spf(world: World) -> bytes:
    world.dns.txt["example.com"] = SPF_PASSES
    return LETTER


def dkim(world: World) -> bytes:
    world.dns.txt["s1._domainkey.example.com"] = [(record(),)]
    return sign(LETTER, b"example.com")


def dkim_of_a_subdomain(world: World) -> bytes:
    world.dns.txt["s1._domainkey.mail.example.com"] = [(record(),)]
    return sign(LETTER, b"mail.example.com")


def dkim_of_another(world: World) -> bytes:
    world.dns.txt["s1._domainkey.example.org"] = [(record(),)]
    return sign(LETTER, b"example.org")


def dkim_of_a_neighbour(world: World) -> bytes:
    world.dns.txt["s1._domainkey.notexample.com"] = [(record(),)]
    return sign(LETTER, b"notexample.com")


def dkim_that_is_broken(world: World) -> bytes:
    return dkim(world).replace(b"Hello, all.", b"Hullo, all.")


def spf_of_another(world: World) -> bytes:
    world.dns.txt["mx.stranger.example"] = SPF_PASSES
    world.dns.txt["example.com"] = [(b"v=spf1 ip4:192.0.2.10 ?all",)]
    return LETTER


def dns_that_fails(world: World) -> bytes:
    world.dns.broken = {"example.com"}
    return LETTER


@pytest.mark.parametrize(
    ("made", "is_taken"),
    [
        (spf, True),
        (dkim, True),
        (dkim_of_a_subdomain, True),
        (dkim_of_another, False),
        (dkim_of_a_neighbour, False),
        (dkim_that_is_broken, False),
        (spf_of_another, False),
        (dns_that_fails, False),
    ],
)
def test_whom_the_domain_wrote_to_may_write_where_it_is_proved(
    tmp_path: Path, made: Callable[[World], bytes], *, is_taken: bool
) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            await written_to(world)
            octets = made(world)
            said = await answer(world, octets)
            assert said.startswith("250 2.0.0 " if is_taken else "550 5.7.1 "), said
            # Who was never written to proves what he likes.
            assert (await answer(world, octets, "stranger@example.com")).startswith("550 5.7.1 ")
            if is_taken:
                await trio.sleep(31 * 24 * 3600)  # nor is anybody remembered for ever
                assert (await answer(world, octets)).startswith("550 5.7.1 ")

    run(main)


def test_the_postmaster_of_a_member_is_written_to_by_everybody(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            await written_to(world)
            assert await answer(world, LETTER, "ann@example.org", to=f"PostMaster@{DOMAIN}") == TAKEN
            await world.until_so_many_are_final(2)
            (received,) = events(world, MailReceived)
            assert (received.did, received.kind) == (DID, "other")
            assert world.mx.messages[-1].rcpt_to == (BOSS,)

    run(main)


class Dying:
    """A reader whose child dies of whatever it reads, or is not to be had."""

    def __init__(self, *, is_there: bool) -> None:
        self._is_there = is_there

    async def read(self, octets: bytes, party: str | None) -> Reading:
        await trio.lowlevel.checkpoint()
        if not self._is_there:
            raise NotReadNow
        return Reading()

    async def signed_by(self, octets: bytes, signatures: object, party: str | None) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return ()


def test_what_the_reader_dies_of(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            message_id = await written_to(world)
            world.core.mail_reader = Dying(is_there=True)
            assert await answer(world, LETTER, to=f"abuse@{OPERATOR_DOMAIN}") == TAKEN
            reply = letter(In_Reply_To=message_id)
            assert (await answer(world, reply)).startswith("550 5.7.1 ")

    run(main)


def test_a_reader_that_is_not_to_be_had_puts_mail_off(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            await written_to(world)
            world.core.mail_reader = Dying(is_there=False)
            before = world.core.store.last_seq
            for to in (f"abuse@{OPERATOR_DOMAIN}", f"you@{DOMAIN}"):
                assert (await answer(world, LETTER, to=to)).startswith(
                    "451 4.3.0 the mail cannot be read now"
                )
            assert world.core.store.last_seq == before
            assert count(world, 'atmos_inbound_refused_total{why="not_read"}') == 2

    run(main)


def test_who_is_aligned_with_whom() -> None:
    assert is_aligned("a.example", "a.example")
    assert is_aligned("x.a.example", "a.example")
    assert is_aligned("a.example", "x.a.example")
    assert not is_aligned("xa.example", "a.example")
    assert not is_aligned("x.a.example", "y.a.example")
    assert not is_at_or_below("a.example", ["x.a.example"])
    assert is_at_or_below("arf.mail.yahoo.com", ["outlook.com", "yahoo.com"])
    assert not is_at_or_below("notyahoo.com", ["yahoo.com"])
    assert not is_at_or_below("yahoo.com.example", ["yahoo.com"])
