"""The latent-action model: the future reaches the prediction through the code alone; every transition gets a label."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import SIDE  # noqa: E402

from worldgen.bundle import load_network, save_network  # noqa: E402
from worldgen.data.cache import open_cache  # noqa: E402
from worldgen.data.dataset import ClipSampler, all_segments  # noqa: E402
from worldgen.models.latent_action import LatentActionModel, transitions  # noqa: E402
from worldgen.models.tokenizer import to_float  # noqa: E402
from worldgen.training.code_scores import counts_of, nmi  # noqa: E402
from worldgen.training.common_moves import common_moves  # noqa: E402
from worldgen.training.latent_action import (  # noqa: E402
    Labels,
    LatentActionStage,
    balanced,
    label,
    latent_action_map,
    latents_of,
    perplexity,
)

HEIGHT, WIDTH = 16, 24


def make(num_codes: int = 8, is_new: bool = False, num_labels: int = 0) -> LatentActionModel:
    torch.manual_seed(0)
    network = LatentActionModel(height=HEIGHT, width=WIDTH, num_codes=num_codes, dim=16, num_labels=num_labels)
    if is_new:
        return network
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval().requires_grad_(False)


def walk(t: int, seed: int = 0) -> np.ndarray:
    """(t, h, w, 3) uint8: a square that walks at random over a pattern."""
    rng = np.random.default_rng(seed)
    floor = rng.integers(0, 80, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    frames, place = np.stack([floor] * t), np.array([6, 10])
    for frame in frames:
        y, x = place
        frame[y : y + 5, x : x + 5] = (250, 220, 30)
        place = np.clip(place + rng.integers(-3, 4, 2), 0, (HEIGHT - 5, WIDTH - 5))
    return frames


def clip(b: int = 2, t: int = 6) -> torch.Tensor:
    """(b, t, 3, h, w) in [-1, 1]"""
    return to_float(torch.from_numpy(np.stack([walk(t, seed) for seed in range(b)])))


def test_shapes_are_what_the_signatures_say():
    network, frames = make(), clip()
    predicted, codes = network(frames)
    assert predicted.shape == (2, 5, 3, HEIGHT, WIDTH)
    assert codes.shape == (2, 5) and codes.dtype == torch.int64
    assert torch.equal(network.encode(frames), codes)
    latents = network.latents(frames)
    assert latents.shape == (2, 5, 8) and torch.equal(latents.argmax(-1), codes)
    assert (latents.amax(-1) == 0).all() and latents.min() < 0


def test_what_is_foretold_depends_on_the_future_only_through_the_code():
    """Pixels of frame 4 change the prediction of frame 4 where they change its code, and not otherwise."""
    network, frames = make(), clip()
    codes = network.encode(frames)
    before = network.decode(frames[:, :-1], codes)
    torch.testing.assert_close(network(frames)[0], before, atol=1e-5, rtol=0)
    changed = frames.clone()
    changed[:, 4] = -changed[:, 4]
    after = network.decode(changed[:, :-1], codes)  # the codes as they were
    torch.testing.assert_close(after[:, :4], before[:, :4], atol=1e-6, rtol=0)  # frames 1 .. 4
    assert (after[:, 4] - before[:, 4]).abs().max() > 1e-2  # frame 5 comes after the one that changed


def test_every_code_predicts_another_frame():
    network, frames = make(), clip(b=1, t=2)
    made = [network.decode(frames[:, :1], torch.tensor([[code]])) for code in range(8)]
    for i in range(8):
        for j in range(i):
            assert (made[i] - made[j]).abs().max() > 1e-3


def test_a_code_knows_its_transition_and_nothing_later():
    network, frames = make(), clip(t=8)
    latents = network.latents(frames)
    changed = frames.clone()
    changed[:, 4] = -changed[:, 4]
    moved = (network.latents(changed) - latents).abs().amax(dim=(0, 2))
    assert (moved[:3] < 1e-4).all()  # codes that lead to frames 1 .. 3
    assert (moved[3:7] > 1e-3).all()  # into frame 4, and while it is one of the last three


def test_a_sure_code_explains_what_moved_as_it_says_and_not_what_moved_otherwise():
    """Code 0 says that all comes from the left, code 1 that all comes from the right; three pixels a frame."""
    network = make(num_codes=2)
    network.take_moves(torch.tensor([[0, -6], [0, 6], *[[9, 9]] * 22]))
    for parameter in (network.predictors, network.biases):
        parameter.data.zero_()
    network.biases[0, 1] = network.biases[1, 2] = 20.0
    wide = to_float(torch.from_numpy(walk(1)))  # (1, 3, h, w), of noise
    right = torch.stack([wide.roll(3 * i, dims=-1) for i in range(4)], dim=1)
    assert network.encode(right).tolist() == [[0, 0, 0]]
    assert network.encode(right.flip(1)).tolist() == [[1, 1, 1]]
    made = network.decode(right[:, :-1], torch.zeros(1, 3, dtype=torch.int64))
    torch.testing.assert_close(made[..., 3:], right[:, 1:, ..., 3:], atol=1e-4, rtol=0)
    past, after = transitions(right)
    sure = network.evidence(past, after, torch.tensor([[5, 9, 14, 80]] * 3))[:, 0]
    torch.testing.assert_close(sure, torch.zeros(3), atol=1e-3, rtol=0)  # nothing was a surprise


def test_places_are_where_something_happens():
    network = make()
    network.register_to_config(num_places=20)
    frames = clip(b=1, t=4)
    frames[:] = frames[:, :1]
    frames[:, 3, :, 2:5, 2:6] = 1.0  # 12 pixels change
    past, after = transitions(frames)
    places = network.busy(past, after, network.order)
    assert places.shape == (3, 20)
    assert {y * WIDTH + x for y in range(2, 5) for x in range(2, 6)} <= set(places[2].tolist())
    assert len(set(places[0].tolist())) == 20


def test_saved_is_loaded(tmp_path: Path):
    network, frames = make(), clip()
    network.take_moves(torch.arange(48).view(24, 2) % 7)
    save_network(network, tmp_path, "latent_action")
    loaded = load_network(tmp_path, "latent_action").requires_grad_(False)
    for before, after in zip(network(frames), loaded(frames), strict=True):
        torch.testing.assert_close(after, before, atol=0, rtol=0)


def test_a_size_that_patches_do_not_cover_is_refused():
    with pytest.raises(ValueError, match="20x16 is not a multiple of 8"):
        LatentActionModel(height=16, width=20)


# Shares


def test_codes_share_the_transitions_alike_even_if_one_explains_all_best():
    torch.manual_seed(0)
    evidence = torch.randn(64, 4)
    evidence[:, 2] += 10
    shares = balanced(evidence)
    torch.testing.assert_close(shares.sum(1), torch.ones(64))
    assert shares.mean(0).min() > 0.15 and shares.mean(0).max() < 0.4
    assert evidence.softmax(1).mean(0).max() > 0.99
    # what a code explains better than others do falls to it
    evidence = 20 * torch.eye(4).repeat(16, 1)
    assert torch.equal(balanced(evidence).argmax(1), evidence.argmax(1))


def test_the_moves_of_a_game_are_found():
    """A small thing goes right by two and down by one, a wide floor comes from the right by three."""
    floor = np.random.default_rng(0).integers(0, 256, (8, 64, 3), dtype=np.uint8)
    clips = np.zeros((6, 3, 32, 32, 3), np.uint8)
    for b in range(6):
        for t in range(3):
            clips[b, t, 4 + b + t : 8 + b + t, 3 + 2 * t : 7 + 2 * t] = floor[:4, :4] // 2 + 100
            if b % 2:
                clips[b, t, 24:] = floor[:, b + 3 * t : b + 3 * t + 32]
    moves = common_moves(clips, 24)
    assert moves.shape == (24, 2) and len(np.unique(moves, axis=0)) == 24
    assert {(-2, -4), (0, 6)} <= {tuple(move) for move in moves[:4].tolist()}
    assert common_moves(np.zeros_like(clips), 24).shape == (24, 2)  # nothing moves


def test_perplexity_counts_the_codes_in_use():
    assert perplexity(torch.tensor([3, 3, 3])) == pytest.approx(1)
    assert perplexity(torch.tensor([[0, 1], [2, 5]])) == pytest.approx(4)


# Labels


def recordings(*lengths: int) -> SimpleNamespace:
    """What label() reads of a cache."""
    frames = np.concatenate([walk(t, seed) for seed, t in enumerate(lengths)])
    return SimpleNamespace(frames=frames, starts=np.concatenate([[0], np.cumsum(lengths)]))


def test_labels_are_the_codes_of_each_episode_and_null_at_its_end():
    network, cache = make(), recordings(1, 2, 3, 17, 40)
    actions = label(cache, network)
    null = latent_action_map(8).null()
    assert actions.shape == (len(cache.frames), 1) and actions.dtype == np.int64
    for first, last in zip(cache.starts[:-1], cache.starts[1:], strict=True):
        np.testing.assert_array_equal(actions[last - 1], null)
        if last - first > 1:
            codes = network.encode(to_float(torch.from_numpy(cache.frames[first:last]))[None])[0]
            np.testing.assert_array_equal(actions[first : last - 1, 0], codes.numpy())


def test_latents_do_not_depend_on_how_many_run_together():
    network, cache = make(), recordings(5, 40, 23)
    rows = np.array([0, 3, 5, 6, 43, 46, 66])
    alone, together = latents_of(cache, network, rows, batch=1), latents_of(cache, network, rows)
    np.testing.assert_allclose(alone, together, atol=1e-3)
    frames = to_float(torch.from_numpy(cache.frames[5:45]))[None]
    np.testing.assert_allclose(together[2:5], network.latents(frames)[0, [0, 1, 38]], atol=1e-3)


def test_latent_actions_lie_on_the_number_keys():
    actions = latent_action_map(8)
    assert actions.from_keys(["3"]) == 2
    assert actions.names[2] == "code 2"


# Training


class Clips:
    """A sampler of the same few clips, end to end in one cache."""

    length = 6

    def __init__(self, count: int):
        self.frames = np.stack([walk(6, seed) for seed in range(count)])

    def sample(self, rng: np.random.Generator, batch: int) -> SimpleNamespace:
        return self.at(self.draw(rng, batch))

    def draw(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        return 6 * rng.integers(len(self.frames), size=batch)

    def at(self, starts: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(frames=self.frames[starts // 6])

    def all_starts(self) -> np.ndarray:
        return 6 * np.arange(len(self.frames))

    def evenly(self, count: int) -> SimpleNamespace:
        return SimpleNamespace(frames=self.frames[:count])


def test_loss_falls_on_one_clip():
    network, clips = make(is_new=True).train(), Clips(1)
    stage = LatentActionStage(network, clips, clips, batch=2)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    rng, losses = np.random.default_rng(0), []
    for _ in range(40):
        loss, _ = stage.loss(network, stage.batch(rng), torch.Generator(), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


@pytest.mark.parametrize("count", [1, 5, 9])
def test_validation_makes_do_with_few_held_out_clips(count: int):
    stage = LatentActionStage(make(), Clips(count), Clips(count), batch=2)
    figures, sheet = stage.validate(stage.network)
    assert {"psnr", "copy_last_psnr", "psnr_of_wrong_code", "perplexity"} <= set(figures)
    assert sheet.dtype == np.uint8 and sheet.shape[-1] == 3


def test_codes_are_the_actions_of_a_game_that_they_never_saw_played(toy_recordings: Path):
    """A square that is pushed about by five actions over floors of several colours."""
    cache = open_cache(toy_recordings, height=SIDE, width=SIDE)
    clips = ClipSampler(cache, all_segments(cache), 5, with_sound=False)
    torch.manual_seed(0)
    network = LatentActionModel(height=SIDE, width=SIDE, dim=16, num_places=96)
    stage = LatentActionStage(network, clips, clips, batch=12)
    optimizer, rng = torch.optim.AdamW(network.parameters(), 2e-3), np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    for step in range(60):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (60 - step) / 20)
        loss, _ = stage.loss(network.train(), stage.batch(rng), generator, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    codes = label(cache, network.eval())[:, 0]
    is_known = codes < network.config.num_codes
    counts = counts_of(codes[is_known], cache.actions[is_known, 0], network.config.num_codes, 5)
    assert nmi(counts) > 0.4 and perplexity(torch.from_numpy(codes[is_known])) > 3


def test_a_few_labels_draw_the_codes_towards_them():
    """Three labelled frames, one of each kind: latents learn to tell the kinds apart."""
    network, clips = make(is_new=True, num_labels=3).train(), Clips(4)
    actions = np.full(24, -1)
    actions[[1, 8, 15]] = [0, 1, 2]
    stage = LatentActionStage(
        network, clips, clips, batch=6, labels=Labels(np.array([1, 8, 15]), actions, ("a", "b", "c"))
    )
    batch = stage.batch(np.random.default_rng(0))
    assert batch["labels"].shape == (6, 5) and set(batch["labels"].unique().tolist()) <= {-1, 0, 1, 2}
    seen = [stage.batch(np.random.default_rng(seed))["labels"] for seed in range(20)]
    assert set(torch.cat(seen).unique().tolist()) == {-1, 0, 1, 2}
    optimizer, rng, losses = torch.optim.Adam(network.parameters(), 3e-3), np.random.default_rng(0), []
    for _ in range(40):
        loss, figures = stage.loss(network, stage.batch(rng), torch.Generator(), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(figures["label_loss"].item())
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_codes_that_explain_nothing_are_dropped():
    network, clips = make(), Clips(4)
    clips.frames[:2] = clips.frames[:2, :1]  # nothing moves
    for parameter in (network.predictors, network.biases):
        parameter.data.zero_()
    network.biases[0, 0] = 90.0  # all stays; code 1: anything may happen; others: all turns black
    network.biases[2:, -4], network.biases[2:, -3:] = 90.0, -9.0
    stage = LatentActionStage(network, clips, clips, batch=2)
    used = network.encode(to_float(torch.from_numpy(clips.frames))).unique()
    assert used.tolist() == [0, 1]
    before = network.predictors[used].clone()
    stage.finish(network)
    assert network.config.num_codes == len(used)
    assert torch.equal(network.predictors, before)
    codes = network.encode(to_float(torch.from_numpy(clips.frames)))
    assert codes.unique().tolist() == list(range(len(used)))


def test_a_network_that_dropped_codes_is_saved_and_loaded(tmp_path: Path):
    network, frames = make(), clip()
    network.keep_codes(torch.tensor([1, 4, 6]))
    save_network(network, tmp_path, "latent_action")
    loaded = load_network(tmp_path, "latent_action")
    assert loaded.config.num_codes == 3 and torch.equal(loaded.encode(frames), network.encode(frames))
