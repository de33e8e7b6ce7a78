"""What we show of us under TLS: a certificate and its key, from two PEM files.

The invariant: **what is shown is the last pair of files that could be used.** Whoever renews a certificate writes over
its files, and nothing has to be told or restarted: each new connection asks whether either file has changed. A pair
that cannot be used (one file is written and the other is not yet, or the disk is odd) changes nothing, and is said once
in the log; the next change is looked at again.

Before the first usable pair there is nothing to show, so `Certificates` raises CertificateError.

An edge in another process may not be able to open new files, and has no need to: it is given what can be used
(`GivenCertificates`), from the start and whenever it changes.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

logger = logging.getLogger(__name__)


class CertificateError(Exception):
    """The files cannot be used; the sentence says why."""


class Pair(NamedTuple):
    """What is in the two files. It is a secret."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "<Pair>"


class _Shown(NamedTuple):
    pair: Pair
    context: ssl.SSLContext
    not_after: datetime
    names: tuple[str, ...]


class Certificates:
    """One certificate (with its chain) and its key."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._seen = self._changed()
        self._shown = self._load()

    @property
    def pair(self) -> Pair:
        """What is shown."""
        return self._shown.pair

    @property
    def not_after(self) -> datetime:
        """When what is shown expires."""
        return self._shown.not_after

    @property
    def names(self) -> tuple[str, ...]:
        """The host names that what is shown is for."""
        return self._shown.names

    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        try:
            changed = self._changed()
            if changed != self._seen:
                self._seen = changed
                self._shown = self._load()
                logger.info("smtp.certificate_read")
        except CertificateError:
            logger.warning("smtp.certificate_unusable", exc_info=True)
        return self._shown.context

    def _changed(self) -> tuple[tuple[int, int], ...] | None:
        """Tells whether they are the files that they were. None: they are not there."""
        try:
            stats = [os.stat(path) for path in (self._certificate, self._key)]
        except OSError:
            return None
        return tuple((each.st_mtime_ns, each.st_ino) for each in stats)

    def _load(self) -> _Shown:
        try:
            return _shown(Pair(self._certificate.read_bytes(), self._key.read_bytes()))
        except (OSError, ValueError) as error:
            raise CertificateError(f"{self._certificate} and {self._key} cannot be used: {error}") from error


class GivenCertificates(Certificates):
    """What somebody else has read."""

    def __init__(self, pair: Pair) -> None:
        self.give(pair)

    def give(self, pair: Pair) -> None:
        """Show this from the next connection on. It was shown to be usable."""
        self._shown = _shown(pair)

    def context(self) -> ssl.SSLContext:
        return self._shown.context


def _shown(pair: Pair) -> _Shown:
    """Raises OSError (as ssl's errors are) or ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # RFC 8997 (nothing below 1.2) and 9325.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    with _as_file(pair.certificate) as certificate, _as_file(pair.key) as key:
        context.load_cert_chain(certificate, key, password=_no_password)
    first = x509.load_pem_x509_certificates(pair.certificate)[0]
    return _Shown(pair, context, first.not_valid_after_utc.astimezone(UTC), _names(first))


@contextmanager
def _as_file(octets: bytes) -> Iterator[str]:
    """The ssl module reads files only. This one is in memory, and has no name that anybody else could open."""
    descriptor = os.memfd_create("pem")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(octets)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def _no_password() -> str:
    # Else OpenSSL would ask for one on the terminal.
    raise ValueError("the key is encrypted; write it without a password")
