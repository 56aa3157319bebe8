"""What both environments share: tasks, evaluations, rewards, masks, infos, the end of an episode."""

from __future__ import annotations

import copy
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

from cimenv.compensation.options import Placement
from cimenv.core.config import checked_int
from cimenv.core.errors import BudgetError, ConfigError, EpisodeError, InvalidActionError, brief
from cimenv.core.progress import bar, silent
from cimenv.core.store import Store
from cimenv.core.threads import in_worker_process
from cimenv.envs.arguments import (
    MOST_SITES,
    MOST_STEPS,
    checked_action,
    checked_choice,
    checked_flag,
    checked_number,
    checked_options,
    checked_seed,
)
from cimenv.envs.episode_state import episode_state, restore_episode
from cimenv.envs.hooks import RecipeHook, ResetHook, apply_one, as_hooks
from cimenv.envs.observation import BOUND, ObservationLayout, Vector, View
from cimenv.envs.reward import REWARDS, reward_named
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.evaluators.base import Evaluator
from cimenv.tasks.evaluators.ledger import Ledger
from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator
from cimenv.tasks.objective import Objective
from cimenv.tasks.problem import default_store
from cimenv.tasks.task import Task, load_task

SUCCESS_SHARE = 0.95
KEPT_PROBLEMS = 4  # trained problems an environment holds when hooks change the recipe
MASK_TYPE = np.int8

Info = dict[str, Any]
Ends = npt.NDArray[np.int64]


class PlacementEnv(gym.Env[Vector, np.int64]):
    """An episode places blocks one at a time; subclasses say what an action means."""

    metadata = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 2}

    # Shared between a fork and its original: nothing in an episode changes them.
    _SHARED = frozenset(("spec", "layout", "reward", "hooks", "base_task", "task", "objective", "placement"))
    _SHARED |= {"block_options", "_held", "_given", "_store", "_evaluators", "_objectives", "_none", "_evaluation"}

    def __init__(
        self,
        task: str | Mapping[str, Any] | Task = "lenet5-fashion-mini",
        *,
        reset_hooks: Sequence[str | ResetHook] = (),
        reward: str = "dense",
        feedback: str = "step",
        fit_log: bool = False,
        invalid_action: str = "noop",
        invalid_penalty: float = 0.05,
        max_sites: int | None = None,
        max_steps: int | None = None,
        render_mode: str | None = None,
        evaluator: Evaluator | None = None,
        store: str | Store | None = None,
    ) -> None:
        _calm_threads()
        checked_choice("reward", reward, REWARDS)
        checked_choice("feedback", feedback, ("step", "reset"))
        checked_choice("invalid_action", invalid_action, ("noop", "raise"))
        checked_choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        if evaluator is not None and not _evaluates(evaluator):
            raise ConfigError(f"evaluator: got {brief(evaluator)}; give one of cimenv.tasks.")
        if store is not None and not isinstance(store, str | os.PathLike | Store):
            raise ConfigError(f"store: got {brief(store)}; give the path of a folder, or a Store.")
        self.base_task = evaluator.task if evaluator is not None else load_task(task)
        self.reward = reward_named("terminal" if feedback == "reset" else reward)
        self.hooks = as_hooks(reset_hooks)
        self.feedback, self.invalid_action = feedback, invalid_action
        self.invalid_penalty = checked_number("invalid_penalty", invalid_penalty)
        self.render_mode = render_mode
        space = evaluator.space if evaluator is not None else None
        self.block_options = space.options if space else self.base_task.block_options()
        sites, options = len(self.block_options.sites), self.block_options.count
        self.max_sites = checked_int("max_sites", sites if max_sites is None else max_sites, sites, MOST_SITES)
        steps = self._default_steps(sites) if max_steps is None else max_steps
        self.max_steps = checked_int("max_steps", steps, 1, MOST_STEPS)
        self.layout = ObservationLayout(self.max_sites, options, checked_flag("fit_log", fit_log))
        self.observation_space = gym.spaces.Box(-BOUND, BOUND, (self.layout.size,), np.float32)
        self._given, self._store = evaluator, store
        self._evaluators: dict[str, Evaluator] = {}
        self._objectives: dict[str, Objective] = {}
        self._held: RecipeHook | None = None
        self._ended = True
        self._started = False
        self.blocked = False  # a wrapper's word that the next action is masked
        self.payable: Callable[[str, Placement], bool] | None = None  # a wrapper's word on what a reset may evaluate

    # The episode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, Info]:
        """Start an episode without blocks.

        Args:
            seed: of the episode's generator, which draws among reset hooks.
            options: `{"recipe": name}` trains the backbone by that recipe until the next reset with options.

        Raises:
            ConfigError: the seed is no int of at least 0, `options` holds an unknown key, or a hook fails.
            UnknownNameError: no such recipe.
        """
        _calm_threads()
        super().reset(seed=checked_seed(seed))
        if options is not None:
            recipe = checked_options(options, ("recipe",), "known: recipe").get("recipe")
            self._held = RecipeHook(recipe) if recipe is not None else None
        task = apply_one(self.hooks, self.base_task, self.np_random)
        if self._held is not None:
            task = self._held(task, self.np_random)
        empty = (0,) * len(self.block_options.sites)
        if self.payable is not None and not self.payable(task.key, empty):
            raise BudgetError("No evaluation is left for the task that the reset hooks drew; raise the budget.")
        self.task, self.task_key = task, task.key
        self.objective = self._objective(task)
        self.ledger = Ledger(self._evaluator(task))
        self.placement: Placement = empty
        self.steps, self.invalid_actions = 0, 0
        self._none = self.ledger.evaluate(self.placement)
        self._evaluation = self._none
        self._started, self._ended, self.blocked = True, False, False
        self._show()
        return self._observation(), self._info(invalid=False)

    def step(self, action: np.int64) -> tuple[Vector, float, bool, bool, Info]:
        """Take an action.

        Raises:
            EpisodeError: before `reset` or after the end.
            InvalidActionError: an action outside the space, or a masked one with `invalid_action="raise"`.
        """
        if not self._started or self._ended:
            raise EpisodeError("The episode has not begun or is over; call reset() first.")
        number = checked_action(action, int(self.action_space.n))  # type: ignore[attr-defined]
        before = self.objective.value(self._evaluation)
        placement, stop, invalid = self._decide(number)
        if invalid and self.invalid_action == "raise":
            raise InvalidActionError(f"action {number} is masked now; choose one that action_masks() allows.")
        self.placement = placement
        self.steps += 1
        self.invalid_actions += invalid
        self._ended = stop or self._nothing_left() or self.steps >= self.max_steps
        if self.feedback == "step" or self._ended:
            self._evaluation = self.ledger.evaluate(self.placement)
        after = self.objective.value(self._evaluation)
        reward = self.reward(before, after, self._ended) - self.invalid_penalty * self._penalised(invalid)
        self._show()
        return self._observation(), float(reward), self._ended, False, self._info(invalid)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return which actions are allowed now, for sb3-contrib's MaskablePPO."""
        return self._mask().astype(bool)

    @property
    def playing(self) -> bool:
        """Return whether an episode is under way."""
        return self._started and not self._ended

    def placement_after(self, action: int) -> Placement:
        """Return the placement that an allowed action leads to."""
        return self._placed(action)

    def render(self) -> Any:
        """Draw the network: a table (`ansi`), pixels (`rgb_array`) or a window (`human`)."""
        from cimenv.envs.render import as_text, draw

        if self.render_mode is None:
            gym.logger.warn("render() was called without a render_mode; pass one to gym.make().")
            return None
        if not self._started:
            raise EpisodeError("Nothing to render before the first reset; call reset() first.")
        if self.render_mode == "ansi":
            return as_text(self.objective, self._none, self._evaluation)
        return draw(self.objective, self._none, self._evaluation, show=self.render_mode == "human")

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()

    def __deepcopy__(self, memo: dict[int, Any]) -> PlacementEnv:
        """Copy the episode; evaluators and what they know are shared."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for name, value in self.__dict__.items():
            if name == "ledger":
                twin.ledger = self.ledger.copy()
            else:
                twin.__dict__[name] = value if name in self._SHARED else copy.deepcopy(value, memo)
        return twin

    def _decide(self, action: int) -> tuple[Placement, bool, bool]:
        """Return the placement after an action, whether it stops, and whether it was masked."""
        if self.blocked or not self._mask()[action]:
            self.blocked = False
            return self.placement, False, True
        return self._placed(action), self._stops(action), False

    # What subclasses say

    @abstractmethod
    def _placed(self, action: int) -> Placement:
        """Return the placement after an allowed action."""

    def _stops(self, action: int) -> bool:
        """Return whether an action ends the episode by choice."""
        del action
        return False

    @abstractmethod
    def reachable(self, goals: Ends, steps: int) -> npt.NDArray[np.bool_]:
        """Return which placements `[n, sites]` an episode with the present blocks may still end with.

        Args:
            goals: feasible placements.
            steps: that are taken by then.
        """

    @abstractmethod
    def leading_to(self, goals: Ends) -> npt.NDArray[np.bool_]:
        """Return which actions lead towards an end with one of the placements `[n, sites]`; `[actions]`."""

    @abstractmethod
    def _mask(self) -> npt.NDArray[np.int8]:
        """Return the mask of all actions."""

    @abstractmethod
    def action_names(self) -> list[tuple[str, str]]:
        """Return (site, option) of every action but 0."""

    @abstractmethod
    def _default_steps(self, sites: int) -> int:
        """Return the default step limit."""

    def _site_names(self) -> list[str]:
        """Return the name of every site, padding included."""
        names = [site.name for site in self.block_options.sites]
        return names + [f"padding{k}" for k in range(self.max_sites - len(names))]

    def _option_names(self, site: int) -> list[str]:
        """Return the label of every option at a site; an option that does not exist there is a number."""
        per_site = self.block_options.per_site
        labels = [option.label for option in per_site[site]] if site < len(per_site) else []
        return labels + [f"option {o}" for o in range(len(labels) + 1, self.layout.options + 1)]

    def _penalised(self, invalid: bool) -> bool:
        return invalid

    def _current(self) -> int | None:
        return None

    def _nothing_left(self) -> bool:
        return not self._affordable()[:, 1:].any()

    # Parts

    def _affordable(self) -> npt.NDArray[np.bool_]:
        return self.objective.space.affordable(self.placement)

    def _observation(self) -> Vector:
        shown = self._none if self.feedback == "reset" else self._evaluation
        left = 1.0 - self.steps / self.max_steps
        view = View(shown, self.objective, self.placement, self._affordable(), left, self._current())
        return self.layout.observe(view)

    def _info(self, invalid: bool) -> Info:
        shown = self._evaluation if self.feedback == "step" or self._ended else self._none
        objective = self.objective
        accuracy = objective.accuracy(shown)
        placement = np.full(self.max_sites, -1, dtype=np.int8)
        placement[: len(self.placement)] = self.placement
        return {
            "action_mask": self._mask(),
            "placement": placement,
            "accuracy": accuracy,
            "accuracy_std": shown.value("std"),
            "percentile_accuracy": shown.value("percentile", self.task.percentile),
            "clean_accuracy": self.ledger.clean_accuracy(),
            "reference_accuracy": objective.acc_ref,
            "objective": objective.value(shown),
            "evaluated": shown.placement == self.placement,
            "cost": self._costs(),
            "evaluations": self.ledger.spent,
            "is_success": bool(accuracy >= SUCCESS_SHARE * objective.acc_ref),
            "invalid_action": bool(invalid),
            "task_key": self.task_key,
        }

    def _costs(self) -> dict[str, float]:
        space, cost = self.objective.space, self.objective.space.cost(self.placement)
        ranges = {"energy_pj": cost.energy_pj, "area_mm2": cost.area_mm2}
        ends = {f"{n}_{end}": getattr(r, end) for n, r in ranges.items() for end in ("low", "high")}
        return {**space.shares(self.placement), "scalar": self.objective.cost(self.placement), **ends}

    def _evaluator(self, task: Task) -> Evaluator:
        if self._given is not None and task.key == self._given.task.key:
            return self._given
        if task.key not in self._evaluators:
            while len(self._evaluators) >= KEPT_PROBLEMS:
                oldest = next(iter(self._evaluators))
                del self._evaluators[oldest]
                self._objectives.pop(oldest, None)
            store = self._store if isinstance(self._store, Store) else default_store(self._store)
            shown = silent if in_worker_process() else bar
            self._evaluators[task.key] = MonteCarloEvaluator(task, store, progress=shown)
        return self._evaluators[task.key]

    def _objective(self, task: Task) -> Objective:
        if task.key not in self._objectives:
            self._objectives[task.key] = Objective.of(self._evaluator(task))
        return self._objectives[task.key]

    @property
    def evaluation(self) -> Evaluation:
        """Return the evaluation of the blocks placed so far."""
        return self._evaluation

    @property
    def evaluator(self) -> Evaluator:
        """Return what evaluates placements of the task without reset hooks."""
        return self._evaluator(self.base_task)

    def outcome(self, placement: Placement) -> tuple[Objective, Evaluation, Evaluation]:
        """Return objective, evaluation of the empty placement and of `placement`, for the task without reset hooks.

        The episode and its account stay as they are; a placement that is not known yet is evaluated.
        """
        objective = self._objective(self.base_task)
        none, placed = self.evaluator.evaluate_many([objective.space.empty(), placement])
        return objective, none, placed

    def training_histories(self) -> dict[str, list[dict[str, float]]]:
        """Return the course of every training behind the tasks seen so far: recipe -> one mapping an epoch."""
        found: dict[str, list[dict[str, float]]] = {}
        for evaluator in (*self._evaluators.values(), self._given):
            if isinstance(evaluator, MonteCarloEvaluator):
                found.update(evaluator.problem.histories)
        return found

    # An interrupted episode

    def state(self) -> dict[str, Any]:
        """Return the episode as JSON values; evaluations are named by their placements.

        Reset hooks are not part of it: a callable that keeps a state of its own must keep it elsewhere.
        """
        return episode_state(self)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with the episode that `state()` described; its evaluations are asked from the evaluator again.

        gym.make's wrappers want a `reset` before this.
        """
        restore_episode(self, state)


def _evaluates(evaluator: object) -> bool:
    has_task = isinstance(getattr(evaluator, "task", None), Task)
    return has_task and hasattr(evaluator, "space") and callable(getattr(evaluator, "evaluate_many", None))


def _calm_threads() -> None:
    """In a vector worker, one torch thread before any tensor work: OpenMP does not survive a fork."""
    if in_worker_process() and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
