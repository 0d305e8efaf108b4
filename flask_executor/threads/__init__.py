"""Locks, conditions and futures for threads, a pool of threads, and the after-fork hook."""
