"""A verifier that nobody here wrote: rspamd, as a milter that checks DKIM signatures and does nothing else.

It asks a name server on loopback, and reports in an Authentication-Results header (RFC 8601).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.world.daemon import free_port, is_listening, open_daemon_directory, require_daemon, running

_CONFIGURATION = """\
options {{
    filters = "dkim";
    dns {{ nameserver = ["127.0.0.1:{dns_port}"]; timeout = 5s; }}
    # Clients from our own network are strangers, too.
    local_addrs = [];
    pidfile = "{directory}/pid";
    tempdir = "{directory}";
    hs_cache_dir = "{directory}";
    cache_file = "{directory}/symbols";
    control_socket = "{directory}/control mode=0600";
    # The thousands of names in the real list take a second to compile.
    url_tld = "{directory}/suffixes";
}}
logging {{ type = "console"; level = "info"; }}
worker "rspamd_proxy" {{
    bind_socket = "127.0.0.1:{port}";
    milter = yes;
    count = 1;
    upstream "local" {{ default = yes; self_scan = yes; }}
}}
modules {{ path = "/usr/share/rspamd/plugins/milter_headers.lua"; }}
dkim {{ check_local = true; max_sigs = 10; }}
milter_headers {{ use = ["authentication-results"]; skip_local = false; }}
actions {{ reject = null; }}
lua = "/usr/share/rspamd/rules/rspamd.lua";
"""


@contextmanager
def running_rspamd(*, dns_port: int) -> Iterator[str]:
    """Gives the milter as `smtpd_milters` wants it."""
    rspamd = require_daemon("rspamd")
    port = free_port()
    with open_daemon_directory("rspamd", owner="_rspamd") as directory:
        configuration = directory / "rspamd.conf"
        configuration.write_text(_CONFIGURATION.format(directory=directory, dns_port=dns_port, port=port))
        (directory / "suffixes").write_text("com\nexample\n")
        command = [rspamd, "-f", "-u", "_rspamd", "-g", "_rspamd", "-c", str(configuration)]
        with running(command, directory, ready=lambda: is_listening(port)):
            yield f"inet:127.0.0.1:{port}"
