"""What each reply and each failure means: the rules of replies.py, read back as examples."""

import pytest
from msgspec.structs import replace

from relay.delivery.replies import DeliveryVerdict, Failure, FailureKind, Judgement, judge, why_unfit
from relay.delivery.reply_reader import Capabilities, Command, SmtpReply
from relay.message.envelope import Envelope

BEFORE_MAIL = [Command.BANNER, Command.EHLO, Command.HELO, Command.STARTTLS]
TRANSACTION = [Command.MAIL, Command.RCPT, Command.DATA, Command.END_OF_DATA]


def reply(command: Command, code: int, enhanced: str | None = None) -> SmtpReply:
    return SmtpReply(command, code, enhanced, (enhanced or "",))


def test_sent_is_2xx_to_the_end_of_data() -> None:
    assert judge(reply(Command.END_OF_DATA, 250)) == Judgement(
        DeliveryVerdict.SENT, usable=True, blame_site=False
    )


@pytest.mark.parametrize("command", [*BEFORE_MAIL, Command.MAIL, Command.RCPT, Command.RSET])
def test_2xx_to_anything_else_decides_nothing(command: Command) -> None:
    with pytest.raises(AssertionError):
        judge(reply(command, 250))


@pytest.mark.parametrize("command", [*BEFORE_MAIL, Command.RSET, Command.IDLE])
@pytest.mark.parametrize("code", [421, 450, 500, 521, 550, 554])
def test_a_refusal_before_mail_never_charges_the_recipient(command: Command, code: int) -> None:
    assert judge(reply(command, code)) == Judgement(DeliveryVerdict.DEFERRED, usable=False, blame_site=True)


@pytest.mark.parametrize("command", TRANSACTION)
@pytest.mark.parametrize(
    ("code", "enhanced", "verdict", "usable", "blame_site"),
    [
        (421, "4.7.0", DeliveryVerdict.DEFERRED, False, True),
        (421, None, DeliveryVerdict.DEFERRED, False, True),
        (451, "4.7.1", DeliveryVerdict.DEFERRED, True, True),
        (450, "4.2.1", DeliveryVerdict.DEFERRED, True, False),
        (452, "4.2.2", DeliveryVerdict.DEFERRED, True, False),
        (451, "4.3.0", DeliveryVerdict.DEFERRED, True, True),
        (550, "5.1.1", DeliveryVerdict.BOUNCED, True, False),
        (552, "5.2.2", DeliveryVerdict.BOUNCED, True, False),
        (552, "5.3.4", DeliveryVerdict.BOUNCED, True, False),
        (554, None, DeliveryVerdict.BOUNCED, True, False),
        (503, "5.5.1", DeliveryVerdict.BOUNCED, True, False),
        (571, "5.7.1", DeliveryVerdict.BOUNCED, True, False),
    ],
)
def test_a_refusal_in_the_transaction(
    command: Command,
    code: int,
    enhanced: str | None,
    verdict: DeliveryVerdict,
    usable: bool,
    blame_site: bool,
) -> None:
    assert judge(reply(command, code, enhanced)) == Judgement(verdict, usable, blame_site)


@pytest.mark.parametrize(
    ("command", "code", "enhanced", "verdict"),
    [
        (Command.RCPT, 452, "4.5.3", DeliveryVerdict.DEFERRED),
        (Command.RCPT, 452, None, DeliveryVerdict.DEFERRED),
        (Command.RCPT, 552, "5.5.3", DeliveryVerdict.DEFERRED),
        (Command.END_OF_DATA, 552, None, DeliveryVerdict.BOUNCED),
        (Command.RCPT, 552, "5.5.30", DeliveryVerdict.BOUNCED),
    ],
)
def test_too_many_recipients(
    command: Command, code: int, enhanced: str | None, verdict: DeliveryVerdict
) -> None:
    judgement = judge(reply(command, code, enhanced))
    assert judgement == Judgement(verdict, usable=True, blame_site=False)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Too many recipients in this session", DeliveryVerdict.DEFERRED),
        ("Requested mail action aborted: exceeded storage allocation", DeliveryVerdict.BOUNCED),
        ("", DeliveryVerdict.BOUNCED),
    ],
)
def test_a_bare_552_is_a_full_mailbox_unless_it_says_otherwise(text: str, verdict: DeliveryVerdict) -> None:
    judgement = judge(SmtpReply(Command.RCPT, 552, None, (text,)))
    assert judgement == Judgement(verdict, usable=True, blame_site=False)


def test_a_4xx_without_an_enhanced_code_is_the_mailbox_at_rcpt_and_the_site_elsewhere() -> None:
    assert not judge(reply(Command.RCPT, 450)).blame_site
    assert judge(reply(Command.MAIL, 450)).blame_site
    assert judge(reply(Command.END_OF_DATA, 451)).blame_site


@pytest.mark.parametrize("command", [Command.IDLE, Command.RSET, Command.MAIL, Command.RCPT, Command.DATA])
def test_a_resting_connection_that_was_given_up_is_replaced(command: Command) -> None:
    closed = Failure(FailureKind.CLOSED, "closed", command)
    assert judge(reply(command, 421), reused=True).reconnect
    assert judge(closed, reused=True).reconnect
    assert not judge(reply(command, 421)).reconnect
    assert not judge(closed).reconnect
    assert not judge(reply(command, 450), reused=True).reconnect
    assert not judge(Failure(FailureKind.TIMEOUT, "no answer", command), reused=True).reconnect


def test_once_the_body_is_on_its_way_nothing_is_replaced_unnoticed() -> None:
    assert not judge(reply(Command.END_OF_DATA, 421), reused=True).reconnect
    assert not judge(Failure(FailureKind.CLOSED, "closed", Command.END_OF_DATA), reused=True).reconnect


def test_who_refused_starttls_and_then_hangs_up_may_be_tried_in_plain_text() -> None:
    closed = Failure(FailureKind.CLOSED, "closed", Command.MAIL)
    assert judge(closed, tls_refused=True).in_plain_text
    assert judge(reply(Command.MAIL, 421), tls_refused=True).in_plain_text
    assert not judge(closed).in_plain_text
    assert not judge(reply(Command.MAIL, 450), tls_refused=True).in_plain_text
    assert not judge(replace(closed, command=Command.END_OF_DATA), tls_refused=True).in_plain_text
    # It had carried mail like that: it was only resting for too long.
    again = judge(closed, tls_refused=True, reused=True)
    assert (again.reconnect, again.in_plain_text) == (True, False)


@pytest.mark.parametrize("kind", FailureKind)
def test_a_failure_bounces_exactly_where_its_enhanced_code_says_so(kind: FailureKind) -> None:
    failure = Failure(kind, "a sentence")
    verdict = judge(failure).verdict
    assert {"4": DeliveryVerdict.DEFERRED, "5": DeliveryVerdict.BOUNCED}[failure.enhanced[0]] is verdict


def test_a_site_is_blamed_for_what_fails_on_its_side_and_for_nothing_else() -> None:
    blamed = {kind for kind in FailureKind if judge(Failure(kind, "a sentence")).blame_site}
    assert blamed == {
        FailureKind.CONNECT,
        FailureKind.TIMEOUT,
        FailureKind.CLOSED,
        FailureKind.NOT_SMTP,
        FailureKind.TLS,
    }


def test_what_the_receiver_can_never_take() -> None:
    message = "Subject: Grüße\r\n\r\nHello.\r\n".encode()
    everything = Capabilities(extended=True, eight_bit_mime=True, smtputf8=True)
    utf8 = Envelope("ann@relay.test", "jürgen@mx.example", smtputf8=True)
    ascii_only = Envelope("ann@relay.test", "bob@mx.example")

    def kind(
        capabilities: Capabilities, envelope: Envelope, message: bytes
    ) -> tuple[FailureKind, str] | None:
        failure = why_unfit(capabilities, envelope, message)
        return (failure.kind, failure.enhanced) if failure else None

    assert kind(everything, utf8, message) is None
    assert kind(Capabilities(), ascii_only, b"Hello.\r\n") is None
    assert kind(Capabilities(eight_bit_mime=True), utf8, message) == (FailureKind.NEEDS_SMTPUTF8, "5.6.7")
    assert kind(Capabilities(), ascii_only, message) == (FailureKind.NEEDS_8BITMIME, "5.6.3")
    assert kind(Capabilities(size_max=8), ascii_only, b"Hello.\r\n") is None
    assert kind(Capabilities(size_max=7), ascii_only, b"Hello.\r\n") == (FailureKind.TOO_BIG, "5.3.4")
