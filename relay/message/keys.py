"""Keeps the relay's secrets in files, and makes new ones.

Contract. A secret is on disk, whole and fsynced, before it is used for anything (a DKIM key that was
announced in DNS, or a pepper that hashed a key, must not be gone after a crash). Its file has mode 0600
in directories of mode 0700, and one that others can read is refused with the command that mends it: it
must be taken for known, and only the operator can decide what that means. No secret is ever in a repr or
an error message.

Under the data directory:

* ``pepper``: 32 random octets, from which every symmetric key is derived (HKDF, RFC 5869) by its label.
* ``keys/<domain>/<selector>.pem``: a DKIM private key (PKCS #8). A selector is a stem and ``r`` (RSA-2048)
  or ``e`` (Ed25519). Old stems stay, because mail accepted under them is still to be sent.
"""

import contextlib
import hashlib
import hmac
import os
import random
import secrets
import stat
import string
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.message.signing import PrivateKey, Signer
from relay.message.tokens import BOUNCE_KEY_OCTETS, UNSUBSCRIBE_KEY_OCTETS

RSA_BITS: Final = 2048
PEPPER_OCTETS: Final = 32
API_KEY_PREFIX: Final = "atmos_"
# Letters and digits only: a double click selects the whole key, and no shell or URL takes offence.
_API_KEY_ALPHABET: Final = string.ascii_letters + string.digits
_API_KEY_CHARACTERS: Final = 43  # of 62: 256 bits
# A loaded RSA key is some 10 KB of memory, and loading one takes less than signing with it twice.
SIGNERS_CACHED_MAX: Final = 1024


class KeyFileError(Exception):
    """A file of secrets that cannot be used: which, why, and what to do."""


class Pepper:
    """The server's root secret. Only keys derived from it are used."""

    __slots__ = ("_api_keys", "_root")

    def __init__(self, root: bytes) -> None:
        assert len(root) == PEPPER_OCTETS
        self._root: Final = root
        self._api_keys: Final = self.derive("api-key", 32)

    def __repr__(self) -> str:
        return "<Pepper>"

    def derive(self, label: str, octets: int) -> bytes:
        """Return the key for the purpose `label`. Keys of different labels say nothing of each other."""
        info = b"atmos-relay " + label.encode()
        return HKDF(algorithm=hashes.SHA256(), length=octets, salt=None, info=info).derive(self._root)

    @property
    def bounce_key(self) -> bytes:
        """For `relay.message.tokens.BounceAddresses`."""
        return self.derive("bounces", BOUNCE_KEY_OCTETS)

    @property
    def unsubscribe_key(self) -> bytes:
        """For `relay.message.tokens.UnsubscribeTokens`."""
        return self.derive("unsubscribe", UNSUBSCRIBE_KEY_OCTETS)

    def key_hash(self, api_key: str) -> str:
        """Return the keyed hash (HMAC-SHA-256, hex) under which an API key is known.

        Not a slow one: that buys time against guessing, and a random key of 256 bits needs none.
        """
        return hmac.new(self._api_keys, api_key.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


class KeyRing:
    """The DKIM keys of a data directory, loaded when first wanted and kept within a bound.

    Safe to use from several threads. Keys are never changed in place (a rotation makes a new selector), so
    a loaded one stays right.
    """

    def __init__(self, directory: Path, *, signers_max: int = SIGNERS_CACHED_MAX) -> None:
        self._root: Final = directory / "keys"
        # One cache to a ring, rather than one for the class that would keep every ring alive.
        self._load: Final = lru_cache(signers_max)(self._read)

    def signers(self, domain: str, stem: str) -> tuple[Signer, Signer]:
        """Return the RSA and the Ed25519 signer of a domain. Raises `KeyFileError`."""
        return self._load(domain, stem + "r"), self._load(domain, stem + "e")

    def create(self, domain: str, stem: str) -> tuple[Signer, Signer]:
        """Make the pair of keys of a stem and return its signers. Raises `KeyFileError`.

        A key that is there already is kept: a crash between the two files, or between the files and the
        record of them in the log, is mended by trying again.
        """
        directory = self._root / domain
        _make_private_directory(directory)
        if not (directory / f"{stem}r.pem").exists():
            _write_key(
                directory / f"{stem}r.pem", rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
            )
        if not (directory / f"{stem}e.pem").exists():
            _write_key(directory / f"{stem}e.pem", Ed25519PrivateKey.generate())
        return self.signers(domain, stem)

    def stems(self, domain: str) -> list[str]:
        """Return the stems of a domain of which both keys are there, oldest first: they hold a date."""
        selectors = {path.stem for path in (self._root / domain).glob("*.pem")}
        return sorted(
            stem
            for stem in {selector[:-1] for selector in selectors}
            if {stem + "r", stem + "e"} <= selectors
        )

    def operator_stem(self, operator_domain: str) -> str:
        """Return the newest stem of the operator's domain. Raises `KeyFileError` where it has no keys."""
        stems = self.stems(operator_domain)
        if stems:
            return stems[-1]
        others = sorted(path.name for path in self._root.glob("*") if path.is_dir())
        known = f" (there are keys for {', '.join(others[:5])})" if others else ""
        raise KeyFileError(
            f"{self._root / operator_domain}: the operator domain has no DKIM keys{known}; it is fixed once "
            "its keys exist, so set operator_domain back, or run `atmos-relay init` for a new directory"
        )

    def check(self) -> None:
        """Raise `KeyFileError` for the first key file that others can read. For start-up: looks at all."""
        for path in sorted(self._root.glob("*/*.pem")):
            _check_private(path, path.stat())

    def _read(self, domain: str, selector: str) -> Signer:
        path = self._root / domain / f"{selector}.pem"
        pem = _read_private(path)
        try:
            # The full check of an RSA key takes longer than a hundred signatures; a damaged file fails to
            # parse, or makes signatures that fail to verify.
            key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError):
            raise KeyFileError(f"{path}: not a PEM private key; restore it from a backup") from None
        if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
            raise KeyFileError(f"{path}: neither an RSA nor an Ed25519 key; restore it from a backup")
        return Signer(domain, selector, key)


def create_pepper(directory: Path) -> Pepper:
    """Make the pepper of a data directory. Raises `KeyFileError` where there is one already."""
    root = secrets.token_bytes(PEPPER_OCTETS)
    _write_new(directory / "pepper", root)
    return Pepper(root)


def load_pepper(directory: Path) -> Pepper:
    """Read the pepper of a data directory. Raises `KeyFileError`."""
    path = directory / "pepper"
    root = _read_private(path)
    if len(root) != PEPPER_OCTETS:
        raise KeyFileError(f"{path}: has {len(root)} octets, not {PEPPER_OCTETS}; restore it from a backup")
    return Pepper(root)


def new_api_key(dice: random.Random) -> str:
    """Return a new API key: `atmos_` and 256 random bits. It is shown once; only its hash is kept.

    It is as secret as the dice: those of `Surroundings` are the operating system's, as `secrets` has them.
    """
    return API_KEY_PREFIX + "".join(dice.choice(_API_KEY_ALPHABET) for _ in range(_API_KEY_CHARACTERS))


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()))
            return file.read()
    except FileNotFoundError:
        raise KeyFileError(f"{path}: is missing; restore it from a backup") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None


def _check_private(path: Path, status: os.stat_result) -> None:
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(
            f"{path}: others than its owner can use this secret (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"run `chmod 600 {path}`, and replace the secret if somebody may have read it"
        )


def _make_private_directory(directory: Path) -> None:
    """Make `directory` and its parent with mode 0700, and make their names durable."""
    for path in (directory.parent, directory):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            _fsync_directory(path.parent)


def _write_key(path: Path, key: PrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_new(path, pem)


def _write_new(path: Path, octets: bytes) -> None:
    """Write a file that must not exist yet: after a crash at any point it is there whole, or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link never replaces what is there: no key is lost to a mistake or a race.
        os.link(temporary, path)
    except FileExistsError:
        raise KeyFileError(f"{path}: exists already; it is not overwritten") from None
    finally:
        os.unlink(temporary)
    _fsync_directory(path.parent)


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
