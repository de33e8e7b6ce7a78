"""May it? Limits, warming, suspension, pauses and suppression, through a whole relay."""
