"""Self-contained HTML reports: one file that shows everything with no network and no other file beside it."""
