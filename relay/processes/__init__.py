"""Child processes of the relay, and how they are kept: begun by exec, bounded, ended with their parent, made again.

`child` is the parent's half and `in_child` the child's; `frames` is what passes between them. A *program* is what a
child computes: a module with QUESTIONS and `answer` (`mail_program`). Who asks does not see whether a process
answers (`mail_reader`).

May import what the children are made for. It must never hold a decision: a child computes, and is lost without a loss.
"""
