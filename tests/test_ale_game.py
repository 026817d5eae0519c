import numpy as np
import pytest

pytest.importorskip("ale_py", reason="ale-py is not installed: pip install 'worldgen[atari]'")

from game_checks import assert_same, go_on, is_over, play

from worldgen.envs.ale_game import AleGame, HighPass
from worldgen.envs.catalogue import make_game
from worldgen.envs.game import ForkableGame
from worldgen.envs.policies import make_policy
from worldgen.errors import InputError


@pytest.fixture(scope="module")
def breakout():
    return AleGame("breakout")


def test_a_seed_gives_the_same_episode_and_another_seed_another(breakout):
    first = play(breakout, seed=1, num_frames=50)
    play(breakout, seed=2, num_frames=9)
    assert_same(first, play(AleGame("breakout"), seed=1, num_frames=50))
    assert not np.array_equal(first[-1].image, play(breakout, seed=2, num_frames=50)[-1].image)


def test_a_loaded_game_goes_on_as_the_saved_one(breakout):
    assert isinstance(breakout, ForkableGame)
    play(breakout, seed=1, num_frames=30)
    state = breakout.save()
    future = go_on(breakout, 40, action_seed=5)
    other = AleGame("breakout")
    play(other, seed=2, num_frames=9)
    other.load(state)
    assert_same(future, go_on(other, 40, action_seed=5), has_same_sound=False)
    with pytest.raises(InputError, match="pong"):
        AleGame("pong").load(state)


def test_a_frame_holds_exactly_its_share_of_the_sound(breakout):
    assert breakout.sample_rate == 30_720
    assert {frame.sound.shape for frame in play(breakout, seed=0, num_frames=12)} == {(2048, 1)}
    assert AleGame("breakout", fps=30).reset(0).sound.shape == (1024, 1)


def test_the_sound_of_the_ball_is_heard_and_silence_is_silent(breakout):
    policy, rng = make_policy("scripted", breakout), np.random.default_rng(0)
    policy.reset(rng)
    frame = breakout.reset(0)
    sound = []
    for _ in range(200):
        frame = breakout.step(policy.act(frame, rng))
        sound.append(frame.sound[:, 0].astype(float))
    peaks = np.array([np.abs(block).max() for block in sound])
    assert peaks.max() > 2000
    assert (peaks < 300).mean() > 0.5
    assert abs(np.concatenate(sound).mean()) < 50


def test_the_filter_does_not_care_where_frames_end():
    samples = np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8)
    whole, parts = HighPass(), HighPass()
    assert np.abs(whole(samples).astype(int) - np.concatenate([parts(b) for b in np.split(samples, 8)])).max() <= 1


def test_losing_the_last_life_is_an_end(breakout):
    frame, fire = breakout.reset(0), breakout.actions.names.index("fire")
    lives = [frame.state["lives"]]
    while not is_over(frame):
        frame = breakout.step(fire)
        lives.append(frame.state["lives"])
    assert frame.terminated
    assert not frame.truncated
    assert lives[0] == 5
    assert lives[-1] == 0
    with pytest.raises(InputError, match="reset"):
        breakout.step(0)


def test_rewards_add_up_to_the_score(breakout):
    frames = play(breakout, seed=3, num_frames=300)
    assert sum(frame.reward for frame in frames) == frames[-1].state["score"] > 0


def test_the_scripted_player_keeps_the_ball_in_play(breakout):
    def length(name: str) -> int:
        policy, total = make_policy(name, breakout), 0
        for seed in range(3):
            rng = np.random.default_rng(seed)
            policy.reset(rng)
            frame = breakout.reset(seed)
            while not is_over(frame) and total < 4000:
                frame, total = breakout.step(policy.act(frame, rng)), total + 1
        return total

    assert length("scripted") > 1.5 * length("random")


def test_actions_are_named_and_pressed_by_the_keys_of_a_joystick():
    game = make_game("ALE:Space-Invaders")
    assert game.actions.name(game.actions.from_keys({"left", "space"})) == "left + fire"
    assert "measuring only" in game.licence


@pytest.mark.parametrize(("env", "said"), [("ale:brakout", "did you mean breakout"), ("ale:zzzz", "such as")])
def test_an_unknown_rom_is_named_with_those_that_are_near(env, said):
    with pytest.raises(InputError, match=said):
        make_game(env)


def test_a_rate_that_console_frames_do_not_divide_is_refused():
    with pytest.raises(InputError, match="--fps 17"):
        AleGame("breakout", fps=17)
