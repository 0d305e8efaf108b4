"""The ways to submit that executors, jobs and their options share."""
