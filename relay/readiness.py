"""What mailbox providers demand of who sends to them, and whether this relay's mail does it, as far as the relay knows.

Contract. `judged` is a pure function of what is known of one provider, and gives one verdict a demand: `met`,
`not_met`, or `unseen`. **What the relay cannot see is never met**: then the verdict says who can. Every verdict names
what shows it: events, what was counted, a setting, or the command that looks.

The demands are the providers' own, with the date since which they hold. Those for large senders are judged for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from relay.views.counting import Traffic

Word: TypeAlias = Literal["met", "not_met", "unseen"]
Level: TypeAlias = Literal["good", "warn", "red"]

#: Google and Yahoo: below 0.1 %, and never as much as 0.3 %.
SPAM_RATE_WARN: Final = 0.001
SPAM_RATE_RED: Final = 0.003
LARGE_PER_DAY: Final = 5_000

#: Who sends a report of each complaint, to who has asked for it. Others never tell: of mail to them there is no rate of
#: complaints, and no complaint does not mean a rate of 0.
TELL_OF_COMPLAINTS: Final = frozenset(
    {"yahoo", "microsoft", "comcast", "fastmail", "proton", "zoho", "mail_ru", "laposte", "orange", "seznam"}
)


class Reported(NamedTuple):
    """A word of the provider's, from `provider.reported`."""

    domain: str
    date: str
    spam_rate: float | None
    compliance: Mapping[str, str]


class Known(NamedTuple):
    """What is known of one provider."""

    total: Traffic
    #: How many days that is.
    days: int
    #: The most messages that were accepted for it on one day.
    busiest_day: int
    #: Of the domains that send to it: how many, those whose DNS records were wrong when they were looked at last, and
    #: those of which nothing is known.
    domains: int
    failing: Sequence[str]
    unseen: Sequence[str]
    #: People can be led to `public_url` over TLS.
    is_https: bool
    reported: Sequence[Reported] = ()


class Verdict(NamedTuple):
    demand: str
    says: str
    since: str
    #: So much mail a day makes it apply; 0: any.
    from_per_day: int
    word: Word
    #: In a sentence: why.
    because: str
    shown_by: str


class _Judged(NamedTuple):
    word: Word
    because: str
    shown_by: str


class _Demand(NamedTuple):
    name: str
    says: str
    since: str
    judge: Callable[[Known], _Judged]
    from_per_day: int = 0


def spam_level(rate: float) -> Level:
    if rate >= SPAM_RATE_RED:
        return "red"
    return "warn" if rate >= SPAM_RATE_WARN else "good"


def complaint_rate(provider: str, total: Traffic) -> float | None:
    """Complaints of what was sent; None: unknown, because nothing was sent, or the provider tells of none."""
    if not total.sent or (provider not in TELL_OF_COMPLAINTS and not total.complaints):
        return None
    return total.complaints / total.sent


def judged(provider: str, known: Known) -> list[Verdict]:
    return [
        Verdict(demand.name, demand.says, demand.since, demand.from_per_day, *demand.judge(known))
        for demand in _DEMANDS.get(provider, _OF_ANYBODY)
    ]


# ------------------------------------------------------------------------------------------------ one demand each


def _times(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _of_class(known: Known, name: str) -> int:
    return known.total.bounced.get(name, 0) + known.total.deferred.get(name, 0)


def _authentication(known: Known) -> _Judged:
    refused = _of_class(known, "authentication_failed")
    if refused:
        return _Judged(
            "not_met",
            f"{_times(refused, 'refusal')} of class authentication_failed in {_times(known.days, 'day')}",
            "message.bounced and message.deferred: `find --class authentication_failed` lists them",
        )
    if known.failing:
        return _Judged(
            "not_met",
            f"the DNS records of {', '.join(known.failing)} were wrong when they were looked at last",
            "domain.check_failed, domain.unverified: `domain verify` says what is wrong",
        )
    if known.unseen:
        return _Judged(
            "unseen",
            f"nothing is known yet of the DNS records of {', '.join(known.unseen)}",
            "`domain verify` looks at them",
        )
    if not known.total.sent:
        return _Judged(
            "unseen", "nothing was sent there", "`doctor --network` looks at the operator's records"
        )
    return _Judged(
        "met",
        f"{_times(known.total.sent, 'message')} taken, none refused for it; the records of "
        f"{_times(known.domains, 'domain')} were right when they were looked at last",
        "message.sent, domain.verified",
    )


def _tls(known: Known) -> _Judged:
    sent, tls = known.total.sent, known.total.tls
    if not sent:
        return _Judged("unseen", "nothing was sent there", "message.sent (tls_version)")
    word: Word = "met" if tls == sent else "not_met"
    return _Judged(word, f"{tls:,} of {_times(sent, 'message')} went over TLS", "message.sent (tls_version)")


def _form(known: Known) -> _Judged:
    refused = _of_class(known, "content_related")
    if refused:
        return _Judged(
            "not_met",
            f"{_times(refused, 'refusal')} of class content_related",
            "message.bounced and message.deferred: `find --class content_related` lists them",
        )
    if not known.total.sent:
        return _Judged("unseen", "nothing was sent there", "message.sent")
    return _Judged(
        "met", f"{_times(known.total.sent, 'message')} taken, none refused for its form", "message.sent"
    )


def _reverse_name(known: Known) -> _Judged:
    return _Judged(
        "unseen",
        "it stands in the DNS, and is not looked at here",
        "`doctor --network` (reverse name, EHLO name)",
    )


def _one_click(known: Known) -> _Judged:
    if not known.is_https:
        return _Judged(
            "not_met", "public_url is no https URL, and providers follow no other", "public_url in relay.toml"
        )
    return _Judged(
        "met",
        "every bulk message has List-Unsubscribe and List-Unsubscribe-Post, signed; whether the page can be reached, "
        "`doctor --network` looks (unsubscribe links)",
        "message.sent: `log audit` composes one again",
    )


def _unsubscribed(known: Known) -> _Judged:
    count = known.total.unsubscribes
    return _Judged(
        "met",
        f"{_times(count, 'unsubscribe')} in {_times(known.days, 'day')}, each in force before it was answered",
        "recipient.suppressed (unsubscribe)",
    )


def _spam_rate(known: Known) -> _Judged:
    rates = [(one.spam_rate, one) for one in known.reported if one.spam_rate is not None]
    if not rates:
        return _Judged(
            "unseen", "only the provider knows; it was not recorded", "`provider record` (provider.reported)"
        )
    worst, one = max(rates, key=lambda rated: rated[0])
    level = spam_level(worst)
    says = f"at most {worst:.2%} ({one.domain}, {one.date})"
    if level == "warn":
        says += f"; aim below {SPAM_RATE_WARN:.1%}"
    return _Judged("not_met" if level == "red" else "met", says, "provider.reported")


def _complaint_reports(known: Known) -> _Judged:
    if known.total.complaints:
        return _Judged("met", f"{_times(known.total.complaints, 'complaint')} came", "message.complained")
    return _Judged(
        "unseen",
        "none came: nobody complained, or this relay is not enrolled",
        "the provider's own page; docs/PROVIDERS.md says how to enrol",
    )


def _own_words(name: str) -> Callable[[Known], _Judged]:
    """What the provider itself says of it, where that was recorded, is what counts."""

    def judge(known: Known) -> _Judged:
        said = [(one.compliance[name], one) for one in known.reported if name in one.compliance]
        if not said:
            return _authentication(known)
        word, one = said[-1]
        return _Judged(
            "met" if word == "met" else "not_met",
            f"{one.domain}, {one.date}: {word}",
            "provider.reported",
        )

    return judge


# ------------------------------------------------------------------------------------------------ by provider

_PTR: Final = _Demand(
    "reverse_name", "each sending address has a name (PTR) that leads back to it", "2024-02", _reverse_name
)
_ENCRYPTED: Final = _Demand("tls", "mail comes over TLS", "2024-02", _tls)
_WELL_FORMED: Final = _Demand("message_form", "messages are as RFC 5322 has them", "2024-02", _form)
_SPF_AND_DKIM: Final = _Demand(
    "spf_and_dkim", "SPF and DKIM both pass", "2024-02", _own_words("spf_and_dkim")
)

#: Google's and Yahoo's, who made them together.
_SHARED: Final = (
    _Demand("spf_or_dkim", "SPF or DKIM passes", "2024-02", _authentication),
    _PTR,
    _ENCRYPTED,
    _WELL_FORMED,
    _Demand(
        "spam_rate",
        f"less than {SPAM_RATE_RED:.1%} of mail is reported as spam, and better less than {SPAM_RATE_WARN:.1%}",
        "2024-02",
        _spam_rate,
    ),
    _SPF_AND_DKIM._replace(from_per_day=LARGE_PER_DAY),
    _Demand(
        "dmarc",
        "there is a DMARC record, and SPF or DKIM is aligned",
        "2024-06",
        _own_words("dmarc"),
        LARGE_PER_DAY,
    ),
    _Demand(
        "one_click",
        "bulk mail can be unsubscribed from by one click (RFC 8058)",
        "2024-06",
        _one_click,
        LARGE_PER_DAY,
    ),
    _Demand(
        "unsubscribed",
        "who unsubscribes gets nothing more after 48 hours",
        "2024-06",
        _unsubscribed,
        LARGE_PER_DAY,
    ),
)
_DEMANDS: Final[dict[str, Sequence[_Demand]]] = {
    "google": _SHARED,
    "yahoo": (
        *_SHARED,
        _Demand(
            "complaint_reports",
            "the complaint feedback loop is asked for, by DKIM domain",
            "2024-07",
            _complaint_reports,
        ),
    ),
    "microsoft": (
        _PTR,
        _ENCRYPTED,
        _SPF_AND_DKIM._replace(since="2025-05", from_per_day=LARGE_PER_DAY),
        _Demand(
            "dmarc",
            "there is a DMARC record (550 5.7.515 where there is none)",
            "2025-05",
            _own_words("dmarc"),
            LARGE_PER_DAY,
        ),
        _Demand(
            "complaint_reports", "JMRP and SNDS are asked for, by address", "2025-05", _complaint_reports
        ),
    ),
}
_OF_ANYBODY: Final = (
    _Demand("spf_and_dkim", "SPF and DKIM pass", "", _authentication),
    _PTR._replace(since=""),
    _ENCRYPTED._replace(since=""),
)
