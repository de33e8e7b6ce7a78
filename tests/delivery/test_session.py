"""Sessions against our own receiver: every misbehaviour is one outcome, and the next message is unaffected."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from relay.delivery.outcomes import AttemptOutcome
from relay.delivery.replies import DeliveryVerdict, FailureKind
from relay.delivery.reply_reader import Command
from relay.delivery.session import (
    Session,
    SessionFailed,
    TlsFailed,
    TlsPolicy,
    open_session,
)
from relay.delivery.smtp import LocalProtocolError
from relay.message.envelope import Envelope
from relay.surroundings import Timeouts
from tests.world.mx import Mx, open_mx
from tests.world.process import PATIENCE_SECONDS
from tests.world.self_signed import self_signed_context

MESSAGE = b"From: ann@relay.test\r\nSubject: hello\r\n\r\n.Hello.\r\n.\r\n"
TLS = self_signed_context()


async def connect(
    mx: Mx, *, tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC, timeouts: Timeouts = Timeouts()
) -> Session:
    return await open_session("mx.test", mx.host, mx.port, ehlo_name="relay.test", tls=tls, timeouts=timeouts)


async def deliver(session: Session, local_part: str, message: bytes = MESSAGE) -> AttemptOutcome:
    """One delivery; the outcome must know whether the hook was called."""
    hooked = []

    async def before_final_dot() -> None:
        hooked.append(True)

    envelope = Envelope("ann@relay.test", f"{local_part}@mx.test", smtputf8=not local_part.isascii())
    outcome = await session.deliver(envelope, message, before_final_dot=before_final_dot)
    assert outcome.started == bool(hooked)
    return outcome


def with_mx(check: Callable[[Mx], Awaitable[None]], **options: Any) -> None:
    """Run `check` beside a receiver, which must have nothing to complain of."""

    async def main() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with open_mx(**options) as mx:
                await check(mx)
                assert mx.violations == []

    trio.run(main)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pipelining": False},
        {"pipelining": False, "size_max": None, "eight_bit_mime": False, "smtputf8": False},
        {"ehlo": False},
        {"tls": TLS},
        {"tls": TLS, "pipelining": False},
        {"drip_seconds": 0.0},
    ],
    ids=" ".join,
)
def test_two_messages_on_one_connection(options: dict[str, object]) -> None:
    async def check(mx: Mx) -> None:
        session = await connect(mx)
        for name in ("bob", "carol"):
            outcome = await deliver(session, name)
            assert outcome.verdict is DeliveryVerdict.SENT
            assert outcome.command is Command.END_OF_DATA
            assert (outcome.error, outcome.enhanced) == (None, "2.0.0")
            assert session.usable
        await session.quit()
        assert [message.data for message in mx.messages] == [MESSAGE, MESSAGE]
        assert [message.rcpt_to for message in mx.messages] == [("bob@mx.test",), ("carol@mx.test",)]
        assert {message.session for message in mx.messages} == {1}
        assert mx.commands[-1] == "QUIT"
        assert (session.tls is not None) == ("tls" in options)

    with_mx(check, **options)


@pytest.mark.parametrize(
    ("local_part", "verdict", "command", "code", "usable"),
    [
        ("tempfail", DeliveryVerdict.DEFERRED, Command.RCPT, 451, True),
        ("permfail", DeliveryVerdict.BOUNCED, Command.RCPT, 550, True),
        ("full", DeliveryVerdict.DEFERRED, Command.RCPT, 452, True),
        ("toomany", DeliveryVerdict.DEFERRED, Command.RCPT, 452, True),
        ("421", DeliveryVerdict.DEFERRED, Command.RCPT, 421, False),
        ("defer-message", DeliveryVerdict.DEFERRED, Command.END_OF_DATA, 451, True),
        ("refuse-message", DeliveryVerdict.BOUNCED, Command.END_OF_DATA, 554, True),
        ("refuse-early", DeliveryVerdict.BOUNCED, Command.END_OF_DATA, 552, None),
        ("close-after-message", DeliveryVerdict.SENT, Command.END_OF_DATA, 250, True),
    ],
)
@pytest.mark.parametrize("pipelining", [True, False])
def test_a_refusal(
    local_part: str,
    verdict: DeliveryVerdict,
    command: Command,
    code: int,
    usable: bool | None,
    pipelining: bool,
) -> None:
    async def check(mx: Mx) -> None:
        session = await connect(mx)
        outcome = await deliver(session, local_part)
        assert outcome.reply is not None
        assert (outcome.verdict, outcome.command, outcome.reply.code) == (verdict, command, code)
        # Whether the receiver's early refusal is heard before the dot is a matter of timing.
        assert usable is None or session.usable is usable
        if usable and local_part != "close-after-message":
            assert (await deliver(session, "bob")).verdict is DeliveryVerdict.SENT
        await session.quit()

    with_mx(check, pipelining=pipelining)


@pytest.mark.parametrize(
    ("local_part", "kind", "command"),
    [
        ("garbage", FailureKind.NOT_SMTP, Command.RCPT),
        ("huge", FailureKind.NOT_SMTP, Command.RCPT),
        ("reset", FailureKind.CLOSED, Command.RCPT),
        ("hang", FailureKind.TIMEOUT, Command.RCPT),
        ("disconnect-in-data", FailureKind.CLOSED, Command.END_OF_DATA),
        ("disconnect-after-dot", FailureKind.CLOSED, Command.END_OF_DATA),
        ("hang-after-dot", FailureKind.TIMEOUT, Command.END_OF_DATA),
    ],
)
@pytest.mark.parametrize("tls", [None, TLS], ids=["plain", "tls"])
def test_a_failure_is_one_outcome_and_the_next_connection_is_good(
    local_part: str, kind: FailureKind, command: Command, tls: object
) -> None:
    async def check(mx: Mx) -> None:
        # Only the answer that never comes is waited for briefly; time is virtual in test_before_the_dot.py.
        brief = {"hang": Timeouts(rcpt=0.2), "hang-after-dot": Timeouts(final_dot=0.2)}
        session = await connect(mx, timeouts=brief.get(local_part, Timeouts()))
        outcome = await deliver(session, local_part)
        assert outcome.failure is not None
        assert (outcome.verdict, outcome.failure.kind, outcome.command) == (
            DeliveryVerdict.DEFERRED,
            kind,
            command,
        )
        assert outcome.error
        assert outcome.judgement.blame_site
        assert not outcome.judgement.reconnect
        assert not session.usable
        session = await connect(mx)
        assert (await deliver(session, "bob")).verdict is DeliveryVerdict.SENT
        await session.quit()

    with_mx(check, tls=tls)


def test_a_big_message_is_refused_half_way_or_cut_off() -> None:
    message = b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" * 1_000_000

    async def check(mx: Mx) -> None:
        outcome = await deliver(await connect(mx), "refuse-early", message)
        assert outcome.reply is not None
        assert (outcome.reply.code, outcome.verdict, outcome.started) == (552, DeliveryVerdict.BOUNCED, False)
        outcome = await deliver(await connect(mx), "disconnect-in-data", message)
        assert outcome.failure is not None
        assert (outcome.failure.kind, outcome.started) == (FailureKind.CLOSED, False)
        session = await connect(mx)
        assert (await deliver(session, "bob", message)).verdict is DeliveryVerdict.SENT
        await session.quit()
        assert mx.messages[0].data == message

    with_mx(check)


def test_a_connection_that_the_receiver_gave_up_is_to_be_replaced_at_once() -> None:
    async def check(mx: Mx) -> None:
        session = await connect(mx)
        await deliver(session, "bob")
        outcome = await deliver(session, "carol")
        assert outcome.judgement.reconnect
        assert not outcome.started
        assert not session.usable
        session = await connect(mx)
        assert (await deliver(session, "close-after-message")).verdict is DeliveryVerdict.SENT
        mx.configure(messages_per_session=None)
        outcome = await deliver(session, "carol")
        assert outcome.judgement.reconnect
        assert not session.usable

    with_mx(check, messages_per_session=1)


@pytest.mark.parametrize(
    ("options", "command", "code"),
    [
        ({"banner": b"554 5.3.2 Not here"}, Command.BANNER, 554),
        ({"banner": b"421 Busy"}, Command.BANNER, 421),
    ],
)
def test_no_session_because_the_receiver_says_so(
    options: dict[str, object], command: Command, code: int
) -> None:
    async def check(mx: Mx) -> None:
        with pytest.raises(SessionFailed) as raised:
            await connect(mx)
        outcome = raised.value.outcome
        assert outcome.reply is not None
        assert (outcome.verdict, outcome.command, outcome.reply.code) == (
            DeliveryVerdict.DEFERRED,
            command,
            code,
        )
        assert outcome.judgement.blame_site
        assert str(code) in str(raised.value)

    with_mx(check, **options)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"banner": b"SSH-2.0-OpenSSH_9.2p1"}, FailureKind.NOT_SMTP),
        ({"huge_banner": True}, FailureKind.NOT_SMTP),
        ({"mute": True}, FailureKind.TIMEOUT),
        ({"tls": TLS, "starttls_injection": True}, FailureKind.NOT_SMTP),
    ],
)
def test_no_session_because_something_fails(options: dict[str, object], kind: FailureKind) -> None:
    async def check(mx: Mx) -> None:
        with pytest.raises(SessionFailed) as raised:
            await connect(mx, timeouts=Timeouts(banner=0.2) if mx.options.mute else Timeouts())
        assert raised.value.outcome.failure is not None
        assert raised.value.outcome.failure.kind is kind
        assert raised.value.outcome.verdict is DeliveryVerdict.DEFERRED

    with_mx(check, **options)


def test_nobody_listens() -> None:
    async def main() -> None:
        async with open_mx() as mx:
            pass
        with pytest.raises(SessionFailed) as raised:
            await connect(mx)
        assert raised.value.outcome.failure is not None
        assert raised.value.outcome.failure.kind is FailureKind.CONNECT

    trio.run(main)


def test_a_failed_handshake_can_be_followed_by_plain_text() -> None:
    async def check(mx: Mx) -> None:
        with pytest.raises(TlsFailed) as raised:
            await connect(mx)
        assert raised.value.outcome.failure is not None
        assert raised.value.outcome.failure.kind is FailureKind.TLS
        assert raised.value.outcome.enhanced == "4.7.5"
        session = await connect(mx, tls=TlsPolicy.NEVER)
        assert (await deliver(session, "bob")).verdict is DeliveryVerdict.SENT
        assert session.tls is None
        await session.quit()

    with_mx(check, starttls_broken=True)


def test_what_can_never_work_bounces_without_being_tried() -> None:
    async def check(mx: Mx) -> None:
        session = await connect(mx)
        outcome = await deliver(session, "jürgen")
        assert (outcome.verdict, outcome.enhanced) == (DeliveryVerdict.BOUNCED, "5.6.7")
        outcome = await deliver(session, "bob", "Grüße\r\n".encode())
        assert (outcome.verdict, outcome.enhanced) == (DeliveryVerdict.BOUNCED, "5.6.3")
        outcome = await deliver(session, "bob", b"x" * 99 + b"\r\n")
        assert (outcome.verdict, outcome.enhanced) == (DeliveryVerdict.BOUNCED, "5.3.4")
        assert session.transactions == 0
        assert session.usable
        assert "MAIL" not in mx.commands
        await session.quit()

    with_mx(check, smtputf8=False, eight_bit_mime=False, size_max=100)


def test_utf8_throughout() -> None:
    async def check(mx: Mx) -> None:
        session = await connect(mx)
        outcome = await deliver(session, "jürgen", "Subject: Grüße\r\n\r\nÄÖÜ\r\n".encode())
        assert outcome.verdict is DeliveryVerdict.SENT
        [message] = mx.messages
        assert message.rcpt_to == ("jürgen@mx.test",)
        assert message.smtputf8
        assert message.eight_bit
        await session.quit()

    with_mx(check)


def test_after_a_refusal_the_next_message_begins_with_a_reset() -> None:
    async def check(mx: Mx) -> None:
        session = await connect(mx)
        await deliver(session, "permfail")
        assert session.usable
        assert (await deliver(session, "bob")).verdict is DeliveryVerdict.SENT
        assert mx.commands.count("RSET") == 1
        await session.quit()
        await session.quit()
        assert not session.usable

    with_mx(check)


def test_our_own_mistake_is_no_outcome() -> None:
    async def check(mx: Mx) -> None:
        session = await connect(mx)
        with pytest.raises(LocalProtocolError):
            await deliver(session, "bob", b"a bare\nline feed\r\n")
        assert not session.usable
        assert "MAIL" not in mx.commands

    with_mx(check)
