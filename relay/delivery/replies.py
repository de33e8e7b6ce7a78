"""What a reply, or the lack of one, means for the recipient, the connection and the site.

The contract. `judge` is a pure function of what was said (a `SmtpReply` or a `Failure`), of whether the connection had
carried a transaction before, and of whether STARTTLS had been refused on it.
The rules are data, first match wins, each says why. In short:

- The first digit decides: 2 sent, 4 deferred, 5 bounced. An enhanced status code refines it (RFC 3463).
- Who spoke matters: a refusal before MAIL (banner, EHLO, STARTTLS) concerns us and our address, so it never
  charges the recipient, whatever its digit: another MX, or another day, may take the message.
- Silence, a lost connection and a stream that is no SMTP defer: nothing has been refused.
- What can never work bounces at once, without a receiver having been asked (SPEC.md, chapter 2).
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from relay.delivery.reply_reader import Capabilities, Command, SmtpReply
from relay.message.envelope import Envelope


class DeliveryVerdict(Enum):
    """What becomes of the recipient."""

    SENT = "sent"
    DEFERRED = "deferred"
    BOUNCED = "bounced"


class Judgement(msgspec.Struct, frozen=True, array_like=True):
    """What to do after an attempt."""

    verdict: DeliveryVerdict
    usable: bool
    """The connection can carry another transaction (after a RSET, where its state says so)."""
    blame_site: bool
    """Evidence that the receiving site is in trouble or wants less of us, not that one mailbox is."""
    reconnect: bool = False
    """The server had given up a resting connection: try again at once on a new one. Not an attempt."""
    in_plain_text: bool = False
    """The server refused STARTTLS and then hung up: it may be tried again at once without STARTTLS. Not an attempt."""


class FailureKind(Enum):
    """Why there is no reply to judge. The value is for programs and stays the same."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    CLOSED = "closed"
    NOT_SMTP = "not_smtp"
    TLS = "tls"
    ABANDONED = "abandoned"
    DNS = "dns"
    NO_SUCH_DOMAIN = "no_such_domain"
    NULL_MX = "null_mx"
    NO_ADDRESS = "no_address"
    FORBIDDEN_ADDRESS = "forbidden_address"
    LOOP = "loop"
    SITE_DOWN = "site_down"
    TOO_BIG = "too_big"
    NEEDS_8BITMIME = "needs_8bitmime"
    NEEDS_SMTPUTF8 = "needs_smtputf8"


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """Something other than a reply ended the attempt."""

    kind: FailureKind
    text: str
    """One sentence for people, with the evidence."""
    command: Command | None = None
    """What was under way; None: no dialogue had begun, or none was needed."""

    @property
    def enhanced(self) -> str:
        """The enhanced status code that RFC 3463 and its registry have for it, for the DSN."""
        return _FAILURES[self.kind].enhanced


@dataclass(frozen=True, slots=True)
class _FailureRule:
    enhanced: str
    verdict: DeliveryVerdict
    usable: bool
    blame_site: bool


_FAILURES: Final = {
    # The site does not answer, or not sensibly.
    FailureKind.CONNECT: _FailureRule("4.4.1", DeliveryVerdict.DEFERRED, usable=False, blame_site=True),
    FailureKind.TIMEOUT: _FailureRule("4.4.2", DeliveryVerdict.DEFERRED, usable=False, blame_site=True),
    FailureKind.CLOSED: _FailureRule("4.4.2", DeliveryVerdict.DEFERRED, usable=False, blame_site=True),
    FailureKind.NOT_SMTP: _FailureRule("4.5.0", DeliveryVerdict.DEFERRED, usable=False, blame_site=True),
    FailureKind.TLS: _FailureRule("4.7.5", DeliveryVerdict.DEFERRED, usable=False, blame_site=True),
    # Nobody was at home a moment ago (scheduler.py): not asked again for every single message.
    FailureKind.SITE_DOWN: _FailureRule("4.4.1", DeliveryVerdict.DEFERRED, usable=False, blame_site=False),
    # We hung up ourselves, shutting down.
    FailureKind.ABANDONED: _FailureRule("4.3.2", DeliveryVerdict.DEFERRED, usable=False, blame_site=False),
    # The name leads nowhere, for now or for good.
    FailureKind.DNS: _FailureRule("4.4.3", DeliveryVerdict.DEFERRED, usable=False, blame_site=False),
    FailureKind.NO_SUCH_DOMAIN: _FailureRule(
        "5.1.2", DeliveryVerdict.BOUNCED, usable=False, blame_site=False
    ),
    FailureKind.NULL_MX: _FailureRule("5.1.10", DeliveryVerdict.BOUNCED, usable=False, blame_site=False),
    FailureKind.NO_ADDRESS: _FailureRule("5.4.4", DeliveryVerdict.BOUNCED, usable=False, blame_site=False),
    FailureKind.FORBIDDEN_ADDRESS: _FailureRule(
        "5.4.4", DeliveryVerdict.BOUNCED, usable=False, blame_site=False
    ),
    FailureKind.LOOP: _FailureRule("5.4.6", DeliveryVerdict.BOUNCED, usable=False, blame_site=False),
    # This receiver can never take this message; the connection has not been touched.
    FailureKind.TOO_BIG: _FailureRule("5.3.4", DeliveryVerdict.BOUNCED, usable=True, blame_site=False),
    FailureKind.NEEDS_8BITMIME: _FailureRule("5.6.3", DeliveryVerdict.BOUNCED, usable=True, blame_site=False),
    FailureKind.NEEDS_SMTPUTF8: _FailureRule("5.6.7", DeliveryVerdict.BOUNCED, usable=True, blame_site=False),
}


@dataclass(frozen=True, slots=True)
class _ReplyRule:
    """Matches where every condition that is given holds."""

    why: str
    verdict: DeliveryVerdict
    usable: bool
    blame_site: bool
    digit: int | None = None
    codes: frozenset[int] | None = None
    commands: frozenset[Command] | None = None
    subjects: frozenset[str] | None = None
    """Beginnings of the enhanced code after its class, "" standing for a reply that has none."""
    words: str | None = None
    """Part of the text, in lower case."""


_NOT_ABOUT_THE_MESSAGE: Final = frozenset(Command) - {
    Command.MAIL,
    Command.RCPT,
    Command.DATA,
    Command.END_OF_DATA,
}

_REPLIES: Final = (
    _ReplyRule(
        "the receiver took responsibility (RFC 5321 section 4.2.5)",
        DeliveryVerdict.SENT,
        usable=True,
        blame_site=False,
        digit=2,
        commands=frozenset({Command.END_OF_DATA}),
    ),
    _ReplyRule(
        "the server is closing the channel, whatever was asked (RFC 5321 section 3.8)",
        DeliveryVerdict.DEFERRED,
        usable=False,
        blame_site=True,
        codes=frozenset({421}),
    ),
    _ReplyRule(
        "it refuses us, not the recipient",
        DeliveryVerdict.DEFERRED,
        usable=False,
        blame_site=True,
        commands=_NOT_ABOUT_THE_MESSAGE,
    ),
    _ReplyRule(
        "too many recipients: RFC 5321 section 4.5.3.1.10 has 552 mean 452 here",
        DeliveryVerdict.DEFERRED,
        usable=True,
        blame_site=False,
        codes=frozenset({452, 552}),
        commands=frozenset({Command.RCPT}),
        subjects=frozenset({"5.3"}),
    ),
    _ReplyRule(
        # Only where it says so: our transactions have one recipient each, and a bare 552 is a full mailbox, which
        # its server calls permanent (GMX does), as others do with 552 5.2.2.
        "the same without an enhanced code",
        DeliveryVerdict.DEFERRED,
        usable=True,
        blame_site=False,
        codes=frozenset({452, 552}),
        commands=frozenset({Command.RCPT}),
        subjects=frozenset({""}),
        words="too many recipients",
    ),
    _ReplyRule(
        "this mailbox, not the site: RFC 3463 section 3.2 and 3.3",
        DeliveryVerdict.DEFERRED,
        usable=True,
        blame_site=False,
        digit=4,
        subjects=frozenset({"1.", "2."}),
    ),
    _ReplyRule(
        "most likely this mailbox: greylisted, busy or full, without saying which",
        DeliveryVerdict.DEFERRED,
        usable=True,
        blame_site=False,
        digit=4,
        commands=frozenset({Command.RCPT}),
        subjects=frozenset({""}),
    ),
    _ReplyRule("not now", DeliveryVerdict.DEFERRED, usable=True, blame_site=True, digit=4),
    _ReplyRule("not ever", DeliveryVerdict.BOUNCED, usable=True, blame_site=False, digit=5),
)

# Up to the 354 nothing of the message has been taken: a connection that the server had given up while
# it rested may be replaced without anybody noticing.
_BEFORE_THE_BODY: Final = frozenset({Command.IDLE, Command.RSET, Command.MAIL, Command.RCPT, Command.DATA})


def judge(said: SmtpReply | Failure, *, reused: bool = False, tls_refused: bool = False) -> Judgement:
    """What follows from the reply or failure that decided an attempt.

    `reused`: the connection had carried a transaction before this one. `tls_refused`: it is in plain text because the
    server, which had offered STARTTLS, then refused it. A reply that decides nothing (a 2xx
    before the end of data) is a programmer's error.
    """
    rule: _FailureRule | _ReplyRule
    if isinstance(said, Failure):
        rule = _FAILURES[said.kind]
        # What makes no sense on a connection that has rested may be the end of something said long before.
        hung_up = said.kind is FailureKind.CLOSED or (reused and said.kind is FailureKind.NOT_SMTP)
    else:
        rule = _rule_for(said)
        hung_up = said.code == 421
    given_up = hung_up and said.command in _BEFORE_THE_BODY
    return Judgement(
        rule.verdict,
        rule.usable,
        rule.blame_site,
        reconnect=given_up and reused,
        in_plain_text=given_up and tls_refused and not reused,
    )


def _rule_for(reply: SmtpReply) -> _ReplyRule:
    decides = reply.command is Command.END_OF_DATA or not reply.accepts
    assert decides, f"{reply.code} to {reply.command.value} decides nothing"
    subject = reply.enhanced[2:] if reply.enhanced else ""
    for rule in _REPLIES:
        if (
            (rule.digit is None or reply.code // 100 == rule.digit)
            and (rule.codes is None or reply.code in rule.codes)
            and (rule.commands is None or reply.command in rule.commands)
            and (rule.subjects is None or any(_is_about(subject, wanted) for wanted in rule.subjects))
            and (rule.words is None or rule.words in reply.text.lower())
        ):
            return rule
    raise AssertionError(f"no rule for {reply.code} to {reply.command.value}")


def _is_about(subject: str, wanted: str) -> bool:
    """Whether `subject` ("5.3") is `wanted`, or within it where it ends in a dot ("5.")."""
    return subject == wanted or (wanted.endswith(".") and subject.startswith(wanted))


def why_unfit(capabilities: Capabilities, envelope: Envelope, message: bytes) -> Failure | None:
    """Why this receiver can never be given this message; None: it can be tried.

    RFC 1870 section 6.2, RFC 6152 section 3, RFC 6531 section 3.4.
    """
    if envelope.smtputf8 and not capabilities.smtputf8:
        return Failure(
            FailureKind.NEEDS_SMTPUTF8, "the receiver does not take non-ASCII addresses (SMTPUTF8)"
        )
    if not message.isascii() and not capabilities.eight_bit_mime:
        return Failure(FailureKind.NEEDS_8BITMIME, "the receiver does not take 8-bit content (8BITMIME)")
    if capabilities.size_max is not None and len(message) > capabilities.size_max:
        limit = f"{len(message)} octets are over the receiver's limit of {capabilities.size_max}"
        return Failure(FailureKind.TOO_BIG, limit)
    return None
