"""Secrets in files: made whole, found again, and refused where others can read them."""

import random
import stat
from pathlib import Path

import pytest

from relay.message.keys import KeyFileError, KeyRing, create_pepper, load_pepper, new_api_key


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with keys and a pepper. Tests that change files make their own."""
    directory = tmp_path_factory.mktemp("data")
    create_pepper(directory)
    KeyRing(directory).create("member.example", "atmos20251124")
    return directory


def test_files_and_directories_are_private_and_nothing_else_is_left(filled: Path) -> None:
    found = {str(path.relative_to(filled)): stat.S_IMODE(path.stat().st_mode) for path in filled.rglob("*")}
    assert found == {
        "pepper": 0o600,
        "keys": 0o700,
        "keys/member.example": 0o700,
        "keys/member.example/atmos20251124r.pem": 0o600,
        "keys/member.example/atmos20251124e.pem": 0o600,
    }


def test_keys_are_found_again(filled: Path) -> None:
    first = KeyRing(filled).signers("member.example", "atmos20251124")
    second = KeyRing(filled).signers("member.example", "atmos20251124")
    assert [(one.domain, one.selector, one.algorithm) for one in first] == [
        ("member.example", "atmos20251124r", "rsa-sha256"),
        ("member.example", "atmos20251124e", "ed25519-sha256"),
    ]
    assert [one.public_key for one in first] == [one.public_key for one in second]
    assert [one.sign_digest(b"d" * 32) for one in first] == [one.sign_digest(b"d" * 32) for one in second]


def test_creating_again_keeps_what_is_there_and_completes_half_a_pair(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    rsa, ed25519 = ring.create("member.example", "atmos20251124")
    again = KeyRing(tmp_path).create("member.example", "atmos20251124")
    assert [one.public_key for one in again] == [rsa.public_key, ed25519.public_key]

    (tmp_path / "keys/member.example/atmos20251124e.pem").unlink()
    assert ring.stems("member.example") == []
    mended = KeyRing(tmp_path).create("member.example", "atmos20251124")
    assert mended[0].public_key == rsa.public_key
    assert mended[1].public_key != ed25519.public_key


def test_stems_in_order_of_age_and_the_newest_is_the_operators(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    with pytest.raises(KeyFileError, match="has no DKIM keys"):
        ring.operator_stem("relay.example")
    for stem in ("atmos20260101", "atmos20251124"):
        ring.create("relay.example", stem)
    assert ring.stems("relay.example") == ["atmos20251124", "atmos20260101"]
    assert ring.operator_stem("relay.example") == "atmos20260101"
    with pytest.raises(KeyFileError, match=r"there are keys for relay\.example"):
        ring.operator_stem("renamed.example")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o777])
def test_a_secret_that_others_can_use_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, mode: int
) -> None:
    create_pepper(tmp_path)
    KeyRing(tmp_path).create("member.example", "s")
    pem = tmp_path / "keys/member.example/sr.pem"
    for path in (tmp_path / "pepper", pem):
        path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"chmod 600 {tmp_path}/pepper"):
        load_pepper(tmp_path)
    ring = KeyRing(tmp_path)
    for attempt in (ring.check, lambda: ring.signers("member.example", "s")):
        with pytest.raises(KeyFileError, match=f"chmod 600 {pem}"):
            attempt()
    pem.chmod(0o600)
    ring.check()
    ring.signers("member.example", "s")


def test_missing_and_damaged_files_are_different_answers(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="pepper: is missing"):
        load_pepper(tmp_path)
    create_pepper(tmp_path)
    (tmp_path / "pepper").write_bytes(b"short")
    with pytest.raises(KeyFileError, match="5 octets, not 32"):
        load_pepper(tmp_path)

    ring = KeyRing(tmp_path)
    with pytest.raises(KeyFileError, match=r"sr\.pem: is missing"):
        ring.signers("member.example", "s")
    ring.create("member.example", "s")
    pem = tmp_path / "keys/member.example/sr.pem"
    pem.write_bytes(pem.read_bytes()[:200])
    with pytest.raises(KeyFileError, match="not a PEM private key"):
        KeyRing(tmp_path).signers("member.example", "s")


def test_a_pepper_is_never_overwritten(filled: Path) -> None:
    before = (filled / "pepper").read_bytes()
    with pytest.raises(KeyFileError, match="exists already"):
        create_pepper(filled)
    assert (filled / "pepper").read_bytes() == before
    assert not list(filled.glob(".*"))


def test_the_pepper_gives_each_purpose_its_own_key(filled: Path) -> None:
    pepper = load_pepper(filled)
    keys = {
        pepper.bounce_key,
        pepper.unsubscribe_key[:32],
        pepper.derive("api-key", 32),
        pepper.derive("x", 32),
    }
    assert len(keys) == 4
    assert load_pepper(filled).bounce_key == pepper.bounce_key
    assert len(pepper.unsubscribe_key) == 64
    assert pepper.key_hash("atmos_x") == load_pepper(filled).key_hash("atmos_x")
    assert pepper.key_hash("atmos_x") != pepper.key_hash("atmos_y")
    assert len(bytes.fromhex(pepper.key_hash("\ud800 whatever a client sends"))) == 32


def test_secrets_have_no_repr(filled: Path) -> None:
    root = (filled / "pepper").read_bytes()
    assert repr(load_pepper(filled)) == "<Pepper>"
    assert root.hex() not in repr(load_pepper(filled))
    (rsa, _) = KeyRing(filled).signers("member.example", "atmos20251124")
    assert repr(rsa) == "<Signer d=member.example s=atmos20251124r a=rsa-sha256>"


def test_the_ring_keeps_a_bounded_number_of_keys(filled: Path) -> None:
    ring = KeyRing(filled, signers_max=2)
    rsa, ed25519 = ring.signers("member.example", "atmos20251124")
    assert ring.signers("member.example", "atmos20251124") == (rsa, ed25519), "kept"
    ring.create("member.example", "other")
    assert ring.signers("member.example", "atmos20251124") != (rsa, ed25519), "loaded again"


def test_an_api_key_is_random_and_long_enough() -> None:
    dice = random.SystemRandom()
    keys = {new_api_key(dice) for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert key.startswith("atmos_")
        assert key.removeprefix("atmos_").isalnum()
        assert 62 ** len(key.removeprefix("atmos_")) >= 2**192
