"""What tests and campaigns run a relay in: the simulated world, and real programs beside a real process.

- In memory, on virtual time: `relay` (a whole relay and its member), `lives` (one that dies and starts again), `disk`
  (which forgets what was not synced), `spool` and `backup` (a log on it, and its backup), `dns`, `internet` and `mx`
  (receivers by MX), `https`, `asgi`, `stream`, `deterministic` (the same seed, the same run), `scenario` and `audited`
  (stories in files).
- For real: `process` (the relay's), `sabotage` (of its disk and clock), `http`, `postfix`, `postgrey`, `rspamd`,
  `browser`, `daemon` (programs that are started and gone again).
- Judges: `checker` (delivery), `promises` (everything else that was promised), `payloads` (personal data), `schema`.
"""
