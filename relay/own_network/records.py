"""Whether the operator's own records say what its mail needs: SPF, DKIM, DMARC.

SPF is evaluated, as receivers do it (`relay.internet.spf`), and not compared as text: an operator may write it as it
likes. Members' SPF records include the operator's, so what is wrong here is wrong for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relay.domains.asking import ask
from relay.domains.diagnosis import Finding, Unanswered, diagnose_operator
from relay.domains.records import DnsRecord, dkim_record, dmarc_record
from relay.internet.own_addresses import OwnAddress
from relay.internet.resolver import Resolver
from relay.internet.spf import spf_passes
from relay.message.signer import Signer
from relay.own_network.findings import NetworkFinding, listed


async def look_at_spf(resolver: Resolver, domain: str, name: str, own: OwnAddress) -> NetworkFinding:
    """Whether receivers are told that mail of the domain may come from this address."""
    address = str(own.address)
    passed = await spf_passes(
        resolver, client_address=address, mail_from=f"postmaster@{domain}", ehlo_name=name
    )
    expected = f"the SPF record of {domain} to pass for {address}"
    if passed == domain:
        return NetworkFinding("SPF", address, True, expected, "passes")
    facts = await ask(resolver, [domain])
    answer = facts[domain]
    if isinstance(answer, Unanswered):
        return NetworkFinding("SPF", address, None, expected, f"no answer of the DNS ({answer.why})")
    texts = [b"".join(strings).decode("ascii", "backslashreplace") for strings in answer]
    records = [text for text in texts if text.lower().startswith("v=spf1")]
    term = f"ip{own.address.version}:{address}"
    fix = f'publish `{domain}. IN TXT "v=spf1 a:{name} ~all"`'
    if len(records) == 1:
        fix = f"add {term} to it (or a:{name}, where that name has the address), before its all"
    elif records:
        fix = f"leave one of the {len(records)} SPF records: with several, receivers use none"
    return NetworkFinding("SPF", address, False, expected, listed(records, "no SPF record"), fix)


async def look_at_keys_and_dmarc(
    resolver: Resolver, domain: str, signers: Iterable[Signer]
) -> list[NetworkFinding]:
    """Whether the DNS has the public halves of the operator's key files, and a DMARC record."""
    records: Sequence[DnsRecord] = [*map(dkim_record, signers), dmarc_record(domain)]
    facts = await ask(resolver, [record.name for record in records])
    return [_told(finding) for finding in diagnose_operator(domain, records, facts)]


def _told(finding: Finding) -> NetworkFinding:
    check = "DMARC" if finding.check == "dmarc" else "DKIM"
    expected = _short(finding.record.value)
    found = listed([_short(value) for value in finding.found], "no record")
    if finding.ok and finding.found:
        # The value is long, and is what was expected.
        found = "the key in the file" if check == "DKIM" else found
    if finding.ok and finding.fix:
        found = f"{found} ({finding.fix})"
    return NetworkFinding(check, finding.record.name, finding.ok, expected, found, finding.fix)


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:40]}...{value[-12:]}"
