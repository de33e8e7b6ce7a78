"""A data directory: who may write into it, and how to read one that nobody serves."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from relay.codec import Recorded, decode
from relay.config import Config, load_config
from relay.file_names import LOG_DIRECTORY
from relay.message.key_files import KeyFiles, read_peppers
from relay.refusals import Refusal
from relay.views import open_temporary_views, signing_keys
from spool.backup.format import BEGUN_NAME as BACKUP_BEGUN
from spool.backup.restore import UNFINISHED_NAME as RESTORE_UNFINISHED
from spool.clock import wall_clock_us
from spool.reader import LogReader
from spool.views import Snapshot, Views

if TYPE_CHECKING:
    from relay.message.keys import KeyRing
    from relay.message.tokens import BounceAddresses


class SiteStatus(NamedTuple):
    """What a running relay has learned of a site: of one set of MX hosts, or of a route."""

    #: Open now, and how many it is thought to bear.
    connections: int
    window: int
    #: Not tried before that time, and why; None where it is tried.
    down_until_us: int | None = None
    down_because: str | None = None


class Readable(Protocol):
    """What commands that only read need: a Core, or a directory that nobody has open."""

    @property
    def config(self) -> Config: ...
    @property
    def keyring(self) -> KeyRing: ...
    @property
    def operator_stem(self) -> str: ...
    @property
    def message_tokens(self) -> BounceAddresses: ...
    @property
    def store(self) -> ReadableStore: ...
    @property
    def in_hand(self) -> Container[int]: ...
    @property
    def sites(self) -> Mapping[str, str]:
        """Recipient domain -> the name of its site, of those that were looked up lately."""

    def site_statuses(self) -> Mapping[str, SiteStatus]:
        """Of the sites that a running relay has to do with, by name."""

    async def pause(self) -> None:
        """Let others work, where there are any."""


class ReadableStore(Protocol):
    """What `Store` answers, for those who only ask."""

    def now_us(self) -> int: ...
    def read(self) -> AbstractContextManager[Snapshot]: ...
    def get(self, seq: int) -> Recorded: ...


class LogToRead(ReadableStore, Protocol):
    """The views and the log behind them, which have a beginning and an end."""

    @property
    def last_seq(self) -> int: ...
    def first_seq(self) -> int: ...


def check_may_write(directory: Path, *, restoring: bool = False) -> None:
    """Raises Refusal where a directory has all that a data directory has, and is none: a backup, or one that is still
    being restored."""
    if (directory / BACKUP_BEGUN).exists():
        # What a relay would write into it, its manifest would call damage.
        raise Refusal(
            "CONFLICT", f"{directory} is a backup: make a data directory of it with `atmos-relay log restore`"
        )
    if not restoring and (directory / RESTORE_UNFINISHED).exists():
        # Its mail may have to be held first.
        raise Refusal(
            "CONFLICT",
            f"the restore of {directory} has not ended: run the same `atmos-relay log restore` again",
        )


class _Reading:
    """A directory that nobody serves: so nothing is in hand, and nothing is known of sites."""

    def __init__(self, directory: Path, config: Config, operator_stem: str, store: ReadableStore) -> None:
        self._directory = directory
        self.config = config
        self.operator_stem = operator_stem
        self.store: ReadableStore = store
        self.in_hand: Container[int] = frozenset()
        self.sites: Mapping[str, str] = {}

    @cached_property
    def keyring(self) -> KeyRing:
        from relay.message.keys import KeyRing  # cryptography, which few commands need

        return KeyRing(self._directory)

    @cached_property
    def message_tokens(self) -> BounceAddresses:
        from relay.message.keys import load_peppers  # as above
        from relay.message.tokens import BounceAddresses

        (_, first), *later = sorted(load_peppers(self._directory).items())
        tokens = BounceAddresses(first.bounce_key, self.config.operator_domain)
        for number, pepper in later:
            tokens.add(number, pepper.bounce_key)
        return tokens

    def site_statuses(self) -> Mapping[str, SiteStatus]:
        return {}

    async def pause(self) -> None:
        """Nobody else is at work here."""


class _Folded:
    """Views that were folded from a log, and that log."""

    def __init__(self, views: Views[Recorded], reader: LogReader, clock: Callable[[], int]) -> None:
        self._reader = reader
        self.read = views.read
        self.now_us = clock

    def get(self, seq: int) -> Recorded:
        return decode(self._reader.get(seq))


@contextmanager
def open_for_reading(directory: Path) -> Iterator[Readable]:
    """A data directory that nobody serves, or a copy of one, without writing a byte into it.

    The views are folded from the log into a temporary directory: those of the directory may be behind it, or missing,
    and only a writer may mend that. Raises ConfigError, KeyFileError, or an error of `spool`.
    """
    config = load_config(directory)
    read_peppers(directory)  # not needed here, but whoever looks should hear of secrets that others can read
    keys = KeyFiles(directory)
    keys.check()
    operator_stem = keys.operator_stem(config.operator_domain)
    with (
        open_temporary_views() as views,
        LogReader(directory / LOG_DIRECTORY, locate=views.locate) as reader,
    ):
        if reader.directory.is_dir():
            views.catch_up(reader)
        with views.read() as view:
            key = signing_keys.operator_key(view, config.operator_domain)
        if key is not None:
            operator_stem = key.selector_stem
        yield _Reading(directory, config, operator_stem, _Folded(views, reader, wall_clock_us))
