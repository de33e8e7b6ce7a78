"""Exim that bounces: the recipient's next hop says no, or its pipe transport does.

Its package and Postfix's exclude each other, so the program is looked for where `EXIM` says, too.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from tests.world.bouncers import FAILS, Bouncer
from tests.world.daemon import free_port, is_listening, open_daemon_directory, require_daemon, running
from tests.world.relay import OPERATOR_DOMAIN

_CONFIGURATION = """\
primary_hostname = mx.test
exim_user = nobody
exim_group = nogroup
exim_path = {program}
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/exim.pid
keep_environment =
disable_ipv6 = true
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts =
host_lookup =
acl_smtp_rcpt = accept
# Once.
delay_warning = 2s:99h
delay_warning_condition = yes
bounce_return_size_limit = 100K
queue_only = false
queue_run_max = 20
begin acl
accept:
  accept
begin routers
home:
  driver = manualroute
  domains = {operator_domain}
  route_list = * 127.0.0.1
  self = send
  transport = home
fails:
  driver = accept
  domains = {fails}
  transport = fails
next:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = next
begin transports
home:
  driver = smtp
  port = {home}
  hosts_avoid_tls = *
next:
  driver = smtp
  port = {next_hop}
  hosts_avoid_tls = *
fails:
  driver = pipe
  command = /bin/sh -c "echo 'someone: the mailbox is locked by the administrator'; exit 77"
  user = nobody
  group = nogroup
  return_fail_output
begin retry
* * F,8s,1s
"""


@contextmanager
def running_exim_bouncer(*, next_hop: int, home: int) -> Iterator[Bouncer]:
    program = os.environ.get("EXIM") or require_daemon("exim4")
    port = free_port()
    with open_daemon_directory("exim", owner="nobody") as directory:
        (directory / "spool").mkdir()
        shutil.chown(directory / "spool", "nobody", pwd.getpwnam("nobody").pw_gid)
        configuration = directory / "exim.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                program=program,
                directory=directory,
                port=port,
                operator_domain=OPERATOR_DOMAIN,
                fails=FAILS,
                home=home,
                next_hop=next_hop,
            )
        )
        # In the foreground, and a look at what waits each second.
        command = [program, "-C", str(configuration), "-bdf", "-q1s"]
        with running(command, directory, ready=lambda: is_listening(port)):
            yield Bouncer("exim", port, directory / "mainlog")
