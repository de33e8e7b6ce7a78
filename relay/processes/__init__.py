"""Child processes of the relay, and how they are kept: begun by exec, bounded, ended with their parent, made again.

There are two kinds. A *child* computes: it answers one question at a time, in bounded time and memory, and is killed
where it does not (`child`, and its half `in_child`; `frames` is what passes). What it computes is a *program*: a module
with QUESTIONS and `answer` (`mail_program`). Who asks does not see whether a process answers (`mail_reader`).

A *worker* does a part of the relay's work beside the core, and asks as well as it is asked (`keeper`, and its half
`worker`; `channel` is what passes, and `carried` the exceptions that do). What it may touch, `landlock` enforces,
and `local_sockets` that it gives no orders. What it does is again a module's, which nothing here knows.

`process` begins and ends both, and `own_rights` is what both do to themselves first.

May import what the children are made for. It must never hold a decision: a child computes, and is lost without a loss.
"""
