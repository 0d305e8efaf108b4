"""The runners of jobs, from the start of a job to its end."""
