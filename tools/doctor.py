"""`doctor`: looks at everything that an operator gets wrong, and changes nothing."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from relay.config import Config, ConfigError, load_config
from relay.file_names import (
    CONSOLE_ADDRESS_FILE,
    HTTP_ADDRESS_FILE,
    INBOUND_ADDRESS_FILE,
    LOG_DIRECTORY,
    SUBMISSION_ADDRESS_FILE,
)
from relay.message.keys import KeyFileError, KeyRing, load_peppers
from relay.operator.client import administer, is_running
from relay.reception.certificates import CertificateError, Certificates
from relay.refusals import Refusal
from spool.errors import SpoolError
from spool.reader import LogReader
from tools.colour import verdict
from tools.output import counted, directory_argument, json_option, print_json, printable

if TYPE_CHECKING:
    from relay.own_network.findings import NetworkFinding

#: For a relay that runs. A look at its views takes it far less, and one that hangs is what doctor is asked about.
_PATIENCE_SECONDS = 5.0
#: A certificate is renewed weeks before it expires, by itself; where it is not, there is still time to look.
CERTIFICATE_DAYS_MIN = 14
#: Of the relay's alarms; a domain each, it may be.
_ALARMS_MAX = 10


#: None: it cannot be told from here.
_WORDS = {True: "ok", False: "PROBLEM", None: "unknown"}


class Finding(NamedTuple):
    check: str
    ok: bool
    says: str


@click.command("doctor")
@directory_argument
@json_option
@click.option(
    "--network",
    is_flag=True,
    help="Look at what receivers look at, too: addresses, names, DNS records, ports, the way out.",
)
@click.pass_context
def doctor_command(context: click.Context, directory: Path, as_json: bool, network: bool) -> None:
    """Say what is wrong with a data directory, and what to do.

    Works whether a relay runs on it or not. With --network it asks the DNS, connects to the relay's own ports and to
    one receiver of each of three large providers, and sends no mail; `unknown` is what cannot be told from here.
    """
    told: list[dict[str, Any]] = []

    def tell(finding: Finding | NetworkFinding) -> None:
        if isinstance(finding, Finding):
            told.append(finding._asdict())
        else:
            told.append(finding.as_json())
        if not as_json:
            click.echo(f"{verdict(_WORDS[finding.ok], 7)}  {finding.check}: {printable(finding.says)}")

    for finding in examine(directory):
        tell(finding)
    if network:
        # Where the configuration cannot be read, that was said above.
        with suppress(ConfigError):
            config = load_config(directory)
            from tools.doctor_network import look  # which takes the DNS library and TLS along

            look(directory, config, tell)
    if as_json:
        print_json(told)
    if any(each["ok"] is False for each in told):
        context.exit(1)


def examine(directory: Path) -> list[Finding]:
    """Every check in turn; those that need the configuration are left out where it cannot be read."""
    config, finding = _configuration(directory)
    findings = [finding]
    checks: tuple[Callable[[Path, Config], Iterator[Finding]], ...] = (
        _permissions,
        _keys,
        _certificate,
        _space,
        _log,
        _running,
        _nodes,
        _operators_console,
        _alarms,
        _incoming,
    )
    if config is not None:
        for check in checks:
            findings.extend(check(directory, config))
    return findings


def _configuration(directory: Path) -> tuple[Config | None, Finding]:
    try:
        config = load_config(directory)
    except ConfigError as error:
        return None, Finding("configuration", False, str(error))
    return config, Finding("configuration", True, f"operator domain {config.operator_domain}")


def _permissions(directory: Path, config: Config) -> Iterator[Finding]:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & 0o077:
        yield Finding("permissions", False, f"others may enter {directory} ({mode:o}): chmod 700 {directory}")
    else:
        yield Finding("permissions", True, "the data directory is the owner's alone")


def _keys(directory: Path, config: Config) -> Iterator[Finding]:
    try:
        load_peppers(directory)
        ring = KeyRing(directory)
        ring.check()
        ring.operator_stem(config.operator_domain)
        stems = ring.stems(config.operator_domain)
        for stem in stems:
            ring.signers(config.operator_domain, stem)
    except KeyFileError as error:
        yield Finding("keys", False, str(error))
    else:
        which = stems[0] if len(stems) == 1 else stem_in_use(directory, stems)
        yield Finding("keys", True, f"pepper and operator keys are there (selector stem {which})")


def stem_in_use(directory: Path, stems: list[str]) -> str:
    """Which keys are in use, and which wait: the log knows, the files do not."""
    try:
        answer: Any = administer(directory, "operator_key", {}, patience_seconds=_PATIENCE_SECONDS)
    except TimeoutError:
        return f"one of {', '.join(stems)}: the relay does not say which"
    except (Refusal, SpoolError, OSError) as error:
        return f"one of {', '.join(stems)}: {error}"
    in_use, waiting = answer["selector"], answer["nextSelector"]
    return in_use if waiting is None else f"{in_use}; {waiting} waits until the DNS has it"


def _certificate(directory: Path, config: Config) -> Iterator[Finding]:
    tls = config.tls
    if not tls.is_there:
        if config.submission.is_served:
            says = "no certificate: SMTP is taken from this machine only, in the clear"
            yield Finding("certificate", True, says)
        if config.inbound.is_served:
            yield Finding("certificate", True, "no certificate: mail comes in in the clear")
        return
    certificate, key = directory / tls.certificate, directory / tls.key
    try:
        shown = Certificates(certificate, key)
        is_open = bool(stat.S_IMODE(key.stat().st_mode) & 0o007)
    except (CertificateError, OSError) as error:
        yield Finding("certificate", False, str(error))
        return
    days = (shown.not_after - datetime.now(UTC)).days
    says = f"for {', '.join(shown.names) or 'no host name'}, {counted(days, 'day')} left"
    if days < 0:
        says = f"{certificate} has expired on {shown.not_after:%Y-%m-%d}: clients refuse to log in; renew it"
    elif days < CERTIFICATE_DAYS_MIN:
        says += f": renew {certificate}; the relay reads the new files by itself"
    yield Finding("certificate", days >= CERTIFICATE_DAYS_MIN, says)
    if is_open:
        yield Finding("certificate key", False, f"everybody may read {key}: chmod o= {key}")


def _space(directory: Path, config: Config) -> Iterator[Finding]:
    free, least = shutil.disk_usage(directory).free, config.spool.free_bytes_min
    says = f"{free:,} bytes free, the relay stops accepting below {least:,}"
    yield Finding("disk space", free >= least, says)


def _log(directory: Path, config: Config) -> Iterator[Finding]:
    if not (directory / LOG_DIRECTORY).is_dir():
        yield Finding("log", True, "nothing was ever accepted")
        return
    try:
        segments = LogReader(directory / LOG_DIRECTORY).segments()
    except (SpoolError, OSError) as error:
        yield Finding("log", False, f"{error}; `atmos-relay log verify {directory}` says more")
        return
    size = sum(segment.bytes for segment in segments)
    last = segments[-1].last_seq if segments else 0
    yield Finding("log", True, f"{counted(len(segments), 'segment')}, {size:,} bytes, last sequence {last}")


def _running(directory: Path, config: Config) -> Iterator[Finding]:
    if is_running(directory):
        address = directory / HTTP_ADDRESS_FILE
        where = address.read_text().strip() if address.exists() else "not open yet"
        yield Finding("relay", True, f"running, HTTP on {where}{_smtp(directory)}")
    else:
        yield Finding("relay", True, "not running")
    if config.public_url.startswith("http://"):
        yield Finding("public_url", False, "mailbox providers follow https unsubscribe links only (RFC 8058)")
    if os.geteuid() == 0:
        yield Finding("user", True, "running as root; a user of its own is safer (see the systemd unit)")


def _nodes(directory: Path, config: Config) -> Iterator[Finding]:
    if config.nodes is not None:
        from tools.doctor_nodes import look_at_nodes  # which takes trio along, and the database's driver

        for finding in look_at_nodes(directory, config):
            yield Finding(*finding)


def _operators_console(directory: Path, config: Config) -> Iterator[Finding]:
    """Where it is; where no relay runs, whether one could have it there: one that cannot does not start."""
    check, bind = "operator's console", config.console.operator_bind
    if not bind:
        yield Finding(check, True, "none: [console] operator_bind is empty")
        return
    if is_running(directory):
        address = directory / CONSOLE_ADDRESS_FILE
        where = f"on {address.read_text().strip()}" if address.exists() else "not open yet"
        yield Finding(check, True, f"{where}; `atmos-relay console login {directory}` lets you in")
        return
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
            # As the relay has it: a port whose last connections are still dying is free.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, int(port)))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "is taken by another program" if taken else f"cannot be had: {error.strerror}"
        says = f"{bind} {why}, and the relay will not start: set [console] operator_bind to another address"
        yield Finding(check, False, says)
    else:
        yield Finding(check, True, f"{bind} is free for it")


def _smtp(directory: Path) -> str:
    said = ""
    for what, name in (("SMTP", SUBMISSION_ADDRESS_FILE), ("mail comes in", INBOUND_ADDRESS_FILE)):
        addresses = directory / name
        if addresses.exists():
            said += f", {what} on {', '.join(addresses.read_text().split())}"
    return said


def _alarms(directory: Path, config: Config) -> Iterator[Finding]:
    """What a running relay says wants a person. Its disk and its certificate are looked at above."""
    if not is_running(directory):
        return
    try:
        active: Any = administer(directory, "alarm_list", {}, patience_seconds=_PATIENCE_SECONDS)
    except TimeoutError:
        yield Finding("alarms", False, "the relay does not answer")
        return
    except (Refusal, SpoolError, OSError) as error:
        yield Finding("alarms", False, str(error))
        return
    shown = [alarm for alarm in active if alarm["name"] not in ("disk_near_reserve", "certificate_expires")]
    for alarm in shown[:_ALARMS_MAX]:
        yield Finding(f"alarm {alarm['name']}", False, printable(alarm["says"][0]))
    if len(shown) > _ALARMS_MAX:
        yield Finding("alarms", False, f"and {len(shown) - _ALARMS_MAX} more; the console has them all")
    if not shown:
        yield Finding("alarms", True, "none is active")


def _incoming(directory: Path, config: Config) -> Iterator[Finding]:
    check = "mail that comes in"
    if not config.inbound.is_served:
        says = (
            "is not taken: bounces that come later, complaints and mail to postmaster@ are lost where the MX "
            "that `dns` prints is published; set [inbound] bind and operator_mailbox"
        )
        yield Finding(check, True, says)
        return
    from tools.incoming import look_at_incoming  # which takes the DNS library along

    for finding in look_at_incoming(config):
        yield Finding(check, *finding)
