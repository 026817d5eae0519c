"""World: reset, step, snapshot, restore. One world is a game, an environment and an engine (contract C4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldgen import sampler
from worldgen.backends import Array, Backend, open_backend
from worldgen.bundle import DEFAULT_WORLD, Starts, check_parts, find_world, source_hashes
from worldgen.config import NFE_CHOICES, WorldConfig
from worldgen.errors import InputError
from worldgen.graphs import frame_graph
from worldgen.sound_library import SoundLibrary
from worldgen.sound_source import open_sound
from worldgen.uncertainty import Uncertainty


@dataclass(frozen=True)
class Frame:
    """What a world shows. With batch=n every field has a leading axis n.

    image: (h, w, 3) uint8. sound: (samples, channels) float32 in [-1, 1], what is heard while the frame is on screen;
        None where the world is silent.
    reward: float32. terminated: bool. Arrays are the caller's own. end_probability: what terminated was decided from,
        float32 in 0..1; None where nothing was played, or without a head.
    uncertainty: how unlike recorded frames it is, float32, above 1 for 1 % of those; NaN for games that stayed as they
        were, None in a world without statistics.
    between: (h, w, 3) uint8, the picture half way from the frame before to this one, to be shown first; None unless
        World.shows_between, and for the first frame after a reset or a restored moment.
    """

    image: np.ndarray
    sound: np.ndarray | None
    reward: np.ndarray | float
    terminated: np.ndarray | bool
    end_probability: np.ndarray | float | None = None
    uncertainty: np.ndarray | float | None = None
    between: np.ndarray | None = None


@dataclass(frozen=True)
class State:
    """Where b games are, as values: what snapshot() gives and restore() takes.

    seed (b,) uint64; step (b,) int64 frames since the start; cache (b, l, 2, m, k, s, e); previous (b, 2, n, d), the
    last frame's tokens, and as the dynamics saw them; decoder (b, r, n, c); upscale (b, h, w, 3), sound (b, ...), None
    without; image (b, h, w, 3) uint8, the frame on screen; world: hash of the weights it belongs to; hidden (b, m, c)
    of the frame on screen, None unless World.keeps_hidden.
    """

    seed: np.ndarray
    step: np.ndarray
    cache: Array
    previous: Array
    decoder: Array
    upscale: Array | None
    sound: Array | None
    image: Array
    world: str
    hidden: Array | None = None

    def __len__(self) -> int:
        return len(self.seed)

    def __getitem__(self, rows: np.ndarray | slice) -> State:
        """Some of the games, or some of them several times."""
        return State(
            seed=self.seed[rows],
            step=self.step[rows],
            cache=self.cache[rows],
            previous=self.previous[rows],
            decoder=self.decoder[rows],
            upscale=None if self.upscale is None else self.upscale[rows],
            sound=None if self.sound is None else self.sound[rows],
            image=self.image[rows],
            world=self.world,
            hidden=None if self.hidden is None else self.hidden[rows],
        )


class World:
    """A trained world, running. Not thread-safe: one thread steps it."""

    def __init__(
        self,
        config: WorldConfig,
        backend: Backend,
        starts: Starts | None = None,
        batch: int | None = None,
        *,
        upscale: bool = True,
        between: bool = False,
        sound: str | None = None,
        library: SoundLibrary | None = None,
        uncertainty: Uncertainty | None = None,
    ):
        """batch: number of games side by side, giving every frame a leading axis; None for one game without it.
        upscale: show larger frames, where the backend has super-resolution.
        between: give in-between frames too, where the backend has the graph for them.
        sound: "generated", "retrieved" (from the library) or "off"; None is the world's own, where the backend has a
            sound head. uncertainty: the statistics that Frame.uncertainty needs."""
        if batch is not None and batch < 1:
            raise InputError(f"batch is at least 1, got {batch}")
        self.config = config
        self.batch = batch
        self._backend = backend
        self._starts = starts
        self._num_slots = batch or 1
        self._state: State | None = None
        self._is_upscaled = upscale and "upscale" in backend.specs
        self._upscaling = "network" if self._is_upscaled else "off"
        self.has_between = between and "between" in backend.specs
        self._shows_between = self.has_between
        self._before: Array | None = None  # the frame on screen before it was enlarged, where in-between ones are shown
        self._sound = open_sound(config, backend, sound, library)
        self._uncertainty = uncertainty
        self._nfe = config.nfe
        self._temperature, self._context_sigma = 1.0, config.context_sigma
        self.keeps_hidden = False  # for observe("hidden"); set it before a reset
        self._tokens = backend.specs["denoise"].outputs[0]
        self._num_context = backend.specs["commit"].input("cache").shape[-2]

    @classmethod
    def load(
        cls,
        name: str | Path = DEFAULT_WORLD,
        *,
        backend: str = "auto",
        batch: int | None = None,
        nfe: int | None = None,
        upscale: bool = True,
        between: bool = False,
        sound: str | None = None,
    ) -> World:
        """name: a bundled world or a folder. backend: see open_backend(). nfe: instead of the world's own.
        upscale, between, sound: as the constructor takes them."""
        folder = find_world(name)
        config, starts = WorldConfig.load(folder / "world.json"), Starts.load(folder)
        engine = open_backend(folder, backend)
        check_parts(folder, config, engine.specs, starts)
        library = SoundLibrary.load(folder)
        hidden = next(x.shape for x in engine.specs["commit"].outputs if x.name == "hidden")
        uncertainty = Uncertainty.load(folder, lambda: source_hashes(folder), hidden)
        world = cls(
            config, engine, starts, batch, upscale=upscale, between=between, sound=sound, library=library,
            uncertainty=uncertainty,
        )  # fmt: skip
        if nfe is not None:
            world.nfe = nfe
        return world

    @property
    def nfe(self) -> int:
        """Function evaluations a frame: 1, 2 or 4. May be changed while playing."""
        return self._nfe

    @nfe.setter
    def nfe(self, value: int) -> None:
        if value not in NFE_CHOICES:
            raise InputError(f"nfe is one of {NFE_CHOICES}, got {value}")
        self._nfe = value
        if self._state is not None:
            self._prepare()

    @property
    def upscaling(self) -> str:
        """How frames become larger: "network" is super-resolution, "nearest" repeats pixels and saves its time, "off"
        leaves them as small as the world is. The first two may be changed for each other while playing."""
        return self._upscaling

    @upscaling.setter
    def upscaling(self, value: str) -> None:
        if value not in (("network", "nearest") if self._is_upscaled else ("off",)):
            raise InputError(f"upscaling {self._upscaling!r} cannot become {value!r} while playing")
        self._upscaling = value

    @property
    def shows_between(self) -> bool:
        """Whether frames come with the one half way to them (Frame.between). May be changed while playing in a world
        that was opened with in-between frames; the frames themselves stay the same."""
        return self._shows_between

    @shows_between.setter
    def shows_between(self, value: bool) -> None:
        if value and not self.has_between:
            raise InputError(f"world {self.config.name!r} was opened without in-between frames, or has none")
        self._shows_between, self._before = value, None

    @property
    def temperature(self) -> float:
        """Spread of the noise that frames are made from: 1 as trained; above it less likely frames come (Ha &
        Schmidhuber 2018), below it only likely ones."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not 0 <= value <= 10:
            raise InputError(f"temperature is between 0 and 10, got {value}")
        self._temperature = float(value)

    @property
    def context_sigma(self) -> float:
        """Noise level at which finished frames are shown to the dynamics: the more, the vaguer its memory."""
        return self._context_sigma

    @context_sigma.setter
    def context_sigma(self, value: float) -> None:
        if not 0 <= value < 1:
            raise InputError(f"context_sigma is a noise level in [0, 1), got {value}")
        self._context_sigma = float(value)

    @property
    def backend_name(self) -> str:
        return self._backend.name

    @property
    def engine(self) -> dict[str, Any]:
        """What runs the world: backend, version, device, threads and, of ONNX Runtime, providers."""
        return {"backend": self._backend.name, **self._backend.facts}

    @property
    def hash(self) -> str:
        """Of the weights: snapshots and replays belong to one hash."""
        return self._backend.weights_hash

    @property
    def graphs(self) -> tuple[str, ...]:
        """What the engine runs, those that this world plays without included."""
        return tuple(self._backend.specs)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of Frame.image: the world's own, or larger with super-resolution."""
        height, width, _ = self._backend.specs["upscale" if self._is_upscaled else "decode"].outputs[0].shape
        return (height, width)

    @property
    def image(self) -> np.ndarray:
        """The picture on screen, (h, w, 3) uint8, batch first: a copy."""
        return self.observe("image")

    @property
    def tokens_shape(self) -> tuple[int, ...]:
        """(n, d) of a frame's tokens."""
        return self._tokens.shape

    @property
    def hidden_shape(self) -> tuple[int, ...]:
        """(m, c) of a frame's hidden state."""
        return next(x.shape for x in self._backend.specs["commit"].outputs if x.name == "hidden")

    def observe(self, what: str = "image", *, as_tensor: bool = False) -> Any:
        """A copy of the frame on screen as "image" (h, w, 3) uint8, "tokens" (n, d) or "hidden" (m, c) float32, batch
        first. as_tensor: a torch.Tensor where the engine has it, by way of numpy only if the engine is not torch's."""
        state = self._current()
        if what == "hidden" and state.hidden is None:
            raise InputError("the hidden state was not kept: set world.keeps_hidden before reset()")
        array = {"image": state.image, "tokens": state.previous, "hidden": state.hidden}[what]
        out = self._backend.tensor(array) if as_tensor else self._backend.numpy(array)
        out = out[:, 0] if what == "tokens" else out  # the first of both is what was decoded
        return out if self.batch is not None else out[0]

    @property
    def sample_rate(self) -> int | None:
        """In Hz; None where the world is silent. A frame holds the same number of samples always."""
        return None if self._sound is None else self._sound.sample_rate

    @property
    def sound(self) -> str:
        """generated, retrieved or off"""
        return "off" if self._sound is None else self._sound.kind

    @property
    def channels(self) -> int:
        return 1 if self._sound is None else self._sound.channels

    @property
    def has_uncertainty(self) -> bool:
        """Whether frames say how unlike recorded ones they are."""
        return self._uncertainty is not None

    @property
    def starts(self) -> Starts | None:
        """What games begin from."""
        return self._starts

    @property
    def num_starts(self) -> int:
        return 0 if self._starts is None else len(self._starts.frames)

    def reset(
        self,
        seed: int | Sequence[int] = 0,
        *,
        start: int | Sequence[int] | np.ndarray | None = None,
        start_actions: Any = None,
        mask: np.ndarray | None = None,
        draw: bool = True,
    ) -> Frame:
        """Begins new games and shows their first frame.

        seed: slot i gets seed + i, or a seed per slot.
        start: None draws one of the world's starts by each slot's seed; an index picks one, or an index per slot;
            frames (h, w, 3), (t, h, w, 3) or (batch, t, h, w, 3) uint8 are a prompt. The last frame of it is shown.
        start_actions: for a prompt of frames, the actions between them, (t - 1 of them, batch first); unknown if None.
        mask: (batch,) bool, which slots begin anew and are paid for; the others stay as they are.
        draw: False leaves Frame.image empty, for those who observe().
        """
        chosen = self._mask(mask)
        rows = np.flatnonzero(chosen)
        seeds = self._seeds(seed)[rows]
        self._before = None
        indices = np.asarray(start)
        if start is None:
            frames, actions = self._pick_starts(seeds, None)
        elif indices.ndim < 2 and indices.dtype.kind in "iu":
            frames, actions = self._pick_starts(seeds, self._per_slot(indices, "starts")[rows])
        else:
            frames, actions = (x[rows] for x in self._prompt(indices, start_actions))
        if mask is None:
            self._state, frame = self._run_prompt(seeds, frames, actions)
            return self._shown(frame, draw)
        sound, uncertainty = None, None
        if self._uncertainty is not None:
            uncertainty = np.full(self._num_slots, np.nan, np.float32)
        if self._sound is not None:
            sound = np.zeros((self._num_slots, self._sound.samples, self._sound.channels), np.float32)
        if rows.size:
            state, frame = self._run_prompt(seeds, frames, actions)
            self._state = self._merge(chosen, state)
            if sound is not None:
                sound[rows] = frame.sound
            if uncertainty is not None:
                uncertainty[rows] = frame.uncertainty
        zeros = np.zeros(self._num_slots, np.float32)
        return self._shown(Frame(self._no_image, sound, zeros, zeros > 0, None, uncertainty), draw)

    def step(self, action: Any, *, draw: bool = True) -> Frame:
        """Plays one action (an action per slot with batch=n) and shows the frame it leads to. draw: as in reset()."""
        state = self._current()
        rows = self.config.actions.encode(action, *(() if self.batch is None else (self.batch,)))
        rows = self._backend.asarray(rows.reshape(self._num_slots, -1))
        done = self._make_frame(state, rows)
        self._state, frame = self._finish(state, rows, done)
        if self._shows_between:
            if draw and self._before is not None:
                frame = replace(frame, between=self._backend.numpy(self._half_way(state, self._before, done["frame"])))
            self._before = done["frame"]
        return self._shown(frame, draw)

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """What the tokenizer alone makes of frames (t, h, w, 3), or (batch, t, h, w, 3), uint8: as close to a recording
        as this world can come. The games that are being played do not notice."""
        frames, _ = self._prompt(np.asarray(frames), None)
        specs, run, asarray = self._backend.specs, self._backend.run, self._backend.asarray
        encoder = asarray(specs["encode"].input("state").zeros(self._num_slots))
        decoder = asarray(specs["decode"].input("state").zeros(self._num_slots))
        restored = []
        for i in range(frames.shape[1]):
            encoded = run("encode", {"frame": asarray(frames[:, i].copy()), "state": encoder})
            shown = run("decode", {"tokens": encoded["tokens"], "state": decoder})
            encoder, decoder = encoded["next_state"], shown["next_state"]
            restored.append(self._backend.numpy(shown["frame"]))
        out = np.stack(restored, axis=1)
        return out if self.batch is not None else out[0]

    def listen(self, frames: np.ndarray, actions: Any = None) -> np.ndarray:
        """The sound that this world gives to recorded frames (t, h, w, 3), or (batch, t, h, w, 3), uint8, and the
        actions between them: (t, samples, channels) float32, batch first. The games being played do not notice."""
        frames, rows = self._prompt(np.asarray(frames), actions)
        seeds = np.arange(self._num_slots, dtype=np.uint64)
        heard = []
        for _, frame in self._prompt_frames(seeds, frames, rows):
            if frame.sound is None:
                raise InputError(f"world {self.config.name!r} is silent")
            heard.append(frame.sound)
        out = np.stack(heard, axis=1)
        return out if self.batch is not None else out[0]

    def upscale(self, frames: np.ndarray) -> np.ndarray:
        """What super-resolution makes of frames (t, h, w, 3) uint8 in a row, of the world's own size:
        (t, H, W, 3) uint8"""
        if "upscale" not in self._backend.specs:
            raise InputError(f"world {self.config.name!r} has no super-resolution")
        shown, state = (self._backend.specs["upscale"].input(name).zeros(1) for name in ("shown", "state"))
        out, held = [], self._backend.asarray(state)
        shown = self._backend.asarray(shown)
        for frame in frames:
            shown, held = self._upscaled(self._backend.asarray(frame[None].copy()), shown, held)
            out.append(self._backend.numpy(shown)[0])
        return np.stack(out)

    def between(self, before: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """The frames half way from those `before` to `frames`, both (n, h, w, 3) uint8 of the world's own size: as
        many. The games being played do not notice."""
        if "between" not in self._backend.specs:
            raise InputError(f"world {self.config.name!r} has no in-between frames")
        asarray, numpy = self._backend.asarray, self._backend.numpy
        made = []
        for pair in zip(before, frames, strict=True):
            first, second = (asarray(x[None].copy()) for x in pair)
            made.append(numpy(self._backend.run("between", {"before": first, "frame": second})["between"]))
        return np.concatenate(made)

    def snapshot(self) -> State:
        """A copy of where every game is. restore() continues from it, bit for bit."""
        state = self._current()
        return self._copied(state, self._backend.numpy(state.cache))

    def restore(self, state: State, mask: np.ndarray | None = None) -> None:
        """Puts every game, or those of the mask (batch,), back to a snapshot; a snapshot of one game fills all slots.
        Refuses another world's."""
        if state.world != self.hash:
            raise InputError(f"the snapshot belongs to world {state.world}, this is {self.hash}")
        if len(state) not in (1, self._num_slots):
            raise InputError(f"the snapshot holds {len(state)} games, this world runs {self._num_slots}")
        chosen = self._mask(mask)
        self._before = None
        if self.keeps_hidden and state.hidden is None:
            raise InputError("the snapshot was taken without the hidden state, which this world keeps")
        if (state.sound is None) != (self._sound is None) or state.image.shape[1:3] != self.image_size:
            raise InputError("the snapshot was taken with other sound or super-resolution than this world plays with")
        rows = np.zeros(self._num_slots, np.int64) if len(state) == 1 else np.arange(self._num_slots)
        state, asarray = state[rows[chosen]], self._backend.asarray  # copies, as a ring is written where it lies
        state = replace(
            state,
            cache=asarray(state.cache),
            previous=asarray(state.previous),
            decoder=asarray(state.decoder),
            upscale=None if state.upscale is None else asarray(state.upscale),
            sound=None if state.sound is None else asarray(state.sound),
            image=asarray(state.image),
            hidden=asarray(state.hidden) if self.keeps_hidden and state.hidden is not None else None,
        )
        self._state = state if chosen.all() else self._merge(chosen, state)

    def mark(self) -> State:
        """What unwind() needs to undo the next step: a snapshot, but of the cache only the ring slot that this step
        will overwrite, (b, l, 2, m, k, 1, e). With 16 slots, an eleventh of a snapshot."""
        state = self._current()
        slots = [int(i) for i in state.step % self._num_context]
        cache = self._backend.numpy(state.cache)
        return self._copied(state, np.stack([cache[i, ..., s : s + 1, :] for i, s in enumerate(slots)]))

    def unwind(self, mark: State) -> None:
        """Undoes the one step that was played since mark(), bit for bit. Refuses any other mark."""
        state = self._current()
        follows = np.array_equal(state.seed, mark.seed) and np.array_equal(state.step, mark.step + 1)
        if mark.world != self.hash or not follows:
            raise InputError("this mark is not of the step that was played last")
        cache = self._backend.numpy(state.cache)
        for i, slot in enumerate(mark.step % self._num_context):
            cache[i, ..., slot : slot + 1, :] = mark.cache[i]
        self.restore(replace(mark, cache=cache))

    def _copied(self, state: State, cache: np.ndarray) -> State:
        numpy = self._backend.numpy
        return State(
            seed=state.seed.copy(),
            step=state.step.copy(),
            cache=cache,
            previous=numpy(state.previous),
            decoder=numpy(state.decoder),
            upscale=None if state.upscale is None else numpy(state.upscale),
            sound=None if state.sound is None else numpy(state.sound),
            image=numpy(state.image),
            world=state.world,
            hidden=None if state.hidden is None else numpy(state.hidden),
        )

    # One frame

    def _prepare(self) -> None:
        if frame_graph(self._nfe) in self._backend.specs:
            self._backend.prepare(frame_graph(self._nfe), self._num_slots)

    def _make_frame(self, state: State, action: Array) -> dict[str, Array]:
        """-> the outputs of the graph of a frame, by that graph or by those it is made of"""
        graph = frame_graph(self._nfe)
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
        step_size = 1 / self._nfe
        shared = {"step_size": self._level(step_size, state), **self._past(state, action)}
        for sigma in sampler.sigmas(self._nfe):
            clean = run("denoise", {"noisy": x, "sigma": self._level(sigma, state), **shared})["tokens"]
            is_last = sigma <= step_size
            x = clean if is_last else asarray(sampler.euler_step(numpy(x), numpy(clean), sigma, step_size))
        return x

    def _show(self, state: State, tokens: Array, action: Array) -> dict[str, Array]:
        """Commits and decodes a frame's clean tokens -> as _make_frame()"""
        decoded = self._backend.run("decode", {"tokens": tokens, "state": state.decoder})
        noise = self._noise(state, sampler.COMMIT)
        done = self._backend.run("commit", {"tokens": tokens, "noise": noise, **self._past(state, action)})
        return {**done, "frame": decoded["frame"], "next_decoder": decoded["next_state"]}

    def _finish(self, state: State, action: Array, done: dict[str, Array]) -> tuple[State, Frame]:
        """What _make_frame() gave -> the state after it and what is shown and heard"""
        zeros = np.zeros(len(state), np.float32)
        reward = self._backend.numpy(done["reward"]) if "reward" in done else zeros
        ends = self._backend.numpy(done["terminated"]) if "terminated" in done else None
        terminated = zeros > 0 if ends is None else ends > self.config.end_threshold
        image, held = self._enlarged(done["frame"], state)
        sound, sound_state = None, None
        if self._sound is not None:
            sound, sound_state = self._sound.play(done["hidden"], action, state.sound, state.seed, state.step)
        uncertainty = None if self._uncertainty is None else self._uncertainty.of(done["hidden"], self._backend.numpy)
        frame = Frame(self._no_image, sound, reward, terminated, ends, uncertainty)
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
            "context_sigma": self._level(self._context_sigma, state),
            "action": action,
            "cache": state.cache,
            "position": asarray(state.step % self._backend.position_period),
            "filled": asarray(np.minimum(state.step, self._num_context)),
        }

    def _enlarged(self, frame: Array, state: State) -> tuple[Array, Array | None]:
        """A frame after those of the state -> the image that is shown, what the state keeps for the next"""
        if state.upscale is None:
            return frame, None
        if self._upscaling == "network":
            return self._upscaled(frame, state.image, state.upscale)
        image = self._backend.numpy(frame)
        image = image.repeat(self.image_size[0] // image.shape[1], axis=1)
        image = image.repeat(self.image_size[1] // image.shape[2], axis=2)
        held = self._backend.specs["upscale"].input("state").zeros(len(state))
        return self._backend.asarray(image), self._backend.asarray(held)

    def _half_way(self, state: State, before: Array, frame: Array) -> Array:
        """The image half way from the one of `state`, whose frame was `before`, to the next frame. Nothing follows from
        it, so the games are the same with and without."""
        middle = self._backend.run("between", {"before": before, "frame": frame})["between"]
        return self._enlarged(middle, state)[0]

    def _upscaled(self, frame: Array, shown: Array, state: Array) -> tuple[Array, Array]:
        """frame (b, h, w, 3), shown (b, H, W, 3) the image before -> image (b, H, W, 3) uint8, state"""
        out = self._backend.run("upscale", {"frame": frame, "shown": shown, "state": state})
        return out["image"], out["next_state"]

    @property
    def _no_image(self) -> np.ndarray:
        """Of frames that are not drawn."""
        return np.zeros((self._num_slots, 0, 0, 3), np.uint8)

    def _noise(self, state: State, draw: int) -> Array:
        noise = sampler.noise(state.seed, state.step, draw, self._tokens.shape)
        if draw == sampler.DENOISE and self._temperature != 1:
            noise *= np.float32(self._temperature)
        return self._backend.asarray(noise)

    def _level(self, value: float, state: State) -> Array:
        return self._backend.asarray(np.full(len(state), value, np.float32))

    # Beginnings

    def _seeds(self, seed: int | Sequence[int]) -> np.ndarray:
        if isinstance(seed, int | np.integer):
            seeds = [int(seed) + i for i in range(self._num_slots)]
        else:
            seeds = [int(s) for s in seed]
        if len(seeds) != self._num_slots:
            raise InputError(f"{len(seeds)} seeds for {self._num_slots} slots")
        if bad := [s for s in seeds if not 0 <= s < 2**63]:
            raise InputError(f"a seed is between 0 and 2**63, got {bad[0]}")
        return np.array(seeds, np.uint64)

    def _mask(self, mask: np.ndarray | None) -> np.ndarray:
        """Of the slots meant: (slots,) bool"""
        chosen = np.ones(self._num_slots, bool) if mask is None else np.asarray(mask, bool)
        if chosen.shape != (self._num_slots,):
            raise InputError(f"mask has shape {chosen.shape}, expected ({self._num_slots},)")
        if mask is not None:
            self._current()  # the others need a game to go on with
        return chosen

    def _per_slot(self, values: np.ndarray, what: str) -> np.ndarray:
        if values.ndim and len(values) != self._num_slots:
            raise InputError(f"{len(values)} {what} for {self._num_slots} slots")
        return np.broadcast_to(values, self._num_slots)

    def _pick_starts(self, seeds: np.ndarray, indices: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(b, t, h, w, 3) uint8 and (b, t, width)"""
        if self._starts is None or self.num_starts == 0:
            raise InputError("this world has no starts: reset(start=FRAMES)")
        if indices is None:
            picks = [int(sampler.generator(s, 0, sampler.START).integers(self.num_starts)) for s in seeds]
        else:
            picks = [int(i) for i in indices]
        if bad := [i for i in picks if not 0 <= i < self.num_starts]:
            raise InputError(f"start {bad[0]} does not exist: this world has 0..{self.num_starts - 1}")
        return self._starts.frames[picks], self._starts.actions[picks]

    def _prompt(self, frames: np.ndarray, actions: Any) -> tuple[np.ndarray, np.ndarray]:
        """A user's frames and the actions between them -> (b, t, h, w, 3) uint8 and (b, t, width), NULL first"""
        height, width = self.config.height, self.config.width
        if frames.dtype != np.uint8 or frames.ndim not in (3, 4, 5) or frames.shape[-3:] != (height, width, 3):
            raise InputError(
                f"a start is uint8 ({height}, {width}, 3), or such frames in a row, got {frames.dtype} {frames.shape}"
            )
        frames = frames[None] if frames.ndim == 3 else frames
        if frames.shape[-4] == 0:
            raise InputError("a start needs at least one frame")
        if frames.ndim == 5 and len(frames) != self._num_slots:
            raise InputError(f"{len(frames)} starts for {self._num_slots} slots")
        frames = np.broadcast_to(frames, (self._num_slots, *frames.shape[-4:]))
        t = frames.shape[1]
        rows = self.config.actions.null(self._num_slots, t)
        if actions is not None:
            lead = (t - 1,) if self.batch is None else (self.batch, t - 1)
            rows[:, 1:] = self.config.actions.encode(actions, *lead).reshape(self._num_slots, t - 1, -1)
        return frames, rows

    def _run_prompt(self, seeds: np.ndarray, frames: np.ndarray, actions: np.ndarray) -> tuple[State, Frame]:
        shown = self._prompt_frames(seeds, frames, actions)
        state, frame = next(shown)
        for later in shown:
            state, frame = later
        self._prepare()
        zeros = np.zeros(len(seeds), np.float32)
        return state, Frame(self._no_image, frame.sound, zeros, zeros > 0, None, frame.uncertainty)

    def _prompt_frames(
        self, seeds: np.ndarray, frames: np.ndarray, actions: np.ndarray
    ) -> Iterator[tuple[State, Frame]]:
        """Encodes and commits frames (b, t, h, w, 3); row i of actions (b, t, width) led to frame i."""
        specs, asarray, b = self._backend.specs, self._backend.asarray, len(seeds)
        state = State(
            seed=seeds,
            step=np.zeros(b, np.int64),
            cache=asarray(specs["commit"].input("cache").zeros(b)),
            previous=asarray(specs["commit"].input("previous").zeros(b)),
            decoder=asarray(specs["decode"].input("state").zeros(b)),
            upscale=asarray(specs["upscale"].input("state").zeros(b)) if self._is_upscaled else None,
            sound=None if self._sound is None else self._sound.empty(b),
            image=asarray(np.zeros((b, *self.image_size, 3), np.uint8)),
            world=self.hash,
        )
        encoder = asarray(specs["encode"].input("state").zeros(b))
        for i in range(frames.shape[1]):
            encoded = self._backend.run("encode", {"frame": asarray(frames[:, i].copy()), "state": encoder})
            encoder = encoded["next_state"]
            action = asarray(actions[:, i].copy())
            state, frame = self._finish(state, action, self._show(state, encoded["tokens"], action))
            yield state, frame

    def _merge(self, mask: np.ndarray, new: State) -> State:
        """The games of `new` in the slots of the mask, in their order; the other slots keep their state."""
        old, put, rows = self._current(), self._backend.put, np.flatnonzero(mask)
        if not rows.size:
            return old
        seed, step = old.seed.copy(), old.step.copy()
        seed[rows], step[rows] = new.seed, new.step
        return State(
            seed=seed,
            step=step,
            cache=put(old.cache, rows, new.cache),
            previous=put(old.previous, rows, new.previous),
            decoder=put(old.decoder, rows, new.decoder),
            upscale=None if old.upscale is None else put(old.upscale, rows, new.upscale),
            sound=None if old.sound is None else put(old.sound, rows, new.sound),
            image=put(old.image, rows, new.image),
            world=new.world,
            hidden=None if old.hidden is None or new.hidden is None else put(old.hidden, rows, new.hidden),
        )

    def _current(self) -> State:
        if self._state is None:
            raise InputError("the world has not begun: call reset() first")
        return self._state

    def _shown(self, frame: Frame, draw: bool) -> Frame:
        """What the caller gets of a frame: its picture if it is to be drawn, without the leading axis of one game."""
        if draw:
            frame = replace(frame, image=self._backend.numpy(self._current().image))
        if self.batch is not None:
            return frame
        sound = None if frame.sound is None else frame.sound[0].copy()
        ends = None if frame.end_probability is None else float(np.ravel(frame.end_probability)[0])
        reward, terminated = float(np.ravel(frame.reward)[0]), bool(np.ravel(frame.terminated)[0])
        uncertainty = None if frame.uncertainty is None else float(np.ravel(frame.uncertainty)[0])
        between = None if frame.between is None else frame.between[0]
        return Frame(frame.image[0], sound, reward, terminated, ends, uncertainty, between)
