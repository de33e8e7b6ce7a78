"""The names of what is in a data directory, for whoever only has to find it.

(`relay.config` has its own, `relay.toml`; `pepper` and `keys/` belong to `relay.message.key_files`.)
"""

LOG_DIRECTORY = "log"
VIEWS_DIRECTORY = "views"
#: Where one of several machines is being filled from another (relay.nodes.filling). While it is there, nobody serves.
FILLING_DIRECTORY = "filling"
#: In it: the log is exchanged from here on; and, it is a new node's, which has no log yet.
FILLING_READY, FILLING_JOINING = "ready", "joining"
#: Where a running relay is told what to do (relay.operator).
ADMIN_SOCKET = "admin.sock"
#: Where a running relay answers HTTP: its first line is `host:port`.
HTTP_ADDRESS_FILE = "http.address"
#: Where a running relay has the operator's console: its first line is `host:port`.
CONSOLE_ADDRESS_FILE = "console.address"
#: Where a running relay takes mail over SMTP: a line `host:port` for each address of `[submission]` `bind`, then of
#: `bind_tls`, in the order of the configuration.
SUBMISSION_ADDRESS_FILE = "submission.address"
#: The same for mail that comes in: the addresses of `[inbound]` `bind`.
INBOUND_ADDRESS_FILE = "inbound.address"
