"""What is wrong with a member's DNS records, and what to do about it.

Contract. `diagnose` is a pure function of the records that a domain should have and the TXT records that were found,
and gives one `Finding` a record: whether it is right, what was found, and, where it is not right, the likely cause and
the remedy, in a sentence for somebody who pastes records into a form. `ok` is None where the DNS could not tell: such a
record is neither right nor wrong, and nothing may be concluded from it.

What must be right is what receivers need. An old key or a second SPF record is wrong even beside the right one,
because a receiver may take either, or none; a DMARC policy other than ours is the member's choice. Both get advice.

A TXT record is a list of strings of at most 255 octets, which whoever reads it joins without anything between them
(RFC 7208 section 3.3, RFC 6376 section 3.6.2.2). Found records are kept as their strings, because the commonest damage
is done where they meet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from relay.addresses import DOMAIN_OCTETS_MAX
from relay.domains.records import TXT_STRING_OCTETS_MAX, DnsRecord

#: The checks, in the order of `relay.domains.records.member_records`. Events name them.
CHECKS: Final = ("ownership", "dkim-rsa", "dkim-ed25519", "spf", "dmarc")

#: A misplaced record is looked for in so many zones: the domain's own and those above it.
ZONES_MAX: Final = 3
#: Of what was found, a finding shows so much.
FOUND_VALUES_MAX: Final = 10
FOUND_CHARACTERS_MAX: Final = 1000
#: A remedy may quote what was found. An SPF record longer than this could not be mended by pasting anyway.
FIX_CHARACTERS_MAX: Final = 2000

DMARC_POLICIES: Final = ("none", "quarantine", "reject")
#: Tags of RFC 7489 that RFC 9989 has removed.
_DMARC_TAGS_GONE: Final = ("pct", "rf", "ri")

Strings: TypeAlias = tuple[bytes, ...]


class Unanswered(NamedTuple):
    """The DNS could not tell."""

    why: str


#: The TXT records of each name that was asked for, none where it has none or does not exist.
Facts: TypeAlias = Mapping[str, tuple[Strings, ...] | Unanswered]


class Finding(NamedTuple):
    check: str
    record: DnsRecord
    found: tuple[str, ...]
    #: None: the DNS could not tell.
    ok: bool | None
    #: Cause and remedy; advice where the record is right.
    fix: str | None


def diagnose(domain: str, records: Sequence[DnsRecord], facts: Facts) -> list[Finding]:
    """Judge a domain's records (of `member_records`). `facts` has at least their names; those of `wrong_places` help
    to say where a missing record went."""
    return [_finding(check, domain, record, facts) for check, record in zip(CHECKS, records, strict=True)]


def diagnose_keys(domain: str, records: Sequence[DnsRecord], facts: Facts) -> list[Finding]:
    """As `diagnose`, of a pair of DKIM keys alone (`key_records`)."""
    checks = [check for check in CHECKS if check.startswith("dkim-")]
    return [_finding(check, domain, record, facts) for check, record in zip(checks, records, strict=True)]


def diagnose_operator(domain: str, records: Sequence[DnsRecord], facts: Facts) -> list[Finding]:
    """As `diagnose`, of an operator's DKIM keys, any number, and its DMARC record."""
    return [
        _finding("dmarc" if record.name.startswith("_dmarc.") else "dkim", domain, record, facts)
        for record in records
    ]


def wrong_places(domain: str, records: Iterable[DnsRecord]) -> list[str]:
    """The names at which a record ends up whose owner filled in the form wrongly."""
    zones = _zones(domain)
    names = []
    for record in records:
        names += [f"{record.name}.{zone}" for zone in zones]
        host = record.name.removesuffix(domain)
        if host:  # not SPF: what stands at the zone's own name is about another domain
            names += [f"{host}{zone}" for zone in zones[1:]]
    names += [f"_spf.{domain}", f"spf.{domain}"]
    return [name for name in dict.fromkeys(names) if len(name) <= DOMAIN_OCTETS_MAX]


def failed_checks(findings: Iterable[Finding]) -> list[str]:
    """The checks whose records are wrong for certain."""
    return [finding.check for finding in findings if finding.ok is False]


class _Diagnosis(NamedTuple):
    ok: bool
    fix: str | None = None


_RIGHT: Final = _Diagnosis(True)


def _finding(check: str, domain: str, record: DnsRecord, facts: Facts) -> Finding:
    answer = facts[record.name]
    if isinstance(answer, Unanswered):
        untold = f"the DNS could not tell: {answer.why}; check again later"
        return Finding(check, record, (), None, untold)
    values = [_Value(strings) for strings in answer]
    if check == "spf":  # the domain's own name has TXT records of many other services
        values = [value for value in values if "v=spf1" in value.text.lower()]
    judgement = _judge(check, record, values) or _missing(check, domain, record, facts)
    fix = None if judgement.fix is None else judgement.fix[:FIX_CHARACTERS_MAX]
    return Finding(check, record, _shown(values), judgement.ok, fix)


def _judge(check: str, record: DnsRecord, values: Sequence[_Value]) -> _Diagnosis | None:
    """None: nothing there looks like the record."""
    match check:
        case "ownership":
            return _ownership(record, values)
        case "spf":
            return _spf(record, values)
        case "dmarc":
            return _dmarc(record, values)
        case _:
            return _dkim(record, values)


# ------------------------------------------------------------------------------------------------ ownership


def _ownership(record: DnsRecord, values: Sequence[_Value]) -> _Diagnosis | None:
    if any(value.text == record.value for value in values):
        return _RIGHT
    tag, _, did = record.value.partition("=")
    for value in values:
        if value.is_damaged(record.value):
            return _Diagnosis(False, _damage(value.text))
        if value.text.startswith(f"{tag}="):
            return _Diagnosis(False, f"the record names another member: the DID must be {did}")
        if value.text == did:
            return _Diagnosis(False, f"the DID is there, but {tag}= in front of it is missing")
    return None


# ------------------------------------------------------------------------------------------------ DKIM


def _dkim(record: DnsRecord, values: Sequence[_Value]) -> _Diagnosis | None:
    if len(values) < 2:
        return _dkim_key(record, values[0]) if values else None
    few = values[:FOUND_VALUES_MAX]  # every one is held against every other
    if any(
        _squeeze(first.text + second.text) == _squeeze(record.value)
        for first in few
        for second in few
        if first is not second
    ):
        return _Diagnosis(
            False,
            "the value was stored as several records; make it one record, which may have several strings "
            f"of at most {TXT_STRING_OCTETS_MAX} octets",
        )
    # RFC 6376 section 3.6.2.2: with several records the result is undefined.
    if any(_dkim_key(record, value).ok for value in values):
        return _Diagnosis(
            False, "there are other records beside the right one, and receivers may take those; remove them"
        )
    return _Diagnosis(
        False, f"there are {len(values)} records, and none is right; leave only the expected one"
    )


def _dkim_key(record: DnsRecord, value: _Value) -> _Diagnosis:
    if value.is_damaged(record.value) and _has_quotes(value.text):
        return _Diagnosis(False, _damage(value.text))
    tags, expected = _tags(value.text), _tags(record.value)
    assert expected is not None
    # RFC 6376 section 3.6.1: v= may be left out; where it is there, it is DKIM1 and comes first.
    if tags is None or "p" not in tags or ("v" in tags and next(iter(tags.items())) != ("v", "DKIM1")):
        return _Diagnosis(False, "this is not a DKIM key record; replace it with the expected value")
    key, expected_key = "".join(tags["p"].split()), expected["p"]
    if not key:
        return _Diagnosis(
            False, "p= is empty, which tells receivers that the key is revoked; publish the key"
        )
    if key != expected_key:
        return _Diagnosis(False, _other_key(key, expected_key, value))
    if tags.get("k", "rsa") != expected["k"]:
        says = f"k={tags['k']}" if "k" in tags else "no k=, which means k=rsa,"
        return _Diagnosis(False, f"the key is right, but the record says {says} instead of k={expected['k']}")
    if key != tags["p"]:
        # Legal, RFC 6376 section 3.6.1 (FWS in base64string), but whoever pasted it did not mean it.
        return _Diagnosis(
            True, "there is white space within the key; receivers should skip it, but better paste it without"
        )
    return _RIGHT


def _other_key(key: str, expected_key: str, value: _Value) -> str:
    if _squeeze(key) == expected_key:
        return _damage(value.text)
    if expected_key.startswith(key):
        octets = len(value.text)
        return (
            f"the key is cut off after {octets} octets: the value must be entered whole, where needed as "
            f"several strings of at most {TXT_STRING_OCTETS_MAX} octets in one record"
        )
    return "p= holds another key: an old one, or that of another selector; replace the value with the expected one"


# ------------------------------------------------------------------------------------------------ SPF


def _spf(record: DnsRecord, values: Sequence[_Value]) -> _Diagnosis | None:
    include = record.value.split()[1]
    found = [value for value in values if _is_spf(value.text)]
    if not found:
        return _Diagnosis(False, _begins_wrongly(values[0], "v=spf1 and a space")) if values else None
    whole = _spf_with(include, [value.text for value in found])
    if len(found) > 1:
        return _Diagnosis(
            False,
            f"there are {len(found)} SPF records, which receivers take for an error (RFC 7208 section 3.2); "
            f"make them one: {whole}",
        )
    terms = [term.lower() for term in found[0].text.split()[1:]]
    # RFC 7208 section 5.1: what stands behind "all" is never looked at.
    reached = terms[: next((at for at, term in enumerate(terms) if _is_all(term)), None)]
    if include in (term.removeprefix("+") for term in reached):
        return _RIGHT
    return _Diagnosis(False, f"{_why_not_included(include, terms, found[0])}; make it: {whole}")


def _why_not_included(include: str, terms: Sequence[str], value: _Value) -> str:
    if include in (term.removeprefix("+") for term in terms):
        return f"{include} stands behind the all, where nothing is looked at"
    if any(f"{sign}{include}" in terms for sign in "-~?"):
        return f"{include} must have no sign before it"
    if include in b" ".join(value.strings).decode("ascii", "replace").lower().split():
        return "the record was split into strings without a space where they meet, so that two terms run together"
    if _has_quotes(value.text):
        return _damage(value.text)
    return f"the record lacks {include}"


def _spf_with(include: str, texts: Sequence[str]) -> str:
    """One SPF record that says what these say and includes us."""
    terms = list(dict.fromkeys(term for text in texts for term in text.split()[1:]))
    rest = [term for term in terms if not _is_all(term) and term.lstrip("+-~?").lower() != include]
    last = [term for term in terms if _is_all(term)][-1:]
    if not last and not any(term.lower().startswith("redirect=") for term in rest):
        last = ["~all"]
    return " ".join(["v=spf1", include, *rest, *last])


def _is_spf(text: str) -> bool:
    """RFC 7208 section 4.5."""
    return text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")


def _is_all(term: str) -> bool:
    return term.lower().lstrip("+-~?") == "all"


# ------------------------------------------------------------------------------------------------ DMARC


def _dmarc(record: DnsRecord, values: Sequence[_Value]) -> _Diagnosis | None:
    found = [value for value in values if _is_dmarc(value.text)]
    if len(found) > 1:
        return _Diagnosis(
            False,
            f"there are {len(found)} DMARC records, and receivers then use none (RFC 9989 section 4.10); leave one",
        )
    if not found:
        return _Diagnosis(False, _begins_wrongly(values[0], "v=DMARC1;")) if values else None
    tags = _tags(found[0].text)
    if tags is None or next(iter(tags.items())) != ("v", "DMARC1"):
        return _Diagnosis(False, "the record is not made of tag=value; tag=value, beginning with v=DMARC1")
    for tag in ("p", "sp", "np"):
        if tag in tags and tags[tag].lower() not in DMARC_POLICIES:
            # RFC 9989 section 4.10.1: whoever has no reports sent (rua) then has no DMARC at all.
            wrong = f"{tag}={tags[tag]} is no policy"
            return _Diagnosis(False, f"{wrong}; it is one of {', '.join(DMARC_POLICIES)}")
    advice = [one for one in (_dmarc_policy(tags), _dmarc_roles(tags), _dmarc_gone(tags)) if one is not None]
    return _Diagnosis(True, "; ".join(advice)) if advice else _RIGHT


def _dmarc_policy(tags: Mapping[str, str]) -> str | None:
    """RFC 9989 section 4.7: without a p= it is none. All of these are the domain owner's choice."""
    best = "p=reject protects the name best, once all your mail is signed"
    if "p" not in tags:
        return f"p= is missing, which means p=none; {best}"
    policy = tags["p"].lower()
    if policy != "reject":
        return f"p={policy} is yours to choose; {best}"
    if tags.get("t", "").lower() == "y":
        return (
            "t=y says that p=reject is a test, and receivers then only quarantine; remove it after the test"
        )
    return None


def _dmarc_roles(tags: Mapping[str, str]) -> str | None:
    """RFC 9989 section 4.7: psd= is for those below whose name others register theirs."""
    if tags.get("psd", "").lower() != "y":
        return None
    return "psd=y is for registries (it says that names below this one belong to others); remove it"


def _dmarc_gone(tags: Mapping[str, str]) -> str | None:
    gone = [f"{tag}=" for tag in _DMARC_TAGS_GONE if tag in tags]
    if not gone:
        return None
    means = "mean" if len(gone) > 1 else "means"
    return f"{' and '.join(gone)} {means} nothing any more (RFC 9989); remove what does not count"


def _is_dmarc(text: str) -> bool:
    return re.match(r"v[ \t]*=[ \t]*DMARC1[ \t]*(;|$)", text, re.IGNORECASE) is not None


# ------------------------------------------------------------------------------------------------ in the wrong place


def _missing(check: str, domain: str, record: DnsRecord, facts: Facts) -> _Diagnosis:
    """The record is not where it should be. Perhaps it is somewhere else."""
    for name, answer in facts.items():
        if name == record.name or isinstance(answer, Unanswered):
            continue
        if any(_is_like(check, record, _Value(strings).text) for strings in answer):
            return _Diagnosis(False, _misplaced(domain, record, name))
    return _Diagnosis(False, "there is no such record; publish it")


def _misplaced(domain: str, record: DnsRecord, name: str) -> str:
    for zone in _zones(domain):
        if name == f"{record.name}.{zone}":
            host = record.name.removesuffix(zone).removesuffix(".") or "@"
            return (
                f"the record stands at {name}: the registrar adds the zone's name by itself, so enter the name "
                f"as {host}, or with a full stop at its end"
            )
    return f"the record stands at {name}; move it to {record.name}"


def _is_like(check: str, record: DnsRecord, text: str) -> bool:
    match check:
        case "ownership":
            return _squeeze(text) == _squeeze(record.value)
        case "spf":
            return _is_spf(text)
        case "dmarc":
            return _is_dmarc(text)
        case _:
            return f"p={(_tags(record.value) or {})['p']}" in _squeeze(text)


def _zones(domain: str) -> list[str]:
    """The domain and those above it: the name servers may know it in any of these zones."""
    labels = domain.split(".")
    return [".".join(labels[at:]) for at in range(len(labels) - 1)][:ZONES_MAX]


# ------------------------------------------------------------------------------------------------ values


class _Value:
    """One TXT record."""

    def __init__(self, strings: Strings) -> None:
        self.strings = strings
        # Printable, because it is shown in terminals and is whatever the owner of some domain likes. A tab is white
        # space within a key.
        joined = b"".join(strings).decode("ascii", "backslashreplace")
        self.text = re.sub(r"[\x00-\x08\x0a-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", joined)

    def is_damaged(self, expected: str) -> bool:
        """The value is the expected one, but for quotes, backslashes and spaces that should not be in it."""
        return self.text != expected and _squeeze(self.text) == _squeeze(expected)


def _begins_wrongly(value: _Value, beginning: str) -> str:
    if _has_quotes(value.text):
        return _damage(value.text)
    return f"the record does not begin with {beginning}; replace it with the expected value"


def _has_quotes(text: str) -> bool:
    return '"' in text or "\\" in text


def _damage(text: str) -> str:
    kinds = [name for sign, name in (('"', "quotes"), ("\\", "backslashes")) if sign in text]
    what = " and ".join(kinds) or "spaces"
    return f"the value was stored with {what} that do not belong to it; enter it as plain text, exactly as expected"


def _squeeze(text: str) -> str:
    return re.sub(r'[\s"\\]', "", text)


def _tags(text: str) -> dict[str, str] | None:
    """A tag list (RFC 6376 section 3.2) in its order; None where it is none."""
    tags: dict[str, str] = {}
    for part in text.rstrip(" \t").removesuffix(";").split(";"):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) or name in tags:
            return None
        tags[name] = value
    return tags


def _shown(values: Sequence[_Value]) -> tuple[str, ...]:
    return tuple(value.text[:FOUND_CHARACTERS_MAX] for value in values[:FOUND_VALUES_MAX])
