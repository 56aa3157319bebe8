"""A local Dask scheduler for all tests of clusters."""

import pytest


@pytest.fixture(scope="session")
def scheduler():
    """Give a local scheduler with two worker processes of one thread."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as local:
        yield local
