"""The store: every trained weight and every evaluation, once, on disk, safe against kills and races.

An SQLite index (WAL) holds keys, checksums and small payloads; larger payloads are safetensors files beside
it, each with its own key and checksum, so that a lost index is made again from them. A payload is written under a
temporary name and renamed; its checksum is looked at on every read; a damaged entry is reported and computed again. No
pickle is written or read.
"""

from cimenv.core.store.faults import CACHE_VARIABLE
from cimenv.core.store.folder import INLINE_BYTES
from cimenv.core.store.index import INDEX
from cimenv.core.store.record import Record, kind_of
from cimenv.core.store.store import Store, default_root

__all__ = ["CACHE_VARIABLE", "INDEX", "INLINE_BYTES", "Record", "Store", "default_root", "kind_of"]
