"""Campaigns: what runs for minutes or hours and looks for a broken promise. `make test` runs a slice of each.

- `simulate`: a whole relay's short life, once a seed, in a simulated world where everything fails (`make simulate`).
  Its `story` is lived by `people` who send and order, `listeners` on the stream, `backups`, `zones` (the members' DNS)
  and `sites` (their unsubscribe URLs). `workers` are the processes that run the seeds.
- `days`: thousands of messages over simulated days, with receivers in trouble.
- `crash`: processes of the relay are killed, stopped and starved on a real disk (`make crash`). `life` is the directory
  that lives through it, with its clients and its judge; `subscriber` follows the stream, `erasure` reads what is gone.
- `log_story`: three logs of spool alone, agreed upon in a database in memory; its machines are `log_machine`.
- `node_story`: three whole relays on one log, over the same database. Both are worlds of `simulate` (`worlds`).
- `nodes`: three real relays and three servers of PostgreSQL (`make nodes`). `nodes_life` has their clients and judge.
- `powercut`: the power is cut under such a process, on ext4, xfs and btrfs themselves (`make powercut`).
- `inputs`, `coverage` (`make fuzz`): any octets for everything that reads what strangers wrote, by chance and by
  atheris, from the `corpus`. `smtp_servers`: servers that say anything. `api`: schemathesis, with `api_hooks`.

What they have found, and what was planted to see that they find it: `tests/TRACK_RECORD.md`.
"""
