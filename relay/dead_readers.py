"""The task that lets go of what killed processes held of the views.

The invariant: **whoever reads the views, and however it ends, leaves the relay as it was.** A process that is killed
while it reads (`log verify`, say) leaves its place in LMDB's table of readers taken. LMDB uses no page again that such
a reader might still see, so the file would grow by all that is written; and the table has an end. So the relay
looks at the table every CHECK_SECONDS, which costs some microseconds. (What lives and reads is no trouble of this kind;
where it takes every place, the relay still has its own: `spool.views.fold.OWN_READERS`.)
"""

from __future__ import annotations

import logging

import trio

from relay.core import Core

logger = logging.getLogger(__name__)

CHECK_SECONDS = 60.0


async def clear_dead_readers(
    core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Until cancelled; an unexpected exception ends it, and with it the process."""
    task_status.started()
    while True:
        cleared = core.store.clear_dead_readers()
        if cleared:
            logger.info("views.dead_readers_cleared", extra={"readers": cleared})
        # With all others that wake once a minute, so that a process at rest is woken once.
        await trio.sleep(CHECK_SECONDS - trio.current_time() % CHECK_SECONDS)
