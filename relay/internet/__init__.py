"""What the relay asks of the internet besides SMTP: names, and pages over HTTPS, all of it bounded.

May import the words (`addresses` ...), and nothing of what stands above. It must never connect to an address that is
not public, unless the operator named it, and never read more than its caller can bear.
"""
