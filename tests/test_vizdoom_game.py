import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vizdoom", reason="ViZDoom is not installed: pip install 'worldgen[games]'")

from game_checks import assert_same, go_on, is_over, play

from worldgen.data.check import check_folder
from worldgen.envs.catalogue import make_game
from worldgen.envs.doom_actions import discrete_actions
from worldgen.envs.game import ForkableGame
from worldgen.envs.policies import make_policy
from worldgen.envs.vizdoom_game import UNUSABLE, VizdoomGame, has_sound, scenarios
from worldgen.errors import InputError

needs_sound = pytest.mark.skipif(not has_sound(), reason="ViZDoom is silent: no OpenAL (Debian: libopenal1)")
pytestmark = pytest.mark.filterwarnings("ignore::worldgen.envs.vizdoom_game.SilentGameWarning")


@pytest.fixture(scope="module")
def centre():
    game = VizdoomGame("defend_the_center")
    yield game
    game.close()


def test_a_seed_gives_the_same_episode_whatever_was_played_before(centre):
    first = play(centre, seed=7, num_frames=60)
    play(centre, seed=8, num_frames=25, action_seed=1)
    assert_same(first, play(centre, seed=7, num_frames=60))
    other = VizdoomGame("defend_the_center")
    assert_same(first, play(other, seed=7, num_frames=60))
    other.close()


def test_another_seed_gives_another_episode(centre):
    first, second = (play(centre, seed=seed, num_frames=40)[-1].image for seed in (7, 8))
    assert not np.array_equal(first, second)


def test_a_loaded_game_goes_on_exactly_as_the_saved_one(centre):
    assert isinstance(centre, ForkableGame)
    play(centre, seed=3, num_frames=30)
    state = centre.save()
    future = go_on(centre, 40, action_seed=5)
    centre.load(state)
    assert_same(future, go_on(centre, 40, action_seed=5))
    other = VizdoomGame("defend_the_center")
    play(other, seed=1, num_frames=9)
    other.load(state)
    assert_same(future, go_on(other, 40, action_seed=5))
    other.close()


def test_masks_show_the_monsters_and_change_nothing():
    game, same = VizdoomGame("defend_the_center"), VizdoomGame("defend_the_center")
    same.watch_labels()
    shown = play(game, seed=7, num_frames=60)[-1]
    play(same, seed=7, num_frames=60)
    box = next(x for x in same.labels if x.object_category == "Monster")
    mask = game.masks()["monster"]
    inside = mask[box.y : box.y + box.height, box.x : box.x + box.width]
    assert mask.shape == shown.image.shape[:2] and 0 < inside.sum() <= mask.sum() < 0.1 * mask.size
    assert not game.masks()["object"][mask].any()
    assert_same(go_on(game, 40, action_seed=5), go_on(same, 40, action_seed=5))
    game.close()
    same.close()


def test_saving_changes_nothing(centre):
    before = play(centre, seed=3, num_frames=20) + go_on(centre, 20, action_seed=5)
    again = play(centre, seed=3, num_frames=20)
    centre.save()
    assert_same(before, again + go_on(centre, 20, action_seed=5))


def test_turning_left_turns_left_in_the_very_next_frame(centre):
    centre.reset(0)
    turns = {name: i for i, name in enumerate(centre.actions.names)}
    angles = [centre.step(turns[name]).state["angle"] for name in ["idle", "turn left", "idle", "turn right"]]
    changes = (np.diff(angles) + 180) % 360 - 180
    assert changes[0] > 1
    assert changes[1] == 0
    assert changes[2] < -1


@needs_sound
def test_a_shot_is_heard_in_the_frame_in_which_it_is_fired(centre):
    attack = centre.actions.names.index("attack")
    onsets = []
    for seed in range(4):
        frames = [centre.reset(seed), *(centre.step(attack if 30 <= t < 32 else 0) for t in range(60))]
        shot = next(t for t in range(1, 60) if frames[t].state["ammo"] < frames[t - 1].state["ammo"])
        loudness = [np.abs(frames[t].sound.astype(float)).mean() for t in range(shot - 2, shot + 1)]
        onsets.append(loudness[2] > 2 * max(loudness[:2]))
    assert all(onsets)


@needs_sound
def test_a_frame_holds_exactly_its_share_of_the_sound(centre):
    assert centre.sample_rate == 22_050
    frames = play(centre, seed=0, num_frames=10)
    assert {frame.sound.shape for frame in frames} == {(1260, 2)}
    assert any(frame.sound.any() for frame in frames)
    full = VizdoomGame("defend_the_center", fps=35)
    assert play(full, seed=0, num_frames=4)[-1].sound.shape == (630, 2)
    full.close()


def test_death_is_an_end_and_its_frame_repeats_the_last(centre):
    frames = play(centre, seed=0, num_frames=1000)
    assert frames[-1].terminated
    assert not frames[-1].truncated
    assert frames[-1].state["health"] <= 0 < frames[-2].state["health"]
    assert np.array_equal(frames[-1].image, frames[-2].image)
    assert not any(is_over(frame) for frame in frames[:-1])
    with pytest.raises(InputError, match="reset"):
        centre.step(0)


def test_running_out_of_time_is_no_end():
    game = VizdoomGame("basic")
    frame = game.reset(0)
    while not is_over(frame):
        frame = game.step(0)
    assert (frame.terminated, frame.truncated) == (False, True)
    game.close()


def test_held_keys_press_the_combination(centre):
    assert centre.actions.name(centre.actions.from_keys({"left", "space"})) == "turn left + attack"
    assert centre.actions.name(centre.actions.from_keys(set())) == "idle"
    strafing, _ = discrete_actions(["MOVE_LEFT", "MOVE_RIGHT"])
    assert strafing.name(strafing.from_keys({"right"})) == "strafe right"


@pytest.mark.parametrize("scenario", scenarios())
def test_every_scenario_shows_pictures_that_change(scenario):
    game = VizdoomGame(scenario)
    frames = play(game, seed=1, num_frames=8)
    assert frames[0].image.shape == (240, 320, 3)
    assert not all(np.array_equal(frames[0].image, frame.image) for frame in frames[1:])
    assert len(set(game.actions.names)) == len(game.actions.names)
    game.close()


@pytest.mark.parametrize("scenario", sorted(UNUSABLE))
def test_a_scenario_that_cannot_run_alone_is_refused_with_the_reason(scenario):
    with pytest.raises(InputError, match=UNUSABLE[scenario][:20]):
        make_game(f"vizdoom:{scenario}")


def test_names_are_understood_however_they_are_written():
    game = make_game("ViZDoom:Take-Cover")
    assert game.name == "vizdoom:take_cover"
    game.close()


@pytest.mark.parametrize("fps", [20.0, 0.0, -1.0, 60.0])
def test_a_rate_that_tics_do_not_divide_is_refused(fps):
    with pytest.raises(InputError, match="17.5"):
        VizdoomGame("basic", fps=fps)


def test_the_engine_leaves_nothing_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    game = VizdoomGame("basic")
    game.reset(0)
    game.close()
    assert not list(tmp_path.iterdir())
    assert Path.cwd() == tmp_path


def test_the_scripted_player_hits_more_than_a_random_one(centre):
    def kills(name: str) -> float:
        game = VizdoomGame("defend_the_center")
        policy, total = make_policy(name, game), 0.0
        for seed in range(3):
            rng = np.random.default_rng(seed)
            policy.reset(rng)
            frame = game.reset(seed)
            while not is_over(frame):
                frame = game.step(policy.act(frame, rng))
            total += frame.state["kills"]
        game.close()
        return total

    assert kills("scripted") > 3 * max(kills("random"), 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="hides OpenAL by the loader's path")
def test_without_openal_the_game_says_so_and_is_silent(tmp_path):
    (tmp_path / "libopenal.so.1").write_text("not a library")
    code = (
        "import warnings\n"
        "from worldgen.envs.vizdoom_game import VizdoomGame\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    game = VizdoomGame('basic')\n"
        "print(game.sample_rate, game.reset(0).sound, [str(w.message) for w in caught])\n"
        "game.close()\n"
    )
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert result.stdout.startswith("None None"), result.stderr
    assert "libopenal1" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts a group of processes")
@pytest.mark.parametrize("attempt", range(3))
def test_ctrl_c_ends_a_recording_of_doom_well(tmp_path, attempt):
    """A terminal interrupts the engine's process too, which must not die of it in the middle of a step (every second
    time it did)."""
    command = [sys.executable, "-m", "worldgen.cli", "record", "vizdoom:basic", "--out", str(tmp_path / "doom")]
    process = subprocess.Popen(
        [*command, "--frames", "100000"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and sum(1 for _ in tmp_path.rglob("*.mkv")) < 2:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert said.splitlines()[-1].startswith("interrupted: ")
    assert {file.report.status for file in check_folder(tmp_path).files} == {"ok"}
