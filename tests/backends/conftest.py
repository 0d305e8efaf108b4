"""A Dask cluster that tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.dask_cluster import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that tests share, and leave as it is."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()
