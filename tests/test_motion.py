"""The previous frame, copied from where each block of it came from."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from worldgen.models.motion import BLOCK, MotionCompensation, cubic_kernel, extend  # noqa: E402
from worldgen.models.tokenizer import Tokenizer  # noqa: E402

GRID, PATCH, DIM, REACH = (2, 3), 8, 16, 8
DISPLACEMENTS = 2 * REACH + 1


def fitted(token_dim: int = 3 * PATCH * PATCH) -> tuple[Tokenizer, MotionCompensation]:
    """A tokenizer fitted to random pictures, and a motion compensation that knows its basis"""
    torch.manual_seed(0)
    tokenizer = Tokenizer(height=16, width=24, token_dim=token_dim, channels=[8, 16])
    frames = pictures(20)
    tokenizer.fit_basis(frames)
    tokenizer.standardise(tokenizer.squeeze(frames, tokenizer.empty_state(20))[0])
    motion = MotionCompensation(DIM, token_dim, GRID, PATCH, REACH)
    motion.take_basis(tokenizer.requires_grad_(False))
    return tokenizer, motion.requires_grad_(False)


def pictures(b: int) -> torch.Tensor:
    smooth = torch.rand(b, 3, 3, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return F.interpolate(smooth, (16, 24), mode="bilinear")[:, None]


def displace(motion: MotionCompensation, across: int, down: int) -> None:
    """Every block's kernels look this many pixels to the right and below."""
    bias = motion.kernels.bias.zero_().unflatten(0, (2, -1, DISPLACEMENTS))
    bias[0, :, REACH + across] = 100
    bias[1, :, REACH + down] = 100


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("reach", [0, REACH])
def test_at_the_end_of_its_reach_a_block_is_copied_whole(reach: int, cubic: bool):
    motion = MotionCompensation(DIM, 3 * PATCH * PATCH, GRID, PATCH, reach, cubic).requires_grad_(False)
    motion.kernels.bias.zero_().unflatten(0, (-1, 2 * reach + 1))[:, -1] = 100
    flat = torch.ones(1, 6, 3 * PATCH * PATCH)
    assert torch.allclose(motion(torch.zeros(1, 7, DIM), flat), flat, atol=1e-5)


@pytest.mark.parametrize("token_dim", [3 * PATCH * PATCH, 20])
def test_no_displacement_is_an_exact_copy(token_dim: int):
    _, motion = fitted(token_dim)
    displace(motion, 0, 0)
    tokens = torch.randn(4, 6, token_dim)
    assert torch.allclose(motion(torch.randn(4, 7, DIM), tokens), tokens, atol=1e-4)


@pytest.mark.parametrize(("across", "down"), [(3, 0), (-8, 0), (0, 5), (2, -7)])
def test_a_displaced_picture_is_the_picture_displaced(across: int, down: int):
    tokenizer, motion = fitted()
    displace(motion, across, down)
    frame = pictures(2)
    tokens, _ = tokenizer.encode(frame, tokenizer.empty_state(2))
    moved = motion(torch.zeros(2, 7, DIM), tokens[:, 0])
    shown, _ = tokenizer.decode(moved[:, None], tokenizer.empty_state(2))
    rows = (torch.arange(16) + down).clamp(0, 15)
    columns = (torch.arange(24) + across).clamp(0, 23)
    assert torch.allclose(shown[:, 0], frame[:, 0][..., rows, :][..., columns], atol=1e-3)


def test_each_block_moves_by_its_own_kernels():
    tokenizer, motion = fitted()
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


def test_what_moves_by_half_a_pixel_is_not_smeared():
    """Stripes 4 pixels apart, six times: a mean of two pixels fades them each time, a cubic kernel hardly."""
    left = {}
    for share in (None, -20.0, 20.0):  # logits of cubic kernels'
        motion = MotionCompensation(DIM, 3 * PATCH * PATCH, GRID, PATCH, REACH, cubic=share is not None)
        motion.requires_grad_(False)
        displace(motion, 0, 0)
        motion.kernels.bias.unflatten(0, (2, -1, DISPLACEMENTS))[0, :, REACH + 1] = 100
        if motion.cubic_share is not None:
            motion.cubic_share.bias[:] = share
        stripes = torch.cos(torch.pi / 2 * torch.arange(24)).expand(1, 3, 16, 24)
        patches = stripes.unflatten(-1, (3, PATCH)).unflatten(-3, (2, PATCH)).permute(0, 2, 4, 1, 3, 5)
        tokens = patches.reshape(1, 6, 3 * PATCH * PATCH)
        for _ in range(6):
            tokens = motion(torch.zeros(1, 7, DIM), tokens)
        left[share] = (motion.picture(tokens)[..., 8:14].std() / stripes[..., 8:14].std()).item()
    assert left[-20.0] == pytest.approx(left[None], rel=1e-4) and left[None] < 0.2
    assert 0.4 < left[20.0] < 1


@pytest.mark.parametrize("off", [0.0, 0.25, 0.5, 3.7])
def test_a_cubic_kernel_is_at_its_place(off: float):
    places = torch.arange(-8, 9.0)
    weights = cubic_kernel(places - off)
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)
    assert (weights * places).sum().item() == pytest.approx(off, abs=1e-4)


def test_where_to_copy_from_is_learned():
    """A picture that moves 6 pixels a frame: gradient descent finds the displacement from a copy."""
    tokenizer, motion = fitted()
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


def test_the_camera_moves_all_blocks_alike():
    tokenizer, motion = fitted()
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
