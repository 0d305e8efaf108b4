"""How a job runs, from its start to its end."""
