"""`atmos-relay`: every subcommand, its exit status, and how errors are told.

Exit status: 0 good, 1 found a problem or was refused, 2 usage, 130 broken off by Ctrl-C. 75: a relay that was one of
several machines and led is to be begun again, and will follow (EX_TEMPFAIL of sysexits.h).

This imports next to nothing: a command is imported when it is called, and so are the errors, when there is one.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from tools import streams
from tools.lazy import Elsewhere, LazyGroup

#: The supervisor's business: docs/atmos-relay.service has it.
BEGIN_AGAIN = 75

COMMANDS = {
    "init": Elsewhere("tools.init", "init_command", "Make a data directory."),
    "serve": Elsewhere("tools.serve", "serve_command", "Run the relay until SIGTERM or Ctrl-C."),
    "doctor": Elsewhere(
        "tools.doctor", "doctor_command", "Say what is wrong with a data directory, and what to do."
    ),
    "status": Elsewhere(
        "tools.status",
        "status_command",
        "Say how the relay stands, on one screen.",
    ),
    "alarms": Elsewhere("tools.alarms", "alarms_command", "Show what wants a person, with what to do."),
    "listings": Elsewhere(
        "tools.alarms", "listings_command", "Show which lists name the relay's addresses and domains."
    ),
    "member": Elsewhere("tools.membership", "member_group", "Members of the relay."),
    "domain": Elsewhere("tools.membership", "domain_group", "Sending domains."),
    "key": Elsewhere("tools.membership", "key_group", "API keys."),
    "suppression": Elsewhere(
        "tools.suppressions", "suppression_group", "To whom a member's mail may not go, and why."
    ),
    "webhook": Elsewhere(
        "tools.webhook", "webhook_group", "Webhooks: endpoints that are told of events, in their order."
    ),
    "node": Elsewhere(
        "tools.node", "node_group", "One relay on several machines: begin it, add nodes, list them."
    ),
    "pepper": Elsewhere(
        "tools.pepper",
        "pepper_group",
        "The secret of API keys, links and bounce addresses.",
    ),
    "bounce": Elsewhere(
        "tools.bounce", "bounce_group", "Mail that tells what became of a message: read it, record it."
    ),
    "complaint": Elsewhere(
        "tools.complaint", "complaint_group", "Complaints of recipients about mail they got."
    ),
    "console": Elsewhere(
        "tools.console", "console_group", "The console in the browser: let one in, or put all out."
    ),
    "dns": Elsewhere(
        "tools.membership", "dns_command", "Print the DNS records that are needed, ready to paste."
    ),
    "queue": Elsewhere(
        "tools.queue", "queue_group", "Look at what waits to be delivered; hurry, hold or cancel it."
    ),
    "find": Elsewhere("tools.finding", "find_command", "Find messages, the newest first."),
    "top": Elsewhere("tools.finding", "top_command", "Say who takes, puts off and refuses most, and why."),
    "why": Elsewhere("tools.finding", "why_command", "Say why a domain or a member may not send."),
    "providers": Elsewhere(
        "tools.provider",
        "providers_command",
        "Show what became of mail at each mailbox provider.",
    ),
    "provider": Elsewhere(
        "tools.provider", "provider_group", "What mailbox providers say of this relay's mail."
    ),
    "log": Elsewhere(
        "tools.log.group", "log_group", "The log: look into it, check it, mend what can be mended."
    ),
    "policy": Elsewhere(
        "tools.policy", "policy_group", "Limits and thresholds: what others would have done."
    ),
    "watch": Elsewhere(
        "tools.watch", "watch_command", "Print a member's events as they happen, until Ctrl-C."
    ),
    "completion": Elsewhere(
        "tools.completion",
        "completion_command",
        "Print what completes commands, options and values in a shell.",
    ),
    "version": Elsewhere(
        "tools.version", "version_command", "Show the version, and those of Python and LMDB."
    ),
}


def _show_version(context: click.Context, parameter: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not context.resilient_parsing:
        from tools.version import print_versions

        print_versions(as_json=False)
        context.exit()


class _Root(LazyGroup):
    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with streams.noticing_that_nobody_reads():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        with streams.noticing_that_nobody_reads():
            return super().invoke(context)


@click.group(cls=_Root, elsewhere=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Atmosphere Mail relay: a cooperative email relay whose log is the truth.

    DIR is the relay's data directory. It may be left out where ATMOS_RELAY_DIR names it.
    """


def main() -> None:
    streams.prepare()
    try:
        _run()
        with streams.noticing_that_nobody_reads():
            sys.stdout.flush()
    except streams.NobodyReadsError:
        streams.fall_silent()
    sys.exit(0)


def _run() -> None:
    try:
        # Where a command left by `context.exit`, click returns the status; else what the command returned.
        status = cli.main(standalone_mode=False)
        if isinstance(status, int) and status:
            sys.exit(status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            sys.exit(130)  # Ctrl-C, as above, but it was noticed inside of a nursery
        _explain_group(group)
        sys.exit(_status_of(group))
    except streams.NobodyReadsError:
        raise
    except Exception as error:
        sentence = _explain(error)
        if sentence is None:
            raise
        click.echo(f"atmos-relay: {sentence}", err=True)
        sys.exit(1)


def _status_of(group: BaseExceptionGroup[BaseException]) -> int:
    from spool.errors import LogDeposedError

    return BEGIN_AGAIN if group.subgroup(LogDeposedError) is not None else 1


def expected_errors() -> tuple[type[Exception], ...]:
    """What an operator can do something about: told as one sentence, without a traceback."""
    from relay.codec import UnknownEventError
    from relay.config import ConfigError
    from relay.message.key_files import KeyFileError
    from relay.refusals import Refusal
    from spool.errors import SpoolError
    from spool.replicated.table import TableError

    return (Refusal, ConfigError, KeyFileError, SpoolError, TableError, UnknownEventError, OSError)


def _explain(error: Exception) -> str | None:
    """In a sentence; None for a defect of ours, which is shown whole."""
    if isinstance(error, expected_errors()):
        return _with_advice(error)
    import lmdb

    if type(error) in (lmdb.Error, lmdb.DiskError):
        # LMDB calls a full disk an input/output error.
        return f"the views could not be written: {error}. Is the disk full? The log has all that is in them"
    return None


def _explain_group(group: BaseExceptionGroup[BaseException]) -> None:
    """From a nursery: expected errors as sentences; anything else is a defect, and shown whole."""
    expected, defects = group.split(expected_errors())
    if defects is not None:
        raise defects
    pending: list[BaseException] = [expected] if expected is not None else []
    # Whatever ends a relay is met by each task that waits for its log.
    sentences: dict[str, None] = {}
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending = [*error.exceptions, *pending]
        else:
            sentences[_with_advice(error)] = None
    for sentence in sentences:
        click.echo(f"atmos-relay: {sentence}", err=True)


def _with_advice(error: BaseException) -> str:
    """With what to do, where the sentence comes from below of what has commands."""
    from spool.errors import LostRowsError
    from spool.replicated.table import NoTablesError, UnknownOutcomeError

    if isinstance(error, UnknownOutcomeError):
        return f"{error}. Whether the database has done it is not known: give the command again"
    if isinstance(error, NoTablesError | LostRowsError) or isinstance(error.__cause__, LostRowsError):
        from relay.nodes.trouble import FOUND_ANEW, in_words

        return in_words(error) if isinstance(error, NoTablesError) else f"{error}. {FOUND_ANEW}"
    if isinstance(error, OSError) and error.errno and error.strerror and error.filename is None:
        # Where the words are ours, and not the system's for this number, they tell all there is to tell.
        return str(error) if error.strerror == os.strerror(error.errno) else error.strerror
    return str(error)
