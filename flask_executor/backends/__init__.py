"""The backends, which run calls in threads, processes, interpreters, Dask or your own pool."""
