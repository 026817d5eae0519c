"""Trains the event head: which sound of the library begins in which frame.

worldgen train recordings/ --out worlds/mine --stages sound_events --steps 500
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldgen.actions import ActionMap
from worldgen.data.dataset import ClipSampler
from worldgen.models.sound_events import SoundEvents
from worldgen.training.hidden_states import HiddenStates
from worldgen.training.rollout import led_to
from worldgen.training.sound_library import SoundEvent

EVENT_WEIGHT = 3.0  # of the frames in which a sound begins


def event_loss(logits: Tensor, place: Tensor, kind: Tensor, true_place: Tensor) -> tuple[Tensor, Tensor]:
    """logits (b, t, k + 1), kind (b, t) int64, k for none; place, true_place (b, t, 2) -> cross-entropy, error of where
    in the frame and how loud, of the frames with an event"""
    none = logits.shape[-1] - 1
    is_event = (kind != none).float()
    weight = 1 + (EVENT_WEIGHT - 1) * is_event
    entropy = F.cross_entropy(logits.float().flatten(0, 1), kind.flatten(), reduction="none").view_as(weight)
    error = (place.float() - true_place).square().sum(-1)
    return (entropy * weight).sum() / weight.sum(), (error * is_event).sum() / is_event.sum().clamp_min(1)


class SoundEventsStage:
    name = "sound_events"

    def __init__(
        self,
        network: SoundEvents,
        action_map: ActionMap,
        actions: np.ndarray,
        events: list[SoundEvent],
        train: tuple[HiddenStates, ClipSampler],
        validation: tuple[HiddenStates, ClipSampler],
        batch: int,
    ):
        """actions (N, width), row i chosen on frame i; events of all segments"""
        self.network = network
        self._action_map, self._actions, self._batch = action_map, actions, batch
        self._train, self._validation = train, validation
        self._kind = np.full(len(actions), network.config.num_sounds, np.int64)
        self._place = np.zeros((len(actions), 2), np.float32)
        for event in sorted(events, key=lambda e: e.gain):  # of two in a frame the louder one
            self._kind[event.frame] = event.kind
            self._place[event.frame] = event.place, np.log(np.clip(event.gain, 0.05, 2.7))

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        hidden, sampler = self._train
        return self._gather(hidden, sampler.draw(rng, self._batch), sampler.length)

    def _gather(self, hidden: HiddenStates, starts: np.ndarray, length: int) -> dict[str, Tensor]:
        rows = starts[:, None] + np.arange(length)
        return {
            "hidden": torch.from_numpy(hidden.at(rows)),
            "actions": torch.from_numpy(led_to(self._action_map, self._actions[rows])),
            "kind": torch.from_numpy(self._kind[rows]),
            "place": torch.from_numpy(self._place[rows]),
        }

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        logits, place = network(batch["hidden"], batch["actions"])
        entropy, error = event_loss(logits, place, batch["kind"], batch["place"])
        return entropy + error, {"entropy": entropy.detach(), "place_error": error.detach()}

    @torch.no_grad()
    def validate(self, network) -> tuple[dict[str, float], None]:
        """Of held-out clips: how many of the events are likeliest to begin in their frame, of those that do"""
        hidden, sampler = self._validation
        none, hits, made, real = network.config.num_sounds, 0, 0, 0
        for starts in np.array_split(sampler.even_starts(48), 4):
            if not len(starts):
                continue
            batch = {k: v.to(network.device) for k, v in self._gather(hidden, starts, sampler.length).items()}
            logits, _ = network(batch["hidden"], batch["actions"])
            found, kind = logits.argmax(-1), batch["kind"]
            hits += int(((found == kind) & (kind != none)).sum())
            made += int((found != none).sum())
            real += int((kind != none).sum())
        return {"event_f1": 2 * hits / max(1, made + real), "events": float(real)}, None

    def finish(self, network) -> None:
        pass
