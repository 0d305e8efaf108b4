"""The events that a job may wait for before it starts: a response, or a commit."""
