"""The queue: it decides which job runs next."""
