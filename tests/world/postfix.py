"""A receiver that nobody here wrote: Postfix, with as many ports as there are kinds of receivers to be.

    with running_postfix({"plain.example": {}, "small.example": {"message_size_limit": "2000"}}) as postfix:
        ...                                     # send to anybody@plain.example by way of postfix.addresses[...]
        data = postfix.received(message_id)

Each port is a domain's MX and has settings of its own (parameters of Postfix's smtpd). All domains deliver into one
Maildir; `nobody@` is the recipient whom none of them knows. The instance has no SMTP client: it can send nothing.

Postfix adds header fields on top and stores the message with LF as its line ends; `received` gives the CRLFs back.
"""

from __future__ import annotations

import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.world.daemon import free_port, open_daemon_directory, require_daemon, running
from tests.world.process import PATIENCE_SECONDS, wait_until
from tests.world.self_signed import self_signed_pem

#: What "smtpd -o" takes, by name.
Settings = Mapping[str, str]

#: Of every instance: it keeps to its directory and to loopback.
_COMMON = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
myhostname = mx.test
mydestination =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
local_header_rewrite_clients =
# Nothing is looked up.
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
"""

_MAIN = """\
# Strangers to Postfix, though they connect from its own address.
mynetworks =
# Nothing leaves.
default_transport = error:this instance sends nothing
smtpd_recipient_restrictions = reject_unauth_destination
# A unit of what smtpd_client_..._rate_limit counts in.
anvil_rate_time_unit = 1s
milter_default_action = tempfail
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_tls_chain_files = {directory}/etc/chain.pem
virtual_mailbox_domains = {domains}
virtual_mailbox_maps = regexp:{directory}/etc/mailboxes
virtual_mailbox_base = {directory}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
"""

_MAILBOXES = "!/^nobody@/ inbox/\n"

_SERVICES = """\
cleanup  unix       n - n - 0     cleanup
qmgr     unix       n - n - 1     qmgr
rewrite  unix       - - n - -     trivial-rewrite
bounce   unix       - - n - 0     bounce
defer    unix       - - n - 0     bounce
trace    unix       - - n - 0     bounce
error    unix       - - n - -     error
retry    unix       - - n - -     error
proxymap unix       - - n - -     proxymap
anvil    unix       - - n - 1     anvil
tlsmgr   unix       - - n 1000? 1 tlsmgr
virtual  unix       - n n - -     virtual
postlog  unix-dgram n - n - 1     postlogd
"""


class Postfix:
    def __init__(self, directory: Path, ports: Mapping[str, int]) -> None:
        self._directory = directory
        #: `host:port` by domain.
        self.addresses = {domain: f"127.0.0.1:{port}" for domain, port in ports.items()}

    @property
    def log(self) -> str:
        file = self._directory / "maillog"
        return file.read_text() if file.exists() else ""

    def log_of(self, domain: str) -> list[str]:
        """The lines of the smtpd that serves a domain."""
        return [line for line in self.log.splitlines() if f" {domain}/smtpd[" in line]

    def wait_logged(self, domain: str, text: str) -> None:
        """Wait for a line of a domain's smtpd."""
        wait_until(
            lambda: any(text in line for line in self.log_of(domain)), lambda: f"logs {text}. {self.log}"
        )

    def received(self, message_id: int) -> bytes:
        """What is in the mailbox of this message, which Postfix has said to have taken."""
        # The envelope sender tells our messages apart.
        start = f"Return-Path: <bounces+{message_id}-".encode()
        found: list[bytes] = []

        def has_arrived() -> bool:
            files = (self._directory / "mail" / "inbox" / "new").glob("*")
            found[:] = [data for data in (file.read_bytes() for file in files) if data.startswith(start)]
            return bool(found)

        wait_until(has_arrived, lambda: f"message {message_id} is in the mailbox. {self.log}")
        (data,) = found
        assert b"\r" not in data
        return data.replace(b"\n", b"\r\n")


@contextmanager
def running_instance(directory: Path, *, main: str, master: str) -> Iterator[int]:
    """Postfix in an empty directory of its own, from when it is ready; its first process. `main` is what its main.cf
    has besides what every instance has; what it names in `etc/` may be put there before."""
    for name, owner in (("etc", "root"), ("queue", "root"), ("data", "postfix")):
        (directory / name).mkdir(exist_ok=True)
        shutil.chown(directory / name, owner)
    configuration = directory / "etc"
    (configuration / "main.cf").write_text(_COMMON.format(directory=directory) + main)
    (configuration / "master.cf").write_text(master)
    # Makes the queue's directories, and says what is wrong with the configuration.
    subprocess.run(
        [require_daemon("postfix"), "-c", configuration, "check"], check=True, timeout=PATIENCE_SECONDS
    )
    log = directory / "maillog"
    with running(
        [_master(), "-c", str(configuration), "-s"],
        directory,
        ready=lambda: log.exists() and "daemon started" in log.read_text(),
    ):
        yield int((directory / "queue" / "pid" / "master.pid").read_text())


@contextmanager
def running_postfix(domains: Mapping[str, Settings]) -> Iterator[Postfix]:
    """An instance of Postfix that serves these domains, each on a port of its own with its own settings."""
    require_daemon("postfix")
    ports = {domain: free_port() for domain in domains}
    with open_daemon_directory("postfix", owner="root") as directory:
        for name, owner in (("etc", "root"), ("mail", "nobody")):
            (directory / name).mkdir()
            shutil.chown(directory / name, owner)
        mailbox_owner = pwd.getpwnam("nobody")
        (directory / "etc" / "mailboxes").write_text(_MAILBOXES)
        (directory / "etc" / "chain.pem").write_bytes(self_signed_pem("localhost"))
        main = _MAIN.format(
            directory=directory,
            domains=", ".join(domains),
            uid=mailbox_owner.pw_uid,
            gid=mailbox_owner.pw_gid,
        )
        listeners = [_listener(domain, ports[domain], settings) for domain, settings in domains.items()]
        with running_instance(directory, main=main, master="".join([*listeners, _SERVICES])):
            yield Postfix(directory, ports)


def _master() -> str:
    """The path of Postfix's first process. `postfix start-fg` would put a shell between it and our signals."""
    postconf = require_daemon("postfix").removesuffix("postfix") + "postconf"
    answer = subprocess.run([postconf, "-dh", "daemon_directory"], capture_output=True, text=True, check=True)
    return f"{answer.stdout.strip()}/master"


def _listener(domain: str, port: int, settings: Settings) -> str:
    options = {"syslog_name": domain, **settings}
    lines = "".join(f"  -o {{ {name} = {value} }}\n" for name, value in options.items())
    return f"127.0.0.1:{port} inet n - n - - smtpd\n{lines}"
