"""What tests of stores keep in them."""

import numpy as np

from cimenv.core.store import Record, Store

SMALL = Record({"correct": [1, 2]}, {"x": np.arange(40, dtype=np.int16)})
LARGE = Record({"n": 1}, {"w": np.arange(30_000, dtype=np.float32).reshape(100, 300)})
BANK, KEYS = '{"stage":"bank"}', [f'{{"stage":"evaluation","n":{n}}}' for n in range(30)]


def fill(root) -> None:
    store = Store(root)
    store.put_many([(key, SMALL) for key in KEYS])
    store.put(BANK, LARGE)
    store.close()


def same(record: Record | None, expected: Record) -> bool:
    return record is not None and all(np.array_equal(record.arrays[k], v) for k, v in expected.arrays.items())


def one_sentence(error) -> str:
    text = str(error)
    assert "\n" not in text and text.endswith(".") and ". " not in text.replace("...", "")
    return text
