"""The graphs of a world as torch modules: what the torch backend runs is what is exported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor, nn

from worldgen.config import NFE_CHOICES
from worldgen.graphs import GraphSpec, TensorSpec, frame_graph, frame_spec
from worldgen.models.between import Between
from worldgen.models.dynamics import Dynamics
from worldgen.models.heads import Heads
from worldgen.models.sound import SoundHead
from worldgen.models.sound_codec import SoundCodec
from worldgen.models.sound_events import SoundEvents
from worldgen.models.super_resolution import FOLD, SuperResolution
from worldgen.models.tokenizer import Tokenizer, to_float, to_uint8
from worldgen.onsets import SILENT


class Encode(nn.Module):
    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        tokens, state = self.tokenizer.encode(to_float(frame)[:, None], state)
        return tokens[:, 0], state


class Decode(nn.Module):
    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        frames, state = self.tokenizer.decode(tokens[:, None], state)
        return to_uint8(frames[:, 0]), state


class Denoise(nn.Module):
    def __init__(self, dynamics: Dynamics):
        super().__init__()
        self.dynamics = dynamics

    def forward(self, noisy, sigma, step_size, previous, context_sigma, action, cache, position, filled) -> Tensor:
        clean, _, _ = self.dynamics.denoise(
            noisy, sigma, step_size, previous, context_sigma, action, cache, position, filled
        )
        return clean


class Commit(nn.Module):
    def __init__(self, dynamics: Dynamics, heads: Heads | None):
        super().__init__()
        self.dynamics = dynamics
        self.heads = heads

    def forward(self, tokens, noise, previous, context_sigma, action, cache, position, filled) -> tuple[Tensor, ...]:
        cache, previous, hidden = self.dynamics.commit(
            tokens, noise, previous, context_sigma, action, cache, position, filled
        )
        if self.heads is None:
            return cache, previous, hidden
        reward, terminated = self.heads(hidden)
        return cache, previous, hidden, reward, terminated


class FrameStep(nn.Module):
    """A whole frame: nfe Euler steps from pure noise to clean tokens, then commit and decode."""

    def __init__(self, dynamics: Dynamics, commit: Commit, decode: Decode, nfe: int):
        super().__init__()
        self.dynamics = dynamics
        self.commit = commit
        self.decode = decode
        self.nfe = nfe

    def forward(
        self, noise, commit_noise, previous, context_sigma, action, cache, position, filled, decoder
    ) -> tuple[Tensor, ...]:
        ring = (action, cache, position, filled)
        x = self.dynamics.sample(noise, self.nfe, previous, context_sigma, *ring)
        frame, decoder = self.decode(x, decoder)
        return frame, *self.commit(x, commit_noise, previous, context_sigma, *ring), decoder


HOLD = 6  # grey levels by which a pixel of the small frame may change before the larger one follows
NEVER = 256.0  # added to what is held, so that 0 is a pixel that was never shown


class Upscale(nn.Module):
    """Super-resolution, and steadiness: where the small frame stands still, give or take the tokenizer's noise, the
    larger one stays exactly as it is. A pixel is held against the frame it was last drawn from, so it cannot creep."""

    def __init__(self, super_resolution: SuperResolution):
        super().__init__()
        self.super_resolution = super_resolution

    def forward(self, frame: Tensor, shown: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """frame (b, h, w, 3) uint8; shown (b, H, W, 3) uint8, the last image; state (b, h, w, 3) float32
        -> image (b, H, W, 3) uint8, state"""
        x = self.super_resolution.shuffled(to_float(frame))
        pixels = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)  # bytes are cheaper to move than floats
        side = FOLD * self.super_resolution.config.scale
        image = rearrange(pixels, "b (c p q) h w -> b (h p) (w q) c", c=3, p=side, q=side)
        now = frame.float() + NEVER
        moves = ((now - state).abs() > HOLD).any(dim=-1, keepdim=True)
        scale = self.super_resolution.config.scale
        # rows of a small pixel's larger ones at a time: pixel by pixel, choosing costs three times as much
        drawn, kept = (rearrange(x, "b (h p) (w q) c -> b h p w (q c)", p=scale, q=scale) for x in (image, shown))
        rows = torch.where(rearrange(moves, "b h w 1 -> b h 1 w 1"), drawn, kept)
        image = rearrange(rows, "b h p w (q c) -> b (h p) (w q) c", q=scale)
        return image, torch.where(moves, now, state)


class HalfWay(nn.Module):
    def __init__(self, between: Between):
        super().__init__()
        self.between = between

    def forward(self, before: Tensor, frame: Tensor) -> Tensor:
        return to_uint8(self.between(to_float(before), to_float(frame)))


class Sound(nn.Module):
    """Its state is one vector: the head's, and the codec's tail."""

    def __init__(self, codec: SoundCodec, head: SoundHead):
        super().__init__()
        self.codec = codec
        self.head = head

    @property
    def state_dim(self) -> int:
        return self.head.state_dim + math.prod(self.codec.tail_shape)

    def forward(self, hidden: Tensor, action: Tensor, noise: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        codec = self.codec
        head_state, tail = state.split([self.head.state_dim, math.prod(codec.tail_shape)], dim=-1)
        latent, head_state = self.head.step(hidden, action, noise, head_state)
        samples, tail = codec.decode(latent[:, None], tail.unflatten(-1, codec.tail_shape))
        return samples[:, 0].clamp(-1, 1), torch.cat([head_state, tail.flatten(1)], dim=-1)


class Hear(nn.Module):
    """Puts a recorded sound in the place of the one that Sound has just made up, so that what follows goes on from it.
    Of a frame that is silent the latent is zero, as in training.

    recorded (b, s, x), of the frame; before (b, o, x), the last samples of the one before; place (b), as of
    onset_places(); earlier, state (b, state_dim): those that Sound took and gave -> samples (b, s, x), state"""

    def __init__(self, sound: Sound):
        super().__init__()
        self.sound = sound

    def forward(
        self, recorded: Tensor, before: Tensor, place: Tensor, earlier: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        codec, head = self.sound.codec, self.sound.head
        head_state, tail = state[..., : head.state_dim], earlier[..., head.state_dim :]
        is_heard = (recorded.abs().amax((1, 2)) >= SILENT).to(recorded.dtype)
        latent = codec.encode(recorded[:, None], before)[:, 0] * is_heard[:, None]
        samples, tail = codec.decode(latent[:, None], tail.unflatten(-1, codec.tail_shape))
        head_state = head.heard(latent, place, head_state)
        return samples[:, 0].clamp(-1, 1), torch.cat([head_state, tail.flatten(1)], dim=-1)


class Events(nn.Module):
    def __init__(self, sound_events: SoundEvents):
        super().__init__()
        self.sound_events = sound_events

    def forward(self, hidden: Tensor, action: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.sound_events.step(hidden, action, state)


def step_modules(
    tokenizer: Tokenizer,
    dynamics: Dynamics,
    heads: Heads | None = None,
    super_resolution: SuperResolution | None = None,
    between: Between | None = None,
    sound_codec: SoundCodec | None = None,
    sound: SoundHead | None = None,
    sound_events: SoundEvents | None = None,
) -> dict[str, nn.Module]:
    denoise, commit, decode = Denoise(dynamics), Commit(dynamics, heads), Decode(tokenizer)
    modules: dict[str, nn.Module] = {
        "encode": Encode(tokenizer),
        "denoise": denoise,
        "commit": commit,
        "decode": decode,
    }
    modules |= {frame_graph(nfe): FrameStep(dynamics, commit, decode, nfe) for nfe in NFE_CHOICES}
    if super_resolution is not None:
        modules["upscale"] = Upscale(super_resolution)
    if between is not None:
        modules["between"] = HalfWay(between)
    if sound_codec is not None and sound is not None:
        modules["sound"] = made_up = Sound(sound_codec, sound)
        modules["hear"] = Hear(made_up)
    if sound_events is not None:
        modules["sound_events"] = Events(sound_events)
    return {name: module.eval().requires_grad_(False) for name, module in modules.items()}


def step_specs(
    tokenizer: Tokenizer,
    dynamics: Dynamics,
    heads: Heads | None = None,
    super_resolution: SuperResolution | None = None,
    between: Between | None = None,
    sound_codec: SoundCodec | None = None,
    sound: SoundHead | None = None,
    sound_events: SoundEvents | None = None,
) -> dict[str, GraphSpec]:
    c = dynamics.config
    is_box = c.action_kind == "box"
    frame = TensorSpec("frame", "uint8", (tokenizer.config.height, tokenizer.config.width, 3))
    tokens = TensorSpec("tokens", "float32", (dynamics.num_tokens, c.token_dim))

    def state(name: str) -> TensorSpec:
        return TensorSpec(name, "float32", tokenizer.state_shape)

    def like_tokens(name: str) -> TensorSpec:
        return TensorSpec(name, "float32", tokens.shape)

    def previous(name: str) -> TensorSpec:
        return TensorSpec(name, "float32", dynamics.previous_shape)

    def level(name: str) -> TensorSpec:
        return TensorSpec(name, "float32", ())

    action = TensorSpec("action", "float32" if is_box else "int64", (len(c.action_sizes) + is_box,))
    ring = (
        action,
        TensorSpec("cache", "float32", dynamics.cache_shape),
        TensorSpec("position", "int64", ()),
        TensorSpec("filled", "int64", ()),
    )
    committed = [
        TensorSpec("next_cache", "float32", dynamics.cache_shape),
        previous("next_previous"),
        TensorSpec("hidden", "float32", (dynamics.num_tokens + 1, c.dim)),
    ]
    if heads is not None:
        committed += [level("reward"), level("terminated")]
    specs = [
        GraphSpec("encode", (frame, state("state")), (tokens, state("next_state"))),
        GraphSpec(
            "denoise",
            (like_tokens("noisy"), level("sigma"), level("step_size"), previous("previous"), level("context_sigma"))
            + ring,
            (tokens,),
        ),
        GraphSpec(
            "commit",
            (tokens, like_tokens("noise"), previous("previous"), level("context_sigma")) + ring,
            tuple(committed),
        ),
        GraphSpec("decode", (tokens, state("state")), (frame, state("next_state"))),
    ]
    if super_resolution is not None:
        h, w, _ = frame.shape
        s = super_resolution.config.scale
        shown, image = (TensorSpec(name, "uint8", (s * h, s * w, 3)) for name in ("shown", "image"))
        held = TensorSpec("state", "float32", (h, w, 3))
        specs.append(
            GraphSpec("upscale", (frame, shown, held), (image, TensorSpec("next_state", "float32", (h, w, 3))))
        )
    if between is not None:
        before, middle = (TensorSpec(name, "uint8", frame.shape) for name in ("before", "between"))
        specs.append(GraphSpec("between", (before, frame), (middle,)))
    if sound_codec is not None and sound is not None:
        noise = TensorSpec("noise", "float32", (sound.noise_dim,))
        samples = TensorSpec("samples", "float32", (sound_codec.config.samples, sound_codec.config.channels))
        width = (Sound(sound_codec, sound).state_dim,)
        specs.append(
            GraphSpec(
                "sound",
                (committed[2], action, noise, TensorSpec("state", "float32", width)),
                (samples, TensorSpec("next_state", "float32", width)),
            )
        )
        recorded = replace(samples, name="recorded")
        before = TensorSpec("before", "float32", sound_codec.tail_shape)
        earlier, made_up = (TensorSpec(name, "float32", width) for name in ("earlier", "state"))
        specs.append(
            GraphSpec(
                "hear",
                (recorded, before, level("place"), earlier, made_up),
                (samples, TensorSpec("next_state", "float32", width)),
            )
        )
    if sound_events is not None:
        width = (sound_events.state_dim,)
        event = TensorSpec("event", "float32", (sound_events.config.num_sounds + 1,))
        music = TensorSpec("music", "float32", (sound_events.config.num_music + 1,))
        outputs = (event, TensorSpec("place", "float32", (2,)), music, TensorSpec("next_state", "float32", width))
        inputs = (committed[2], action, TensorSpec("state", "float32", width))
        specs.append(GraphSpec("sound_events", inputs, outputs))
    named = {spec.name: spec for spec in specs}
    return named | {frame_graph(nfe): frame_spec(named, nfe) for nfe in NFE_CHOICES}


def example_inputs(spec: GraphSpec, batch: int, bounds: Mapping[str, int], seed: int = 0) -> dict[str, Tensor]:
    """Random inputs of the right kind, for export and parity. bounds: exclusive upper bound of integer inputs."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for tensor in spec.inputs:
        shape = (batch, *tensor.shape)
        if tensor.dtype == "uint8":
            inputs[tensor.name] = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        elif tensor.dtype == "int64":
            inputs[tensor.name] = torch.randint(0, bounds[tensor.name], shape, generator=generator)
        elif tensor.shape == ():
            inputs[tensor.name] = torch.rand(shape, generator=generator)
        else:
            inputs[tensor.name] = torch.randn(shape, generator=generator)
    return inputs
