"""Evaluate on other processes or machines: any executor, or the workers of a Dask scheduler."""

from __future__ import annotations

import asyncio
import inspect
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from cimenv.core import installation
from cimenv.core.errors import ConfigError
from cimenv.tasks.evaluators.travel import SharedProblem
from cimenv.tasks.problem import Problem

JOBS_PER_WORKER = 2  # more cut more shared prefixes: with four, two workers took .62 instead of .54 of one
CONNECT_S = 10.0
LOOK_S = 1.0  # between two looks at scheduler and workers
SILENT_S = 20.0  # after which they are given up: a killed worker is started again within a few seconds
IMPORT_S = 28.0  # for workers to import torch, which may be their first
INSTALL = "scheduler: needs Dask; pip install 'cimenv[cluster]'."
KEPT = "and give the same command again: what was evaluated is kept."
REFUSED = "cimenv: a worker that computes otherwise"
SOURCE = inspect.getsource(installation)
ASK = "(lambda space: (exec(source, space), (space['installation'](), space['changed_functions']()))[1])({})"


def in_order(executor: Executor, calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """Submit calls, each a function and its arguments, and yield their results in order as they come.

    What has not begun is cancelled where the caller stops or a call fails.

    Raises:
        ConfigError: a cluster's scheduler or all of its workers are gone, or a worker computes otherwise.
    """
    jobs = [executor.submit(*call) for call in calls]
    try:
        for job in jobs:
            yield executor.result_of(job) if isinstance(executor, Cluster) else job.result()
    finally:
        _cancel(jobs)


def as_done(executor: Executor, calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield the results of calls as `in_order` does, but each as soon as it is there."""
    jobs = [executor.submit(*call) for call in calls]
    try:
        if isinstance(executor, Cluster):
            yield from executor.results_of(jobs)
        else:
            yield from (job.result() for job in as_completed(jobs))
    finally:
        _cancel(jobs)


def _cancel(jobs: Sequence[Any]) -> None:
    for job in jobs:
        if not job.done():
            with suppress(Exception):  # of a client whose scheduler is gone
                job.cancel()


def tls(ca: Path | None, cert: Path | None, key: Path | None) -> Any:
    """Return the security of a connection by TLS from three PEM files, or None without any.

    Raises:
        ConfigError: one of the files is missing or cannot be read, or Dask is not installed.
    """
    given = {"--tls-ca": ca, "--tls-cert": cert, "--tls-key": key}
    if not any(given.values()):
        return None
    for name, path in given.items():
        if path is None:
            raise ConfigError(f"{name}: missing; a connection by TLS needs {', '.join(given)}.")
        try:
            path.open("rb").close()
        except OSError as error:
            raise ConfigError(f"{name}: cannot read {path} ({error.strerror}); give a PEM file.") from None
    try:
        from distributed.security import Security
    except ImportError:
        raise ConfigError(INSTALL) from None
    made: Any = Security  # which has no types
    files = {"tls_ca_file": str(ca), "tls_client_cert": str(cert), "tls_client_key": str(key)}
    return made(require_encryption=True, **files)


class Cluster(Executor):
    """The workers of a Dask scheduler as an executor for `evaluate_many` and `enumerate_placements`.

    Needs `pip install cimenv[cluster]`.

    Workers need this cimenv, torch and Python and nothing else: problems travel to each of them once, with the modules
    that are the user's own; results return. A job whose worker dies is done again by another one. Start workers with
    one thread each. Whoever reaches a scheduler runs code on its workers: keep it in a network of your own, or use TLS.

    Args:
        address: of the scheduler, such as `tcp://10.0.0.1:8786`.
        timeout_s: to wait for an answer, and for a first worker.
        security: a `distributed.security.Security`; see `tls`.

    Raises:
        ConfigError: Dask is not installed, nothing answers there, there is no worker, or one of them has another
            cimenv, torch or Python, or other source files.
    """

    def __init__(self, address: str, timeout_s: float = CONNECT_S, security: Any = None) -> None:
        self.address, self._shared = address, dict[int, tuple[Problem, Any]]()
        self._client = _connected(address, timeout_s, security)
        self._here = installation.installation()
        self._looked, self._heard = 0.0, time.monotonic()
        try:
            try:
                self._client.wait_for_workers(1, timeout=timeout_s)
            except (TimeoutError, asyncio.TimeoutError):
                raise ConfigError(
                    f"scheduler: {address} has no worker; start one with `dask worker {address} --nthreads 1`."
                ) from None
            self._refuse_others()
        except BaseException:
            self.shutdown()
            raise

    @property
    def workers(self) -> int:
        """Return the number of threads of all workers."""
        threads: Mapping[str, int] = self._asked(self._client.scheduler.ncores())
        return max(1, sum(threads.values()))

    def share(self, problem: Problem) -> Any:
        """Return a handle of a problem for the arguments of `submit`; it travels once to every worker.

        The scheduler keeps it, so that it outlives any worker. All workers get it at once: where only one has it, Dask
        gives that one all jobs, and the others wait for seconds until they steal some.
        """
        if id(problem) not in self._shared:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sending large graph")
                handle = self._client.submit(_itself, SharedProblem(problem), pure=False)
            self._wait(lambda: bool(handle.done()))
            if handle.status != "finished":
                self.result_of(handle)
            copies = self._begun(self._client._replicate([handle]))
            self._wait(copies.done)
            if copies.exception() is not None:
                self._gone()
            self._shared[id(problem)] = problem, handle
        return self._shared[id(problem)][1]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return the future of `fn(*args, **kwargs)` on a worker, which first reports its versions."""
        source, here, refused = SOURCE, self._here, REFUSED

        def checked(fn: Any, args: Any, kwargs: Any) -> Any:  # travels by value, whatever cimenv is there
            space: dict[str, Any] = {}
            exec(source, space)
            there = space["installation"]()
            if there != here:
                raise RuntimeError(refused, there)
            return fn(*args, **kwargs)

        try:
            result: Future[Any] = self._client.submit(checked, fn, list(args), kwargs, pure=False)
        except Exception:
            if self._client.status == "running":
                raise
            self._gone()
        return result

    def result_of(self, job: Any) -> Any:
        """Return the result of a job.

        Raises:
            ConfigError: scheduler or workers are gone, or the job's worker computes otherwise.
        """
        self._wait(lambda: bool(job.done()))
        if job.status not in ("finished", "error"):
            self._gone()
        if job.status == "error":
            self._failed(job)
        gathered = self._begun(job._result())
        self._wait(gathered.done)
        error = gathered.exception()
        if error is not None:
            self._gone()
        return gathered.result()

    def results_of(self, jobs: Sequence[Any]) -> Iterator[Any]:
        """Yield the results of jobs, each as soon as it is there; of one that fails after those that are there."""
        taken: set[int] = set()

        def done() -> list[int]:
            return [k for k, job in enumerate(jobs) if k not in taken and job.done()]

        while len(taken) < len(jobs):
            self._wait(lambda: bool(done()))
            for k in sorted(done(), key=lambda k: jobs[k].status != "finished"):
                taken.add(k)
                yield self.result_of(jobs[k])

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the scheduler; its workers stay."""
        del wait, cancel_futures
        self._shared.clear()
        with suppress(Exception):  # of a scheduler that is gone
            self._client.close(timeout=5)

    def _refuse_others(self) -> None:
        answers = self._asked(self._client._run(eval, ASK, {"source": SOURCE}, on_error="return"), IMPORT_S)
        for worker, answer in answers.items():
            if isinstance(answer, BaseException):
                text = " ".join(str(answer).split())
                raise ConfigError(
                    f"scheduler: worker {worker} cannot say what it runs ({type(answer).__name__}: {text}); start it "
                    "in an environment with this cimenv."
                )
            there, changed = answer
            _same(worker, there, self._here)
            if changed:
                raise ConfigError(
                    f"scheduler: worker {worker} runs {changed[0]} otherwise than its file says; start it again."
                )

    def _begun(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._client.loop.asyncio_loop)

    def _asked(self, coroutine: Coroutine[Any, Any, Any], seconds: float | None = None) -> Any:
        """Return the answer of the scheduler, or refuse to wait any longer."""
        asked = self._begun(coroutine)
        try:
            return asked.result(seconds or SILENT_S)
        except Exception:  # whatever Dask makes of a closed connection, or none in time
            asked.cancel()
            self._gone()

    def _wait(self, until: Callable[[], bool]) -> None:
        """Wait as long as there is a scheduler that answers, and a worker.

        Raises:
            ConfigError: they have been gone for `SILENT_S`.
        """
        pause, self._heard = 0.001, time.monotonic()
        while not until():
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
            if time.monotonic() - self._looked > LOOK_S:
                self._look()

    def _look(self) -> None:
        """Ask the scheduler for its workers, and give up where there have been none for `SILENT_S`."""
        connected = self._client.status == "running"
        if connected and self._asked(self._client.scheduler.ncores()):
            self._heard = time.monotonic()
        self._looked = time.monotonic()
        if self._client.status not in ("running", "connecting"):
            self._gone()
        if self._looked - self._heard > SILENT_S:
            if not connected:
                self._gone()
            raise ConfigError(
                f"scheduler: {self.address} has no worker left; start one with `dask worker {self.address} "
                f"--nthreads 1` {KEPT}"
            )

    def _failed(self, job: Any) -> NoReturn:
        error = self._asked(job._exception())
        if isinstance(error, RuntimeError) and error.args[:1] == (REFUSED,):
            _same("that came later", error.args[1], self._here)
        if isinstance(error, ImportError):
            raise ConfigError(
                f"scheduler: a worker lacks what the job needs ({error}); install it there {KEPT}"
            ) from None
        if type(error).__name__ == "KilledWorker":
            raise ConfigError(
                "scheduler: one job ended several workers, perhaps for lack of memory; give them more, or a smaller "
                f"memory_limit, {KEPT}"
            ) from None
        raise error

    def _gone(self) -> NoReturn:
        raise ConfigError(
            f"scheduler: nothing answers any more at {self.address}; start it with its workers {KEPT}"
        ) from None


def _connected(address: str, timeout_s: float, security: Any) -> Any:
    try:
        from distributed import Client
        from distributed.comm.addressing import resolve_address
    except ImportError:
        raise ConfigError(INSTALL) from None
    if address.startswith("tls:") and security is None:  # such a client would try to close for 20 s
        raise ConfigError(
            f"scheduler: {address} speaks TLS; give --tls-ca, --tls-cert and --tls-key, in Python `security`."
        )
    try:
        connect: Any = Client  # which has no types
        resolve: Any = resolve_address
        resolve(address)  # a client of a name that is unknown would try to close for 20 s
        return connect(address, timeout=timeout_s, set_as_default=False, security=security)
    except (OSError, TimeoutError, asyncio.TimeoutError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = "start one with `dask scheduler`, or correct the address"
        if security is not None or address.startswith("tls:"):
            remedy += " (tls://HOST:8786) or its certificates"
        raise ConfigError(f"scheduler: nothing answers at {address} ({reason}); {remedy}.") from None


def _same(worker: str, there: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Refuse a worker that computes with anything else.

    Raises:
        ConfigError: with what it differs.
    """
    if not there["cimenv"] or not there["torch"]:
        missing = "cimenv" if not there["cimenv"] else "torch"
        raise ConfigError(f"scheduler: worker {worker} has no {missing}; pip install 'cimenv[cluster]' there.")
    for name in ("python", "cimenv", "torch"):
        if there[name] != here[name]:
            raise ConfigError(
                f"scheduler: worker {worker} has {name} {there[name]}, here is {here[name]}; install the same there."
            )
    if there["source"] != here["source"]:
        raise ConfigError(
            f"scheduler: worker {worker} has other source files of cimenv {there['cimenv']} (digest {there['source']}, "
            f"here {here['source']}); install the same there, and start it again."
        )


def _itself(shared: SharedProblem) -> SharedProblem:
    return shared
