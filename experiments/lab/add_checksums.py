"""Write files of earlier versions as this one does: `python -m experiments.lab.add_checksums [--weights] [FILE ...]`.

Without files: every enumerated table that ships or lies in results/, and every CSV file and journal there. Nothing is
trained or evaluated and no number changes; a file of this version, with checksums, stays as it is. A table also gets
the sites of its network, from shapes alone, so that reading it needs none, and the names that fields have now.

With `--weights` every table is written anew with the digest of the weights that ship for it, as this version of the
package computes it; tables whose data are not on this machine (folder CIMENV_DATA) are named and left alone. With
`--trust` a table may name a backbone or data set of your own, which is imported.
"""

from __future__ import annotations

import lzma
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

from cimenv.core.checked_rows import with_checksums
from cimenv.core.errors import CimenvError, DataError
from cimenv.core.store import Store
from cimenv.tasks.evaluators.table import SHIPPED_TABLES, SUFFIX
from cimenv.tasks.files.enumeration_file import Enumeration, read_enumeration
from cimenv.tasks.files.enumeration_file import with_checksums as whole_table
from cimenv.tasks.files.header import MAGIC, UNCHECKED_VERSION
from cimenv.tasks.problem import SHIPPED, Problem
from cimenv.tasks.space import PlacementSpace
from experiments.lab.folders import ROOT
from experiments.lab.journal import sign_journal
from experiments.lab.table_files import LARGE_TABLES


def every_file() -> list[Path]:
    """Return the files of the repository that rows are read from again."""
    tables = [path for folder in (SHIPPED_TABLES, LARGE_TABLES) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    results = ROOT / "results"
    return [*tables, *sorted(results.rglob("*.csv")), *sorted(results.rglob("jobs.jsonl"))]


def renewed(path: Path, weights: bool, trust: bool) -> bool:
    """Write a file with checksums; return whether it changed."""
    if path.suffix == ".jsonl":
        return sign_journal(path)
    packed = path.suffix == ".xz"
    if not packed and not path.read_bytes().startswith(MAGIC.encode()):
        return with_checksums(path)
    before = lzma.decompress(path.read_bytes()) if packed else path.read_bytes()
    enumeration = read_enumeration(path, trust)
    if enumeration.header.version == UNCHECKED_VERSION or weights:  # sites as this version finds them
        enumeration = replace(enumeration, space=PlacementSpace(enumeration.header.task))
    text = whole_table(_with_weights(enumeration) if weights else enumeration).encode()
    if text == before:
        return False
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME) if packed else text)
    part.replace(path)
    return True


def _with_weights(enumeration: Enumeration) -> Enumeration:
    """Return a table with the digest of what ships for its task."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, layers=(SHIPPED,))
        digest = Problem.build(enumeration.header.task, store).weights_digest
        if store.keys():
            raise DataError(
                f"{enumeration.path}: what is behind it does not ship, and was trained anew; it is left alone."
            )
    header = enumeration.header.model_copy(update={"weights_digest": digest})
    return replace(enumeration, header=header)


def main(arguments: list[str]) -> int:
    """Convert the given files; return 2 where one could not be converted."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(__doc__)
        return 0
    weights, trust = "--weights" in arguments, "--trust" in arguments
    named = [Path(argument) for argument in arguments if not argument.startswith("--")]
    failed = 0
    warnings.simplefilter("ignore")  # that they have no checksums is why we are here
    for path in named or every_file():
        try:
            print(f"{path}: {'written' if renewed(path, weights, trust) else 'as it was'}")
        except (CimenvError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed += 1
    return 2 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
