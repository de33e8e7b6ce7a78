"""How mail leaves the relay: whose turn it is, the connection, the dialogue, and what its outcome means.

A message goes through these files in turn: `waiting` (it is due), `scheduler` and `sites` (its turn, on which
connection), `deliverer` (gives it to a worker), `attempts` (the attempt), `resolve` and `connect` (to whom), `session`,
`smtp`, `reply_reader` and `certificates` (the dialogue), `replies` and `bounce_classes` (what was said, and what it
means), `outcomes` and `story` (what is recorded). `interrupted` names what a crash left.

May import `core` and whatever stands below it; nothing imports it but `service`. `waiting`, `scheduler`, `sites`,
`smtp`, `reply_reader`, `replies`, `bounce_classes` and `outcomes` do no I/O and read no clock. Whatever a receiver does
or says, this room must never end an attempt without exactly one durable event, never say the final dot before
`attempt.started` is durable, and never connect to an address that is not public, unless the operator's route names it.
"""
