"""Whether a log and its views are what they should be, and if not, where exactly.

`verify` asks about all of it, `segment` about one file, `views` compares live views with new ones that it makes from
the log, `flips` finds a single bit that is wrong. May import the log's own modules and the views. It must never mend
anything: it only reads.
"""
