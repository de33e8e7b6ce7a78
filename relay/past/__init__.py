"""What was, and what would have been: one message's whole story, the rows of views of then, policies tried on the log.

May import everything that decides and composes. It must never append an event or send a mail: whatever is asked of
the past, the log stays as it is.
"""
