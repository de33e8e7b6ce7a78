"""The files of the relay's secrets: where they are, that they are private, and how one comes to be.

Contract. A secret is on disk, whole and fsynced, before it is used for anything (a DKIM key that was
announced in DNS, or a pepper that hashed a key, must not be gone after a crash). Its file has mode 0600
in directories of mode 0700, and one that others can read is refused with the command that mends it: it
must be taken for known, and only the operator can decide what that means. No secret is ever in an error
message.

Under the data directory:

* ``pepper``, and ``pepper.2``, ``pepper.3`` ... where it was rotated: 32 random octets each, from which every symmetric
  key is derived (`relay.message.keys`). All are needed: what the older ones made stays good.
* ``keys/<domain>/<selector>.pem``: a DKIM private key (PKCS #8). A selector is a stem and ``r`` (RSA-2048)
  or ``e`` (Ed25519). Old stems stay, because mail accepted under them is still to be sent.

Nothing here knows what the octets mean, so a command that only has to see that the secrets are in order
needs no cryptography.
"""

import contextlib
import hashlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

PEPPER_OCTETS: Final = 32
_is_pepper: Final = re.compile(r"pepper\.([2-9]|[1-9][0-9]{1,5})").fullmatch
_UNFINISHED: Final = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


class KeyFileError(Exception):
    """A file of secrets that cannot be used: which, why, and what to do."""


def pepper_name(number: int) -> str:
    """Return the name of the file of a pepper; they are numbered from 1."""
    return "pepper" if number == 1 else f"pepper.{number}"


def pepper_files(directory: Path) -> list[Path]:
    """Return the files of the peppers that are there, by number."""
    numbers = [int(path.suffix[1:]) for path in directory.glob("pepper.*") if _is_pepper(path.name)]
    paths = [directory / pepper_name(number) for number in (1, *sorted(numbers))]
    return [path for path in paths if path.exists()]


def read_peppers(directory: Path) -> dict[int, bytes]:
    """Return the peppers of a data directory, by number. Raises `KeyFileError`, also where there is no first one."""
    later = [path for path in pepper_files(directory) if path.suffix]
    return {1: read_pepper(directory), **{int(path.suffix[1:]): _read_pepper(path) for path in later}}


def read_pepper(directory: Path, number: int = 1) -> bytes:
    """Return one pepper of a data directory. Raises `KeyFileError`."""
    return _read_pepper(directory / pepper_name(number))


def _read_pepper(path: Path) -> bytes:
    root = read_private(path)
    if len(root) != PEPPER_OCTETS:
        raise KeyFileError(f"{path}: has {len(root)} octets, not {PEPPER_OCTETS}; restore it from a backup")
    return root


def write_pepper(directory: Path, root: bytes, number: int = 1) -> None:
    """Keep a pepper of a data directory. Raises `KeyFileError` where there is one already."""
    write_new(directory / pepper_name(number), root)


class KeyFiles:
    """The files of DKIM keys below a data directory."""

    def __init__(self, directory: Path) -> None:
        self._root: Final = directory / "keys"

    def path(self, domain: str, selector: str) -> Path:
        return self._root / domain / f"{selector}.pem"

    def make_room(self, domain: str) -> None:
        """Make the directory of a domain's keys, where it is not there."""
        make_private_directory(self._root / domain)

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

    def delete(self, domain: str, stem: str) -> None:
        """Delete both keys of a stem, as far as they are there: durable when it returns."""
        for kind in "re":
            self.path(domain, stem + kind).unlink(missing_ok=True)
        if (self._root / domain).is_dir():
            fsync_directory(self._root / domain)

    def check(self) -> None:
        """Raise `KeyFileError` for the first key file that others can read. For start-up: looks at all."""
        for path in sorted(self._root.glob("*/*.pem")):
            _check_private(path, path.stat())


def read_private(path: Path) -> bytes:
    """Return what is in a file of secrets. Raises `KeyFileError`."""
    try:
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()))
            return file.read()
    except FileNotFoundError:
        raise KeyFileError(f"{path}: is missing; restore it from a backup") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None


def write_new(path: Path, octets: bytes) -> None:
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
    fsync_directory(path.parent)


def write_anew(path: Path, octets: bytes) -> Path | None:
    """Have these octets in a file that nothing has used yet: durable when it returns. An equal one is left. Another one
    is kept beside it, under the name that is returned: no key is lost. Raises `KeyFileError`, also where what is there
    is no file of secrets."""
    aside = None
    if os.path.lexists(path):
        found = read_private(path)
        if found == octets:
            # Whoever wrote it may have been killed before its name was durable.
            fsync_directory(path.parent)
            return None
        aside = path.with_name(f"{path.name}.unused-{hashlib.sha256(found).hexdigest()[:12]}")
        os.rename(path, aside)
    write_new(path, octets)
    return aside


def remove_unfinished(directory: Path) -> None:
    """Remove what `write_new` left behind in a data directory and among its keys, where it was killed in the middle.

    Only for whoever knows that nobody else writes there.
    """
    for pattern in (".*.tmp", "keys/*/.*.tmp"):
        for path in directory.glob(pattern):
            if is_unfinished(path.name):
                path.unlink()


def is_unfinished(name: str) -> bool:
    """Whether a file of this name is one that `write_new` had begun."""
    return _UNFINISHED.fullmatch(name) is not None


def make_private_directory(directory: Path) -> None:
    """Make `directory` and its parent with mode 0700, and make their names durable."""
    for path in (directory.parent, directory):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            fsync_directory(path.parent)


def _check_private(path: Path, status: os.stat_result) -> None:
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(
            f"{path}: others than its owner can use this secret (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"run `chmod 600 {path}`, and replace the secret if somebody may have read it"
        )


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
