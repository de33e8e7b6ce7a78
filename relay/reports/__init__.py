"""The reader of reports: what a mail that came in says of a mail that went out.

Pure, and bounded in time and memory by itself; what strangers write is read in a process of its own all the same
(`relay.processes`). May import the words, and the table of classes that replies are judged by. It must never believe
anything: whether a report is about a mail of ours is decided above, by what only its receiver can know.
"""
