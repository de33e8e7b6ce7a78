"""Which settings of a server promise what an acknowledged append says, and which ones are refused.

The invariant: **where nothing is refused, an append is answered only when it outlives this server.** There are three
promises, and the operator says which one a database gives:

- STANDBYS, the default: PostgreSQL waits until a synchronous standby has flushed the commit, and the settings show it.
  The standby is asked, too, so its statistics must be readable.
- PROVIDER (`provider_is_durable`): replication lies below PostgreSQL, where no setting shows it. The provider's word.
- NONE (`unsafe_single_server`): one server, and what it loses is lost. For tests.

Settings are looked at when a connection is made, and again by each statement that changes the head (`guard`): somebody
may change them meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

#: `DETACH PARTITION CONCURRENTLY` came with it.
VERSION_MIN: Final = 14
#: Whether it may see how far standbys are. No setting, but asked with them.
SEES_STANDBYS: Final = "sees_standbys"


class Promise(Enum):
    STANDBYS = "a synchronous standby has it"
    PROVIDER = "the provider says so"
    NONE = "nothing is promised"


#: Setting -> its values that will do, for STANDBYS and for PROVIDER.
_WANTED: Final[Mapping[Promise, Mapping[str, Sequence[str]]]] = {
    Promise.STANDBYS: {
        "fsync": ("on",),
        "full_page_writes": ("on",),
        "synchronous_commit": ("on", "remote_apply"),
    },
    Promise.PROVIDER: {"synchronous_commit": ("on", "remote_apply")},
    Promise.NONE: {},
}
#: Of a session: a warning that is not sent would be an answer that is not true.
_SHOWS_WARNINGS: Final = (
    "warning",
    "notice",
    "log",
    "debug",
    "debug1",
    "debug2",
    "debug3",
    "debug4",
    "debug5",
    "info",
)
#: What `find_refusals` wants to know.
SETTINGS: Final = (
    "server_version_num",
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "synchronous_standby_names",
)


def find_refusals(settings: Mapping[str, str], promise: Promise) -> list[str]:
    """A sentence for each reason not to use a server with these SETTINGS, and SEES_STANDBYS ("on" or "off")."""
    found = []
    version = int(settings["server_version_num"]) // 10000
    if version < VERSION_MIN:
        found.append(f"it is PostgreSQL {version}, and must be {VERSION_MIN} or newer")
    for name, values in _WANTED[promise].items():
        if settings[name] not in values:
            found.append(f"{name} is {settings[name]}, and must be {' or '.join(values)}")
    if promise is Promise.STANDBYS:
        if not settings["synchronous_standby_names"]:
            found.append(
                "synchronous_standby_names is empty, and must name standbys, as ANY 1 (b, c): with it empty, what was "
                "acknowledged may be lost with this server"
            )
        if settings[SEES_STANDBYS] != "on":
            found.append("this role may not see how far standbys are: GRANT pg_monitor TO it, as a superuser")
    return found


def guard(promise: Promise) -> str:
    """The condition, in SQL, under which a statement may change the head."""
    conditions = [_is_one_of("client_min_messages", _SHOWS_WARNINGS)]
    conditions += [_is_one_of(name, values) for name, values in _WANTED[promise].items()]
    if promise is Promise.STANDBYS:
        conditions.append("current_setting('synchronous_standby_names') <> ''")
    return " AND ".join(conditions)


def _is_one_of(name: str, values: Sequence[str]) -> str:
    listed = ", ".join(f"'{value}'" for value in values)
    return f"current_setting('{name}') IN ({listed})"
