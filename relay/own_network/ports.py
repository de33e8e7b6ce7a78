"""Whether the relay's own ports answer under its name: 25 for mail that comes in, 587 and 465 for its members.

They are asked at the addresses that the DNS has, as others would. Where that fails it may be this machine that cannot
reach its own public address (a router that does not turn packets back), so behind a router it is told as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from relay.config import Config
from relay.internet.own_addresses import OwnAddress
from relay.internet.resolver import LookupFailed, NoSuchName, Resolver
from relay.networks import LOOPBACK, family_of, is_within, parse_address
from relay.own_network.findings import NetworkFinding, listed
from relay.own_network.smtp_probe import ProbeFailed, Tls, probe
from relay.surroundings import Surroundings
from relay.times import utc

#: A certificate is renewed weeks before it expires, by itself; where it is not, there is still time to look.
CERTIFICATE_DAYS_MIN: Final = 14


class Ports(NamedTuple):
    """What others connect to; in tests other numbers."""

    smtp: int = 25
    submission: int = 587
    submission_tls: int = 465
    https: int = 443


async def look_at_mx(resolver: Resolver, config: Config, own: Sequence[OwnAddress]) -> NetworkFinding:
    """Whether the MX of the operator's domain leads here."""
    domain, name = config.operator_domain, config.ehlo_name
    expected = f"an MX of {domain} that leads to {name}"
    fix = f"publish `{domain}. IN MX 10 {name}.`"
    try:
        hosts = [mx.host for mx in await resolver.lookup_mx(domain)]
    except NoSuchName:
        hosts = []
    except LookupFailed as error:
        return NetworkFinding("MX", domain, None, expected, f"no answer of the DNS ({error})")
    if name in hosts:
        return NetworkFinding("MX", domain, True, expected, listed(hosts))
    ours = {one.address for one in own}
    for host in hosts:
        try:
            if ours & set(map(parse_address, await resolver.lookup_addresses(host))):
                return NetworkFinding("MX", domain, True, expected, f"{host}, which is this machine")
        except (NoSuchName, LookupFailed):
            continue
    return NetworkFinding("MX", domain, False, expected, listed(hosts, "no MX"), fix)


class _Port(NamedTuple):
    what: str
    port: int
    tls: Tls
    #: TLS has to be there.
    needs_tls: bool


def _served(config: Config, ports: Ports) -> list[_Port]:
    """What is bound so that others can reach it."""
    served = []
    if _is_for_others(config.inbound.bind):
        served.append(_Port("mail that comes in", ports.smtp, Tls.OFFERED, False))
    if _is_for_others(config.submission.bind):
        served.append(_Port("submission", ports.submission, Tls.OFFERED, True))
    if _is_for_others(config.submission.bind_tls):
        served.append(_Port("submission", ports.submission_tls, Tls.FROM_THE_START, True))
    return served


def _is_for_others(binds: Iterable[str]) -> bool:
    return any(not _is_loopback(bind.rpartition(":")[0].strip("[]")) for bind in binds)


def _is_loopback(host: str) -> bool:
    try:
        return is_within(parse_address(host), LOOPBACK)
    except ValueError:
        return host == "localhost"


async def look_at_ports(
    surroundings: Surroundings, resolver: Resolver, config: Config, own: Sequence[OwnAddress], ports: Ports
) -> list[NetworkFinding]:
    """Each port that is served, at the first of the relay's addresses that its name has."""
    served = _served(config, ports)
    if not served:
        return []
    name = config.ehlo_name
    try:
        found = list(map(parse_address, await resolver.lookup_addresses(name)))
    except (NoSuchName, LookupFailed):
        found = []
    here = {one.address: one for one in own}
    address = next((one for one in found if one in here), found[0] if found else None)
    if address is None:
        return []  # which the EHLO name's own finding says
    behind = any(one.behind is not None and one.family == family_of(address) for one in own)
    return [
        await _look_at_port(surroundings, name, str(address), port, is_behind_router=behind)
        for port in served
    ]


async def _look_at_port(
    surroundings: Surroundings, name: str, address: str, port: _Port, *, is_behind_router: bool
) -> NetworkFinding:
    check, about = f"port {port.port}", f"{name} ({address}), {port.what}"
    wants = "TLS" if port.tls is Tls.FROM_THE_START else "SMTP with STARTTLS"
    expected = f"{wants} and a certificate for {name}"
    try:
        probed = await probe(
            surroundings, host=name, address=address, port=port.port, ehlo_name=name, tls=port.tls
        )
    except ProbeFailed as error:
        ok = None if error.is_unreached and is_behind_router else False
        fix = f"let others reach port {port.port} of this machine: its firewall, a port mapping, the bind of the port"
        if ok is None:
            fix = "look at it from another machine: here a router stands in between"
        return NetworkFinding(check, about, ok, expected, str(error), fix)
    if probed.certificate is None:
        fix = "set certificate and key in [tls]"
        says = "SMTP without STARTTLS"
        # Servers deliver in the clear, too; members must not log in there.
        return NetworkFinding(check, about, not port.needs_tls, expected, says, fix)
    days = (
        None
        if probed.not_after is None
        else (probed.not_after - utc(surroundings.clock())) // timedelta(days=1)
    )
    left = "" if days is None else f", {days} days left"
    if days is not None and days < CERTIFICATE_DAYS_MIN:
        over = "has expired" if days < 0 else f"expires in {days} days"
        return NetworkFinding(check, about, False, expected, f"a certificate that {over}", "renew it")
    if probed.certificate == "verified":
        return NetworkFinding(check, about, True, expected, f"answers, certificate verified{left}")
    why = probed.certificate.removeprefix("unverified: ")
    fix = f"get a certificate for {name} of an authority that others trust"
    # Between servers TLS is opportunistic: few look at the certificate. Members' clients refuse it.
    ok = False if port.needs_tls else None
    return NetworkFinding(check, about, ok, expected, f"answers, but of its certificate {why}{left}", fix)
