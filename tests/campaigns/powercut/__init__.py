"""The power is cut under a real relay, on a real file system of the kernel (`make powercut`).

What a relay is promised by its disk ends at `fdatasync`: whatever has not been flushed may be gone, in part, in any
order. Here that happens to ext4, xfs and btrfs themselves, and not to a model of them:

    relay process ─▶ ext4 | xfs | btrfs ─▶ /dev/loopN ─▶ FUSE, one file ─▶ `disk`: a volatile cache over a medium

- `disk` is the disk: what is written stands in its cache until a flush puts it on the medium. A cut loses what is in
  the cache: all of it, none, or a part that dice choose. `fuse` is the kernel's protocol, `served` the process that
  speaks it.
- `machine` is the computer around it: loop device, file system, mount; power off, power on, another boot id. `alone`
  puts the whole campaign into mount and process namespaces of its own, so that nothing of it outlives it, whatever
  kills it. `weather` is the kernel that writes pages back when it likes.
- `home` is one data directory on that disk (a `tests.campaigns.life` with its clients, receivers and judge), with what
  else was acknowledged to it: suppressions, erasures, members, backups. `after` looks at which files were not as they
  had been.
- `troubles` are the moments at which the power goes: under load, in a start, in each command that writes.
- `campaign` draws the troubles, judges and tells; `__main__` is the command.

May import all of `tests`; nothing imports it but its own tests. It must never touch a disk, loop device or mount that
it has not made itself.
"""
