"""The operator's hand inside a running relay: the admin socket, the queue's orders, retention, enrolment."""
