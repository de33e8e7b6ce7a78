"""The way of a queued message to its receiver: who is tried next, one attempt, and what came of it.

`scheduler` and `waiting` decide who is next, `deliverer` makes the attempts over `connect`, `session` and `smtp`;
`replies` and `bounce_classes` say what an answer means, and `story` what is recorded of an attempt.

May import `domains` and everything below it. It must never accept a mail or change one: what was queued goes out with
the bytes that its events give, or bounces. What decides here (all but the modules that talk) is pure.
"""
