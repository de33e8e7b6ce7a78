"""What was, and what would have been: one message's whole story (`audit`), policies tried on the log (`simulation`),
the rows of views of then (`rows`).

May import what decides, what composes and what presents, and what stands below these. It must never append an event or
send a mail: whatever is asked of the past, the log stays as it is.
"""
