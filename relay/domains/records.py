"""Says which DNS records the operator and the members must publish.

Contract: pure functions from names and public keys to `DnsRecord`s that are ready to paste. A name is fully
qualified without a final dot; the value of a TXT record is one string, unquoted. `zone_text` writes the
same as a zone file (RFC 1035 §5.1), where a string has at most 255 octets: an RSA key becomes several,
which the verifier joins (RFC 6376 §3.6.2.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:  # the command line prints records, and shall not load what signs
    from relay.message.signer import Signer
    from relay.views.members import NextKey

TXT_STRING_OCTETS_MAX: Final = 255  # RFC 1035 §3.3
TTL_SECONDS: Final = 3600


class DnsRecord(NamedTuple):
    """One record. The value of an MX is its preference and its host."""

    type: Literal["TXT", "MX"]
    name: str
    value: str
    purpose: str


def member_records(
    domain: str, *, did: str, operator_domain: str, signers: Iterable[Signer]
) -> list[DnsRecord]:
    """Return what a member publishes for a sending domain."""
    return [
        DnsRecord(
            "TXT",
            f"_atmos-verify.{domain}",
            f"atmos-verify={did}",
            "Proves to the relay that the domain belongs to the member.",
        ),
        *map(dkim_record, signers),
        DnsRecord(
            "TXT",
            domain,
            f"v=spf1 include:{operator_domain} ~all",
            "SPF: lets the relay send for the domain. Where there is an SPF record, add the include to it.",
        ),
        dmarc_record(domain),
    ]


def operator_records(domain: str, *, host: str, signers: Iterable[Signer]) -> list[DnsRecord]:
    """Return what the operator publishes; `host` is the relay's own name, with its A and AAAA records.

    Members' SPF records include this domain's, so this one names the machine that sends.
    """
    return [
        *map(dkim_record, signers),
        DnsRecord(
            "TXT",
            domain,
            f"v=spf1 a:{host} ~all",
            "SPF: names the machine that sends, for this domain and for every member's that includes it.",
        ),
        dmarc_record(domain),
        DnsRecord(
            "MX",
            domain,
            f"10 {host}",
            "Receivers refuse an envelope sender whose domain could not take the bounce.",
        ),
    ]


def dkim_record(signer: Signer) -> DnsRecord:
    """Return the record of one DKIM key (RFC 6376 §3.6.1, RFC 8463 §4)."""
    what: Literal["RSA", "Ed25519"] = "RSA" if signer.algorithm == "rsa-sha256" else "Ed25519"
    return _key_record(signer.domain, signer.selector, what, signer.public_key)


def key_records(domain: str, key: NextKey) -> list[DnsRecord]:
    """Return what is published of a pair of keys that is not used yet."""
    pairs: list[tuple[Literal["RSA", "Ed25519"], str]] = [
        ("RSA", key.rsa_public),
        ("Ed25519", key.ed25519_public),
    ]
    return [
        _key_record(domain, f"{key.selector_stem}{kind[0].lower()}", kind, public_key)
        for kind, public_key in pairs
    ]


def _key_record(domain: str, selector: str, what: Literal["RSA", "Ed25519"], public_key: str) -> DnsRecord:
    return DnsRecord(
        "TXT",
        dkim_name(domain, selector),
        dkim_value(what, public_key),
        f"DKIM: the {what} key with which receivers verify the signatures of {domain}.",
    )


def dkim_name(domain: str, selector: str) -> str:
    return f"{selector}._domainkey.{domain}"


def dkim_value(kind: Literal["RSA", "Ed25519"], public_key: str) -> str:
    """What is published of a key: `public_key` is its p=, as `Signer` and `domain.added` have it."""
    return f"v=DKIM1; k={kind.lower()}; p={public_key}"


def zone_text(records: Sequence[DnsRecord]) -> str:
    """Return the records as lines of a zone file, each under a comment with its purpose."""
    return "".join(f"; {record.purpose}\n{_zone_line(record)}\n" for record in records)


def dmarc_record(domain: str) -> DnsRecord:
    return DnsRecord(
        "TXT",
        f"_dmarc.{domain}",
        "v=DMARC1; p=reject; adkim=r; aspf=r",
        "DMARC: asks receivers to refuse mail in the domain's name that is not signed for it.",
    )


def _zone_line(record: DnsRecord) -> str:
    if record.type == "MX":
        data = f"{record.value}."
    else:
        value = record.value
        strings = [
            value[start : start + TXT_STRING_OCTETS_MAX]
            for start in range(0, len(value), TXT_STRING_OCTETS_MAX)
        ]
        data = " ".join(map(_quoted, strings))
        if len(strings) > 1:
            data = f"( {data} )"
    return f"{record.name}. {TTL_SECONDS} IN {record.type} {data}"


def _quoted(string: str) -> str:
    escaped = string.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
