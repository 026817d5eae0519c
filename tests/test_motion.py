"""The previous frame, copied from where each block of it came from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from worldgen.models.basis import Basis  # noqa: E402
from worldgen.models.motion import BLOCK, MotionCompensation, cubic_kernel, cubic_sample  # noqa: E402
from worldgen.models.plain_motion import PlainMotion, extend  # noqa: E402
from worldgen.models.tokenizer import Tokenizer  # noqa: E402
from worldgen.models.whole_motion import WholeMotion  # noqa: E402
from worldgen.training.motion_error import coarse_error, surprise  # noqa: E402

GRID, PATCH, DIM, REACH = (2, 3), 8, 16, 8
DISPLACEMENTS = 2 * REACH + 1
KINDS = (MotionCompensation, PlainMotion, WholeMotion)


def fitted(kind: type = MotionCompensation, token_dim: int = 3 * PATCH * PATCH) -> tuple[Tokenizer, Any]:
    """A tokenizer fitted to random pictures, and a motion compensation that knows its basis"""
    torch.manual_seed(0)
    tokenizer = Tokenizer(height=16, width=24, token_dim=token_dim, channels=[8, 16])
    frames = pictures(20)
    tokenizer.fit_basis(frames)
    tokenizer.standardise(tokenizer.squeeze(frames, tokenizer.empty_state(20))[0])
    motion = kind(DIM, token_dim, GRID, PATCH, REACH)
    motion.take_basis(tokenizer.requires_grad_(False))
    return tokenizer, motion.requires_grad_(False)


def pictures(b: int) -> torch.Tensor:
    smooth = torch.rand(b, 3, 3, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return F.interpolate(smooth, (16, 24), mode="bilinear")[:, None]


def displace(motion: Any, across: int, down: int) -> None:
    """Every block's kernels look this many pixels to the right and below."""
    bias = motion.kernels.bias.zero_().unflatten(0, (2, -1, DISPLACEMENTS))
    bias[0, :, REACH + across] = 100
    bias[1, :, REACH + down] = 100


@pytest.mark.parametrize("kind", [*KINDS, partial(PlainMotion, cubic=True)])
@pytest.mark.parametrize("reach", [0, REACH])
def test_at_the_end_of_its_reach_a_block_is_copied_whole(reach: int, kind: Callable[..., Any]):
    motion = kind(DIM, 3 * PATCH * PATCH, GRID, PATCH, reach).requires_grad_(False)
    motion.kernels.bias.zero_().unflatten(0, (-1, 2 * reach + 1))[:, -1] = 100
    flat = torch.ones(1, 6, 3 * PATCH * PATCH)
    assert torch.allclose(motion(torch.zeros(1, 7, DIM), flat), flat, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("token_dim", [3 * PATCH * PATCH, 20])
def test_no_displacement_is_an_exact_copy(token_dim: int, kind: type):
    tokenizer, motion = fitted(kind, token_dim)
    displace(motion, 0, 0)
    tokens = torch.randn(4, 6, token_dim)
    if kind is not PlainMotion:  # the others copy nothing brighter than pictures are
        tokens = tokenizer.encode(pictures(4), tokenizer.empty_state(4))[0][:, 0]
    assert torch.allclose(motion(torch.randn(4, 7, DIM), tokens), tokens, atol=1e-4)


@pytest.mark.parametrize("kind", [MotionCompensation, WholeMotion])
def test_what_is_copied_from_is_never_brighter_than_pictures_are(kind: type):
    _, motion = fitted(kind)
    displace(motion, 0, 0)
    tokens = motion.tokens(torch.full((1, 3, 16, 24), 2.0))
    assert motion.picture(motion(torch.randn(1, 7, DIM), tokens)).amax().item() == pytest.approx(1.05, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("across", "down"), [(3, 0), (-8, 0), (0, 5), (2, -7)])
def test_a_displaced_picture_is_the_picture_displaced(across: int, down: int, kind: type):
    tokenizer, motion = fitted(kind)
    displace(motion, across, down)
    frame = pictures(2)
    tokens, _ = tokenizer.encode(frame, tokenizer.empty_state(2))
    moved = motion(torch.zeros(2, 7, DIM), tokens[:, 0])
    shown, _ = tokenizer.decode(moved[:, None], tokenizer.empty_state(2))
    rows = (torch.arange(16) + down).clamp(0, 15)
    columns = (torch.arange(24) + across).clamp(0, 23)
    assert torch.allclose(shown[:, 0], frame[:, 0][..., rows, :][..., columns], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_each_block_moves_by_its_own_kernels(kind: type):
    tokenizer, motion = fitted(kind)
    displace(motion, 0, 0)
    per_token = (PATCH // BLOCK) ** 2
    bias = motion.kernels.bias.unflatten(0, (2, per_token, DISPLACEMENTS))
    bias[0, 0, REACH], bias[0, 0, REACH + 4] = 0, 100  # the first block of every token, across
    frame = pictures(1)
    tokens, _ = tokenizer.encode(frame, tokenizer.empty_state(1))
    moved = motion(torch.zeros(1, 7, DIM), tokens[:, 0])
    shown, _ = tokenizer.decode(moved[:, None], tokenizer.empty_state(1))
    picture, shown = frame[0, 0], shown[0, 0]
    assert torch.allclose(shown[:, :4, :4], picture[:, :4, 4:8], atol=1e-3)
    assert torch.allclose(shown[:, :4, 4:8], picture[:, :4, 4:8], atol=1e-3)
    assert torch.allclose(shown[:, 4:8, :4], picture[:, 4:8, :4], atol=1e-3)


def tokens_of(picture: torch.Tensor) -> torch.Tensor:
    """picture (b, 3, 16, 24) -> the tokens of a motion compensation whose basis are the pixels (b, n, d)"""
    return Basis(3 * PATCH * PATCH, GRID, PATCH).tokens(picture)


def test_what_moves_by_half_a_pixel_is_not_smeared():
    """Stripes 4 pixels apart, six times: a mean of two pixels fades them each time, a cubic kernel hardly."""
    left = {}
    stripes = torch.cos(torch.pi / 2 * torch.arange(24)).expand(1, 3, 16, 24)
    sizes = (DIM, 3 * PATCH * PATCH, GRID, PATCH, REACH)
    kinds = {"averaged": PlainMotion(*sizes), "copied": MotionCompensation(*sizes)}
    for share in (-20.0, 20.0):  # logits of cubic kernels'
        kinds[share] = PlainMotion(*sizes, cubic=True)
        torch.nn.init.constant_(kinds[share].cubic_share.bias, share)
    for kind, motion in kinds.items():
        displace(motion.requires_grad_(False), 0, 0)
        motion.kernels.bias.unflatten(0, (2, -1, DISPLACEMENTS))[0, :, REACH + 1] = 100
        tokens = tokens_of(stripes)
        for _ in range(6):
            tokens = motion(torch.zeros(1, 7, DIM), tokens)
        left[kind] = (motion.picture(tokens)[..., 8:14].std() / stripes[..., 8:14].std()).item()
    assert left[-20.0] == pytest.approx(left["averaged"], rel=1e-4) and left["averaged"] < 0.2
    assert 0.4 < left["copied"] < 1 and left[20.0] == pytest.approx(left["copied"], rel=1e-3)


@pytest.mark.parametrize("off", [0.0, 0.25, 0.5, 3.7])
def test_a_cubic_kernel_is_at_its_place(off: float):
    places = torch.arange(-8, 9.0)
    weights = cubic_kernel(places - off)
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)
    assert (weights * places).sum().item() == pytest.approx(off, abs=1e-4)


def test_a_pixel_is_sampled_where_its_displacement_points():
    ramp = torch.arange(24.0).expand(1, 2, 16, 24)
    off = torch.linspace(-3, 3, 24).expand(1, 16, 24)
    expected = (ramp[:, 0] + off)[..., 4:20]
    assert torch.allclose(cubic_sample(ramp, off, -1)[:, 1, :, 4:20], expected, atol=1e-4)
    turned = cubic_sample(ramp.mT, off.mT, -2)
    assert torch.allclose(turned[:, 0, 4:20], expected.mT, atol=1e-4)


def test_beyond_the_edge_there_is_the_edge():
    picture = torch.randn(1, 3, 16, 24)
    far = torch.full((1, 16, 24), 100.0)
    assert torch.allclose(cubic_sample(picture, far, -1), picture[..., -1:].expand_as(picture), atol=1e-5)
    assert torch.allclose(cubic_sample(picture, -far, -2), picture[..., :1, :].expand_as(picture), atol=1e-5)


def test_the_camera_may_zoom_and_blocks_need_not_follow():
    """A displacement of REACH / 2 times x, and none where a token's share of it is nothing."""
    _, motion = fitted()
    displace(motion, 0, 0)
    motion.polynomial.weight.unflatten(0, (2, -1))[0, 1] = REACH / 2  # across, by the term x
    motion.follows.bias[:] = 20
    motion.follows.weight[:, 0] = -40
    hidden = torch.zeros(1, 7, DIM)
    hidden[:, -1, 1] = 1  # of the action token
    hidden[:, 2, 0] = 1  # the token in the corner above right
    across, down = motion.displacement(hidden)
    x = (torch.arange(24) + 0.5) / 12 - 1
    expected = (REACH / 2 * x).expand(16, 24).clone()
    expected[:8, 16:] = 0
    assert torch.allclose(across[0], expected, atol=1e-4) and not down.any()


def learned(motion: Any, error: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """How far the displacements of blocks, learned from a picture that moves 6 pixels a frame, are from that (2,
    blocks); error: of hidden states, tokens before and tokens after"""
    noise = torch.rand(8, 3, 6, 14, generator=torch.Generator().manual_seed(2)) * 2 - 1
    noise = F.interpolate(noise, (16, 40), mode="bicubic")
    before, after = (tokens_of(noise[..., o : o + 24]) for o in (8, 14))
    optimiser = torch.optim.Adam([motion.kernels.bias], lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        error(torch.zeros(8, 7, DIM), before, after).backward()
        optimiser.step()
    kernels = motion.kernels.bias.detach().unflatten(0, (2, -1, DISPLACEMENTS)).softmax(-1)
    return (kernels * torch.arange(-REACH, REACH + 1.0)).sum(-1) - torch.tensor([[6.0], [0.0]])


def test_where_to_copy_from_is_learned_from_smaller_pictures():
    """Gradient descent hardly comes nearer to what is copied sharp, 6 pixels away, but does where pictures are
    smaller."""
    sharp, smaller = (MotionCompensation(DIM, 3 * PATCH * PATCH, GRID, PATCH, REACH) for _ in range(2))
    off = learned(smaller, lambda *given: coarse_error(smaller, *given).mean())
    off_sharp = learned(sharp, lambda hidden, before, after: (sharp(hidden, before) - after).square().mean())
    assert off.abs().max() < 1 < 4 * off.abs().max() < off_sharp.abs().max()


def test_which_whole_pixels_to_copy_is_learned_by_likelihood():
    """Six pixels across in one half of the picture, none in the other; the picture that is copied says nothing."""
    motion = WholeMotion(DIM, 3 * PATCH * PATCH, GRID, PATCH, REACH)
    hidden, noise = torch.zeros(8, 7, DIM), torch.rand(8, 3, 16, 40, generator=torch.Generator().manual_seed(2)) * 2 - 1
    hidden[:, :3, 0] = 1  # the upper row of tokens
    before, after = noise[..., 8:32], noise[..., 14:38].clone()
    after[..., 8:, :] = before[..., 8:, :]
    before, after = tokens_of(before), tokens_of(after)
    assert not motion(hidden, before).requires_grad
    optimiser = torch.optim.Adam(motion.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        optimiser.zero_grad()
        surprise(motion, hidden, before, after, generator).mean().backward()
        optimiser.step()
    across, down = motion.log_odds(hidden)[:, 0].argmax(-1) - REACH
    assert (across[:2] == 6).all() and (across[2:] == 0).all() and (down == 0).all()
    moved = motion.picture(motion(hidden, before) - after)[..., :16]
    assert moved.abs().max() < 1e-5


def test_where_nothing_shows_it_no_displacement_is_learned():
    motion = WholeMotion(DIM, 3 * PATCH * PATCH, GRID, PATCH, REACH)
    generator = torch.Generator().manual_seed(0)
    flat, noise = torch.zeros(2, 3, 16, 24), torch.rand(2, 3, 16, 24, generator=generator) * 2 - 1

    def learns(before: torch.Tensor, after: torch.Tensor) -> float:
        motion.zero_grad()
        surprise(motion, torch.zeros(2, 7, DIM), tokens_of(before), tokens_of(after), generator).mean().backward()
        return motion.kernels.bias.grad.abs().max().item()

    assert learns(flat, flat) < 1e-6  # every displacement is right
    assert learns(flat, torch.full_like(flat, 1.0)) < 1e-6  # none is
    assert learns(noise, noise) > 1e-4


def test_what_cannot_be_computed_is_no_error_but_nothing_either():
    """NaN reaches the loss, where training draws another batch."""
    motion = WholeMotion(DIM, 3 * PATCH * PATCH, GRID, PATCH, REACH)
    tokens, generator = torch.zeros(2, 6, 3 * PATCH * PATCH), torch.Generator().manual_seed(0)
    assert surprise(motion, torch.full((2, 7, DIM), torch.nan), tokens, tokens, generator).isnan().all()


@pytest.mark.parametrize("kind", [MotionCompensation, PlainMotion, WholeMotion])
def test_copies_of_copies_are_as_exact_in_half_precision(kind: type):
    """As in compiled training, and on a GPU: 48 frames of its own past."""
    _, motion = fitted(kind)
    motion.requires_grad_(False)
    picture = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = tokens = motion.tokens(picture)
    for _ in range(48):
        expected = motion(torch.zeros(2, 7, DIM), expected)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = motion(torch.zeros(2, 7, DIM, dtype=torch.bfloat16), tokens)
    assert (motion.picture(tokens) - motion.picture(expected)).abs().max() * 127.5 < 0.1  # grey levels
    if kind is not PlainMotion:  # which averages
        assert (motion.picture(tokens) - picture).abs().max() * 127.5 < 0.1


def test_what_moves_by_whole_pixels_stays_as_it_is():
    motion = WholeMotion(DIM, 3 * PATCH * PATCH, GRID, PATCH, REACH).requires_grad_(False)
    displace(motion, 1, 0)
    picture = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    tokens = tokens_of(picture)
    for _ in range(6):
        tokens = motion(torch.zeros(1, 7, DIM), tokens)
    assert (motion.picture(tokens)[..., :18] - picture[..., 6:]).abs().max() < 1e-5


def test_where_to_average_from_is_learned():
    """A picture that moves 6 pixels a frame: gradient descent finds the displacement from a copy."""
    tokenizer, motion = fitted(PlainMotion)
    motion.kernels.bias.requires_grad_(True)
    noise = torch.rand(8, 1, 3, 16, 40, generator=torch.Generator().manual_seed(2)) * 2 - 1
    before, after = (tokenizer.encode(noise[..., o : o + 24], tokenizer.empty_state(8))[0][:, 0] for o in (8, 14))
    optimiser = torch.optim.Adam([motion.kernels.bias], lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        (motion(torch.zeros(8, 7, DIM), before) - after).square().mean().backward()
        optimiser.step()
    bias = motion.kernels.bias.detach().unflatten(0, (2, -1, DISPLACEMENTS))
    assert (bias[0].argmax(-1) == REACH + 6).all()
    assert (bias[1].argmax(-1) == REACH).all()


def test_a_displacement_that_is_no_number_is_nowhere():
    """It must not end the training by itself: gradients that are not finite are told and left out."""
    nowhere = cubic_sample(torch.ones(1, 3, 16, 24), torch.full((1, 16, 24), torch.nan), -1)
    assert not nowhere.any()


def test_with_no_reach_nothing_moves():
    motion = MotionCompensation(DIM, 20, GRID, PATCH, 0)
    torch.nn.init.normal_(motion.polynomial.weight)
    tokens = torch.randn(2, 6, 20)
    assert torch.equal(motion(torch.randn(2, 7, DIM), tokens), tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_the_camera_moves_all_blocks_alike(kind: type):
    tokenizer, motion = fitted(kind)
    displace(motion, 0, 0)
    motion.camera.weight.unflatten(0, (2, DISPLACEMENTS))[0, REACH - 5] = 200
    hidden = torch.zeros(2, 7, DIM)
    hidden[:, -1] = 1 / DIM  # of the action token
    frame = pictures(2)
    tokens, _ = tokenizer.encode(frame, tokenizer.empty_state(2))
    shown, _ = tokenizer.decode(motion(hidden, tokens[:, 0])[:, None], tokenizer.empty_state(2))
    assert torch.allclose(shown[:, 0], frame[:, 0][..., (torch.arange(24) - 5).clamp(0, 23)], atol=1e-3)


@pytest.mark.parametrize("dim, sides", [(-1, (8, 8, 0, 0)), (-2, (0, 0, 8, 8))])
def test_a_picture_is_extended_as_replicated_padding_would(dim: int, sides: tuple[int, ...]):
    picture = torch.randn(2, 3, 12, 16)
    assert torch.equal(extend(picture, 8, dim), F.pad(picture, sides, mode="replicate"))
