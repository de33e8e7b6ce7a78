"""Under which names the operator's console may be asked for.

A page of somebody else's can have its own name point at 127.0.0.1, and is then of one origin with whatever is served
there (DNS rebinding). It cannot do so with an address, nor with `localhost`. So the Host field must be one of these, or
the very name that `[console] operator_bind` has. The port is free: `ssh -L` may use another one.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

_HOST = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")


def is_ours(host: str | None, bind: str) -> bool:
    """Whether a request with this Host field is for the console that is bound to `bind`."""
    match = _HOST.fullmatch(host or "")
    if match is None:
        return False
    name = match[1].lower().strip("[]")
    return name == "localhost" or name == bind.rpartition(":")[0].strip("[]").lower() or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
