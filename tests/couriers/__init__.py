"""Couriers in processes of their own: what passes, who gets what, and how one is lost."""
