"""Delivery: the scheduler, attempts and their outcomes, the SMTP client, alone and against receivers."""
