"""Data sets of somebody's own: a table apart from everything official."""
