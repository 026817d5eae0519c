"""How far a frame's hidden state is from those of recorded frames: what a world knows that it does not know.

A Mahalanobis distance (Lee et al. 2018) of every token, averaged over the frame. Its statistics are computed when the
heads are trained and lie in WORLD/uncertainty.npz; a world without them gives no figure.

Letters: m tokens of a hidden state, c its width, r whitened directions.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.errors import InputError
from worldgen.files import write_bytes

FILE = "uncertainty.npz"
NETWORKS = ("tokenizer", "dynamics")  # whose hidden states these are
NUM_DIRECTIONS = 64
LEAST_SHARE = 1e-3  # of the largest spread: directions that hardly ever vary would make everything strange
USUAL = 0.99  # of recorded frames have an uncertainty below 1


@dataclass(frozen=True)
class Uncertainty:
    """mean (m, c), directions (c, r): whatever spreads little in recorded frames counts much. unit: the distance below
    which USUAL of the recorded frames lie. hashes: of the weights of NETWORKS."""

    mean: np.ndarray
    directions: np.ndarray
    unit: float
    hashes: Mapping[str, str]

    def of(self, hidden: Any, numpy: Callable[[Any], np.ndarray] = np.asarray) -> np.ndarray:
        """hidden (b, m, c), a torch.Tensor or what numpy() takes -> (b,) float32: 1 is as far as the farthest 1 % of
        recorded frames. Arrays frame by frame, so that no figure depends on the others of its batch."""
        if hasattr(hidden, "new_tensor"):  # where it lies: only the figures are brought over
            mean, directions = hidden.new_tensor(self.mean), hidden.new_tensor(self.directions)
            distances = ((hidden - mean) @ directions).square().mean((-2, -1)).sqrt().cpu().numpy()
        else:
            distances = np.array([self._distance(x) for x in numpy(hidden)], np.float32)
        return distances / np.float32(self.unit)

    def _distance(self, hidden: np.ndarray) -> np.float32:
        """hidden (m, c)"""
        white = (hidden - self.mean) @ self.directions
        return np.sqrt(np.mean(white * white))

    def save(self, folder: Path) -> None:
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {f"hash_{name}": self.hashes[name] for name in NETWORKS}
        arrays |= {"mean": self.mean, "directions": self.directions, "unit": self.unit}
        np.savez(buffer, **arrays)
        write_bytes(folder / FILE, buffer.getvalue())

    @classmethod
    def load(
        cls, folder: Path, hashes: Callable[[], Mapping[str, str]], hidden_shape: tuple[int, ...]
    ) -> Uncertainty | None:
        """None where there is none. hashes: gives those of the world's networks; hidden_shape (m, c): of its hidden
        state."""
        path = folder / FILE
        again = f"delete it, or compute it anew with `python -m worldgen.training.uncertainty DIR --world {folder}`"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                sources = {name: str(arrays[f"hash_{name}"]) for name in NETWORKS}
                found = cls(arrays["mean"], arrays["directions"], float(arrays["unit"]), sources)
        except FileNotFoundError:
            return None
        except Exception as error:  # zipfile, zlib and numpy each raise their own
            raise InputError(f"{path} is damaged ({error}): {again}") from None
        here = hashes()
        if stale := [name for name in NETWORKS if here.get(name) != found.hashes[name]]:
            raise InputError(f"{path} is of another {stale[0]} than this world's: {again}")
        is_sound = found.mean.shape == hidden_shape and found.directions.shape[:-1] == hidden_shape[-1:]
        if not is_sound or not np.isfinite(found.directions).all() or not 0 < found.unit < np.inf:
            raise InputError(f"{path} does not fit a hidden state of {hidden_shape}: {again}")
        return found


def fit_uncertainty(hidden: np.ndarray, held_out: np.ndarray, hashes: Mapping[str, str]) -> Uncertainty:
    """hidden (k, m, c) of recorded frames; held_out: of others, which only the unit is chosen on."""
    mean = hidden.mean(0, dtype=np.float64)
    x = (hidden - mean).reshape(-1, hidden.shape[-1])
    spread, vectors = np.linalg.eigh(x.T @ x / len(x))
    spread, vectors = spread[::-1][:NUM_DIRECTIONS], vectors[:, ::-1][:, :NUM_DIRECTIONS]
    directions = vectors / np.sqrt(spread + LEAST_SHARE * spread[0] + 1e-12)
    found = Uncertainty(mean.astype(np.float32), directions.astype(np.float32), 1.0, dict(hashes))
    unit = float(np.quantile(found.of(held_out.astype(np.float32)), USUAL))
    return Uncertainty(found.mean, found.directions, max(unit, 1e-6), found.hashes)
