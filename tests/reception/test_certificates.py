"""The files of a certificate: read again when they change, and only where they can be used."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from relay.reception.certificates import CertificateError, Certificates
from tests.world.self_signed import self_signed_pem


def write(path: Path, content: bytes) -> None:
    """As who renews does: beside it, then in its place."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    os.replace(beside, path)


def test_new_files_are_read(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    write(pem, self_signed_pem("relay.test", days=3))
    certificates = Certificates(pem, pem)
    first = certificates.context()
    assert certificates.context() is first
    assert abs(certificates.not_after - datetime.now(UTC) - timedelta(days=3)) < timedelta(minutes=5)
    write(pem, self_signed_pem("relay.test", days=90))
    assert certificates.context() is not first
    assert abs(certificates.not_after - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)


def test_a_pair_that_does_not_fit_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The certificate is written and the key is not yet."""
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    before, after = self_signed_pem("relay.test"), self_signed_pem("relay.test")
    for path in (certificate, key):
        write(path, before)
    certificates = Certificates(certificate, key)
    first = certificates.context()
    with caplog.at_level(logging.WARNING):
        write(certificate, after)
        assert certificates.context() is first
        assert certificates.context() is first
        assert [record.message for record in caplog.records] == ["smtp.certificate_unusable"]
        write(key, after)
        assert certificates.context() is not first
        second = certificates.context()
        certificate.unlink()
        assert certificates.context() is second
        write(certificate, after)
        assert certificates.context() is not second
    assert len(caplog.records) == 2


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", self_signed_pem("relay.test")[:-300]])
def test_nothing_to_begin_with(tmp_path: Path, content: bytes) -> None:
    pem = tmp_path / "pem"
    with pytest.raises(CertificateError):
        Certificates(pem, pem)
    pem.write_bytes(content)
    with pytest.raises(CertificateError):
        Certificates(pem, pem)


def test_an_encrypted_key_asks_nobody(tmp_path: Path) -> None:
    pem = self_signed_pem("relay.test")
    key = load_pem_private_key(pem, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (tmp_path / "certificate").write_bytes(pem)
    (tmp_path / "key").write_bytes(key)
    with pytest.raises(CertificateError):
        Certificates(tmp_path / "certificate", tmp_path / "key")
