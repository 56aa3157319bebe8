"""`cimenv cache`: the folder of trained weights and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cimenv.cli.arguments import AsJson
from cimenv.cli.output import print_json, print_tables, table_of

if TYPE_CHECKING:
    from cimenv.core.store import Store

HELP = """Look at, check or empty the folder of trained weights and evaluations.

The environment variable CIMENV_CACHE names the folder. Read-only layers, such as
the weights that ship with the package, lie under it: they are looked into, and
never changed.
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=HELP, short_help="Look at the cache, or empty it.")


@app.command()
def info(as_json: AsJson = False) -> None:
    """Show the folder, its entries and their bytes by kind."""
    summary = _store().info()
    if as_json:
        print_json(summary)
        return
    for folder, note in ((summary, ""), *((layer, " (read-only layer)") for layer in summary["layers"])):
        print(f"{folder['folder']}{note}")
        table = table_of("kind", "entries", "size", right=("entries", "size"))
        for kind, part in [*folder["kinds"].items(), ("all", folder)]:
            table.add_row(kind, f"{part['entries']:,}", _size(part["bytes"]))
        print_tables(table)


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Check every entry against its checksum.

    A damaged entry is dropped, and made again when it is next needed; a damaged
    index is made again from the entries in files and what of it can be read. In a
    read-only layer, damage stays. Exit code 0: all are sound; 1: something was
    damaged.
    """
    import os

    from cimenv.core.config import digest
    from cimenv.core.progress import bar
    from cimenv.core.store import INDEX, kind_of

    store = _store()
    damaged = [(store.root, key, os.access(store.root, os.W_OK)) for key in store.verify(bar)]
    damaged += [(layer, key, False) for layer, key in store.verify_layers(bar)]
    rows = [
        {
            "folder": str(folder),
            "kind": "index" if key == INDEX else kind_of(key),
            "name": key if key == INDEX else digest(key),
            "repaired": repaired,
        }
        for folder, key, repaired in damaged
    ]
    info = store.info()
    entries = info["entries"] + sum(layer["entries"] for layer in info["layers"])
    entries += sum(key != INDEX and repaired for _, key, repaired in damaged)  # those that were dropped
    if as_json:
        print_json({"folder": str(store.root), "entries": entries, "damaged": rows})
    else:
        for row in rows:
            print(f"damaged: {row['kind']} {row['name']} in {row['folder']} ({_remedy(row, store)})")
        print(f"{len(rows)} of {entries:,} entries were damaged." if rows else f"All {entries:,} entries are sound.")
    if rows:
        raise typer.Exit(1)


def _remedy(row: dict[str, Any], store: Store) -> str:
    if row["repaired"]:
        return "made again" if row["kind"] == "index" else "dropped; it is made again when needed"
    return "read-only; " + (
        "it is made again when needed" if row["folder"] == str(store.root) else "install cimenv again"
    )


@app.command()
def clear(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Remove every entry, trained weights included.

    Asks first, unless --yes. Read-only layers stay.
    """
    store = _store()
    if not store.root.exists():
        print(f"There is no folder {store.root}: nothing to remove.")
        return
    summary = store.info()
    what = f"{summary['entries']:,} entries ({_size(summary['bytes'])}, trained weights included) from {store.root}"
    if not yes and not typer.confirm(f"Remove {what}?"):
        print("Nothing was removed.")
        raise typer.Exit(1)
    store.clear()
    print(f"Removed {what}.")


def _store() -> Store:
    from cimenv.tasks import default_store

    return default_store()


def _size(count: float) -> str:
    from rich.filesize import decimal

    return decimal(int(count))
