"""The relay: mail, built on the log of `spool`.

One send, from left to right, never back:

    api ─ parse, authenticate ─▶ decisions ─▶ events ─▶ store (log, fdatasync, views) ─▶ 200
                                                               │
    api, tools ◀── views ◀─────────────────────────────────────┤
    delivery ◀── the due view ◀────────────────────────────────┘
        └─▶ one SMTP attempt ─▶ event ─▶ store ─▶ …

Where to find what: the vocabulary in `events`, what may happen in `decisions`, what is derived in `views`, what a
message looks like in `message`, how it leaves in `delivery`, what members ask for in `api` and the operator in
`operator`, what was in `past`, and how it all starts and stops in `service`.
"""
