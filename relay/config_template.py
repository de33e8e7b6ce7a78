"""The `relay.toml` that `init` writes: it says what each setting means, and what it is where nothing is said."""

TEMPLATE = """\
# Atmosphere Mail relay. Read at start-up, and again at SIGHUP: an unknown key or a bad value is named with its line.
# What is commented out shows the default.

# DKIM d=, VERP, SPF include, Feedback-ID. Fixed once the relay has made its keys.
operator_domain = "{operator_domain}"
# Where the world reaches this relay's HTTP side: unsubscribe links.
public_url = "{public_url}"
# Refuse to send from a domain before its DNS records were seen to be right.
require_verified_domains = true

[http]
# Port 0 takes any free one; the address is logged and written to http.address in this directory.
bind = "127.0.0.1:8025"
# The largest body of a send, at most 16777216; with attachments of 10 MiB as they go out, it is some 12582912. Of
# large bodies that come at the same time, one member has room for one of this size, or for 4 MiB together.
# send_bytes_max = 1048576
# Connections open at a time, status streams not counted. For one more, the one that has been idle for longest is
# closed.
# connections_max = 1000
# Connections of one address (an IPv6 /64 is one), and requests at work that a trusted proxy forwards for it.
# connections_per_address_max = 100
# Addresses or networks of proxies: their X-Forwarded-For says whose request it is. They have no limit themselves.
# trusted_proxies = ["127.0.0.0/8", "::1"]
# Addresses or networks that may ask for /metrics and /readyz, beside this machine.
# monitors = []
# Status streams open at a time.
# streams_max = 10000
# streams_per_member_max = 100

[submission]
# SMTP for members: software that cannot post over HTTP. Nobody listens until there is an address.
# Ports with STARTTLS (a client that begins with TLS is understood, too), and ports that begin with TLS. Without [tls]
# only addresses of this machine, as "127.0.0.1:587": passwords are taken in the clear there.
# Port 0 takes any free one; the addresses are logged, and written to submission.address in this directory.
# bind = ["0.0.0.0:587", "[::]:587"]
# bind_tls = ["0.0.0.0:465", "[::]:465"]
# message_bytes_max = 10485760
# recipients_max = 100
# connections_max = 200
# Connections of one address (an IPv6 /64 is one); this machine has no limit.
# connections_per_address_max = 20
# Bytes of unfinished messages in memory; one member has a quarter at most.
# buffered_bytes_max = 67108864
# So long a client of `bind` may begin with TLS before it is greeted; 0: it may not.
# sniff_seconds = 0.2

[inbound]
# Mail that comes in: bounces that come later, complaints, the operator's mail, replies. docs/INBOUND.md says what else
# is to be done. Nobody listens until there is an address. STARTTLS is offered where [tls] has a certificate.
# Port 0 takes any free one; the addresses are logged, and written to inbound.address in this directory.
# bind = ["0.0.0.0:25", "[::]:25"]
# Where mail for postmaster@, abuse@, fbl@ of the operator domain goes. Needed where there is a bind.
# operator_mailbox = "you@elsewhere.example"
# Mail for members' domains that is passed on to their forward_to: "replies" to what they sent, "all", or "off".
# forward = "replies"
# Domains (and those below them) whose signed reports of complaints count as complaints. What is named here takes the
# place of the built-in list (docs/INBOUND.md).
# feedback_providers = ["arf.mail.yahoo.com", "outlook.com"]
# message_bytes_max = 11534336
# connections_max = 100
# Connections of one address (an IPv6 /64 is one); this machine has no limit.
# connections_per_address_max = 5
# messages_per_minute_per_address = 30
# Bytes of unfinished messages in memory; one address has a quarter at most.
# buffered_bytes_max = 67108864
# What is written of strangers' mail, of each kind and for each domain or mailbox; what is more is told to come later.
# messages_per_hour = 60
# bytes_per_day = 104857600

[tls]
# The certificate (with its chain) and its key, PEM. Both are read again when they change: renewing needs no restart.
# certificate = "/etc/letsencrypt/live/{operator_domain}/fullchain.pem"
# key = "/etc/letsencrypt/live/{operator_domain}/privkey.pem"

[delivery]
# A fixed route instead of the recipient's MX: per domain, or "*" for all. Tests and smart hosts.
# routes = {{ "*" = "127.0.0.1:2526" }}
# How the relay introduces itself (EHLO). The reverse DNS of its address should say the same.
# ehlo_name = "{operator_domain}"
# By which addresses of receivers mail goes. Add "ipv6" once `atmos-relay doctor --network` has seen a PTR record for
# this machine's: large receivers refuse mail from IPv6 addresses that have none.
# families = ["ipv4"]
# connections_max = 500
# connections_per_site_max = 20
# One member's, who may write to hundreds of domains that never answer; the rest is for the others.
# connections_per_member_max = 250
# Messages a minute of the whole relay, evenly; 0 for no limit.
# messages_per_minute_max = 0
# Limits of single providers, by MX host or by a domain that it is below.
# sites = {{ "mx.example" = {{ connections_max = 5, messages_per_minute_max = 600 }} }}
# Opportunistic TLS: where a handshake fails, deliver in the clear rather than not at all.
# plaintext_after_tls_failure = true

[retry]
# After attempt 1, 2, 3 ...; the last one repeats.
# delays_seconds = [60, 300, 900, 1800, 3600, 7200, 14400, 28800]
# give_up_seconds = 432000

# A late one-time code is worse than a bounce.
# [retry.give_up_seconds_by_category]
# login-link = 3600
# mfa-otp = 3600
# password-reset = 86400
# verification = 86400

# By the age of a sending domain, how many recipients an hour and a day.
# [warming]
# tiers = [
#   {{ until_day = 7, hour = 2, day = 10 }},
#   {{ until_day = 14, hour = 10, day = 50 }},
#   {{ hour = 100, day = 1000 }},
# ]

# A domain whose mail bounces or is complained about more than this is paused.
# [reputation]
# window_hours = 24
# messages_min = 10
# And only where so many different recipients bounced, or so many complained.
# bounces_min = 3
# complaints_min = 2
# bounce_rate_max = 0.05
# complaint_rate_max = 0.0008
# A pause for bounces stops the bulk class. Of login links and the like a domain may still send so many an hour.
# transactional_per_hour_while_paused = 20

[spool]
# segment_bytes = 67108864
# Below this much free space nothing more is accepted; delivery goes on.
# free_bytes_min = 1073741824
# The log may not grow beyond this; 0 for no limit.
# bytes_max = 0
# Personal data of messages that have been final for so many days are removed; 36500 keeps them for a hundred years.
# retention_days = 30

[service]
# How long running deliveries may go on after SIGTERM.
# grace_seconds = 30
# Processes that take requests, and processes that deliver. 0: the relay's own process does it. "auto": half of the
# machine's cores each, none on one core; docs/PERFORMANCE.md says when that is worth it.
# edges = 0
# couriers = 0

# One of several machines that have one log; docs/NODES.md says how they come to be, and what stands in node.toml then.
# This file is the same on all of them, but for what node.toml has instead.
# [nodes]
# Hours that the database keeps what nodes fetch from it; one that was away for longer is filled from another.
# tail_hours = 24
# Another node leads when the one that led has not said for so long that it does.
# lease_seconds = 2.0
# Your word that what this database commits survives a server, where its settings cannot show it (RDS Multi-AZ, say).
# provider_is_durable = false
# Take a database that promises nothing of the kind. For tests.
# unsafe_single_server = false

[console]
# The operator's console in a browser: `atmos-relay console login DIR` prints the link. It belongs on an address of this
# machine; from elsewhere, `ssh -L 8026:127.0.0.1:8026` comes to it. Empty: there is none. Port 0 takes any free one;
# the address is logged, and written to console.address in this directory.
operator_bind = "127.0.0.1:8026"
# Members have theirs at public_url, below /console/.
# members = true

[monitoring]
# Lists that name addresses which send spam (DNSBL). They are asked every six hours for the addresses that mail goes out
# from, by this machine's name servers: a public resolver gets no answers, or wrong ones.
dnsbl = ["zen.spamhaus.org", "b.barracudacentral.org", "bl.spamcop.net", "psbl.surriel.com"]
# The same for the operator's domain and the members'.
# dnsbl_domains = ["dbl.spamhaus.org"]
# Mail to [inbound] operator_mailbox, and to the members whom it concerns, where something wants a person.
# mail_alarms = true

[webhooks]
# Webhooks go to public addresses by https. These host:port may also be private ones, and http: "127.0.0.1:9000" for
# the operator's own webhooks, "did:plc:... 127.0.0.1:9000" for those of that member.
# allow = []

[members]
# domains_max = 2
# Who is asked whether a did:plc exists, when a member is enrolled (not with --offline).
# plc_directory = "https://plc.directory"
# What one member may write a minute: sends, refused ones too, suppressions and all else. Raise it for a relayhost.
# writes_per_minute = 600
# suppressions_per_member_max = 100000
# Bytes of mail accepted from one member in 24 hours.
# bytes_per_day = 1000000000
# Members may enrol domains themselves (POST /v1/domains), up to domains_max each.
# self_service = false
"""


def config_template(operator_domain: str, public_url: str) -> str:
    """The file that `init` writes. It parses to a Config with every default, but for what only a relay of its
    own has: the operator's console, and the lists that are asked."""
    return TEMPLATE.format(operator_domain=operator_domain, public_url=public_url)
