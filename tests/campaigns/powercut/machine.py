"""The computer: a disk that forgets, a loop device on it, a file system on that; switched on, and cut from its power.

    with Machine(place, "ext4", dice) as machine:
        machine.switch_on()                   # mounted at machine.root
        machine.arm("flush", 7)               # or cut()
        await machine.wait_cut()              # from now on no write and no flush is answered
        ...                                   # whoever ran is killed
        machine.fail()                        # what hangs in a write ends, with EIO
        machine.switch_off()
        machine.survive("sectors", seed)      # what the disk kept
        machine.switch_on()                   # the file system recovers, and the boot id is another

Only in the namespaces of `alone`. Every wait is bounded and ends in `MachineError`: then the disk or the file system is
broken, and nothing is said of the relay.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

import trio

from tests.campaigns.powercut.alone import bind
from tests.campaigns.powercut.disk import Loss
from tests.campaigns.powercut.fuse import name_of

#: xfs is never smaller than 300 MB.
DISK_BYTES: Final = 640 << 20
#: Nothing here takes nearly that long.
PATIENCE_SECONDS: Final = 60.0
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_FLAGS_AUTOCLEAR, _LO_FLAGS_DIRECT_IO = 4, 16
#: struct loop_config: fd, block size, struct loop_info64 of which only the flags are given, 64 octets reserved.
_LOOP_CONFIG: Final = struct.Struct("<2I 52x I 176x 64x")
_LOOP_TRIES: Final = 20


class MachineError(Exception):
    """The disk, the loop device or the file system is not what it should be."""


class FileSystem(NamedTuple):
    package: str
    make: tuple[str, ...]
    #: Looks and changes nothing.
    check: tuple[str, ...]
    #: What an atom (see `disk`) may be, by what a sector is said to be.
    atoms: dict[int, tuple[int, ...]]


FILE_SYSTEMS: Final = {
    "ext4": FileSystem(
        "e2fsprogs",
        ("mkfs.ext4", "-q", "-E", "nodiscard"),
        ("e2fsck", "-f", "-n"),
        {512: (512, 4096), 4096: (4096,)},
    ),
    # Its recovery does not write a block again that seems to be newer on the disk than in the log. Of one of 4 KiB that
    # has lost half of its sectors it then says that it is damaged, and does not mount (seen with atoms of 512).
    "xfs": FileSystem(
        "xfsprogs", ("mkfs.xfs", "-q", "-K"), ("xfs_repair", "-n"), {512: (4096,), 4096: (4096,)}
    ),
    # It writes its superblock in one piece of 4 KiB and has no second one that it would mount from.
    "btrfs": FileSystem(
        "btrfs-progs", ("mkfs.btrfs", "-q", "-K"), ("btrfs", "check", "--readonly"), {4096: (4096,)}
    ),
}


def why_not_here(kind: str) -> str | None:
    """What this machine lacks for a file system of that kind, in one sentence."""
    system = FILE_SYSTEMS[kind]
    for tool in (system.make[0], system.check[0]):
        if shutil.which(tool) is None:
            return f"{tool} is missing (Debian: apt-get install {system.package})"
    if kind not in Path("/proc/filesystems").read_text().split():
        # It may be a module.
        subprocess.run(["modprobe", kind], check=False, capture_output=True, timeout=PATIENCE_SECONDS)
        if kind not in Path("/proc/filesystems").read_text().split():
            return f"this kernel has no {kind}"
    return None


class Machine:
    """`place` is a directory of its own, on another disk."""

    def __init__(self, place: Path, kind: str, dice: random.Random, *, lies: bool = False) -> None:
        self.kind = kind
        self._system = FILE_SYSTEMS[kind]
        self._dice = dice
        self.sector_bytes = dice.choice(list(self._system.atoms))
        self.root = place / "disk"
        self._fuse = place / "fuse"
        self._boot_id = place / "boot_id"
        #: How often it has been switched on.
        self.generation = 1
        self.is_on = False
        self._loop = ""
        for directory in (self.root, self._fuse):
            directory.mkdir()
        self._new_boot()
        bind(self._boot_id, BOOT_ID)
        self._control, control = socket.socketpair()
        self._news, news = socket.socketpair()
        self._control.settimeout(PATIENCE_SECONDS)
        self._news.setblocking(False)
        self._lines = self._control.makefile("rb")
        with control, news:
            arguments = [str(self._fuse), str(DISK_BYTES), str(control.fileno()), str(news.fileno())]
            self._process = subprocess.Popen(
                [sys.executable, "-m", served_module(), *arguments, *(["--lies"] if lies else [])],
                pass_fds=(control.fileno(), news.fileno()),
            )
        self._answer()
        self._attach_and(self._make)

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Whatever its state: the disk's process is gone, and with it all that hung in a write."""
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)
        self._control.close()
        self._news.close()
        for mount in (self.root, self._fuse):
            # Where there is none it says so, and nobody listens.
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)

    # ------------------------------------------------------------------------------------------ on and off

    def switch_on(self) -> None:
        """Mount, as a machine does that starts: the file system looks at its journal. The boot is another one."""
        self._new_boot()
        self._attach_and(self._mount)
        self.is_on = True

    def switch_off(self) -> None:
        """Unmount, by force: after `fail` nothing can be written any more."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            done = self._run("umount", str(self.root), good=False)
            if done.returncode == 0:
                break
            if time.monotonic() > end:
                raise MachineError(f"the file system cannot be unmounted: {done.stderr.strip()}")
            time.sleep(0.02)
        self.is_on = False
        while self._loop_is_attached():
            if time.monotonic() > end:
                raise MachineError(f"{self._loop} does not let go of the disk")
            time.sleep(0.005)

    def sync(self) -> None:
        """All that was written is on the medium."""
        self._run("sync", "--file-system", str(self.root))

    def check(self) -> str | None:
        """What the file system's own checker finds wrong. It must be off, and have been on after the last cut."""
        assert not self.is_on
        found: list[str] = []

        def check(device: str) -> None:
            done = self._run(*self._system.check, device, good=False)
            if done.returncode != 0:
                found.append(f"{self._system.check[0]} exits {done.returncode}: {done.stdout}{done.stderr}")

        self._attach_and(check)
        return found[0] if found else None

    def _new_boot(self) -> None:
        self._boot_id.write_text(f"{uuid.UUID(int=self._dice.getrandbits(128), version=4)}\n")

    def _make(self, device: str) -> None:
        self._run(*self._system.make, device)

    def _mount(self, device: str) -> None:
        try:
            self._run("mount", "-t", self.kind, device, str(self.root))
        except MachineError as error:
            kernel = self._run("dmesg", good=False).stdout.splitlines()[-8:]
            raise MachineError("\n".join([str(error), *kernel])) from None

    def _run(self, *words: str, good: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        if good and done.returncode != 0:
            raise MachineError(f"{' '.join(words)} exits {done.returncode}: {done.stderr.strip()}")
        return done

    # ------------------------------------------------------------------------------------------ the loop device

    def _attach_and(self, use: Any) -> None:
        """A loop device on the disk, for as long as `use(device)` runs or what it has mounted is there: the device
        clears itself when nobody has it open any more."""
        file = os.open(self._fuse / name_of(self.generation), os.O_RDWR | os.O_CLOEXEC)
        try:
            device = self._attach(file)
        finally:
            os.close(file)
        try:
            direct = Path(f"/sys/block/{Path(self._loop).name}/loop/dio").read_text().strip()
            if direct != "1":
                raise MachineError(f"{self._loop} would keep pages of its own")
            use(self._loop)
        finally:
            os.close(device)
        if use != self._mount:
            self._wait_cleared()

    def _attach(self, file: int) -> int:
        """Returns the open loop device."""
        config = _LOOP_CONFIG.pack(file, self.sector_bytes, _LO_FLAGS_AUTOCLEAR | _LO_FLAGS_DIRECT_IO)
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(_LOOP_TRIES):
                self._loop = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
                device = os.open(self._loop, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(device, _LOOP_CONFIGURE, config)
                except OSError as error:
                    os.close(device)
                    # Somebody else was faster.
                    if error.errno != 16:
                        raise MachineError(f"{self._loop}: {error.strerror}") from None
                else:
                    return device
        finally:
            os.close(control)
        raise MachineError("no loop device is free")

    def _loop_is_attached(self) -> bool:
        backing = Path(f"/sys/block/{Path(self._loop).name}/loop/backing_file")
        try:
            return backing.read_text().strip() == str(self._fuse / name_of(self.generation))
        except OSError:
            return False

    def _wait_cleared(self) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while self._loop_is_attached():
            if time.monotonic() > end:
                raise MachineError(f"{self._loop} does not let go of the disk")
            time.sleep(0.005)

    # ------------------------------------------------------------------------------------------ the disk

    def arm(self, op: str, count: int, *, afterwards: bool = False) -> None:
        """The power goes at the n-th "flush" or "write" from now on. `afterwards`: the flush is done, and nobody is
        told."""
        self._order("arm", op={"flush": "FSYNC", "write": "WRITE"}[op], count=count, afterwards=afterwards)

    def cut(self) -> None:
        """The power goes now."""
        self._order("cut")

    async def wait_cut(self) -> None:
        await trio.lowlevel.wait_readable(self._news)

    def fail(self) -> None:
        """The disk is gone, and the kernel is told."""
        self._order("cut")
        self._order("die")
        with suppress(BlockingIOError):
            self._news.recv(16)

    def survive(self, fate: str, seed: int) -> Loss:
        """What is left of the cache. The next `switch_on` finds that."""
        assert not self.is_on
        atom_bytes = random.Random(seed).choice(self._system.atoms[self.sector_bytes])
        loss = Loss(**self._order("survive", fate=fate, seed=seed, atom_bytes=atom_bytes))
        self.generation += 1
        return loss

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self._order("counts")
        return counts

    def _order(self, what: str, **arguments: Any) -> Any:
        try:
            self._control.sendall(json.dumps({"order": what, **arguments}).encode() + b"\n")
        except OSError as error:
            raise MachineError(f"the disk's process is gone: {error}") from None
        return self._answer()

    def _answer(self) -> Any:
        try:
            line = self._lines.readline()
        except OSError:
            line = b""
        if not line:
            raise MachineError("the disk's process does not answer")
        return json.loads(line)


def served_module() -> str:
    return f"{__package__}.served"
