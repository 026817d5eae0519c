"""One frame of b games: from where they are and what is pressed to where they are then, and what is seen and heard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from worldgen import sampler
from worldgen.backends import Array, Backend
from worldgen.config import WorldConfig
from worldgen.graphs import frame_graph
from worldgen.onsets import onset_places
from worldgen.sound_source import GeneratedSound, SoundSource
from worldgen.state import Frame, State
from worldgen.uncertainty import Uncertainty


class FrameMaker:
    """Runs a backend's graphs. nfe, temperature, context_sigma, upscaling, shows_between and keeps_hidden are
    World's."""

    def __init__(
        self, config: WorldConfig, backend: Backend, *, upscale: bool, between: bool, sound: SoundSource | None,
        uncertainty: Uncertainty | None,
    ):  # fmt: skip
        self._backend, self._sound, self._uncertainty = backend, sound, uncertainty
        self._hearing = sound if isinstance(sound, GeneratedSound) and sound.hears else None
        self.is_upscaled = upscale and "upscale" in backend.specs
        self.upscaling = "network" if self.is_upscaled else "off"
        self.has_between = self.shows_between = between and "between" in backend.specs
        self._before: Array | None = None  # the frame on screen, before it was enlarged
        self.nfe, self.temperature, self.context_sigma = config.nfe, 1.0, config.context_sigma
        self.keeps_hidden = False
        self._tokens = backend.specs["denoise"].outputs[0]
        self.num_context = backend.specs["commit"].input("cache").shape[-2]

    @property
    def hears(self) -> bool:
        """Whether sound goes on from that of a prompt."""
        return self._hearing is not None

    @property
    def image_size(self) -> tuple[int, int]:
        height, width, _ = self._backend.specs["upscale" if self.is_upscaled else "decode"].outputs[0].shape
        return (height, width)

    def prepare(self, num_slots: int) -> None:
        """Before the first frame, and after nfe was changed."""
        if frame_graph(self.nfe) in self._backend.specs:
            self._backend.prepare(frame_graph(self.nfe), num_slots)

    def step(self, state: State, action: Array, draw: bool = True) -> tuple[State, Frame]:
        """action (b, width) -> the state after it, and a frame: not drawn but for the one half way to it, and not said
        to have ended"""
        done = self._make(state, action)
        after, frame = self._finish(state, action, done)
        if self.shows_between:
            if draw and self._before is not None:
                frame = replace(frame, between=self._half_way(state, self._before, done["frame"]))
            self._before = done["frame"]
        return after, frame

    def jump(self) -> None:
        """What is made next does not follow what is on screen."""
        self._before = None

    def prompt(
        self, seeds: np.ndarray, frames: np.ndarray, actions: np.ndarray, sound: np.ndarray | None = None
    ) -> Iterator[tuple[State, Frame]]:
        """Encodes and commits frames (b, t, h, w, 3); row i of actions (b, t, width) led to frame i. sound: what was
        heard with the first of them, (b, <= t, samples, channels) float32; unknown if None."""
        specs, asarray, b = self._backend.specs, self._backend.asarray, len(seeds)
        state = State(
            seed=seeds,
            step=np.zeros(b, np.int64),
            cache=asarray(specs["commit"].input("cache").zeros(b)),
            previous=asarray(specs["commit"].input("previous").zeros(b)),
            decoder=asarray(specs["decode"].input("state").zeros(b)),
            upscale=asarray(specs["upscale"].input("state").zeros(b)) if self.is_upscaled else None,
            sound=None if self._sound is None else self._sound.empty(b),
            image=asarray(np.zeros((b, *self.image_size, 3), np.uint8)),
            world=self._backend.weights_hash,
        )
        encoder = asarray(specs["encode"].input("state").zeros(b))
        heard = self._heard(sound)
        for i in range(frames.shape[1]):
            encoded = self._backend.run("encode", {"frame": asarray(frames[:, i].copy()), "state": encoder})
            encoder = encoded["next_state"]
            action = asarray(actions[:, i].copy())
            earlier = state.sound
            state, frame = self._finish(state, action, self._show(state, encoded["tokens"], action))
            if i < len(heard) and self._hearing is not None:
                samples, remembered = self._hearing.hear(*heard[i], earlier, state.sound)
                state, frame = replace(state, sound=remembered), replace(frame, sound=samples)
            yield state, frame

    def _heard(self, sound: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """sound (b, t, samples, channels) -> of each frame it, that of the frame before it, and onset_places()"""
        if sound is None or self._hearing is None:
            return []
        places = np.stack([onset_places(game, self._hearing.sample_rate) for game in sound], axis=1)
        by_frame = np.swapaxes(sound, 0, 1)
        before = np.concatenate([np.zeros_like(by_frame[:1]), by_frame[:-1]])
        return list(zip(by_frame, before, places, strict=True))

    def _make(self, state: State, action: Array) -> dict[str, Array]:
        """-> the outputs of the graph of a frame, by that graph or by those it is made of"""
        graph = frame_graph(self.nfe)
        if graph not in self._backend.specs:
            return self._show(state, self._denoise(state, action), action)
        noise = {
            "noise": self._noise(state, sampler.DENOISE),
            "commit_noise": self._noise(state, sampler.COMMIT),
        }
        return self._backend.run(graph, {**noise, **self._past(state, action), "decoder": state.decoder})

    def _denoise(self, state: State, action: Array) -> Array:
        """nfe Euler steps from pure noise -> the frame's clean tokens"""
        run, asarray, numpy = self._backend.run, self._backend.asarray, self._backend.numpy
        x = self._noise(state, sampler.DENOISE)
        step_size = 1 / self.nfe
        shared = {"step_size": self._level(step_size, state), **self._past(state, action)}
        for sigma in sampler.sigmas(self.nfe):
            clean = run("denoise", {"noisy": x, "sigma": self._level(sigma, state), **shared})["tokens"]
            is_last = sigma <= step_size
            x = clean if is_last else asarray(sampler.euler_step(numpy(x), numpy(clean), sigma, step_size))
        return x

    def _show(self, state: State, tokens: Array, action: Array) -> dict[str, Array]:
        """Commits and decodes a frame's clean tokens -> as _make()"""
        decoded = self._backend.run("decode", {"tokens": tokens, "state": state.decoder})
        noise = self._noise(state, sampler.COMMIT)
        done = self._backend.run("commit", {"tokens": tokens, "noise": noise, **self._past(state, action)})
        return {**done, "frame": decoded["frame"], "next_decoder": decoded["next_state"]}

    def _finish(self, state: State, action: Array, done: dict[str, Array]) -> tuple[State, Frame]:
        """What _make() gave -> the state after it and what is seen and heard"""
        zeros = np.zeros(len(state), np.float32)
        reward = self._backend.numpy(done["reward"]) if "reward" in done else zeros
        ends = self._backend.numpy(done["terminated"]) if "terminated" in done else None
        image, held = self._enlarged(state, done["frame"])
        sound, sound_state = None, None
        if self._sound is not None:
            sound, sound_state = self._sound.play(done["hidden"], action, state.sound, state.seed, state.step)
        uncertainty = None if self._uncertainty is None else self._uncertainty.of(done["hidden"], self._backend.numpy)
        frame = Frame(no_image(len(state)), sound, reward, zeros > 0, ends, uncertainty)
        state = replace(
            state,
            step=state.step + 1,
            cache=done["next_cache"],
            previous=done["next_previous"],
            decoder=done["next_decoder"],
            upscale=held,
            sound=sound_state,
            image=image,
            hidden=done["hidden"] if self.keeps_hidden else None,
        )
        return state, frame

    def _past(self, state: State, action: Array) -> dict[str, Array]:
        """What every graph of the dynamics reads besides the frame's own tokens."""
        asarray = self._backend.asarray
        return {
            "previous": state.previous,
            "context_sigma": self._level(self.context_sigma, state),
            "action": action,
            "cache": state.cache,
            "position": asarray(state.step % self._backend.position_period),
            "filled": asarray(np.minimum(state.step, self.num_context)),
        }

    def _enlarged(self, state: State, frame: Array) -> tuple[Array, Array | None]:
        """frame (b, h, w, 3) -> the image on screen (b, H, W, 3), the state of super-resolution"""
        if state.upscale is None:
            return frame, None
        if self.upscaling != "nearest":
            return self.upscaled(frame, state.image, state.upscale)
        image = self._backend.numpy(frame)
        image = image.repeat(self.image_size[0] // image.shape[1], axis=1)
        image = image.repeat(self.image_size[1] // image.shape[2], axis=2)
        held = self._backend.specs["upscale"].input("state").zeros(len(state))
        return self._backend.asarray(image), self._backend.asarray(held)

    def _half_way(self, state: State, before: Array, frame: Array) -> np.ndarray:
        """The image half way from that of `state`, whose frame was `before`, to the next frame. Nothing follows from
        it, so games are the same with and without."""
        middle = self._backend.run("between", {"before": before, "frame": frame})["between"]
        return self._backend.numpy(self._enlarged(state, middle)[0])

    def upscaled(self, frame: Array, shown: Array, state: Array) -> tuple[Array, Array]:
        """frame (b, h, w, 3), shown (b, H, W, 3) the image before -> image (b, H, W, 3) uint8, state"""
        out = self._backend.run("upscale", {"frame": frame, "shown": shown, "state": state})
        return out["image"], out["next_state"]

    def _noise(self, state: State, draw: int) -> Array:
        noise = sampler.noise(state.seed, state.step, draw, self._tokens.shape)
        if draw == sampler.DENOISE and self.temperature != 1:
            noise *= np.float32(self.temperature)
        return self._backend.asarray(noise)

    def _level(self, value: float, state: State) -> Array:
        return self._backend.asarray(np.full(len(state), value, np.float32))


def no_image(num_slots: int) -> np.ndarray:
    """Of frames that are not drawn."""
    return np.zeros((num_slots, 0, 0, 3), np.uint8)
