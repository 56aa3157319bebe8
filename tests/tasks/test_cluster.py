"""Workers of a Dask scheduler give what one process gives; a killed one costs nothing but its own work."""

import os
import signal

import pytest

from cimenv.analysis.enumeration import enumerate_placements
from cimenv.core.errors import ConfigError
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator
from cimenv.tasks.engines import Engines
from cimenv.tasks.evaluators.cluster import Cluster
from cimenv.tasks.evaluators.travel import run_shared
from cimenv.tasks.jobs import run_job
from cimenv.tasks.requests import Compute

distributed = pytest.importorskip("distributed")


def test_a_cluster_enumerates_the_same_bytes(toy, tmp_path, scheduler):
    with Cluster(scheduler.scheduler_address) as cluster:
        assert cluster.workers == 2
        found = enumerate_placements(toy.task, tmp_path / "far.csv", store=toy.store, cluster=cluster)
    enumerate_placements(toy.task, tmp_path / "near.csv", store=toy.store, compute=Compute(1))
    assert found.finished and found.new == len(found.rows)
    assert (tmp_path / "far.csv").read_bytes() == (tmp_path / "near.csv").read_bytes()


def test_every_worker_has_the_problem_before_the_first_job_and_keeps_its_engine(toy, scheduler):
    with Cluster(scheduler.scheduler_address) as cluster:
        handle = cluster.share(toy.problem)
        assert len(cluster._client.who_has([handle])[handle.key]) == 2  # else Dask gives all jobs to one of them
        assert cluster.share(toy.problem) is handle
        same = cluster.submit(lambda shared: _engine(shared) is _engine(shared), handle)
        assert same.result()


def _engine(shared):
    return shared.engines.of("val", Compute(1))


def test_a_search_on_a_cluster_finds_the_same(toy, scheduler):
    task = toy.task.with_changes(chip_seed=1)  # chips whose evaluations are not known yet
    with Cluster(scheduler.scheduler_address) as cluster:
        evaluator = MonteCarloEvaluator(task, toy.store, executor=cluster)
        found = run_search(evaluator, "greedy")
    placements = [step.placement for step in found.steps]
    alone = run_job(Engines(evaluator.problem), evaluator.requests(placements))
    assert [e.correct.tolist() for e in evaluator.evaluate_many(placements)] == [e.correct.tolist() for e in alone]
    assert found.evaluations == len(placements) > 10


def test_a_killed_worker_costs_only_its_own_work(toy, tmp_path, scheduler):
    path, killed = tmp_path / "killed.csv", tmp_path / "killed"

    def work(*given):
        if not killed.exists():  # in the middle of a job, after the rows of two
            killed.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return run_shared(*given)

    class Deadly(Cluster):
        calls = 0

        def submit(self, fn, /, *args, **kwargs):
            self.calls += 1
            return super().submit(work if self.calls == 3 else fn, *args, **kwargs)

    with Deadly(scheduler.scheduler_address) as cluster:
        found = enumerate_placements(toy.task, path, store=toy.store, cluster=cluster)
        assert cluster.calls > 3
    assert found.finished and int(killed.read_text()) != os.getpid()
    enumerate_placements(toy.task, tmp_path / "whole.csv", store=toy.store, compute=Compute(1))
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_dead_scheduler_is_one_sentence():
    with pytest.raises(ConfigError, match=r"scheduler: nothing answers at tcp://127\.0\.0\.1:9 .*dask scheduler"):
        Cluster("tcp://127.0.0.1:9", timeout_s=2)
    with pytest.raises(ConfigError, match="scheduler: nothing answers at here"):
        Cluster("here", timeout_s=2)


def test_a_scheduler_without_workers_is_one_sentence():
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as empty,
        pytest.raises(ConfigError, match=r"has no worker; start one with `dask worker tcp://"),
    ):
        Cluster(empty.scheduler_address, timeout_s=1)
