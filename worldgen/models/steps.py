"""The graphs of a world as torch modules: what the torch backend runs is what is exported."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from worldgen.graphs import GraphSpec, TensorSpec
from worldgen.models.dynamics import Dynamics
from worldgen.models.heads import Heads
from worldgen.models.tokenizer import Tokenizer, to_float, to_uint8


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


def step_modules(tokenizer: Tokenizer, dynamics: Dynamics, heads: Heads | None) -> dict[str, nn.Module]:
    modules = {
        "encode": Encode(tokenizer),
        "denoise": Denoise(dynamics),
        "commit": Commit(dynamics, heads),
        "decode": Decode(tokenizer),
    }
    return {name: module.eval().requires_grad_(False) for name, module in modules.items()}


def step_specs(tokenizer: Tokenizer, dynamics: Dynamics, heads: Heads | None) -> dict[str, GraphSpec]:
    c = dynamics.config
    is_box = c.action_kind == "box"
    frame = TensorSpec("frame", "uint8", (tokenizer.config.height, tokenizer.config.width, 3))
    tokens = TensorSpec("tokens", "float32", (dynamics.num_tokens, c.token_dim))

    def state(name: str) -> TensorSpec:
        return TensorSpec(name, "float32", tokenizer.state_shape)

    def like_tokens(name: str) -> TensorSpec:
        return TensorSpec(name, "float32", tokens.shape)

    def previous(name: str) -> TensorSpec:
        return TensorSpec(name, "float32", (2, *tokens.shape))

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
    specs = (
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
    )
    return {spec.name: spec for spec in specs}


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
