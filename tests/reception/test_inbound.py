"""Mail that strangers bring: who may be written to, what a report makes true, what is passed on, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.decisions.reports import REPORTS_MAX
from relay.events import (
    NOBODY,
    ForwardQueued,
    MailReceived,
    MessageBounceReported,
    MessageComplained,
    RecipientSuppressed,
)
from tests.message.test_verifying import record, sign
from tests.world.process import configure
from tests.world.relay import DID, DOMAIN, OPERATOR_DOMAIN, OTHER_DID, OTHER_DOMAIN, World, run
from tests.world.strangers import (
    BOUNCE,
    FEEDBACK,
    LETTER,
    OPERATOR_MAILBOX,
    bounce_address,
    bring,
    count,
    events,
    forward_address,
    open_inbound_world,
    stranger,
    token,
)

BOSS = "boss@elsewhere.example"
TAKEN = "250 2.0.0 taken"


async def sent(world: World, to: str = "friend@example.com") -> int:
    message_id = await world.send(to=to)
    await world.until_final(message_id)
    return message_id


# ------------------------------------------------------------------------------------------------ who may be written to


#: In whatever letters.
OPERATORS = ["postmaster", "Abuse", "FBL", "tlsrpt", "dmarc"]
#: What relays were talked into by others (RFC 5321 section 4.1.1.3 and its errata, and what scanners try).
FOREIGN = [
    "friend@example.com",
    f"friend%example.com@{OPERATOR_DOMAIN}",
    f"example.com!friend@{OPERATOR_DOMAIN}",
    f"friend@example.com@{OPERATOR_DOMAIN}",
    f'"friend@example.com"@{OPERATOR_DOMAIN}',
    f"@{OPERATOR_DOMAIN}:friend@example.com",
    f"@example.com:postmaster@{OPERATOR_DOMAIN}",
    "friend@[127.0.0.1]",
    "friend@[198.51.100.1]",
    "postmaster@[127.0.0.1]",
    "friend@localhost",
    "friend@127.0.0.1",
    "root",
    "postmaster@",
    "@",
    f"@{OPERATOR_DOMAIN}",
    f"postmaster@{OPERATOR_DOMAIN}.",
    f"postmaster@{OPERATOR_DOMAIN}@example.com",
    f"postmaster@sub.{OPERATOR_DOMAIN}",
    f"postmaster@x{OPERATOR_DOMAIN}",
    f'"postmaster"@{OPERATOR_DOMAIN}',
    f"postmaster+x@{OPERATOR_DOMAIN}",
    f"postmaster%{OPERATOR_DOMAIN}@{OPERATOR_DOMAIN}",
    f"|postmaster@{OPERATOR_DOMAIN}",
    f"smoke-sink@{OPERATOR_DOMAIN}",
    f"you@{OPERATOR_DOMAIN}",
    f"{'a' * 65}@{OPERATOR_DOMAIN}",
    f"bounces@{OPERATOR_DOMAIN}",
    f"bounces+1@{OPERATOR_DOMAIN}",
    f"bounces+1-{'a' * 16}@{OPERATOR_DOMAIN}",
    f"forward+1-{'a' * 16}@{OPERATOR_DOMAIN}",
]


def test_what_is_not_ours_is_refused_at_rcpt(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data", "messages_per_minute_per_address = 1000") as world:
            before = world.core.store.last_seq
            for recipient in FOREIGN:
                async with stranger(world) as talk:
                    assert (await talk.ask("MAIL FROM:<you@example.com>")).startswith("250 ")
                    said = await talk.ask(f"RCPT TO:<{recipient}>")
                    assert said[:5] in ("550 5", "553 5", "501 5"), (recipient, said)
                    assert (await talk.ask("DATA")).startswith("554 5.5.1 ")
            assert world.core.store.last_seq == before
            assert count(world, "atmos_inbound_recipients_refused_total") > 0.8 * len(FOREIGN)
            assert count(world, 'atmos_inbound_recipients_refused_total{why="relaying"}') >= 3

    run(main)


def test_the_operators_mailboxes(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            async with stranger(world) as talk:
                for number, name in enumerate(
                    [*(f"{each}@Relay.EXAMPLE" for each in OPERATORS), "Postmaster"]
                ):
                    said = await bring(talk, LETTER + b"%d\r\n" % number, name, mail_from="ann@example.com")
                    assert said == TAKEN, name
                # Several of them are one destination.
                both = [f"fbl@{OPERATOR_DOMAIN}", "POSTMASTER", f"abuse@{OPERATOR_DOMAIN}"]
                assert await bring(talk, LETTER, *both) == TAKEN
            await world.until_so_many_are_final(7)
            received = events(world, MailReceived)
            assert {(mail.did, mail.kind, mail.domain) for mail in received} == {
                (NOBODY, "operator", OPERATOR_DOMAIN)
            }
            assert received[-1].personal is not None
            assert received[-1].personal.rcpt_to == both
            assert received[-1].mail_from_null
            assert {message.rcpt_to[0] for message in world.mx.messages} == {OPERATOR_MAILBOX}
            assert all(
                message.data.endswith(LETTER) or LETTER in message.data for message in world.mx.messages
            )

    run(main)


def test_one_destination_a_transaction(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain=DOMAIN, to=BOSS)
            first, second = await sent(world), await sent(world)
            destinations = [
                bounce_address(world, first),
                bounce_address(world, second),
                f"postmaster@{OPERATOR_DOMAIN}",
                f"any@{DOMAIN}",
            ]
            async with stranger(world) as talk:
                for one in destinations:
                    await talk.ask("MAIL FROM:<>")
                    assert (await talk.ask(f"RCPT TO:<{one}>")).startswith("250 2.1.5 ")
                    for other in destinations:
                        said = await talk.ask(f"RCPT TO:<{other}>")
                        assert said[:9] == ("250 2.1.5" if other == one else "452 4.5.3"), (one, other)
                    await talk.ask("RSET")
                # A domain is one, whomever in it the mail is for.
                await talk.ask("MAIL FROM:<>")
                for one in (f"any@{DOMAIN}", f"ANOTHER@{DOMAIN.upper()}"):
                    assert (await talk.ask(f"RCPT TO:<{one}>")).startswith("250 2.1.5 ")
                # What goes elsewhere leaves what was taken as it was.
                assert (await talk.ask(f"RCPT TO:<abuse@{OPERATOR_DOMAIN}>")).startswith("452 4.5.3 ")
                assert (await talk.ask("DATA")).startswith("354 ")

    run(main)


@pytest.mark.parametrize("why", ["none", "unconfirmed", "suppressed", "off"])
def test_a_domain_of_which_nothing_is_passed_on(tmp_path: Path, why: str) -> None:
    async def main() -> None:
        settings = 'forward = "off"' if why == "off" else 'forward = "all"'
        async with open_inbound_world(tmp_path / "data", settings) as world:
            if why == "unconfirmed":
                wanted = {"domain": DOMAIN, "forward_to": BOSS}
                status, _, _ = await world.request("PUT", "/member/forward-to", json=wanted)
                assert status == 200
            elif why != "none":
                await world.command("domain_set_forward", domain=DOMAIN, to=BOSS)
            if why == "suppressed":
                # On anybody's list.
                other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
                status, _, _ = await world.request(
                    "POST", "/v1/suppressions", json={"recipient": BOSS}, headers=other
                )
                assert status == 201
            async with stranger(world) as talk:
                said = await bring(talk, LETTER, f"any@{DOMAIN}", mail_from="ann@example.com")
                assert said == "550 5.1.1 address not available"
                # There is a postmaster all the same (RFC 5321 section 4.5.1).
                said = await bring(talk, LETTER, f"postmaster@{DOMAIN}", mail_from="ann@example.com")
                assert said == TAKEN
            (mail,) = events(world, MailReceived)
            passed_on = (DID, "other") if why == "off" else (NOBODY, "operator")
            assert (mail.did, mail.kind, mail.domain) == (*passed_on, DOMAIN)
            await world.until_so_many_are_final(1 + (why == "unconfirmed"))
            to = [message.rcpt_to[0] for message in world.mx.messages if b"Hello, all." in message.data]
            assert to == [BOSS if why == "off" else OPERATOR_MAILBOX]

    run(main)


def test_a_name_that_nobody_has_proved_is_nobodys_where_it_must_be(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data", 'forward = "all"') as world:
            await world.command("domain_set_forward", domain=DOMAIN, to=BOSS)
            config = world.core.settings.now
            for must, said_first in ((False, "250"), (True, "550")):
                world.core.settings.take(
                    config.__class__(**{**_fields(config), "require_verified_domains": must})
                )
                async with stranger(world) as talk:
                    for name in ("any", "postmaster"):
                        await talk.ask("MAIL FROM:<>")
                        said = await talk.ask(f"RCPT TO:<{name}@{DOMAIN}>")
                        assert said.startswith(said_first), said
                        await talk.ask("RSET")
            assert said.startswith("550 5.7.1 ")

    run(main)


def _fields(config: object) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__struct_fields__}  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ reports


def test_a_bounce_that_comes_later_is_recorded_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            world.dns.names["192.0.2.9"] = ["mx.stranger.example"]
            world.dns.addresses["mx.stranger.example"] = ["192.0.2.9"]
            message_id = await sent(world)
            async with stranger(world) as talk:
                address = bounce_address(world, message_id)
                for repeat in (address, address, address.upper(), address.swapcase()):
                    assert await bring(talk, BOUNCE, repeat) == TAKEN
            (report,) = events(world, MessageBounceReported)
            assert (report.message_id, report.kind, report.action, report.enhanced) == (
                message_id,
                "dsn",
                "failed",
                "5.1.1",
            )
            assert report.counts
            assert report.personal is not None
            assert report.personal.client_address == "192.0.2.9"
            assert report.personal.client_name == "mx.stranger.example"
            assert report.personal.raw == BOUNCE
            assert (await world.message(message_id))["status"] == "sent"
            assert [event.reason for event in events(world, RecipientSuppressed)] == ["bounced"]
            assert count(world, 'atmos_inbound_reports_total{kind="dsn"}') == 1

    run(main)


def test_lines_of_any_length_are_read_and_not_passed_on(tmp_path: Path) -> None:
    """A report encloses what others wrote; what is passed on is sent by SMTP again."""
    long = b"x" * 5000 + b"\r\n"

    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            message_id = await sent(world)
            async with stranger(world) as talk:
                bounce = BOUNCE.replace(b"I am sorry.\r\n", long)
                assert await bring(talk, bounce, bounce_address(world, message_id)) == TAKEN
                for letter in (LETTER + long, LETTER.replace(b"Hello\r\n", b"Hello " + long, 1)):
                    said = await bring(talk, letter, f"abuse@{OPERATOR_DOMAIN}")
                    assert said.startswith("554 5.6.0 a line is over 998 octets")
            assert [report.counts for report in events(world, MessageBounceReported)] == [True]
            assert events(world, ForwardQueued) == []

    run(main)


@pytest.mark.parametrize("altered", ["mac", "number", "domain", "kind", "unknown"])
def test_a_token_that_is_not_ours_is_nobodys(tmp_path: Path, altered: str) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            message_id = await sent(world)
            address = bounce_address(world, message_id)
            match altered:
                case "mac":
                    address = address.replace(
                        "@", "@"[:0] + ("b" if address[-len(OPERATOR_DOMAIN) - 2] != "b" else "c") + "@"
                    )
                case "number":
                    address = address.replace(f"+{message_id}-", f"+{message_id + 1}-")
                case "domain":
                    address = address.replace(OPERATOR_DOMAIN, f"x.{OPERATOR_DOMAIN}")
                case "kind":
                    address = address.replace("bounces+", "replies+")
                case _:
                    address = bounce_address(world, 10**6)  # a good mac of a message that there never was
            async with stranger(world) as talk:
                said = await bring(talk, BOUNCE, address)
                # At RCPT, before a mail is heard out.
                no = "550 5.7.1 " if altered == "domain" else "550 5.1.1 there is no such mailbox here"
                assert said.startswith(no), said
            assert not events(world, MessageBounceReported)

    run(main)


def test_a_message_has_so_many_reports_and_then_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        settings = "messages_per_minute_per_address = 1000\nmessages_per_hour = 1000"
        async with open_inbound_world(tmp_path / "data", settings) as world:
            message_id = await sent(world)
            address = bounce_address(world, message_id)
            async with stranger(world) as talk:
                for number in range(REPORTS_MAX - 1):
                    assert await bring(talk, LETTER + b"%d\r\n" % number, address) == TAKEN
                # One more may come; of two that come at once, one.
                async with stranger(world, "192.0.2.10") as other:
                    for each in (talk, other):
                        for line in ("MAIL FROM:<>", f"RCPT TO:<{address}>", "DATA"):
                            assert (await each.ask(line))[0] in "23"
                    assert await talk.ask("one", ".") == TAKEN
                    assert (await other.ask("two", ".")).startswith("550 5.7.1 there are as many reports")
                for _ in range(2):  # looked up, and remembered
                    said = await bring(talk, BOUNCE, address)
                    assert said.startswith(f"550 5.7.1 {REPORTS_MAX} reports about this message")
            assert len(events(world, MessageBounceReported)) == REPORTS_MAX

    run(main)


def test_a_report_to_the_postmaster_is_known_by_what_it_encloses(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            message_id = await sent(world)
            enclosed = BOUNCE.replace(
                b"--b--\r\n",
                b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
                + f"X-Atmos-Message: {token(world, message_id)}\r\nSubject: Hello\r\n\r\n--b--\r\n".encode(),
            )
            async with stranger(world) as talk:
                assert await bring(talk, enclosed, f"postmaster@{OPERATOR_DOMAIN}") == TAKEN
                assert [event.message_id for event in events(world, MessageBounceReported)] == [message_id]
                assert not events(world, MailReceived)
                # Of another's message, or with a token that was altered, it is mail like any other.
                forged = enclosed.replace(b": %d-" % message_id, b": %d-" % (message_id + 1))
                assert await bring(talk, forged, f"postmaster@{OPERATOR_DOMAIN}") == TAKEN
                # A person may quote a header.
                quoting = LETTER + f"> X-Atmos-Message: {token(world, message_id)}\r\n".encode()
                assert await bring(talk, quoting, f"abuse@{OPERATOR_DOMAIN}") == TAKEN
            assert len(events(world, MailReceived)) == 2
            assert len(events(world, MessageBounceReported)) == 1

    run(main)


def test_what_nobody_can_read_is_recorded_where_it_shows_a_token(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            message_id = await sent(world)
            async with stranger(world) as talk:
                assert await bring(talk, b"\xff\xfe\r\n..\r\n", bounce_address(world, message_id)) == TAKEN
                assert await bring(talk, b"", bounce_address(world, message_id)) == TAKEN
            assert [(each.kind, each.counts) for each in events(world, MessageBounceReported)] == [
                ("unknown", False)
            ] * 2

    run(main)


def test_a_complaint_that_nobody_signed_is_a_wish_to_hear_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            message_id = await sent(world)
            feedback = FEEDBACK.replace(b"TOKEN", token(world, message_id).encode())
            async with stranger(world) as talk:
                assert await bring(talk, feedback, f"fbl@{OPERATOR_DOMAIN}") == TAKEN
                assert await bring(talk, feedback, f"fbl@{OPERATOR_DOMAIN}") == TAKEN
            (complaint,) = events(world, MessageComplained)
            assert (complaint.authenticated, complaint.provider, complaint.via) == (False, None, "report")
            assert [event.reason for event in events(world, RecipientSuppressed)] == ["unsubscribe"]
            assert count(world, 'atmos_complaints_total{authenticated="no"}') == 1
            # And one that takes it back is none.
            not_spam = feedback.replace(b"abuse", b"not-spam")
            async with stranger(world) as talk:
                assert await bring(talk, not_spam, f"fbl@{OPERATOR_DOMAIN}") == TAKEN
            assert len(events(world, MessageComplained)) == 1

    run(main)


@pytest.mark.parametrize(
    ("signer", "provider"),
    [
        ("arf.mail.yahoo.com", "arf.mail.yahoo.com"),
        ("new.arf.mail.yahoo.com", "new.arf.mail.yahoo.com"),
        # So is the mail of its users.
        ("yahoo.com", None),
        ("notarf.mail.yahoo.com", None),
        ("arf.mail.yahoo.com.example", None),
    ],
)
def test_a_complaint_counts_where_a_provider_signed_it(
    tmp_path: Path, signer: str, provider: str | None
) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            message_id = await sent(world)
            world.dns.txt[f"s1._domainkey.{signer}"] = [(record(),)]
            feedback = sign(FEEDBACK.replace(b"TOKEN", token(world, message_id).encode()), signer.encode())
            async with stranger(world) as talk:
                assert await bring(talk, feedback, f"fbl@{OPERATOR_DOMAIN}") == TAKEN
            (complaint,) = events(world, MessageComplained)
            assert (complaint.provider, complaint.authenticated) == (provider, provider is not None)
            assert complaint.personal is not None
            assert complaint.personal.signed_by == [signer]
            reason = "unsubscribe" if provider is None else "complaint"
            assert [event.reason for event in events(world, RecipientSuppressed)] == [reason]

    run(main)


def test_a_signed_complaint_about_one_message_counts_for_no_other(tmp_path: Path) -> None:
    """Who has a provider's report, and envelope senders of other messages, could bring it about each of those."""

    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            first, second = await sent(world), await sent(world, "other@example.com")
            world.dns.txt["s1._domainkey.arf.mail.yahoo.com"] = [(record(),)]
            about = {"nobody's": "none", "the first": token(world, first)}
            signed = {
                what: sign(FEEDBACK.replace(b"TOKEN", each.encode()), b"arf.mail.yahoo.com")
                for what, each in about.items()
            }
            async with stranger(world) as talk:
                for what, message_id in (("nobody's", first), ("the first", second), ("the first", first)):
                    assert await bring(talk, signed[what], bounce_address(world, message_id)) == TAKEN
            assert [
                (complaint.message_id, complaint.authenticated, complaint.provider)
                for complaint in events(world, MessageComplained)
            ] == [(first, False, None), (second, False, None), (first, True, "arf.mail.yahoo.com")]

    run(main)


def test_whose_complaints_are_believed_is_asked_at_each_use(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            configure(tmp_path / "data", inbound='feedback_providers = ["own.example"]')
            await world.core.read_settings_again()
            world.dns.txt["s1._domainkey.own.example"] = [(record(),)]
            world.dns.txt["s1._domainkey.arf.mail.yahoo.com"] = [(record(),)]
            providers = []
            for signer in ("arf.mail.yahoo.com", "own.example"):
                message_id = await sent(world, f"friend@{signer}")
                feedback = FEEDBACK.replace(b"TOKEN", token(world, message_id).encode())
                async with stranger(world) as talk:
                    said = await bring(talk, sign(feedback, signer.encode()), f"fbl@{OPERATOR_DOMAIN}")
                    assert said == TAKEN
                providers.append(events(world, MessageComplained)[-1].provider)
            assert providers == [None, "own.example"]

    run(main)


def test_a_bounce_of_what_was_passed_on_is_recorded_and_passed_on_to_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_inbound_world(tmp_path / "data") as world:
            async with stranger(world) as talk:
                assert (
                    await bring(talk, LETTER, f"abuse@{OPERATOR_DOMAIN}", mail_from="ann@example.com")
                    == TAKEN
                )
                await world.until_so_many_are_final(1)
                (forwarded,) = world.mx.messages
                assert forwarded.mail_from.startswith("forward+")
                for bounce in (BOUNCE, BOUNCE, BOUNCE.replace(b"I am sorry", b"I am very sorry")):
                    assert await bring(talk, bounce, forwarded.mail_from) == TAKEN
            (report,) = events(world, MessageBounceReported)
            (queued,) = (
                seq for seq, event in enumerate(world.events(), 1) if isinstance(event, ForwardQueued)
            )
            assert report.message_id == queued
            assert forwarded.mail_from == forward_address(world, queued)
            assert len(events(world, MailReceived)) == 1
            assert not events(world, RecipientSuppressed)

    run(main)
