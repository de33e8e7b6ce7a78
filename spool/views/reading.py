"""The views of another process, read for the whole life of this one.

The invariant: **who reads here is seen by the writer, and reads whole moments.** LMDB uses no page again that a reader
in its table might still see; so a process that cannot write itself into that table (`lock.mdb`) does not read at all.
What the writer has applied when its `append` returns, every snapshot that is begun afterwards shows.

Nothing is changed here: the environment is open read-only, beside one writer in another process (LMDB knows one
environment for each directory in a process, so it cannot be this one). `open_views_read_only` is for one look.

*The writer was killed*: what it had committed is there, and what it was at is not. *A writer that starts may throw the
views away and build them anew*: who has the old ones open goes on reading these, as they were, and sees by
`are_replaced` that nobody writes to them any more; the new ones are read by opening again. *This process is killed*:
its places in the table are free when somebody looks (`Views.clear_dead_readers`). Where it is only stopped, the file
grows by all that is written until it goes on or is killed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb

from spool.directory import segment_seqs
from spool.disk import RealDisk
from spool.errors import ReadersFullError, ViewsNotReadableError
from spool.segment import segment_name
from spool.views.boot import are_there, reason_not_to_open, was_left_open
from spool.views.projecting import E, Projector, shape_mismatch
from spool.views.readers import Readers
from spool.views.snapshot import (
    DATA_NAME,
    INDEX,
    LOCK_NAME,
    META,
    Snapshot,
    begin_reading,
    check_not_cut_short,
    open_environment,
    open_tables,
)

#: So many snapshots at a time always find a place. They are short, and a process has few threads that read.
READERS: Final = 4


class ReadingViews:
    """Made by `open_reading_views`. May be used in several threads."""

    def __init__(self, env: Any, tables: dict[str, Any], readers: Readers, data: int, path: Path) -> None:
        self._env = env
        self._tables = tables
        self._readers = readers
        self._data = data
        self._path = path

    def read(self) -> AbstractContextManager[Snapshot]:
        """A consistent snapshot. Keep it short, and never across an `await`.

        Raises ReadersFullError where there are READERS already, and other processes leave no room for more.
        """
        return self._readers.reading(self._tables)

    @property
    def position(self) -> int:
        """Sequence number of the last record that the views have seen at this moment; 0 for none."""
        with self.read() as snapshot:
            return snapshot.position

    def locate(self, seq: int) -> tuple[int, int] | None:
        """Where the record stands in the log: first sequence number of its segment, and offset.

        While the writer corrects the index of a segment that was rewritten this may be its old place. A reader of the
        log looks whether the record is there, and walks the segment where it is not.
        """
        with self.read() as snapshot:
            return snapshot.place(seq)

    @property
    def are_replaced(self) -> bool:
        """Whether a writer has thrown these away since they were opened: they change no more."""
        return not _is_still(self._path, self._data)


@contextmanager
def open_reading_views(directory: Path, projectors: Sequence[Projector[E]]) -> Iterator[ReadingViews]:
    """The views in `directory`, which another process writes, until the block ends.

    Raises FileNotFoundError where there are none, PermissionError where `lock.mdb` cannot be written,
    ReadersFullError where others leave no room for READERS (places of dead processes among them, until one that has the
    views open calls `clear_dead_readers`: LMDB cannot be opened far enough to do it here), and ViewsNotReadableError
    with the reason where what is there must not be read: other code made them, or they are damaged or in the middle of
    being replaced.
    """
    path = directory / DATA_NAME
    # The descriptor keeps the file's number from being given to another, so that it can be recognised.
    data = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check_lock(directory / LOCK_NAME)
        if (doubt := reason_not_to_open(directory)) is not None:
            raise ViewsNotReadableError(f"{directory}: {doubt}")
        env = _open(directory)
        readers = Readers(env, READERS)
        try:
            try:
                check_not_cut_short(env, directory)
                tables = open_tables(env, directory, _names(projectors))
                readers.take()
            except (lmdb.Error, LookupError) as error:
                raise ViewsNotReadableError(f"{directory}: {error}") from error
            # On a disk that is mounted read-only LMDB reads without a word and without its table.
            if not env.info()["num_readers"]:
                raise PermissionError(
                    errno.EROFS, "cannot be written: LMDB reads without it", str(directory / LOCK_NAME)
                )
            # Data go before the lock when they are thrown away: so what was opened belongs together.
            if not _is_still(path, data):
                raise ViewsNotReadableError(f"{directory}: a writer has just thrown them away")
            views = ReadingViews(env, tables, readers, data, path)
            with views.read() as snapshot:
                if (doubt := shape_mismatch(snapshot, projectors)) is not None:
                    raise ViewsNotReadableError(f"{directory}: {doubt}")
            yield views
        finally:
            readers.let_go()
            env.close()
    finally:
        os.close(data)


@contextmanager
def open_settled_views(
    directory: Path, log_directory: Path, projectors: Sequence[Projector[E]]
) -> Iterator[Snapshot | None]:
    """The views in `directory` of a log that nobody writes, where they were closed in order, by this code, and have
    seen all of the log: its last segment ends where they say. None where any of this is not so: whoever asks folds the
    log. What is in the log's files is not looked at.
    """
    with ExitStack() as stack:
        try:
            snapshot = _settled(stack, directory, log_directory, projectors)
        except (lmdb.Error, LookupError, ReadersFullError, OSError):
            snapshot = None
        yield snapshot


def _settled(
    stack: ExitStack, directory: Path, log_directory: Path, projectors: Sequence[Projector[E]]
) -> Snapshot | None:
    if not are_there(directory) or was_left_open(directory):
        return None
    # As in `open_views_read_only`: a lock that cannot be written is one that nobody else can write either.
    env = open_environment(directory, readonly=True, lock=os.access(directory / LOCK_NAME, os.W_OK))
    stack.callback(env.close)
    check_not_cut_short(env, directory)
    tables = open_tables(env, directory, _names(projectors))
    snapshot = Snapshot(stack.enter_context(begin_reading(env)), tables)
    settled = shape_mismatch(snapshot, projectors) is None and _has_seen_all(snapshot, log_directory)
    return snapshot if settled else None


def _has_seen_all(snapshot: Snapshot, log_directory: Path) -> bool:
    witness = snapshot.witness()
    seqs = segment_seqs(RealDisk(), log_directory)
    if witness is None or not seqs or seqs[-1] != witness.segment:
        return False
    return (log_directory / segment_name(seqs[-1])).stat().st_size == witness.end_offset


def _names(projectors: Sequence[Projector[E]]) -> list[str]:
    return [META, INDEX, *(table for projector in projectors for table in projector.tables)]


def _check_lock(lock: Path) -> None:
    """Without opening it: closing any descriptor of it would take this process's locks on it away, if it had some."""
    if not os.access(lock, os.W_OK):
        raise PermissionError(errno.EACCES, "cannot be written, so who reads could not be seen", str(lock))


def _open(directory: Path) -> Any:
    try:
        return open_environment(directory, readonly=True, create=False)
    except lmdb.Error as error:
        # Landlock says no only when the file is opened.
        if os.strerror(errno.EACCES) in str(error):
            raise PermissionError(errno.EACCES, str(error), str(directory / LOCK_NAME)) from error
        raise ViewsNotReadableError(f"{directory}: {error}") from error


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the path names the file that is open here."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
