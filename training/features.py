"""Frames as vectors, and distances between sets of them: without downloads, in numpy.

The feature is fixed and in-domain: of each frame the mean colour of an 8x8 grid of cells, and the mean size of the
brightness gradient across and down in a 4x4 grid, at full and at half resolution (a blur lowers it, noise raises it).
Principal components of the real frames make DIM numbers of that; one more says how far a frame lies from all of them.
Distances between such vectors are "in-domain": they compare worlds of one game with each other and with the game
itself, and are neither FID nor KID nor FVD, which are distances between features of other networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DIM = 32  # principal components
GRID, EDGE_GRID = 8, 4  # cells a side
EDGE_WEIGHT = 5.0  # gradients are smaller numbers than colours: about as much of the whole as they
CHUNK = 256  # frames at a time


def describe(frames: np.ndarray) -> np.ndarray:
    """frames (..., h, w, 3) uint8 -> (..., f) float32: what Embedding takes"""
    lead, picture = frames.shape[:-3], frames.shape[-3:]
    flat = frames.reshape(-1, *picture)
    rows = [_describe(flat[i : i + CHUNK].astype(np.float32) / 255) for i in range(0, len(flat), CHUNK)]
    return np.concatenate(rows).reshape(*lead, -1)


def describe_changes(frames: np.ndarray) -> np.ndarray:
    """frames (..., t, h, w, 3) uint8 -> (..., t - 1, f) float32: of the difference of each frame to the one before"""
    lead, t, picture = frames.shape[:-4], frames.shape[-4], frames.shape[-3:]
    if t < 2:
        return np.zeros((*lead, 0, 0), np.float32)
    clips = frames.reshape(-1, t, *picture)
    rows = [_describe(np.diff(clip.astype(np.float32) / 255, axis=0)) for clip in clips]
    return np.stack(rows).reshape(*lead, t - 1, -1)


def _describe(x: np.ndarray) -> np.ndarray:
    """x (n, h, w, 3) float32 -> (n, f)"""
    n, h, w, _ = x.shape
    colour = _pooled(x, GRID).reshape(n, -1)
    bright = x.mean(-1)
    half = bright[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2).mean((2, 4))
    edges = [
        _pooled(np.abs(np.diff(scale, axis=axis))[..., None], EDGE_GRID).reshape(n, -1)
        for scale in (bright, half)
        for axis in (1, 2)
    ]
    return np.concatenate([colour, *(EDGE_WEIGHT * edge for edge in edges)], axis=1)


def _pooled(x: np.ndarray, cells: int) -> np.ndarray:
    """x (n, h, w, c) -> (n, cells, cells, c), fewer where there are fewer pixels: the mean of each cell"""
    for axis in (1, 2):
        size = x.shape[axis]
        edges = np.linspace(0, size, min(cells, size) + 1).astype(int)
        shape = [1] * x.ndim
        shape[axis] = -1
        x = np.add.reduceat(x, edges[:-1], axis=axis) / np.diff(edges).astype(np.float32).reshape(shape)
    return x


@dataclass(frozen=True)
class Embedding:
    """Vectors of real things -> principal components, and the distance from them. Fitted on the real side alone.

    mean (f,); basis (f, d); centre: mean distance from the basis; size: root mean square of a real vector.
    """

    mean: np.ndarray
    basis: np.ndarray
    centre: float
    size: float

    @classmethod
    def fit(cls, vectors: np.ndarray) -> Embedding:
        """vectors (n, f) of describe(), or several of them side by side"""
        x = vectors.astype(np.float64)
        mean = x.mean(0)
        x = x - mean
        values, axes = np.linalg.eigh(x.T @ x / len(x))
        num = int(min(DIM, (values > 1e-6 * max(values[-1], 1e-12)).sum(), len(x) - 1))
        basis = axes[:, ::-1][:, : max(1, num)]
        bare = cls(mean, basis, 0.0, 1.0)(vectors)
        centre = float(bare[:, -1].mean())
        bare[:, -1] -= centre
        return cls(mean, basis, centre, float(max(np.sqrt(np.square(bare).sum(1).mean()), 1e-6)))

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """(..., f) -> (..., d + 1), of root mean square length 1 for the real ones"""
        x = vectors.astype(np.float64) - self.mean
        along = x @ self.basis
        rest = np.sqrt(np.maximum(np.square(x).sum(-1) - np.square(along).sum(-1), 0))
        return np.concatenate([along, rest[..., None] - self.centre], axis=-1) / self.size


KINDS = 16
CLEAR = 4.0  # how much less a kind is likely whose centre is further by as much as real frames are from their own: e^-4


@dataclass(frozen=True)
class Kinds:
    """What kinds of frames there are: clusters (k-means) of the vectors of real ones.

    centres (k, d); spread: mean squared distance of a real vector to its own centre.
    """

    centres: np.ndarray
    spread: float

    @classmethod
    def fit(cls, vectors: np.ndarray, rng: np.random.Generator, rounds: int = 20) -> Kinds:
        """vectors (n, d) of Embedding"""
        count = min(KINDS, len(vectors))
        centres = vectors[rng.integers(len(vectors))][None]
        while len(centres) < count:  # k-means++: far from those that are there
            far = _squares(vectors, centres).min(1)
            if not far.sum() > 0:
                break
            centres = np.concatenate([centres, vectors[[rng.choice(len(vectors), p=far / far.sum())]]])
        for _ in range(rounds):
            nearest = _squares(vectors, centres).argmin(1)
            centres = np.stack(
                [vectors[nearest == i].mean(0) if (nearest == i).any() else c for i, c in enumerate(centres)]
            )
        return cls(centres, float(max(_squares(vectors, centres).min(1).mean(), 1e-9)))

    def score(self, vectors: np.ndarray) -> float:
        """vectors (n, d) -> exp of the mean Kullback-Leibler divergence of the kind of each from the mix of all, as in
        the Inception Score (Salimans et al. 2016): from 1 to the number of kinds."""
        # a real frame is mostly of the kind whose centre is nearest; one that is far from all is of none clearly
        squares = _squares(vectors, self.centres)
        logits = -CLEAR * squares / np.maximum(self.spread, squares.min(1, keepdims=True))
        kind = np.exp(logits - logits.max(1, keepdims=True))
        kind /= kind.sum(1, keepdims=True)
        mix = kind.mean(0)
        return float(np.exp((kind * np.log(np.maximum(kind, 1e-12) / np.maximum(mix, 1e-12))).sum(1).mean()))


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a (n, d), b (k, d) -> squared distances (n, k)"""
    return np.maximum(np.square(a).sum(1)[:, None] - 2 * a @ b.T + np.square(b).sum(1), 0)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """a (n, d), b (m, d) -> squared maximum mean discrepancy under the kernel (x y + 1)^3, times 1000: as in KID
    (Binkowski et al. 2018), unbiased, so about 0 (and at times below) for samples of one distribution."""
    n, m = len(a), len(b)
    if min(n, m) < 2:
        return float("nan")
    within_a, within_b = (a @ a.T + 1) ** 3, (b @ b.T + 1) ** 3
    across = (a @ b.T + 1) ** 3
    inside_a = (within_a.sum() - np.trace(within_a)) / (n * (n - 1))
    inside_b = (within_b.sum() - np.trace(within_b)) / (m * (m - 1))
    return float(1000 * (inside_a + inside_b - 2 * across.mean()))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """a (n, d), b (m, d) -> squared Frechet distance of the normal distributions with their means and covariances."""
    if min(len(a), len(b)) < 2:
        return float("nan")
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, axes = np.linalg.eigh(np.atleast_2d(cov_a))
    root = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
    middle = np.linalg.eigvalsh(root @ np.atleast_2d(cov_b) @ root)
    mixed = 2 * np.sqrt(np.maximum(middle, 0)).sum()
    return float(max(0.0, np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - mixed))
