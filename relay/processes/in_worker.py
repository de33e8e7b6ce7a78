"""Where a worker begins: `python -m relay.processes.in_worker PROGRAM NAME SOCKET PARENT LISTENING...`, by `keeper`.

The invariant: **before anything else is loaded, its life is bound to its parent's** (`own_rights`), so that no signal
and no death in the half second that the modules take finds a process that nobody ends. The rest is `worker`'s.

What ends it by an exception is one line of the log, with types and places, and exit status 1.
"""

from __future__ import annotations

import sys

from relay.processes import own_rights


def main(arguments: list[str]) -> int:
    program, name = arguments[:2]
    descriptor, parent, *listening = map(int, arguments[2:])
    own_rights.end_with(parent)
    own_rights.gain_nothing()

    import logging

    from relay.logs import configure_logging

    configure_logging(process=name)
    try:
        from relay.processes import worker

        worker.work(program, name, descriptor, listening)
    except Exception:
        logging.getLogger(__name__).exception("worker.failed")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
