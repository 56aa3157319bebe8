"""The cases of the fuzz: drawn from schemas, from the tree of commands and from signatures, none from a list.

A case is made by its kind and number alone, so that a child process repeats any of them.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import gymnasium as gym
import typer
import yaml
from fuzz_values import SchemaDraws, hostile

import cimenv
from cimenv.cli import app, main
from cimenv.core.config import Frozen, read_yaml
from cimenv.tasks import MonteCarloEvaluator, TableEvaluator, Task, load_task

Run = Callable[[], None]
STEPS = 3
LEARNED = 64  # steps of an agent
ROOT = Path(__file__).parents[2]


def draws(kind: str, number: int) -> random.Random:
    """Return the generator of one case."""
    return random.Random(f"{kind}-{number}")


# Configurations


def every_model() -> list[type[Frozen]]:
    """Return every configuration class of the package, by importing all of it."""
    for found in pkgutil.walk_packages(cimenv.__path__, "cimenv."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    seen, new = set(), [Frozen]
    while new:
        new = [sub for model in new for sub in model.__subclasses__() if sub not in seen]
        seen |= {*new}
    return sorted((model for model in seen if model.__module__.startswith("cimenv.")), key=lambda model: model.__name__)


def a_model(rng: random.Random) -> tuple[str, Run]:
    """Make a configuration of any class."""
    model = rng.choice(every_model())
    schema = model.model_json_schema()
    while "$ref" in schema:
        schema = {"$defs": schema["$defs"], **schema["$defs"][schema["$ref"].rsplit("/", 1)[1]]}
    made = SchemaDraws(schema, rng, 0.3)
    fields = made.fields(schema, rng.randint(1, 4))
    if rng.random() < 0.2:
        way, fields = "model_validate", hostile(rng)
    else:
        way = rng.choice(["__call__", "model_validate", "with_dump"])

    def run() -> None:
        if way == "model_validate":
            model.model_validate(fields)
        elif way == "with_dump":
            model.model_validate_json(model(**fields).model_dump_json())
        else:
            model(**fields).canonical()

    return f"{model.__name__}.{way}({short(fields)})", run


def task_changes(rng: random.Random, count: int, wild: float = 0.35) -> dict[str, Any]:
    """Return some fields of a task, wild ones among them."""
    schema = Task.model_json_schema()
    return SchemaDraws(schema, rng, wild).fields(schema, count)


def a_task(rng: random.Random) -> tuple[str, Run]:
    """Change a named task and evaluate it."""
    base = rng.choice(["toy-4site", "toy-4site", "lstm-3", "mlp-4"])
    fields: dict[str, Any] = {"extends": base, **task_changes(rng, rng.randint(1, 2))}

    def run() -> None:
        evaluator = MonteCarloEvaluator(load_task(fields))
        evaluator.evaluate(evaluator.space.empty())

    return short(fields), run


# Files


def a_file(rng: random.Random) -> tuple[str, Run]:
    """Show a task that a YAML file holds, after accidents."""
    text = yaml.safe_dump({"extends": "toy-4site", **plain(task_changes(rng, 1, 0.15))}, allow_unicode=True)
    lines = text.splitlines(keepends=True)
    what = rng.choice(["as it is", "twice", "cut", "replaced", "noise", "anchors", "circle", "tag", "bytes", "deep"])
    where = rng.randrange(len(text))
    content = {
        "as it is": text,
        "twice": text + rng.choice(lines),
        "cut": text[:where],
        "replaced": text[:where] + rng.choice("[]{}:,&*!|>'\"%@`\t\n-?#=~\0") + text[where + 1 :],
        "noise": text + "".join(chr(rng.randrange(1, 0x3000)) for _ in range(20)),
        "anchors": text
        + "a0: &a0 [x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
        "circle": text + "budget: &b {weights: *b}\n",
        "tag": text + f"chips: !!{rng.choice(['int', 'float', 'timestamp', 'binary', 'python/name:os.system'])} 'x'\n",
        "bytes": text,
        "deep": text + "digital: " + "[" * 3_000 + "]" * 3_000 + "\n",
    }[what].encode("utf-8", "surrogatepass")
    if what == "bytes":
        content = bytes(rng.randrange(256) for _ in range(100))
    path = Path("fuzzed.yaml")

    def run() -> None:
        path.write_bytes(content)
        command(["show", str(path)])

    return f"{what}: {short(text)}", run


def plain(value: Any) -> Any:
    """Return a value as YAML can hold it."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items() if str(name).isprintable()}
    if isinstance(value, list | tuple) and not (value and value[0] is value):
        return [plain(part) for part in value[:50]]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and abs(value) > 10**4_000:
        return 10**400
    if isinstance(value, float):
        return float(value)
    return value if value is None or isinstance(value, bool | int) else str(type(value))


# Commands

Found = tuple[tuple[str, ...], Any]


def every_command() -> list[Found]:
    """Return every command with its path, from the tree that typer makes."""

    def below(path: tuple[str, ...], node: Any) -> Iterator[Found]:
        inner = getattr(node, "commands", None)
        if not inner:
            yield path, node
        for name in sorted(inner or {}):
            yield from below((*path, name), inner[name])

    return list(below((), typer.main.get_command(app)))


def a_command(rng: random.Random) -> tuple[str, Run]:
    """Run a command with arguments and options drawn from its own description."""
    path, described = rng.choice(every_command())
    types = get_type_hints(inspect.unwrap(described.callback))
    words = list(path)
    for parameter in described.params:
        wild = rng.random() < 0.25
        is_option = parameter.param_type_name == "option"
        if is_option and not parameter.required and not wild and rng.random() < 0.6:
            continue
        if is_option and parameter.name == "help":
            continue
        flag = bool(getattr(parameter, "is_flag", False))
        value = (
            [] if flag else [as_word(hostile(rng)) if wild else a_word(parameter, str(types.get(parameter.name)), rng)]
        )
        words += [rng.choice(parameter.opts), *value] if is_option else value
    if rng.random() < 0.1:
        words.insert(rng.randrange(len(words) + 1), as_word(hostile(rng)))
    return short(words), lambda: command(words)


def a_word(parameter: Any, kind: str, rng: random.Random) -> str:
    """Return a word that a parameter asks for, by what its placeholder and its type say."""
    told = str(parameter.metavar or "")
    if told == "KEY=VALUE":
        (name, value), *_ = task_changes(rng, 1).items()
        while isinstance(value, Mapping) and value:
            inner, value = rng.choice(sorted(value.items(), key=str))
            name = f"{name}.{inner}"
        return as_word(f"{name}={plain(value)}")
    if "|" in told:
        return rng.choice(told.split("|"))
    known = {
        "TASK": "toy-4site",
        "O,O,...": rng.choice(["0,0,0,0", "1,0,2,0", "1020"]),
        "PNG": rng.choice(["out.png", "missing/out.png", "."]),
        "CSV": rng.choice(["out.csv", "missing/out.csv", ".", "/dev/null"]),
        "FOLDER": rng.choice(["folder", "/dev/null", "/proc/x"]),
        "ADDRESS": "tcp://127.0.0.1:1",
    }
    if told in known:
        return known[told]
    if "int" in kind:
        return str(rng.randint(1, 3))
    return f"{rng.uniform(0.01, 0.5):.3f}" if "float" in kind else "greedy"


def as_word(value: Any) -> str:
    """Return a value as a shell would pass it."""
    try:
        text = str(value)
    except ValueError:  # too many digits
        text = "9" * 5_001
    return text.replace("\0", "0").encode("utf-8", "replace").decode()


class EndedError(Exception):
    """A command's exit code."""


def command(words: list[str]) -> None:
    """Run `cimenv WORDS`; raise its exit code."""
    sys.argv = ["cimenv", *words]
    try:
        main()
    except SystemExit as end:
        raise EndedError(end.code or 0) from None


# Environments


ENVIRONMENTS = [spec for spec in gym.registry.values() if str(spec.entry_point).startswith("cimenv.")]


def an_environment(rng: random.Random) -> tuple[str, Run]:
    """Make an environment with arguments from its signature, reset it and take steps."""
    spec = rng.choice(ENVIRONMENTS)
    vector = spec.vector_entry_point is not None and rng.random() < 0.5
    home, _, name = str(spec.vector_entry_point if vector else spec.entry_point).partition(":")
    kind = getattr(importlib.import_module(home), name)
    tabular = "table" in {name for base in kind.__mro__ for name in signature_of(base)}
    arguments: dict[str, Any] = (
        {"table": "toy-4site" if rng.random() < 0.1 else "lenet5-fashion-mini"} if tabular else {"task": "toy-4site"}
    )
    known = {name: p for base in kind.__mro__ for name, p in signature_of(base).items()}
    for name in rng.sample(sorted(known), rng.randint(0, 1)):
        arguments[name] = hostile(rng) if rng.random() < 0.4 else near(known[name], rng)
    seed = hostile(rng) if rng.random() < 0.1 else 0
    options = hostile(rng) if rng.random() < 0.1 else None
    actions = [hostile(rng) if rng.random() < 0.15 else None for _ in range(STEPS)]

    def run() -> None:
        env = kind(**arguments)
        env.reset(seed=seed, options=options)
        for action in actions:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample() if action is None else action)
            if not vector and (terminated or truncated):
                break

    return f"{kind.__name__}(**{short(arguments)}), {short((seed, options, actions))}", run


def signature_of(kind: type) -> dict[str, inspect.Parameter]:
    """Return the named parameters of a class's own constructor, if the package wrote it."""
    if not kind.__module__.startswith("cimenv.") or "__init__" not in vars(kind):
        return {}
    skipped = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(kind.__init__).parameters
    return {name: p for name, p in found.items() if p.kind not in skipped and name != "self"}


def near(parameter: inspect.Parameter, rng: random.Random) -> Any:
    """Return a value of the type of a parameter's default."""
    default = parameter.default
    if isinstance(default, bool):
        return rng.choice([True, False, 1, "yes"])
    if isinstance(default, int):
        return rng.choice([default, default + 1, -default, 10**9])
    if isinstance(default, float):
        return rng.choice([default, 10 * default, -default, 1e30])
    if isinstance(default, str):
        return rng.choice([default, default.upper(), f"{default}x"])
    return rng.choice([default, 1, 2, 7, "standard", ["lipschitz"], {}])


# Calls


def a_call(rng: random.Random) -> tuple[str, Run]:
    """Call a public function or class with good arguments and a wild one, names from its signature."""
    from fuzz_good import GOOD, everything

    name = rng.choice(sorted(everything()))
    target = everything()[name]
    parameters = inspect.signature(target).parameters
    arguments = {p: made() for p, made in GOOD.get(name, {}).items()}
    wild = rng.sample(sorted(set(parameters) - {"args", "kwargs"}), min(len(parameters), rng.randint(1, 2)))
    for p in wild:
        if parameters[p].kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= task_changes(rng, 1)
        elif parameters[p].kind is not inspect.Parameter.VAR_POSITIONAL:
            arguments[p] = hostile(rng)
    return f"{name}(**{short(arguments)})", lambda: consume(target(**arguments))


def consume(found: Any) -> None:
    """Take all of a generator."""
    if inspect.isgenerator(found):
        for _ in found:
            pass


def short(value: Any) -> str:
    """Return a value for a report."""
    try:
        text = repr(value)
    except ValueError:
        text = "<digits>"
    return text if len(text) < 400 else f"{text[:200]}...{text[-100:]}"


# Agents


def an_agent(rng: random.Random) -> tuple[str, Run]:
    """Train an agent on a table for some steps, with settings from its schema and its algorithm's signature."""
    from agents.algorithms import ALGORITHMS, new_model
    from agents.config import AgentConfig
    from agents.environment import make_env
    from agents.hyper_parameters import GIVEN

    path = rng.choice(sorted(ROOT.glob("configs/agents/*.yaml")))
    fields = read_yaml(path)
    if rng.random() < 0.5:
        fields |= SchemaDraws(AgentConfig.model_json_schema(), rng, 0.5).fields(AgentConfig.model_json_schema(), 1)
    known = inspect.signature(ALGORITHMS[AgentConfig.model_validate(read_yaml(path)).algorithm]).parameters
    changed = {
        name: hostile(rng) if rng.random() < 0.4 else near(known[name], rng)
        for name in rng.sample(sorted({*known} - {*GIVEN}), 1)
    }
    if isinstance(fields["hyper_parameters"], dict):
        fields["hyper_parameters"] = {**fields["hyper_parameters"], **changed}

    def run() -> None:
        config = AgentConfig.model_validate(fields)
        model = new_model(config, make_env(config, TableEvaluator("lenet5-fashion-mini")))
        model.learn(32, callback=lambda local, _: local["self"].num_timesteps < LEARNED)

    return f"{path.stem}: {short(changed)}, {short(fields)}", run


KINDS: Mapping[str, Callable[[random.Random], tuple[str, Run]]] = {
    "model": a_model,
    "task": a_task,
    "file": a_file,
    "command": a_command,
    "environment": an_environment,
    "call": a_call,
    "agent": an_agent,
}
