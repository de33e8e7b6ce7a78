"""What the check of a domain makes of the records that it finds."""

from __future__ import annotations

import pytest

from relay.domains.diagnosis import (
    CHECKS,
    FIX_CHARACTERS_MAX,
    FOUND_CHARACTERS_MAX,
    FOUND_VALUES_MAX,
    Facts,
    Finding,
    Unanswered,
    diagnose,
    failed_checks,
    wrong_places,
)
from relay.domains.records import DnsRecord
from tests.world.relay import (
    DID,
    OTHER_DID,
)
from tests.world.zone_records import strings

MEMBER = "member.example"


OWNER, RSA, ED25519 = (
    "_atmos-verify.member.example",
    "r._domainkey.member.example",
    "e._domainkey.member.example",
)


DMARC = "_dmarc.member.example"


RSA_KEY = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A" + "aB3/+" * 71 + "AQAB"


ED25519_KEY = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


RECORDS = [
    DnsRecord("TXT", OWNER, f"atmos-verify={DID}", "Ownership."),
    DnsRecord("TXT", RSA, f"v=DKIM1; k=rsa; p={RSA_KEY}", "DKIM."),
    DnsRecord("TXT", ED25519, f"v=DKIM1; k=ed25519; p={ED25519_KEY}", "DKIM."),
    DnsRecord("TXT", MEMBER, "v=spf1 include:relay.example ~all", "SPF."),
    DnsRecord("TXT", DMARC, "v=DMARC1; p=reject; adkim=r; aspf=r", "DMARC."),
]


EXPECTED = dict(zip(CHECKS, RECORDS, strict=True))


RIGHT: Facts = {record.name: strings(record.value) for record in RECORDS}


def finding(check: str, facts: Facts) -> Finding:
    """The finding of one check; what else is in `facts` must not disturb the others."""
    findings = {found.check: found for found in diagnose(MEMBER, RECORDS, {**RIGHT, **facts})}
    assert list(findings) == list(CHECKS)
    assert [found.check for found in findings.values() if not found.ok and found.check != check] == []
    return findings[check]


# ------------------------------------------------------------------------------------------------ what is right


def test_the_records_as_they_were_printed_are_right() -> None:
    findings = diagnose(MEMBER, RECORDS, RIGHT)
    assert [(found.check, found.ok, found.fix) for found in findings] == [
        (check, True, None) for check in CHECKS
    ]
    assert [found.found for found in findings] == [(record.value,) for record in RECORDS]
    assert failed_checks(findings) == []


@pytest.mark.parametrize("octets", [1, 100, 254, 255])
def test_strings_may_be_split_anywhere(octets: int) -> None:
    facts = {record.name: strings(record.value, octets=octets) for record in RECORDS}
    assert [found.ok for found in diagnose(MEMBER, RECORDS, facts)] == [True] * 5


@pytest.mark.parametrize(
    ("check", "value"),
    [
        ("dkim-rsa", f"p={RSA_KEY}"),
        ("dkim-rsa", f"k=rsa;p={RSA_KEY};"),
        ("dkim-rsa", f"v=DKIM1;k=rsa;t=s;s=email;p={RSA_KEY}; "),
        ("dkim-rsa", f"v = DKIM1 ; k = rsa ; p = {RSA_KEY}"),
        ("dkim-ed25519", f"v=DKIM1;p={ED25519_KEY};k=ed25519"),
        ("spf", "v=spf1 include:relay.example -all"),
        ("spf", "V=SPF1 +INCLUDE:Relay.Example ~all"),
        ("spf", "v=spf1  mx a include:_spf.other.example include:relay.example ip4:192.0.2.1 ?all"),
        ("spf", "v=spf1 include:relay.example redirect=_spf.other.example"),
        ("dmarc", "v=DMARC1; p=reject"),
        ("dmarc", "v=DMARC1;p=REJECT;rua=mailto:a@b.example;"),
        # RFC 9989: what it added, and what nobody knows.
        ("dmarc", "v=DMARC1; np=reject; sp=quarantine; psd=u; t=n; p=reject; new_tag=1"),
    ],
)
def test_other_spellings_of_the_same(check: str, value: str) -> None:
    found = finding(check, {EXPECTED[check].name: strings(value)})
    assert (found.ok, found.fix) == (True, None)


@pytest.mark.parametrize(
    ("check", "values"),
    [
        ("ownership", (f"atmos-verify={OTHER_DID}", f"atmos-verify={DID}")),
        ("spf", ("google-site-verification=abc", "v=spf10 nothing", EXPECTED["spf"].value)),
        ("dmarc", ("something else", EXPECTED["dmarc"].value)),
    ],
)
def test_other_records_beside_the_right_one(check: str, values: tuple[str, ...]) -> None:
    assert finding(check, {EXPECTED[check].name: strings(*values)}).ok is True


@pytest.mark.parametrize(
    ("check", "value", "advice"),
    [
        ("dmarc", "v=DMARC1; p=none; rua=mailto:a@b.example", "p=none is yours to choose"),
        ("dmarc", "v=DMARC1; p=quarantine", "p=quarantine is yours to choose"),
        # RFC 9989: a policy that is not there is none; what it removed, and what it added, and is not meant.
        ("dmarc", "v=DMARC1", "p= is missing, which means p=none"),
        ("dmarc", "v=DMARC1; rua=mailto:a@b.example", "p= is missing, which means p=none"),
        ("dmarc", "v=DMARC1; p=reject; pct=20", "pct= means nothing any more (RFC 9989)"),
        ("dmarc", "v=DMARC1; p=none; rf=afrf; ri=86400", "rf= and ri= mean nothing any more"),
        ("dmarc", "v=DMARC1; p=reject; t=y", "t=y says that p=reject is a test"),
        ("dmarc", "v=DMARC1; p=reject; psd=y", "psd=y is for registries"),
        ("dkim-rsa", f"v=DKIM1; k=rsa; p={RSA_KEY[:200]} {RSA_KEY[200:]}", "white space within the key"),
        ("dkim-rsa", f"v=DKIM1; k=rsa; p={RSA_KEY[:200]}\t{RSA_KEY[200:]}", "white space within the key"),
    ],
)
def test_what_works_and_could_be_better(check: str, value: str, advice: str) -> None:
    found = finding(check, {EXPECTED[check].name: strings(value)})
    assert found.ok is True
    assert found.fix is not None
    assert advice in found.fix


# ------------------------------------------------------------------------------------------------ what is wrong


PLAIN = "enter it as plain text"


#: Check, the records at its name, what the remedy says.
WRONG: list[tuple[str, tuple[str, ...], str]] = [
    *((check, (), "there is no such record; publish it") for check in CHECKS),
    # Ownership.
    ("ownership", (f"atmos-verify={OTHER_DID}",), f"names another member: the DID must be {DID}"),
    ("ownership", (DID,), "atmos-verify= in front of it is missing"),
    ("ownership", (f'"atmos-verify={DID}"',), f"stored with quotes that do not belong to it; {PLAIN}"),
    ("ownership", (f"atmos-verify= {DID}",), f"stored with spaces that do not belong to it; {PLAIN}"),
    ("ownership", ("something else",), "there is no such record"),
    # DKIM: a TXT that was split or stored badly.
    (
        "dkim-rsa",
        (f'v=DKIM1; k=rsa; p={RSA_KEY[:200]}" "{RSA_KEY[200:]}',),
        f"stored with quotes that do not belong to it; {PLAIN}",
    ),
    ("dkim-rsa", (f'v=DKIM1; k=rsa; t=s; p={RSA_KEY[:200]}""{RSA_KEY[200:]}',), "stored with quotes"),
    ("dkim-rsa", (f'"v=DKIM1; k=rsa; p={RSA_KEY}"',), "stored with quotes"),
    ("dkim-rsa", (f"v=DKIM1\\; k=rsa\\; p={RSA_KEY}",), "stored with backslashes"),
    ("dkim-rsa", (f'"v=DKIM1\\; k=rsa\\; p={RSA_KEY}"',), "stored with quotes and backslashes"),
    ("dkim-rsa", (EXPECTED["dkim-rsa"].value[:255],), "the key is cut off after 255 octets"),
    (
        "dkim-rsa",
        (EXPECTED["dkim-rsa"].value[:255], EXPECTED["dkim-rsa"].value[255:]),
        "stored as several records",
    ),
    (
        "dkim-rsa",
        (EXPECTED["dkim-rsa"].value[255:], EXPECTED["dkim-rsa"].value[:255]),
        "stored as several records",
    ),
    # DKIM: the wrong key.
    (
        "dkim-rsa",
        (f"v=DKIM1; k=rsa; p={RSA_KEY[::-1]}",),
        "p= holds another key: an old one, or that of another selector",
    ),
    ("dkim-rsa", (EXPECTED["dkim-ed25519"].value,), "p= holds another key"),
    ("dkim-rsa", ("v=DKIM1; k=rsa; p=",), "the key is revoked"),
    (
        "dkim-rsa",
        (EXPECTED["dkim-rsa"].value, "v=DKIM1; k=rsa; p=MIIB"),
        "other records beside the right one",
    ),
    (
        "dkim-rsa",
        ("v=DKIM1; k=rsa; p=MIIB", "v=DKIM1; k=rsa; p=MIIC"),
        "there are 2 records, and none is right",
    ),
    ("dkim-rsa", (f"v=DKIM1; k=ed25519; p={RSA_KEY}",), "says k=ed25519 instead of k=rsa"),
    ("dkim-ed25519", (f"v=DKIM1; k=rsa; p={ED25519_KEY}",), "says k=rsa instead of k=ed25519"),
    ("dkim-ed25519", (f"v=DKIM1; p={ED25519_KEY}",), "no k=, which means k=rsa, instead of k=ed25519"),
    ("dkim-ed25519", (ED25519_KEY,), "not a DKIM key record"),
    ("dkim-ed25519", (f"v=DKIM2; k=ed25519; p={ED25519_KEY}",), "not a DKIM key record"),
    ("dkim-ed25519", (f"k=ed25519; v=DKIM1; p={ED25519_KEY}",), "not a DKIM key record"),
    ("dkim-ed25519", (f"v=DKIM1; k=ed25519; p={ED25519_KEY}; p=",), "not a DKIM key record"),
    ("dkim-ed25519", ("v=DKIM1; k=ed25519",), "not a DKIM key record"),
    ("dkim-ed25519", ("",), "not a DKIM key record"),
    # SPF.
    (
        "spf",
        ("v=spf1 mx -all",),
        "lacks include:relay.example; make it: v=spf1 include:relay.example mx -all",
    ),
    ("spf", ("v=spf1",), "lacks include:relay.example; make it: v=spf1 include:relay.example ~all"),
    ("spf", ("v=spf1 redirect=a.example",), "make it: v=spf1 include:relay.example redirect=a.example"),
    ("spf", ("v=spf1 include:relay.example.org ~all",), "lacks include:relay.example;"),
    (
        "spf",
        ("v=spf1 a ~all include:relay.example",),
        "behind the all, where nothing is looked at; make it: v=spf1 include:relay.example a ~all",
    ),
    (
        "spf",
        ("v=spf1 -include:relay.example a ~all",),
        "must have no sign before it; make it: v=spf1 include:relay.example a ~all",
    ),
    (
        "spf",
        ("v=spf1 a -all", "v=spf1 include:relay.example ~all"),
        "make them one: v=spf1 include:relay.example a ~all",
    ),
    ("spf", ("v=spf1 include:relay.example ~all",) * 2, "there are 2 SPF records"),
    (
        "spf",
        ('"v=spf1 include:relay.example ~all"',),
        f"stored with quotes that do not belong to it; {PLAIN}",
    ),
    ("spf", ('v=spf1 "include:relay.example" ~all',), "stored with quotes"),
    ("spf", ("SPF: v=spf1 include:relay.example ~all",), "does not begin with v=spf1 and a space"),
    ("spf", ("v=spf1;include:relay.example",), "does not begin with v=spf1 and a space"),
    ("spf", ("google-site-verification=abc",), "there is no such record"),
    # DMARC.
    (
        "dmarc",
        ("v=DMARC1; p=none", "v=DMARC1; p=reject"),
        "there are 2 DMARC records, and receivers then use none",
    ),
    ("dmarc", ("v=DMARC1; p=rejct",), "p=rejct is no policy; it is one of none, quarantine, reject"),
    ("dmarc", ("v=DMARC1; p=",), "p= is no policy"),
    ("dmarc", ("v=DMARC1; p=reject; np=reject; sp=sure",), "sp=sure is no policy"),
    ("dmarc", ("v=DMARC1; p=reject; np=1",), "np=1 is no policy"),
    ("dmarc", ("v=DMARC1; p",), "not made of tag=value"),
    ("dmarc", ("v=dmarc1; p=reject",), "beginning with v=DMARC1"),
    ("dmarc", ("p=reject; v=DMARC1",), "does not begin with v=DMARC1;"),
    ("dmarc", ("p=reject",), "does not begin with v=DMARC1;"),
    ("dmarc", ('"v=DMARC1; p=reject"',), "stored with quotes"),
    ("dmarc", ("v=DMARC1\\; p=reject",), "stored with backslashes"),
]


@pytest.mark.parametrize(("check", "values", "fix"), WRONG)
def test_a_wrong_record_and_its_remedy(check: str, values: tuple[str, ...], fix: str) -> None:
    found = finding(check, {EXPECTED[check].name: strings(*values)})
    assert found.ok is False
    assert found.fix is not None
    assert fix in found.fix
    assert found.record == EXPECTED[check]
    assert set(found.found) <= set(values)
    if check != "spf":
        assert found.found == values


def test_strings_that_meet_without_a_space() -> None:
    facts = {MEMBER: ((b"v=spf1 include:other.example", b"include:relay.example", b" ~all"),)}
    found = finding("spf", facts)
    assert found.ok is False
    assert "without a space where they meet" in str(found.fix)


@pytest.mark.parametrize("check", CHECKS)
def test_the_registrar_doubled_the_zones_name(check: str) -> None:
    record = EXPECTED[check]
    doubled = f"{record.name}.{MEMBER}"
    assert doubled in wrong_places(MEMBER, RECORDS)
    found = finding(check, {record.name: (), doubled: strings(record.value)})
    host = record.name.removesuffix(MEMBER).removesuffix(".") or "@"
    assert found.ok is False
    assert f"stands at {doubled}" in str(found.fix)
    assert f"enter the name as {host}, or with a full stop at its end" in str(found.fix)


@pytest.mark.parametrize(
    ("check", "place"),
    [
        ("ownership", MEMBER),
        ("dkim-rsa", MEMBER),
        ("dmarc", MEMBER),
        ("spf", OWNER),
        ("spf", f"_spf.{MEMBER}"),
        ("spf", f"spf.{MEMBER}"),
    ],
)
def test_a_record_in_the_wrong_place(check: str, place: str) -> None:
    record = EXPECTED[check]
    assert place in RIGHT or place in wrong_places(MEMBER, RECORDS)
    facts = {record.name: (), place: (*RIGHT.get(place, ()), *strings(record.value))}
    if check == "spf":
        assert record.value not in finding(check, facts).found
    assert finding(check, facts).fix == f"the record stands at {place}; move it to {record.name}"


def test_a_record_of_a_subdomain_that_went_to_its_parent() -> None:
    domain = "mail.member.example"
    records = [record._replace(name=record.name.replace(MEMBER, domain)) for record in RECORDS]
    places = wrong_places(domain, records)
    assert {OWNER, RSA, ED25519, DMARC} <= set(places)
    # The parent's own SPF record is about the parent, and in its right place.
    assert MEMBER not in places
    assert f"{OWNER.replace(MEMBER, domain)}.{MEMBER}" in places
    facts: Facts = {
        **dict.fromkeys((record.name for record in records), ()),
        OWNER: strings(RECORDS[0].value),
    }
    found = diagnose(domain, records, facts)[0]
    assert found.fix == f"the record stands at {OWNER}; move it to _atmos-verify.{domain}"
    facts = {**facts, OWNER: (), f"_atmos-verify.{domain}.{MEMBER}": strings(RECORDS[0].value)}
    assert "enter the name as _atmos-verify.mail," in str(diagnose(domain, records, facts)[0].fix)


def test_wrong_places_are_bounded_and_can_be_asked_for() -> None:
    domain = ".".join(["a" * 40] * 5 + ["example"])
    records = [record._replace(name=record.name.replace(MEMBER, domain)) for record in RECORDS]
    places = wrong_places(domain, records)
    assert len(places) <= 30
    assert len(places) == len(set(places))
    assert all(len(name) <= 253 for name in places)


@pytest.mark.parametrize("check", CHECKS)
def test_what_the_dns_could_not_tell_is_neither_right_nor_wrong(check: str) -> None:
    found = finding(check, {EXPECTED[check].name: Unanswered("SERVFAIL")})
    assert found.ok is None
    assert found.fix == "the DNS could not tell: SERVFAIL; check again later"
    assert failed_checks([found]) == []


def test_a_wrong_place_that_could_not_be_looked_at_is_no_matter() -> None:
    found = finding("ownership", {OWNER: (), f"{OWNER}.{MEMBER}": Unanswered("SERVFAIL")})
    assert found.fix == "there is no such record; publish it"


def test_what_is_shown_is_printable_and_bounded() -> None:
    """The records are whatever their owner likes, and are shown in the operator's terminal."""
    found = finding("ownership", {OWNER: ((b"\x1b[2J\x00\n\x7f\x9b\xff",),)})
    assert found.found == (r"\x1b[2J\x00\x0a\x7f\x9b\xff",)
    many = finding("ownership", {OWNER: tuple((b"x" * 5000,) for _ in range(100))})
    assert [len(value) for value in many.found] == [FOUND_CHARACTERS_MAX] * FOUND_VALUES_MAX
    policy = finding("dmarc", {DMARC: ((b"v=DMARC1; p=\x1b[2J" + b"x" * 60_000,),)})
    assert str(policy.fix).isprintable()
    assert len(str(policy.fix)) == FIX_CHARACTERS_MAX


def test_a_reply_full_of_records_is_judged_all_the_same() -> None:
    """64 KB of the smallest records: what grows with their square is cut short."""
    many = tuple((b"%04x" % number,) for number in range(5000))
    assert "there are 5000 records" in str(finding("dkim-rsa", {RSA: many}).fix)
    for check in ("ownership", "spf", "dmarc"):
        place = EXPECTED[check].name
        assert finding(check, {place: (*many, *RIGHT[place])}).ok is True
