import importlib.util
import subprocess
import sys
import wave

import numpy as np
import pytest

if importlib.util.find_spec("pyxel") is None:  # importing it loads a desktop's own SDL, which pygame refuses
    pytest.skip("Pyxel is not installed: pip install 'worldgen[games]'", allow_module_level=True)

from game_checks import assert_same, go_on, is_over, play

from worldgen.envs.game import ForkableGame
from worldgen.envs.policies import make_policy
from worldgen.envs.pyxel_game import PyxelGame, game_names
from worldgen.envs.scripted import scripted_player
from worldgen.errors import InputError


@pytest.fixture(scope="module")
def jump():
    game = PyxelGame("jump")
    yield game
    game.close()


def test_a_seed_gives_the_same_episode_and_another_seed_another(jump):
    first = play(jump, seed=1, num_frames=60)
    second = play(jump, seed=1, num_frames=60)
    assert_same(first, second)
    assert not np.array_equal(first[0].image, jump.reset(2).image)


def test_a_loaded_game_goes_on_exactly_as_the_saved_one(jump):
    assert isinstance(jump, ForkableGame)
    play(jump, seed=1, num_frames=15)
    state = jump.save()
    future = go_on(jump, 20, action_seed=5)
    jump.load(state)
    assert_same(future, go_on(jump, 20, action_seed=5))


def test_a_held_key_moves_the_player_in_the_very_next_frame(jump):
    places = [jump.reset(0).state["player_x"]]
    for name in ["idle", "left", "left", "right", "idle"]:
        places.append(jump.step(jump.actions.names.index(name)).state["player_x"])
    assert np.diff(places).tolist() == [0, -2, -2, 2, 0]


def test_a_key_that_stays_held_is_pressed_once():
    game = PyxelGame("platformer")
    heights = [game.reset(0).state["dy"]]
    jump = game.actions.names.index("jump")
    heights += [game.step(jump).state["dy"] for _ in range(6)]
    assert heights[1] == -6
    assert heights[2:] == sorted(heights[2:])
    assert heights[-1] > -6
    game.close()


@pytest.mark.parametrize("name", game_names())
def test_every_game_starts_past_its_title_and_is_seen_and_heard(name):
    game = PyxelGame(name)
    frames = play(game, seed=1, num_frames=40)
    assert len(frames) > 5
    assert not np.array_equal(frames[0].image, frames[-1].image)
    assert len({frame.image.shape for frame in frames}) == 1
    assert len({tuple(frame.state) for frame in frames}) == 1
    assert {frame.sound.shape for frame in frames} == {(game.sample_rate / game.fps, 1)}
    assert not frames[0].sound.any()
    assert max(np.abs(frame.sound.astype(int)).max() for frame in frames) > 100
    game.close()


def test_the_sound_is_what_pyxel_itself_renders(jump, tmp_path):
    file = tmp_path / "music.wav"
    code = (
        "import sys, pathlib, pyxel\n"
        "pyxel.init(16, 16, headless=True)\n"
        "pyxel.load(str(pathlib.Path(pyxel.__file__).parent / 'examples/assets/jump_game.pyxres'))\n"
        "pyxel.musics[0].save(sys.argv[1], 2.0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=True, capture_output=True, timeout=60)
    with wave.open(str(file)) as music:
        wanted = np.frombuffer(music.readframes(music.getnframes()), np.int16)
    jump.reset(0)
    frames = [jump.step(0) for _ in range(12)]
    heard = np.concatenate([f.sound[:, 0] for f in frames if f.state["score"] == 0])  # until the first landing: music
    assert len(heard) >= 5 * 735
    assert np.abs(wanted[: len(heard)]).max() > 500
    assert np.abs(heard.astype(int) - wanted[: len(heard)]).max() <= 2


def test_the_end_is_flagged_once_and_the_score_is_the_sum_of_rewards(jump):
    frames = play(jump, seed=3, num_frames=2000)
    assert [is_over(frame) for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert frames[-1].terminated
    assert sum(frame.reward for frame in frames) == frames[-1].state["score"]
    with pytest.raises(InputError, match="reset"):
        jump.step(0)


def test_half_the_rate_holds_an_action_for_two_frames():
    game = PyxelGame("jump", fps=15)
    before = game.reset(0)
    after = game.step(game.actions.names.index("right"))
    assert after.state["player_x"] - before.state["player_x"] == 4
    assert after.sound.shape == (1470, 1)
    game.close()
    with pytest.raises(InputError, match="--fps 17"):
        PyxelGame("jump", fps=17)


def test_the_scripted_player_stays_up_longer_than_a_random_one(jump):
    def length(policy) -> int:
        total = 0
        for seed in (1, 3, 4):
            rng = np.random.default_rng(seed)
            policy.reset(rng)
            frame, frames = jump.reset(seed), 0
            while not is_over(frame) and frames < 250:
                frame, frames = jump.step(policy.act(frame, rng)), frames + 1
            total += frames
        return total

    scripted, random = length(scripted_player(jump)), length(make_policy("random", jump))
    assert scripted == 3 * 250
    assert random < 0.8 * scripted


def test_the_scripted_player_of_platformer_gets_past_walls_and_does_not_hang_under_the_ceiling():
    """Held jumps fly: two thirds of random play passes at the top of the first screens."""
    game = PyxelGame("platformer")
    furthest, heights = 0.0, []
    for seed in (0, 4):
        rng, player = np.random.default_rng(seed), scripted_player(game)
        player.reset(rng)
        frame, last = game.reset(seed), len(heights) + 800
        while not is_over(frame) and len(heights) < last:
            frame = game.step(player.act(frame, rng))
            furthest = max(furthest, frame.state["scroll_x"])
            heights.append(frame.state["y"])
    game.close()
    assert furthest > 200  # keys held at random never got past 168
    assert np.mean(np.array(heights) < 4) < 0.3
