"""The variants that ablate.py compares with a preset: each one thing changed, by name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from worldgen.models.dynamics import AttendTime, Dynamics
from worldgen.training.dynamics import DynamicsLoss
from worldgen.training.presets import Preset, fine


class WithoutPrevious(Dynamics):
    """Neither sees previous frames' tokens at its own positions nor copies them: what was is in the cache alone."""

    def _run(
        self, attend_time: AttendTime, noisy, sigma, step_size, previous, context_sigma, action
    ) -> tuple[Tensor, Tensor]:
        nothing = torch.zeros_like(previous)
        return super()._run(attend_time, noisy, sigma, step_size, nothing, context_sigma, action)


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Those of a Dynamics with its defaults."""
    parameters = inspect.signature(Dynamics.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | given


@dataclass(frozen=True)
class Variant:
    """about: in words. The dicts are what it changes of the preset's: arguments of the dynamics and of the tokenizer,
    fields of DynamicsLoss and of Fit."""

    about: str
    network: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)
    network_class: type[Dynamics] = Dynamics

    def changes(self, preset: Preset) -> bool:
        """Whether it is another than the preset: some presets have what it brings."""
        fit, loss = preset.fits["dynamics"], DynamicsLoss(**preset.loss)
        return (
            self.network_class is not Dynamics
            or arguments(preset.dynamics | self.network) != arguments(preset.dynamics)
            or preset.tokenizer | self.tokenizer != preset.tokenizer
            or replace(fit, **self.fit) != fit
            or replace(loss, **self.loss) != loss
        )

    def facts(self) -> dict[str, Any]:
        """What is trained: by this a run that was begun is known again."""
        changes = {k: getattr(self, k) for k in ("network", "loss", "fit", "tokenizer")}
        return changes | {"class": self.network_class.__name__}


VARIANTS: dict[str, Variant] = {
    "no previous": Variant(
        "previous frames are neither shown nor copied", network_class=WithoutPrevious, loss={"motion_error": 0.0}
    ),
    "no stem": Variant("no convolutions before the blocks", network={"stem_channels": 0}),
    "one frame": Variant("one previous frame is shown place by place, not two", network={"history": 1}),
    "no displacement": Variant("pixels are copied from their own place", network={"reach": 0}),
    "averaged": Variant(
        "blocks are averaged, not copied, and motion learns from that alone", network={"warp": False, "whole": False}
    ),
    "no pyramid": Variant("motion learns from what is copied alone", loss={"motion_error": 0.0}),
    "squared error": Variant("tokens count by their squared errors, so that a few count alone", loss={"even": 0.0}),
    "even channels": Variant("an error counts alike in every channel, not as in the picture", loss={"space": "tokens"}),
    "no motion weight": Variant("tokens that change weigh as much as others", loss={"motion": 0.0}),
    "flow loss": Variant("the error is the flow's, not the tokens'", loss={"space": "flow"}),
    "no ramp": Variant("every noise level weighs the same", loss={"ramp_floor": 1.0}),
    "time in all": Variant("time attention in every layer, not every second", network={"time_every": 1}),
    "time in a third": Variant("time attention in every third layer", network={"time_every": 3}),
    "adamw": Variant("AdamW on the matrices of blocks too, not Muon", fit={"optimizer": "adamw"}),
    "noise shown": Variant("pure noise is shown to it too", network={"blank": False}),
    "less pure noise": Variant("a third of the frames are made from pure noise, not half", loss={"pure": 0.3}),
    "no past noise": Variant("what is seen of the past is exact", loss={"past_noise": 0.0}),
    "no own past": Variant("it never sees its own predictions as the past", loss={"own_past": 0.0}),
    "finer tokens": Variant(
        "tokens of 8x8 pixels instead of 16x16, as in the preset fine: four times as many", tokenizer=fine().tokenizer
    ),
}
