"""The evaluator that simulates chips, with memory and store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import lru_cache
from typing import Any

import torch

from cimenv.compensation.fit_log import Gains
from cimenv.compensation.options import Placement
from cimenv.core.config import checked_int
from cimenv.core.device import checked_device
from cimenv.core.errors import ConfigError, brief
from cimenv.core.global_state import own_torch_state
from cimenv.core.progress import Progress, silent
from cimenv.core.store import Store
from cimenv.core.threads import allowed_threads
from cimenv.data.splits import Split, checked_split
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.evaluators.cluster import JOBS_PER_WORKER, Cluster, as_done
from cimenv.tasks.evaluators.travel import run_shared
from cimenv.tasks.jobs import Fidelity, chip_numbers, evaluation_key, run_job
from cimenv.tasks.own import own_options
from cimenv.tasks.problem import Problem, UserObjects, default_store
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task

MOST_THREADS = 1_024
REMEMBERED = 20_000  # evaluations held in memory: a few hundred bytes each


class MonteCarloEvaluator:
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
        if threads is not None:
            checked_int("threads", threads, 1, MOST_THREADS)
        if not callable(progress):
            raise ConfigError(f"progress: got {brief(progress)}; give cimenv.core.progress.bar or silent.")
        if store is not None and not isinstance(store, Store):
            raise ConfigError(f"store: got {brief(store)}; give default_store(folder).")
        if objects is not None and not isinstance(objects, UserObjects):
            raise ConfigError(f"objects: got {brief(objects)}; give UserObjects(model, data).")
        self.task = task
        self.store = store or default_store()
        self.device = checked_device(device)
        self.executor, self.progress, self.objects = executor, progress, objects
        self._threads = threads
        self._problem: Problem | None = None
        self._engines: dict[Split, Engine] = {}
        self._known: OrderedDict[str, Evaluation] = OrderedDict()
        self._clean: dict[tuple[str, Split], float] = {}
        self._space: PlacementSpace | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "store": self.store,
            "threads": self._threads,
            "device": self.device,
            "objects": self.objects,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state.pop("task"), state.pop("store"), **state)  # type: ignore[misc]

    def serving(self, problem: Problem) -> MonteCarloEvaluator:
        """Return an evaluator like this one for another problem of the same network, which is built."""
        twin = MonteCarloEvaluator(
            problem.task, self.store, threads=self._threads, device=self.device, progress=self.progress
        )
        twin._problem, twin._space = problem, self.space
        return twin

    @property
    def threads(self) -> int:
        """Return the number of worker threads."""
        if self._threads is not None:
            return self._threads
        return allowed_threads(torch.get_num_threads())

    @property
    def problem(self) -> Problem:
        """Return the problem, building it on first use."""
        if self._problem is None:
            self._problem = Problem.build(self.task, self.store, self.progress, self.objects)
        return self._problem

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

    def evaluate(
        self,
        placement: Placement,
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
    ) -> Evaluation:
        """Return the evaluation of one placement.

        Args:
            placement: one option index per site.
            split: `val` or `test`.
            fidelity: `bank` or `tuned`.
            chips: number of chips, or the range of their numbers; default the task's `chips` on val, `report_chips`
                on test.

        Raises:
            PlacementError: wrong length or an option out of range.
            ConfigError: unknown split or fidelity.
        """
        return self.evaluate_many([placement], split, fidelity, chips)[0]

    @own_torch_state()
    def evaluate_many(
        self,
        placements: Sequence[Placement],
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
        executor: Executor | None = None,
    ) -> list[Evaluation]:
        """Return the evaluations of many placements, in their order; `executor` replaces the evaluator's own."""
        numbers = chip_numbers(self.task, split, fidelity, chips)
        given: Any = placements
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise ConfigError(f"placements: got {brief(given)}; give a list of placements.")
        checked = [self.space.options.checked(placement) for placement in given]
        keys = {p: evaluation_key(self.problem, p, split, fidelity, numbers) for p in checked}
        known = {p: self._recall(key) for p, key in keys.items()}
        missing = sorted(p for p, evaluation in known.items() if evaluation is None)
        if missing:
            for made in self._made(missing, split, fidelity, numbers, executor or self.executor):
                self.store.keep(((each.key, each.to_record()) for each in made), "an evaluation")
                known.update((each.placement, self._remember(each)) for each in made)
        return [evaluation for p in checked if (evaluation := known[p]) is not None]

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

    def _made(
        self,
        placements: list[Placement],
        split: Split,
        fidelity: Fidelity,
        numbers: range,
        executor: Executor | None,
    ) -> Iterator[list[Evaluation]]:
        """Yield evaluations in parts, each as soon as it is there: what a failure leaves is kept."""
        if executor is None or len(placements) == 1:
            engine = None
            if fidelity == "bank":
                if split not in self._engines:
                    self._engines[split] = self.problem.engine(split, threads=self.threads, device=self.device)
                engine = self._engines[split]
            yield run_job(
                self.problem,
                placements,
                split,
                fidelity,
                numbers,
                engine=engine,
                threads=self.threads,
                device=self.device,
                progress=self.progress,
            )
            return
        size = -(-len(placements) // (JOBS_PER_WORKER * _workers(executor))) if fidelity == "bank" else 1
        parts = [placements[start : start + size] for start in range(0, len(placements), size)]
        rest = (split, fidelity, numbers, self.device)
        if isinstance(executor, Cluster):
            shared = executor.share(self.problem)
            calls: list[tuple[Any, ...]] = [(run_shared, shared, part, *rest) for part in parts]
        else:
            calls = [(_run_in_pool, self, part, *rest) for part in parts]
        with self.progress("evaluating placements", len(placements)) as advance:
            for found in as_done(executor, calls):
                yield found
                advance(len(found))

    def _recall(self, key: str) -> Evaluation | None:
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        record = self.store.get(key)
        if record is None:
            return None
        return self._remember(Evaluation.from_record(key, record, self.task.over_times))

    def _remember(self, evaluation: Evaluation) -> Evaluation:
        self._known[evaluation.key] = evaluation
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return evaluation


def _workers(executor: Executor) -> int:
    return executor.workers if isinstance(executor, Cluster) else int(getattr(executor, "_max_workers", 0) or 2)


@lru_cache(maxsize=2)
def _worker_problem(task: str, root: str, layers: tuple[str, ...]) -> Problem:
    """Build a problem once per worker process, from the task's JSON."""
    return Problem.build(Task.model_validate_json(task), Store(root, layers))


def _run_in_pool(
    evaluator: MonteCarloEvaluator,
    placements: list[Placement],
    split: Split,
    fidelity: Fidelity,
    numbers: range,
    device: str,
) -> list[Evaluation]:
    """Evaluate in a local process, which shares the store, or in a thread, which shares the problem."""
    if evaluator.objects is not None or evaluator._problem is not None:
        problem = evaluator.problem
    else:
        store = evaluator.store
        problem = _worker_problem(evaluator.task.model_dump_json(), str(store.root), tuple(map(str, store.layers)))
    return run_job(problem, placements, split, fidelity, numbers, device=device)
