"""Postfix that bounces: the recipient's next hop says no, or its pipe(8) does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.world.bouncers import FAILS, Bouncer
from tests.world.daemon import free_port, open_daemon_directory, require_daemon
from tests.world.postfix import running_instance
from tests.world.relay import OPERATOR_DOMAIN

_MAIN = """\
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
transport_maps = inline:{{ {{ {operator_domain} = smtp:[127.0.0.1]:{home} }}, {{ {fails} = fails: }} }}
default_transport = smtp:[127.0.0.1]:{next_hop}
minimal_backoff_time = 1s
maximal_backoff_time = 1s
queue_run_delay = 1s
maximal_queue_lifetime = 8s
bounce_queue_lifetime = 8s
delay_warning_time = 2s
smtp_host_lookup = native
smtp_tls_security_level = none
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup  unix       n - n - 0     cleanup
qmgr     unix       n - n - 1     qmgr
rewrite  unix       - - n - -     trivial-rewrite
bounce   unix       - - n - 0     bounce
defer    unix       - - n - 0     bounce
trace    unix       - - n - 0     bounce
error    unix       - - n - -     error
retry    unix       - - n - -     error
anvil    unix       - - n - 1     anvil
proxymap unix       - - n - -     proxymap
smtp     unix       - - n - -     smtp
fails    unix       - n n - -     pipe
  flags=R user=nobody argv=/bin/sh -c {{echo 'someone: the mailbox is locked by the administrator'; exit 77}}
postlog  unix-dgram n - n - 1     postlogd
"""


@contextmanager
def running_postfix_bouncer(*, next_hop: int, home: int) -> Iterator[Bouncer]:
    require_daemon("postfix")
    port = free_port()
    main = _MAIN.format(operator_domain=OPERATOR_DOMAIN, fails=FAILS, home=home, next_hop=next_hop)
    with (
        open_daemon_directory("bounces", owner="root") as directory,
        running_instance(directory, main=main, master=_MASTER.format(port=port)),
    ):
        yield Bouncer("postfix", port, directory / "maillog")
