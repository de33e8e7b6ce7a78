"""Keys that go beside a batch: what an event speaks of, and the log does not hold, reaches every node with it.

The invariant: **a node that applies an event has the key files that it speaks of, durable and for itself alone.** They
are in the same row of the database as the event, sealed under the pepper, so there is no moment at which a node could
lead and not sign, or not know an API key.

Which events bring keys into being, and which files they are, is said by the event alone (`_FILES_OF`), on the node that
sealed them as well as on the node that writes them. So a name of a file never crosses over, and none can lead out of
the directory. What crosses are the files' octets, in the order of the events.

A file may be there already, and be another one: a node that led made it, and lost the lead before its event was in the
log. No event of the log speaks of it, or this one would be refused, so nothing was ever made by it. It is set aside
under another name.

An event that tells that keys are gone takes them from every node.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import cbor2
import msgspec

from relay.addresses import is_host_name
from relay.events import DomainAdded, DomainKeyCreated, OperatorKeyCreated, PepperRotated, SigningKeyDeleted
from relay.message.key_files import (
    PEPPER_OCTETS,
    KeyFileError,
    KeyFiles,
    pepper_name,
    read_pepper,
    read_private,
    write_anew,
)
from relay.message.keys import Pepper, signer_of
from relay.nodes.seal import Seal
from spool.errors import SpoolError
from spool.record import Record
from spool.replicated.table import Row

logger = logging.getLogger(__name__)

_is_stem: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?").fullmatch
_PEPPERS_MAX: Final = 999_999

_TYPES: Final = frozenset(
    event.TYPE
    for event in (DomainAdded, DomainKeyCreated, OperatorKeyCreated, PepperRotated, SigningKeyDeleted)
)
#: Where a skeleton says so. Nearly all say something else, and one search tells that.
_may_be_one_of_them: Final = re.compile(
    re.escape(cbor2.dumps("type"))
    + b"(?:%s)" % b"|".join(re.escape(cbor2.dumps(name)) for name in sorted(_TYPES))
).search


class BesideError(SpoolError):
    """What came beside a batch is not what its events speak of; or a file of this node stands in its way."""


class HasSkeleton(Protocol):
    @property
    def skeleton(self) -> bytes: ...


class _DkimKey(NamedTuple):
    domain: str
    selector: str
    #: Base64, as in DNS.
    public: str


class _Pepper(NamedTuple):
    number: int


class _Gone(NamedTuple):
    domain: str
    stem: str


class KeyMaterial:
    """Of one data directory. It reads and writes files; both are small and rare."""

    def __init__(self, directory: Path, seal: Seal, on_pepper: Callable[[int, Pepper], None]) -> None:
        """`seal` is one for `relay.nodes.seal.BESIDE`. `on_pepper(number, pepper)` is called when a pepper has come and
        its file is durable; it is not in use before its event is applied."""
        self._directory: Final = directory
        self._files: Final = KeyFiles(directory)
        self._seal: Final = seal
        self._on_pepper: Final = on_pepper

    def beside_of(self, records: Sequence[Record]) -> bytes:
        """What goes beside the batch of these records, sealed for it; empty for nearly all. Raises `KeyFileError` where
        a file is missing that an event speaks of."""
        octets = [self._read(file) for file in _spoken_of(records) if not isinstance(file, _Gone)]
        return self._seal.seal(msgspec.msgpack.encode(octets), records[-1].chain) if octets else b""

    def write_before_applied(self, row: Row, records: Sequence[HasSkeleton]) -> None:
        """Have all that these records, which are the row's, speak of in this directory, before they are applied:
        durable when it returns. Killed in between, it is done again.

        Raises `SealError`, `BesideError`, `KeyFileError`, OSError: the batch must not be applied.
        """
        spoken_of = list(_spoken_of(records))
        wanted = [file for file in spoken_of if not isinstance(file, _Gone)]
        brought = self._opened(row, len(wanted))
        for file, octets in zip(wanted, brought, strict=True):
            self._check(file, octets)
        octets_of = iter(brought)
        for each in spoken_of:
            if isinstance(each, _Gone):
                self._files.delete(each.domain, each.stem)
            else:
                self._write(each, next(octets_of))

    def _opened(self, row: Row, wanted: int) -> list[bytes]:
        brought: list[bytes] = []
        if row.beside:
            try:
                brought = msgspec.msgpack.decode(self._seal.open(row.beside, row.chain), type=list[bytes])
            except msgspec.MsgspecError as error:
                raise BesideError(f"what came beside a batch cannot be read: {error}") from None
        if len(brought) != wanted:
            raise BesideError(
                f"{len(brought)} key files came beside a batch whose events speak of {wanted}: the node that wrote it "
                "did so wrongly"
            )
        return brought

    def _path(self, file: _DkimKey | _Pepper) -> Path:
        if isinstance(file, _DkimKey):
            return self._files.path(file.domain, file.selector)
        return self._directory / pepper_name(file.number)

    def _read(self, file: _DkimKey | _Pepper) -> bytes:
        if isinstance(file, _Pepper):
            return read_pepper(self._directory, file.number)
        return read_private(self._path(file))

    def _check(self, file: _DkimKey | _Pepper, octets: bytes) -> None:
        path = self._path(file)
        if isinstance(file, _Pepper):
            if len(octets) != PEPPER_OCTETS:
                raise BesideError(f"what came for {path} is no pepper: it has {len(octets)} octets")
            return
        try:
            public = signer_of(octets, file.domain, file.selector, path).public_key
        except KeyFileError:
            raise BesideError(f"what came for {path} is no key") from None
        if public != file.public:
            raise BesideError(f"what came for {path} is not the key that its event speaks of")

    def _write(self, file: _DkimKey | _Pepper, octets: bytes) -> None:
        path = self._path(file)
        if isinstance(file, _DkimKey):
            self._files.make_room(file.domain)
        aside = write_anew(path, octets)
        if aside is not None:
            logger.warning("node.key_set_aside", extra={"file": str(path), "aside": str(aside)})
        if isinstance(file, _Pepper):
            self._on_pepper(file.number, Pepper(octets))


def _spoken_of(records: Sequence[HasSkeleton]) -> Iterator[_DkimKey | _Pepper | _Gone]:
    """The files that these records' events bring into being, or take away, in their order. Raises `BesideError`."""
    for record in records:
        if _may_be_one_of_them(record.skeleton) is None:
            continue
        skeleton: Any = cbor2.loads(record.skeleton)
        if isinstance(skeleton, dict) and skeleton.get("type") in _FILES_OF:
            try:
                yield from _FILES_OF[skeleton["type"]](skeleton)
            except KeyError as error:
                raise BesideError(f"a {skeleton['type']} event has no {error.args[0]}") from None


def _pair(skeleton: dict[str, Any]) -> Iterator[_DkimKey]:
    domain, stem = _checked(skeleton)
    for kind, public in (("r", skeleton["rsa_public"]), ("e", skeleton["ed25519_public"])):
        yield _DkimKey(domain, stem + kind, public)


def _pepper(skeleton: dict[str, Any]) -> Iterator[_Pepper]:
    number = skeleton["number"]
    if type(number) is not int or not 2 <= number <= _PEPPERS_MAX:
        raise BesideError(f"a {skeleton['type']} event speaks of pepper {str(number)[:20]}")
    yield _Pepper(number)


def _gone(skeleton: dict[str, Any]) -> Iterator[_Gone]:
    yield _Gone(*_checked(skeleton))


def _checked(skeleton: dict[str, Any]) -> tuple[str, str]:
    """Domain and stem, which name a directory and files in it."""
    domain, stem = skeleton["domain"], skeleton["selector_stem"]
    if not (isinstance(domain, str) and is_host_name(domain) and domain == domain.lower()):
        raise BesideError(
            f"a {skeleton['type']} event speaks of keys of {str(domain)[:100]!r}, which is no domain"
        )
    if not (isinstance(stem, str) and _is_stem(stem)):
        raise BesideError(
            f"a {skeleton['type']} event speaks of keys {str(stem)[:100]!r}, which is no selector"
        )
    return domain, stem


_FILES_OF: Final[dict[str, Callable[[dict[str, Any]], Iterator[_DkimKey | _Pepper | _Gone]]]] = {
    DomainAdded.TYPE: _pair,
    DomainKeyCreated.TYPE: _pair,
    OperatorKeyCreated.TYPE: _pair,
    PepperRotated.TYPE: _pepper,
    SigningKeyDeleted.TYPE: _gone,
}
assert _FILES_OF.keys() == _TYPES
