"""What was measured, one row per cell: as Parquet files, and grouped for statistics."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from watermark._cache import cached_property
from watermark.errors import MediaError, MissingExtraError
from watermark.evaluation import quality
from watermark.evaluation.rates import rate

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise MissingExtraError("pyarrow", "evaluation") from None

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

VERSION = 1
CELLS, NULL = "results.parquet", "null.parquet"
_COLUMNS = [
    ("scheme", pa.string()),
    ("split", pa.string()),
    ("item", pa.string()),
    ("digest", pa.string()),
    ("attack", pa.string()),
    ("log10_p", pa.float64()),
    ("score", pa.float64()),
    ("n", pa.int64()),
    ("exact", pa.bool_()),
    ("wrong", pa.bool_()),
    ("queries", pa.int64()),
    ("error", pa.string()),
]
_NULL_COLUMNS = [
    ("scheme", pa.string()),
    ("digest", pa.string()),
    ("first_key", pa.int64()),
    ("trials", pa.int64()),
    ("counts", pa.list_(pa.int64())),
    ("error", pa.string()),
]


@dataclass(frozen=True)
class Group:
    """The cells of one scheme, split and attack that were measured, in the order of items.

    Attributes:
        columns: By name.
        errors: How many could not be measured.
        reason: Why the first of these could not.
    """

    columns: Mapping[str, NDArray[Any]]
    errors: int = 0
    reason: str = ""

    def __len__(self) -> int:
        return len(self.columns["log10_p"])

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.columns[column]

    def detected(self, threshold: float, *, strictly: bool = False, level: float = 0.95) -> dict[str, Any]:
        """Share of p-values up to a threshold, both as log10."""
        found = self["log10_p"] < threshold if strictly else self["log10_p"] <= threshold
        return rate(int(found.sum()), len(self), level)

    @cached_property
    def degradation(self) -> float | None:
        """Mean over the items."""
        metrics = [name for name in quality.METRICS if name in self.columns]
        rows = zip(*(self[name].tolist() for name in metrics), strict=True)
        each = [quality.degradation(dict(zip(metrics, row, strict=True))) for row in rows] if metrics else []
        known = [value for value in each if math.isfinite(value)]
        return float(np.mean(known)) if known else None


NO_CELLS = Group({"log10_p": np.empty(0), "item": np.empty(0, object), "digest": np.empty(0, object)})
Groups: TypeAlias = "Mapping[tuple[str, str, str], Group]"
"""Cells by scheme, split and attack."""


@dataclass(frozen=True)
class Tables:
    """What was measured.

    Attributes:
        facts: Schemes, attacks, protocol and thresholds, as the Parquet file's metadata hold them.
        cells: One row per scheme, item and attack.
        null: One row per scheme, item and block of fresh keys.
    """

    facts: dict[str, Any]
    cells: pa.Table
    null: pa.Table

    def write(self, folder: Path) -> None:
        """Writes both files. Equal results give equal bytes."""
        for name, table in ((CELLS, self.cells), (NULL, self.null)):
            facts = {b"watermark": json.dumps(self.facts, sort_keys=True).encode()}
            part = folder / f".{name}"
            pq.write_table(table.replace_schema_metadata(facts), part, compression="zstd")
            part.replace(folder / name)

    @classmethod
    def read(cls, folder: Path) -> Tables:
        """Reads both files.

        Raises:
            MediaError: They are none of an evaluation, or of another version of the library.
            OSError: They cannot be read.
        """
        try:
            cells, null = pq.read_table(folder / CELLS), pq.read_table(folder / NULL)
            facts = json.loads((cells.schema.metadata or {}).get(b"watermark", b"null"))
        except (pa.ArrowInvalid, ValueError) as error:
            raise MediaError(f"{folder} holds no finished evaluation: {error}") from None
        if not isinstance(facts, dict) or facts.get("version") != VERSION:
            raise MediaError(f"{folder} holds no evaluation of this version of the library")
        return cls(facts, cells, null)


def cells_table(rows: Iterable[Mapping[str, Any]], metrics: Sequence[str]) -> pa.Table:
    """Rows as a table, in a fixed order."""
    schema = pa.schema([*_COLUMNS, *((metric, pa.float64()) for metric in metrics)])
    flat = [{**row, **(row.get("quality") or {})} for row in rows]
    flat.sort(key=lambda row: tuple(row[name] for name in ("scheme", "split", "attack", "digest")))
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in flat], schema)


def null_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The same for fresh keys."""
    schema = pa.schema(_NULL_COLUMNS)
    ordered = sorted(rows, key=lambda row: (row["scheme"], row["digest"], row["first_key"]))
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in ordered], schema)


def groups(table: pa.Table) -> Groups:
    """Cells by scheme, split and attack."""
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    names = ("scheme", "split", "attack")
    codes = [np.unique(columns[name], return_inverse=True) for name in names]
    joint = np.zeros(table.num_rows, np.int64)
    for values, code in codes:
        joint = joint * len(values) + code
    order = np.argsort(joint, kind="stable")
    groups = {}
    for rows in np.split(order, np.flatnonzero(np.diff(joint[order])) + 1) if len(order) else []:
        errors = columns["error"][rows]
        good = rows[[error is None for error in errors]]
        reason = next((error for error in errors if error is not None), "")
        key = tuple(str(columns[name][rows[0]]) for name in names)
        groups[key[0], key[1], key[2]] = Group({n: c[good] for n, c in columns.items()}, len(rows) - len(good), reason)
    return groups
