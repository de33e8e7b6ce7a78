"""What is doubtful about the servers that a database is at, as each says it of itself: for people who look.

A statement sees the settings of the server that carries it out, and of a standby only that it has flushed something.
What that is worth, and what becomes of it after a failover, stands in the standby's own settings. So here each host of
the list is asked, whatever it is. It is no part of any promise: a server that is not in the list is not asked, and
somebody may change a setting the moment after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from spool.replicated.connection import Patience, Session, open_session
from spool.replicated.hosts import Host
from spool.replicated.promise import SEES_STANDBYS, SETTINGS, Promise, find_refusals
from spool.replicated.statements import CHECK
from spool.replicated.table import TableError

_IS_STANDBY: Final = "SELECT pg_is_in_recovery()"
#: Who counts for a commit, as PostgreSQL sees it, and replays none of what it has flushed, or is another database.
_RECEIVERS: Final = """
SELECT application_name, slot_type IS NOT NULL FROM pg_stat_replication
LEFT JOIN pg_replication_slots ON active_pid = pid AND slot_type = 'logical'
WHERE sync_state IN ('sync', 'quorum') AND flush_lsn IS NOT NULL AND (replay_lsn IS NULL OR slot_type IS NOT NULL)
ORDER BY application_name"""


async def find_doubts(
    hosts: Sequence[Host], promise: Promise, patience: Patience, limiter: trio.CapacityLimiter
) -> list[str]:
    """A sentence for each, in the order of the hosts."""
    found: dict[str, list[str]] = {host.name: [] for host in hosts}
    primaries: list[str] = []

    async def look(host: Host) -> None:
        any_state = host._replace(parameters={**host.parameters, "target_session_attrs": "any"})
        try:
            session = await open_session(any_state, seconds=patience.connect_seconds, limiter=limiter)
            try:
                is_standby, sentences = await _look_at(session, promise, patience.answer_seconds)
            finally:
                await session.close()
        except TableError as error:
            found[host.name].append(f"{error}: after a failover to it there is no database")
            return
        found[host.name] += [f"{host.name}: {sentence}" for sentence in sentences]
        if not is_standby:
            primaries.append(host.name)

    async with trio.open_nursery() as nursery:
        for host in hosts:
            nursery.start_soon(look, host)
    doubts = [sentence for sentences in found.values() for sentence in sentences]
    if len(primaries) > 1:
        doubts.append(
            f"{' and '.join(sorted(primaries))} are each no standby: all but one are old primaries that have come back "
            "and must follow the one that is not"
        )
    return doubts


async def _look_at(session: Session, promise: Promise, seconds: float) -> tuple[bool, list[str]]:
    ((is_standby,),) = (await session.ask(_IS_STANDBY, seconds=seconds)).rows
    ((*shown, _),) = (await session.ask(CHECK, seconds=seconds)).rows
    settings = dict(zip((*SETTINGS, SEES_STANDBYS), shown, strict=True))
    if not is_standby:
        receivers = (await session.ask(_RECEIVERS, seconds=seconds)).rows
        return False, [
            f"{name or 'one without a name'} is counted by PostgreSQL as a synchronous standby, and "
            f"{'is a logical subscriber' if is_logical else 'only receives (as pg_receivewal does)'}: nobody can "
            "promote it, so it is no witness of a commit"
            for name, is_logical in receivers
        ]
    found = []
    if promise is Promise.STANDBYS and settings["fsync"] != "on":
        found.append(
            f"it is a standby, and its fsync is {settings['fsync']}: what it says it has flushed it may lose with its "
            "power, so what was acknowledged is on the primary alone"
        )
        settings["fsync"] = "on"
    refusals = find_refusals(settings, promise)
    if refusals:
        found.append(f"it is a standby, and could not be used after a failover: {'; '.join(refusals)}")
    return True, found
