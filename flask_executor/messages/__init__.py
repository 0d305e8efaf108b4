"""Texts that people read: names, tracebacks, lines of the log."""
