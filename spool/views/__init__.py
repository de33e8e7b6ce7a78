"""Views: what is derived from the log, in tables that are quick to ask.

`fold` fills them from the log and keeps them beside it, `projecting` has what fills them, `snapshot` is how they are
read (`reading`: those of another process, for as long as this one lives; `readers`: its places among all who read),
`scratch` has the same tables for a question, filled with chosen events. They know where a record stands in the log (the
*index*), so whoever reads the log by sequence number asks them. May import the reader, and what stands below
it. They must never be needed to tell what is true: all that is in them can be thrown away, and comes back the same from
the log.

What stands on disk, in a directory of their own beside the log's:

- `data.mdb`, `lock.mdb`: one LMDB environment. Its named databases are `meta` and `index`, which `snapshot` describes,
  and the tables that the projectors name.
- `boot`: the boot id of the machine, while the environment is open for writing (`spool.views.boot`). One that names
  another boot means that the environment must not even be opened: the views are built again.
"""

from spool.views.boot import are_there, discard, reason_not_to_open, was_interrupted
from spool.views.fold import OWN_READERS, Views, open_temporary
from spool.views.projecting import Happening, Projector, Transaction
from spool.views.reading import ReadingViews, open_reading_views, open_settled_views
from spool.views.snapshot import (
    DATA_NAME,
    INDEX,
    MAP_BYTES,
    META,
    POSITION,
    TABLES_MAX,
    Snapshot,
    open_views_read_only,
    prefix_end,
    with_end_offset,
)

__all__ = [
    "DATA_NAME",
    "INDEX",
    "MAP_BYTES",
    "META",
    "OWN_READERS",
    "POSITION",
    "TABLES_MAX",
    "Happening",
    "Projector",
    "ReadingViews",
    "Snapshot",
    "Transaction",
    "Views",
    "are_there",
    "discard",
    "open_reading_views",
    "open_settled_views",
    "open_temporary",
    "open_views_read_only",
    "prefix_end",
    "reason_not_to_open",
    "was_interrupted",
    "with_end_offset",
]
