"""How a problem travels to workers, which share no files with this process and do not have the user's modules."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import cloudpickle

from cimenv.core.errors import ConfigError
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.engines import Engines
from cimenv.tasks.jobs import run_job
from cimenv.tasks.problem import Problem, default_store
from cimenv.tasks.requests import Compute, Request

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt
INSTALLED = ("site-packages", "dist-packages")  # folders of what workers have by installing it, too


class SharedProblem:
    """A problem on its way to workers, which have their own store; unpickled once a worker.

    A worker keeps its engines, and with them clean outputs, drawn chips and activations, from one job to the next.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.engines = Engines(problem)

    def __getstate__(self) -> bytes:
        problem = self.problem
        state = {f.name: getattr(problem, f.name) for f in fields(Problem) if f.name != "store"}
        with own_modules_by_value():
            try:
                # The digest, too: a class that travelled has no source to take it from.
                travelling: bytes = cloudpickle.dumps((state, problem.reference_digest))
            except Exception as error:
                text = " ".join(str(error).split())
                raise ConfigError(
                    f"The network or its data cannot travel to workers ({type(error).__name__}: {text}); keep what "
                    "cannot be pickled, such as open files and locks, out of them."
                ) from None
        return travelling

    def __setstate__(self, travelled: bytes) -> None:
        state, digest = cloudpickle.loads(travelled)
        self.__init__(Problem(store=default_store(), **state))  # type: ignore[misc]
        vars(self.problem)["reference_digest"] = digest
        _keep_freed_memory()


def run_shared(shared: SharedProblem, requests: Sequence[Request], device: str) -> list[Evaluation]:
    """Evaluate requests on a worker; see `run_job`."""
    return run_job(shared.engines, requests, Compute(1, device))


@contextmanager
def own_modules_by_value() -> Iterator[None]:
    """Let what is pickled take the user's own modules with it, as text of their own and not as names."""
    known = cloudpickle.list_registry_pickle_by_value()
    own = [module for name, module in list(sys.modules.items()) if name not in known and _is_own(name, module)]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _is_own(name: str, module: ModuleType) -> bool:
    """Whether a module is a file of the user's, rather than of Python, of an installed package, or of cimenv."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or getattr(module, "__name__", None) != name:
        return False
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top in ("cimenv", "__main__", "__mp_main__"):
        return False
    return not set(INSTALLED) & set(Path(file).parts)


def _keep_freed_memory() -> None:
    """Undo what Dask sets for its workers: glibc gave every freed activation back, and evaluations took 4 x as long."""
    with suppress(OSError, AttributeError):  # no glibc
        libc = ctypes.CDLL("libc.so.6")
        for parameter, value in ((M_TRIM_THRESHOLD, 1 << 30), (M_MMAP_THRESHOLD, 1 << 25)):
            libc.mallopt(parameter, value)
