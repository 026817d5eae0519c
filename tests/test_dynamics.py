"""The dynamics: frame by frame against the ring equals the whole clip at once, for ever; and what it is trained on."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from worldgen.actions import KINDS, ActionMap  # noqa: E402
from worldgen.bundle import load_network, save_network  # noqa: E402
from worldgen.models.conditioning import action_arguments  # noqa: E402
from worldgen.models.dynamics import FINEST_STEP, Dynamics, kalman_update, previous_of  # noqa: E402
from worldgen.models.stem import Stem  # noqa: E402
from worldgen.training.dynamics import (  # noqa: E402
    Ahead,
    DynamicsLoss,
    drop_actions,
    dynamics_loss,
    own_past,
    weight_in_picture,
)
from worldgen.training.motion_error import motion_error  # noqa: E402
from worldgen.training.own_past import play_on  # noqa: E402
from worldgen.training.rollout import led_to  # noqa: E402

N, D, CONTEXT = 4, 6, 4  # tokens a frame, their width, frames of look-back
MAPS = {
    "discrete": ActionMap.discrete(["a", "b", "c"]),
    "multi_discrete": ActionMap("multi_discrete", (3, 2)),
    "multi_binary": ActionMap("multi_binary", (2, 2, 2)),
    "box": ActionMap("box", (0, 0), low=(-1.0, -1.0), high=(1.0, 1.0)),
}


SIZES: dict[str, Any] = {
    "grid": [2, N // 2], "patch": 8, "token_dim": D, "dim": 32, "num_layers": 4, "num_heads": 2, "context": CONTEXT,
    "history": 2, "stem_channels": 4, "warp": True, "blank": True, "grain": 0.2,
}  # fmt: skip
WHOLE = {"warp": False, "whole": True}


def make(actions: ActionMap = MAPS["discrete"], is_new: bool = False, **changes: Any) -> Dynamics:
    """Two time layers. Untrained, but unless is_new away from the zeros that make it a copy of the last frame."""
    torch.manual_seed(0)
    network = Dynamics(**action_arguments(actions), **SIZES | changes)
    if is_new:
        return network
    for parameter in network.parameters():
        parameter.data += 0.15 * torch.randn_like(parameter)
    return network.eval().requires_grad_(False)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_rows(actions: ActionMap, *shape: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    many = np.array([actions.sample(rng) for _ in range(int(np.prod(shape)))])
    many = many.reshape(*shape, *many.shape[1:])
    return torch.from_numpy(actions.encode(many, *shape))


def clip(b: int, t: int, actions: ActionMap = MAPS["discrete"], seed: int = 0) -> dict[str, torch.Tensor]:
    """Finished frames as commit() takes them: tokens, noise (b, t, n, d), context_sigma (b, t), action (b, t, width)"""
    generator = torch.Generator().manual_seed(seed)
    return {
        "tokens": torch.randn(b, t, N, D, generator=generator),
        "noise": torch.randn(b, t, N, D, generator=generator),
        "context_sigma": torch.rand(b, 1, generator=generator).mul(0.3).expand(b, t).contiguous(),
        "action": random_rows(actions, b, t, seed=seed),
    }


def at_once(network: Dynamics, x: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """forward() over finished frames -> clean, hidden, noisy"""
    level = x["context_sigma"][..., None, None]
    noisy = (1 - level) * x["tokens"] + level * x["noise"]
    previous = previous_of(x["tokens"], noisy, network.config.history)
    step_size = torch.full_like(x["context_sigma"], FINEST_STEP)
    clean, hidden = network(noisy, x["context_sigma"], step_size, previous, x["context_sigma"], x["action"])
    return clean, hidden, noisy


class Ring:
    """Slots that are played frame by frame and may begin at different times, as World does it."""

    def __init__(self, network: Dynamics, b: int, first_position: int = 0):
        self.network, self.first = network, first_position
        self.cache = torch.zeros(b, *network.cache_shape)
        self.previous = torch.zeros(b, *network.previous_shape)
        self.step = torch.zeros(b, dtype=torch.int64)

    def places(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        position = (self.first + self.step) % self.network.position_period
        return self.cache, position, self.step.clamp(max=CONTEXT)

    def denoise(self, noisy, sigma, step_size, context_sigma, action) -> torch.Tensor:
        return self.network.denoise(noisy, sigma, step_size, self.previous, context_sigma, action, *self.places())[0]

    def commit(self, tokens, noise, context_sigma, action) -> torch.Tensor:
        self.cache, self.previous, hidden = self.network.commit(
            tokens, noise, self.previous, context_sigma, action, *self.places()
        )
        self.step += 1
        return hidden

    def begin_anew(self, slot: int) -> None:
        self.cache[slot], self.previous[slot], self.step[slot] = 0, 0, 0


def frame(x: dict[str, torch.Tensor], i: int) -> tuple[torch.Tensor, ...]:
    return x["tokens"][:, i], x["noise"][:, i], x["context_sigma"][:, i], x["action"][:, i]


OTHERS = ({"history": 1, "stem_channels": 0}, {"history": 3}, WHOLE)


@pytest.mark.parametrize(
    ("kind", "changes"), [(kind, {}) for kind in KINDS] + [("discrete", changes) for changes in OTHERS]
)
def test_commit_frame_by_frame_equals_the_clip_at_once(kind: str, changes: dict[str, Any]):
    network = make(MAPS[kind], **changes)
    history = network.config.history
    t = 3 * CONTEXT + 1  # the ring is overwritten twice
    x = clip(2, t, MAPS[kind])
    _, hidden, noisy = at_once(network, x)
    ring = Ring(network, 2)
    for i in range(t):
        torch.testing.assert_close(ring.commit(*frame(x, i)), hidden[:, i], atol=1e-4, rtol=0)
        seen = previous_of(x["tokens"][:, : i + 1], noisy[:, : i + 1], history)
        assert ring.previous.is_contiguous()
        torch.testing.assert_close(ring.previous[:, 0], x["tokens"][:, i])
        torch.testing.assert_close(ring.previous[:, 1], noisy[:, i], atol=1e-6, rtol=0)
        torch.testing.assert_close(ring.previous[:, 2:], seen[:, i, 1:-1], atol=1e-6, rtol=0)


def test_a_new_stem_has_no_effect_and_learns_at_once():
    network, x = make(is_new=True), clip(2, 3)
    without = make(is_new=True, stem_channels=0)
    without.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("stem.")})
    seen = at_once(network, x)
    for a, b in zip(seen[:2], at_once(without, x)[:2], strict=True):
        assert torch.equal(a, b)
    seen[1].sum().backward()
    assert network.stem.out.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("patch", [8, 16])
def test_a_stem_sees_a_patch_and_those_around_it_on_every_side_alike(patch: int):
    stem = Stem(2, 4, patch, 32)
    stem.out.reset_parameters()
    pictures = torch.randn(64, 2, 3, 5 * patch, 5 * patch)
    features = stem(pictures)
    assert features.shape == (64, 25, 32)
    other = pictures.clone()
    middle = slice(2 * patch, 3 * patch)
    other[:, 1, :, middle, middle] += torch.randn(64, 3, patch, patch)
    change = (stem(other) - features).square().mean((0, 2)).sqrt().reshape(5, 5)
    around = change[1:4, 1:4]
    assert not (change - F.pad(around, (1, 1, 1, 1))).any()
    sides = torch.stack([around[0, 1], around[1, 0], around[1, 2], around[2, 1]])
    assert around.min() > 0 and sides.max() < 2 * sides.min() and around[1, 1] > sides.max()
    with pytest.raises(ValueError, match="12"):
        Stem(2, 4, 12, 32)


@pytest.mark.parametrize("history", [1, 2, 3])
def test_a_frame_sees_so_many_before_it_place_by_place(history: int):
    """Place by place, and not by time attention, which looks into the ring: here it is empty."""
    network = make(history=history)
    x = clip(1, 5)
    previous = previous_of(x["tokens"], x["tokens"], history)
    assert previous.shape == (1, 5, 1 + history, N, D)
    assert torch.equal(previous[:, 3, 1:], x["tokens"][:, [2, 1, 0]][:, :history])
    assert not previous[:, 0].any() and not previous[:, 1, 2:].any()
    ring = Ring(network, 1)
    given = [torch.full((1,), level) for level in (1.0, 0.25, 0.1)]
    guesses = []
    for shown in range(1 + history):
        ring.previous = previous[:, 4].clone()
        ring.previous[:, 1 + shown :] = 0
        guesses.append(ring.denoise(x["noise"][:, 4], *given, x["action"][:, 4]))
    assert all(not torch.equal(a, b) for a, b in zip(guesses, guesses[1:], strict=False))


def test_denoise_against_the_ring_equals_the_last_frame_of_a_clip():
    network, t = make(), 3 * CONTEXT
    x, generator = clip(2, t), torch.Generator().manual_seed(5)
    ring = Ring(network, 2)
    for i in range(t):
        noisy_now, sigma, step_size = torch.randn(2, N, D, generator=generator), torch.rand(2), torch.rand(2)
        level = x["context_sigma"][:, : i + 1, None, None]
        noisy = (1 - level) * x["tokens"][:, : i + 1] + level * x["noise"][:, : i + 1]
        previous = previous_of(x["tokens"][:, : i + 1], noisy, network.config.history)
        noisy[:, i] = noisy_now
        sigmas = x["context_sigma"][:, : i + 1].clone()
        step_sizes = torch.full_like(sigmas, FINEST_STEP)
        sigmas[:, i], step_sizes[:, i] = sigma, step_size
        expected, _ = network(
            noisy, sigmas, step_sizes, previous, x["context_sigma"][:, : i + 1], x["action"][:, : i + 1]
        )
        before = ring.cache.clone()
        got = ring.denoise(noisy_now, sigma, step_size, x["context_sigma"][:, i], x["action"][:, i])
        torch.testing.assert_close(got, expected[:, i], atol=1e-4, rtol=0)
        assert torch.equal(ring.cache, before)
        ring.commit(*frame(x, i))


def test_slots_that_began_at_different_times_play_in_one_batch():
    """Slot 1 begins 3 frames after slot 0, slot 2 after 10, and slot 3 begins anew in the middle of the ring."""
    network, t = make(), 3 * CONTEXT
    begin = [0, 3, 10, 6]
    x = clip(4, t)
    _, hidden, _ = at_once(network, x)
    ring = Ring(network, 4)
    rows = torch.arange(4)
    for tick in range(t + max(begin)):
        for slot, first in enumerate(begin):
            if tick == first:
                ring.begin_anew(slot)
        i = ring.step.clamp(max=t - 1)
        got = ring.commit(*(x[k][rows, i] for k in ("tokens", "noise", "context_sigma", "action")))
        for slot in range(4):
            if begin[slot] <= tick < begin[slot] + t:
                torch.testing.assert_close(got[slot], hidden[slot, tick - begin[slot]], atol=1e-4, rtol=0)


def test_an_empty_ring_is_not_looked_at_whatever_is_in_it():
    network, x = make(), clip(1, 2)
    clean, dirty = Ring(network, 1), Ring(network, 1)
    dirty.cache.fill_(3.0)
    for i in range(2):
        torch.testing.assert_close(dirty.commit(*frame(x, i)), clean.commit(*frame(x, i)), atol=1e-6, rtol=0)


def test_the_past_beyond_the_context_is_forgotten():
    """With two time layers nothing reaches further than twice the context, and what each sees by itself."""
    network, t = make(), 2 * CONTEXT + 6
    x = clip(1, t)
    before = at_once(network, x)[1]
    x["tokens"][:, 0] += 5
    change = (at_once(network, x)[1] - before).abs().amax(dim=(0, 2, 3))
    assert (change[: CONTEXT + 2] > 1e-4).all()
    assert (change[2 * CONTEXT + 3 :] < 1e-6).all()


def test_a_later_frame_changes_nothing_earlier():
    network, x = make(), clip(2, 8)
    before = at_once(network, x)[:2]
    x["tokens"][:, 5] += 1
    x["noise"][:, 6] += 1
    x["action"][:, 7] = (x["action"][:, 7] + 1) % 3
    for a, b in zip(at_once(network, x)[:2], before, strict=True):
        torch.testing.assert_close(a[:, :5], b[:, :5], atol=1e-6, rtol=0)
        assert (a[:, 5] - b[:, 5]).abs().max() > 1e-3


def test_positions_wrap_without_a_seam():
    """A run that crosses the end of the period is the run that begins at position 0. (Games begin on slot 0.)"""
    network = make()
    period, t = network.position_period, 3 * CONTEXT
    assert period == 16 * CONTEXT
    x = clip(1, t)
    places = (0, period - CONTEXT, period - 2 * CONTEXT, 7 * CONTEXT)
    runs = [Ring(network, 1, first_position=place) for place in places]
    for i in range(t):
        first, *others = [ring.commit(*frame(x, i)) for ring in runs]
        for other in others:
            torch.testing.assert_close(other, first, atol=1e-4, rtol=0)


def test_a_long_game_sees_its_last_frames_as_a_short_one_does():
    """Frames after the period: the same as a clip of the recent past alone."""
    network = make()
    period, tail = network.position_period, 2 * CONTEXT + 3
    x = clip(1, period + 5)
    ring = Ring(network, 1)
    for i in range(period + 5):
        hidden = ring.commit(*frame(x, i))
    recent = {k: v[:, -tail:] for k, v in x.items()}
    torch.testing.assert_close(hidden, at_once(network, recent)[1][:, -1], atol=1e-4, rtol=0)


def test_time_is_told_apart_within_the_context():
    """Frames in another order are another past."""
    network, x = make(), clip(1, CONTEXT + 1)
    swapped = {k: v.clone() for k, v in x.items()}
    for name in swapped:
        swapped[name][:, [0, 1]] = x[name][:, [1, 0]]
    assert (at_once(network, x)[1][:, -1] - at_once(network, swapped)[1][:, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_action_changes_the_frame_and_null_is_one_of_its_own(kind: str):
    actions = MAPS[kind]
    network, x = make(actions), clip(1, 3, actions)
    seen = [at_once(network, x)[0][:, -1]]
    other = random_rows(actions, 20, seed=9)
    for row in (other[(other != x["action"][0, -1]).any(-1)][0], torch.from_numpy(actions.null())):
        x["action"][:, -1] = row
        seen.append(at_once(network, x)[0][:, -1])
    for i in range(3):
        for j in range(i):
            assert (seen[i] - seen[j]).abs().max() > 1e-3


def test_null_of_a_box_is_not_the_action_zero():
    actions = MAPS["box"]
    network = make(actions)
    zero = torch.from_numpy(actions.encode([0.0, 0.0]))
    assert (network.action(zero) - network.action(torch.from_numpy(actions.null()))).abs().max() > 1e-3


def test_components_of_an_action_do_not_share_their_choices():
    """Choice 1 of the first component is not choice 1 of the second."""
    network = make(MAPS["multi_discrete"])
    rows = torch.tensor([[1, 0], [0, 1]])
    first, second = network.action(rows)
    assert (first - second).abs().max() > 1e-3


def test_a_new_network_that_moves_nothing_repeats_the_last_frame_and_not_its_noise():
    network, x = make(is_new=True).eval(), clip(1, 4)
    with torch.no_grad():
        network.motion.kernels.bias.mul_(100)  # of no displacement alone
        x["context_sigma"] = torch.ones(1, 4)
        x["tokens"] = x["tokens"].clamp(-1, 1)  # pixels, of an untrained tokenizer
        clean, _, noisy = at_once(network, x)
    torch.testing.assert_close(clean[:, 1:], x["tokens"][:, :-1], atol=1e-5, rtol=0)
    assert not torch.allclose(clean[:, 1:], noisy[:, :-1], atol=1e-2)


# Correction by the noisy tokens


def test_what_is_sure_keeps_no_noise_and_what_is_in_doubt_is_measured():
    torch.manual_seed(0)
    expected, clean, noise = torch.randn(3, 1, 4, 2000).unbind()
    sigma = torch.tensor([0.5])
    noisy = 0.5 * clean + 0.5 * noise
    sure = kalman_update(expected, noisy, sigma, torch.full_like(clean, -9.0))
    torch.testing.assert_close(sure, expected, atol=2e-3, rtol=0)
    for level, value in ((1.0, expected), (0.0, noisy)):
        updated = kalman_update(expected, noisy, torch.tensor([level]), torch.zeros_like(clean))
        torch.testing.assert_close(updated, value, atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", [0.25, 0.5, 0.75])
def test_the_right_doubt_is_closer_to_the_truth_than_any_other(level: float):
    generator = torch.Generator().manual_seed(0)
    clean, noise, error = torch.randn(3, 1, 4, 5000, generator=generator).unbind()
    expected = clean + 0.4 * error
    noisy = (1 - level) * clean + level * noise

    def squared_error(variance: float) -> float:
        doubt = torch.full_like(clean, math.log(variance))
        return (kalman_update(expected, noisy, torch.tensor([level]), doubt) - clean).square().mean().item()

    right = squared_error(0.16)
    assert right < 0.16 and all(right < squared_error(wrong) for wrong in (0.01, 0.05, 0.5, 2.0))


def test_no_more_grain_than_allowed_stays_where_all_is_in_doubt():
    expected = torch.zeros(1, 400, 50)
    noise = torch.randn(expected.shape, generator=generator())
    doubt = torch.full_like(expected, 9.0)
    for level in (0.25, 0.5, 0.75):
        noisy = level * noise  # of clean tokens that are all zeros
        stays = kalman_update(expected, noisy, torch.tensor([level]), doubt).std().item()
        assert stays == pytest.approx(level / (1 - level), rel=0.15)  # all of it
        stays = kalman_update(expected, noisy, torch.tensor([level]), doubt, grain=0.2).std().item()
        assert stays == pytest.approx(0.2, rel=0.02)
    sure = kalman_update(expected, noisy, torch.tensor([level]), -doubt, grain=0.2)
    assert torch.equal(sure, kalman_update(expected, noisy, torch.tensor([level]), -doubt))


def test_slots_of_a_batch_do_not_see_each_other():
    network, x = make(), clip(3, 6)
    together = at_once(network, x)[0]
    alone = at_once(network, {k: v[1:2] for k, v in x.items()})[0]
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_saved_is_loaded(tmp_path: Path):
    network, x = make(), clip(1, 3)
    save_network(network, tmp_path, "dynamics")
    loaded = load_network(tmp_path, "dynamics").requires_grad_(False)
    assert not loaded.training
    torch.testing.assert_close(at_once(loaded, x)[0], at_once(network, x)[0], atol=0, rtol=0)


# Training


def test_pure_noise_is_kept_from_it():
    network, x = make(), clip(2, 3)
    one = torch.ones(2, 3)
    previous = previous_of(x["tokens"], x["tokens"], 2)

    def clean(sigma: float, seed: int) -> torch.Tensor:
        noise = torch.randn(x["noise"].shape, generator=generator(seed))
        return network(noise, sigma * one, one, previous, 0 * one, x["action"])[0]

    assert torch.equal(clean(1.0, 1), clean(1.0, 2))
    assert not torch.equal(clean(0.9, 1), clean(0.9, 2))


def loss_of(network, x: dict[str, torch.Tensor], progress: float, seed: int = 0, **recipe: float | str) -> torch.Tensor:
    null = torch.from_numpy(MAPS["discrete"].null())
    weight = torch.linspace(0.5, 1.5, D)
    given = (x["tokens"], x["action"], null, weight, generator(seed), progress, 0.0, DynamicsLoss(**recipe))
    return dynamics_loss(network, *given)[0]


@pytest.mark.parametrize("progress", [0.0, 0.99])
def test_loss_is_a_number_for_the_smallest_batch(progress: float):
    network = make(is_new=True)
    for seed in range(24):
        assert loss_of(network, clip(1, 2), progress, seed).isfinite()


def test_an_error_counts_as_much_as_its_channel_is_of_the_picture():
    class Wrong(torch.nn.Module):
        config = SimpleNamespace(history=1)

        def __init__(self, channel: int):
            super().__init__()
            self.off = torch.nn.functional.one_hot(torch.tensor(channel), D)

        def forward(self, noisy, *_):
            return self.off.expand_as(noisy), None  # of tokens that are all zeros

    x = clip(8, 4) | {"tokens": torch.zeros(8, 4, N, D)}
    squared = {"even": 0.0, "motion_error": 0.0}
    first, last = (loss_of(Wrong(channel), x, 0.0, **squared) for channel in (0, D - 1))
    assert last / first == pytest.approx(3)  # the weight goes from 0.5 to 1.5
    alike = [loss_of(Wrong(channel), x, 0.0, space="tokens", **squared) for channel in (0, D - 1)]
    assert alike[0] == alike[1]


def test_a_token_that_is_far_off_does_not_count_alone():
    """Errors of 0.1 and of 10: by their squares the smaller one is a ten thousandth of the loss, here a hundredth."""

    class Off(torch.nn.Module):
        config = SimpleNamespace(history=1)

        def __init__(self, far: float, near: float):
            super().__init__()
            self.off = torch.tensor([far, near] * (N // 2))[:, None]

        def forward(self, noisy, *_):
            return self.off.expand_as(noisy), None  # of tokens that are all zeros

    x = clip(8, 4) | {"tokens": torch.zeros(8, 4, N, D)}

    def share(even: float) -> float:
        far, both = (loss_of(Off(10.0, near), x, 0.0, even=even, motion_error=0.0).item() for near in (0.0, 0.1))
        return (both - far) / far

    assert share(0.0) == pytest.approx(1e-4, rel=0.01)
    assert share(0.001) == pytest.approx(1e-2, rel=0.02)


def test_the_motion_learns_from_smaller_pictures_too():
    """A network that foretells the tokens exactly, but says that nothing moved, is wrong by what did."""

    class Knowing(Dynamics):
        def forward(self, *given):
            return x["tokens"], torch.zeros(8, 4, N + 1, 32)

    x, network = clip(8, 4), make(is_new=True)
    network.__class__ = Knowing
    network.requires_grad_(False)
    assert loss_of(network, x, 0.0, motion_error=0.0) == 0
    moved = loss_of(network, x, 0.0, motion_error=1.0)
    assert moved > 0.01 and loss_of(network, x, 0.0, motion_error=3.0) == pytest.approx(3 * moved.item())
    x["tokens"][:, 1:] = x["tokens"][:, :1]
    still = loss_of(network, x, 0.0, motion_error=1.0, past_noise=0.0)
    assert still < 0.01 * moved


def test_whole_pixels_are_learned_by_their_likelihood_alone_and_the_same_again():
    gradients = []
    for weight in (1.0, 1.0, 0.0):
        network, x = make(is_new=True, **WHOLE), clip(8, 4)
        loss_of(network, x, 0.0, motion_error=weight).backward()
        gradients.append(network.motion.kernels.weight.grad)
    assert gradients[0].abs().max() > 1e-5 and torch.equal(gradients[0], gradients[1])
    assert gradients[2] is None


def test_where_no_frame_is_taught_there_are_gradients_all_the_same():
    """Or of several processes those that have some would wait for ever."""
    network, x = make(is_new=True, **WHOLE), clip(2, 3)
    hidden = torch.randn(2, 3, N + 1, 32, requires_grad=True)
    everything = torch.ones(2, 3, dtype=torch.bool)
    for is_taught, is_own in ((~everything, False), (everything, True)):  # of its own past no whole pixels are learned
        network.zero_grad()
        error = motion_error(network, hidden, x["tokens"], x["tokens"], is_taught, generator(), is_own)
        error.backward()
        assert error == 0 and network.motion.kernels.weight.grad is not None and not hidden.grad.any()
    assert motion_error(network, hidden, x["tokens"], x["tokens"], everything, generator()) > 0


def test_blocks_are_copied_in_one_way():
    with pytest.raises(ValueError, match="one way"):
        make(whole=True)


def test_the_action_of_the_first_frame_is_never_seen():
    network, x = make(), clip(4, 3)
    before = loss_of(network, x, 0.99)
    x["action"][:, 0] = (x["action"][:, 0] + 1) % 3
    assert torch.equal(loss_of(network, x, 0.99), before)
    x["action"][:, 1] = (x["action"][:, 1] + 1) % 3
    assert not torch.equal(loss_of(network, x, 0.99), before)


def test_a_clip_with_dropped_actions_begins_without_and_may_go_on_with_them():
    """As a game does that begins from a clip whose actions nobody knows."""
    actions, null = torch.ones(200, 6, 1, dtype=torch.int64), torch.tensor([3])

    def is_null(share: float) -> torch.Tensor:
        return (drop_actions(actions, null, torch.Generator().manual_seed(0), share) == 3)[..., 0]

    assert is_null(0.0).sum(1).eq(1).all() and is_null(0.0)[:, 0].all()  # the first frame's, always
    dropped = is_null(1.0)
    assert torch.equal(dropped, dropped.cummin(1).values.bool())  # none comes back to NULL
    assert set(dropped.sum(1).tolist()) == {2, 3, 4, 5, 6}


def test_the_loss_leaves_its_batch_as_it_was():
    network, x = make(), clip(4, 3)
    before = {k: v.clone() for k, v in x.items()}
    loss_of(network, x, 0.99)
    for name in x:
        assert torch.equal(x[name], before[name])


@pytest.mark.parametrize("progress", [0.0, 0.99])
def test_loss_falls_on_one_clip(progress: float):
    """Frames that follow from the action alone: new tokens for each."""
    x = clip(4, 6)
    table = torch.randn(3, N, D, generator=torch.Generator().manual_seed(3))
    x["tokens"] = table[x["action"][..., 0]]
    network = make(is_new=True)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)

    def measure() -> float:
        with torch.no_grad():
            return float(np.mean([loss_of(network, x, progress, seed=1000 + i).item() for i in range(8)]))

    before = measure()
    for step in range(60):
        loss = loss_of(network, x, progress, seed=step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert measure() < 0.5 * before


def test_rows_that_led_to_a_frame_are_those_chosen_one_before():
    actions = MAPS["multi_discrete"]
    chosen = random_rows(actions, 2, 5).numpy()
    led = led_to(actions, chosen)
    np.testing.assert_array_equal(led[:, 1:], chosen[:, :-1])
    np.testing.assert_array_equal(led[:, 0], actions.null(2))


# Its own past


def test_a_clip_of_true_frames_stays_and_is_seen_as_by_commit():
    network, x = make(), clip(2, 2 * CONTEXT)
    x["context_sigma"] = torch.zeros(2, 2 * CONTEXT)
    played, hidden = play_on(network, x["tokens"], x["action"], torch.zeros(2), torch.full((2,), 99), generator())
    torch.testing.assert_close(played, x["tokens"], atol=0, rtol=0)
    torch.testing.assert_close(hidden, at_once(network, x)[1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("nfe", [1, 2])
def test_a_clip_is_played_on_from_what_was_played(nfe: int):
    network, x, t = make(), clip(2, 2 * CONTEXT), 2 * CONTEXT
    level, num_true = torch.full((2,), 0.1), torch.tensor([2, 5])
    played, _ = play_on(network, x["tokens"], x["action"], level, num_true, generator(3), nfe=nfe)
    draws, ring = generator(3), Ring(network, 2)
    for i in range(t):
        made = x["tokens"][:, i]
        if i >= 2:
            noise = torch.randn(2, N, D, generator=draws)
            made = ring.denoise(noise, torch.ones(2), torch.full((2,), 1 / nfe), level, x["action"][:, i])
            if nfe == 2:
                half = torch.full((2,), 0.5)
                made = ring.denoise((noise + made) / 2, half, half, level, x["action"][:, i])
            made = torch.where(i < num_true[:, None, None], x["tokens"][:, i], made)
        torch.testing.assert_close(played[:, i], made, atol=1e-5, rtol=0)
        ring.commit(made, torch.randn(2, N, D, generator=draws), level, x["action"][:, i])
    assert (played[1, 5:] - x["tokens"][1, 5:]).abs().max() > 1e-2


def test_what_came_before_a_game_began_counts_for_nothing():
    network, t = make(), 2 * CONTEXT
    x, other = clip(2, t), clip(2, t, seed=7)
    first, length = torch.tensor([3, 3]), torch.full((2,), t)
    for name in ("tokens", "action"):
        other[name][:, 3:] = x[name][:, 3:]
    _, hidden = play_on(network, x["tokens"], x["action"], torch.zeros(2), length, generator(), first)
    _, same = play_on(network, other["tokens"], other["action"], torch.zeros(2), length, generator(), first)
    alone = play_on(network, x["tokens"][:, 3:], x["action"][:, 3:], torch.zeros(2), length, generator())[1]
    torch.testing.assert_close(hidden[:, 3:], same[:, 3:], atol=1e-6, rtol=0)
    torch.testing.assert_close(hidden[:, 3:], alone, atol=1e-4, rtol=0)


def test_own_past_begins_at_the_earliest_with_the_second_frame_of_a_game():
    network, x, before = make(), clip(64, 4), clip(64, 6, seed=1)
    null = torch.from_numpy(MAPS["discrete"].null())
    ahead = Ahead(before["tokens"], before["action"], torch.arange(64) % 7)

    def is_own(share: float) -> torch.Tensor:
        played = own_past(network, x["tokens"], x["action"], null, torch.zeros(64), generator(), ahead, share, 1)
        return (played != x["tokens"]).any(-1).any(-1)

    assert is_own(0.0).sum(1).eq(1).all() and is_own(0.0)[:, -1].all()
    deep = is_own(1.0)
    assert deep[:, -1].all() and not deep.all()
    assert not deep[ahead.first == 6, 0].any() and deep[ahead.first == 0, 0].any()


def test_own_past_is_played_under_the_recorded_actions_where_the_clip_hides_them(monkeypatch: pytest.MonkeyPatch):
    from worldgen.training import dynamics

    network, x, before = make(), clip(4, 3), clip(4, 2, seed=1)
    played_under, steps = [], set()

    def watch(network, tokens, actions, *rest):
        played_under.append(actions)
        steps.add(rest[-1])
        return play_on(network, tokens, actions, *rest)

    monkeypatch.setattr(dynamics, "play_on", watch)
    null, weight = torch.from_numpy(MAPS["discrete"].null()), weight_in_picture(network.motion)
    ahead = Ahead(before["tokens"], before["action"], torch.zeros(4, dtype=torch.int64))
    recipe = DynamicsLoss(own_past=1.0, action_dropout=1.0)
    dynamics_loss(network, x["tokens"], x["action"], null, weight, generator(), 1.0, 0.0, recipe, ahead)
    assert torch.equal(played_under[0][:, 2:], x["action"])
    assert (played_under[0][:, 0] == null).all()  # a game begins without one
    assert steps == {1}  # denoising steps a frame
    dynamics_loss(network, x["tokens"], x["action"], null, weight, generator(), 1.0, 0.9, recipe, ahead)
    assert steps == {1, 2}


def test_frames_that_repeat_teach_nothing():
    network, x = make(), clip(4, 5)
    other = {**x, "tokens": x["tokens"].clone()}
    other["tokens"][:, -1] += 2.0
    is_repeat = torch.zeros(4, 5, dtype=torch.bool)
    is_repeat[:, -1] = True
    null, weight = torch.from_numpy(MAPS["discrete"].null()), weight_in_picture(network.motion)

    def loss(clips: dict[str, torch.Tensor], repeats: torch.Tensor | None) -> float:
        given = (clips["tokens"], x["action"], null, weight, generator(), 0.0, 0.0, DynamicsLoss())
        return dynamics_loss(network, *given, is_repeat=repeats)[0].item()

    assert loss(x, is_repeat) == pytest.approx(loss(other, is_repeat), rel=1e-5)
    assert loss(x, None) != pytest.approx(loss(other, None), rel=1e-2)


def test_what_is_copied_from_is_noised_and_what_is_learned_is_not():
    network, x = make(), clip(4, 3)
    null, weight = torch.from_numpy(MAPS["discrete"].null()), weight_in_picture(network.motion)
    copied = []

    class Copying(Dynamics):
        def forward(self, noisy, sigma, step_size, previous, context_sigma, action):
            copied.append(previous[:, 1:, 0] - x["tokens"][:, :-1])
            return x["tokens"], None

    network.__class__ = Copying
    for noise in (0.0, 0.1):
        recipe = DynamicsLoss(past_noise=noise, motion_error=0.0)
        loss, _ = dynamics_loss(network, x["tokens"], x["action"], null, weight, generator(), 0.0, 0.0, recipe)
        assert loss == 0
    exact, noised = copied
    assert not exact.any() and noised.std((1, 2, 3)).max() < 0.12 and (noised.std((1, 2, 3)) > 0).all()


def test_a_finished_frame_is_seen_as_it_was_written_down_and_no_other():
    network, x = make(), clip(32, 3)
    null, weight = torch.from_numpy(MAPS["discrete"].null()), weight_in_picture(network.motion)
    seen = []

    class Watched(Dynamics):
        def forward(self, noisy, sigma, step_size, previous, context_sigma, action):
            seen.append((noisy[:, :-1], previous[:, 1:, 1], (sigma == context_sigma)[:, :-1]))
            return x["tokens"], None

    network.__class__ = Watched
    recipe = DynamicsLoss(past_noise=0.0, motion_error=0.0)
    dynamics_loss(network, x["tokens"], x["action"], null, weight, generator(), 0.0, 0.0, recipe)
    ((noisy, written, is_finished),) = seen
    assert is_finished[:, 0].all() and (~is_finished[:, 1]).any()
    torch.testing.assert_close(noisy[is_finished], written[is_finished])
    assert ((noisy - written)[~is_finished].abs().amax((-2, -1)) > 0.01).all()


def test_a_clip_played_on_is_learned_from_its_own_frames_and_not_from_the_recorded_past():
    """Where all clips are played on, the recorded frames of the past are neither shown nor copied."""
    network, x = make(), clip(4, 3)
    null, weight = torch.from_numpy(MAPS["discrete"].null()), weight_in_picture(network.motion)
    seen = []

    class Watching(Dynamics):
        def forward(self, noisy, sigma, step_size, previous, context_sigma, action):
            seen.append((noisy, sigma, previous))
            return super().forward(noisy, sigma, step_size, previous, context_sigma, action)

    network.__class__ = Watching
    recipe = DynamicsLoss(own_past=1.0, own_past_ahead=0, past_noise=0)
    dynamics_loss(network, x["tokens"], x["action"], null, weight, generator(), 1.0, 0.0, recipe)
    (noisy, sigma, previous), *_ = seen
    is_pure = sigma == 1
    assert is_pure.any() and (sigma[~is_pure] <= recipe.context_sigma).all()
    assert not torch.equal(previous[:, 2, 0], x["tokens"][:, 1])
