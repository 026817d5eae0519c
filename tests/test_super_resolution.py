"""Super-resolution: the network, its data, its stage, and the larger frames of a world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import FPS, TOY_ACTIONS, move, toy_frame

from worldgen.data.cache import open_cache
from worldgen.data.dataset import split_episodes
from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.errors import InputError
from worldgen.training.enlarge import bicubic, nearest, scale2x, scale2x_twice

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

from worldgen.models.super_resolution import SuperResolution  # noqa: E402
from worldgen.models.tokenizer import Tokenizer, to_float  # noqa: E402
from worldgen.training.native_frames import best_scale, native_clips  # noqa: E402
from worldgen.training.palette import find_palette  # noqa: E402
from worldgen.training.super_resolution import COLOUR, SuperResolutionStage, super_resolution_loss  # noqa: E402


def record(path: Path, scale: int, num_frames: int = 20, seed: int = 0) -> None:
    """The toy at `scale` times 16x16"""
    rng, place = np.random.default_rng(seed), np.array([4, 6])
    with RecordingWriter(path, RecordingInfo(FPS, TOY_ACTIONS, "toy", seed=seed)) as writer:
        for _ in range(num_frames):
            writer.write(nearest(toy_frame(place, seed), scale))
            action = int(rng.integers(5))
            place = move(place, action)
            writer.act(action, 0.0, False)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    for i in range(3):
        record(folder / f"large{i}.mkv", 4, seed=i)
    record(folder / "small.mkv", 2, seed=3)
    return folder


def random_network(**sizes) -> SuperResolution:
    torch.manual_seed(0)
    network = SuperResolution(channels=8, num_layers=2, **sizes).eval()
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network


@pytest.mark.parametrize("scale", [2, 3, 4, 5])
def test_it_begins_as_bicubic_interpolation(scale: int):
    frames = torch.rand(2, 3, 16, 24) * 2 - 1
    network = SuperResolution(scale=scale, channels=8, num_layers=1)
    large = network(frames)
    plain = F.interpolate(frames, scale_factor=scale, mode="bicubic", align_corners=False)
    inside = (..., slice(3 * scale, -3 * scale), slice(3 * scale, -3 * scale))
    assert large.shape == (2, 3, 16 * scale, 24 * scale)
    torch.testing.assert_close(large[inside], plain[inside], atol=1e-5, rtol=0)


def test_folding_the_branches_changes_nothing_but_the_number_of_weights():
    network, frames = random_network(scale=3), torch.rand(1, 3, 8, 10)
    before, num_before = network(frames), sum(p.numel() for p in network.parameters())
    network.fold()
    torch.testing.assert_close(network(frames), before, atol=1e-5, rtol=1e-5)
    assert sum(p.numel() for p in network.parameters()) < 0.4 * num_before
    assert not network.config.has_branches


def test_a_folded_network_is_trained_further_from_where_it_was():
    folded, frames = random_network(scale=2), torch.rand(1, 3, 8, 8)
    folded.fold()
    again = SuperResolution(scale=2, channels=8, num_layers=2)
    again.load_folded(folded)
    torch.testing.assert_close(again(frames), folded(frames), atol=1e-5, rtol=1e-5)
    with pytest.raises(RuntimeError, match="kernels of"):
        SuperResolution(scale=3, channels=8, num_layers=2).load_folded(folded)


def test_ways_to_enlarge_without_learning():
    frame = np.zeros((6, 6, 3), np.uint8)
    frame[:, 3:] = 200
    assert bicubic(np.full((2, 4, 6, 3), 77, np.uint8), 3).shape == (2, 12, 18, 3)
    assert (bicubic(np.full((4, 4, 3), 77, np.uint8), 3) == 77).all()
    across = bicubic(frame, 4)[0, :, 0].astype(int)
    assert across[0] == 0 and across[-1] == 200 and (np.diff(across[8:16]) >= 0).all() and 0 < across[12] < 200
    ours = bicubic(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8), 2)
    assert ours.std() > 20
    assert (scale2x(frame) == nearest(frame, 2)).all()  # a straight edge stays one
    corner = np.zeros((3, 3, 3), np.uint8)
    corner[0, 1] = corner[1, 0] = 9
    assert (scale2x(corner)[2, 2] == 9).all() and (scale2x(corner)[3, 3] == 0).all()
    assert scale2x_twice(frame, 4).shape == (24, 24, 3) and scale2x_twice(frame, 3) is None


def test_native_clips_are_the_caches_frames_only_larger(recordings: Path, tmp_path: Path):
    cache = open_cache(recordings, height=16, width=16)
    train, _ = split_episodes(cache)
    said: list[str] = []
    assert best_scale(cache) == 4 and best_scale(cache, 3) == 3
    clips = native_clips(cache, recordings, train, 4, 12, 2, tmp_path, said.append)
    assert clips.frames.shape[1:] == (2, 64, 64, 3) and len(clips.rows) >= 8
    small = cache.frames[clips.rows[:, None] + np.arange(2)]
    assert np.abs(clips.frames[:, :, 2::4, 2::4].astype(int) - small).mean() < 3
    held = {cache.episode_names[int(np.searchsorted(cache.starts, r, side="right")) - 1] for r in clips.rows}
    assert "small.mkv" not in held
    again = native_clips(cache, recordings, train, 4, 12, 2, tmp_path, said.append)
    assert (again.frames == clips.frames).all() and sum("decoding" in line for line in said) == 1


def test_recordings_that_are_too_small_are_refused(recordings: Path):
    cache = open_cache(recordings, height=16, width=16)
    train, _ = split_episodes(cache)
    with pytest.raises(InputError, match="no recording is 128x128 or larger"):
        native_clips(cache, recordings, train, 8, 4, 2)


def test_the_loss_falls_and_the_result_beats_bicubic(recordings: Path):
    cache = open_cache(recordings, height=16, width=16)
    train, validation = split_episodes(cache)
    torch.manual_seed(0)
    tokenizer = Tokenizer(height=16, width=16, token_dim=8, channels=[8, 16]).eval()
    tokens = np.random.default_rng(0).normal(size=(cache.num_frames, tokenizer.num_tokens, 8)).astype(np.float16)
    clips = [native_clips(cache, recordings, part, 4, 12, 2, say=lambda text: None) for part in (train, train)]
    network = SuperResolution(scale=4, channels=16, num_layers=1)
    stage = SuperResolutionStage(network, tokenizer, cache, tokens, *clips, batch=4)
    before, _ = stage.validate(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for step in range(60):
        batch = stage.batch(np.random.default_rng(step))
        assert batch["small"].shape == (4, 2, 16, 16, 3) and batch["large"].shape == (4, 2, 64, 64, 3)
        loss, _ = stage.loss(network, batch, torch.Generator(), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after, strip = stage.validate(network)
    assert after["over_bicubic_area"] > max(0, before["over_bicubic_area"])
    assert strip.dtype == np.uint8 and strip.ndim == 3


# Games with few colours

COLOURS = [[0, 0, 0], [43, 51, 95], [210, 132, 65], [238, 238, 238]]


def pixel_art(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 2, 32, 32, 3) uint8: tiles of few colours, as they come out of a lossy file"""
    tiles = np.array(COLOURS)[rng.choice(4, size=(6, 8, 8), p=[0.3, 0.3, 0.3, 0.1])]
    rows = tiles[rng.integers(6, size=(count, 4, 4))]
    frames = rows.transpose(0, 1, 3, 2, 4, 5).reshape(count, 1, 32, 32, 3).repeat(2, 1)
    return np.clip(frames + rng.integers(-3, 4, size=frames.shape), 0, 255).astype(np.uint8)


def test_the_palette_of_pixel_art_is_found_and_shades_have_none():
    rng = np.random.default_rng(0)
    found = np.array(find_palette(pixel_art(50, rng)))
    assert len(found) == 4
    assert np.abs(found[np.lexsort(found.T)] - np.array(COLOURS)[np.lexsort(np.array(COLOURS).T)]).max() <= 3
    shades = np.linspace(0, 255, 96 * 96).reshape(1, 96, 96, 1).repeat(3, -1).astype(np.uint8)
    assert find_palette(shades) is None and find_palette(rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)) is None


def test_with_a_palette_it_begins_as_the_colour_nearest_to_bicubic_and_folds_into_the_same():
    torch.manual_seed(0)
    network = SuperResolution(scale=2, channels=8, num_layers=1, palette=COLOURS)
    frames = to_float(torch.from_numpy(pixel_art(2, np.random.default_rng(1))[:, 0, ::2, ::2]))
    plain = SuperResolution(scale=2, channels=8, num_layers=1)(frames)
    made, colours = network(frames), network.colours[None, :, :, None, None]
    assert made.shape == (2, 3, 32, 32) and made.min() >= -1 and made.max() <= 1
    likeliest = network.shuffle(network.logits(frames)).argmax(1)
    assert torch.equal(likeliest, (plain[:, None] - colours).square().sum(2).argmin(1))
    network.fold()
    torch.testing.assert_close(network(frames), made, atol=1e-5, rtol=1e-4)


def test_with_a_palette_it_learns_pixel_art_better_than_without():
    rng, errors = np.random.default_rng(2), {}
    large = pixel_art(24, rng)
    small = large.reshape(24, 2, 16, 2, 16, 2, 3).mean((3, 5)).round().astype(np.uint8)
    pair = to_float(torch.from_numpy(small)), to_float(torch.from_numpy(large))
    for palette in (None, find_palette(large)):
        torch.manual_seed(0)
        network = SuperResolution(scale=2, channels=16, num_layers=1, palette=palette)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(30):
            still, change, entropy, _ = super_resolution_loss(network, *pair)
            optimizer.zero_grad()
            (still + change + COLOUR * entropy).backward()
            optimizer.step()
        made = network(pair[0][:, 0])
        errors[palette is None] = float((made - pair[1][:, 0]).square().mean())
    assert errors[False] < 0.7 * errors[True]
