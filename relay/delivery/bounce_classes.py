"""Why a message was deferred or bounced, in one word of a small vocabulary, for people and for graphs.

The contract. `classify` is a pure function of what was said (a `SmtpReply` or a `Failure`). It never fails, always
gives the same word for the same reply, and decides nothing: what becomes of the message is for `replies.judge`. A
message that was sent has no class.

The words are those of KumoMTA's bounce classification (its `PreDefinedBounceClass`, written as our other words
are), so that whoever knows them can compare. Left out are those that a reply to us can never mean: automatic
replies, challenges, (un)subscriptions, and `RelayingIssues` beside `relay_denied`.

The rules are data, first match wins, each says why. They go from the telling to the vague:

1. *Phrases* that a provider uses for one thing only. Half of all refusals say 5.7.1, and only the text says more.
2. The *enhanced status code*: RFC 3463 and its registry at IANA. Our words follow KumoMTA's `iana.toml`, but where
   that calls nearly all of X.7 authentication, or X.6 protocol, the registry's meaning of each code decides here.
3. Vague phrases, then the bare code (RFC 5321 section 4.2.3), then the first digit.

A phrase is a sequence of whole words, sought among the reply's (lower case, punctuation aside, in its first
`TEXT_CHARACTERS_MAX` characters): no regular expression that a receiver could make slow. A word with an `@` is not
looked at, so that an address which a reply quotes (`spam@…`) tells nothing. `tests/bounce_corpus.txt` has a reply
for every rule, phrase and status.

What answers no reply: a message whose time was over before it could be tried is `message_expired`; one that was given
up after an attempt has that attempt's class (its `reason` says that it was given up); one that could not be signed is
`bad_configuration`. `suppressed` and `cancelled` have none, for nobody refused.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relay.delivery.replies import Failure, FailureKind
from relay.delivery.reply_reader import Command, SmtpReply

TEXT_CHARACTERS_MAX: Final = 1000


class BounceClass(StrEnum):
    """The value is for programs and stays the same. docs/BOUNCE_CLASSES.md says what each means."""

    INVALID_RECIPIENT = "invalid_recipient"
    INACTIVE_MAILBOX = "inactive_mailbox"
    QUOTA_ISSUES = "quota_issues"
    BAD_DOMAIN = "bad_domain"
    INVALID_SENDER = "invalid_sender"
    AUTHENTICATION_FAILED = "authentication_failed"
    SPAM_BLOCK = "spam_block"
    SPAM_CONTENT = "spam_content"
    SPAM_RELATED = "spam_related"
    POLICY_RELATED = "policy_related"
    CONTENT_RELATED = "content_related"
    PROHIBITED_ATTACHMENT = "prohibited_attachment"
    VIRUS_RELATED = "virus_related"
    RELAY_DENIED = "relay_denied"
    TOO_MANY_RECIPIENTS = "too_many_recipients"
    ROUTING_ERRORS = "routing_errors"
    DNS_FAILURE = "dns_failure"
    BAD_CONFIGURATION = "bad_configuration"
    BAD_CONNECTION = "bad_connection"
    NO_ANSWER_FROM_HOST = "no_answer_from_host"
    PROTOCOL_ERRORS = "protocol_errors"
    MESSAGE_EXPIRED = "message_expired"
    TRANSIENT_FAILURE = "transient_failure"
    UNCATEGORIZED = "uncategorized"


_FAILURES: Final = {
    FailureKind.CONNECT: BounceClass.NO_ANSWER_FROM_HOST,
    FailureKind.SITE_DOWN: BounceClass.TRANSIENT_FAILURE,
    FailureKind.TIMEOUT: BounceClass.BAD_CONNECTION,
    FailureKind.CLOSED: BounceClass.BAD_CONNECTION,
    FailureKind.NOT_SMTP: BounceClass.PROTOCOL_ERRORS,
    FailureKind.TLS: BounceClass.BAD_CONFIGURATION,
    FailureKind.ABANDONED: BounceClass.TRANSIENT_FAILURE,
    FailureKind.DNS: BounceClass.DNS_FAILURE,
    FailureKind.NO_SUCH_DOMAIN: BounceClass.BAD_DOMAIN,
    FailureKind.NULL_MX: BounceClass.BAD_DOMAIN,
    FailureKind.NO_ADDRESS: BounceClass.ROUTING_ERRORS,
    FailureKind.FORBIDDEN_ADDRESS: BounceClass.ROUTING_ERRORS,
    FailureKind.LOOP: BounceClass.ROUTING_ERRORS,
    FailureKind.TOO_BIG: BounceClass.QUOTA_ISSUES,  # where iana.toml has X.3.4
    FailureKind.NEEDS_8BITMIME: BounceClass.PROTOCOL_ERRORS,
    FailureKind.NEEDS_SMTPUTF8: BounceClass.PROTOCOL_ERRORS,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches where every condition that is given holds."""

    bounce_class: BounceClass
    why: str
    phrases: tuple[str, ...] = ()
    """One of them is among the reply's words."""
    statuses: tuple[str, ...] = ()
    """Enhanced codes after their class: "1.1", all of "7." where it ends in a dot, "" for a reply without one."""
    digit: int | None = None
    codes: tuple[int, ...] = ()
    commands: tuple[Command, ...] = ()


RULES: Final = (
    # ------------------------------------------------------------------------ 1. phrases that mean one thing
    Rule(
        BounceClass.TOO_MANY_RECIPIENTS,
        "RFC 5321 section 4.5.3.1.10 and wording used by Postfix, Exim and Exchange",
        phrases=("too many recipients",),
    ),
    Rule(
        BounceClass.SPAM_BLOCK,
        "Gmail's rate limits name the identifier they count by (SPF or DKIM domain), which did not fail",
        phrases=("unusual rate of",),
    ),
    Rule(
        BounceClass.VIRUS_RELATED,
        "wording used by ClamAV milters, Exim and gateways; a 4xx only says that the scanner is down",
        phrases=("virus", "malware", "infected"),
        digit=5,
    ),
    Rule(
        BounceClass.PROHIBITED_ATTACHMENT,
        "wording used by Gmail (BlockedMessage), amavis, Mimecast and Postfix's mime_header_checks guides",
        phrases=(
            "potential security issue",
            "blockedmessage",
            "attachment type",
            "banned",
            "prohibited attachment",
        ),
        statuses=("7.0", "7.1", ""),
        commands=(Command.END_OF_DATA,),
    ),
    Rule(
        BounceClass.AUTHENTICATION_FAILED,
        "wording used by Gmail, Outlook, Yahoo and Mimecast for SPF, DKIM and DMARC",
        phrases=("dmarc", "dkim", "spf", "sender policy framework", "unauthenticated"),
    ),
    Rule(
        BounceClass.AUTHENTICATION_FAILED,
        "our address's name or our greeting is not believed: wording used by Postfix, Exim and Comcast",
        phrases=(
            "reverse hostname",
            "reverse dns",
            "ptr",
            "cannot find your hostname",
            "helo command rejected",
        ),
    ),
    Rule(
        BounceClass.SPAM_CONTENT,
        "lists of what stands *in* messages, not of who sends them: wording used by SpamAssassin and amavis set-ups",
        phrases=("surbl", "uribl", "dbl"),
    ),
    Rule(
        BounceClass.SPAM_BLOCK,
        "names of public lists of senders",
        phrases=("spamhaus", "spamcop", "barracudacentral", "sorbs", "uceprotect"),
    ),
    Rule(
        BounceClass.SPAM_BLOCK,
        "wording used by Postfix, Exim, GMX, iCloud and Cloudflare for such lists and their own",
        phrases=(
            "blocked using",
            "blocklist",
            "block list",
            "blacklist",
            "blacklisted",
            "black listed",
            "dnsbl",
            "dnsbls",
            "rbl",
            "rbls",
        ),
    ),
    Rule(
        BounceClass.SPAM_BLOCK,
        "wording used by Outlook, Yahoo, Gmail, Proofpoint, Cisco, Comcast, AT&T, mail.ru and T-Online for our address",
        phrases=(
            "reputation",
            "banned sending ip",
            "tss04",
            "user complaints",
            "ipcheck",
            "blocked for abuse",
            "access from ip address",
            "ask your postmaster for help",
        ),
    ),
    Rule(
        BounceClass.SPAM_CONTENT,
        "wording used by Gmail, Exchange, SpamAssassin, Yandex and mail.ru for the message itself",
        phrases=(
            "unsolicitedmessageerror",
            "likely unsolicited",
            "rejected as spam",
            "classified as spam",
            "considered spam",
            "identified as spam",
            "suspicion of spam",
            "looks like spam",
            "spam message",
            "spam score",
            "spam detected",
            "spam content",
        ),
    ),
    Rule(
        BounceClass.QUOTA_ISSUES,
        "wording used by Gmail, Exchange, Postfix, Dovecot, Exim, iCloud and Yahoo for a full mailbox",
        phrases=(
            "overquota",
            "overquotatemp",
            "over quota",
            "quota exceeded",
            "exceeds quota",
            "exceeded storage",
            "out of storage",
            "mailbox full",
            "mailbox is full",
            "inbox is full",
            "insufficient system storage",
        ),
    ),
    Rule(
        BounceClass.QUOTA_ISSUES,
        "wording used by Postfix, Exim, Sendmail and Exchange for a message over the limit (iana.toml has X.3.4 here)",
        phrases=(
            "message too big",
            "message too large",
            "message size exceeds",
            "message is too large",
            "size limit",
        ),
    ),
    Rule(
        BounceClass.INACTIVE_MAILBOX,
        "wording used by Gmail, Yahoo, mail.ru, Zoho and Exim for an account that is switched off",
        phrases=(
            "disabled",
            "inactive",
            "account suspended",
            "account has been suspended",
            "account closed",
            "no longer active",
        ),
    ),
    Rule(
        BounceClass.RELAY_DENIED,
        "wording used by Postfix, Sendmail, Exim, Exchange and qmail",
        phrases=(
            "relay access denied",
            "relaying denied",
            "relay not permitted",
            "unable to relay",
            "relaying not allowed",
            "rcpthosts",
        ),
    ),
    Rule(
        BounceClass.INVALID_SENDER,
        "wording used by Postfix, Sendmail, Exim, qmail, GMX and Yahoo",
        phrases=(
            "badmailfrom",
            "sender address rejected",
            "sender verify failed",
            "domain of sender address",
            "sender rejected",
            "sender denied",
            "invalid sender",
            "invalid dns mx",
        ),
    ),
    Rule(
        BounceClass.TRANSIENT_FAILURE,
        "greylisting, whatever code it comes with: wording used by postgrey, Exim, mail.ru and Fastmail",
        phrases=("greylisted", "greylisting", "greylist", "graylisted", "postgrey"),
        digit=4,
    ),
    Rule(
        BounceClass.TRANSIENT_FAILURE,
        "fewer of us, later. Gmail says 4.2.1 for it, which is a disabled mailbox by the registry",
        phrases=(
            "rate limit",
            "rate limited",
            "receiving mail at a rate",
            "receiving mail too quickly",
            "too many connections",
            "throttled",
        ),
        digit=4,
    ),
    Rule(
        BounceClass.ROUTING_ERRORS,
        "wording used by Postfix, Sendmail, Exim and Exchange; some say 5.4.0 or 5.0.0 with it",
        phrases=("too many hops", "loops back to myself", "loop detected", "too many received headers"),
    ),
    Rule(
        BounceClass.CONTENT_RELATED,
        "wording used by Gmail, Postfix's header_checks and Exim for a message that is not as it should be",
        phrases=("5322 compliant", "rfc 5322", "message content rejected", "header syntax", "bare lf"),
    ),
    Rule(
        BounceClass.BAD_DOMAIN,
        "wording used by Postfix, Exim and Zoho; before the same verb said of a mailbox",
        phrases=("domain does not exist", "domain not found", "unknown domain", "does not accept mail"),
    ),
    Rule(
        BounceClass.INVALID_RECIPIENT,
        "Exchange Online knows its recipients at the edge, and says 5.4.1 of those whom it does not",
        phrases=("recipient address rejected access denied",),
        statuses=("4.1",),
    ),
    Rule(
        BounceClass.POLICY_RELATED,
        "Zoho says 5.4.1 where the recipient's domain has filtered the message out",
        phrases=("rejected by destination domain",),
        statuses=("4.1",),
    ),
    Rule(
        BounceClass.INVALID_RECIPIENT,
        "wording used by Postfix, Sendmail, Exim, qmail, Gmail, Exchange, Yahoo, mail.ru, Zoho and Mimecast",
        phrases=(
            "user unknown",
            "unknown user",
            "no such user",
            "nosuchuser",
            "user not found",
            "user doesn t have",
            "recipient not found",
            "recipientnotfound",
            "invalid recipient",
            "recipient unknown",
            "unknown recipient",
            "no mailbox here",
            "no such mailbox",
            "mailbox not found",
            "invalid mailbox",
            "address unknown",
            "does not exist",
            "doesn t exist",
            "not found by smtp address lookup",
            "unrouteable address",
        ),
    ),
    # ------------------------------------------------------------------------ 2. the enhanced status code
    Rule(
        BounceClass.INVALID_RECIPIENT,
        "RFC 3463 X.1.1, X.1.3, X.1.4, X.2.4 (mailing list expansion), RFC 7293 X.7.17 (another owner)",
        statuses=("1.1", "1.3", "1.4", "2.4", "7.17"),
    ),
    Rule(
        BounceClass.BAD_DOMAIN,
        "RFC 3463 X.1.2, RFC 7505 X.1.10 (null MX), RFC 7293 X.7.18 (another owner)",
        statuses=("1.2", "1.10", "7.18"),
    ),
    Rule(
        BounceClass.INACTIVE_MAILBOX,
        "RFC 3463 X.1.6 (has moved), X.2.1 (disabled), RFC 5248 X.7.13 (account disabled)",
        statuses=("1.6", "2.1", "7.13"),
    ),
    Rule(
        BounceClass.INVALID_SENDER,
        "RFC 3463 X.1.7, X.1.8, RFC 7505 X.7.27 (the sender's domain has a null MX)",
        statuses=("1.7", "1.8", "7.27"),
    ),
    Rule(
        BounceClass.QUOTA_ISSUES,
        "RFC 3463 X.2.2, X.2.3, X.3.1, X.3.4: something is full, or the message too big for it",
        statuses=("2.2", "2.3", "3.1", "3.4"),
    ),
    Rule(BounceClass.BAD_CONFIGURATION, "RFC 3463 X.3.5: system incorrectly configured", statuses=("3.5",)),
    Rule(BounceClass.NO_ANSWER_FROM_HOST, "RFC 3463 X.4.1", statuses=("4.1",)),
    Rule(BounceClass.BAD_CONNECTION, "RFC 3463 X.4.2", statuses=("4.2",)),
    Rule(BounceClass.DNS_FAILURE, "RFC 3463 X.4.3: directory server failure", statuses=("4.3",)),
    Rule(BounceClass.ROUTING_ERRORS, "RFC 3463 X.4.4, X.4.6", statuses=("4.4", "4.6")),
    Rule(BounceClass.TRANSIENT_FAILURE, "RFC 3463 X.4.5: congestion", statuses=("4.5",)),
    Rule(BounceClass.MESSAGE_EXPIRED, "RFC 3463 X.4.7", statuses=("4.7",)),
    Rule(BounceClass.TOO_MANY_RECIPIENTS, "RFC 3463 X.5.3", statuses=("5.3",)),
    Rule(
        BounceClass.PROTOCOL_ERRORS,
        "RFC 3463 X.5, and what the receiver's protocol cannot carry: X.6.3, RFC 6531 X.6.7",
        statuses=("5.", "6.3", "6.7"),
    ),
    Rule(BounceClass.CONTENT_RELATED, "RFC 3463 X.6: message content or media", statuses=("6.",)),
    Rule(
        BounceClass.AUTHENTICATION_FAILED,
        "RFC 7372 X.7.20 to X.7.26 (DKIM, SPF, reverse DNS), RFC 8617 X.7.29 (ARC)",
        statuses=("7.20", "7.21", "7.22", "7.23", "7.24", "7.25", "7.26", "7.29"),
    ),
    Rule(BounceClass.POLICY_RELATED, "the registry's X.7.28: mail flood detected", statuses=("7.28",)),
    # ------------------------------------------------------------------------ 3. vague phrases, codes, digits
    Rule(
        BounceClass.SPAM_RELATED,
        "spam, without saying whether it is we or the message",
        phrases=("spam", "unsolicited", "phishing", "abuse"),
    ),
    Rule(
        BounceClass.BAD_CONFIGURATION,
        "it offered STARTTLS and cannot do it (RFC 3207 section 4)",
        commands=(Command.STARTTLS,),
    ),
    Rule(
        BounceClass.TRANSIENT_FAILURE,
        "4.7.0 and 4.7.1 without a telling word are most often greylisting or haste",
        statuses=("7.",),
        digit=4,
    ),
    Rule(BounceClass.POLICY_RELATED, "RFC 3463 X.7: security or policy", statuses=("7.",), digit=5),
    Rule(
        BounceClass.POLICY_RELATED,
        "wording used by GMX, Mimecast, MessageLabs, Barracuda and Exim",
        phrases=(
            "policy",
            "policies",
            "access denied",
            "not authorized",
            "administrative prohibition",
            "permanent failure for one or more recipients",
        ),
        digit=5,
    ),
    Rule(
        BounceClass.INVALID_RECIPIENT,
        "RFC 5321 section 4.2.3: mailbox unavailable, not local, or its name not allowed",
        statuses=("", "0.0", "1.0", "2.0"),
        codes=(550, 551, 553),
        commands=(Command.RCPT,),
    ),
    Rule(
        BounceClass.INVALID_SENDER,
        "RFC 5321 section 4.2.3: mailbox name not allowed",
        codes=(553,),
        commands=(Command.MAIL,),
    ),
    Rule(BounceClass.QUOTA_ISSUES, "RFC 5321 section 4.2.3: storage", codes=(452, 552)),
    Rule(
        BounceClass.BAD_DOMAIN,
        "RFC 7504: host or domain takes no mail at all, which it says before it is sent any",
        codes=(521, 556),
        commands=(Command.BANNER, Command.EHLO, Command.HELO, Command.MAIL, Command.RCPT),
    ),
    Rule(
        BounceClass.PROTOCOL_ERRORS,
        "RFC 5321 section 4.2.3: a command or parameter was not understood",
        codes=(500, 501, 502, 503, 504, 555),
    ),
    Rule(
        BounceClass.AUTHENTICATION_FAILED,
        "RFC 4954 section 6: it wants us to log in",
        codes=(530, 535),
    ),
    Rule(
        BounceClass.POLICY_RELATED,
        "refused before it could know the sender, and it does not say why",
        commands=(Command.BANNER, Command.EHLO, Command.HELO),
        digit=5,
    ),
    Rule(BounceClass.TRANSIENT_FAILURE, "not now, and it does not say why", digit=4),
    Rule(BounceClass.UNCATEGORIZED, "not ever, and it does not say why", digit=5),
)


def classify(said: SmtpReply | Failure) -> BounceClass | None:
    """The class of the reply or failure that decided an attempt; None where that was success."""
    if isinstance(said, Failure):
        return _FAILURES[said.kind]
    rule = rule_for(said)
    return rule.bounce_class if rule else None


def rule_for(reply: SmtpReply) -> Rule | None:
    """The rule that classifies the reply. None for success: the last two rules take every refusal."""
    if reply.accepts:
        return None
    words = words_of(reply.text)
    status = reply.enhanced[2:] if reply.enhanced else ""
    return next((rule for rule in RULES if _matches(rule, reply, status, words)), None)


def _matches(rule: Rule, reply: SmtpReply, status: str, words: str) -> bool:
    return (
        (rule.digit is None or reply.code // 100 == rule.digit)
        and (not rule.codes or reply.code in rule.codes)
        and (not rule.commands or reply.command in rule.commands)
        and (not rule.statuses or any(is_about(status, wanted) for wanted in rule.statuses))
        and (not rule.phrases or any(f" {phrase} " in words for phrase in rule.phrases))
    )


def is_about(status: str, wanted: str) -> bool:
    """Whether `status` ("7.1") is `wanted`, or within it where it ends in a dot ("7.")."""
    return status == wanted or (wanted.endswith(".") and status.startswith(wanted))


def words_of(text: str) -> str:
    """The text's words with one space around each, without addresses."""
    kept = (word for word in text[:TEXT_CHARACTERS_MAX].lower().split() if "@" not in word)
    plain = "".join(character if character.isalnum() else " " for character in " ".join(kept))
    return f" {' '.join(plain.split())} "
