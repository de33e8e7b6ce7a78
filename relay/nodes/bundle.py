"""What a new node is given: one file, made at a node that there is, with all that both must have alike.

The invariant: **who has the file alone has nothing.** It holds the relay's secrets, and is carried by hand; so it is
sealed with a code that is shown once, and carried by another way.

The file is MAGIC, a nonce of 24 octets, and the XChaCha20-Poly1305 of a `Bundle` as msgpack, with MAGIC attested. The
code has 160 bits of chance, so the key comes from it by one hash: no guessing is worth slowing down.

It is checked before anything of it is written: names of files are made from names of domains and selectors, as they
are in the log (`relay.nodes.beside`).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from relay.addresses import is_host_name
from relay.config import CONFIG_FILE
from relay.message.key_files import (
    PEPPER_OCTETS,
    KeyFileError,
    KeyFiles,
    pepper_name,
    read_peppers,
    read_private,
    write_new,
)
from relay.nodes import certificates
from relay.refusals import Refusal

MAGIC: Final = b"ATMOSNODE1\n"
#: Keys of a hundred thousand domains, and more than fits into memory twice.
BUNDLE_BYTES_MAX: Final = 512 << 20
_NONCE_OCTETS: Final = 24
_CODE_OCTETS: Final = 20
_is_selector: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?").fullmatch


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    #: Of the new node.
    name: str
    relay_toml: str
    #: How the node that made this reaches the database.
    database: str
    #: By their numbers.
    peppers: dict[int, bytes]
    #: `<domain>/<selector>` -> the file.
    keys: dict[str, bytes]
    #: `relay.nodes.certificates.authority`.
    authority: bytes
    #: Its key and first certificate (`relay.nodes.certificates.made_for`): by it the others know it.
    own: bytes

    def __repr__(self) -> str:
        return f"<Bundle for {self.name}>"


def collect(directory: Path, name: str, database: str, now: datetime) -> Bundle:
    """What this node has, for another one of that name. Raises KeyFileError, OSError."""
    keys = {
        f"{path.parent.name}/{path.stem}": read_private(path)
        for path in sorted((directory / "keys").glob("*/*.pem"))
    }
    return Bundle(
        name=name,
        relay_toml=(directory / CONFIG_FILE).read_text(encoding="utf-8"),
        database=database,
        peppers=read_peppers(directory),
        keys=keys,
        authority=certificates.authority(directory),
        own=certificates.made_for(directory, name, now),
    )


def seal_bundle(bundle: Bundle, chance: Callable[[int], bytes]) -> tuple[bytes, str]:
    """The file, and the code that opens it."""
    secret, nonce = chance(_CODE_OCTETS), chance(_NONCE_OCTETS)
    data = msgspec.msgpack.encode(bundle)
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(data, MAGIC, nonce, _key(secret))
    letters = base64.b32encode(secret).decode().lower()
    return MAGIC + nonce + sealed, "-".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def open_bundle(data: bytes, code: str) -> Bundle:
    """Raises Refusal(INVALID_REQUEST) where it is none, or the code is another one's, or it was altered."""
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + _NONCE_OCTETS + 16:
        raise Refusal("INVALID_REQUEST", "this is no file that `node add` has made")
    nonce, sealed = data[len(MAGIC) :][:_NONCE_OCTETS], data[len(MAGIC) + _NONCE_OCTETS :]
    try:
        secret = base64.b32decode(re.sub(r"[\s-]", "", code).upper())
        opened = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, MAGIC, nonce, _key(secret))
        bundle = msgspec.msgpack.decode(opened, type=Bundle)
    except (ValueError, CryptoError):
        raise Refusal(
            "INVALID_REQUEST",
            "the code does not open this file: it is of another one, or the file was altered",
        ) from None
    _check(bundle)
    return bundle


def write_secrets(bundle: Bundle, directory: Path) -> None:
    """Peppers, keys and what is by the authority, durable when it returns. What is there already must be equal, but for
    the node's own key: of two bundles for one name the later one counts. Raises KeyFileError, and writes no more
    then."""
    files = KeyFiles(directory)
    for number, root in bundle.peppers.items():
        _have(directory / pepper_name(number), root)
    for place, pem in bundle.keys.items():
        domain, _, selector = place.partition("/")
        files.make_room(domain)
        _have(files.path(domain, selector), pem)
    try:
        is_there = certificates.authority(directory) == bundle.authority
    except KeyFileError:
        certificates.install(directory, bundle.authority)
        is_there = True
    if not is_there:
        raise KeyFileError(f"{directory / 'node'}: has the authority of another relay's nodes")
    certificates.install_own(directory, bundle.own)


def _have(path: Path, octets: bytes) -> None:
    if not path.exists():
        write_new(path, octets)
    elif read_private(path) != octets:
        raise KeyFileError(
            f"{path}: is there already, and is another one than the bundle's; it is not overwritten"
        )


def _check(bundle: Bundle) -> None:
    for number, root in bundle.peppers.items():
        if not 1 <= number <= 999_999 or len(root) != PEPPER_OCTETS:
            raise Refusal("INVALID_REQUEST", f"the bundle's pepper {number} is none")
    for place in bundle.keys:
        domain, _, selector = place.partition("/")
        if not (is_host_name(domain) and domain == domain.lower() and _is_selector(selector)):
            raise Refusal(
                "INVALID_REQUEST", f"the bundle has a key {place[:100]!r}, which is no domain and selector"
            )


def _key(secret: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=32, person=b"atmos node").digest()
