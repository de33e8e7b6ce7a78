"""What may happen: pure functions from (views, request, now) to events, or a Refusal.

Nothing here reads a clock, dice or a disk: `now` is given, and so is everything random. What is decided becomes true
only when the log has it; `relay.store.Store` sees to that. May import `store`'s words, `message`, the views and what
stands below them; a file that is added here has to be pure. It must never append an event itself.
"""
