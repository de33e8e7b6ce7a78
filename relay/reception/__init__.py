"""How mail comes in by SMTP: the ports, the dialogue, and what is asked of whoever decides.

A connection goes through these files in turn: `ports` (it is let in, and stopped), `places` (how many there may be),
`session` (its octets, TLS and time), `server` (the dialogue, with `lines`, `commands`, `sasl` and `data`, by the
`rules` of its port), `questions` and `replies` (what is asked and said), and then `interface`: the four questions that
a session asks of a `Door`. `buffers` knows how much of everybody's mail is held,
`certificates` what is shown of us, `wire` is the stream beneath. `submission` is the door for members, `inbound` that
for strangers, who may write to `destinations`; `refused` is how they say no. `submission_ports` and `inbound_ports`
are their ports, as the configuration has them, and what ports of one kind share is a `role`.

May import what `relay.edge` gives and whatever stands below it. All but `ports`, `places`, `session`, `wire`,
`buffers`, `certificates`, `role`, `submission`, `inbound`, their ports and `interface` do no I/O and read no clock.
Whatever a client does or says, this room must never say 250 to a message that its door has not accepted, never take a
password in the clear off loopback, never read one octet in two ways, and never hold more of one client than its bounds
allow. It never decides: but for its doors, which ask `relay.edge`, it knows neither log nor members.
"""
