"""What `doctor` says of mail that comes in: nobody listens, the MX leads elsewhere, the operator's mailbox is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from relay.config import Config
from relay.config_doors import InboundConfig
from relay.internet.resolver import Mx
from tests.world.dns import FakeDns
from tests.world.relay import make_directory
from tools.doctor import examine
from tools.incoming import look_at_incoming

OURS, MAILBOX = "relay.example", "you@elsewhere.example"
ADDRESS, OTHER = "198.51.100.7", "198.51.100.8"


def config(*bind: str) -> Config:
    inbound = InboundConfig(bind=bind or ("0.0.0.0:25",), operator_mailbox=MAILBOX)
    return Config(operator_domain=OURS, public_url=f"https://{OURS}", inbound=inbound)


def dns(*mx: str, broken: set[str] | None = None) -> FakeDns:
    return FakeDns(
        mx={OURS: [(10, host) for host in mx], "elsewhere.example": [(10, "mx.elsewhere.example")]},
        addresses={OURS: [ADDRESS], "alias.example": [ADDRESS], "mx.other.example": [OTHER]},
        broken=broken or set(),
    )


def said(resolver: FakeDns, *bind: str) -> list[tuple[bool, str]]:
    return [tuple(finding) for finding in look_at_incoming(config(*bind), resolver)]


@pytest.mark.parametrize("host", [OURS, "alias.example"])
def test_an_mx_that_leads_here(host: str) -> None:
    assert said(dns(host)) == [(True, f"the MX of {OURS} leads here ({ADDRESS})")]


@pytest.mark.parametrize(
    ("resolver", "ok", "sentence"),
    [
        (
            dns("mx.other.example"),
            False,
            "leads elsewhere (mx.other.example); publish `relay.example. IN MX 10 ",
        ),
        (dns(), False, "relay.example has no MX; publish "),
        (FakeDns(mx={"elsewhere.example": [(1, "a.example")]}), False, "relay.example is not in the DNS"),
        (dns(OURS, "mx.other.example"), True, "others elsewhere (mx.other.example)"),
        (dns(OURS, broken={OURS}), True, "could not be looked up: MX lookup: SERVFAIL"),
    ],
)
def test_any_other_mx(resolver: FakeDns, ok: bool, sentence: str) -> None:
    ((found, says),) = said(resolver)
    assert (found, sentence in says) == (ok, True), says


def test_a_name_without_an_address() -> None:
    resolver = dns(OURS)
    del resolver.addresses[OURS]
    ((ok, says),) = said(resolver)
    assert not ok
    assert "has no address" in says


def test_a_mailbox_in_no_domain() -> None:
    resolver = dns(OURS)
    del resolver.mx["elsewhere.example"]
    _, (ok, says) = said(resolver)
    assert not ok
    assert "operator_mailbox: elsewhere.example" in says


@pytest.mark.parametrize("mx", [["alias.example"], ["mx.elsewhere.example", OURS], []])
def test_a_mailbox_in_a_domain_whose_mail_comes_here(mx: list[str]) -> None:
    resolver = dns(OURS)
    resolver.mx["elsewhere.example"] = [Mx(10, host) for host in mx]
    resolver.addresses["elsewhere.example"] = [ADDRESS]
    _, (ok, says) = said(resolver)
    assert not ok
    assert "operator_mailbox: mail for elsewhere.example comes to this relay" in says


@pytest.mark.parametrize(
    ("bind", "ok", "sentence"),
    [
        (("0.0.0.0:2525",), True, "no [inbound] bind has port 25"),
        (("127.0.0.1:25", "[::1]:25"), False, "is of this machine alone"),
        (("localhost:25",), False, "is of this machine alone"),
    ],
)
def test_a_port_that_nobody_reaches(bind: tuple[str, ...], ok: bool, sentence: str) -> None:
    (found, says), _ = said(dns(OURS), *bind)
    assert (found, sentence in says) == (ok, True)


@pytest.mark.parametrize("bind", [("[::]:25",), ("127.0.0.1:25", "192.0.2.1:25"), ("mx.relay.example:25",)])
def test_a_port_that_others_reach(bind: tuple[str, ...]) -> None:
    assert len(said(dns(OURS), *bind)) == 1


def test_dns_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(FakeDns):
        async def lookup_mx(self, domain: str) -> list[Mx]:
            await trio.sleep_forever()
            raise AssertionError

    monkeypatch.setattr("tools.incoming.PATIENCE_SECONDS", 0.01)
    ((ok, says),) = look_at_incoming(config(), Silent())
    assert ok
    assert "does not answer" in says


def test_where_nobody_listens_doctor_says_what_is_lost(tmp_path: Path) -> None:
    findings = {finding.check: finding for finding in examine(make_directory(tmp_path / "data"))}
    ok, says = findings["mail that comes in"][1:]
    assert ok
    assert "bounces that come later" in says
