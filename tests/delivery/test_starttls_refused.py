"""A receiver that offers STARTTLS and cannot keep the offer: its mail goes in plain text, where that is allowed.

However it fails: it hangs up at the command, after a 454, in the handshake, or at the first word under TLS.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from relay.delivery.replies import FailureKind
from relay.delivery.session import SessionFailed, TlsFailed, TlsPolicy, open_session
from relay.surroundings import Timeouts
from tests.world.mx import Mx, open_mx
from tests.world.process import PATIENCE_SECONDS
from tests.world.relay import make_directory, open_world, run
from tests.world.self_signed import self_signed_context

TLS = self_signed_context()

#: What the receiver does instead of TLS. The session cannot come about.
NO_SESSION = [
    "hang-up",
    "silence",
    "rubbish",
    "421",
    "hang-up-in-handshake",
    "hang-up-after-handshake",
]
#: The session comes about in plain text, and the receiver hangs up on it.
HUNG_UP_LATER = ["refuse-and-hang-up", "refuse-and-hang-up-later", "refuse-and-421-later"]


def never(directory: Path) -> Path:
    """The same relay, which may not fall back to plain text."""
    config = directory / "relay.toml"
    config.write_text(
        config.read_text().replace("[delivery]\n", "[delivery]\nplaintext_after_tls_failure = false\n")
    )
    return directory


@pytest.mark.parametrize("trouble", NO_SESSION)
def test_no_tls_is_a_failed_handshake(trouble: str) -> None:
    async def check(mx: Mx) -> None:
        timeouts = Timeouts(starttls=0.2)
        with pytest.raises(TlsFailed) as raised:
            await open_session("mx.test", mx.host, mx.port, ehlo_name="relay.test", timeouts=timeouts)
        outcome = raised.value.outcome
        if trouble == "421":  # the receiver's own words stay
            assert outcome.reply is not None
            assert outcome.reply.code == 421
        else:
            assert outcome.failure is not None
            assert outcome.failure.kind is FailureKind.TLS
            assert outcome.failure.text.startswith("STARTTLS: ")
        assert outcome.judgement.blame_site
        session = await open_session("mx.test", mx.host, mx.port, ehlo_name="relay.test", tls=TlsPolicy.NEVER)
        await session.quit()

    with_mx(check, starttls_trouble=trouble)


def test_injected_plain_text_is_an_attack_and_not_a_failed_handshake() -> None:
    async def check(mx: Mx) -> None:
        with pytest.raises(SessionFailed) as raised:
            await open_session("mx.test", mx.host, mx.port, ehlo_name="relay.test")
        assert not isinstance(raised.value, TlsFailed)

    with_mx(check, starttls_injection=True)


@pytest.mark.parametrize("trouble", [*NO_SESSION, *HUNG_UP_LATER, "refuse"])
def test_the_mail_goes_in_plain_text_at_the_first_attempt(tmp_path: Path, trouble: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", tls=TLS, starttls_trouble=trouble) as world:
            messages = [await world.until_final(await world.send()) for _ in range(2)]
            for message in messages:
                assert (message["status"], message["attempts"]) == ("sent", 1)
                assert "tls" not in message["timeline"][-1]
            assert len(world.mx.messages) == 2
            assert world.mx.violations == []

    run(main)


@pytest.mark.parametrize("trouble", [*NO_SESSION, *HUNG_UP_LATER])
def test_where_plain_text_is_not_allowed_it_is_deferred(tmp_path: Path, trouble: str) -> None:
    async def main() -> None:
        directory = never(make_directory(tmp_path / "data"))
        async with open_world(directory, tls=TLS, starttls_trouble=trouble) as world:
            message_id = await world.send()
            deferred = await world.until(message_id, "deferred")
            assert deferred["lastReply"]["text"]
            assert world.mx.messages == []
            world.mx.configure(starttls_trouble="")
            assert (await world.until_final(message_id))["status"] == "sent"
            assert world.mx.messages[0].tls == "TLSv1.3"

    run(main)


def test_who_hangs_up_on_plain_text_as_well_is_deferred_after_one_more_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(
            tmp_path / "data", tls=TLS, starttls_trouble="refuse-and-hang-up", messages_per_session=0
        ) as world:
            message_id = await world.send()
            deferred = await world.until(message_id, "deferred")
            assert deferred["lastReply"]["code"] == 421
            assert world.mx.sessions == 2

    run(main)


def with_mx(check: Callable[[Mx], Awaitable[None]], **options: object) -> None:
    async def main() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with open_mx(tls=TLS, **options) as mx:
                await check(mx)
                assert mx.violations == []

    trio.run(main)
