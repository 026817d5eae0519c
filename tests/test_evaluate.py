"""Evaluation: each figure against worlds that know the game, or fail it in one known way; held-out data; the report."""

from __future__ import annotations

import json
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from conftest import FPS, NUM_EPISODES, SIDE, TOY_ACTIONS, record_toy
from oracle import OracleWorld, ToyFork, blurred
from recordings import write_video

from worldgen.actions import ActionMap, check_same_actions
from worldgen.config import WorldConfig
from worldgen.data.dataset import Segments
from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.errors import BackendUnavailableError, InputError
from worldgen.files import write_json
from worldgen.training import by_action, control, outcomes
from worldgen.training.by_action import Choice, choices, held_actions
from worldgen.training.card import write_card
from worldgen.training.checkpoint import Progress, save_checkpoint
from worldgen.training.evaluate import evaluate, for_json, measure
from worldgen.training.findings import findings
from worldgen.training.glossary import GLOSSARY, TITLES
from worldgen.training.held_out import HeldOut, known_segments, open_held_out, video_blockiness
from worldgen.training.horizons import far_figures, near_and_far, reachable
from worldgen.training.outcomes import end_figures, outcome_figures, reward_figures
from worldgen.training.rollout import PROMPT, rollout
from worldgen.training.sheet import sheet_clips, sheet_columns, to_png
from worldgen.world import World

HORIZONS = [1, 4, 16]
quiet = lambda text: None  # noqa: E731


@pytest.fixture(scope="module")
def toys(toy_recordings: Path, tmp_path_factory) -> HeldOut:
    """The toy recordings as an unknown world sees them: all of them."""
    config = WorldConfig("oracle", SIDE, SIDE, FPS, TOY_ACTIONS, context=4)
    return open_held_out(tmp_path_factory.mktemp("nowhere"), config, toy_recordings, quiet)


def figures_of(world, toys: HeldOut) -> dict:
    starts = toys.clips(12, PROMPT + max(HORIZONS))
    return measure(world, replace(toys, notes=[]), starts, HORIZONS)[0]


@pytest.fixture(scope="module")
def perfect(toys: HeldOut) -> dict:
    return figures_of(OracleWorld(batch=5), toys)  # 12 clips, five at a time: the last batch is filled up


@pytest.fixture(scope="module")
def frozen(toys: HeldOut) -> dict:
    return figures_of(OracleWorld(batch=12, reads=lambda action: None), toys)


def test_a_world_that_knows_the_game_scores_best(perfect, frozen):
    for h in map(str, HORIZONS):
        f = perfect["horizons"][h]
        assert f["psnr"] > 30 and f["skill"] > 10 and f["ssim"] > 0.9  # the rest is what recording lost
        assert f["changed_pixel_ratio"] == pytest.approx(1, abs=0.2)
        assert f["psnr"] > frozen["horizons"][h]["psnr"] + 8
    assert perfect["control"]["delta_psnr"] > 5 and perfect["control"]["delta_psnr_90"][0] > 0
    assert perfect["control"]["recognised"] > 0.75


def test_a_frozen_world_has_no_skill_and_no_control(frozen):
    for f in frozen["horizons"].values():
        assert f["skill"] == pytest.approx(0, abs=1e-6) and f["changed_pixel_ratio"] == 0
    assert frozen["control"]["delta_psnr"] == pytest.approx(0, abs=1e-6)
    assert frozen["control"]["recognised"] == pytest.approx(frozen["control"]["recognised_chance"])
    assert {a["effect"] for a in frozen["control"]["per_action"].values()} == {0}
    assert any("does not do what it is told" in s for s in findings(frozen))


def test_swapped_actions_lower_delta_and_recognition(toys, perfect):
    swapped = figures_of(OracleWorld(12, reads=lambda action: (0, 2, 1, 4, 3)[action]), toys)
    assert swapped["control"]["delta_psnr"] < perfect["control"]["delta_psnr"] - 5
    assert swapped["control"]["recognised"] < perfect["control"]["recognised"] - 0.4
    assert swapped["control"]["per_action"]["left"]["delta_psnr"] < 0
    assert any("no nearer than under the others" in s and "left" in s for s in findings(swapped))
    # what it does has as much effect as ever: effect alone would let it pass
    assert swapped["control"]["per_action"]["left"]["effect"] > 5


def test_an_action_without_effect_is_named(toys):
    deaf = figures_of(OracleWorld(12, reads=lambda action: None if action in (3, 4) else action), toys)
    per_action = deaf["control"]["per_action"]
    assert per_action["left"]["effect"] > 1.2 * per_action["up"]["effect"]
    for name in ("up", "down"):
        assert per_action[name]["changed_pixel_ratio"] == 0 and per_action[name]["skill_changed"] == pytest.approx(0)
        assert per_action[name]["recognised"] <= 0.5 < per_action["left"]["recognised"]
    for name in ("left", "right"):
        assert per_action[name]["changed_pixel_ratio"] > 0.7 and per_action[name]["skill_changed"] > 5
        assert per_action[name]["delta_psnr"] > per_action["up"]["delta_psnr"]
    assert any("less than half as much moves" in s and "up, down" in s for s in findings(deaf))


def test_a_blurred_world_is_not_sharp(toys):
    blur = figures_of(OracleWorld(12, paints=blurred), toys)["horizons"]["4"]
    assert blur["gradient_energy_ratio"] < 0.6
    assert blur["psnr"] == pytest.approx(blur["reconstruction_psnr"], abs=1.5)  # its codec is what limits it
    assert blur["changed_pixel_ratio"] > 0.5


def test_findings_claim_no_more_than_the_figures(perfect, frozen):
    assert any("It beats repeating" in s for s in findings(perfect))
    assert any("repeating the last true frame is closer" in s for s in findings(frozen))
    unsure = json.loads(json.dumps(perfect))
    for f in unsure["horizons"].values():
        f["skill_90"] = [-1.0, 20.0]
    assert any("reaches below 0" in s for s in findings(unsure))
    for f in unsure["horizons"].values():
        f["skill_90"] = None  # one episode: nothing is known of the interval
    assert not any("reaches below 0" in s for s in findings(unsure))


def test_findings_name_what_is_wrong_after_a_long_game(perfect):
    good = {
        "frames": 1100, "kernel_ratio": 1.2, "changed_pixel_ratio": 0.9, "gradient_energy_ratio": 0.9,
        "reconstruction_gradient_energy_ratio": 0.95, "kernel_ratio_range": [0.8, 1.7],
    }  # fmt: skip
    said = lambda **faults: " ".join(findings(perfect | {"stability": good | faults}))  # noqa: E731
    assert "it is still the game" in said() and "(groups of games 0.8 to 1.7)" in said()
    assert "the picture is frozen" in said(changed_pixel_ratio=0.0) and "no longer the game" in said(kernel_ratio=3.5)
    assert "10% of the real frames' sharpness" in said(gradient_energy_ratio=0.1)
    assert "too little is held out" in said(kernel_ratio=None) and "too little" in said(changed_pixel_ratio=None)


def test_findings_say_how_well_actions_can_be_read(perfect):
    read = {"accuracy_real": 0.8, "accuracy_recorded": 0.7, "accuracy_random": 0.3, "chance": 0.2}
    assert any("70% under recorded and 30% under random" in s for s in findings(perfect | {"inverse_dynamics": read}))
    shares = {"left": {"real": 0.9, "recorded": 0.1}, "up": {"real": 0.9, "recorded": 0.8}}
    deaf = findings(perfect | {"inverse_dynamics": read | {"per_action": shares}})
    assert any("hardly to be seen in it: left." in s for s in deaf)
    keys = {"a": {"real": 0.9, "recorded": 0.65, "random": 0.6}, "b": {"real": 0.9, "recorded": 0.85, "random": 0.8}}
    keys |= {"c": {"real": 0.55, "recorded": 0.5, "random": 0.5}}  # not even in the game
    faint = findings(perfect | {"inverse_dynamics": read | {"per_key": keys}})
    assert any("seen much less than in the game: a." in s for s in faint)
    blind = read | {"accuracy_real": 0.25}
    assert any("hardly be read even off real" in s for s in findings(perfect | {"inverse_dynamics": blind}))


def test_a_world_that_is_late_is_caught(toys, perfect):
    class Late(OracleWorld):
        """Shows every frame one step after it was due."""

        def reset(self, seed, *, start, start_actions=None):
            self._due = super().reset(seed, start=start, start_actions=start_actions)
            return self._due

        def step(self, actions):
            shown, self._due = self._due, super().step(actions)
            return shown

    late = figures_of(Late(12), toys)
    assert late["timing"]["lag"] == 1 and perfect["timing"]["lag"] == 0
    assert perfect["timing"]["correlation"] > late["timing"]["correlation"] + 0.3
    assert any("1 frame too late" in s for s in findings(late))
    assert late["horizons"]["4"]["psnr_changed"] < perfect["horizons"]["4"]["psnr_changed"] - 3
    assert late["control"]["delta_psnr"] < perfect["control"]["delta_psnr"] - 3


def test_a_still_picture_has_no_timing(frozen):
    assert set(frozen["timing"].values()) == {None}


def test_steps_a_frame_are_compared_and_left_as_they_were(toys):
    class Coarse(OracleWorld):
        """Grainy when it takes few steps a frame."""

        def _show(self, rewards):
            frame = super()._show(rewards)
            grain = np.random.default_rng(self._step).integers(-40, 41, frame.image.shape) // self.nfe**2
            return replace(frame, image=np.clip(frame.image + grain, 0, 255).astype(np.uint8))

    world = Coarse(12)
    world.nfe = 2
    by_nfe = figures_of(world, toys)["by_nfe"]
    assert world.nfe == 2 and by_nfe["at"] == 16
    assert by_nfe["1"]["loss"] > by_nfe["2"]["loss"] + 3 > 3 and by_nfe["4"]["loss"] == 0
    assert by_nfe["1"]["gradient_energy_ratio"] > by_nfe["4"]["gradient_energy_ratio"] + 0.2
    same = figures_of(OracleWorld(12), toys)["by_nfe"]
    assert same["1"]["psnr"] == same["4"]["psnr"] > 30


def test_every_part_of_the_figures_is_explained(evaluated):
    """The one place where keys are explained knows every key that is written, wherever it stands."""
    figures, _ = evaluated
    assert set(GLOSSARY) == set(TITLES)

    def unknown(found: dict, keys: set[str], where: str) -> list[str]:
        return [f"{where}.{key}" for key in found if key not in keys]

    wrong = unknown(figures, set(GLOSSARY[""]) | set(GLOSSARY), "")
    flat = {"data", "timing", "control", "outcomes", "distribution", "inverse_dynamics", "standard"}
    for part in flat & {k for k, v in figures.items() if v}:
        wrong += unknown(figures[part], set(GLOSSARY[part]), part)
    for h in figures["horizons"].values():
        wrong += unknown(h, set(GLOSSARY["horizons"]), "horizons")
    for point in figures["curve"]:
        wrong += unknown(point, {"frame", "clips"} | set(GLOSSARY["horizons"]), "curve")
    for n in "124":
        wrong += unknown(figures["by_nfe"][n], set(GLOSSARY["by_nfe"]), "by_nfe")
    for action in figures["control"]["per_action"].values():
        wrong += unknown(action, set(by_action.KEYS), "per_action")
    for h in figures["counterfactual"]["horizons"].values():
        wrong += unknown(h, set(GLOSSARY["counterfactual"]), "counterfactual")
    wrong += unknown(figures["stability"], set(GLOSSARY["stability"]), "stability")
    cost = {key for keys in GLOSSARY["cost"] for key in keys.split(", ")}
    wrong += unknown(figures["cost"], cost, "cost")
    assert wrong == []
    assert set(control.KEYS) <= set(figures["control"]) and set(outcomes.KEYS) <= set(figures["outcomes"])


# Reward and end


def test_a_world_that_knows_the_rewards_makes_no_error(toys, perfect):
    assert perfect["outcomes"]["reward_error"] == 0
    assert perfect["outcomes"]["reward_error_of_constant"] > 0
    assert perfect["outcomes"]["reward_correlation"] == pytest.approx(1)
    assert perfect["outcomes"]["reward_events_recall"] == 1 and perfect["outcomes"]["reward_events_precision"] == 1
    assert perfect["outcomes"]["reward_explained"] == 1 and perfect["outcomes"]["reward_slope"] == pytest.approx(1)
    without = outcome_figures(OracleWorld(8, reward=lambda reward: 0.0), toys)
    assert without["reward_error"] == without["reward_error_of_constant"]
    assert without["reward_correlation"] is None and without["reward_events_recall"] == 0
    assert without["reward_explained"] < 0 and without["reward_events_precision"] is None
    loud = outcome_figures(OracleWorld(8, reward=lambda reward: 2 * reward), toys)
    assert loud["reward_slope"] == pytest.approx(0.5) and loud["reward_mean"] == 2 * loud["reward_mean_recorded"]


def test_an_end_at_its_very_frame_is_found(toys, perfect):
    # windows end with their episode: its last step is the one that the recordings flag
    right = outcome_figures(OracleWorld(8, ends_after=outcomes.SPAN), toys)
    assert right["ends"] == NUM_EPISODES and right["terminated_recall"] == 1
    assert right["terminated_precision"] == pytest.approx(NUM_EPISODES / right["windows"])
    early = outcome_figures(OracleWorld(8, ends_after=outcomes.SPAN - 1), toys)
    assert early["terminated_recall"] == 0 and early["terminated_precision"] == 0
    assert perfect["outcomes"]["terminated_recall"] == 0 and perfect["outcomes"]["terminated_precision"] is None


def test_choosing_windows_with_events_does_not_bend_the_figures():
    rng = np.random.default_rng(0)
    real = (rng.random(4000) < 0.02).astype(float)
    made = real + rng.normal(0, 0.1, 4000) + 0.5 * real
    everything = reward_figures(made, real, np.ones(4000))
    events, rest = np.flatnonzero(real), np.flatnonzero(real == 0)
    picks = np.concatenate([events, rng.choice(rest, 1500, replace=False)])
    weights = np.concatenate([np.ones(len(events)), np.full(1500, len(rest) / 1500)])
    some = reward_figures(made[picks], real[picks], weights)
    for key in ("reward_error", "reward_error_of_constant", "reward_correlation"):
        assert some[key] == pytest.approx(everything[key], rel=0.1)


def test_fewer_windows_give_about_the_same_figures(toys):
    world = OracleWorld(8, reward=lambda reward: 0.5)
    everything, some = outcome_figures(world, toys), outcome_figures(world, toys, max_windows=10)
    assert some["windows"] == 10
    assert some["reward_error"] == pytest.approx(everything["reward_error"], rel=0.3)


def test_end_figures_of_a_known_case():
    made, real = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    figures = end_figures(np.array([0.9, 0.8, 0.4, 0.1]), made, real, np.ones(4))
    assert figures["terminated_precision"] == 0.5 and figures["terminated_recall"] == 0.5
    assert figures["terminated_f1"] == 0.5 and figures["best_f1"] == pytest.approx(0.8)
    assert 0.1 < figures["best_threshold"] < 0.4  # below it, both ends are taken, and one that is none
    assert figures["terminated_average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["end_rate"] == 0.5 and figures["end_probability_mean"] == pytest.approx(0.55)


def test_a_badly_chosen_threshold_is_told_from_a_head_that_knows_nothing():
    rng = np.random.default_rng(0)
    real = rng.random(4000) < 0.01
    knows = np.where(real, rng.uniform(0.1, 0.3, 4000), rng.uniform(0, 0.05, 4000))
    figures = end_figures(knows, knows > 0.5, real, np.ones(4000))
    assert figures["terminated_f1"] == 0 and figures["terminated_average_precision"] == pytest.approx(1)
    assert figures["best_f1"] == 1 and 0.05 <= figures["best_threshold"] <= 0.12
    guesses = end_figures(rng.random(4000) * 0.02, np.zeros(4000, bool), real, np.ones(4000))
    assert guesses["terminated_average_precision"] < 0.05 and guesses["best_f1"] < 0.1
    sure = end_figures(real.astype(float), real, real, np.ones(4000))
    assert sure["end_brier_skill"] == 1 and sure["terminated_f1"] == 1
    overstated = end_figures(np.where(real, 1.0, 0.4), real, real, np.ones(4000))
    assert overstated["end_brier_skill"] < 0 and overstated["end_probability_mean"] > 10 * overstated["end_rate"]


def test_no_heads_no_outcomes(toys):
    world = OracleWorld(8)
    world.config = replace(world.config, has_reward=False, has_terminated=False)
    assert outcome_figures(world, toys) is None


# Rollouts


def test_a_rollout_is_the_same_whatever_the_batch(tiny_world, toys):
    rows = toys.clips(5, PROMPT + 4)[:, None] + np.arange(PROMPT + 4)
    clips = toys.frames(rows), toys.actions[rows]
    one, three = (rollout(World.load(tiny_world, batch=b), *clips, steps=4, seed=7) for b in (1, 3))
    assert (one.frames == three.frames).all()
    np.testing.assert_allclose(one.reward, three.reward, atol=1e-5)  # the heads' Gemm has another kernel for one row


def test_reconstruction_leaves_the_game_alone(tiny_world_onnx):
    world = World.load(tiny_world_onnx)
    world.reset(3)
    state = world.snapshot()
    expected = world.step(1).image
    world.restore(state)
    clip = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    restored = world.reconstruct(clip)
    assert restored.shape == clip.shape and restored.dtype == np.uint8
    assert (world.step(1).image == expected).all()
    assert (world.reset(0, start=clip).image == restored[-1]).all()  # what a prompt of the same frames shows
    pair = World.load(tiny_world_onnx, batch=2).reconstruct(np.stack([clip, clip[::-1]]))
    assert (pair[0] == restored).all()


# What is held out


def with_data_json(world: Path, folder: Path, **facts) -> Path:
    shutil.copytree(world, folder)
    (folder / "training").mkdir()
    (folder / "training" / "data.json").write_text(json.dumps(facts))
    return folder


def test_trained_episodes_are_left_out(tiny_world, toy_recordings, tmp_path):
    names = [f"toy{i}.mkv" for i in range(NUM_EPISODES)]
    world = with_data_json(tiny_world, tmp_path / "w", data="x", train=names[:3], held_out=names[3:])
    config = WorldConfig.load(world / "world.json")
    held = open_held_out(world, config, toy_recordings, quiet)
    assert held.facts["episodes"] == 1 and held.facts["episodes_left_out"] == 3 and held.facts["is_held_out"]
    assert set(held.episode_of(held.clips(9, 8))) == {held.cache.episode_names.index("toy3.mkv")}
    assert any("3 of 4 episodes were left out" in note for note in held.notes)


def test_nothing_held_out_is_an_error_that_says_so(tiny_world, toy_recordings, tmp_path):
    names = [f"toy{i}.mkv" for i in range(NUM_EPISODES)]
    world = with_data_json(tiny_world, tmp_path / "w", data="x", train=names, held_out=[])
    with pytest.raises(InputError, match="trained on all 4 episodes"):
        evaluate(world, toy_recordings, say=quiet)


def test_the_end_of_an_episode_may_be_held_out(tiny_world, toy_recordings, tmp_path):
    names = [f"toy{i}.mkv" for i in range(NUM_EPISODES)]
    world = with_data_json(
        tiny_world, tmp_path / "w", data="x", train=names, held_out=[], held_out_from={"toy1.mkv": 25}
    )
    held = open_held_out(world, WorldConfig.load(world / "world.json"), toy_recordings, quiet)
    e = held.cache.episode_names.index("toy1.mkv")
    assert list(held.segments) == [(held.cache.starts[e] + 25, held.cache.starts[e + 1])]


def test_stretches_of_known_actions():
    known = np.array([1, 1, 0, 0, 1, 1, 1, 1, 0, 1], bool)
    found = known_segments(Segments(np.array([0, 5]), np.array([5, 10])), known)
    # a frame after the last known action belongs to the stretch: that action led to it
    assert list(found) == [(0, 3), (4, 5), (5, 9), (9, 10)]


def test_another_action_space_is_refused():
    check_same_actions(TOY_ACTIONS, replace(TOY_ACTIONS, keys=()))
    check_same_actions(TOY_ACTIONS, ActionMap("discrete", (3,)))  # guessed from the actions that occur
    renamed = list(TOY_ACTIONS.names)
    renamed[1] = "walk back"
    check_same_actions(replace(TOY_ACTIONS, names=tuple(renamed)), TOY_ACTIONS)  # `worldgen actions --name` since
    for ours, theirs in (("stay", "left"), ("stay", "fire")), (("a", "b", "c", "d"), ("a", "b", "e", "f")):
        with pytest.raises(InputError, match="recordings of its own game"):  # half of the names are not enough
            check_same_actions(ActionMap.discrete(ours), ActionMap.discrete(theirs))
    others = (
        ActionMap("discrete", (6,)),
        ActionMap.discrete(["stay", "right", "left", "up", "down"]),
        ActionMap("multi_binary", (2, 2)),
    )
    for other in others:
        with pytest.raises(InputError, match="recordings of its own game"):
            check_same_actions(TOY_ACTIONS, other)


def test_recordings_of_another_game_are_refused_before_anything_runs(tiny_world, tmp_path):
    other = ActionMap.discrete(["a", "b"])
    with RecordingWriter(tmp_path / "x.mkv", RecordingInfo(FPS, other, "other")) as writer:
        for _ in range(20):
            writer.write(np.zeros((SIDE, SIDE, 3), np.uint8))
            writer.act(1)
    with pytest.raises(InputError, match=r"\['a', 'b'\].*\['stay', 'left'"):
        evaluate(tiny_world, tmp_path, say=quiet)


def test_episodes_too_short_for_a_horizon_are_said(toys):
    toys = replace(toys, notes=[])
    assert reachable(toys, [4, 1, 64]) == [1, 4]
    assert near_and_far([1, 64, 256, 1000]) == ([1, 64], [256, 1000]) and near_and_far([256]) == ([256], [])
    assert any("horizon 64 left out" in note for note in toys.notes)
    with pytest.raises(InputError, match="record longer ones"):
        reachable(toys, [500])


def test_far_horizons_are_played_from_the_few_that_are_long_enough(tmp_path):
    for i, length in enumerate((30, 90)):
        record_toy(tmp_path / f"toy{i}.mkv", num_frames=length, seed=i)
    config = WorldConfig("oracle", SIDE, SIDE, FPS, TOY_ACTIONS, context=4)
    held = open_held_out(tmp_path, config, tmp_path, quiet)
    assert reachable(held, (1, 80)) == [1, 80] and any("from the 1 of 2 stretches" in note for note in held.notes)
    at, curve = far_figures(OracleWorld, held, 80)
    assert at["80"]["clips"] == 7 and at["80"]["clip_episodes"] == 1  # in the longer one alone, 7 beginnings fit
    assert at["80"]["psnr"] > 30 and at["80"]["skill"] > 5
    assert curve[0]["frame"] == 65 and curve[-1]["frame"] == 80 and all(p["psnr"] > 30 for p in curve)


# The whole


@pytest.fixture(scope="module")
def evaluated(tiny_world: Path, toy_recordings: Path, tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("report")
    figures = evaluate(
        tiny_world,
        toy_recordings,
        clips=5,
        horizons=(1, 4, 8),
        stability=24,
        make_game=ToyFork,
        report=folder,
        say=quiet,
    )
    return figures, folder


def test_figures_are_json_and_complete(evaluated):
    figures, folder = evaluated
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert json.loads((folder / "figures.json").read_text()) == figures
    assert set(figures["horizons"]) == {"1", "4", "8"}
    assert figures["data"]["clips"] == 5 and figures["data"]["actions"] == "recorded"
    assert figures["cost"]["ms_p50"] > 0 and figures["cost"]["peak_megabytes"] > 10
    assert figures["control"] and figures["outcomes"] and figures["findings"] and "decibels" in figures["averages"]
    assert figures["stability"]["frames"] == 24 and figures["stability"]["over_time"][-1]["frame"] == 24
    assert figures["distribution"]["frame"] > 0 and figures["control"]["action_shuffle_ratio"] > 0
    assert figures["by_nfe"]["1"]["ms_p50"] > 0 and figures["by_nfe"][str(figures["nfe"])]["psnr"] > 0
    assert any("objects are not measured" in note for note in figures["notes"])  # its game does not say where they are
    assert figures["counterfactual"]["forks"] == 5 and set(figures["counterfactual"]["horizons"]) == {"1", "4"}
    assert any("inverse dynamics are not measured" in note for note in figures["notes"])  # 160 frames are too few


def test_the_same_seed_gives_the_same_figures(tiny_world, toys, evaluated):
    starts = toys.clips(5, PROMPT + 8)
    again = measure(World.load(tiny_world, batch=5), replace(toys, notes=[]), starts, (1, 4, 8))[0]
    assert for_json(again["horizons"]) == evaluated[0]["horizons"]
    assert for_json(again["control"]).items() <= evaluated[0]["control"].items()
    assert for_json(again["curve"]) == evaluated[0]["curve"]


def test_the_report_holds_its_images(evaluated):
    _, folder = evaluated
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 5 and "http" not in page.split("<body>")[1]
    assert "What would have happened" in page and "Long games" in page and "not FID" in page
    assert "nobody knows" in page and "last frame<br>repeated" in page
    with av.open(str(folder / "side_by_side.mp4")) as video:
        frames = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
    assert len(frames) == 4 * (FPS // 2 + 8)  # four clips: half a second of the prompt, then the rollout
    lit = [bool((np.abs(f[-30:].astype(int) - (255, 200, 60)).sum(-1) < 60).sum() > 50) for f in frames]
    assert not any(lit[: FPS // 2]) and any(lit)  # keys under the frames: none in the prompt, pressed ones after it
    assert frames[0].shape[1] > 1.9 * frames[0].shape[0] * 0.8


def test_the_card_says_where_the_world_comes_from_and_what_it_cannot_do(tiny_world, evaluated, tmp_path):
    world = tmp_path / "w"
    shutil.copytree(tiny_world, world)
    facts = {"preset": "tiny", "stages": {"dynamics": {"steps": 4000, "seconds": 1800.0}}}
    text = write_card(world, evaluated[0], facts).read_text()
    assert "CC0-1.0" in text and "4,000 steps in 30 min" in text and "cores" in text
    assert "last frame repeated" in text and "What it cannot do" in text and "may have been trained on" in text
    assert str(tmp_path) not in text and "Reward:" not in text
    known = WorldConfig.load(world / "world.json").to_json() | {"shaping": {"damage_taken": -1.5}}
    write_json(world / "world.json", known)
    assert "-1.5 for each 1 that damage_taken rises by" in write_card(world, evaluated[0], facts).read_text()
    frames = {
        "1": {"seen": 0.0, "seen_recorded": 0.25, "seen_codec": 0.2},
        "2-4": {"seen": 0.1, "seen_recorded": 0.26, "seen_codec": 0.18},
        "5-16": {"seen": 0.05, "seen_recorded": 0.25, "seen_codec": 0.2},
    }
    empty = evaluated[0] | {"presence": {"things": {"monster": {"f1": 0.8, "frames": frames}}}}
    text = write_card(world, empty, facts).read_text()
    assert "The monster fades: seen in 5% of frames 5-16, in the recordings in 25%" in text


def test_the_card_names_the_stages_of_earlier_runs_too(tiny_world, tmp_path):
    world = Path(shutil.copytree(tiny_world, tmp_path / "w"))
    for name in ("tokenizer", "dynamics", "sound"):  # no sound head is there
        save_checkpoint(world / "training" / name, Progress(step=4000, seconds=1800.0), {"x": torch.zeros(1)})
    facts = {"preset": "tiny", "stages": {"heads": {"steps": 600, "seconds": 90.0}}}
    text = write_card(world, None, facts, "nothing is held out").read_text()
    assert "Not measured: nothing is held out." in text and "Preset of heads: tiny." in text
    done = "tokenizer 4,000 steps in 30 min; dynamics 4,000 steps in 30 min; heads 600 steps in 90 s; 62 min in all"
    assert f"Training: {done}." in text


def test_guessing_is_of_the_actions_that_were_compared(monkeypatch):
    actions = ActionMap("multi_discrete", (2, 9))
    found = {c.name: {"count": 3, "recognised": 0.5} for c in choices(actions)}
    monkeypatch.setattr(control, "by_action_figures", lambda *given: found)
    monkeypatch.setattr(control, "delta_psnr_figures", lambda *given: {})
    world = SimpleNamespace(config=SimpleNamespace(actions=actions))
    figures = control.control_figures(world, None, None, None, None, None)
    assert figures["recognised"] == 0.5 and figures["recognised_chance"] == pytest.approx(2 / 11)
    for choice in choices(actions)[2:]:  # never pressed
        found[choice.name] = {"count": 0}
    assert control.control_figures(world, None, None, None, None, None)["recognised_chance"] == 0.5


def test_unlabelled_video_gives_picture_figures_and_says_what_they_mean(tiny_world, tmp_path):
    for i in range(2):
        record_toy(tmp_path / f"a{i}.mkv", num_frames=20, seed=i)
    for sidecar in [*tmp_path.glob("*.json*")]:
        sidecar.unlink()
    said: list[str] = []
    figures = evaluate(tiny_world, tmp_path, clips=4, horizons=(1, 4), say=said.append)
    assert figures["data"]["actions"] == "random" and figures["horizons"]["4"]["psnr"]
    assert figures["control"] is None and figures["outcomes"] is None
    assert any("no actions are recorded" in line for line in said)
    assert figures["stability"] is None and any("no long game was played" in line for line in said)


def test_one_episode_is_measured_to_its_end_and_nothing_that_is_not_known_is_said(tiny_world, tmp_path):
    record_toy(tmp_path / "alone.mkv", num_frames=60)
    figures = evaluate(tiny_world, tmp_path, clips=2, horizons=(1, 4), stability=8, say=quiet)
    assert figures["stability"]["kernel_ratio"] is None and figures["stability"]["frames"] == 8
    assert figures["findings"] and not any("nan" in said for said in figures["findings"])


def test_hard_compression_shows_in_the_recordings(tmp_path):
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (60, 80, 3)).repeat(2, 0).repeat(2, 1).astype(np.float32)
    for axis in (0, 1):  # no edges of its own: what stands out at block borders is the codec's
        texture = sum(np.roll(texture, shift, axis) for shift in range(5)) / 5
    frames = np.stack([np.roll(texture, 3 * t, axis=1) for t in range(24)]).astype(np.uint8)
    values = []
    for crf in ("4", "48"):
        folder = tmp_path / crf
        folder.mkdir()
        options = {"crf": crf, "x264-params": "no-deblock=1"}
        write_video(folder / "a.mkv", frames, options=options)
        values.append(video_blockiness(folder))
    assert values[1] > 1.5 * values[0] and values[0] == pytest.approx(1, abs=0.3)


def test_a_latent_world_does_not_use_recorded_actions(tiny_world, toy_recordings, tmp_path):
    world = tmp_path / "w"
    shutil.copytree(tiny_world, world)
    raw = json.loads((world / "world.json").read_text())
    (world / "world.json").write_text(json.dumps(raw | {"action_source": "latent"}))
    held = open_held_out(world, WorldConfig.load(world / "world.json"), toy_recordings, quiet)
    assert held.facts["actions"] == "random" and any("latent" in note for note in held.notes)


def test_a_latent_world_is_played_with_the_actions_it_infers(tiny_world, toy_recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("worldgen.training.action_reader.STEPS", 20)
    from worldgen.bundle import save_network
    from worldgen.models.latent_action import LatentActionModel
    from worldgen.training.latent_action import latent_action_map
    from worldgen.training.latent_action_figures import KEYS

    world = tmp_path / "w"
    shutil.copytree(tiny_world, world)
    save_network(
        LatentActionModel(height=SIDE, width=SIDE, num_codes=5, dim=16),
        world,
        "latent_action",
    )
    raw = json.loads((world / "world.json").read_text())
    raw |= {"action_source": "latent", "actions": latent_action_map(5).to_json()}
    (world / "world.json").write_text(json.dumps(raw))
    figures = evaluate(world, toy_recordings, clips=3, horizons=(1, 4), report=tmp_path / "report", say=quiet)
    assert "which the world never saw" in (tmp_path / "report" / "report.html").read_text()
    assert figures["data"]["actions"] == "latent" and set(figures["control"]["per_action"]) == set(
        raw["actions"]["names"]
    )
    assert any("latent: the recorded ones say nothing" in note for note in figures["notes"])
    scored = figures["latent_actions"]
    assert set(scored) == set(KEYS) and sum(scored["usage"]) == pytest.approx(1, abs=1e-3)
    assert scored["chance"] == pytest.approx(0.2, abs=0.06) and 0 <= scored["nmi"] <= 1 and scored["labelled"] > 0
    assert any("codes" in sentence for sentence in figures["findings"])


def test_an_engine_that_is_not_there_is_named(tiny_world, toy_recordings, monkeypatch):
    monkeypatch.setattr("worldgen.backends._is_installed", lambda module: False)
    with pytest.raises(BackendUnavailableError, match="onnxruntime"):
        evaluate(tiny_world, toy_recordings, backend="onnxruntime", say=quiet)


# Pictures


def test_held_actions_of_every_kind():
    assert [name for name, _ in held_actions(TOY_ACTIONS)] == ["stay", "left", "right", "up", "down"]
    buttons = held_actions(ActionMap("multi_binary", (2, 2), ("a", "b")))
    assert buttons == [("nothing", [0, 0]), ("a = 1", [1, 0]), ("b = 1", [0, 1])]
    box_map = ActionMap("box", (0,), ("x",), low=(-1.0,), high=(1.0,))
    assert held_actions(box_map) == [("nothing", [0.0]), ("x = -1", [-1.0]), ("x = 1", [1.0])]
    switches = ActionMap("multi_discrete", (3, 2), ("a", "b"))
    assert [v for _, v in held_actions(switches)] == [[0, 0], [1, 0], [2, 0], [0, 1]]
    assert (
        choices(TOY_ACTIONS)[1] == Choice("left", 0, 1) and choices(ActionMap("box", (0,), low=(0,), high=(1,))) == []
    )
    assert choices(switches)[-1] == Choice("b = 1", 1, 1) and len(choices(switches)) == 5


def test_png_holds_the_pixels():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    png = to_png(picture)
    begin = png.index(b"IDAT") + 4
    raw = np.frombuffer(zlib.decompress(png[begin : png.index(b"IEND") - 8]), np.uint8).reshape(5, 22)
    assert (raw[:, 1:].reshape(5, 7, 3) == picture).all()


def test_sheets_show_the_worst_clip(toys):
    world = OracleWorld(6, reads=lambda action: action)
    starts = toys.clips(6, PROMPT + 8)
    played = measure(world, replace(toys, notes=[]), starts, [1, 8])[1]
    spoiled = played.made.copy()
    spoiled[2] = 255 - spoiled[2]
    picks = sheet_clips(replace(played, made=spoiled))
    assert picks[-1][0] == 2 and "worst" in picks[-1][1] and len({i for i, _ in picks}) == 4
    assert sheet_columns(20) == [1, 2, 4, 8, 16, 20] and sheet_columns(1) == [1]
