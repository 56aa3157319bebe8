"""CiMCompensation-v0."""

from __future__ import annotations

from cimenv.envs.actions import AnyBlock
from cimenv.envs.base import PlacementEnv


class CompensationEnv(PlacementEnv):
    """Place digital compensation blocks behind the layers of a noisy crossbar-mapped network.

    ## Description
    A network (the backbone) runs on analog crossbars whose weights deviate on every chip. A compensation block behind
    a layer (a site) repairs part of the damage and costs weights, multiply-accumulates, energy, area and time. An
    episode starts without blocks; every action adds one block or stops. Each placement is evaluated by Monte Carlo
    over simulated chips and real validation images.

    ## Action Space
    `Discrete(1 + max_sites * options)`. Action 0 stops and is valid throughout an episode (only a wrapper,
    `EvaluationBudget`, may mask it); action `1 + site * options + option` places option `option + 1` of the task at
    `site`. `info["action_mask"]` (int8) and `action_masks()` (bool) say
    what is valid: filled sites, padding, options over the budget, options that cost more weights and more MACs than
    keeping the layer digital, and sites that are no candidates are masked. A masked action changes nothing, costs
    `invalid_penalty` and counts as a step; with `invalid_action="raise"` it raises InvalidActionError. So does,
    during an episode, what is no integer of the space, booleans and fractions among it; before `reset` and after the
    end every action raises EpisodeError. `env.unwrapped.action_names()` names them.

    ## Observation Space
    A 1-D `Box(-5, 5)`, float32, of fixed transforms. Per site: valid, one-hot type, depth, log weights, log MACs, log
    fan-in; log relative feature error (mean, spread over chips, maximum), signal-to-noise ratio, cosine to the clean
    feature, growth of the error into the next site, share of the worst-case damage; placed option, cost of each
    option, whether it is allowed, whether the site is current. Global: accuracy without blocks and of the reference,
    score, cost, cost weights, budgets and what is left of them, steps left, statistic, time, variation strength. With
    `fit_log=True` also what every block added to J while the bank was fitted, which costs no evaluation; with
    `features=[...]` also what is named there, within bounds of its own. `env.unwrapped.layout.names` names every
    number; `cimenv.envs.features` holds the transforms, a row each. Errors are those of the network with the blocks
    placed so far; with `feedback="reset"` they stay those of the empty placement.

    ## Rewards
    The objective is `J = score - cost_weight * cost` with `score = (acc - acc_none) / max(acc_ref - acc_none, 0.05)`,
    where acc_ref is the clean accuracy of the `standard` recipe on the same images. `reward="dense"` pays the change
    of J at every step, so that for gamma = 1 the return is J of the final placement minus penalties;
    `reward="terminal"` pays J at the end. With `feedback="reset"` the reward is terminal.

    ## Starting State
    No block. `reset(options={"recipe": name})` trains the backbone by another recipe, until the next reset that passes
    options. With `reset_hooks` one hook per episode is drawn by the episode's generator.

    ## Episode End
    Terminated by stop, by an action after which all sites are filled or nothing is affordable, or by the step limit
    `max_steps`. Never truncated by the environment itself.

    ## Information
    `action_mask`, `placement` (int8, -1 is padding), `accuracy` (the task's statistic), `accuracy_std`,
    `percentile_accuracy`, `clean_accuracy`, `reference_accuracy`, `objective`, `evaluated` (whether accuracy and
    objective are those of `placement`: false while `feedback="reset"` hides them), `cost` (share of each term,
    `scalar`, and the low and high ends of energy and area), `evaluations` (distinct placements requested this
    episode), `is_success` (accuracy at least 95 % of acc_ref), `invalid_action`, `task_key` (digest of the episode's
    task, which reset hooks change).

    ## Arguments
    * `task="lenet5-fashion-mini"`: a named task, a YAML file, or a mapping of fields.
    * `reset_hooks=()`: names of recipes, or callables `(task, generator) -> task`.
    * `reward="dense"`: or `"terminal"`.
    * `feedback="step"`: or `"reset"`: observations never see an evaluation of a block.
    * `fit_log=False`: whether observations tell what every block added to J while the bank was fitted.
    * `features=()`: names of further features, registered by `cimenv.register` or `package.module:FEATURE`.
    * `invalid_action="noop"`: or `"raise"`; `invalid_penalty=0.05`.
    * `max_sites=None`: room for more sites than the task has, to train across tasks.
    * `max_steps=None`: default `2 * sites + 1`.
    * `render_mode=None`: `"ansi"`, `"rgb_array"` or `"human"`.
    * `evaluator=None`: an Evaluator of your own (a table, a ledger); then `task` is its task.
    * `store=None`: folder of the cache; default the environment variable `CIMENV_CACHE`.

    ## Version History
    * v0: first version.
    """

    meaning = AnyBlock
