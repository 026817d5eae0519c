"""Trains the dynamics: the tokens of frames so far, and the action -> the tokens of the next frame.

    worldgen train recordings/ --out worlds/mine --stages dynamics --steps 200

Diffusion forcing (every frame its own noise level), x-prediction with the ramp weight (Dreamer 4, Hafner et al. 2025),
motion weight. Half of the frames are made from pure noise, so that one evaluation suffices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldgen.backends.torch_backend import TorchBackend
from worldgen.config import WorldConfig
from worldgen.data.cache import Cache
from worldgen.data.dataset import ClipSampler, repeated_ends
from worldgen.models.basis import Basis
from worldgen.models.dynamics import FINEST_STEP, Dynamics, previous_of
from worldgen.models.tokenizer import Tokenizer
from worldgen.training.compiled import compile_network
from worldgen.training.motion_error import motion_error
from worldgen.training.own_past import play_on
from worldgen.training.rollout import control_and_horizon, led_to
from worldgen.world import World


@dataclass(frozen=True)
class DynamicsLoss:
    """Choices of the loss.

    context_sigma: largest noise on finished frames. motion: extra weight of tokens that change. ramp_floor: weight at
    pure noise, 1 at clean. action_dropout: share of clips that begin with NULL actions, up to all of them.
    space: of the error: "pixels", as it counts in the picture (most channels hold fine grain that nobody can foretell);
    "tokens" (x-loss); or "flow", in which it is the tokens' over the noise level (v-loss).
    pure: share of frames that are made from pure noise, the only ones that play with one step a frame needs.
    own_past: share of steps whose clips the network has played on (own_past.py), with one or two steps a frame, from
    own_past_from of the schedule on, so that it learns to mend its errors instead of passing them on: at first one
    frame of them, halfway through all frames and own_past_ahead more before them.
    past_noise: largest noise, of a clip, on all that is seen of its past, besides context_sigma: in play that is copied
    on and on, and what is wrong with it must not grow.
    even: of a token the root of the squared error counts, from this size on, 0: the squared error itself. Flashes and
    what comes into sight have errors ten times as large as those of a floor's lines, and nobody can foretell them.
    motion_error: weight of what teaches motion itself (motion_error.py).
    """

    context_sigma: float = 0.2
    motion: float = 2.0
    ramp_floor: float = 0.3
    space: str = "pixels"
    action_dropout: float = 0.05
    pure: float = 0.5
    own_past: float = 0.25
    own_past_from: float = 0.6
    own_past_ahead: int = 16
    past_noise: float = 0.1
    even: float = 0.0
    motion_error: float = 1.0


class Ahead(NamedTuple):
    """What came before clips: tokens (b, a, n, d), actions (b, a, width), row i led to frame i, and first (b,) int64,
    the frame of the a that their episode begins with, a where it begins with the clip."""

    tokens: Tensor
    actions: Tensor
    first: Tensor


def weight_in_picture(basis: Basis) -> Tensor:
    """How much of the picture a squared error of each channel of the tokens is (d,), 1 on average"""
    per_channel = basis.gain.square().reciprocal()  # what a channel's variance of 1 is, summed over its pixels
    return per_channel / per_channel.mean()


def dynamics_loss(
    network: Dynamics,
    tokens: Tensor,
    actions: Tensor,
    null: Tensor,
    channel_weight: Tensor,
    generator: torch.Generator,
    progress: float,
    chance: float,
    recipe: DynamicsLoss,
    ahead: Ahead | None = None,
    is_repeat: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """tokens (b, t, n, d); actions (b, t, width), row i led to frame i; null (width,); channel_weight (d,), as of
    weight_in_picture(); chance: of [0, 1), whether the past is the network's own and with how many steps a frame, the
    same for all parts of a batch, so that no process waits for one that plays; is_repeat (b, t) bool, frames that teach
    nothing"""
    b, t, n, _ = tokens.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=tokens.device)

    def normal() -> Tensor:
        return torch.randn(tokens.shape, generator=generator, device=tokens.device)

    context_sigma = (recipe.context_sigma * uniform(b, 1)).expand(b, t)
    is_context = uniform(b, t) < (uniform(b, 1) < 0.5) * 0.5  # in half of the clips, half of the frames are finished
    sigma = torch.where(uniform(b, t) < recipe.pure, 1.0, uniform(b, t))
    recorded, actions = actions, drop_actions(actions, null, generator, recipe.action_dropout)

    past = tokens  # what the frames before each look like: as recorded, or as played
    is_own = progress >= recipe.own_past_from and chance < recipe.own_past
    if is_own:
        depth = min(1.0, 2 * (progress - recipe.own_past_from) / (1 - recipe.own_past_from))
        # with two steps a frame is drawn, not the mean of what may follow: its grain is copied on, too
        nfe = 1 if chance < recipe.own_past / 2 else 2
        past = own_past(network, tokens, recorded, null, context_sigma[:, 0], generator, ahead, depth, nfe)
        # as in play: every frame from pure noise, after finished ones alone
        is_context = uniform(b, t) < 0.5
        sigma = torch.ones_like(sigma)
    past = past + recipe.past_noise * uniform(b, 1, 1, 1) * normal()
    is_context[:, 0] = True  # a game begins from a finished frame
    sigma = torch.where(is_context, context_sigma, sigma)
    is_finished, noise = is_context[..., None, None], normal()  # finished frames have one noise, as in play
    previous = previous_of(past, _mix(past, noise, context_sigma), network.config.history)
    noisy = _mix(torch.where(is_finished, past, tokens), torch.where(is_finished, noise, normal()), sigma)
    # steps of every size that fits give the mean of what may follow
    step_size = 0.5 ** torch.randint(3, (b, t), generator=generator, device=tokens.device)
    step_size = torch.where(step_size <= sigma, step_size, FINEST_STEP)

    clean, hidden = network(noisy, sigma, step_size, previous, context_sigma, actions)
    error = (clean.float() - tokens).square()
    if recipe.space == "pixels":
        error = error * channel_weight
    error = error.mean(-1)  # (b, t, n)
    squared = error
    if recipe.space == "flow":
        error = error / sigma.clamp_min(0.1).square()[..., None]
    if recipe.even:
        error = (error + recipe.even**2).sqrt() - recipe.even
    change = torch.zeros(b, t, n, device=tokens.device)
    change[:, 1:] = (tokens[:, 1:] - tokens[:, :-1]).square().mean(-1)
    motion = 1 + recipe.motion * change.clamp(max=1)
    ramp = recipe.ramp_floor + (1 - recipe.ramp_floor) * (1 - sigma)
    if recipe.space == "flow":
        ramp = torch.ones_like(sigma)
    is_taught = ~is_context if is_repeat is None else ~(is_context | is_repeat)
    weight = (motion / motion.mean()) * ramp[..., None] * is_taught[..., None]
    loss = (weight * error).sum() / weight.sum().clamp_min(1e-6)  # a very small batch may hold finished frames alone
    if recipe.motion_error:
        off = motion_error(network, hidden, previous[:, :, 0], tokens, is_taught, generator, is_own)
        loss = loss if off is None else loss + recipe.motion_error * off
    pure = is_taught & (sigma == 1)
    name = "error_on_own_past" if is_own else "error_at_pure_noise"
    return loss, {name: squared[pure].mean().detach()} if pure.any() else {}


def own_past(
    network: Dynamics,
    tokens: Tensor,
    actions: Tensor,
    null: Tensor,
    context_sigma: Tensor,
    generator: torch.Generator,
    ahead: Ahead | None,
    share: float,
    nfe: int,
) -> Tensor:
    """Clips, the end of each played on: up to a share of it and of what came before. (b, t, n, d)"""
    b, t = tokens.shape[:2]
    first = torch.zeros(b, dtype=torch.int64, device=tokens.device)
    deepest = max(1, round(share * (t - 1 if ahead is None else ahead.tokens.shape[1] + t - 1)))
    if ahead is not None:
        unused = min(ahead.tokens.shape[1], ahead.tokens.shape[1] + t - 1 - deepest)
        first = (ahead.first - unused).clamp_min(0)
        tokens = torch.cat([ahead.tokens[:, unused:], tokens], dim=1)
        actions = torch.cat([ahead.actions[:, unused:], actions], dim=1)
    length = tokens.shape[1]
    is_begin = torch.arange(length, device=tokens.device) <= first[:, None]
    actions = torch.where(is_begin[..., None], null, actions)
    depth = torch.randint(1, deepest + 1, (b,), generator=generator, device=tokens.device)
    num_true = (length - depth).maximum(first + 1)
    played, _ = play_on(network, tokens, actions, context_sigma, num_true, generator, first, nfe)
    return played[:, -t:]


def drop_actions(actions: Tensor, null: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """actions (b, t, width): NULL for the first frame, and in a share of the clips for more, up to all: games begin
    from clips whose actions nobody knows too"""
    b, t, _ = actions.shape
    is_chosen, length = torch.rand(2, b, 1, generator=generator, device=actions.device)
    num_dropped = torch.where(is_chosen < share, 1 + t * length, 1.0)
    is_dropped = torch.arange(t, device=actions.device) < num_dropped
    return torch.where(is_dropped[..., None], null, actions)


def _mix(tokens: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    level = sigma[..., None, None]
    return (1 - level) * tokens + level * noise


class DynamicsStage:
    name = "dynamics"

    def __init__(
        self,
        network: Dynamics,
        tokenizer: Tokenizer,
        config: WorldConfig,
        cache: Cache,
        tokens: np.ndarray,
        actions: np.ndarray,
        train: ClipSampler,
        validation: ClipSampler | None,
        batch: int,
        recipe: DynamicsLoss | None = None,
    ):
        """tokens (N, n, d) of the cache's frames; actions (N, width), row i chosen on frame i; validation: clips of
        the prompt and the horizon, with known actions"""
        self.network = network
        self._tokenizer, self._config, self._recipe = tokenizer, config, recipe or DynamicsLoss()
        self._tokens, self._actions, self._train, self._batch = tokens, actions, train, batch
        self._held_out = None
        if validation is not None:
            clips = validation.evenly(16)
            self._held_out = (clips.frames, actions[clips.start[:, None] + np.arange(validation.length)])
        self._null = torch.from_numpy(config.actions.null())
        self._is_repeat = repeated_ends(cache)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        starts = self._train.draw(rng, self._batch)
        begins = self._train.begins(starts)
        rows = starts[:, None] + np.arange(-self._recipe.own_past_ahead, self._train.length)
        first = np.maximum(0, begins - rows[:, 0])
        rows = np.maximum(rows, begins[:, None])
        tokens = torch.from_numpy(np.asarray(self._tokens[rows.ravel()])).float().unflatten(0, rows.shape)
        return {
            "tokens": tokens,
            "actions": torch.from_numpy(led_to(self._config.actions, self._actions[rows])),
            "first": torch.from_numpy(first),
            "is_repeat": torch.from_numpy(self._is_repeat[rows]),
            "chance": torch.full((self._batch,), rng.random()),
        }

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        a = self._recipe.own_past_ahead
        tokens, actions = batch["tokens"], batch["actions"]
        ahead = Ahead(tokens[:, :a], actions[:, :a], batch["first"])
        null = self._null.to(tokens.device)
        return dynamics_loss(
            network, tokens[:, a:], actions[:, a:], null, weight_in_picture(self.network.motion), generator, progress,
            float(batch["chance"][0]), self._recipe, ahead, batch["is_repeat"][:, a:],
        )  # fmt: skip

    def validate(self, network) -> tuple[dict[str, float], np.ndarray | None]:
        if self._held_out is None:
            return {}, None
        frames, actions = self._held_out
        backend = TorchBackend(self._tokenizer, network, device=str(network.device))
        world = World(self._config, backend, batch=len(frames))
        world.nfe = 1
        return control_and_horizon(world, frames, actions, horizons=(1, 4, 16))

    def finish(self, network) -> None:
        pass

    def compile(self) -> None:
        compile_network(self.network)
