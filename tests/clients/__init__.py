"""Programs that members send with, each unchanged as it comes from Debian, npm or Python, against a relay that runs.

Whatever they do between the greeting and the 250 is theirs; what is checked is what came of it: the ids in the answer,
the mail that a receiver got, octet for octet, and its signatures. A file is one kind of program. They talk to loopback
only, and a program that is not there is a test that says so (`tests.world.daemon`).
"""
