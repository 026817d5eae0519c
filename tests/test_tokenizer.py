"""The tokenizer: streamable, causal, saved as it was, its tokens ready for diffusion."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from worldgen.bundle import load_network, save_network  # noqa: E402
from worldgen.models.tokenizer import Tokenizer, to_float, to_uint8  # noqa: E402


def make(height: int = 16, width: int = 24, num_memories: int = 2) -> Tokenizer:
    """Untrained, but away from the zeros that some layers begin with; 16x24 is not square."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(height=height, width=width, token_dim=8, channels=[8, 16], num_memories=num_memories)
    for parameter in tokenizer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    tokenizer.fit_basis(clip(b=4, height=height, width=width))
    tokenizer.token_mean.normal_(0, 0.3)
    tokenizer.token_std.uniform_(0.5, 1.5)
    return tokenizer.eval().requires_grad_(False)


def clip(b: int = 2, t: int = 5, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(b, t, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def roundtrip(tokenizer: Tokenizer, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """-> tokens and restored frames of a clip at once"""
    tokens, _ = tokenizer.encode(frames, tokenizer.empty_state(len(frames)))
    return tokens, tokenizer.decode(tokens, tokenizer.empty_state(len(frames)))[0]


def test_shapes_are_what_the_signatures_say():
    tokenizer, frames = make(), clip()
    tokens, state = tokenizer.encode(frames, tokenizer.empty_state(2))
    assert tokenizer.num_tokens == 2 * 3  # a token covers 8x8 pixels
    assert tokens.shape == (2, 5, 6, 8)
    assert state.shape == (2, *tokenizer.state_shape)
    assert roundtrip(tokenizer, frames)[1].shape == frames.shape


@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1), (2, 3), (4, 1)])
def test_frame_by_frame_equals_the_whole_clip(cuts: tuple[int, ...]):
    tokenizer, frames = make(), clip()
    whole_tokens, whole_frames = roundtrip(tokenizer, frames)
    encoder, decoder = tokenizer.empty_state(2), tokenizer.empty_state(2)
    begin = 0
    for length in cuts:
        part = slice(begin, begin + length)
        tokens, encoder = tokenizer.encode(frames[:, part], encoder)
        restored, decoder = tokenizer.decode(tokens, decoder)
        torch.testing.assert_close(tokens, whole_tokens[:, part], atol=1e-5, rtol=0)
        torch.testing.assert_close(restored, whole_frames[:, part], atol=1e-5, rtol=0)
        begin += length


def test_a_later_frame_changes_nothing_earlier():
    tokenizer, frames = make(), clip()
    changed = frames.clone()
    changed[:, 3] = -changed[:, 3]
    for before, after in zip(roundtrip(tokenizer, frames), roundtrip(tokenizer, changed), strict=True):
        torch.testing.assert_close(after[:, :3], before[:, :3], atol=1e-6, rtol=0)
        assert (after[:, 3] - before[:, 3]).abs().max() > 1e-2


def test_the_frame_before_is_remembered():
    tokenizer, frames = make(), clip()
    changed = frames.clone()
    changed[:, 2] = -changed[:, 2]
    before, after = roundtrip(tokenizer, frames)[0], roundtrip(tokenizer, changed)[0]
    assert (after[:, 3] - before[:, 3]).abs().max() > 1e-4


def test_clips_of_a_batch_do_not_see_each_other():
    tokenizer, frames = make(), clip(b=3)
    together = roundtrip(tokenizer, frames)
    alone = roundtrip(tokenizer, frames[1:2])
    for many, one in zip(together, alone, strict=True):
        torch.testing.assert_close(many[1:2], one, atol=1e-5, rtol=0)


def test_training_sees_what_encode_and_decode_do():
    tokenizer, frames = make(), clip()
    no_noise = torch.zeros(2, 5, tokenizer.num_tokens, 8)
    torch.testing.assert_close(tokenizer(frames, no_noise), roundtrip(tokenizer, frames)[1], atol=1e-5, rtol=1e-4)


def test_saved_is_loaded(tmp_path: Path):
    tokenizer, frames = make(), clip()
    save_network(tokenizer, tmp_path, "tokenizer")
    loaded = load_network(tmp_path, "tokenizer")
    assert not loaded.training
    loaded.requires_grad_(False)  # torch takes other kernels where gradients are wanted, 2e-7 apart
    for before, after in zip(roundtrip(tokenizer, frames), roundtrip(loaded, frames), strict=True):
        torch.testing.assert_close(after, before, atol=0, rtol=0)


def test_standardised_tokens_have_zero_mean_and_unit_scale_and_decode_the_same():
    tokenizer, frames = make(), clip(b=16, t=4)
    _, before = roundtrip(tokenizer, frames)
    bottleneck, _ = tokenizer.squeeze(frames, tokenizer.empty_state(16))
    tokenizer.standardise(bottleneck)
    tokens, after = roundtrip(tokenizer, frames)
    flat = tokens.flatten(0, 2)
    torch.testing.assert_close(flat.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    assert flat.square().mean() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


def test_a_new_tokenizer_restores_what_its_basis_spans():
    """With as many numbers as pixels, everything; with fewer, the more the better; a constant clip does no harm."""
    frames = clip(b=8, t=4)
    errors = []
    for token_dim in (4, 48, 192):
        tokenizer = Tokenizer(height=16, width=24, token_dim=token_dim, channels=[8, 16]).requires_grad_(False)
        tokenizer.fit_basis(frames)
        errors.append(float((roundtrip(tokenizer, frames)[1] - frames).square().mean()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-6
    tokenizer.fit_basis(torch.zeros_like(frames))
    assert roundtrip(tokenizer, frames)[1].isfinite().all()


def test_a_channel_that_never_changes_does_not_blow_up():
    tokenizer = make()
    tokenizer.standardise(torch.full((4, 2, 6, 8), 0.25))
    tokens, restored = roundtrip(tokenizer, clip())
    assert tokens.isfinite().all() and restored.isfinite().all()


@pytest.mark.parametrize("height, width", [(16, 20), (12, 16), (17, 17)])
def test_a_size_that_tokens_do_not_cover_is_refused_with_both_numbers(height: int, width: int):
    with pytest.raises(ValueError, match=f"{width}x{height}.*8"):
        make(height, width)


def test_bytes_survive_the_way_in_and_out():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert to_float(every).min() == -1 and to_float(every).max() == 1
    assert (to_uint8(torch.full((3, 2, 2), -9.0)) == 0).all() and (to_uint8(torch.full((3, 2, 2), 9.0)) == 255).all()


def test_loss_falls_on_one_clip():
    from worldgen.training.tokenizer import tokenizer_loss

    torch.manual_seed(0)
    tokenizer = Tokenizer(height=16, width=16, token_dim=8, channels=[16, 32])
    frames = clip(b=1, t=4, width=16)
    frames[:] = frames[:, :1]  # a still picture
    optimizer = torch.optim.Adam(tokenizer.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss, _ = tokenizer_loss(tokenizer, frames, torch.randn(1, 4, 4, 8), motion=4.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_pixels_that_move_weigh_more_and_the_weights_average_one():
    from worldgen.training.tokenizer import motion_weight

    frames = torch.zeros(1, 2, 3, 16, 16)
    frames[0, 1, :, 4:8, 4:8] = 1
    weight = motion_weight(frames, 4.0)
    assert weight.mean() == pytest.approx(1, abs=1e-5)
    assert weight[0, 1, 0, 5, 5] > 3 * weight[0, 1, 0, 14, 14]
    assert weight[0, 0].std() == 0


@pytest.mark.parametrize("count", [1, 5, 9])
def test_validation_makes_do_with_few_held_out_clips(count: int):
    from worldgen.training.tokenizer import TokenizerStage

    frames = to_uint8(clip(b=count)).numpy()
    clips = SimpleNamespace(evenly=lambda wanted: SimpleNamespace(frames=frames[:wanted]))
    stage = TokenizerStage(make(), clips, clips, batch=2)
    figures, sheet = stage.validate(stage.network)
    assert {"psnr", "copy_last_psnr", "psnr_changed"} <= set(figures)
    assert sheet.dtype.name == "uint8" and sheet.shape[-1] == 3
