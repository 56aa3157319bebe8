"""Train the default task afresh and write the read-only layer that ships: `python scripts/make_shipped.py`.

The layer holds backbones (the default recipe's and `standard`) and bank under the task's own keys, without thread count
and torch version, so that every machine finds them.
"""

import json
import shutil
import sqlite3
import tempfile

from cimenv.core.config import canonical
from cimenv.core.progress import bar
from cimenv.core.store import Store
from cimenv.tasks import Problem, load_task
from cimenv.tasks.keys import training_environment
from cimenv.tasks.problem import SHIPPED


def own_key(key: str, environment: dict[str, object]) -> str:
    """Return a training key without what depends on the machine."""
    return canonical({name: value for name, value in json.loads(key).items() if name not in environment})


def main() -> None:
    """Write the layer."""
    shutil.rmtree(SHIPPED, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        task, made = load_task("lenet5-fashion-mini"), Store(folder)
        Problem.build(task, made, bar)
        trained = made.keys()
        shipped, environment = Store(SHIPPED), training_environment(task)
        records = [(own_key(key, environment), made.get(key)) for key in trained]
        shipped.put_many((key, record) for key, record in records if record is not None)
        shipped.close()
    with sqlite3.connect(SHIPPED / "index.sqlite") as index:  # readable from a folder that cannot be written
        index.execute("PRAGMA journal_mode=DELETE")
    shutil.rmtree(SHIPPED / "locks", ignore_errors=True)
    print(
        f"{sum(path.stat().st_size for path in SHIPPED.rglob('*') if path.is_file()) / 1024:.0f} KiB in {SHIPPED.name}/"
    )


if __name__ == "__main__":
    main()
