"""The evaluator that simulates chips, with memory and store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import lru_cache
from typing import Any

from cimenv.compensation.fit_log import Gains
from cimenv.compensation.options import Placement
from cimenv.core.device import checked_device
from cimenv.core.errors import ConfigError, brief
from cimenv.core.global_state import own_torch_state
from cimenv.core.progress import Progress, silent
from cimenv.core.store import Store
from cimenv.data.splits import Split, checked_split
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.engines import Engines
from cimenv.tasks.evaluators.base import Evaluator
from cimenv.tasks.evaluators.cluster import JOBS_PER_WORKER, Cluster, as_done
from cimenv.tasks.evaluators.travel import run_shared
from cimenv.tasks.jobs import evaluation_key, run_job
from cimenv.tasks.own import own_options
from cimenv.tasks.problem import Problem, UserObjects, default_store
from cimenv.tasks.requests import Compute, Fidelity, Request, alike
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task

REMEMBERED = 20_000  # evaluations held in memory: a few hundred bytes each


class MonteCarloEvaluator(Evaluator):
    """Evaluates on simulated chips; everything is kept in memory and in the store.

    Args:
        task: what to evaluate.
        store: default `default_store()`.
        threads: worker threads; default torch's number, one in a worker process.
        device: where to compute, `cpu` or `cuda`.
        executor: any `concurrent.futures.Executor` for `evaluate_many`; a `Cluster` needs no common files.
        progress: opens bars.
        objects: a user's own network and data.

    Raises:
        ConfigError: an argument is of another type, `threads` is below 1, or there is no such device.
    """

    def __init__(
        self,
        task: Task,
        store: Store | None = None,
        *,
        threads: int | None = None,
        device: str = "cpu",
        executor: Executor | None = None,
        progress: Progress = silent,
        objects: UserObjects | None = None,
    ) -> None:
        if not isinstance(task, Task):
            raise ConfigError(f"task: got a {type(task).__name__}; give load_task(...).")
        if store is not None and not isinstance(store, Store):
            raise ConfigError(f"store: got {brief(store)}; give default_store(folder).")
        if objects is not None and not isinstance(objects, UserObjects):
            raise ConfigError(f"objects: got {brief(objects)}; give UserObjects(model, data).")
        self._task = task
        self.compute = Compute(threads, checked_device(device), progress)
        self.store = store or default_store()
        self.executor, self.objects = executor, objects
        self._engines: Engines | None = None
        self._known: OrderedDict[str, Evaluation] = OrderedDict()
        self._keys: dict[Request, str] = {}
        self._clean: dict[tuple[str, Split], float] = {}
        self._space: PlacementSpace | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "store": self.store,
            "threads": self.compute.threads,
            "device": self.compute.device,
            "objects": self.objects,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state.pop("task"), state.pop("store"), **state)  # type: ignore[misc]

    def serving(self, problem: Problem) -> MonteCarloEvaluator:
        """Return an evaluator like this one for another problem of the same network, which is built."""
        twin = MonteCarloEvaluator(problem.task, self.store)
        twin.compute, twin._engines, twin._space = self.compute, Engines(problem), self.space
        return twin

    def with_task(self, task: Task) -> MonteCarloEvaluator:
        """Return an evaluator like this one for another task on the same network and data."""
        twin = MonteCarloEvaluator(task, self.store, executor=self.executor, objects=self.objects)
        twin.compute = self.compute
        return twin

    @property
    def task(self) -> Task:
        """Return the task."""
        return self._task

    @property
    def engines(self) -> Engines:
        """Return the engines of the problem, which is built on first use."""
        if self._engines is None:
            problem = Problem.build(self.task, self.store, self.compute.progress, self.objects)
            self._engines = Engines(problem)
        return self._engines

    @property
    def problem(self) -> Problem:
        """Return the problem, building it on first use."""
        return self.engines.problem

    @property
    def space(self) -> PlacementSpace:
        """Return the placements, costs and masks."""
        if self._space is None:
            options = None if self.objects is None else own_options(self.task, self.objects)
            self._space = PlacementSpace(self.task, options)
        return self._space

    @property
    def gains(self) -> Gains | None:
        """Return what every block added to accuracy while the bank was fitted."""
        return self.problem.gains

    def evaluate_many(
        self,
        placements: Sequence[Placement],
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
        executor: Executor | None = None,
    ) -> list[Evaluation]:
        """Return the evaluations of many placements, in their order; `executor` replaces the evaluator's own."""
        return self.answers(self.requests(placements, split, fidelity, chips), executor)

    def answers(self, requests: Sequence[Request], executor: Executor | None = None) -> list[Evaluation]:
        """Return the evaluations of requests: from memory, from the store, else simulated now."""
        known = {request: self._recall(request) for request in requests}
        missing = sorted((r for r, answer in known.items() if answer is None), key=lambda r: r.placement)
        if missing:
            made = self._simulated(missing, executor or self.executor)
            known.update((request, made[self._key(request)]) for request in missing)
        return [evaluation for request in requests if (evaluation := known[request]) is not None]

    @own_torch_state()
    def _simulated(self, requests: Sequence[Request], executor: Executor | None) -> dict[str, Evaluation]:
        """Return new evaluations by their keys; each part is kept as soon as it is there."""
        simulated: dict[str, Evaluation] = {}
        for part in self._made(requests, executor):
            self.store.keep(((each.key, each.to_record()) for each in part), "an evaluation")
            simulated.update((each.key, self._remember(each)) for each in part)
        return simulated

    def reference_accuracy(self, split: Split = "val") -> float:
        """Return acc_ref on the images of an evaluation."""
        checked_split(split)
        if ("reference", split) not in self._clean:
            self._clean["reference", split] = self.problem.reference_accuracy(split)
        return self._clean["reference", split]

    def clean_accuracy(self, split: Split = "val") -> float:
        """Return the backbone's clean accuracy on the images of an evaluation."""
        checked_split(split)
        if ("backbone", split) not in self._clean:
            self._clean["backbone", split] = self.problem.clean_accuracy(split)
        return self._clean["backbone", split]

    def _made(self, requests: Sequence[Request], executor: Executor | None) -> Iterator[list[Evaluation]]:
        """Yield evaluations in parts, each as soon as it is there: what a failure leaves is kept."""
        if executor is None or len(requests) == 1:
            yield run_job(self.engines, requests, self.compute)
            return
        parts, device = _parts(requests, _workers(executor)), self.compute.device
        if isinstance(executor, Cluster):
            shared = executor.share(self.problem)
            calls: list[tuple[Any, ...]] = [(run_shared, shared, part, device) for part in parts]
        else:
            calls = [(_run_in_pool, self, part, device) for part in parts]
        with self.compute.progress("evaluating placements", len(requests)) as advance:
            for part in as_done(executor, calls):
                yield part
                advance(len(part))

    def _key(self, request: Request) -> str:
        """Return the text of everything that an answer depends on."""
        if request not in self._keys:
            if len(self._keys) >= REMEMBERED:
                self._keys.clear()
            self._keys[request] = evaluation_key(self.problem, request)
        return self._keys[request]

    def _recall(self, request: Request) -> Evaluation | None:
        key = self._key(request)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        record = self.store.get(key)
        if record is None:
            return None
        cost = self.space.shares(request.placement)
        return self._remember(Evaluation.from_record(key, record, self.task.over_times, cost))

    def _remember(self, evaluation: Evaluation) -> Evaluation:
        self._known[evaluation.key] = evaluation
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return evaluation


def _workers(executor: Executor) -> int:
    return executor.workers if isinstance(executor, Cluster) else int(getattr(executor, "_max_workers", 0) or 2)


def _parts(requests: Sequence[Request], workers: int) -> Iterator[Sequence[Request]]:
    """Yield jobs for workers: placements of the bank share prefixes, so that a few jobs a worker hold many each."""
    for group in alike(requests):
        size = -(-len(group) // (JOBS_PER_WORKER * workers)) if group[0].fidelity == "bank" else 1
        yield from (group[start : start + size] for start in range(0, len(group), size))


@lru_cache(maxsize=2)
def _worker_problem(task: str, root: str, layers: tuple[str, ...]) -> Problem:
    """Build a problem once per worker process, from the task's JSON."""
    return Problem.build(Task.model_validate_json(task), Store(root, layers))


def _run_in_pool(evaluator: MonteCarloEvaluator, requests: Sequence[Request], device: str) -> list[Evaluation]:
    """Evaluate in a local process, which shares the store, or in a thread, which shares the problem."""
    if evaluator.objects is not None or evaluator._engines is not None:
        problem = evaluator.problem
    else:
        store = evaluator.store
        problem = _worker_problem(evaluator.task.model_dump_json(), str(store.root), tuple(map(str, store.layers)))
    return run_job(Engines(problem), requests, Compute(1, device))
