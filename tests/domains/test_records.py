"""DNS records: complete, and the zone file means what the records say."""

import dns.rdatatype
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dns.rdtypes.ANY.TXT import TXT

from relay.domains.records import DnsRecord, member_records, operator_records, zone_text
from relay.message.signer import Signer

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


@pytest.fixture(scope="module")
def signers() -> list[Signer]:
    return [
        Signer(
            "member.example", "atmos20251124r", rsa.generate_private_key(public_exponent=65537, key_size=2048)
        ),
        Signer("member.example", "atmos20251124e", Ed25519PrivateKey.generate()),
    ]


def by_name(records: list[DnsRecord]) -> dict[str, str]:
    return {f"{record.type} {record.name}": record.value for record in records}


def test_a_members_records(signers: list[Signer]) -> None:
    records = member_records("member.example", did=DID, operator_domain="relay.example", signers=signers)
    assert by_name(records) == {
        "TXT _atmos-verify.member.example": f"atmos-verify={DID}",
        "TXT atmos20251124r._domainkey.member.example": f"v=DKIM1; k=rsa; p={signers[0].public_key}",
        "TXT atmos20251124e._domainkey.member.example": f"v=DKIM1; k=ed25519; p={signers[1].public_key}",
        "TXT member.example": "v=spf1 include:relay.example ~all",
        "TXT _dmarc.member.example": "v=DMARC1; p=reject; adkim=r; aspf=r",
    }
    assert all(record.purpose for record in records)


def test_the_operators_records(signers: list[Signer]) -> None:
    records = operator_records("member.example", host="mx.member.example", signers=signers)
    assert by_name(records) == {
        "TXT atmos20251124r._domainkey.member.example": f"v=DKIM1; k=rsa; p={signers[0].public_key}",
        "TXT atmos20251124e._domainkey.member.example": f"v=DKIM1; k=ed25519; p={signers[1].public_key}",
        "TXT member.example": "v=spf1 a:mx.member.example ~all",
        "TXT _dmarc.member.example": "v=DMARC1; p=reject; adkim=r; aspf=r",
        "MX member.example": "10 mx.member.example",
    }


def test_a_zone_file_reads_back_to_the_records(signers: list[Signer]) -> None:
    records = [
        *operator_records("member.example", host="mx.member.example", signers=signers),
        DnsRecord("TXT", "odd.member.example", 'a "quoted" \\ value; with all' + "x" * 300, "Oddities."),
    ]
    text = zone_text(records)
    zone = dns.zone.from_text(text, origin="member.example.", relativize=False, check_origin=False)
    found = set()
    for name, _, rdata in zone.iterate_rdatas():
        if isinstance(rdata, TXT):
            assert all(len(string) <= 255 for string in rdata.strings)
            value = b"".join(rdata.strings).decode()
        else:
            value = rdata.to_text().rstrip(".")
        found.add((dns.rdatatype.to_text(rdata.rdtype), name.to_text(omit_final_dot=True), value))
    assert found == {record[:3] for record in records}
    assert all(line.startswith("; ") or " IN " in line for line in text.splitlines())
