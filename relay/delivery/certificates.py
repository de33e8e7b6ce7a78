"""What a receiver's certificate proves, found out after the handshake and never in its way.

The contract. `opportunistic_context()` is the TLS client's side for one connection: it accepts every certificate (RFC
7435), and keeps what the receiver showed in `presented`. `describe` says of that, for the record of the attempt,
either "verified" (a chain of valid certificates leads from one for this host to an authority that is trusted) or
"unverified: " and why. It decides nothing about the delivery.

OpenSSL cannot do both in one handshake through Python's ssl module: with CERT_REQUIRED a wrong certificate ends the
connection, with CERT_NONE nothing is checked. So the chain is taken from the connection and followed by
`cryptography`, by the rules of the web's authorities. Python gives the chain a public name with 3.13
(`SSLObject.get_unverified_chain`); until then it is the object beneath that has it. Where neither does, the first
certificate is all there is, and what an intermediate authority issued stays "unverified".

Bounded: OpenSSL takes chains up to 100 kB, CERTIFICATES_MAX of them are read, and a chain is followed to a depth of
eight.
"""

import ipaddress
import ssl
import warnings
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

VERIFIED: Final = "verified"
CERTIFICATES_MAX: Final = 10

_ENCODING_DER: Final = 2  # ssl's own constant, for what has no public name yet

# What `cryptography` says of certificates, host names and keys that it can make nothing of.
_UNREADABLE: Final = (
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


class OpportunisticContext(ssl.SSLContext):
    """For one connection. Made by opportunistic_context."""

    presented: tuple[bytes, ...] = ()
    """The certificates that the receiver showed, DER, its own first; set by the handshake."""


def opportunistic_context() -> OpportunisticContext:
    """TLS 1.2 or later to whoever it may be."""
    context = OpportunisticContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslobject_class = _SslConnection
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Old receivers have short DH parameters. What they would get instead of a weak key is no encryption.
    context.set_ciphers("DEFAULT@SECLEVEL=1")
    return context


class _SslConnection(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        if isinstance(self.context, OpportunisticContext):
            self.context.presented = tuple(_presented(self)[:CERTIFICATES_MAX])


def _presented(connection: ssl.SSLObject) -> list[bytes]:
    for holder in (connection, getattr(connection, "_sslobj", None)):
        get_chain = getattr(holder, "get_unverified_chain", None)
        if get_chain is not None:
            chain = get_chain() or ()
            return [one if isinstance(one, bytes) else one.public_bytes(_ENCODING_DER) for one in chain]
    own = connection.getpeercert(binary_form=True)
    return [] if own is None else [own]


def describe(
    presented: Sequence[bytes], host: str, *, now: datetime, trust: ssl.SSLContext | None = None
) -> str:
    """What the certificates that `host` showed prove at the time `now`.

    `trust`: its authorities are believed; None: those that the system believes.
    """
    if not presented:
        return "unverified: none was shown"
    try:
        own, *others = map(_load, presented)
        why_not = _why_not(own, host, now)
        if why_not is not None:
            return f"unverified: {why_not}"
        store = _authorities(trust)
        if store is None:
            return "unverified: there is no authority that is trusted here"
        PolicyBuilder().store(store).time(now).build_server_verifier(_subject(host)).verify(own, others)
    except VerificationError:
        return "unverified: no valid chain leads to an authority that is trusted here"
    except _UNREADABLE:
        return "unverified: it cannot be read"
    return VERIFIED


def _why_not(certificate: x509.Certificate, host: str, now: datetime) -> str | None:
    """What is wrong with the receiver's own certificate, whoever issued it; None: nothing."""
    if not any(_name_matches(name, host) for name in _names_in(certificate)):
        return "it is for another name"
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        return "it is not valid today"
    if certificate.issuer == certificate.subject:
        return "it is self-signed"
    return None


def _load(der: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        # What the library finds fault with is the business of whoever made the certificate.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_der_x509_certificate(der)


@cache
def _authorities(trust: ssl.SSLContext | None) -> Store | None:
    """Reads files at the first call, for `trust` None."""
    context = trust or ssl.create_default_context()
    certificates = [_load(der) for der in context.get_ca_certs(binary_form=True)]
    return Store(certificates) if certificates else None


def _subject(host: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _names_in(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    return [*extension.value.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _name_matches(name: str, host: str) -> bool:
    """RFC 6125 section 6.4: case does not matter, and a star stands for the whole first label."""
    name, host = name.lower(), host.lower()
    return name == host or (name.startswith("*.") and host.partition(".")[2] == name[2:])
