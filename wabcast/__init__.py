"""wabcast: WhatsApp campaigns from a shell, on one SQLite file."""

__version__ = "0.1.0"
