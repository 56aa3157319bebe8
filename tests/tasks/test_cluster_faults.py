"""Workers that compute otherwise are refused, and nothing that is gone is waited for; all on this machine."""

import json
import os
import shutil
import site
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

import cimenv
from cimenv.analysis.enumeration import enumerate_placements
from cimenv.core import installation
from cimenv.core.errors import ConfigError
from cimenv.core.store import Store
from cimenv.tasks import MonteCarloEvaluator, load_task
from cimenv.tasks.engines import Engines
from cimenv.tasks.evaluators import cluster as cluster_module
from cimenv.tasks.evaluators.cluster import Cluster, tls
from cimenv.tasks.evaluators.travel import SharedProblem, _is_own, own_modules_by_value
from cimenv.tasks.jobs import run_job
from cimenv.tasks.requests import Compute

distributed = pytest.importorskip("distributed")
PACKAGE = Path(cimenv.__file__).parent


def one_sentence(error) -> str:
    text = str(error)
    assert "\n" not in text and text.endswith(".") and text.startswith("scheduler: ")
    return text


class Processes:
    """Scheduler and workers, each a process of its own without a nanny, bound to this machine."""

    def __init__(self, folder, options=(), scheme="tcp"):
        self.running, self.options = {}, options
        self.folder, self.file = folder, folder / "scheduler.json"
        where = ["--host", f"{scheme}://127.0.0.1", "--port", "0", "--no-dashboard"]
        self._start("scheduler", "dask_scheduler", [*where, "--scheduler-file", str(self.file)], {})
        end = time.monotonic() + 60
        while not self.file.exists() or not self.file.read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        self.address = json.loads(self.file.read_text())["address"]

    def worker(self, name="worker", environment=(), python=(sys.executable,)):
        where = [self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard", "--name", name]
        self._start(name, "dask_worker", where, dict(environment), python)

    def _start(self, name, module, arguments, environment, python=(sys.executable,)):
        command = [*python, "-m", f"distributed.cli.{module}", *arguments, *self.options]
        log = (self.folder / f"{name}.log").open("w")
        everything = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.running[name] = subprocess.Popen(command, env=everything, stdout=log, stderr=log, cwd=self.folder)
        log.close()

    def kill(self, name):
        process = self.running.pop(name)
        process.kill()
        process.wait()


@contextmanager
def processes(folder, *given, **options):
    started = Processes(folder, *given, **options)
    try:
        yield started
    finally:
        for name in list(started.running):
            started.kill(name)


@pytest.fixture
def workers_at(scheduler):
    """Give the address of a scheduler with workers."""
    return scheduler.scheduler_address


def connected(address) -> Cluster:
    return Cluster(address, timeout_s=60)


# What a worker runs


@pytest.mark.parametrize(
    ("field", "there", "words"),
    [
        ("cimenv", "9.9.9", r"has cimenv 9\.9\.9, here is .*; install the same there"),
        ("torch", "1.0.0", r"has torch 1\.0\.0, here is"),
        ("python", "2.7", r"has python 2\.7, here is"),
        ("source", "0" * 32, r"other source files of cimenv .* \(digest 0{32}, here \w{32}\); install the same there"),
        ("cimenv", "", r"has no cimenv; pip install 'cimenv\[cluster\]' there"),
        ("torch", "", "has no torch"),
    ],
)
def test_a_worker_that_differs_is_named_with_what_it_has(field, there, words):
    here = installation.installation()
    cluster_module._same("tcp://w:1", dict(here), here)
    with pytest.raises(ConfigError, match=f"^scheduler: worker tcp://w:1 .*{words}") as caught:
        cluster_module._same("tcp://w:1", {**here, field: there}, here)
    assert one_sentence(caught.value)


def test_a_client_of_another_version_is_refused(workers_at, monkeypatch):
    connected(workers_at).shutdown()
    here = installation.installation()
    monkeypatch.setattr(installation, "installation", lambda: {**here, "source": "0" * 32})
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"worker tcp://127\.0\.0\.1:\d+ has other source files of cimenv"):
        connected(workers_at)
    assert time.monotonic() - start < 30


def test_a_worker_that_came_later_is_refused_by_the_job_it_gets(toy, workers_at, monkeypatch):
    """The cluster believes what it heard when it connected; what runs the job is asked again."""
    with connected(workers_at) as cluster:
        monkeypatch.setitem(cluster._here, "source", "0" * 32)
        evaluator = MonteCarloEvaluator(toy.task.with_changes(chip_seed=7), toy.store, executor=cluster)
        with pytest.raises(ConfigError, match="worker that came later has other source files of cimenv"):
            evaluator.evaluate_many([(0, 0, 0, 0), (1, 0, 0, 0)])


@pytest.mark.slow
def test_patched_workers_are_not_believed(toy, tmp_path):
    """The first returns one correct image less, by its files or in memory; the honest one that follows is believed."""
    shutil.copytree(PACKAGE, tmp_path / "patched/cimenv", ignore=shutil.ignore_patterns("__pycache__"))
    jobs = tmp_path / "patched/cimenv/tasks/jobs.py"
    honest = "np.stack([tally.sums[p] for tally in tallies])"
    assert honest in jobs.read_text()
    jobs.write_text(jobs.read_text().replace(honest, f"{honest} - 1"))
    preload = tmp_path / "preload.py"
    preload.write_text("import cimenv.tasks.evaluators.travel as t\nt.run_job = lambda *a, **k: []\n")
    with processes(tmp_path) as started:
        started.worker("by its files", {"PYTHONPATH": str(tmp_path / "patched")})
        with pytest.raises(ConfigError, match="has other source files of cimenv"):
            connected(started.address)
        started.kill("by its files")
        started.options = ("--preload", str(preload))
        started.worker("in memory")
        with pytest.raises(ConfigError, match=r"runs cimenv\.tasks\.[\w.]+\.run_job otherwise than its file says"):
            connected(started.address)
        started.kill("in memory")
        started.options = ()
        started.worker("honest")
        with connected(started.address) as cluster:
            evaluator = MonteCarloEvaluator(toy.task, Store(tmp_path / "s", [toy.store.root]), executor=cluster)
            assert evaluator.evaluate_many([(0, 0, 0, 0)])[0].correct.tolist() == (
                toy.evaluate((0, 0, 0, 0)).correct.tolist()
            )
            started.worker("late", {"PYTHONPATH": str(tmp_path / "patched")})
            cluster._client.wait_for_workers(2, timeout=60)
            evaluator = MonteCarloEvaluator(toy.task.with_changes(chip_seed=8), toy.store, executor=cluster)
            with pytest.raises(ConfigError, match=r"has other source files of cimenv|has no worker left"):
                evaluator.evaluate_many(list(evaluator.space.all_placements()))


@pytest.mark.slow
def test_a_worker_without_cimenv_is_one_sentence(tmp_path):
    with processes(tmp_path) as started:
        packages = next(path for path in map(Path, sys.path) if (path / "distributed").is_dir())
        if (packages / "cimenv").exists():
            pytest.skip("cimenv lies among the packages")
        started.worker("bare", {"PYTHONPATH": str(packages)}, (sys.executable, "-S"))  # no .pth file is read
        with pytest.raises(ConfigError, match=r"has no cimenv; pip install 'cimenv\[cluster\]' there") as caught:
            connected(started.address)
        assert one_sentence(caught.value)


# What is gone


def broken(toy, path, started, name, rows=20):
    """Enumerate, kill a process once some rows are there, and return what was said within how many seconds."""

    def kill():
        while not (path.exists() and path.read_bytes().count(b"\n") > rows):
            time.sleep(0.01)
        started.kill(name)
        killed.append(time.monotonic())

    killed: list[float] = []
    with connected(started.address) as cluster:
        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(ConfigError) as caught:
            enumerate_placements(toy.task, path, store=toy.store, cluster=cluster)
        said = time.monotonic()
        thread.join()
    return one_sentence(caught.value), said - killed[0], time.monotonic() - said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"), [("worker", "has no worker left; start one with"), ("scheduler", "nothing answers any more at")]
)
def test_what_is_gone_is_said_within_thirty_seconds_and_rows_are_kept(toy, tmp_path, monkeypatch, name, words):
    monkeypatch.setattr(cluster_module, "JOBS_PER_WORKER", 4)
    path = tmp_path / "all.csv"
    with processes(tmp_path) as started:
        started.worker()
        text, seconds, closing = broken(toy, path, started, name)
    assert words in text and text.endswith("give the same command again: what was evaluated is kept.")
    assert seconds < 30 and closing < 15
    kept = path.read_bytes()
    assert kept.count(b"\n") > 20
    found = enumerate_placements(toy.task, path, store=toy.store, compute=Compute(1))
    assert found.finished and 0 < found.new < 81 and path.read_bytes().startswith(kept)


@pytest.mark.slow
def test_a_scheduler_that_hangs_is_not_waited_for(toy, tmp_path, monkeypatch):
    import signal

    with processes(tmp_path) as started:
        started.worker()
        with connected(started.address) as cluster:
            cluster.share(toy.problem)
            monkeypatch.setattr(cluster_module, "SILENT_S", 3.0)
            started.running["scheduler"].send_signal(signal.SIGSTOP)
            start = time.monotonic()
            with pytest.raises(ConfigError, match="nothing answers any more"):
                cluster.result_of(cluster.submit(int, 1))
            assert time.monotonic() - start < 10


@pytest.mark.slow
def test_what_came_before_a_failure_is_kept(toy, workers_at, tmp_path, monkeypatch):
    task, calls = toy.task.with_changes(chip_seed=9), []

    class Failing(Cluster):
        def submit(self, fn, /, *args, **kwargs):
            calls.append(args)
            return super().submit(fail if len(calls) == 2 else fn, *args, **kwargs)

    def fail(*given):
        time.sleep(1)
        raise ModuleNotFoundError("No module named 'timm'")

    store = Store(tmp_path / "own", layers=[toy.store.root])
    with Failing(workers_at, timeout_s=60) as cluster:
        evaluator = MonteCarloEvaluator(task, store, executor=cluster)
        placements = list(evaluator.space.all_placements())[:8]
        with pytest.raises(ConfigError, match=r"lacks what the job needs \(No module named 'timm'\); install it there"):
            evaluator.evaluate_many(placements)
    assert store.info()["kinds"]["evaluation"]["entries"] >= len(calls[0][1]) > 0


# What is the user's own

MODULE = """
    import torch
    from torch import nn
    import {helper}

    class Net(nn.Module):
        def __init__(self, width=8):
            super().__init__()
            self.first, self.last = nn.Linear(64, width), nn.Linear(width, 10)
        def forward(self, x):
            return self.last({helper}.activation(self.first(x.flatten(1)[:, :64])))

    def network(width=8):
        return Net(width)
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch, request):
    """Give the name of a module that only this process finds."""
    name = "mine_" + "".join(c for c in request.node.name if c.isalnum())
    helper = f"{name}_helper"
    (tmp_path / f"{helper}.py").write_text("import torch\ndef activation(x):\n    return torch.tanh(x)\n")
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(MODULE.format(helper=helper)))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for loaded in (name, helper):
        sys.modules.pop(loaded, None)


def test_a_users_own_module_travels_by_value(own_module, workers_at, tmp_path):
    overrides = [f"backbone={own_module}:network", "recipe.epochs=1", "reference.epochs=1", "bank.steps=3"]
    overrides += ["chips=3", "images=100"]
    task = load_task("toy-4site", overrides)
    store = Store(tmp_path / "store")
    with connected(workers_at) as cluster:
        evaluator = MonteCarloEvaluator(task, store, executor=cluster)
        placements = list(evaluator.space.all_placements())[:6]
        far = evaluator.evaluate_many(placements)
    near = run_job(Engines(evaluator.problem), evaluator.requests(placements))
    assert [e.correct.tolist() for e in far] == [e.correct.tolist() for e in near]
    assert [e.key for e in far] == [e.key for e in near]


def test_what_is_the_users_own():
    import yaml

    assert not any(_is_own(module.__name__, module) for module in (json, torch, yaml, cimenv, nn, site))
    assert _is_own(__name__, sys.modules[__name__])
    with own_modules_by_value():
        pass
    assert not list(distributed.protocol.pickle.cloudpickle.list_registry_pickle_by_value())


def test_what_cannot_travel_is_one_sentence(toy, monkeypatch):
    monkeypatch.setattr(toy.problem.network.model, "lock", threading.Lock(), raising=False)
    with pytest.raises(ConfigError, match=r"cannot travel to workers \(TypeError: .*lock.*\); keep what cannot"):
        SharedProblem(toy.problem).__getstate__()


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Give an authority and a certificate signed by it, made by openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")

    def run(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=authority")
    run("req", *curve, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=127.0.0.1")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"]
    run("x509", "-req", "-in", "request.pem", *signed, "-out", "cert.pem")
    return folder / "ca.pem", folder / "cert.pem", folder / "key.pem"


def test_pem_files_are_checked_by_name(tmp_path):
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text("")
    ca, cert, key = (tmp_path / name for name in ("ca", "cert", "key"))
    assert tls(None, None, None) is None and tls(ca, cert, key).require_encryption
    for given, words in (
        ((ca, None, key), "--tls-cert: missing; a connection by TLS needs --tls-ca, --tls-cert, --tls-key"),
        (
            (ca, cert, tmp_path / "none"),
            r"--tls-key: cannot read .*none \(No such file or directory\); give a PEM file",
        ),
        ((tmp_path, cert, key), "--tls-ca: cannot read"),
    ):
        with pytest.raises(ConfigError, match=words):
            tls(*given)


@pytest.mark.slow
def test_a_cluster_by_tls(toy, tmp_path, certificates):
    ca, cert, key = certificates
    pem = ("--tls-ca-file", str(ca), "--tls-cert", str(cert), "--tls-key", str(key))
    with processes(tmp_path, pem, scheme="tls") as started:
        started.worker()
        command = [sys.executable, "-m", "cimenv", "enumerate", "toy-4site", "--out", str(tmp_path / "far.csv")]
        command += ["--scheduler", started.address]
        given = ["--tls-ca", str(ca), "--tls-cert", str(cert), "--tls-key", str(key)]
        subprocess.run([*command, *given], check=True, capture_output=True, cwd=Path.cwd())
        with pytest.raises(ConfigError, match="speaks TLS; give --tls-ca, --tls-cert and --tls-key"):
            Cluster(started.address)
        without = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert without.returncode == 2 and without.stderr.count("\n") == 1
        for address in (started.address, started.address.replace("tls:", "tcp:")):
            with pytest.raises(ConfigError, match="nothing answers at") as caught:
                Cluster(address, timeout_s=3, security=tls(ca, cert, ca if address.startswith("tls") else key))
            assert one_sentence(caught.value)
    enumerate_placements(toy.task, tmp_path / "near.csv", store=toy.store, compute=Compute(1))
    assert (tmp_path / "far.csv").read_bytes() == (tmp_path / "near.csv").read_bytes()
