"""Calls to other processes: their messages, and the code that runs jobs there."""
