"""Trains the event head: which sound of the library begins in which frame, and which music goes on in it.

worldgen train recordings/ --out worlds/mine --stages sound_events --steps 500
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldgen.actions import ActionMap
from worldgen.data.dataset import ClipSampler
from worldgen.models.sound_events import SoundEvents, begun_before
from worldgen.training.hidden_states import HiddenStates, every_second
from worldgen.training.rollout import led_to
from worldgen.training.sound_library import SoundEvent
from worldgen.training.sound_onsets import PlayedClips, balance, onset_f1


def event_loss(
    logit: Tensor, kinds: Tensor, place: Tensor, tracks: Tensor, batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """logit (b, t) of a sound that begins, kinds (b, t, k) of which, place (b, t, 2), tracks (b, t, j + 1); batch: kind
    (b, t) int64, k for none, place (b, t, 2), track (b, t) -> cross-entropy of whether, of which, error of where in the
    frame and how loud, cross-entropy of the music"""
    none = kinds.shape[-1]
    kind = batch["kind"]
    is_event = (kind != none).float()
    whether = F.binary_cross_entropy_with_logits(logit.float(), is_event)
    entropy = F.cross_entropy(kinds.float().flatten(0, 1), kind.clamp_max(none - 1).flatten(), reduction="none")
    error = (place.float() - batch["place"]).square().sum(-1)
    count = is_event.sum().clamp_min(1)
    music = F.cross_entropy(tracks.float().flatten(0, 1), batch["track"].flatten())
    return whether, (entropy.view_as(is_event) * is_event).sum() / count, (error * is_event).sum() / count, music


class SoundEventsStage:
    name = "sound_events"

    def __init__(
        self,
        network: SoundEvents,
        action_map: ActionMap,
        actions: np.ndarray,
        events: list[SoundEvent],
        track: np.ndarray,
        train: tuple[HiddenStates, ClipSampler],
        validation: tuple[HiddenStates, ClipSampler],
        batch: int,
    ):
        """actions (N, width), row i chosen on frame i; events of all segments; track (N,): the music of
        each frame"""
        self.network, self._track = network, track
        self._action_map, self._actions, self._batch = action_map, actions, batch
        self._train, self._validation = train, validation
        self._kind = np.full(len(actions), network.config.num_sounds, np.int64)
        self._place = np.zeros((len(actions), 2), np.float32)
        for event in sorted(events, key=lambda e: e.gain):  # of two in a frame the louder one
            self._kind[event.frame] = event.kind
            self._place[event.frame] = event.place, np.log(np.clip(event.gain, 0.05, 2.7))
        self._clips = PlayedClips(*train, self._kind != network.config.num_sounds)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        hidden, sampler = self._train
        return self._gather(hidden, self._clips.draw(rng, self._batch), sampler.length, every_second(self._batch))

    def _gather(
        self, hidden: HiddenStates, starts: np.ndarray, length: int, is_played: np.ndarray
    ) -> dict[str, Tensor]:
        rows = starts[:, None] + np.arange(length)
        return {
            "hidden": torch.from_numpy(hidden.at(rows, is_played)),
            "actions": torch.from_numpy(led_to(self._action_map, self._actions[rows])),
            "kind": torch.from_numpy(self._kind[rows]),
            "place": torch.from_numpy(self._place[rows]),
            "track": torch.from_numpy(self._track[rows]),
        }

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        begun = begun_before(batch["kind"], self.network.config.num_sounds)
        logit, kinds, place, tracks = network(batch["hidden"], batch["actions"], begun)
        parts = event_loss(logit, kinds, place, tracks, batch)
        names = ("begin_error", "kind_error", "place_error", "music_error")
        return 4 * parts[0] + parts[1] + parts[2] + parts[3], {n: p.detach() for n, p in zip(names, parts, strict=True)}

    @torch.no_grad()
    def validate(self, network) -> tuple[dict[str, float], None]:
        """Of played frames: onset_f1, of sounds that begin within a frame of a true one, going on from the head's own
        past. Half of recorded, half of played ones: right_kind, of the frames in which one begins, under the true past,
        and right_music, of all."""
        hidden, sampler = self._validation
        starts = hidden.in_one_play(sampler).even_starts(48)
        batch = self._gather(hidden, starts, sampler.length, every_second(len(starts)))
        kind, none = batch["kind"], network.config.num_sounds
        inputs = (batch[k].to(network.device) for k in ("hidden", "actions"))
        _, kinds, _, tracks = network(*inputs, begun_before(kind, none).to(network.device))
        is_event = kind != none
        right = float((kinds.argmax(-1).cpu() == kind)[is_event].float().mean()) if is_event.any() else 0.0
        f1, made, real = onset_f1(*self._onsets(network))
        figures = {"onset_f1": f1, "made_onsets": made, "real_onsets": real, "right_kind": right}
        if network.config.num_music:
            figures["right_music"] = float((tracks.argmax(-1).cpu() == batch["track"]).float().mean())
        return figures, None

    @torch.no_grad()
    def _onsets(self, network) -> tuple[np.ndarray, np.ndarray]:
        """What the head lets begin in held-out played clips, going on from its own past, and what begins: (b, t) bool
        each"""
        hidden, sampler = self._validation
        starts = hidden.in_one_play(sampler).even_starts(48)
        batch = self._gather(hidden, starts, sampler.length, np.ones(len(starts), bool))
        b, t = batch["kind"].shape
        state = torch.zeros(b, network.state_dim, device=network.device)
        made = []
        for i in range(t):
            inputs = (batch[k][:, i].to(network.device) for k in ("hidden", "actions"))
            event, _, _, state = network.step(*inputs, state)
            made.append(event[:, -1] < 0.5)
        return torch.stack(made, 1).cpu().numpy(), (batch["kind"] != network.config.num_sounds).numpy()

    def finish(self, network) -> None:
        """Sets the threshold."""
        balance(network, self._onsets)
