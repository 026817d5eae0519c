"""Sound: the codec, the head, their data and stages, and what is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import FPS, TOY_ACTIONS, move, toy_frame

from worldgen.data.cache import open_cache
from worldgen.data.dataset import ClipSampler, all_segments, split_episodes
from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.errors import InputError
from worldgen.training import sound_metrics as metrics

torch = pytest.importorskip("torch")

from worldgen.models.sound import SoundHead, decide  # noqa: E402
from worldgen.models.sound_codec import SoundCodec, blocks_in  # noqa: E402
from worldgen.onsets import onsets  # noqa: E402
from worldgen.training import sound_figures  # noqa: E402
from worldgen.training.hidden_states import HiddenStates  # noqa: E402
from worldgen.training.recorded_sound import (  # noqa: E402
    choose_format,
    has_sound,
    is_whole,
    nearest_frame,
    recorded_sound,
)
from worldgen.training.sound import SoundStage  # noqa: E402
from worldgen.training.sound_codec import SoundCodecStage  # noqa: E402
from worldgen.training.sound_onsets import recorded_onset_places  # noqa: E402

RATE = 16_000
SAMPLES = RATE // FPS


def beep(seconds: float = 0.15, pitch: float = 700.0) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return 0.5 * np.sin(2 * np.pi * pitch * t) * np.exp(-10 * t)


def record(path: Path, num_frames: int = 40, seed: int = 0, channels: int = 1, rate: int | None = RATE) -> None:
    """A toy that beeps while the action is not 0"""
    rng, place = np.random.default_rng(seed), np.array([4, 6])
    samples = (rate or RATE) // FPS
    with RecordingWriter(path, RecordingInfo(FPS, TOY_ACTIONS, "toy", seed=seed), rate, channels) as writer:
        action = 0
        for _ in range(num_frames):
            heard = np.resize(beep(), samples) * bool(action)
            sound = (heard[:, None].repeat(channels, 1) * 32767).astype(np.int16)
            writer.write(toy_frame(place, seed), sound if rate else None)
            action = int(rng.integers(5)) * int(rng.random() < 0.4)
            place = move(place, action)
            writer.act(action, 0.0, False)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    for i in range(4):
        record(folder / f"beeps{i}.mkv", seed=i)
    record(folder / "silent.mkv", seed=9, rate=None)
    return folder


def codec(channels: int = 2, **sizes) -> SoundCodec:
    torch.manual_seed(0)
    return SoundCodec(samples=800, channels=channels, sample_rate=12_000, latent_dim=8, dim=32, num_atoms=16, **sizes)


# The codec


@pytest.mark.parametrize("samples", [160, 630, 735, 800, 1260, 1470, 1600, 3200])
def test_a_frame_is_cut_into_equal_blocks(samples: int):
    assert samples % blocks_in(samples) == 0 and 128 <= samples // blocks_in(samples) <= 512


def test_every_frame_gives_exactly_its_samples_and_streaming_is_the_same_as_all_at_once():
    network, sound = codec(), 0.1 * torch.randn(2, 5, 800, 2)
    latents = network.encode(sound)
    whole, last = network.decode(latents, network.empty_tail(2))
    assert whole.shape == (2, 5, 800, 2) and last.shape == (2, *network.tail_shape)
    tail, parts = network.empty_tail(2), []
    for i in range(5):
        part, tail = network.decode(latents[:, i : i + 1], tail)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-6, rtol=1e-5)


def test_the_codec_is_causal():
    network, sound = codec(), 0.1 * torch.randn(1, 6, 800, 2)
    later = sound.clone()
    later[:, 3:] += 0.3
    before, after = (network(x, torch.zeros(1, 6, 8)) for x in (sound, later))
    assert torch.equal(network.encode(sound)[:, :3], network.encode(later)[:, :3])
    assert torch.equal(before[:, :3], after[:, :3]) and not torch.equal(before[:, 3], after[:, 3])


def test_silence_is_the_latent_zero_and_comes_back_as_silence():
    network = codec()
    latents = network.encode(torch.zeros(1, 3, 800, 2))
    assert not latents.any() and not network.decode(latents, network.empty_tail(1))[0].any()


def test_frames_of_any_latents_join_without_a_click():
    network, rng = codec(channels=1), torch.Generator().manual_seed(1)
    with torch.no_grad():  # slow atoms: what is left to jump is the joint
        network.synthesis.weight.copy_(
            network.synthesis.weight.mean(0, keepdim=True).expand_as(network.synthesis.weight)
        )
        ramp = torch.linspace(0.2, 1, len(network.synthesis.weight))[:, None]
        network.synthesis.weight.copy_(ramp.mean() * network.synthesis.weight.sign().mean(0) + 1)
    latents = 3 * torch.randn(1, 12, 8, generator=rng)
    sound = network.decode(latents, network.empty_tail(1))[0][0].detach().numpy()
    steps = np.abs(np.diff(sound.reshape(-1)))
    assert steps.max() < 0.2 * np.abs(sound).max()
    assert metrics.click_rate(sound / np.abs(sound).max()) == 0


def test_the_codec_learns_to_restore_sound(recordings: Path):
    cache = open_cache(recordings, height=16, width=16)
    chosen = choose_format(cache, recordings)
    assert (chosen.samples, chosen.channels, chosen.sample_rate) == (SAMPLES, 1, RATE)
    sound = recorded_sound(cache, recordings, chosen, say=lambda text: None)
    train, validation = (sound.segments(cache, s) for s in split_episodes(cache, 0.3))
    samplers = [ClipSampler(cache, s, 8, with_sound=False) for s in (train, train)]
    network = SoundCodec(samples=SAMPLES, channels=1, sample_rate=RATE, latent_dim=8, dim=32, num_atoms=16)
    stage = SoundCodecStage(network, sound, *samplers, batch=4)
    before, _ = stage.validate(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(60):
        loss, _ = stage.loss(network, stage.batch(np.random.default_rng(step)), torch.Generator(), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after, _ = stage.validate(network)
    assert after["wave_error"] < 0.5 * before["wave_error"]
    stage.finish(network)
    loud = sound.rows(np.flatnonzero(~sound.is_silent()))
    latents = network.encode(torch.from_numpy(loud)[None])
    assert 0.3 < float(latents.detach().std()) < 3


# The recordings


def test_sound_is_that_of_the_frame_and_files_without_are_left_out(recordings: Path, tmp_path: Path):
    cache = open_cache(recordings, height=16, width=16)
    said: list[str] = []
    sound = recorded_sound(cache, recordings, choose_format(cache, recordings), tmp_path, said.append)
    assert (has_sound(cache) == sound.is_usable).all() and is_whole(cache).all()
    assert dict(zip(cache.episode_names, sound.is_usable.tolist(), strict=True))["silent.mkv"] is False
    assert sound.is_usable.sum() == 4 and any("no sound" in note for note in sound.notes)
    beeps = np.asarray(cache.actions)[:, 0]
    for e in np.flatnonzero(sound.is_usable):  # the action chosen on a frame is heard with the next one
        rows = slice(int(cache.starts[e]), int(cache.starts[e + 1]) - 1)
        led = np.append(0, beeps[rows][:-1]) > 0
        assert (sound.is_silent()[rows] == ~led).all()
    again = recorded_sound(cache, recordings, sound.format, tmp_path, said.append)
    assert (again.sound == sound.sound).all() and sum("reading sound" in line for line in said) == 1


def test_stereo_at_an_odd_rate_is_moved_to_whole_blocks(tmp_path: Path):
    record(tmp_path / "a.mkv", channels=2, rate=44_100)
    cache = open_cache(tmp_path, height=16, width=16)
    chosen = choose_format(cache, tmp_path)
    assert chosen.channels == 2 and chosen.sample_rate == 24_000 and chosen.samples == 2400
    sound = recorded_sound(cache, tmp_path, chosen, say=lambda text: None)
    assert sound.sound.shape == (40, 2400, 2) and sound.is_usable.all()
    assert [nearest_frame(x) for x in (1260, 735, 1601, 736.5)] == [1260, 735, 1600, 736]


def test_recordings_without_sound_are_refused_in_one_line(tmp_path: Path):
    record(tmp_path / "a.mkv", rate=None)
    cache = open_cache(tmp_path, height=16, width=16)
    assert not has_sound(cache).any()
    with pytest.raises(InputError, match="no recording has sound"):
        choose_format(cache, tmp_path)


def test_a_track_that_cannot_be_decoded_is_no_sound(recordings: Path, tmp_path: Path):
    for name, codec in (("a", b"A_FLAC"), ("b", b"A_XLAC")):
        video = (recordings / "beeps0.mkv").read_bytes()
        assert video.count(b"A_FLAC") == 1
        (tmp_path / f"{name}.mkv").write_bytes(video.replace(b"A_FLAC", codec))
    cache = open_cache(tmp_path, height=16, width=16)
    sound = recorded_sound(cache, tmp_path, choose_format(cache, tmp_path), say=lambda text: None)
    assert sound.is_usable.tolist() == has_sound(cache).tolist() == [True, False]


# The head


def head() -> SoundHead:
    torch.manual_seed(0)
    return SoundHead(hidden_dim=12, latent_dim=8, action_kind="discrete", action_sizes=[5], dim=16, nfe=2)


def steps(network: SoundHead, hidden, action, noise) -> tuple[list, list]:
    """-> latents and states of a clip, frame by frame"""
    state, latents, states = torch.zeros(len(hidden), network.state_dim), [], []
    for i in range(hidden.shape[1]):
        latent, state = network.step(hidden[:, i], action[:, i], noise[:, i], state)
        latents.append(latent)
        states.append(state)
    return latents, states


def test_stepping_the_memory_is_the_same_as_a_clip_at_once():
    network, rng = head(), torch.Generator().manual_seed(0)
    hidden, noise = torch.randn(2, 6, 5, 12, generator=rng), torch.randn(2, 6, 9, generator=rng)
    action = torch.randint(5, (2, 6, 1), generator=rng)
    _, states = steps(network, hidden, action, noise)
    before = torch.stack([torch.zeros(2, network.state_dim), *states[:-1]], 1)[..., 16:-1]
    context = network.context(hidden, action, before)
    torch.testing.assert_close(context[:, -1, :16], states[-1][:, :16], atol=1e-6, rtol=1e-5)


def test_silence_is_drawn_with_its_probability_and_is_exact():
    network = head()
    with torch.no_grad():
        network.sounding[-1].weight.zero_()
        network.sounding[-1].bias.fill_(float(torch.logit(torch.tensor(0.25))))
    latents = network.sample(torch.randn(2000, 32), torch.randn(2000, 9, generator=torch.Generator().manual_seed(0)))
    share = float((latents != 0).any(-1).float().mean())
    assert 0.22 < share < 0.28


def test_what_speaks_for_a_sound_adds_up_until_it_begins():
    urge, logit, begun = torch.zeros(1), torch.logit(torch.tensor([0.4])), []
    for _ in range(4):
        begins, urge = decide(logit, urge, torch.tensor(0.5))
        begun.append(int(begins))
    assert begun == [0, 1, 0, 1]


def test_the_head_learns_when_a_sound_begins_and_lets_as_many_begin(recordings: Path):
    cache = open_cache(recordings, height=16, width=16)
    sound = recorded_sound(cache, recordings, choose_format(cache, recordings), say=lambda text: None)
    segments = sound.segments(cache, all_segments(cache))
    places = recorded_onset_places(sound, segments)
    assert ((places >= 0) == ~sound.is_silent())[segments.starts[0] : segments.stops[-1]].mean() > 0.6  # beeps repeat
    rows = np.concatenate([np.arange(a, b) for a, b in segments])
    hidden = np.random.default_rng(0).normal(size=(len(rows), 3, 4)).astype(np.float16)
    hidden[:, 2, 0] += 5 * (places[rows] >= 0)
    torch.manual_seed(0)
    wave = SoundCodec(samples=SAMPLES, channels=1, sample_rate=RATE, latent_dim=8, dim=16, num_atoms=16)
    network = SoundHead(hidden_dim=4, latent_dim=8, action_kind="discrete", action_sizes=[5], dim=16, nfe=1)
    known = HiddenStates(segments, np.append(0, np.cumsum(segments.lengths)), np.stack([hidden, hidden]), stretch=12)
    sampler = ClipSampler(cache, segments, 12, with_sound=False)
    stage = SoundStage(
        network, wave, cache.action_map, np.asarray(cache.actions), sound, (known, sampler), (known, sampler), batch=8
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(60):
        rng, generator = np.random.default_rng(step), torch.Generator().manual_seed(step)
        loss, _ = stage.loss(network, stage.batch(rng), generator, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    stage.finish(network)
    figures, _ = stage.validate(network)
    assert figures["onset_f1"] > 0.9 and 0.8 < figures["made_onsets"] / figures["real_onsets"] < 1.25


# What is measured


def test_a_frame_late_is_as_near_as_a_frame_early_also_through_a_codec():
    real = np.zeros((1, 40, SAMPLES, 1), np.float32)
    for i in range(4, 36, 8):
        real[0, i] = np.resize(beep(), SAMPLES)[:, None]
    delay = 40  # samples, of the codec
    for frames, hits in ((-1, 4), (0, 4), (1, 4), (2, 0), (-2, 0)):
        made = np.roll(real.reshape(1, -1), frames * SAMPLES + delay, axis=1).reshape(real.shape)
        found = sound_figures._onset_figures(made, real, RATE, sound_figures.tolerance(FPS))
        assert found["onset_recall"] == hits / 4


def test_distances_order_equal_similar_and_silent_sounds():
    rng = np.random.default_rng(0)
    sound = np.tile(np.concatenate([beep(), np.zeros(2000)]), 4)
    near = sound + 0.002 * rng.normal(size=sound.shape)
    assert metrics.stft_distance(sound, sound) == 0
    assert metrics.stft_distance(near, sound) < metrics.stft_distance(np.zeros_like(sound), sound)


def test_onsets_are_found_where_sounds_begin_and_matched_once():
    sound = np.zeros(3 * RATE)
    begins = (0.5, 1.1, 2.0)
    for second in begins:
        sound[round(second * RATE) :][: len(beep())] += beep()
    found = onsets(sound, RATE)
    np.testing.assert_allclose(found, begins, atol=0.01)
    match = metrics.match_onsets(found + 0.03, np.array(begins), 0.1)
    assert (match.hits, match.made, match.real) == (3, 3, 3) and np.allclose(match.offsets, 0.03, atol=0.01)
    assert metrics.match_onsets(np.array([0.5, 0.52]), np.array([0.51]), 0.1).hits == 1
    assert metrics.f1(3, 4, 3) == pytest.approx(6 / 7) and metrics.f1(0, 0, 0) is None
    assert not len(onsets(np.zeros(RATE), RATE))


def test_clicks_are_counted_at_the_borders_only():
    t = np.arange(10 * 400) / RATE
    frames = (0.3 * np.sin(2 * np.pi * 300 * t)).reshape(10, 400, 1)
    assert metrics.click_rate(frames) == 0
    broken = frames.copy()
    broken[5:] += 0.5
    assert metrics.click_rate(broken) == pytest.approx(1 / 9)
    inside = frames.copy()
    inside[5, 200:] += 0.5
    inside[6:] += 0.5
    assert metrics.click_rate(inside) == 0
