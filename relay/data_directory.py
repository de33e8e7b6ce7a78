"""A data directory: who may write into it, and how to read one that nobody serves."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from relay.alarms import Alarms
from relay.codec import Recorded, decode
from relay.config import Config, load_config
from relay.file_names import (
    FILLING_DIRECTORY,
    FILLING_JOINING,
    FILLING_READY,
    LOG_DIRECTORY,
    VIEWS_DIRECTORY,
)
from relay.last_looks import LastLooks, ListLooks
from relay.message.key_files import KeyFiles, read_peppers
from relay.refusals import Refusal
from relay.views import open_settled_relay_views, open_temporary_views, signing_keys
from spool.backup.format import BEGUN_NAME as BACKUP_BEGUN
from spool.backup.restore import UNFINISHED_NAME as RESTORE_UNFINISHED
from spool.clock import wall_clock_us
from spool.reader import LogReader
from spool.views import Snapshot

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


class WebhooksAtWork(Protocol):
    """The task that tells events to webhooks, where one runs. What it answers is `relay.webhooks.attempts`'s."""

    def attempts(self, webhook_id: str) -> Sequence[Any]:
        """The last requests to its endpoint, the newest last; none since the relay's start, none."""

    def told_seq(self, webhook_id: str) -> int | None:
        """All events up to this one were told, or are none that it is told of; None: not known."""

    async def test(self, webhook_id: str) -> Any:
        """Send it a `webhook.test` now, in no order with its events, and say what that came to. Raises
        Refusal(TEMPORARILY_UNAVAILABLE) where there is no place for it."""


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

    @property
    def alarms(self) -> Alarms:
        """What wants a person. Of the machine itself only a running relay knows."""

    @property
    def list_looks(self) -> ListLooks:
        """When lists of senders to refuse were asked last."""

    @property
    def dns_looks(self) -> LastLooks[Any]:
        """What was found when a running relay looked at each domain's DNS last."""

    @property
    def webhooks(self) -> WebhooksAtWork | None:
        """None where no relay runs, or none yet."""

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
    being restored, or filled."""
    if (directory / BACKUP_BEGUN).exists():
        # What a relay would write into it, its manifest would call damage.
        raise Refusal(
            "CONFLICT", f"{directory} is a backup: make a data directory of it with `atmos-relay log restore`"
        )
    filling = directory / FILLING_DIRECTORY
    if filling.exists():
        has_a_log = (directory / LOG_DIRECTORY).exists() and not any(
            (filling / name).exists() for name in (FILLING_READY, FILLING_JOINING)
        )
        raise Refusal(
            "CONFLICT",
            f"the filling of {directory} has not ended: run the same `atmos-relay node fill` or `node join` again"
            + (
                f". To give it up, and go on with the log that is there, remove {filling}"
                if has_a_log
                else ""
            ),
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
        self.dns_looks: LastLooks[Any] = LastLooks()
        self.webhooks: WebhooksAtWork | None = None
        self.alarms = Alarms(store.read)
        self.list_looks = ListLooks()

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


class _Store:
    """Views and their log, which change no more."""

    def __init__(
        self,
        read: Callable[[], AbstractContextManager[Snapshot]],
        reader: LogReader,
        clock: Callable[[], int],
    ) -> None:
        self._reader = reader
        self.read = read
        self.now_us = clock

    def get(self, seq: int) -> Recorded:
        return decode(self._reader.get(seq))


@contextmanager
def open_for_reading(directory: Path) -> Iterator[Readable]:
    """A data directory that nobody serves, or a copy of one, without changing anything in it.

    Where its views were closed in order and have seen the whole log, they are read. Otherwise they are folded from the
    log into a temporary directory: those of the directory may be behind it, or missing, and only a writer may mend
    that. Raises ConfigError, KeyFileError, or an error of `spool`.
    """
    config = load_config(directory)
    read_peppers(directory)  # not needed here, but whoever looks should hear of secrets that others can read
    keys = KeyFiles(directory)
    keys.check()
    operator_stem = keys.operator_stem(config.operator_domain)
    with _views_and_log(directory) as store:
        with store.read() as view:
            key = signing_keys.operator_key(view, config.operator_domain)
        if key is not None:
            operator_stem = key.selector_stem
        yield _Reading(directory, config, operator_stem, store)


@contextmanager
def _views_and_log(directory: Path) -> Iterator[_Store]:
    log = directory / LOG_DIRECTORY
    with open_settled_relay_views(directory / VIEWS_DIRECTORY, log) as settled:
        if settled is not None:
            with LogReader(log, locate=settled.place) as reader:
                # No answer is given beside a log that is no log any more.
                reader.check_headers()
                yield _Store(lambda: nullcontext(settled), reader, wall_clock_us)
            return
    with open_temporary_views() as views, LogReader(log, locate=views.locate) as reader:
        if reader.directory.is_dir():
            views.catch_up(reader)
        yield _Store(views.read, reader, wall_clock_us)
