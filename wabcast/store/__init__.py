"""SQLite, and nothing else: every statement of wabcast stands in this folder."""
