"""What may happen: pure functions from views, a request and the time to events, or a Refusal.

`send` (may this mail be accepted), `attempt` (may it be tried now), `retry` (when again), `limits`, `suppression`,
`reputation` (what stops it), `reports` (bounces and complaints that come in as mail), `inbound_mail` (what is passed
on), `members` (enrolment, keys, domains, and what the operator may change of them), `handles` (who holds one).

Nothing here reads a clock, dice or a disk: the time is given, and so is everything random. A file that is added here
has to be pure. What is decided becomes true only when the log has it, and that is `relay.store.Store`'s business: this
room must never append, and may import neither `store` nor anything above it. It may import `requests`, the views, what
`message` says of header fields, and what stands below these.
"""
