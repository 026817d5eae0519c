"""Training: from recordings to a world that plays, killed anywhere and resumed, and refused in time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import FPS, SIDE, TINY_DYNAMICS, TOY_ACTIONS, move, record_toy

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from safetensors.torch import load_file  # noqa: E402

from worldgen.actions import ActionMap  # noqa: E402
from worldgen.bundle import WEIGHTS, Starts, load_network, save_network  # noqa: E402
from worldgen.cli import main  # noqa: E402
from worldgen.config import WorldConfig  # noqa: E402
from worldgen.data.cache import open_cache  # noqa: E402
from worldgen.data.dataset import ClipSampler, all_segments, split_episodes  # noqa: E402
from worldgen.errors import InputError, RunError  # noqa: E402
from worldgen.files import write_json  # noqa: E402
from worldgen.models.dynamics import Dynamics  # noqa: E402
from worldgen.models.heads import Heads  # noqa: E402
from worldgen.models.latent_action import PATCH  # noqa: E402
from worldgen.naming import rename_actions  # noqa: E402
from worldgen.training import fit as fit_module  # noqa: E402
from worldgen.training import latent_action, pipeline, presets  # noqa: E402
from worldgen.training.dynamics import DynamicsStage  # noqa: E402
from worldgen.training.fit import Fit, learning_rate_share, save_interval, update_average  # noqa: E402
from worldgen.training.gradient import whole_parts  # noqa: E402
from worldgen.training.heads import HeadsStage  # noqa: E402
from worldgen.training.latent_action import LatentActionStage, label  # noqa: E402
from worldgen.training.pipeline import train_world  # noqa: E402
from worldgen.training.presets import PRESETS, Preset, frame_size, get_preset  # noqa: E402
from worldgen.training.recipe import Recipe  # noqa: E402
from worldgen.training.tokenizer import TokenizerStage  # noqa: E402
from worldgen.world import World  # noqa: E402

STEPS = 5


def micro(**changes: object) -> Preset:
    """Seconds on a busy core. A checkpoint after every step."""
    fit = Fit(steps=STEPS, batch=4, length=5, learning_rate=1e-3, warmup=2, save_seconds=0.0)
    return Preset(
        side=SIDE,
        context=4,
        tokenizer={"token_dim": 8, "channels": [8, 16], "num_convs": 1},
        latent_action={"dim": 16},
        dynamics=TINY_DYNAMICS,
        heads={"dim": 16},
        fits={name: replace(fit, **changes) for name in ("tokenizer", "latent_action", "dynamics", "heads")},
    )


@pytest.fixture(autouse=True)
def micro_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "micro", micro)


def train(data: Path, out: Path, **choices) -> dict:
    return train_world(Recipe(data, out, preset="micro", **choices), say=lambda text: None)


def newest(world: Path, stage: str) -> Path:
    return max((world / "training" / stage).glob("checkpoint-*"))


def step_of(world: Path, stage: str) -> int:
    return json.loads((newest(world, stage) / "state.json").read_text())["step"]


def assert_equal_training(one: Path, other: Path, *stages: str) -> None:
    """Network, average and optimiser of the last checkpoint, and the network that others use, bit for bit."""
    for stage in stages:
        assert newest(one, stage).name == newest(other, stage).name
        first, second = (load_file(newest(world, stage) / "state.safetensors") for world in (one, other))
        assert set(first) == set(second)
        assert {name.split(".")[0] for name in first} == {"network", "average", "optimizer"}
        for name in first:
            assert torch.equal(first[name], second[name]), f"{stage} {name}"
        assert (one / stage / WEIGHTS).read_bytes() == (other / stage / WEIGHTS).read_bytes()


class Killed(BaseException):
    """As SIGKILL would: nothing catches it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, stage: type, step: int) -> None:
    """The process dies in the loss of this step, counted in this run."""
    loss, calls = stage.loss, [0]

    def dies(self, *arguments):
        if calls[0] == step:
            raise Killed
        calls[0] += 1
        return loss(self, *arguments)

    monkeypatch.setattr(stage, "loss", dies)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, toy_recordings: Path) -> Path:
    """A world trained without a break. Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "micro", micro)
        out = tmp_path_factory.mktemp("trained") / "toy"
        train(toy_recordings, out)
    return out


# From recordings to a world


def test_recordings_become_a_world_that_plays(trained: Path):
    config = WorldConfig.load(trained / "world.json")
    assert (config.name, config.height, config.width, config.fps) == ("toy", SIDE, SIDE, FPS)
    assert config.actions == TOY_ACTIONS and config.action_source == "recorded"
    assert config.has_reward and config.has_terminated
    world = World.load(trained, backend="torch", batch=2)
    world.reset(0)
    images = np.stack([world.step([1, 2]).image for _ in range(6)])
    assert images.std() > 0
    assert {p.name for p in trained.iterdir()} == {
        "world.json", "trained_on.json", "tokenizer", "dynamics", "heads", "starts", "training", "uncertainty.npz"
    }  # fmt: skip


def test_starts_are_recorded_frames_with_the_actions_that_led_to_them(trained: Path, toy_recordings: Path):
    starts = Starts.load(trained)
    cache = open_cache(toy_recordings, height=SIDE, width=SIDE)
    assert starts is not None and len(starts.frames) > 4
    facts = json.loads((trained / "training" / "data.json").read_text())
    assert len(facts["train"]) == 3 and len(facts["held_out"]) == 1
    for frames, actions in zip(starts.frames, starts.actions, strict=True):
        places = [i for i in range(cache.num_frames - 3) if np.array_equal(cache.frames[i : i + 4], frames)]
        led = [cache.actions[i : i + 3] for i in places]
        assert any(np.array_equal(actions[1:], rows) for rows in led)
        np.testing.assert_array_equal(actions[0], TOY_ACTIONS.null())
        episodes = {cache.episode_names[np.searchsorted(cache.starts, i, side="right") - 1] for i in places}
        assert episodes & set(facts["train"])


def test_a_log_tells_how_it_went(trained: Path):
    rows = [json.loads(line) for line in (trained / "training" / "dynamics" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, STEPS]
    assert {"loss", "grad_norm", "frames_per_second"} <= set(rows[0])
    assert {"psnr_1", "copy_last_1", "delta_psnr"} <= set(rows[-1])


def test_videos_without_actions_become_a_world_with_latent_ones(toy_recordings: Path, tmp_path: Path):
    for video in toy_recordings.glob("*.mkv"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        shutil.copy(video, tmp_path / "videos")
    out = tmp_path / "latent"
    summary = train(tmp_path / "videos", out, actions="latent", steps=2, name="from video")
    assert list(summary["stages"]) == ["tokenizer", "latent_action", "dynamics"]
    config = WorldConfig.load(out / "world.json")
    assert config.name == "from video" and config.action_source == "latent"
    num_codes = load_network(out, "latent_action").config.num_codes
    assert config.actions.sizes == (num_codes,) and not config.has_reward
    world = World.load(out, backend="torch")
    world.reset(0)
    world.step(world.config.actions.from_keys(["1"]))
    rename_actions(out, {0: "jump"}, {0: ("space",)})
    train(tmp_path / "videos", out, actions="latent", steps=3, stages=("dynamics",), resume=True)
    assert WorldConfig.load(out / "world.json").actions.names[0] == "jump"  # its codes are the same
    finer = tmp_path / "finer"
    train(tmp_path / "videos", finer, actions="latent", steps=1, stages=("dynamics",), source=out)
    assert WorldConfig.load(finer / "world.json").actions == WorldConfig.load(out / "world.json").actions
    train(tmp_path / "videos", out, actions="latent", steps=4, resume=True)
    assert WorldConfig.load(out / "world.json").actions.names[0] == "code 0"  # these are others


def test_latent_actions_survive_a_kill_and_their_labels_are_those_of_the_finished_model(
    toy_recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    train(toy_recordings, whole, actions="latent")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, LatentActionStage, 3)
        train(toy_recordings, out, actions="latent")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, DynamicsStage, 0)  # before its first checkpoint: it begins again from the same weights
        train(toy_recordings, out, actions="latent", resume=True)
    train(toy_recordings, out, actions="latent", resume=True)
    assert_equal_training(whole, out, "tokenizer", "latent_action", "dynamics")
    train(toy_recordings, out, actions="latent", resume=True, steps=STEPS + 3)
    labels = label(open_cache(toy_recordings, height=SIDE, width=SIDE), load_network(out, "latent_action"))
    starts = Starts.load(out)
    assert starts is not None
    rows = {tuple(labels[i : i + 3, 0]) for i in range(len(labels) - 3)}
    assert {tuple(actions[1:, 0]) for actions in starts.actions} <= rows
    monkeypatch.delattr(latent_action, "label")  # another stage finds them made
    train(toy_recordings, out, actions="latent", resume=True, stages=("dynamics",), steps=STEPS + 4)


def test_one_stage_at_a_time_ends_where_all_at_once_do(toy_recordings: Path, tmp_path: Path, trained: Path):
    for stage in ("tokenizer", "dynamics", "heads"):
        assert list(train(toy_recordings, tmp_path / "toy", stages=(stage,))["stages"]) == [stage]
    assert_equal_training(trained, tmp_path / "toy", "tokenizer", "dynamics", "heads")
    assert (trained / "world.json").read_bytes() == (tmp_path / "toy" / "world.json").read_bytes()


def test_seed_and_nothing_else_makes_another_world(toy_recordings: Path, tmp_path: Path, trained: Path):
    train(toy_recordings, tmp_path / "same", stages=("tokenizer",))
    assert_equal_training(trained, tmp_path / "same", "tokenizer")
    train(toy_recordings, tmp_path / "other", stages=("tokenizer",), seed=2**63 - 1)
    assert (trained / "tokenizer" / WEIGHTS).read_bytes() != (tmp_path / "other" / "tokenizer" / WEIGHTS).read_bytes()


def test_recordings_of_which_some_have_no_actions_are_used_all(toy_recordings: Path, tmp_path: Path):
    """Even when the file that is held out is one of those."""
    cache = open_cache(toy_recordings, height=SIDE, width=SIDE)
    _, held_out = split_episodes(cache)
    name = cache.episode_names[np.searchsorted(cache.starts, held_out.starts[0], side="right") - 1]
    data = Path(shutil.copytree(toy_recordings, tmp_path / "data"))
    for suffix in (".jsonl", ".json"):
        (data / name).with_suffix(suffix).unlink()
    train(data, tmp_path / "toy", stages=("tokenizer", "dynamics"), steps=2)
    World.load(tmp_path / "toy", backend="torch").reset(0)


def test_a_video_that_cannot_be_read_does_not_stop_the_others(toy_recordings: Path, tmp_path: Path):
    data = Path(shutil.copytree(toy_recordings, tmp_path / "data"))
    (data / "a_first.mkv").write_bytes(b"no video")
    said: list[str] = []
    train_world(Recipe(data, tmp_path / "toy", preset="micro", stages=("tokenizer",), steps=1), say=said.append)
    assert any("a_first.mkv" in line for line in said)


def place_of(frame: np.ndarray) -> np.ndarray:
    """Of the square in a toy frame: row and column"""
    return np.argwhere(frame[..., 0] > 140).min(0)


def test_batches_pair_each_frame_with_what_led_to_it(toy_recordings: Path):
    """Fails when anything between the recorder and the loss shifts by one (contract C1)."""
    cache = open_cache(toy_recordings, height=SIDE, width=SIDE)
    clips = ClipSampler(cache, all_segments(cache), 6, with_sound=False)
    config = WorldConfig("toy", SIDE, SIDE, FPS, TOY_ACTIONS, 4)
    numbers = np.arange(cache.num_frames, dtype=np.float16)[:, None, None]  # in place of tokens
    actions, rng = np.asarray(cache.actions), np.random.default_rng(0)
    dynamics = DynamicsStage(None, None, config, cache, numbers, actions, clips, None, 32).batch(rng)
    heads = HeadsStage(
        Heads(hidden_dim=8), torch.nn.Identity(), TOY_ACTIONS, 0.1, 1, cache, numbers, actions, clips, clips, 32
    ).batch(rng)  # fmt: skip
    assert len(dynamics["chance"].unique()) == 1  # of all parts alike: processes play on in the same steps
    for batch in (dynamics, heads):
        shown = batch["tokens"][..., 0, 0].long().numpy()
        led = batch["actions"][..., 0].numpy()
        assert (led[:, 0] == 5).all()  # NULL
        first = batch["first"].tolist() if "first" in batch else [0] * len(shown)
        for row, chosen, begin in zip(shown, led, first, strict=True):
            assert begin == 0 or row[0] in cache.starts
            for before, after, action in zip(row[begin:-1], row[begin + 1 :], chosen[begin + 1 :], strict=True):
                assert after == before + 1
                expected = move(place_of(cache.frames[before]), action)
                np.testing.assert_array_equal(place_of(cache.frames[after]), expected)
    shown = heads["tokens"][..., 0, 0].long().numpy()
    for row, rewards, ends in zip(shown, heads["reward"], heads["terminated"], strict=True):
        for after, reward, end in zip(row[1:], rewards, ends, strict=True):
            assert reward == (place_of(cache.frames[after]) < 7).all()
            assert end == (after + 1 in cache.starts)
    assert heads["reward"].any() and heads["terminated"].any()  # events are sought out


@pytest.mark.parametrize("size", [1, 2, 4, 16])
def test_small_batches_hold_ends_too(toy_recordings: Path, size: int):
    """Each of several processes has its share of a batch alone."""
    cache = open_cache(toy_recordings, height=SIDE, width=SIDE)
    clips = ClipSampler(cache, all_segments(cache), 4, with_sound=False)
    actions, numbers = np.asarray(cache.actions), np.zeros((cache.num_frames, 1, 1), np.float16)
    network = torch.nn.Identity(), TOY_ACTIONS, 0.1, 1
    stage = HeadsStage(Heads(hidden_dim=8), *network, cache, numbers, actions, clips, clips, size)
    found = [stage.batch(np.random.default_rng(seed))["terminated"].any(1).sum() for seed in range(20)]
    assert min(found) >= {1: 0, 2: 1, 4: 1, 16: 3}[size]


def test_rewards_are_as_rare_as_in_the_recordings_though_they_are_sought_out(toy_recordings: Path):
    """What learned how often batches hold each reward says, once finished, how often the recordings do: also a second
    time, as after fine-tuning."""
    cache = open_cache(toy_recordings, height=SIDE, width=SIDE)
    clips = ClipSampler(cache, all_segments(cache), 4, with_sound=False)
    actions, numbers = np.asarray(cache.actions), np.zeros((cache.num_frames, 1, 1), np.float16)
    network = Heads(hidden_dim=8)
    stage = HeadsStage(network, torch.nn.Identity(), TOY_ACTIONS, 0.1, 1, cache, numbers, actions, clips, clips, 32)
    stage._read = lambda network: (np.zeros(1),) * 2 + (np.zeros(1), np.zeros(1, bool), np.ones(1))
    rng = np.random.default_rng(0)
    shown = torch.cat([network.two_hot(stage.batch(rng)["reward"].flatten()) for _ in range(200)]).mean(0)
    rows = clips.all_starts()[:, None] + np.arange(3)
    real = float(np.asarray(cache.reward)[rows].mean())
    with torch.no_grad():
        network.reward.bias.copy_(shown.clamp_min(1e-9).log())
        assert network(torch.zeros(1, 3, 8))[0].item() > 1.15 * real
        for _ in range(2):
            stage.finish(network)
            assert network(torch.zeros(1, 3, 8))[0].item() == pytest.approx(real, rel=0.03)


# Killed and resumed


@pytest.mark.parametrize("save_seconds, cost, interval", [(0, 9, 0), (120, 1, 120), (120, 5, 300), (120, 90, 600)])
def test_checkpoints_cost_little_and_no_more_than_ten_minutes_are_lost(save_seconds: int, cost: int, interval: int):
    assert save_interval(Fit(1, 1, 2, 1e-3, save_seconds=save_seconds), cost) == interval


@pytest.mark.parametrize("stage, step", [(TokenizerStage, 3), (DynamicsStage, 0), (DynamicsStage, 2), (HeadsStage, 0)])
def test_a_killed_run_resumes_to_the_same_numbers(
    toy_recordings: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, stage: type, step: int
):
    out = tmp_path / "toy"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, stage, step)
        train(toy_recordings, out)
    assert step == 0 or step_of(out, stage.name) == step  # before its first checkpoint it begins from the same weights
    train(toy_recordings, out, resume=True)
    assert_equal_training(trained, out, "tokenizer", "dynamics", "heads")
    assert (trained / "world.json").read_bytes() == (out / "world.json").read_bytes()
    assert (trained / "starts" / "starts.npz").read_bytes() == (out / "starts" / "starts.npz").read_bytes()


def test_killed_between_any_two_files_a_run_still_resumes(toy_recordings: Path, tmp_path: Path):
    choices = {"stages": ("tokenizer",), "steps": 2}
    train(toy_recordings, tmp_path / "whole", **choices)
    rename, num_kills, is_killed = Path.rename, 0, True
    while is_killed:
        out, renames = tmp_path / f"killed{num_kills}", count()

        def dies(self: Path, target: Path, out: Path = out, renames=renames, kill: int = num_kills) -> Path:
            if out in Path(target).parents and next(renames) == kill:
                raise Killed
            return rename(self, target)

        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Path, "rename", dies)
                train(toy_recordings, out, **choices)
            is_killed = False
        except Killed:
            num_kills += 1
            train(toy_recordings, out, **choices, resume=True)
        assert_equal_training(tmp_path / "whole", out, "tokenizer")
    assert num_kills > 4  # a network and a checkpoint, twice, are put in place


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    toy_recordings: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "toy"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, TokenizerStage, 4)
        train(toy_recordings, out, stages=("tokenizer",))
    assert step_of(out, "tokenizer") == 4
    state = newest(out, "tokenizer") / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    starts: list[str] = []
    train_world(Recipe(toy_recordings, out, preset="micro", stages=("tokenizer",), resume=True), say=starts.append)
    assert any("from step 3" in line for line in starts)
    assert_equal_training(trained, out, "tokenizer")


def test_with_every_checkpoint_damaged_training_begins_anew_and_keeps_its_own(
    toy_recordings: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    out = Path(shutil.copytree(trained, tmp_path / "toy"))
    for path in (out / "training" / "tokenizer").glob("checkpoint-*"):
        (path / "state.json").write_text("[]")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, TokenizerStage, 2)
        train(toy_recordings, out, stages=("tokenizer",), resume=True)
    assert step_of(out, "tokenizer") == 2
    train(toy_recordings, out, stages=("tokenizer",), resume=True)
    assert_equal_training(trained, out, "tokenizer")


def test_two_checkpoints_are_kept(trained: Path):
    for stage in ("tokenizer", "dynamics", "heads"):
        names = sorted(p.name for p in (trained / "training" / stage).glob("*checkpoint-*"))
        assert names == [f"checkpoint-{STEPS - 1:08d}", f"checkpoint-{STEPS:08d}"]


def test_resuming_a_finished_run_changes_nothing(toy_recordings: Path, tmp_path: Path, trained: Path):
    out = Path(shutil.copytree(trained, tmp_path / "toy"))
    train(toy_recordings, out, resume=True)
    assert_equal_training(trained, out, "tokenizer", "dynamics", "heads")


def test_resuming_with_more_steps_goes_on(toy_recordings: Path, tmp_path: Path):
    out = tmp_path / "toy"
    train(toy_recordings, out, stages=("tokenizer",), steps=2)
    summary = train(toy_recordings, out, stages=("tokenizer",), steps=4, resume=True)
    assert summary["stages"]["tokenizer"]["steps"] == 4 == step_of(out, "tokenizer")


def test_a_network_that_was_lost_is_written_again(toy_recordings: Path, tmp_path: Path, trained: Path):
    out = Path(shutil.copytree(trained, tmp_path / "toy"))
    shutil.rmtree(out / "tokenizer")
    train(toy_recordings, out, stages=("tokenizer",), resume=True)
    assert_equal_training(trained, out, "tokenizer")


def test_a_compiled_dynamics_is_one_of_several_stages_in_bfloat16_where_the_processor_has_it(
    toy_recordings: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    compiled: list[list[str]] = []  # the calls of each method that was compiled, all of them its name

    def compile(method, dynamic):
        calls = [method.__name__]
        compiled.append(calls)
        return lambda *given: calls.append(method.__name__) or method(*given)

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(pipeline, "check_compiler", lambda: None)
    for is_half in (False, True):
        out = tmp_path / f"half-{is_half}"
        monkeypatch.setattr(fit_module, "multiplies_bfloat16", lambda is_half=is_half: is_half)
        train(toy_recordings, out, compile=True)
        assert_equal_training(trained, out, "tokenizer")
        if not is_half:
            assert_equal_training(trained, out, "dynamics", "heads")
    with pytest.raises(AssertionError):
        assert_equal_training(trained, out, "dynamics")
    # in either run of the dynamics, and of its copy that the heads learn from, which validation does not use
    assert [calls[0] for calls in compiled] == 4 * ["forward", "denoise", "commit"]
    fit = micro().fits["heads"]
    commits = [len(calls) - 1 for calls in compiled if calls[0] == "commit"]
    assert commits[1] == commits[3] == fit.steps * fit.length


def test_a_stage_without_the_minutes_for_it_is_not_compiled(
    toy_recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch, "compile", lambda method, dynamic: pytest.fail("compiled"))
    monkeypatch.setattr(pipeline, "check_compiler", lambda: None)
    said: list[str] = []
    recipe = Recipe(toy_recordings, tmp_path / "toy", preset="micro", minutes=0.05, compile=True)
    train_world(recipe, say=said.append)
    assert sum("not compiled: it has 0.0 minutes in all" in line for line in said) == 2  # dynamics and heads


def test_processes_that_cannot_share_a_batch_are_told_how_many_can():
    assert whole_parts(1, 3, 8) == 3 and whole_parts(8, 4, 8) == 8 and whole_parts(4, 3, 8) == 6
    with pytest.raises(InputError, match="8 clips in 8 parts cannot be shared by 3 processes: start 1, 2, 4, 8"):
        whole_parts(8, 3, 8)


def test_minutes_stop_early_and_can_be_resumed(toy_recordings: Path, tmp_path: Path, trained: Path):
    out = tmp_path / "toy"
    train(toy_recordings, out, stages=("tokenizer",), minutes=1e-6)
    assert step_of(out, "tokenizer") == 1  # at least one step
    written = (out / "tokenizer" / WEIGHTS).stat().st_mtime_ns
    train(toy_recordings, out, stages=("tokenizer",), minutes=1e-6, resume=True)
    assert (out / "tokenizer" / WEIGHTS).stat().st_mtime_ns == written  # or all that stand on it would be trained again
    with pytest.raises(InputError, match="begun with --seed 0, not 5"):
        train(toy_recordings, out, stages=("tokenizer",), resume=True, seed=5)
    train(toy_recordings, out, stages=("tokenizer",), resume=True)
    assert_equal_training(trained, out, "tokenizer")


# Not a number


def nan_loss(network, loss):
    return loss * float("nan")


def nan_gradient(network, loss):
    return loss + sum(p.sum() for p in network.parameters()).mul(0).sqrt()  # 0, with the slope infinity times 0


@pytest.mark.parametrize("spoil", [nan_loss, nan_gradient])
def test_nan_stops_before_the_optimiser_and_keeps_the_checkpoint(
    toy_recordings: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable
):
    out, loss, calls = tmp_path / "toy", TokenizerStage.loss, [0]

    def spoiled(self, network, *arguments):
        value, figures = loss(self, network, *arguments)
        calls[0] += 1
        return (spoil(network, value) if calls[0] == 4 else value), figures

    with monkeypatch.context() as patch, pytest.raises(RunError) as caught:
        patch.setattr(TokenizerStage, "loss", spoiled)
        train(toy_recordings, out, stages=("tokenizer",))
    assert "nan" in str(caught.value) and "step 3" in str(caught.value)
    assert str(out / "training" / "tokenizer") in str(caught.value)
    assert step_of(out, "tokenizer") == 3
    for tensor in load_file(newest(out, "tokenizer") / "state.safetensors").values():
        assert tensor.isfinite().all()
    train(toy_recordings, out, stages=("tokenizer",), resume=True)
    assert_equal_training(trained, out, "tokenizer")


# Refused, before anything is written


def test_a_trained_world_is_not_overwritten(toy_recordings: Path, tmp_path: Path, trained: Path):
    out = Path(shutil.copytree(trained, tmp_path / "toy"))
    for _ in range(2):  # with what resumes it, and without, as published worlds come
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        for stages in ((), ("dynamics",)):
            with pytest.raises(InputError, match="already holds a trained.*--resume"):
                train(toy_recordings, out, stages=stages)
        assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
        shutil.rmtree(out / "training", ignore_errors=True)


@pytest.mark.parametrize(
    "choices, named",
    [
        ({"preset": "gigantic"}, r"'gigantic'.*tiny, fine, pixel, small, base"),
        ({"actions": "guessed"}, "'guessed'.*recorded or latent"),
        ({"stages": ("tokeniser",)}, "'tokeniser'.*tokenizer, latent_action, dynamics, heads"),
        ({"stages": ("latent_action",)}, "latent"),
        ({"labels": 0.01}, "--labels belongs to --actions latent"),
        ({"labels": 200.0, "actions": "latent"}, "--labels is a share.*200"),
        ({"shaping": {"fuel": 1.0}}, "no 'fuel'.*there is row"),
        ({"shaping": {"row": float("nan")}}, "weight of row.*nan"),
        ({"shaping": {"row": 1.0}, "stages": ("dynamics",)}, "--shaping belongs to --stages heads"),
        ({"minutes": 0}, "minutes.*0"),
        ({"minutes": -1.0}, "minutes.*-1"),
        ({"steps": 0}, "steps.*0"),
        ({"seed": -1}, "seed.*-1"),
        ({"seed": 2**63}, "seed"),
        ({"source": Path("atlantis")}, "'atlantis'"),
    ],
)
def test_a_wrong_choice_is_refused_with_what_there_is(toy_recordings: Path, tmp_path: Path, choices: dict, named: str):
    with pytest.raises(InputError, match=named):
        train_world(Recipe(**{"data": toy_recordings, "out": tmp_path / "toy", **choices}), say=lambda text: None)
    assert not (tmp_path / "toy").exists()


def test_data_without_actions_is_refused_when_they_are_asked_for(toy_recordings: Path, tmp_path: Path):
    (tmp_path / "videos").mkdir()
    shutil.copy(next(toy_recordings.glob("*.mkv")), tmp_path / "videos")
    with pytest.raises(InputError, match="--actions latent"):
        train(tmp_path / "videos", tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


def test_a_folder_without_videos_is_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for data in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(InputError, match=data.name):
            train(data, tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


def test_episodes_shorter_than_any_stage_needs_are_refused_at_once(tmp_path: Path):
    """Not after the tokenizer has been trained for hours."""
    for i in range(3):
        record_toy(tmp_path / "short" / f"{i}.mkv", num_frames=10, seed=i)
    with pytest.raises(InputError, match="no episode holds a clip of 20 frames"):
        train(tmp_path / "short", tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


def test_a_stage_says_which_one_it_stands_on(toy_recordings: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no tokenizer.*--stages tokenizer"):
        train(toy_recordings, tmp_path / "toy", stages=("dynamics",))


@pytest.mark.parametrize(
    "choices, named",
    [
        ({"actions": "latent", "stages": ("dynamics",)}, "no latent_action.*--stages latent_action dynamics"),
        ({"actions": "latent", "stages": ("dynamics", "heads")}, "no latent_action"),
        ({"stages": ("heads",)}, "no dynamics.*--stages dynamics heads"),
    ],
)
def test_what_a_stage_stands_on_is_missed_before_frames_are_encoded(
    toy_recordings: Path, tmp_path: Path, trained: Path, choices: dict, named: str
):
    out = tmp_path / "toy"
    shutil.copytree(trained / "tokenizer", out / "tokenizer")
    with pytest.raises(InputError, match=named):
        train(toy_recordings, out, **choices)
    assert [p.name for p in out.iterdir()] == ["tokenizer"]


def test_names_and_keys_that_somebody_gave_stay_when_training_goes_on(
    toy_recordings: Path, tmp_path: Path, trained: Path
):
    data, out = tmp_path / "data", Path(shutil.copytree(trained, tmp_path / "toy"))
    shutil.copytree(toy_recordings, data, ignore=shutil.ignore_patterns("*.json"))  # no names, no keys
    config = WorldConfig.load(out / "world.json")
    write_json(out / "world.json", replace(config, actions=ActionMap("discrete", (5,))).to_json())
    named = rename_actions(out, {1: "walk"}, {1: ("left",)})
    train(data, out, resume=True)
    assert WorldConfig.load(out / "world.json").actions == named
    rename_actions(out, {}, {1: ("a",)})
    train(toy_recordings, out, resume=True)  # whose NAME.json say what they are called
    assert WorldConfig.load(out / "world.json").actions == TOY_ACTIONS


def test_resuming_with_another_preset_is_refused(
    toy_recordings: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    out = Path(shutil.copytree(trained, tmp_path / "toy"))
    monkeypatch.setitem(
        presets.PRESETS, "micro", lambda: replace(micro(), tokenizer={"token_dim": 8, "channels": [8, 24]})
    )
    with pytest.raises(InputError, match="another network, of another preset.*--from"):
        train(toy_recordings, out, resume=True)


# Fine-tuning


# on the recordings, by the stages
MEASURED = {
    "token_mean", "token_std", "motion.basis", "motion.gain", "motion.offset", "motion.patch_mean", "log_prior_ratio",
}  # fmt: skip


def test_fine_tuning_on_what_was_played_in_a_world_begins_from_its_weights(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    from worldgen.play.main import play
    from worldgen.play.options import PlayOptions

    def without_ends(name, **how) -> World:
        world = World.load(name, **how)
        world.config = replace(world.config, end_threshold=1 - 1e-9)
        return world

    source = tmp_path / "source"
    shutil.copytree(trained, source, ignore=shutil.ignore_patterns("uncertainty.npz", "onnx"))
    arguments = {k: v for k, v in load_network(trained, "dynamics").config.items() if not k.startswith("_")}
    fewer = {"history": 1, "stem_channels": 0, "warp": False, "blank": False}  # it sees less, but pure noise too
    save_network(Dynamics(**arguments | fewer), source, "dynamics")
    options = PlayOptions(str(source), backend="torch", headless=True, frames=200, recordings=tmp_path / "mine")
    play(options, load_world=without_ends)
    monkeypatch.setitem(presets.PRESETS, "micro", lambda: micro(learning_rate=0.0, steps=1))
    out = tmp_path / "tuned"
    train(tmp_path / "mine", out, source=source, seed=7)
    assert load_network(out, "dynamics").config.history == 2
    tuned = load_network(out, "dynamics")
    assert not tuned.stem.out.weight.any() and not tuned.motion.polynomial.weight.any()
    for stage in ("tokenizer", "dynamics", "heads"):
        known, tuned = (load_file(world / stage / WEIGHTS) for world in (source, out))
        if stage == "dynamics":
            width = known["tokens_in.weight"].shape[1]
            tuned["tokens_in.weight"], more = tuned["tokens_in.weight"].tensor_split([width], dim=1)
            assert more.shape[1] == width // 2 and not more.any()
        for name in known.keys() - MEASURED:
            torch.testing.assert_close(tuned[name], known[name], atol=1e-6, rtol=1e-5, msg=f"{stage} {name}")
    assert WorldConfig.load(out / "world.json").name == "tuned"


def test_the_first_stages_alone_of_fine_tuning_are_not_exported_yet(
    toy_recordings: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setitem(presets.PRESETS, "micro", micro)
    out = tmp_path / "tuned"
    words = [
        toy_recordings,
        "--out",
        out,
        "--from",
        trained,
        "--preset",
        "micro",
        "--stages",
        "tokenizer",
        "--steps",
        1,
    ]
    assert main(["train", *map(str, words)]) == 0, capsys.readouterr().err
    assert (out / "dynamics").is_dir() and not (out / "world.json").exists()


def test_fine_tuning_with_another_shape_is_refused(
    toy_recordings: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    one_token = replace(micro(), tokenizer={"token_dim": 8, "channels": [8, 16, 16], "num_convs": 1})
    deeper = replace(micro(), dynamics=micro().dynamics | {"dim": 48})
    for other, name in ((one_token, "tokenizer"), (deeper, "dynamics")):
        monkeypatch.setitem(presets.PRESETS, "micro", lambda other=other: other)
        with pytest.raises(InputError, match=f"--from .*{name} does not fit"):
            train(toy_recordings, tmp_path / name, source=trained)


def test_fine_tuning_keeps_the_width_of_the_other_worlds_tokens(
    toy_recordings: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    other = replace(micro(), side=2 * SIDE, tokenizer={"token_dim": 12, "channels": [8, 24], "num_convs": 2})
    monkeypatch.setitem(presets.PRESETS, "micro", lambda: other)
    lines: list[str] = []
    recipe = Recipe(toy_recordings, tmp_path / "tuned", "micro", source=trained, stages=("tokenizer",))
    train_world(recipe, say=lines.append)
    assert any("stays as large as that of" in line and "8 numbers a token (micro: 12)" in line for line in lines)
    assert any(f"at {SIDE}x{SIDE}, as in {trained}, not {2 * SIDE}x{2 * SIDE}" in line for line in lines)
    known, tuned = (load_network(world, "tokenizer").config for world in (trained, tmp_path / "tuned"))
    assert all(tuned[key] == known[key] for key in ("height", "token_dim", "channels", "num_convs"))


def test_fine_tuning_to_a_game_with_other_actions_learns_only_these_anew(
    toy_recordings: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    source = tmp_path / "source"
    shutil.copytree(trained, source, ignore=shutil.ignore_patterns("uncertainty.npz", "onnx"))
    arguments = {k: v for k, v in load_network(trained, "dynamics").config.items() if not k.startswith("_")}
    save_network(Dynamics(**arguments | {"action_kind": "discrete", "action_sizes": [2]}), source, "dynamics")
    known = WorldConfig.load(source / "world.json").to_json()
    (source / "world.json").write_text(json.dumps(known | {"nfe": 2}))
    monkeypatch.setitem(presets.PRESETS, "micro", lambda: micro(learning_rate=0.0, steps=1))
    lines: list[str] = []
    train_world(Recipe(toy_recordings, tmp_path / "tuned", preset="micro", source=source), say=lines.append)
    assert any("actions" in line and "learned anew" in line for line in lines)
    assert WorldConfig.load(tmp_path / "tuned" / "world.json").nfe == 2  # as many steps a frame as it was chosen for
    known, tuned = (load_file(world / "dynamics" / WEIGHTS) for world in (source, tmp_path / "tuned"))
    changed = {key for key in known if known[key].shape != tuned[key].shape}
    assert changed == {"action.table.weight"}
    for name in known.keys() - MEASURED - changed:
        torch.testing.assert_close(tuned[name], known[name], atol=1e-6, rtol=1e-5, msg=name)


# The loop


def test_the_learning_rate_warms_up_stays_and_cools_down():
    fit = Fit(steps=100, batch=1, length=2, learning_rate=1.0, warmup=10, decay=0.3)
    shares = [learning_rate_share(fit, step) for step in range(100)]
    assert shares[0] == pytest.approx(0.1) and shares[9] == shares[50] == shares[69] == 1
    assert (np.diff(shares[:10]) > 0).all() and (np.diff(shares[70:]) < 0).all()
    assert 0 < shares[99] < 0.05


def test_the_average_follows_the_network():
    network, average = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    torch.nn.init.constant_(network.weight, 3.0)
    network.running_mean.fill_(7.0)
    update_average(average, network, 0.75)
    torch.testing.assert_close(average.weight.detach(), torch.full((3,), 0.75 * 1 + 0.25 * 3))
    assert torch.equal(average.running_mean, network.running_mean)


def test_every_preset_fits_its_networks_to_its_frames():
    for name in ("tiny", "fine", "pixel", "small", "base"):
        preset = get_preset(name)
        for width, height in ((640, 480), (160, 210), (64, 64), (1920, 1080)):
            w, h = frame_size(preset.side, width, height)
            patch = 4 * 2 ** (len(preset.tokenizer["channels"]) - 1)
            for multiple in (patch, 2 * PATCH):
                assert w % multiple == h % multiple == 0
            assert max(w, h) == preset.side
            assert abs(w / h - width / height) < 0.25 * width / height
    assert set(PRESETS) >= {"tiny", "fine", "pixel", "small", "base"}


def test_a_world_of_unlabelled_video_gets_heads_from_a_few_labelled_clips(
    toy_recordings: Path, trained: Path, tmp_path: Path
):
    videos, world = tmp_path / "videos", tmp_path / "world"
    videos.mkdir()
    for video in toy_recordings.glob("*.mkv"):
        shutil.copy(video, videos)
    train(videos, world, actions="latent", stages=("tokenizer", "latent_action", "dynamics"))
    before, starts = WorldConfig.load(world / "world.json"), Starts.load(world)
    assert not before.has_reward and World.load(world).has_uncertainty
    clips = tmp_path / "clips"
    clips.mkdir()
    for i in (100, 101):
        record_toy(clips / f"labelled{i}.mkv", seed=i)
    train(clips, world, stages=("heads",))
    after = WorldConfig.load(world / "world.json")
    assert after == replace(before, has_reward=True, has_terminated=True, end_threshold=after.end_threshold)
    assert np.array_equal(Starts.load(world).frames, starts.frames)
    facts = json.loads((world / "training" / "data.json").read_text())
    assert any(name.startswith("labelled") for name in facts["train"]) and any("toy" in n for n in facts["train"])
    game = World.load(world)
    game.reset(0)
    assert 0 < game.step(1).end_probability < 1


def test_heads_may_learn_another_reward_from_the_same_recordings(
    toy_recordings: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    world, taught = tmp_path / "world", []
    shutil.copytree(trained, world, ignore=shutil.ignore_patterns("heads", "training"))
    batch = HeadsStage.batch
    monkeypatch.setattr(HeadsStage, "batch", lambda *x: taught.append(batch(*x)) or taught[-1])
    train(toy_recordings, world, stages=("heads",), shaping={"row": -3.0})
    assert WorldConfig.load(world / "world.json").shaping == {"row": -3.0}
    rewards = torch.cat([x["reward"].flatten() for x in taught])
    assert {int(x) for x in rewards.unique()} >= {-6, 0, 6}  # pushes move it by two rows; a point comes to some
    with pytest.raises(InputError, match="have the shaping row=-3, not none: give it as before, or delete.*heads"):
        train(toy_recordings, world, stages=("heads",), resume=True)
    train(toy_recordings, world, stages=("heads",), shaping={"row": -3.0}, resume=True)
    shutil.rmtree(world / "training" / "heads")
    shutil.rmtree(world / "heads")
    train(toy_recordings, world, stages=("heads",))
    assert WorldConfig.load(world / "world.json").shaping == {}


def test_heads_of_another_game_are_refused(trained: Path, tmp_path: Path):
    from worldgen.data.recording import RecordingInfo, RecordingWriter

    world, clips = tmp_path / "world", tmp_path / "clips"
    shutil.copytree(trained, world, ignore=shutil.ignore_patterns("heads"))
    clips.mkdir()
    info = RecordingInfo(FPS, ActionMap.discrete(["a", "b"], [(), ()]), "other", licence="CC0-1.0")
    with RecordingWriter(clips / "other.mkv", info) as writer:
        for t in range(30):
            writer.write(np.full((SIDE, SIDE, 3), t, np.uint8))
            writer.act(t % 2, reward=0.0, terminated=False)
    with pytest.raises(InputError, match="the world takes"):
        train(clips, world, stages=("heads",))


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch": 0}, {"length": 1}, {"minutes": 0.0}])
def test_a_fit_that_cannot_be_is_refused(change: dict):
    with pytest.raises(InputError):
        replace(micro().fits["tokenizer"], **change)


def test_validation_on_the_way_does_not_change_the_numbers(
    toy_recordings: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(presets.PRESETS, "micro", lambda: micro(validate_seconds=0.0))
    monkeypatch.setattr(fit_module, "time", SimpleNamespace(monotonic=count(0, 100).__next__))
    out = Path(shutil.copytree(trained / "tokenizer", tmp_path / "toy" / "tokenizer")).parent
    train(toy_recordings, out, stages=("dynamics",))
    assert_equal_training(trained, out, "dynamics")
    rows = [json.loads(line) for line in (out / "training" / "dynamics" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "validation"] == [*range(1, STEPS + 1), STEPS]
