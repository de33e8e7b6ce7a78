"""`atmos-relay`: every subcommand, its exit status, and how errors are told.

Exit status: 0 good, 1 found a problem or was refused, 2 usage, 130 broken off by Ctrl-C.
"""

from __future__ import annotations

import sys

import click
import lmdb

from relay.codec import UnknownEventError
from relay.config import ConfigError
from relay.message.keys import KeyFileError
from relay.refusals import Refusal
from spool.errors import SpoolError
from tools.complaint import complaint_group
from tools.log.group import log_group
from tools.membership import dns_command, domain_group, key_group, member_group
from tools.policy import policy_group
from tools.queue import queue_group
from tools.service import doctor_command, init_command, serve_command
from tools.watch import watch_command

#: What an operator can do something about: told as one sentence, without a traceback.
EXPECTED = (Refusal, ConfigError, KeyFileError, SpoolError, UnknownEventError, OSError)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="atmos-relay")
def cli() -> None:
    """Atmosphere Mail relay: a cooperative email relay whose log is the truth."""


for command in (
    init_command,
    serve_command,
    doctor_command,
    member_group,
    domain_group,
    key_group,
    complaint_group,
    dns_command,
    queue_group,
    log_group,
    policy_group,
    watch_command,
):
    cli.add_command(command)


def main() -> None:
    try:
        # Where a command left by `context.exit`, click returns the status; else what the command returned.
        status = cli.main(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            sys.exit(130)  # Ctrl-C, as above, but it was noticed inside of a nursery
        _explain_group(group)
        sys.exit(1)
    except EXPECTED as error:
        click.echo(f"atmos-relay: {error}", err=True)
        sys.exit(1)
    except lmdb.Error as error:
        if type(error) not in (lmdb.Error, lmdb.DiskError):
            raise  # a defect of ours
        # LMDB calls a full disk an input/output error.
        said = f"the views could not be written: {error}. Is the disk full? The log has all that is in them"
        click.echo(f"atmos-relay: {said}", err=True)
        sys.exit(1)


def _explain_group(group: BaseExceptionGroup[BaseException]) -> None:
    """From a nursery: expected errors as sentences; anything else is a defect, and shown whole."""
    expected, defects = group.split(EXPECTED)
    if defects is not None:
        raise defects
    pending: list[BaseException] = [expected] if expected is not None else []
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending = [*error.exceptions, *pending]
        else:
            click.echo(f"atmos-relay: {error}", err=True)
