"""The latent-action model: the future reaches the prediction through the code alone; every transition gets a label."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from worldgen.bundle import load_network, save_network  # noqa: E402
from worldgen.models.latent_action import LatentActionModel  # noqa: E402
from worldgen.models.quantize import VectorQuantizer  # noqa: E402
from worldgen.models.tokenizer import to_float  # noqa: E402
from worldgen.training.latent_action import LatentActionStage, label, latent_action_map, perplexity  # noqa: E402

HEIGHT, WIDTH = 16, 24


def make(num_codes: int = 8, is_new: bool = False) -> LatentActionModel:
    torch.manual_seed(0)
    network = LatentActionModel(
        height=HEIGHT, width=WIDTH, num_codes=num_codes, dim=32, num_layers=2, num_heads=2, context=16
    )
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
    predicted, codes, loss = network(frames)
    assert predicted.shape == (2, 5, 3, HEIGHT, WIDTH)
    assert codes.shape == (2, 5) and codes.dtype == torch.int64
    assert loss.shape == () and loss.isfinite()
    assert torch.equal(network.encode(frames), codes)
    assert codes.min() >= 0 and codes.max() < 8


def test_the_decoder_sees_the_next_frame_only_through_its_code():
    """Pixels of frame 4 change the prediction of frame 4 where they change its code, and not otherwise."""
    network, frames = make(), clip()
    codes = network.encode(frames)
    quantised = network.quantizer.codes[codes]
    before = network.decode(frames[:, :-1], quantised)
    torch.testing.assert_close(network(frames)[0], before, atol=1e-5, rtol=0)
    changed = frames.clone()
    changed[:, 4] = -changed[:, 4]
    after = network.decode(changed[:, :-1], quantised)  # the codes as they were
    torch.testing.assert_close(after[:, :4], before[:, :4], atol=1e-6, rtol=0)  # frames 1 .. 4
    assert (after[:, 4] - before[:, 4]).abs().max() > 1e-2  # frame 5 comes after the one that changed


def test_every_code_predicts_another_frame():
    network, frames = make(), clip(b=1, t=2)
    made = [network.decode(frames[:, :1], network.quantizer.codes[code][None, None]) for code in range(8)]
    for i in range(8):
        for j in range(i):
            assert (made[i] - made[j]).abs().max() > 1e-3


def test_a_code_knows_its_transition_and_nothing_later():
    network, frames = make(), clip(t=8)
    latents = network._latents(frames)
    changed = frames.clone()
    changed[:, 5] = -changed[:, 5]
    moved = (network._latents(changed) - latents).abs().amax(dim=(0, 2))
    assert (moved[:4] < 1e-6).all()  # codes that lead to frames 1 .. 4
    assert moved[4] > 1e-3 and moved[5] > 1e-3  # into frame 5 and out of it


def test_a_new_model_repeats_the_last_frame():
    frames = clip()
    with torch.no_grad():
        predicted, _, _ = make(is_new=True).eval()(frames)
    torch.testing.assert_close(predicted, frames[:, :-1], atol=1e-5, rtol=0)


def test_patches_are_put_back_where_they_were():
    network, frames = make(), clip()
    assert torch.equal(network._frames(network._patches(frames)), frames)


def test_saved_is_loaded(tmp_path: Path):
    network, frames = make(), clip()
    save_network(network, tmp_path, "latent_action")
    loaded = load_network(tmp_path, "latent_action").requires_grad_(False)
    for before, after in zip(network(frames), loaded(frames), strict=True):
        torch.testing.assert_close(after, before, atol=0, rtol=0)


def test_a_size_that_patches_do_not_cover_is_refused():
    with pytest.raises(ValueError, match="20x16.*8"):
        LatentActionModel(height=16, width=20)


# The codebook


def test_the_nearest_code_is_chosen_and_gradients_pass_it():
    quantizer = VectorQuantizer(4, 3).eval()
    x = (quantizer.codes.detach()[[2, 0, 3]] + 0.01).requires_grad_()
    quantised, code, _ = quantizer(x)
    assert code.tolist() == [2, 0, 3]
    torch.testing.assert_close(quantised, quantizer.codes[[2, 0, 3]], atol=1e-6, rtol=0)
    quantised.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


def test_dead_codes_come_back_to_life():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(6, 2).train()
    quantizer.codes.data[:] = torch.tensor([[0.0, 0.0], *[[50.0 + i, 50.0] for i in range(5)]])
    places = 3 * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1]])  # all nearest to code 0
    assert quantizer(places)[1].unique().tolist() == [0]
    for _ in range(600):
        quantizer(places + 0.01 * torch.randn_like(places))
    codes = quantizer.eval()(places)[1]
    assert perplexity(codes) > 4.5


def test_a_codebook_in_use_and_one_at_rest_stay_as_they_are():
    quantizer = VectorQuantizer(4, 3)
    x, before = quantizer.codes.detach().clone(), quantizer.codes.detach().clone()
    for _ in range(400):
        quantizer.train()(x)
    assert torch.equal(quantizer.codes, before)
    for _ in range(400):
        quantizer.eval()(torch.zeros(1, 3))
    assert torch.equal(quantizer.codes, before)


def test_perplexity_counts_the_codes_in_use():
    assert perplexity(torch.tensor([3, 3, 3])) == pytest.approx(1)
    assert perplexity(torch.tensor([[0, 1], [2, 5]])) == pytest.approx(4)


# Labels


def recordings(*lengths: int) -> SimpleNamespace:
    """What label() reads of a cache."""
    frames = np.concatenate([walk(t, seed) for seed, t in enumerate(lengths)])
    return SimpleNamespace(frames=frames, starts=np.concatenate([[0], np.cumsum(lengths)]))


def test_labels_of_short_episodes_are_their_codes_and_null_at_the_end():
    network, cache = make(), recordings(1, 2, 7, 16, 17)
    actions = label(cache, network, length=16, batch=2)
    null = latent_action_map(8).null()
    assert actions.shape == (len(cache.frames), 1) and actions.dtype == np.int64
    for first, last in zip(cache.starts[:-1], cache.starts[1:], strict=True):
        np.testing.assert_array_equal(actions[last - 1], null)
        if last - first > 1:
            codes = network.encode(to_float(torch.from_numpy(cache.frames[first:last]))[None])[0]
            np.testing.assert_array_equal(actions[first : last - 1, 0], codes.numpy())


@pytest.mark.parametrize("length", [2, 3, 7, 16])
def test_every_transition_of_any_episode_gets_a_label(length: int):
    network = make()
    lengths = range(1, 4 * length + 3) if length < 16 else (30, 31, 32, 33, 40, 41)
    cache = recordings(*lengths)
    actions = label(cache, network, length=length)
    is_null = actions[:, 0] == 8
    ends = np.zeros(len(actions), bool)
    ends[cache.starts[1:] - 1] = True
    np.testing.assert_array_equal(is_null, ends)


def test_a_label_of_a_long_episode_is_the_code_of_its_window():
    """Past the first window, a code has seen at least half a window of past and nothing of other episodes."""
    network, cache = make(), recordings(9, 40)
    actions = label(cache, network, length=8)
    frames = to_float(torch.from_numpy(cache.frames))
    for start in (4, 8, 28):
        begin = 9 + start
        codes = network.encode(frames[begin : begin + 9][None])[0, 4:]
        np.testing.assert_array_equal(actions[begin + 4 : begin + 8, 0], codes.numpy())


def test_labels_do_not_depend_on_how_many_windows_run_together():
    network, cache = make(), recordings(5, 40, 23)
    np.testing.assert_array_equal(label(cache, network, batch=1), label(cache, network, batch=16))


def test_latent_actions_lie_on_the_number_keys():
    actions = latent_action_map(8)
    assert actions.from_keys(["3"]) == 2
    assert actions.names[2] == "code 2"


# Training


class Clips:
    """A sampler of the same few clips."""

    def __init__(self, count: int):
        self.frames = np.stack([walk(6, seed) for seed in range(count)])

    def sample(self, rng: np.random.Generator, batch: int) -> SimpleNamespace:
        return SimpleNamespace(frames=self.frames[rng.integers(len(self.frames), size=batch)])

    def evenly(self, count: int) -> SimpleNamespace:
        return SimpleNamespace(frames=self.frames[:count])


def test_loss_falls_on_one_clip():
    network, clips = make(is_new=True).train(), Clips(1)
    stage = LatentActionStage(network, clips, clips, batch=2)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    rng, losses = np.random.default_rng(0), []
    for _ in range(60):
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
