"""FID and FVD, with networks that a user brings as TorchScript files. Without them nothing here is called so.

    worldgen eval WORLD --data DIR --fid-weights inception-2015-12-05.pt --fvd-weights i3d_torchscript.pt

FID (Heusel et al. 2017) is of InceptionV3, FVD (Unterthiner et al. 2018) of I3D. A file is called with frames
(n, 3, h, w) uint8, or with clips (n, 3, t, h, w) float32 of 0..255, and gives features (n, d) of any width. Where its
forward() has arguments named return_features, rescale or resize, as the files that StyleGAN publishes have, they are
set to True. Anything else is up to the file: these are the names, but only its network makes them the standard figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.errors import InputError, MissingExtraError
from worldgen.training.features import frechet_distance
from worldgen.training.replay import Replay
from worldgen.training.watch import OnProgress, unheard

if TYPE_CHECKING:
    import torch

CLIP = 16  # frames of a clip for FVD
BATCH = {"fid": 32, "fvd": 4}

KEYS = {
    "fid": "Frechet distance of generated frames to the recorded ones of the same clips, on the features of the file "
    "given as --fid-weights; FID if that is InceptionV3",
    "fid_codec": "the same of the recorded frames through the tokenizer alone",
    "fid_frames": "frames on each side; FID is usually taken over 50,000, and is larger for fewer",
    "fvd": "Frechet distance of generated clips of 16 frames to the recorded ones, on the features of the file given "
    "as --fvd-weights; FVD if that is I3D",
    "fvd_codec": "the same of the recorded clips through the tokenizer alone",
    "fvd_clips": "clips on each side",
    "fid_weights": "the file, by name",
    "fvd_weights": "the file, by name",
}


@dataclass(frozen=True)
class Encoders:
    """TorchScript files; None leaves the distance out."""

    fid: Path | None = None
    fvd: Path | None = None

    def __bool__(self) -> bool:
        return self.fid is not None or self.fvd is not None

    def check(self) -> None:
        """Raises InputError now, rather than after minutes, where a file cannot be used."""
        for flag, path in (("--fid-weights", self.fid), ("--fvd-weights", self.fvd)):
            if path is not None:
                _load(path, flag)

    def figures(self, played: Replay, on_frames: OnProgress = unheard) -> dict[str, Any]:
        """-> the keys of KEYS for the files there are; a distance is nan of less than two samples"""
        figures: dict[str, Any] = {}
        sides = {"real": played.real, "made": played.made, "codec": played.restored}
        jobs = [(name, path) for name, path in (("fid", self.fid), ("fvd", self.fvd)) if path is not None]
        total = len(jobs) * sum(x.shape[0] * x.shape[1] for x in sides.values())
        done = 0
        for name, path in jobs:
            network = _load(path, f"--{name}-weights")
            vectors = {}
            for side, frames in sides.items():
                samples = frames.reshape(-1, *frames.shape[2:]) if name == "fid" else _clips(frames)
                vectors[side] = _features(network, samples, name, path)
                done += frames.shape[0] * frames.shape[1]
                on_frames(done, total)
            figures |= {
                name: frechet_distance(vectors["made"], vectors["real"]),
                f"{name}_codec": frechet_distance(vectors["codec"], vectors["real"]),
                "fid_frames" if name == "fid" else "fvd_clips": len(vectors["real"]),
                f"{name}_weights": path.name,
            }
        return figures


def _clips(frames: np.ndarray) -> np.ndarray:
    """(b, t, h, w, 3) -> (n, CLIP, h, w, 3), one after the other; fewer frames each where there are no more"""
    b, t, *picture = frames.shape
    length = min(CLIP, t)
    count = t // length
    return frames[:, : count * length].reshape(b * count, length, *picture)


def _load(path: Path, flag: str) -> torch.jit.ScriptModule:
    try:
        import torch
    except ImportError:
        raise MissingExtraError(flag, "train") from None
    if not path.is_file():
        raise InputError(f"{flag} {path}: there is no such file")
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{flag} {path} is not a TorchScript file ({reason}): save it with torch.jit.save") from None


def _features(network: Any, samples: np.ndarray, name: str, path: Path) -> np.ndarray:
    """samples (n, h, w, 3), or of clips (n, t, h, w, 3), uint8 -> (n, d) float64"""
    import torch

    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    known = {argument.name for argument in network.forward.schema.arguments}
    options = {k: True for k in ("return_features", "rescale", "resize") if k in known}
    parts = []
    with torch.no_grad():
        for i in range(0, len(samples), BATCH[name]):
            x = torch.from_numpy(np.ascontiguousarray(samples[i : i + BATCH[name]])).to(device).movedim(-1, 1)
            try:
                out = network(x if name == "fid" else x.float(), **options)
            except (RuntimeError, torch.jit.Error) as error:
                reason = str(error).strip().splitlines()[-1]
                raise InputError(f"--{name}-weights {path} does not take {tuple(x.shape)} ({reason})") from None
            if not isinstance(out, torch.Tensor) or len(out) != len(x):
                raise InputError(f"--{name}-weights {path} gives no features (n, d)")
            parts.append(out.flatten(1).double().cpu().numpy())
    return np.concatenate(parts)
