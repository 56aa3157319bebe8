"""The Gymnasium environment of placements: reset and step over an episode, and what they show of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

from cimenv.compensation.options import Placement
from cimenv.core.errors import BudgetError, ConfigError, EpisodeError, InvalidActionError, brief
from cimenv.core.store import Store
from cimenv.core.threads import in_worker_process
from cimenv.envs.actions import Actions
from cimenv.envs.arguments import (
    checked_action,
    checked_choice,
    checked_flag,
    checked_number,
    checked_options,
    checked_seed,
)
from cimenv.envs.episode import Episode
from cimenv.envs.features.base import View
from cimenv.envs.hooks import RecipeHook, ResetHook, apply_one, as_hooks
from cimenv.envs.info import Info, episode_info
from cimenv.envs.observation import ObservationLayout, Vector
from cimenv.envs.reward import REWARDS, reward_named
from cimenv.envs.scenario import Scenario, ScenarioPool
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.evaluators.base import Evaluator
from cimenv.tasks.loading import load_task
from cimenv.tasks.objective import Objective
from cimenv.tasks.task import Task


class Limit(Protocol):
    """What a wrapper allows of one reset or step beside the masks of the task; see `EvaluationBudget`."""

    def begins(self, scenario: Scenario) -> bool:
        """Return whether an episode of this scenario may begin, which evaluates the empty placement."""

    def ruling(self, episode: Episode, action: int) -> tuple[Placement, bool]:
        """Return the placement from which the episode goes on, and whether the action is allowed."""


class PlacementEnv(gym.Env[Vector, np.int64]):
    """An episode places blocks one at a time; subclasses say by `meaning` what an action does.

    Attributes:
        base_task: the task without reset hooks.
        block_options: its sites and their block options.
        scenarios: the tasks that episodes may be of, each with its evaluator.
        actions: what an action means.
        layout: names and order of the numbers in an observation.
        episode: under way, or ended; None before the first reset.
        held: the recipe that `reset(options=...)` asked for last.
    """

    metadata = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 2}
    meaning: ClassVar[type[Actions]]

    def __init__(
        self,
        task: str | Mapping[str, Any] | Task = "lenet5-fashion-mini",
        *,
        reset_hooks: Sequence[str | ResetHook] = (),
        reward: str = "dense",
        feedback: str = "step",
        fit_log: bool = False,
        features: Sequence[str] = (),
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
        self.base_task = evaluator.task if evaluator is not None else load_task(task)
        self.scenarios = ScenarioPool(self.base_task, evaluator, store)
        self.hooks = as_hooks(reset_hooks)
        self.held: RecipeHook | None = None
        self.reward = reward_named("terminal" if feedback == "reset" else reward)
        self.feedback, self.invalid_action, self.render_mode = feedback, invalid_action, render_mode
        self.invalid_penalty = checked_number("invalid_penalty", invalid_penalty)
        self.block_options = evaluator.space.options if evaluator is not None else self.base_task.block_options()
        self.actions = self.meaning(self.block_options, max_sites, max_steps)
        self.max_sites, self.max_steps = self.actions.max_sites, self.actions.max_steps
        log = checked_flag("fit_log", fit_log)
        self.layout = ObservationLayout(self.max_sites, self.block_options.count, log, features)
        self.action_space, self.observation_space = self.actions.space, self.layout.space
        self.episode: Episode | None = None
        self._limit: Limit | None = None

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
            self.held = RecipeHook(recipe) if recipe is not None else None
        task = apply_one(self.hooks, self.base_task, self.np_random)
        scenario = self.scenarios.of(self.held(task, self.np_random) if self.held is not None else task)
        if self._limit is not None and not self._limit.begins(scenario):
            raise BudgetError("No evaluation is left for the task that the reset hooks drew; raise the budget.")
        self.episode = Episode.begun(scenario)
        return self._shown(self.episode)

    def step(self, action: np.int64) -> tuple[Vector, float, bool, bool, Info]:
        """Take an action.

        Raises:
            EpisodeError: before `reset` or after the end.
            InvalidActionError: an action outside the space, or a masked one with `invalid_action="raise"`.
        """
        if self.episode is None or self.episode.ended:
            raise EpisodeError("The episode has not begun or is over; call reset() first.")
        before, number = self.episode, checked_action(action, self.actions.count)
        allowed = True
        if self._limit is not None:
            start, allowed = self._limit.ruling(before, number)
            before = replace(before, placement=start)
        valid = allowed and bool(self.actions.mask(before)[number])
        if not valid and self.invalid_action == "raise":
            raise InvalidActionError(f"action {number} is masked now; choose one that action_masks() allows.")
        after = before.moved(self.actions.placed(before, number) if valid else before.placement, invalid=not valid)
        stopped = valid and self.actions.stops(number)
        if stopped or self.actions.exhausted(after) or after.steps >= self.max_steps:
            after = replace(after, ended=True)
        if self.feedback == "step" or after.ended:
            after = after.evaluate()
        penalty = self.invalid_penalty * (self.actions.penalised and not valid)
        reward = self.reward(before.value, after.value, after.ended) - penalty
        self.episode = after
        observation, info = self._shown(after, invalid=not valid)
        return observation, float(reward), after.ended, False, info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return which actions are allowed now, for sb3-contrib's MaskablePPO."""
        return self.actions.mask(self.episode)

    def action_names(self) -> list[tuple[str, str]]:
        """Return (site, option) of every action but 0."""
        return self.actions.names()

    def render(self) -> Any:
        """Draw the network: a table (`ansi`), pixels (`rgb_array`) or a window (`human`)."""
        from cimenv.envs.render import as_text, draw

        if self.render_mode is None:
            gym.logger.warn("render() was called without a render_mode; pass one to gym.make().")
            return None
        if self.episode is None:
            raise EpisodeError("Nothing to render before the first reset; call reset() first.")
        drawn = self.episode.scenario.objective, self.episode.none, self.episode.evaluation
        return as_text(*drawn) if self.render_mode == "ansi" else draw(*drawn, show=self.render_mode == "human")

    # What it shows

    def observe(self, episode: Episode) -> Vector:
        """Return the observation of an episode."""
        shown = episode.none if self.feedback == "reset" else episode.evaluation
        left, current = 1.0 - episode.steps / self.max_steps, self.actions.current(episode)
        objective = episode.scenario.objective
        return self.layout.observe(View(shown, objective, episode.placement, episode.affordable, left, current))

    def info(self, episode: Episode, invalid: bool = False) -> Info:
        """Return the infos of an episode."""
        shown = episode.evaluation if self.feedback == "step" or episode.ended else episode.none
        return episode_info(episode, shown, self.actions, invalid)

    def _shown(self, episode: Episode, invalid: bool = False) -> tuple[Vector, Info]:
        if self.render_mode == "human":
            self.render()
        return self.observe(episode), self.info(episode, invalid)

    # Beside the episode

    @property
    def evaluator(self) -> Evaluator:
        """Return the evaluator of the task without reset hooks."""
        return self.scenarios.base.evaluator

    def outcome(self, placement: Placement) -> tuple[Objective, Evaluation, Evaluation]:
        """Return objective, evaluation of the empty placement and of `placement`, for the task without reset hooks.

        The episode and its account stay as they are; a placement that is not known yet is evaluated.
        """
        base = self.scenarios.base
        none, placed = base.evaluator.evaluate_many([base.evaluator.space.empty(), placement])
        return base.objective, none, placed

    def training_histories(self) -> dict[str, list[dict[str, float]]]:
        """Return the course of every training behind the tasks seen so far: recipe -> one mapping an epoch."""
        return self.scenarios.histories()

    @contextmanager
    def limited_by(self, limit: Limit) -> Iterator[None]:
        """Let a wrapper rule over the reset or the step that is called within."""
        outer, self._limit = self._limit, limit
        try:
            yield
        finally:
            self._limit = outer

    # Copies and interrupted episodes

    def __deepcopy__(self, memo: dict[int, Any]) -> PlacementEnv:
        """Copy what draws; episodes are never changed, and evaluators and what they know are shared."""
        twin = copy.copy(self)
        memo[id(self)] = twin
        twin._np_random = copy.deepcopy(self._np_random, memo)
        twin.action_space = copy.deepcopy(self.action_space, memo)
        twin.observation_space = copy.deepcopy(self.observation_space, memo)
        return twin

    def state(self) -> dict[str, Any]:
        """Return the episode as JSON values; evaluations are named by their placements.

        Reset hooks are not part of it: a callable that keeps a state of its own must keep it elsewhere.
        """
        generator = self._np_random
        return {
            "generator": generator.bit_generator.state if generator is not None else None,
            "generator_seed": self._np_random_seed,
            "held": self.held.recipe.name if self.held is not None else None,
            "episode": self.episode.state() if self.episode is not None else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue the episode that `state()` described; its evaluations come from the evaluator again.

        gym.make's wrappers want a `reset` before this.
        """
        if state["generator"] is not None:
            self._np_random = np.random.default_rng()
            self._np_random.bit_generator.state = state["generator"]
        self._np_random_seed = state["generator_seed"]
        self.held = RecipeHook(state["held"]) if state["held"] is not None else None
        episode = state["episode"]
        self.episode = Episode.restored(episode, self.scenarios) if episode is not None else None


def _evaluates(evaluator: object) -> bool:
    has_task = isinstance(getattr(evaluator, "task", None), Task)
    return has_task and hasattr(evaluator, "space") and callable(getattr(evaluator, "evaluate_many", None))


def _calm_threads() -> None:
    """In a vector worker, one torch thread before any tensor work: OpenMP does not survive a fork."""
    if in_worker_process() and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
