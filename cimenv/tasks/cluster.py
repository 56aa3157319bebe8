"""Evaluate on other processes or machines: any executor, or the workers of a Dask scheduler."""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import fields
from typing import Any

from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError
from cimenv.data.splits import Split
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.jobs import Fidelity, run_job
from cimenv.tasks.problem import Problem, default_store

JOBS_PER_WORKER = 2  # more cut more shared prefixes: with four, two workers took .62 instead of .54 of one
CONNECT_S = 10.0
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt
INSTALL = "scheduler: needs Dask; pip install 'cimenv[cluster]'."


class SharedProblem:
    """A problem on its way to workers, which have their own store; unpickled once a worker.

    A worker keeps its engines, and with them clean outputs, drawn chips and activations, from one job to the next.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._engines: dict[tuple[Split, str, int], Engine] = {}

    def engine(self, split: Split, device: str) -> Engine:
        """Return the engine of this thread for the placements of the bank."""
        where = split, device, threading.get_ident()
        if where not in self._engines:
            self._engines[where] = self.problem.engine(split, device=device)
        return self._engines[where]

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self.problem, f.name) for f in fields(Problem) if f.name != "store"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(Problem(store=default_store(), **state))  # type: ignore[misc]
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Undo what Dask sets for its workers: glibc gave every freed activation back, and evaluations took 4 x as long."""
    with suppress(OSError, AttributeError):  # no glibc
        libc = ctypes.CDLL("libc.so.6")
        for parameter, value in ((M_TRIM_THRESHOLD, 1 << 30), (M_MMAP_THRESHOLD, 1 << 25)):
            libc.mallopt(parameter, value)


def _itself(shared: SharedProblem) -> SharedProblem:
    return shared


def run_shared(
    shared: SharedProblem, placements: Sequence[Placement], split: Split, fidelity: Fidelity, chips: range, device: str
) -> list[Evaluation]:
    """Evaluate placements on a worker; see `run_job`."""
    engine = shared.engine(split, device) if fidelity == "bank" else None
    return run_job(shared.problem, placements, split, fidelity, chips, engine=engine, device=device)


def in_order(executor: Executor, calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """Submit calls, each a function and its arguments, and yield their results in order as they come.

    What has not begun is cancelled where the caller stops or a call fails.
    """
    jobs = [executor.submit(*call) for call in calls]
    try:
        for job in jobs:
            yield job.result()
    finally:
        for job in jobs:
            job.cancel()


class Cluster(Executor):
    """The workers of a Dask scheduler as an executor for `evaluate_many` and `enumerate_placements`.

    Needs `pip install cimenv[cluster]`.

    Workers need cimenv and nothing else: problems travel to each of them once, results return. A job whose worker dies
    is done again by another one. Start workers with one thread each.

    Args:
        address: of the scheduler, such as `tcp://10.0.0.1:8786`.
        timeout_s: to wait for an answer, and for a first worker.

    Raises:
        ConfigError: Dask is not installed, nothing answers there, or there is no worker.
    """

    def __init__(self, address: str, timeout_s: float = CONNECT_S) -> None:
        try:
            from distributed import Client
            from distributed.comm.addressing import resolve_address
        except ImportError:
            raise ConfigError(INSTALL) from None
        try:
            connect: Any = Client  # which has no types
            resolve: Any = resolve_address
            resolve(address)  # a client of a name that is unknown would try to close for 20 s
            self._client = connect(address, timeout=timeout_s, set_as_default=False)
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ConfigError(
                f"scheduler: nothing answers at {address} ({reason}); start one with `dask scheduler`, or correct the "
                "address."
            ) from None
        try:
            self._client.wait_for_workers(1, timeout=timeout_s)
        except TimeoutError:
            self._client.close()
            raise ConfigError(
                f"scheduler: {address} has no worker; start one with `dask worker {address} --nthreads 1`."
            ) from None
        self._shared: dict[int, tuple[Problem, Any]] = {}

    @property
    def workers(self) -> int:
        """Return the number of threads of all workers."""
        return max(1, sum(self._client.nthreads().values()))

    def share(self, problem: Problem) -> Any:
        """Return a handle of a problem for the arguments of `submit`; it travels once to every worker.

        The scheduler keeps it, so that it outlives any worker. All workers get it at once: where only one has it, Dask
        gives that one all jobs, and the others wait for seconds until they steal some.
        """
        if id(problem) not in self._shared:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sending large graph")
                handle = self._client.submit(_itself, SharedProblem(problem), pure=False)
            self._client.replicate([handle])
            self._shared[id(problem)] = problem, handle
        return self._shared[id(problem)][1]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return the future of `fn(*args, **kwargs)` on a worker."""
        result: Future[Any] = self._client.submit(fn, *args, pure=False, **kwargs)
        return result

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the scheduler; its workers stay."""
        del wait, cancel_futures
        self._shared.clear()
        self._client.close()
