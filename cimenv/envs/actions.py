"""What the actions of an environment mean, as functions of an episode."""

from __future__ import annotations

from abc import ABC, abstractmethod

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Options, Placement
from cimenv.core.config import checked_int
from cimenv.envs.arguments import MOST_SITES, MOST_STEPS
from cimenv.envs.episode import Episode

Booleans = npt.NDArray[np.bool_]
Ends = npt.NDArray[np.int64]


class Actions(ABC):
    """Actions that place blocks, one at a time; action 0 places none.

    Args:
        blocks: sites and their block options.
        max_sites: sites that there is room for; default those of the task.
        max_steps: step limit of an episode.

    Raises:
        ConfigError: a number out of range.
    """

    penalised = True  # whether a masked action costs a penalty

    def __init__(self, blocks: Options, max_sites: int | None = None, max_steps: int | None = None) -> None:
        self.blocks, self.sites, self.options = blocks, len(blocks.sites), blocks.count
        room = self.sites if max_sites is None else max_sites
        self.max_sites = checked_int("max_sites", room, self.sites, MOST_SITES)
        steps = self.default_steps if max_steps is None else max_steps
        self.max_steps = checked_int("max_steps", steps, 1, MOST_STEPS)

    @property
    def space(self) -> gym.spaces.Discrete:
        """Return the action space."""
        return gym.spaces.Discrete(self.count)

    @property
    @abstractmethod
    def count(self) -> int:
        """Return the number of actions."""

    @property
    @abstractmethod
    def default_steps(self) -> int:
        """Return the step limit where none is given."""

    @abstractmethod
    def names(self) -> list[tuple[str, str]]:
        """Return (site, option) of every action but 0."""

    def mask(self, episode: Episode | None) -> Booleans:
        """Return which actions are allowed now, `[actions]`; before an episode and after its end action 0 alone."""
        mask = np.zeros(self.count, dtype=bool)
        mask[0] = True
        if episode is not None and not episode.ended:
            self._allow(mask, episode)
        return mask

    @abstractmethod
    def _allow(self, mask: Booleans, episode: Episode) -> None:
        """Set the actions of a mask that an episode under way allows."""

    @abstractmethod
    def placed(self, episode: Episode, action: int) -> Placement:
        """Return the placement that an allowed action leads to."""

    def stops(self, action: int) -> bool:
        """Return whether an allowed action ends the episode by choice."""
        del action
        return False

    @abstractmethod
    def exhausted(self, episode: Episode) -> bool:
        """Return whether nothing is left to decide."""

    def current(self, episode: Episode) -> int | None:
        """Return the number of the site that is decided on, None where all are."""
        del episode
        return None

    @abstractmethod
    def reachable(self, episode: Episode, goals: Ends, steps: int) -> Booleans:
        """Return which placements `[n, sites]` an episode with the present blocks may still end with.

        Args:
            episode: under way.
            goals: feasible placements.
            steps: that are taken by then.
        """

    @abstractmethod
    def leading_to(self, episode: Episode, goals: Ends) -> Booleans:
        """Return which actions lead towards an end with one of the placements `[n, sites]`; `[actions]`."""

    def _site_names(self) -> list[str]:
        names = [site.name for site in self.blocks.sites]
        return names + [f"padding{k}" for k in range(self.max_sites - len(names))]

    def _option_names(self, site: int) -> list[str]:
        """Return the label of every option at a site; an option that does not exist there is a number."""
        labels = [option.label for option in self.blocks.per_site[site]] if site < self.sites else []
        return labels + [f"option {o}" for o in range(len(labels) + 1, self.options + 1)]


class AnyBlock(Actions):
    """Place any block at any site, in any order: 0 stops, `1 + site * options + option` places."""

    @property
    def count(self) -> int:
        """Return the number of actions."""
        return 1 + self.max_sites * self.options

    @property
    def default_steps(self) -> int:
        """Return two steps a site, and one to stop."""
        return 2 * self.sites + 1

    def names(self) -> list[tuple[str, str]]:
        """Return (site, option) of every action but stop."""
        return [(site, option) for s, site in enumerate(self._site_names()) for option in self._option_names(s)]

    def _allow(self, mask: Booleans, episode: Episode) -> None:
        allowed = episode.affordable[:, 1:]
        mask[1:].reshape(self.max_sites, self.options)[: len(allowed)] = allowed

    def placed(self, episode: Episode, action: int) -> Placement:
        """Return the placement with one more block; the present one for stop."""
        if action == 0:
            return episode.placement
        site, option = divmod(action - 1, self.options)
        return (*episode.placement[:site], option + 1, *episode.placement[site + 1 :])

    def stops(self, action: int) -> bool:
        """Return whether the action is 0."""
        return action == 0

    def exhausted(self, episode: Episode) -> bool:
        """Return whether nothing more can be placed."""
        return not episode.affordable[:, 1:].any()

    def reachable(self, episode: Episode, goals: Ends, steps: int) -> Booleans:
        """Return which placements add blocks to the present ones, no more than there are steps left."""
        placed = np.array(episode.placement)
        kept = ((placed == 0) | (goals == placed)).all(axis=1)
        return kept & (((goals > 0) & (placed == 0)).sum(axis=1) <= self.max_steps - steps)

    def leading_to(self, episode: Episode, goals: Ends) -> Booleans:
        """Return stop where a placement is the present one, and the blocks that one of them still needs."""
        ends = goals[self.reachable(episode, goals, episode.steps)]
        missing = (ends > 0) & (np.array(episode.placement) == 0)
        blocks = np.zeros((self.max_sites, self.options), dtype=bool)
        rows, sites = np.nonzero(missing)
        blocks[sites, ends[rows, sites] - 1] = True
        stop = (~missing.any(axis=1)).any()
        return np.concatenate([[stop], blocks.reshape(-1)])


class SiteBySite(Actions):
    """Decide on one site after the other, in call order: 0 places nothing there, `o` places option o."""

    penalised = False

    @property
    def count(self) -> int:
        """Return the number of actions."""
        return 1 + self.options

    @property
    def default_steps(self) -> int:
        """Return one step a site."""
        return self.sites

    def names(self) -> list[tuple[str, str]]:
        """Return (site, option) of every action but "none" at the first site."""
        return [(self._site_names()[0], option) for option in self._option_names(0)]

    def _allow(self, mask: Booleans, episode: Episode) -> None:
        if episode.steps < self.sites:
            mask[:] = episode.affordable[episode.steps]

    def placed(self, episode: Episode, action: int) -> Placement:
        """Return the placement with an option at the current site."""
        return (*episode.placement[: episode.steps], action, *episode.placement[episode.steps + 1 :])

    def exhausted(self, episode: Episode) -> bool:
        """Return whether all sites are decided on."""
        return episode.steps >= self.sites

    def current(self, episode: Episode) -> int | None:
        """Return the number of the site that is decided on, None where all are."""
        return episode.steps if episode.steps < self.sites else None

    def reachable(self, episode: Episode, goals: Ends, steps: int) -> Booleans:
        """Return which placements agree with what is decided, and place nothing beyond the step limit."""
        decided = (goals[:, :steps] == np.array(episode.placement)[:steps]).all(axis=1)
        return np.asarray(decided & (goals[:, max(steps, self.max_steps) :] == 0).all(axis=1))

    def leading_to(self, episode: Episode, goals: Ends) -> Booleans:
        """Return the options that one of the placements has at the current site."""
        options = np.zeros(self.count, dtype=bool)
        options[goals[self.reachable(episode, goals, episode.steps), episode.steps]] = True
        return options
