"""The contexts that a job gets from its submitter; the only folder that knows Flask's contexts."""
