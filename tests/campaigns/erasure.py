"""One life's log, read again and again, so that `tests.world.payloads` can judge what is gone from it.

That judge must be told of every event with its payload, and here nobody but the log has them. So it is read after each
round, and before each order to remove anything. Between that reading and the removal the story of a message that is
being erased may go on: of what was written then it is only known that there was a payload, for the record says so. That
it may go is judged all the same, and so is that it must.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from relay.codec import Recorded, decode
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.world.payloads import Payloads


class Contents(NamedTuple):
    """What a log holds."""

    events: list[Recorded]
    #: Those whose payloads are gone.
    stripped: set[int]


def read_contents(directory: Path, *, after: int = 0) -> Contents:
    contents = Contents([], set())
    with LogReader(directory / LOG_DIRECTORY) as reader:
        for record in reader.read(after + 1):
            contents.events.append(decode(record))
            if record.stripped:
                contents.stripped.add(record.seq)
    return contents


class Erasures:
    """Of the log in one data directory, whichever relay or command writes to it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._payloads = Payloads()

    @property
    def is_owed(self) -> bool:
        """Whether something that may be gone need not be yet; as of the last reading."""
        return self._payloads.is_owed

    def see_new(self) -> int:
        """Read what has been written since the last reading; returns the last sequence number."""
        new = read_contents(self._directory, after=self._payloads.count)
        self._payloads.see(new.events, late=new.stripped)
        return self._payloads.count

    def read(self) -> Contents:
        """The whole log; what is new of it is seen."""
        contents = read_contents(self._directory)
        known = self._payloads.count
        self._payloads.see(contents.events[known:], late={seq for seq in contents.stripped if seq > known})
        return contents

    def breaches(self, contents: Contents) -> list[str]:
        """What is wrong with what `read` returned last."""
        self._payloads.compare(contents.events)
        return self._payloads.found

    def breaches_of_copy(self, copy: Contents) -> list[str]:
        """The same of a copy of the log, which has all of it up to some moment that has passed."""
        self.see_new()
        self._payloads.compare_beginning(copy.events, name="a copy")
        return self._payloads.found

    def hear(self, message_id: int) -> list[str]:
        """What is wrong when somebody has just been told that this message is erased."""
        self._payloads.hear([(message_id, self.see_new())])
        return self._payloads.found
