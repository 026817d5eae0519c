"""The rows beside a video, NAME.jsonl, .parquet or .csv: one a frame (contract C1), as other programs may write
them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.errors import InputError, MissingExtraError

SIDECAR_SUFFIXES = (".jsonl", ".parquet", ".csv")
MAX_COLUMNS, MAX_LETTERS = 256, 200
WORDS = {"": False, "false": False, "0": False, "no": False, "true": True, "1": True, "yes": True}


@dataclass(frozen=True)
class Sidecar:
    """actions: as recorded, None where unknown; reward (t,) float32, finite; terminated, truncated (t,) bool; state:
    columns (t,) float64, the first 256 that any row has, NaN where a row holds no number. repairs: what reading it
    took."""

    actions: list[Any]
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    state: dict[str, np.ndarray]
    repairs: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.actions)


def find_sidecar(video: Path) -> Path | None:
    return next(iter(find_sidecars(video)), None)


def find_sidecars(video: Path) -> list[Path]:
    """All of them: the first is the one that is read."""
    return [p for s in SIDECAR_SUFFIXES if (p := video.with_suffix(s)).is_file()]


def read_sidecar(path: Path) -> Sidecar:
    """Raises InputError with the file and row on malformed content. A reward that is not finite becomes 0."""
    read = {".jsonl": _read_jsonl, ".csv": _read_csv}.get(path.suffix, _read_parquet)
    rows = read(path)
    columns = dict.fromkeys(k for row in rows for k in row)
    if rows and "action" not in columns:
        raise InputError(f"{path}: no 'action' column; it has {sorted(map(str, columns))[:20]}")
    known = {"action", "reward", "terminated", "truncated"}
    first = [k for k in (rows[0] if rows else ()) if k not in known]
    if len(first) > MAX_COLUMNS or any(len(k) > MAX_LETTERS for k in first):
        raise InputError(
            f"{path}: over {MAX_COLUMNS} state columns, or a name of over {MAX_LETTERS} letters; remove some"
        )
    # a log of events may have a column for each kind of event, which few rows hold
    extra = [k for k in columns if k not in known and len(k) <= MAX_LETTERS][:MAX_COLUMNS]
    num_left_out = len(columns.keys() - known) - len(extra)

    def column(name: str, convert: Callable[[Any], Any]) -> list[Any]:
        out = []
        for i, row in enumerate(rows):
            try:
                out.append(convert(row.get(name)))
            except (TypeError, ValueError, OverflowError):
                shown = repr(row.get(name))
                shown = shown if len(shown) <= 60 else shown[:57] + "..."
                raise InputError(f"{path}, row {i}: {name} {shown} is not what it should be") from None
        return out

    with np.errstate(over="ignore"):
        reward = np.array(column("reward", lambda value: float(value or 0.0)), np.float32)
    is_odd = ~np.isfinite(reward)
    repairs = [f"{is_odd.sum()} rewards of {path.name} are not finite: taken for 0"] if is_odd.any() else []
    if num_left_out:
        kept = f"the first {MAX_COLUMNS} with names of up to {MAX_LETTERS} letters are kept"
        repairs.append(f"{num_left_out} state columns of {path.name} are left out: {kept}")
    return Sidecar(
        actions=[row.get("action") for row in rows],
        reward=np.where(is_odd, np.float32(0), reward),
        terminated=np.array(column("terminated", _flag), bool),
        truncated=np.array(column("truncated", _flag), bool),
        state={k: np.array([_number(row.get(k)) for row in rows], np.float64) for k in extra},
        repairs=tuple(repairs),
    )


def _flag(value: Any) -> bool:
    if value is None or value != value:  # a gap in a table is NaN
        return False
    if isinstance(value, str):
        if value.strip().lower() not in WORDS:
            raise ValueError(value)
        return WORDS[value.strip().lower()]
    return bool(float(value))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def read_text(path: Path) -> str:
    """UTF-8, with or without the mark that Windows puts before it."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def parse_json(text: str) -> Any:
    """ValueError with a short reason, whatever the text is."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    lines = [line.rstrip("\r") for line in read_text(path).split("\n")]  # splitlines() cuts inside of strings
    while lines and not lines[-1].strip():
        lines.pop()
    for i, line in enumerate(lines):
        try:
            row = parse_json(line)
        except ValueError as error:
            if i and i == len(lines) - 1:  # the recorder was killed inside its last row
                break
            raise InputError(f"{path}, row {i}: {str(error)[:100]}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {i}: expected an object, got {line[:60]!r}")
        rows.append(row)
    return rows


def _read_csv(path: Path) -> list[dict[str, Any]]:
    import csv

    def value(text: str | None) -> Any:
        if not isinstance(text, str) or text == "":
            return None
        try:
            return parse_json(text.lower() if text in ("True", "False") else text)
        except ValueError:
            return text

    table = csv.DictReader(read_text(path).splitlines(keepends=True))
    try:
        return [{k: value(v) for k, v in row.items() if k is not None} for row in table]
    except csv.Error as error:
        raise InputError(f"{path}, line {table.line_num}: {error}") from None


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError(f"reading {path.name}", "train") from None
    import pyarrow

    try:
        return parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a parquet file ({str(error).splitlines()[0][:150]})") from None
