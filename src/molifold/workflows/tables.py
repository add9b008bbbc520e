"""Results as files: rows of a flat table as CSV or Parquet, everything as JSON, pictures as PNG."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molifold.workbench.guide import Panel


def write_rows(rows: Sequence[Any], path: Path, *, data: dict[str, Any]) -> Path:
    """Rows (dataclasses of one kind) as ``.csv`` or ``.parquet``, or ``data`` as ``.json``.

    Raises:
        ValueError: if the ending is another, or Parquet is asked for without pyarrow.
    """
    table = [asdict(row) for row in rows]
    if path.suffix == ".json":
        path.write_text(json.dumps(plain(data), indent=1) + "\n", encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(rows[0])])
            writer.writeheader()
            writer.writerows(table)
    elif path.suffix == ".parquet":
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise ValueError("Parquet needs pyarrow: pip install 'molifold[parquet]'") from error
        parquet.write_table(pa.Table.from_pylist(table), path)
    else:
        raise ValueError(f"path: got {path.name!r}, expected a name that ends in .csv, .parquet or .json")
    return path


def save_pictures(panels: Iterable[Panel], folder: Path) -> list[Path]:
    """Every picture as a PNG file, by its key."""
    folder.mkdir(parents=True, exist_ok=True)
    return [panel.picture.save(folder / f"{panel.key}.png", dpi=200) for panel in panels]


def plain(value: Any) -> Any:
    """Values as JSON allows them: what is no number is null.

    >>> plain({"a": (1.0, float("nan"))})
    {'a': [1.0, None]}
    """
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
