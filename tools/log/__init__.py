"""`atmos-relay log ...`: a file for each thing that can be asked of a log, or done to it."""
