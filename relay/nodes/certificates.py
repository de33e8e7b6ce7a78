"""By what the nodes of one relay know each other: a certificate authority of their own, and a certificate for each.

The invariant: **whoever talks to a node over these contexts has a key that this relay's authority has signed for a node
of that name, and nothing else will do**: no certificate of the public authorities, none of another relay's, none of
this relay's for another name. A node that was taken out of the relay still has its certificate, and the authority's key
to make itself others, so either side looks besides whether the key that was shown is that of a node of this name
(`relay.nodes.members`): all that is said of a key there is its digest, the *identity*.

Below the data directory, each file 0600, as a secret is (`relay.message.key_files`)::

    node/ca.pem   the authority: its private key (PKCS #8) and its certificate
    node/own.pem  this node's private key, which it keeps for its life, and its certificate

The authority is made when a relay gets its first node (`found`), for CA_DAYS, and every node has a copy: a node has
the pepper and all DKIM keys, so there is nothing that it could be kept from by that. `node add` makes the key and the
first certificate of a new node (`made_for`), and they come in its bundle. Each node makes its next certificates itself,
of the same key, for NODE_DAYS, when less than a third of them are left (`renew`, at a start and then once a day);
nobody is asked or told, for the others know the authority and the key, and no certificate. The authority itself is
renewed by hand, within CA_DAYS: delete `node/ca.pem` at all nodes, `found` it anew at one, and copy it.

TLS 1.3 alone, both sides show a certificate, no session is resumed. A name is in its certificate as `NAME.node.invalid`
(RFC 2606), to which the authority is confined (RFC 5280 4.2.1.10): it could vouch for no name that a browser asks for.
"""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from relay.config_nodes import is_node_name
from relay.message.key_files import (
    KeyFileError,
    fsync_directory,
    make_private_directory,
    read_private,
    write_new,
)
from relay.nodes.members import IDENTITY_CHARACTERS

logger = logging.getLogger(__name__)

CA_DAYS: Final = 3653
NODE_DAYS: Final = 365
#: A certificate is renewed when less than this part of its days is left.
LEFT: Final = 1 / 3
#: The clocks of nodes differ, and a certificate is used at once.
EARLIER: Final = timedelta(hours=1)
_ZONE: Final = "node.invalid"


def host_of(name: str) -> str:
    """As what a node's name stands in its certificate."""
    assert is_node_name(name), name
    return f"{name}.{_ZONE}"


def found(directory: Path, now: datetime) -> None:
    """Make the authority of a relay's nodes. Durable when it returns. Raises KeyFileError where there is one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("atmos-relay nodes")
    certificate = (
        _begun(name, name, key, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(
            x509.NameConstraints(permitted_subtrees=[x509.DNSName(_ZONE)], excluded_subtrees=None),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    install(directory, _pem(key, certificate))


def install(directory: Path, authority: bytes) -> None:
    """Keep an authority that another node has (what `authority` gives there). Raises KeyFileError where there is one,
    or where it is none."""
    _read(authority, "the authority")
    path = _authority_file(directory)
    _make_room(directory)
    write_new(path, authority)


def authority(directory: Path) -> bytes:
    """What another node of this relay is to have, too. It is a secret. Raises KeyFileError."""
    path = _authority_file(directory)
    if not path.exists():
        raise KeyFileError(
            f"{path}: is missing; `atmos-relay node found DIR` makes it at the first node, and at others "
            "`atmos-relay node join` brings it"
        )
    return read_private(path)


def made_for(directory: Path, name: str, now: datetime) -> bytes:
    """A new key and its certificate, for another node of this relay, which is to have them as its `node/own.pem`. It is
    a secret. Raises KeyFileError."""
    ca_key, ca = _read(authority(directory), str(_authority_file(directory)))
    return _issued(ca_key, ca, name, ec.generate_private_key(ec.SECP256R1()), now)


def install_own(directory: Path, own: bytes) -> None:
    """Keep what another node has made for this one (`made_for`), in the place of what is there. Raises KeyFileError."""
    _read(own, "the node's key and certificate")
    _make_room(directory)
    path = _own_file(directory)
    if not path.exists() or read_private(path) != own:
        _replace(path, own)


def identity_of(own: bytes) -> str:
    """Of whom has this `node/own.pem`. Raises KeyFileError."""
    _, certificate = _read(own, "the node's key and certificate")
    return _identity(certificate)


def identity_shown(shown: bytes | None) -> str:
    """Of whom has shown this certificate (DER), one that was verified. Empty: there is none."""
    return _identity(x509.load_der_x509_certificate(shown)) if shown else ""


class NodeCertificates:
    """This node's, in use. Raises KeyFileError where there is no authority, or a file cannot be used."""

    def __init__(self, directory: Path, name: str, now: datetime) -> None:
        """Its certificate is made where there is none, or none of this name and authority; and its key where there is
        none, or one of another name."""
        self.name: Final = name
        self._path: Final = _own_file(directory)
        self._key, self._authority = _read(authority(directory), str(_authority_file(directory)))
        if not self._is_ours():
            self._issue(now)
        self._load()
        self.renew(now)

    @property
    def identity(self) -> str:
        """By which the others know this node (`relay.nodes.members`)."""
        return _identity(self._own)

    @property
    def not_after(self) -> datetime:
        """When what is shown expires."""
        return self._own.not_valid_after_utc

    def renew(self, now: datetime) -> bool:
        """Make a new one, where less than LEFT of this one is left. Whoever connects afterwards sees it; connections
        that are there stay. False: it is good for longer; or none could be made, which the log says: for it is tried
        again tomorrow, and there are months left.

        `now`: of the machine's clock, as whoever is shown it looks at that."""
        lifetime = self._own.not_valid_after_utc - self._own.not_valid_before_utc
        if self.not_after - now >= lifetime * LEFT:
            return False
        try:
            self._issue(now)
            self._load()
        except (KeyFileError, OSError):
            logger.exception("node.certificate_not_renewed", extra={"not_after": str(self.not_after)})
            return False
        return True

    def for_server(self) -> ssl.SSLContext:
        """For the next connection from another node."""
        return self._server

    def for_client(self) -> ssl.SSLContext:
        """For the next connection to another node, whose `host_of` is to be the server's name."""
        return self._client

    def _is_ours(self) -> bool:
        """Whether there is a certificate of this node's that the others will take."""
        if not self._path.exists():
            return False
        _, own = _read(read_private(self._path), str(self._path))
        try:
            own.verify_directly_issued_by(self._authority)
        except Exception:  # noqa: BLE001 (each library of keys has its own; whatever it is, it is not of this authority)
            return False
        return _hosts_in(own) == [host_of(self.name)]

    def _issue(self, now: datetime) -> None:
        key = None
        if self._path.exists():
            kept, certificate = _read(read_private(self._path), str(self._path))
            # Called otherwise, it is another node.
            key = kept if _hosts_in(certificate) == [host_of(self.name)] else None
        key = key or ec.generate_private_key(ec.SECP256R1())
        _replace(self._path, _issued(self._key, self._authority, self.name, key, now))

    def _load(self) -> None:
        _, self._own = _read(read_private(self._path), str(self._path))
        self._server = self._context(ssl.PROTOCOL_TLS_SERVER)
        # Nobody resumes a session: what a ticket would save is less than it takes.
        self._server.num_tickets = 0
        self._client = self._context(ssl.PROTOCOL_TLS_CLIENT)
        self._client.check_hostname = True

    def _context(self, side: ssl._SSLMethod) -> ssl.SSLContext:
        # A context of one's own has no authority that the system trusts.
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=self._authority.public_bytes(Encoding.PEM).decode())
        context.load_cert_chain(self._path)
        return context


def name_in(shown: Any) -> str | None:
    """The name of the node that has shown this certificate, as `ssl` has it: one that was verified. None: it is none of
    a node."""
    hosts = [value for kind, value in (shown or {}).get("subjectAltName", ()) if kind == "DNS"]
    if len(hosts) != 1:
        return None
    name, _, zone = hosts[0].partition(".")
    return name if zone == _ZONE and is_node_name(name) else None


def _issued(
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    name: str,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> bytes:
    signed_by = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _begun(_named(f"atmos-relay node {name}"), ca.subject, key, now, NODE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host_of(name))]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signed_by), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    return _pem(key, certificate)


def _identity(certificate: x509.Certificate) -> str:
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()[:IDENTITY_CHARACTERS]


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + timedelta(days=days))
    )


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(**wanted: bool) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign "
        "crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{use: wanted.get(use, False) for use in every.split()})


def _pem(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bytes:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def _read(pem: bytes, what: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key(pem, None)
        certificate = x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError):
        raise KeyFileError(
            f"{what}: no key and certificate of a node; copy it anew, or make it anew"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise KeyFileError(f"{what}: its key and its certificate do not belong together; make it anew")
    return key, certificate


def _hosts_in(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def _authority_file(directory: Path) -> Path:
    return directory / "node" / "ca.pem"


def _make_room(directory: Path) -> None:
    make_private_directory(directory / "node")


def _own_file(directory: Path) -> Path:
    return directory / "node" / "own.pem"


def _replace(path: Path, octets: bytes) -> None:
    """By a rename, durably."""
    unfinished = _unfinished(path)
    with suppress(FileNotFoundError):
        # Killed, or failed, while it was made. Nobody else writes here: this node has the directory.
        unfinished.unlink()
    write_new(unfinished, octets)
    os.replace(unfinished, path)
    fsync_directory(path.parent)


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")
