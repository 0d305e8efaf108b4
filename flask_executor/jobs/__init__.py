"""One job: its future, and what it can know of itself."""
