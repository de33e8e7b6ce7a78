"""The relay's secrets in use: the pepper, the DKIM keys, and new API keys.

Their files, and the rules for these, are `relay.message.key_files`'s. No secret is ever in a repr or an
error message. From the pepper every symmetric key is derived (HKDF, RFC 5869) by its label.
"""

import hashlib
import hmac
import random
import secrets
import string
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.message.key_files import (
    PEPPER_OCTETS,
    KeyFileError,
    KeyFiles,
    pepper_name,
    read_pepper,
    read_peppers,
    read_private,
    write_new,
    write_pepper,
)
from relay.message.signer import PrivateKey, Signer
from relay.message.tokens import BOUNCE_KEY_OCTETS, SEAL_KEY_OCTETS

RSA_BITS: Final = 2048
API_KEY_PREFIX: Final = "atmos_"
# Letters and digits only: a double click selects the whole key, and no shell or URL takes offence.
_API_KEY_ALPHABET: Final = string.ascii_letters + string.digits
_API_KEY_CHARACTERS: Final = 43  # of 62: 256 bits
# A loaded RSA key is some 10 KB of memory, and loading one takes less than signing with it twice.
SIGNERS_CACHED_MAX: Final = 1024

__all__ = [
    "KeyFileError",
    "KeyRing",
    "Pepper",
    "Peppers",
    "create_pepper",
    "load_pepper",
    "load_peppers",
    "make_pepper",
    "new_api_key",
    "signer_of",
]


class Pepper:
    """The server's root secret. Only keys derived from it are used."""

    __slots__ = ("_api_keys", "_root")

    def __init__(self, root: bytes) -> None:
        assert len(root) == PEPPER_OCTETS
        self._root: Final = root
        self._api_keys: Final = self.derive("api-key", 32)

    def __repr__(self) -> str:
        return "<Pepper>"

    @property
    def root(self) -> bytes:
        """For another process of the same relay, and for nothing else."""
        return self._root

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
        return self.derive("unsubscribe", SEAL_KEY_OCTETS)

    @property
    def confirmation_key(self) -> bytes:
        """For `relay.message.tokens.ConfirmationTokens`."""
        return self.derive("confirmation", SEAL_KEY_OCTETS)

    def key_hash(self, api_key: str) -> str:
        """Return the keyed hash (HMAC-SHA-256, hex) under which an API key is known.

        Not a slow one: that buys time against guessing, and a random key of 256 bits needs none.
        """
        return hmac.new(self._api_keys, api_key.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


class Peppers:
    """All peppers of a data directory, by number. One of them makes what is new; all up to it are good."""

    def __init__(self, peppers: Mapping[int, Pepper]) -> None:
        self._by_number: Final = dict(peppers)
        self._number = 1

    def __repr__(self) -> str:
        return "<Peppers>"

    def items(self) -> Iterable[tuple[int, Pepper]]:
        return self._by_number.items()

    def add(self, number: int, pepper: Pepper) -> None:
        """Know another one, which is not used yet."""
        self._by_number[number] = pepper

    @property
    def current(self) -> int:
        """The number of the one that makes what is new."""
        return self._number

    def numbered(self, number: int) -> Pepper:
        """Raises `KeyFileError` where it is missing."""
        if number not in self._by_number:
            raise KeyFileError(f"{pepper_name(number)}: is missing; restore it from a backup")
        return self._by_number[number]

    def use(self, number: int) -> None:
        """Make what is new by this one from now on. Raises `KeyFileError` where it, or one before it, is missing."""
        for wanted in range(1, number + 1):
            self.numbered(wanted)
        self._number = number

    def key_hash(self, api_key: str) -> str:
        """Return the hash under which a new API key is kept."""
        return self._by_number[self._number].key_hash(api_key)

    def key_hashes(self, api_key: str) -> list[str]:
        """Return all hashes under which this API key may be known."""
        return [self._by_number[number].key_hash(api_key) for number in range(1, self._number + 1)]


class KeyRing(KeyFiles):
    """The DKIM keys of a data directory, loaded when first wanted and kept within a bound.

    Safe to use from several threads. Keys are never changed in place (a rotation makes a new selector), so
    a loaded one stays right.
    """

    def __init__(self, directory: Path, *, signers_max: int = SIGNERS_CACHED_MAX) -> None:
        super().__init__(directory)
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
        self.make_room(domain)
        rsa_path, ed25519_path = self.path(domain, stem + "r"), self.path(domain, stem + "e")
        if not rsa_path.exists():
            _write_key(rsa_path, rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS))
        if not ed25519_path.exists():
            _write_key(ed25519_path, Ed25519PrivateKey.generate())
        return self.signers(domain, stem)

    def _read(self, domain: str, selector: str) -> Signer:
        path = self.path(domain, selector)
        return signer_of(read_private(path), domain, selector, path)


def signer_of(pem: bytes, domain: str, selector: str, path: Path) -> Signer:
    """What signs by a private key that is in this file, or is to be. Raises `KeyFileError`."""
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
    write_pepper(directory, root)
    return Pepper(root)


def make_pepper(directory: Path, number: int) -> Pepper:
    """Make a later pepper of a data directory, durable; one that is there is taken. Raises `KeyFileError`."""
    if not (directory / pepper_name(number)).exists():
        write_pepper(directory, secrets.token_bytes(PEPPER_OCTETS), number)
    return Pepper(read_pepper(directory, number))


def load_pepper(directory: Path) -> Pepper:
    """Read the first pepper of a data directory. Raises `KeyFileError`."""
    return Pepper(read_pepper(directory))


def load_peppers(directory: Path) -> Peppers:
    """Read all peppers of a data directory. Raises `KeyFileError`."""
    return Peppers({number: Pepper(root) for number, root in read_peppers(directory).items()})


def new_api_key(dice: random.Random) -> str:
    """Return a new API key: `atmos_` and 256 random bits. It is shown once; only its hash is kept.

    It is as secret as the dice: those of `Surroundings` are the operating system's, as `secrets` has them.
    """
    return API_KEY_PREFIX + "".join(dice.choice(_API_KEY_ALPHABET) for _ in range(_API_KEY_CHARACTERS))


def _write_key(path: Path, key: PrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_new(path, pem)
