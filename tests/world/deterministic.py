"""A run of a whole relay that is the same every time, to the last byte of its log.

Chance has four doors into a run: the relay's dice (`Surroundings.dice`, from the world's `seed`), the order in which
trio runs tasks that are ready at the same moment (shuffled on purpose), the keys and the pepper of the data directory,
and the hardware's time. `run_seeded` closes the second and, with a mock clock, the fourth; `make_seeded_directory` the
third: all keys come from a seed, and are worth nothing as secrets.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from math import gcd, isqrt, prod
from pathlib import Path
from typing import Any
from unittest import mock

import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trio._core import _run as trio_run
from trio.testing import MockClock

from relay.config import CONFIG_FILE
from spool.disk import RealDisk
from tests.world.relay import EPOCH_US, OPERATOR_DOMAIN, make_directory

_STEM = f"atmos{datetime.fromtimestamp(EPOCH_US / 1e6, UTC):%Y%m%d}"


class UnsyncedDisk(RealDisk):
    """A real disk that is in no hurry: for runs in which nothing crashes, and which write often."""

    def fdatasync(self, handle: int) -> None:
        pass

    def fsync(self, handle: int) -> None:
        pass

    def sync_directory(self, directory: Path) -> None:
        pass


def run_seeded(main: Callable[[], Awaitable[Any]], seed: int) -> Any:
    """`trio.run` with a clock that jumps, and with an order of tasks that the seed alone decides."""
    dice = random.Random(seed)
    # Trio has these two for exactly this; pytest-trio and hypothesis set them likewise.
    with (
        mock.patch.object(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        mock.patch.object(trio_run, "_r", dice),
    ):
        return trio.run(main, clock=MockClock(autojump_threshold=0))


def make_seeded_directory(
    directory: Path, domains: Iterable[str], *, delivery: str = "", settings: str = ""
) -> Path:
    """A data directory as `make_directory` makes it, but without a route and with the same secrets every time.

    `domains` are those that will be enrolled; `delivery` are lines for that section of the configuration.
    """
    make_directory(directory, settings, route="")
    config = directory / CONFIG_FILE
    before, section, after = config.read_text().partition("[delivery]\n")
    config.write_text(before + section + delivery + after)
    (directory / "pepper").write_bytes(random.Random("pepper").randbytes(32))
    for path in (directory / "keys").rglob("*.pem"):
        path.unlink()
    for domain in (OPERATOR_DOMAIN, *domains):
        keys = directory / "keys" / domain
        keys.mkdir(mode=0o700, exist_ok=True)
        for letter, pem in zip("re", _keys(), strict=True):
            with open(os.open(keys / f"{_STEM}{letter}.pem", os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
                file.write(pem)
    return directory


@cache
def _keys() -> tuple[bytes, bytes]:
    """An RSA-2048 and an Ed25519 key, PEM."""
    dice = random.Random("keys of tests, no secrets")
    p, q = _prime(dice), _prime(dice)
    e = 65537
    d = pow(e, -1, (p - 1) * (q - 1) // gcd(p - 1, q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p=max(p, q),
        q=min(p, q),
        d=d,
        dmp1=d % (max(p, q) - 1),
        dmq1=d % (min(p, q) - 1),
        iqmp=rsa.rsa_crt_iqmp(max(p, q), min(p, q)),
        public_numbers=rsa.RSAPublicNumbers(e, p * q),
    )
    return tuple(  # type: ignore[return-value]
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for key in (numbers.private_key(), Ed25519PrivateKey.from_private_bytes(dice.randbytes(32)))
    )


def _prime(dice: random.Random) -> int:
    """1024 bits, of which the two highest are set; prime by Fermat's test."""
    while True:
        candidate = dice.getrandbits(1024) | 3 << 1022 | 1
        # Most candidates have a small factor, and looking for one is much cheaper than the test.
        if gcd(candidate, _SMALL_PRIMES) != 1 or candidate % 65537 == 1:
            continue
        if all(pow(base, candidate - 1, candidate) == 1 for base in (2, 3, 5)):
            return candidate


#: The product of the primes below 2,000.
_SMALL_PRIMES = prod(n for n in range(2, 2000) if all(n % divisor for divisor in range(2, isqrt(n) + 1)))


def log_bytes(directory: Path) -> dict[str, bytes]:
    """Every segment of the log, by name."""
    return {path.name: path.read_bytes() for path in sorted((directory / "log").glob("*.seg"))}
