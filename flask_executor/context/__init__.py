"""What a job takes along from its submitter; the only folder that knows Flask's contexts."""
