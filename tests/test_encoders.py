"""FID and FVD on a user's networks: lower for frames that are more like the real ones, and nothing without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worldgen.errors import InputError
from worldgen.training import encoders
from worldgen.training.encoders import Encoders
from worldgen.training.replay import Replay

torch = pytest.importorskip("torch")


class Pictures(torch.nn.Module):
    """Takes what InceptionV3 takes, with its argument's name."""

    def forward(self, x, return_features: bool = False):
        assert x.dtype == torch.uint8 and x.dim() == 4 and x.shape[1] == 3 and return_features
        return torch.nn.functional.adaptive_avg_pool2d(x.float() / 255, 2).flatten(1)


class Clips(torch.nn.Module):
    """Takes what I3D takes, with its arguments' names."""

    def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
        assert x.dtype == torch.float32 and x.dim() == 5 and x.shape[1] == 3
        assert rescale and resize and return_features and float(x.max()) > 1
        return (x[:, :, 1:] - x[:, :, :-1]).abs().mean(dim=(3, 4)).flatten(1)[:, :4]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    paths = folder / "inception.pt", folder / "i3d.pt"
    for network, path in zip((Pictures(), Clips()), paths, strict=True):
        torch.jit.script(network).save(str(path))
    return paths


@pytest.fixture
def played() -> Replay:
    rng = np.random.default_rng(0)
    floor = rng.integers(60, 200, (6, 1, 16, 16, 3), dtype=np.uint8)
    real = np.broadcast_to(floor, (6, 32, 16, 16, 3)).copy()
    for t in range(32):
        real[:, t, 4:8, t % 12 : t % 12 + 4] = 230
    return Replay(
        last=real[:, 0], shown=real[:, 0], real=real, made=real, restored=real, restored_last=real[:, 0],
        actions=np.zeros((6, 32, 1), np.int64), episode=np.arange(6),
    )  # fmt: skip


def test_true_frames_are_at_no_distance_and_others_are(files, played):
    fid, fvd = files
    same = Encoders(fid, fvd).figures(played)
    assert set(same) == set(encoders.KEYS) and same["fid_weights"] == "inception.pt"
    assert same["fid"] == pytest.approx(0, abs=1e-6) and same["fvd"] == pytest.approx(0, abs=1e-6)
    assert same["fid_frames"] == 6 * 32 and same["fvd_clips"] == 6 * 2
    dark = Encoders(fid, fvd).figures(replace(played, made=played.real // 2))
    assert dark["fid"] > 0.05 and dark["fid_codec"] == pytest.approx(0, abs=1e-6)


def test_a_frozen_picture_is_far_by_clips(files, played):
    frozen = replace(played, made=np.broadcast_to(played.last[:, None], played.real.shape))
    assert Encoders(fvd=files[1]).figures(frozen)["fvd"] > 1
    assert "fid" not in Encoders(fvd=files[1]).figures(frozen)


def test_files_that_cannot_be_used_are_named_before_anything_runs(tmp_path, files, played):
    assert not Encoders() and Encoders(fid=files[0])
    with pytest.raises(InputError, match=r"--fid-weights .*nowhere.pt: there is no such file"):
        Encoders(fid=tmp_path / "nowhere.pt").check()
    (tmp_path / "text.pt").write_text("not a network")
    with pytest.raises(InputError, match="not a TorchScript file"):
        Encoders(fvd=tmp_path / "text.pt").check()
    with pytest.raises(InputError, match="does not take"):
        Encoders(fid=files[1]).figures(played)
