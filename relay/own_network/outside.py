"""Whether the relay gets out: port 25 of others, the name servers, the time, and its own pages over TLS.

Few and polite: one server of each provider in PROVIDERS, once, with EHLO and QUIT. Where all mail goes by a fixed route
(`[delivery] routes "*"`) nobody outside is asked, because no mail goes there.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Final

import trio

from relay.config import Config
from relay.delivery.resolve import RoutingFailed, resolve_mx, resolve_targets
from relay.internet.https import FetchError, fetch
from relay.internet.own_addresses import OwnAddress
from relay.internet.resolver import LookupFailed, NoSuchName, Resolver
from relay.networks import family_of, parse_address
from relay.own_network.findings import NetworkFinding, listed
from relay.own_network.ports import Ports
from relay.own_network.smtp_probe import Probed, ProbeFailed, Tls, probe
from relay.surroundings import Surroundings
from relay.times import utc

#: Domains whose receivers are asked. Everybody has mail for them.
PROVIDERS: Final = ("gmail.com", "yahoo.com", "outlook.com")
#: Signatures, certificates and one-time codes go wrong by minutes; a second is the resolution of what is compared.
CLOCK_SECONDS_MAX: Final = 30


async def look_at_way_out(
    surroundings: Surroundings,
    resolver: Resolver,
    config: Config,
    own: Sequence[OwnAddress],
    *,
    ports: Ports,
    domains: Sequence[str] = PROVIDERS,
) -> list[NetworkFinding]:
    """Whether port 25 of others can be reached from here, and as whom they see us; in each family in which we send."""
    found: list[NetworkFinding] = []
    seen: dict[str, Probed | ProbeFailed | None] = {}

    async def ask(domain: str, one: OwnAddress) -> None:
        seen[f"{domain} {one.family}"] = await _ask(surroundings, resolver, config, domain, one, ports.smtp)

    for one in own:
        async with trio.open_nursery() as nursery:
            for domain in domains:
                nursery.start_soon(ask, domain, one)
        answers = {domain: seen[f"{domain} {one.family}"] for domain in domains}
        found.append(_way_out(one, answers, ports.smtp))
    return found


async def _ask(
    surroundings: Surroundings, resolver: Resolver, config: Config, domain: str, one: OwnAddress, port: int
) -> Probed | ProbeFailed | None:
    """None: the domain has no receiver in this family."""
    try:
        hosts = await resolve_mx(domain, resolver=resolver, rng=surroundings.dice)
        targets = await resolve_targets(hosts, resolver=resolver, rng=surroundings.dice, port=port)
    except RoutingFailed as error:
        return ProbeFailed(str(error))
    for target in targets:
        if family_of(parse_address(target.address)) == one.family:
            try:
                return await probe(
                    surroundings,
                    host=target.host,
                    address=target.address,
                    port=target.port,
                    ehlo_name=config.ehlo_name,
                    tls=Tls.NONE,
                )
            except ProbeFailed as error:
                return error
    return None


def _way_out(one: OwnAddress, answers: dict[str, Probed | ProbeFailed | None], port: int) -> NetworkFinding:
    check, about = "way out", f"port {port} of others, from {one.address}"
    expected = f"receivers of {', '.join(answers)} that say hello"
    good = [domain for domain, answer in answers.items() if isinstance(answer, Probed)]
    failures = {domain: str(answer) for domain, answer in answers.items() if isinstance(answer, ProbeFailed)}
    if not good and not failures:
        return NetworkFinding(check, about, None, expected, f"none of them has a receiver by {one.family}")
    others = sorted(
        str(answer.seen_as)
        for answer in answers.values()
        if isinstance(answer, Probed) and answer.seen_as is not None
        if answer.seen_as != one.address and family_of(answer.seen_as) == one.family
    )
    if others:
        return NetworkFinding(
            check,
            about,
            False,
            f"receivers that see {one.address}",
            f"receivers that see {listed(list(dict.fromkeys(others)))}",
            "that is where mail goes out from: give it the reverse name, the SPF term and the A record",
        )
    if failures:
        says = "; ".join(f"{domain}: {why}" for domain, why in failures.items())
        if good:
            # One that is down, or does not like us, is no closed port.
            return NetworkFinding(check, about, True, expected, f"{listed(good)} said hello ({says})")
        fix = "many hosters close outgoing port 25 until they are asked to open it; ask yours"
        return NetworkFinding(check, about, False, expected, says, fix)
    return NetworkFinding(check, about, True, expected, f"{listed(good)} said hello")


async def look_at_clock(surroundings: Surroundings, resolver: Resolver, config: Config) -> NetworkFinding:
    """Compared with that of the server which is asked for members' DIDs anyway."""
    url = config.members.plc_directory
    expected = f"the time of {url}, to {CLOCK_SECONDS_MAX} s"
    try:
        answer = await fetch(
            "HEAD",
            f"{url}/",
            resolver=resolver,
            open_stream=surroundings.open_stream,
            tls=surroundings.tls,
        )
        there = parsedate_to_datetime(dict(answer.headers)["date"])
    except (FetchError, KeyError, ValueError, OverflowError, TypeError) as error:
        why = str(error) if isinstance(error, FetchError) else "it says no time"
        return NetworkFinding("clock", "this machine", None, expected, f"not comparable: {why}")
    if there.tzinfo is None:
        return NetworkFinding("clock", "this machine", None, expected, "not comparable: it says no zone")
    seconds = round((utc(surroundings.clock()) - there).total_seconds())
    if abs(seconds) > CLOCK_SECONDS_MAX:
        says = f"{abs(seconds)} s {'ahead' if seconds > 0 else 'behind'}"
        fix = "let the system keep the time by NTP (`timedatectl set-ntp true`)"
        return NetworkFinding("clock", "this machine", False, expected, says, fix)
    return NetworkFinding("clock", "this machine", True, expected, "right to the second or two")


async def look_at_public_url(
    surroundings: Surroundings, resolver: Resolver, config: Config
) -> list[NetworkFinding]:
    """Whether this relay answers under `public_url`, and its unsubscribe pages do, over TLS that others trust."""
    if not config.public_url.startswith("https://"):
        return []  # `doctor` says so without a look
    found = []
    for path, check, status, marks in (
        ("/healthz", "public_url", 200, b'"live"'),
        # RFC 8058: providers POST to a page below it. This token is none, and a page says so.
        ("/u/doctor", "unsubscribe links", 404, b"<"),
    ):
        url = f"{config.public_url}{path}"
        expected = f"this relay's answer ({status}) over TLS"
        fix = "let the proxy hand every path to [http] bind; see examples/ for its configuration"
        try:
            answer = await fetch(
                "GET",
                url,
                resolver=resolver,
                open_stream=surroundings.open_stream,
                tls=surroundings.tls,
            )
        except FetchError as error:
            ok = None if error.why in ("connection", "timeout", "address") else False
            why = (
                "; it may be that only this machine cannot reach it: look from another" if ok is None else ""
            )
            found.append(NetworkFinding(check, url, ok, expected, f"{error}{why}", fix))
            continue
        if answer.status == status and marks in answer.body:
            found.append(NetworkFinding(check, url, True, expected, f"answers {status}"))
        else:
            found.append(
                NetworkFinding(check, url, False, expected, f"an answer {answer.status} of another", fix)
            )
    return found


async def look_at_lists(resolver: Resolver, zones: Sequence[str]) -> list[NetworkFinding]:
    """Whether the lists of `[monitoring] dnsbl` answer who asks from here. RFC 5782 section 5: each names 127.0.0.2.

    Spamhaus and others refuse what comes through a public resolver, by an address in 127.255.255.0/24; some resolvers
    answer anything at all.
    """
    found = []
    for zone in zones:
        expected = "an answer to its test entry 127.0.0.2, by an address in 127.0.0.0/8"
        fix = "let this machine have a resolver of its own (unbound, say): public ones are refused by lists"
        try:
            codes = await resolver.lookup_addresses(f"2.0.0.127.{zone}")
        except NoSuchName:
            codes = []
        except LookupFailed as error:
            found.append(NetworkFinding("list", zone, None, expected, f"no answer of the DNS ({error})"))
            continue
        good = [one for one in codes if one.startswith("127.") and not one.startswith("127.255.255.")]
        if codes and len(good) == len(codes):
            found.append(NetworkFinding("list", zone, True, expected, f"answers ({listed(codes)})"))
        else:
            says = f"{listed(codes, 'nothing')}: what it says of the relay's addresses means nothing"
            found.append(NetworkFinding("list", zone, False, expected, says, fix))
    return found
