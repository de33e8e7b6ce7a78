"""`doctor --network`: where everything is right nothing is found, and each thing that is wrong is found, by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from relay.message.keys import KeyRing
from relay.message.signer import Signer
from relay.own_network import outside
from relay.own_network.findings import NetworkFinding
from relay.surroundings import Surroundings
from tests.own_network.world import (
    ADDRESS,
    DOMAIN,
    NAME,
    PROVIDER,
    WEB,
    authority,
    config,
    found,
    right_records,
    standing,
)
from tests.world.name_service import NameService, running_name_service
from tests.world.self_signed import self_signed_context

ALL = [
    ("own address", True),
    ("resolver", True),
    ("EHLO name", True),
    ("reverse name", True),
    ("unused address", True),
    ("SPF", True),
    ("DKIM", True),
    ("DKIM", True),
    ("DMARC", True),
    ("MX", True),
    ("port", True),
    ("port", True),
    ("port", True),
    ("public_url", True),
    ("unsubscribe links", True),
    ("way out", True),
    ("list", True),
    ("clock", True),
]


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signer, Signer]:
    directory: Path = tmp_path_factory.mktemp("keys")
    return KeyRing(directory).create(DOMAIN, "atmos20260101")


@pytest.fixture(scope="module")
def right(signers: tuple[Signer, Signer]) -> Iterator[NameService]:
    """Where the DNS is not what is wrong."""
    with running_name_service(right_records(signers)) as service:
        yield service


def looked(
    signers: tuple[Signer, Signer],
    dns: NameService | dict[str, str],
    *,
    validates: bool = True,
    settings: Any = None,
    **standing_as: Any,
) -> list[NetworkFinding]:
    """`dns`: what stands in it in place of something that is right."""

    async def main(service: Any) -> list[NetworkFinding]:
        async with standing(service, **standing_as) as world:
            return await found(world, signers, settings)

    if isinstance(dns, NameService):
        return trio.run(main, dns)
    zone = right_records(signers)
    for old, new in dns.items():
        assert old in zone
        zone = zone.replace(old, new)
    with running_name_service(zone, validates=validates) as service:
        return trio.run(main, service)


def kind(finding: NetworkFinding) -> str:
    return finding.check.partition(" ")[0] if finding.check.startswith("port") else finding.check


def others(findings: list[NetworkFinding]) -> Iterator[NetworkFinding]:
    return (finding for finding in findings if finding.ok is not True and finding.check != "own address")


def test_where_everything_is_right(signers: tuple[Signer, Signer], right: NameService) -> None:
    heard: list[bytes | bytearray] = []
    findings = looked(signers, right, heard=heard)
    # A loopback address is nobody's that receivers could see.
    expected = [("own address", None), *ALL[1:]]
    assert [(kind(finding), finding.ok) for finding in findings] == expected, findings
    # The provider is asked nothing but this.
    assert [bytes(said) for said in heard] == [f"EHLO {NAME}\r\n".encode(), b"QUIT\r\n"]


PTR = f"25.0.0.127.in-addr.arpa. PTR {NAME}.\n"


@pytest.mark.parametrize(
    ("changes", "check", "says", "fix"),
    [
        ({f"{NAME}. A {ADDRESS}": f"{NAME}. A 127.0.0.26"}, "EHLO name", "127.0.0.26", f"IN A {ADDRESS}"),
        ({PTR: ""}, "reverse name", "no PTR record", f"to {NAME} where you rent"),
        (
            {PTR: "25.0.0.127.in-addr.arpa. PTR host-25.isp.example.\n"},
            "reverse name",
            "PTR host-25.isp.example, which does not lead back",
            f"to {NAME}",
        ),
        (
            {PTR: f"25.0.0.127.in-addr.arpa. PTR host.isp.example.\nhost.isp.example. A {ADDRESS}\n"},
            "reverse name",
            "PTR host.isp.example, and back",
            "set [delivery] ehlo_name to host.isp.example",
        ),
        # Evaluated: the include leads to a record that does not have us, whatever it looks like.
        (
            {f"v=spf1 a:{NAME} -all": f"v=spf1 ip4:192.0.2.1 exists:{NAME}.nothing.example -all"},
            "SPF",
            "include:",
            f"add ip4:{ADDRESS}",
        ),
        ({f'{DOMAIN}. TXT "v=spf1 include:_spf.{DOMAIN} -all"\n': ""}, "SPF", "no SPF record", "publish"),
        ({f"{DOMAIN}. MX 10 {NAME}.": f"{DOMAIN}. MX 10 {NAME}x."}, "MX", f"{NAME}x", "publish"),
        ({f"_dmarc.{DOMAIN}": f"_dmark.{DOMAIN}"}, "DMARC", "no record", "publish it"),
        ({"k=ed25519; p=": "k=ed25519; p=A"}, "DKIM", "k=ed25519; p=A", "another key"),
        (
            {"good.list.example. A 127.0.0.2": "good.list.example. A 127.255.255.254"},
            "list",
            "127.255.255.254: what it says",
            "resolver of its own",
        ),
        ({"2.0.0.127.good": "1.0.0.127.good"}, "list", "nothing", "resolver of its own"),
    ],
)
def test_each_record_that_is_wrong(
    signers: tuple[Signer, Signer], changes: dict[str, str], check: str, says: str, fix: str
) -> None:
    findings = looked(signers, changes)
    wrong = [finding for finding in findings if finding.check == check and finding.ok is False]
    assert len(wrong) == 1, findings
    assert says in wrong[0].found
    assert fix in (wrong[0].fix or "")
    # What is right stays right, but for what hangs on the name's own address.
    if check != "EHLO name":
        assert [finding.check for finding in others(findings)] == [check]


def test_a_machine_without_an_address_of_a_family_that_mail_goes_out_by_is_told(
    signers: tuple[Signer, Signer], right: NameService
) -> None:
    def of(**delivery: Any) -> list[Any]:
        async def main() -> list[NetworkFinding]:
            async with standing(right) as world:
                return await found(world._replace(own=()), signers, config(**delivery))

        return [(one.about, one.ok) for one in trio.run(main) if one.check == "own address"]

    assert of() == [("ipv4", False)]
    assert of(families=("ipv4", "ipv6")) == [("ipv4 or ipv6", False)]
    # Where all mail has a route, that may be on this machine.
    assert of(routes={"*": "127.0.0.1:25"}) == []


def test_an_address_that_no_mail_goes_out_from_is_no_problem(
    signers: tuple[Signer, Signer], right: NameService
) -> None:
    (finding,) = [one for one in looked(signers, right) if one.check == "unused address"]
    assert finding.found == "no mail goes out from it; PTR six.relay.example, and back"
    (finding,) = [
        one
        for one in looked(signers, {"PTR six.relay.example.": "PTR mx.relay.example."})
        if one.check == "unused address"
    ]
    assert finding.found == "no mail goes out from it; PTR mx.relay.example, which leads elsewhere"


def test_a_resolver_that_checks_no_signatures_is_no_problem_and_is_told(
    signers: tuple[Signer, Signer],
) -> None:
    (finding,) = others(looked(signers, {}, validates=False))
    assert (finding.check, finding.ok) == ("resolver", None)
    assert "does not check signatures" in finding.found


@pytest.mark.parametrize(
    ("certificate", "says", "of_25"),
    [
        (lambda: self_signed_context(NAME, days=90), "it is self-signed", None),
        (lambda: self_signed_context(NAME, days=5), "expires in", False),
        (lambda: authority().certificate(NAME, expired=True), "has expired", False),
        (lambda: authority().certificate("other.example"), "it is for another name", None),
    ],
)
def test_a_certificate_that_is_wrong(
    signers: tuple[Signer, Signer], right: NameService, certificate: Any, says: str, of_25: bool | None
) -> None:
    wrong = list(others(looked(signers, right, certificate=certificate())))
    # Between servers a certificate is looked at by few; members' clients refuse what is wrong.
    assert [finding.ok for finding in wrong] == [of_25, False, False]
    assert all(says in finding.found for finding in wrong), wrong


def test_receivers_that_see_another_address_tell_it(
    signers: tuple[Signer, Signer], right: NameService
) -> None:
    says = (b"250-big at your service, [203.0.113.9]\r\n250 8BITMIME\r\n", b"221 bye\r\n")
    (finding,) = others(looked(signers, right, provider_says=says))
    assert (finding.check, finding.ok) == ("way out", False)
    assert "receivers that see 203.0.113.9" in finding.found


@pytest.mark.parametrize(
    ("standing_as", "says"),
    [
        ({"closed": [PROVIDER]}, "Connection refused"),
        ({"provider_says": (b"554 5.7.1 go away\r\n",)}, "554 5.7.1 go away"),
        ({"provider_says": (b"\xff\x00 no SMTP\r\n",)}, "speaks no SMTP"),
        ({"provider_says": ()}, "hung up"),
    ],
)
def test_a_way_out_that_is_closed(
    signers: tuple[Signer, Signer], right: NameService, standing_as: dict[str, Any], says: str
) -> None:
    (finding,) = others(looked(signers, right, **standing_as))
    assert (finding.check, finding.ok) == ("way out", False)
    assert says in finding.found


def test_nobody_outside_is_asked_where_all_mail_has_a_route(
    signers: tuple[Signer, Signer], right: NameService
) -> None:
    heard: list[bytes | bytearray] = []
    findings = looked(signers, right, heard=heard, settings=config(routes={"*": "127.0.0.1:2526"}))
    assert findings[-1].check == "way out"
    assert "nobody else is asked" in findings[-1].found
    assert heard == []


def test_another_server_behind_public_url(signers: tuple[Signer, Signer], right: NameService) -> None:
    wrong = list(others(looked(signers, right, pages=lambda path: (200, b"<h1>It works!</h1>"))))
    assert [(finding.check, finding.ok) for finding in wrong] == [
        ("public_url", False),
        ("unsubscribe links", False),
    ]
    unreached = list(others(looked(signers, right, closed=[WEB])))
    assert [(finding.check, finding.ok) for finding in unreached] == [
        ("public_url", None),
        ("unsubscribe links", None),
    ]


def test_a_clock_that_is_wrong(signers: tuple[Signer, Signer], right: NameService) -> None:
    (finding,) = others(looked(signers, right, clock_ahead_seconds=90))
    assert finding.check == "clock"
    assert "s ahead" in finding.found


@pytest.mark.parametrize("date", ["+99999999999999999999", "GMT"])
def test_a_date_that_is_none_says_nothing_of_the_clock(monkeypatch: pytest.MonkeyPatch, date: str) -> None:
    async def fetch(*_: Any, **__: Any) -> Any:
        year = "2026" if date != "GMT" else "9" * 20
        return SimpleNamespace(headers=[("date", f"Mon, 01 Jan {year} 10:00:00 {date}")])

    monkeypatch.setattr(outside, "fetch", fetch)
    surroundings = Surroundings()
    finding = trio.run(outside.look_at_clock, surroundings, surroundings.dns(), config())
    assert (finding.ok, finding.found) == (None, "not comparable: it says no time")
