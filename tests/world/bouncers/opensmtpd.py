"""OpenSMTPD that bounces: the recipient's next hop says no, or its delivery agent does.

Where its directories, configuration, socket and users are is compiled in, so it is run in a root directory of its own
(chroot), made of what its package has, unpacked, and of the libraries that this machine has. The program is looked for
where `OPENSMTPD` says (the directory that the package was unpacked in), too: the package and Postfix's exclude each
other.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.world.bouncers import FAILS, Bouncer
from tests.world.daemon import free_port, is_listening, open_daemon_directory, require_program, running
from tests.world.relay import OPERATOR_DOMAIN

_CONFIGURATION = """\
queue ttl 8s
bounce warn-interval 2s
listen on 127.0.0.1 port {port} hostname mx.test
action "home" relay host smtp://127.0.0.1:{home}
action "next" relay host smtp://127.0.0.1:{next_hop}
table everybody {{ "@" = nobody }}
action "fails" mda "echo 'the mailbox is locked by the administrator' >&2; exit 77" virtual <everybody> user nobody
match from any for domain "{operator_domain}" action "home"
match from any for domain "{fails}" action "fails"
match from any for any action "next"
"""
_FILES = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
    "opensmtpd:x:64101:64101::/:/bin/false\nopensmtpq:x:64102:64102::/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\nopensmtpd:x:64101:\nopensmtpq:x:64102:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/mailname": "mx.test\n",
    # Nobody is there to ask.
    "etc/resolv.conf": "nameserver 127.0.0.1\n",
}
_DIRECTORIES = ("dev", "etc", "tmp", "var/run", "var/spool", "var/lib/opensmtpd/empty")
_DEVICES = {"null": (1, 3), "urandom": (1, 9)}


@contextmanager
def running_opensmtpd_bouncer(*, next_hop: int, home: int) -> Iterator[Bouncer]:
    unpacked = _unpacked()
    port = free_port()
    with open_daemon_directory("smtpd", owner="root") as root:
        root.chmod(0o755)
        _make_root(root, unpacked)
        (root / "etc" / "smtpd.conf").write_text(
            _CONFIGURATION.format(
                port=port, home=home, next_hop=next_hop, operator_domain=OPERATOR_DOMAIN, fails=FAILS
            )
        )
        command = [require_program("chroot", package="coreutils"), str(root), "/usr/sbin/smtpd", "-dv"]
        with running(command, root, ready=lambda: is_listening(port)) as output:
            yield Bouncer("opensmtpd", port, output)


def _unpacked() -> Path:
    given = os.environ.get("OPENSMTPD")
    # The name of another package's program may be the same: the one that is asked for has its agents there.
    return Path(given) if given else Path(require_program("smtpd", package="opensmtpd")).parents[2]


def _make_root(root: Path, unpacked: Path) -> None:
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name, text in _FILES.items():
        (root / name).write_text(text)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        (root / "dev" / name).chmod(0o666)
    agents = unpacked / "usr" / "libexec" / "opensmtpd"
    shutil.copytree(agents, root / "usr" / "libexec" / "opensmtpd")
    programs = [*agents.iterdir()]
    for source, name in ((unpacked / "usr/sbin/smtpd", "usr/sbin/smtpd"), (Path("/bin/sh"), "bin/sh")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / name)
        programs.append(source)
    for library in {library for program in programs for library in _libraries(program)}:
        (root / library.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library.relative_to("/"))


def _libraries(program: Path) -> list[Path]:
    """The files that it is linked with, by the names that it looks for them by."""
    done = subprocess.run([require_program("ldd"), program], capture_output=True, text=True, check=False)
    words = [word for line in done.stdout.splitlines() for word in line.split()]
    assert "not" not in words, done.stdout
    return [Path(word) for word in words if word.startswith("/") and not word.endswith(":")]
