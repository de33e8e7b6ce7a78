"""Domain verification: every likely mistake in the DNS by example, and what follows from a check, day after day.

The diagnosis is pure, so its examples are tables of facts. What follows from it runs through a whole relay on a clock
that jumps. One test asks a real DNS server.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.core import open_core
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
from relay.domains.records import Record, zone_text
from relay.domains.verification import (
    CHECK_SECONDS,
    CHECKS_AT_ONCE_MAX,
    GRACE_SECONDS,
    RETRY_SECONDS,
    check_domain,
)
from relay.internet.resolver import DnsResolver, LookupFailed, NoSuchName
from relay.operator.socket import serve_admin_socket
from relay.refusals import Refusal
from relay.surroundings import Surroundings
from relay.views import members
from tests.world.dns import FakeDns, open_dns_server
from tests.world.orders import order
from tests.world.relay import (
    DID,
    DOMAIN,
    OPERATOR_DOMAIN,
    OTHER_DID,
    OTHER_DOMAIN,
    World,
    make_directory,
    open_world,
    run,
)

HOUR = 3600
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
    Record("TXT", OWNER, f"atmos-verify={DID}", "Ownership."),
    Record("TXT", RSA, f"v=DKIM1; k=rsa; p={RSA_KEY}", "DKIM."),
    Record("TXT", ED25519, f"v=DKIM1; k=ed25519; p={ED25519_KEY}", "DKIM."),
    Record("TXT", MEMBER, "v=spf1 include:relay.example ~all", "SPF."),
    Record("TXT", DMARC, "v=DMARC1; p=reject; adkim=r; aspf=r", "DMARC."),
]
EXPECTED = dict(zip(CHECKS, RECORDS, strict=True))


def strings(*values: str, octets: int = 255) -> tuple[tuple[bytes, ...], ...]:
    """Records, each split as a name server would."""
    return tuple(
        tuple(value[at : at + octets].encode() for at in range(0, len(value), octets)) for value in values
    )


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
    ("dmarc", ("v=DMARC1",), "p= is missing; it is one of none, quarantine, reject"),
    ("dmarc", ("v=DMARC1; rua=mailto:a@b.example",), "p= is missing"),
    ("dmarc", ("v=DMARC1; p=rejct",), "p=rejct is no policy"),
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


# ------------------------------------------------------------------------------------------------ a relay


def publish(dns: FakeDns, records: list[dict[str, str]]) -> None:
    """What a member does with what `dns` prints."""
    for record in records:
        dns.txt[record["name"]] = list(strings(record["value"]))


class Domain:
    """The domain of a world's member, through the relay's own doors."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def publish(self) -> None:
        answer = await self.world.command("dns", domain=DOMAIN)
        publish(self.world.dns, answer["domains"][0]["records"])

    async def verify(self) -> Any:
        return await self.world.command("domain_verify", did=DID, domain=DOMAIN)

    async def may_send(self) -> bool:
        status, answer = await self.world.post_send()
        assert status == 200 or answer["code"] == "DOMAIN_UNVERIFIED", answer
        return status == 200

    @property
    def state(self) -> members.DomainState:
        with self.world.core.store.read() as view:
            state = members.domain(view, DOMAIN)
        assert state is not None
        return state

    def break_spf(self) -> None:
        self.world.dns.txt[DOMAIN] = [(b"v=spf1 -all",)]

    def break_dns(self) -> None:
        self.world.dns.broken |= set(self.world.dns.txt)

    def mend_dns(self) -> None:
        self.world.dns.broken.clear()

    def events(self) -> list[str]:
        """What the checks made true, in order."""
        kinds = ("domain.verified", "domain.check_failed", "domain.unverified")
        return [event.TYPE for event in self.world.events() if event.TYPE in kinds]


@asynccontextmanager
async def open_domain(directory: Path, *, settings: str = "") -> AsyncIterator[Domain]:
    """A relay that requires verified domains, with a member whose domain has its records and is not verified."""
    make_directory(directory, settings)
    path = directory / "relay.toml"
    path.write_text(
        path.read_text().replace("require_verified_domains = false", "require_verified_domains = true")
    )
    async with open_world(directory) as world:
        domain = Domain(world)
        await domain.publish()
        yield domain


def with_domain(directory: Path, test: Callable[[Domain], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_domain(directory / "data") as domain:
            await test(domain)

    run(main)


def test_a_domain_may_send_once_it_is_verified(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        assert not await domain.may_send()
        answer = await domain.verify()
        assert answer["verified"] is True
        assert await domain.may_send()
        assert domain.state.first_verified_at == domain.state.checked_at
        assert domain.events() == ["domain.verified"]

    with_domain(tmp_path, story)


def test_a_domain_whose_records_are_wrong_is_not_verified_and_nothing_is_recorded(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        domain.break_spf()
        answer = await domain.verify()
        assert answer["verified"] is False
        assert not await domain.may_send()
        assert domain.events() == []

    with_domain(tmp_path, story)


def test_a_domain_whose_dns_cannot_tell_is_not_verified_either(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        domain.break_dns()
        answer = await domain.verify()
        assert answer["verified"] is False
        assert [check["ok"] for check in answer["checks"]] == [None] * 5
        assert domain.events() == []

    with_domain(tmp_path, story)


def test_a_verified_domain_is_looked_at_once_a_day_and_not_oftener(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.world.dns.asked.clear()
        await trio.sleep(10 * CHECK_SECONDS + HOUR)
        assert domain.events() == ["domain.verified"] * 11
        # Five records, and nothing else while they are right.
        assert len(domain.world.dns.asked) == 10 * 5

    with_domain(tmp_path, story)


def test_a_domain_that_was_never_verified_is_left_alone(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await trio.sleep(30 * CHECK_SECONDS)
        assert domain.world.dns.asked == []

    with_domain(tmp_path, story)


def test_broken_records_stop_sending_after_the_grace_time(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        first = domain.state.first_verified_at
        domain.break_spf()
        await trio.sleep(CHECK_SECONDS + HOUR)
        assert domain.events()[1:] == ["domain.check_failed"]
        failing_since = domain.state.failing_since
        await trio.sleep(GRACE_SECONDS - 2 * HOUR)
        assert await domain.may_send()
        await trio.sleep(2 * HOUR)
        assert not await domain.may_send()
        assert domain.events()[1:] == ["domain.check_failed"] * 3 + ["domain.unverified"]
        assert domain.state.failing_since == failing_since
        # Nobody looks until the operator asks; then its age goes on from where it was.
        await domain.publish()
        await trio.sleep(10 * CHECK_SECONDS)
        assert not await domain.may_send()
        await domain.verify()
        assert await domain.may_send()
        assert domain.state.first_verified_at == first
        assert domain.state.failing_since is None

    with_domain(tmp_path, story)


def test_the_events_name_the_checks_that_failed(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_spf()
        del domain.world.dns.txt[f"_dmarc.{DOMAIN}"]
        await trio.sleep(CHECK_SECONDS + GRACE_SECONDS + HOUR)
        failed = [event.failed for event in domain.world.events() if hasattr(event, "failed")]
        assert failed == [["spf", "dmarc"]] * 4

    with_domain(tmp_path, story)


def test_records_mended_within_the_grace_time_are_as_if_nothing_had_been(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        for _ in range(3):  # each time the grace is whole again
            domain.break_spf()
            await trio.sleep(3 * CHECK_SECONDS)
            assert domain.state.failing_since is not None
            await domain.publish()
            await trio.sleep(CHECK_SECONDS)
            assert domain.state.failing_since is None
            assert await domain.may_send()

    with_domain(tmp_path, story)


def test_the_grace_ends_on_time_even_where_the_operator_looked_in_between(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_spf()
        await domain.verify()
        await trio.sleep(GRACE_SECONDS - 10 * HOUR)
        await domain.verify()  # the next check would be 14 h after the grace
        await trio.sleep(9 * HOUR)
        assert await domain.may_send()
        await trio.sleep(2 * HOUR)
        assert not await domain.may_send()

    with_domain(tmp_path, story)


def test_an_operator_who_looks_within_the_grace_time_does_not_end_it(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_spf()
        for _ in range(20):
            assert (await domain.verify())["verified"] is False
        assert await domain.may_send()

    with_domain(tmp_path, story)


def test_a_week_without_dns_takes_nothing_from_anybody(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_dns()
        domain.world.dns.asked.clear()
        await trio.sleep(7 * CHECK_SECONDS)
        assert await domain.may_send()
        assert domain.events() == ["domain.verified"]
        # Asked again every hour from the end of the first day, which is no storm.
        assert len(domain.world.dns.asked) <= 5 * 6 * CHECK_SECONDS / RETRY_SECONDS + 5
        domain.mend_dns()
        await trio.sleep(RETRY_SECONDS + 1)
        assert domain.events() == ["domain.verified"] * 2

    with_domain(tmp_path, story)


def test_a_dns_that_goes_silent_at_the_end_of_the_grace_time_extends_it(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_spf()
        await trio.sleep(CHECK_SECONDS + GRACE_SECONDS - HOUR)
        domain.break_dns()
        await trio.sleep(7 * CHECK_SECONDS)
        assert await domain.may_send()
        domain.mend_dns()  # the record is still wrong
        await trio.sleep(RETRY_SECONDS + 1)
        assert not await domain.may_send()

    with_domain(tmp_path, story)


def test_what_is_wrong_for_certain_counts_whatever_else_cannot_be_told(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        await domain.verify()
        domain.break_spf()
        domain.world.dns.broken.add(f"_dmarc.{DOMAIN}")
        await domain.verify()
        assert domain.events() == ["domain.verified", "domain.check_failed"]

    with_domain(tmp_path, story)


def test_the_days_are_counted_across_a_restart(tmp_path: Path) -> None:
    """When a domain is due stands in the views. A relay that was away is late, and no more than that."""

    async def main() -> None:
        directory = tmp_path / "data"
        async with open_domain(directory) as domain:
            await domain.verify()
            await trio.sleep(CHECK_SECONDS - HOUR)
            published = dict(domain.world.dns.txt)
        async with open_world(directory, enrol=False, dns=FakeDns(txt=published)) as world:
            domain = Domain(world)
            await trio.sleep(HOUR / 2)
            assert domain.events() == ["domain.verified"]
            await trio.sleep(HOUR)
            assert domain.events() == ["domain.verified"] * 2
        await trio.sleep(5 * CHECK_SECONDS)
        async with open_world(directory, enrol=False, dns=FakeDns(txt=published)) as world:
            domain = Domain(world)
            await trio.sleep(1)
            assert domain.events() == ["domain.verified"] * 3

    run(main)


class SlowDns(FakeDns):
    """Takes a second to tell a DMARC record, and knows how many domains have waited for theirs at once."""

    waiting = 0
    waiting_most = 0

    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        if name.startswith("_dmarc."):
            self.waiting += 1
            self.waiting_most = max(self.waiting_most, self.waiting)
            await trio.sleep(1)
            self.waiting -= 1
        return await super().lookup_txt(name)


def test_no_more_than_a_few_domains_are_checked_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        directory, dns = make_directory(tmp_path / "data", "domains_max = 20\n"), SlowDns()
        names = [f"d{number}.example" for number in range(2 * CHECKS_AT_ONCE_MAX)]
        async with open_world(directory, enrol=False, dns=dns) as world:
            await world.enrol(DID, *names)
            for enrolled in (await world.command("dns"))["domains"]:
                publish(dns, enrolled["records"])
            async with trio.open_nursery() as nursery:
                for name in names:
                    nursery.start_soon(partial(world.command, "domain_verify", did=DID, domain=name))
            assert dns.waiting_most == len(names)
            dns.waiting_most = 0
            await trio.sleep(CHECK_SECONDS + HOUR)
            assert Domain(world).events() == ["domain.verified"] * 2 * len(names)
            assert dns.waiting_most == CHECKS_AT_ONCE_MAX

    run(main)


# ------------------------------------------------------------------------------------------------ the command


def test_the_answer_for_programs(tmp_path: Path) -> None:
    async def story(domain: Domain) -> None:
        domain.break_spf()
        answer = await domain.verify()
        assert list(answer) == ["did", "domain", "verified", "checks"]
        assert (answer["did"], answer["domain"], answer["verified"]) == (DID, DOMAIN, False)
        by_name = {check["name"]: check for check in answer["checks"]}
        assert len(by_name) == 5
        assert by_name[DOMAIN] == {
            "name": DOMAIN,
            "type": "TXT",
            "purpose": by_name[DOMAIN]["purpose"],
            "expected": f"v=spf1 include:{OPERATOR_DOMAIN} ~all",
            "found": ["v=spf1 -all"],
            "ok": False,
            "fix": "the record lacks include:relay.example; make it: v=spf1 include:relay.example -all",
        }
        assert [check["ok"] for check in answer["checks"]] == [True, True, True, False, True]

    with_domain(tmp_path, story)


@pytest.mark.parametrize(("did", "name"), [(OTHER_DID, DOMAIN), (DID, OTHER_DOMAIN)])
def test_somebody_elses_domain(tmp_path: Path, did: str, name: str) -> None:
    async def story(domain: Domain) -> None:
        with pytest.raises(Refusal) as raised:
            await domain.world.command("domain_verify", did=did, domain=name)
        assert raised.value.code == "NOT_FOUND"
        assert domain.world.dns.asked == []

    with_domain(tmp_path, story)


def test_the_command_line(tmp_path: Path) -> None:
    """`atmos-relay domain verify`, in a process of its own, by way of a relay's socket."""
    directory, dns = make_directory(tmp_path / "data"), FakeDns()

    async def verify(*options: str) -> tuple[int, str]:
        words = ["domain", "verify", str(directory), "--did", DID, "--domain", DOMAIN, *options]
        done = await trio.run_process(
            [sys.executable, "-m", "relay", *words], capture_stdout=True, capture_stderr=True, check=False
        )
        assert done.stderr == b""
        return done.returncode, done.stdout.decode()

    async def main() -> None:
        async with open_core(directory, Surroundings(resolver=dns)) as core, trio.open_nursery() as nursery:
            await nursery.start(serve_admin_socket, core)
            await order(core, "member_add", did=DID, domains=[DOMAIN], offline=True)
            answer: Any = await order(core, "dns", domain=DOMAIN)
            publish(dns, answer["domains"][0]["records"])

            status, printed = await verify()
            assert status == 0
            assert [line[:7] for line in printed.splitlines()[:-1]] == ["ok     "] * 5
            assert printed.endswith(f"{DOMAIN} is verified.\n")

            owner = f"_atmos-verify.{DOMAIN}"
            dns.txt[f"{owner}.{DOMAIN}"] = dns.txt.pop(owner)
            dns.broken.add(f"_dmarc.{DOMAIN}")
            status, printed = await verify()
            assert status == 1
            lines = printed.splitlines()
            assert lines[0] == f"PROBLEM  TXT {owner}"
            assert lines[2:4] == [f"         expected  atmos-verify={DID}", "         found     nothing"]
            assert lines[4].startswith(
                f"         fix       the record stands at {owner}.{DOMAIN}: the registrar"
            )
            assert f"UNKNOWN  TXT _dmarc.{DOMAIN}" in lines
            assert lines[-1] == f"{DOMAIN} is NOT verified."

            status, printed = await verify("--json")
            assert status == 1
            answer = json.loads(printed)
            assert (answer["verified"], answer["checks"][0]["ok"]) == (False, False)
            nursery.cancel_scope.cancel()

    trio.run(main)


# ------------------------------------------------------------------------------------------------ a real DNS


def test_dnspython_asks_a_real_server(tmp_path: Path) -> None:
    """The zone is what `atmos-relay dns` prints: an RSA key is longer than a string, and comes in two."""

    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        async with open_core(directory) as core:
            await order(core, "member_add", did=DID, domains=[DOMAIN], offline=True)
            answer: Any = await order(core, "dns", domain=DOMAIN)
            records = [Record(**record) for record in answer["domains"][0]["records"]]
            with core.store.read() as view:
                state = members.domain(view, DOMAIN)
            assert state is not None

            async def check(zone: str) -> dict[str, Finding]:
                async with open_dns_server(f"$TTL 60\n. SOA ns. admin. 1 1 1 1 1\n{zone}") as resolver:
                    dns = DnsResolver(resolver)
                    rsa = await dns.lookup_txt(records[1].name)
                    assert [[len(string) for string in record] for record in rsa] in ([[255, 155]], [[255]])
                    return {found.check: found for found in await check_domain(core, state, dns)}

            zone = zone_text(records)
            findings = await check(zone)
            assert [found.ok for found in findings.values()] == [True] * 5
            assert findings["dkim-rsa"].found == (records[1].value,)

            owner, rsa = records[0].name, records[1].value
            broken = zone.replace(f'"{rsa[255:]}"', "").replace(f"{owner}.", f"{owner}.{DOMAIN}.")
            findings = await check(broken)
            assert [found.ok for found in findings.values()] == [False, False, True, True, True]
            assert f"stands at {owner}.{DOMAIN}: the registrar" in str(findings["ownership"].fix)
            assert "cut off after 255 octets" in str(findings["dkim-rsa"].fix)

    trio.run(main)


def test_a_real_server_that_fails_has_told_nothing() -> None:
    async def main() -> None:
        async with open_dns_server(". 60 SOA ns. admin. 1 1 1 1 1") as resolver:
            dns = DnsResolver(resolver)
            with pytest.raises(LookupFailed):
                await dns.lookup_txt("servfail.example")
            with pytest.raises(NoSuchName):
                await dns.lookup_txt("nothing.example")

    trio.run(main)
