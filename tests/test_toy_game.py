import time

import numpy as np
import pytest

from worldgen.actions import ActionMap
from worldgen.envs.game import ForkableGame, GameFrame
from worldgen.envs.toy_game import FRAME_RATES, ToyGame
from worldgen.envs.toy_level import SUB, WALKER_HEIGHT, WALKER_WIDTH
from worldgen.envs.toy_physics import ENDING_TICKS, HEIGHT
from worldgen.envs.toy_player import ScriptedToyPlayer
from worldgen.envs.toy_sound import effects, mix
from worldgen.errors import InputError

IDLE, LEFT, RIGHT, JUMP, LEFT_JUMP, RIGHT_JUMP = range(6)


def random_actions(count: int, seed: int = 0) -> list[int]:
    """Mostly to the right, each action held for a while."""
    rng = np.random.default_rng(seed)
    return [int(a) for a in rng.choice(6, count // 8 + 1, p=[0.05, 0.1, 0.4, 0.05, 0.1, 0.3]).repeat(8)[:count]]


def play(game: ToyGame, actions: list[int]) -> list[GameFrame]:
    """The frames after each action, up to the end of the game."""
    frames = []
    for action in actions:
        frames.append(game.step(action))
        if frames[-1].terminated or frames[-1].truncated:
            break
    return frames


def assert_same(first: list[GameFrame], second: list[GameFrame]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.sound, b.sound)
        assert (a.reward, a.terminated, a.truncated, a.state) == (b.reward, b.terminated, b.truncated, b.state)


def play_scripted(game: ToyGame, seed: int) -> list[GameFrame]:
    player, rng = ScriptedToyPlayer(), np.random.default_rng(seed)
    frames = [game.reset(seed)]
    while not (frames[-1].terminated or frames[-1].truncated):
        frames.append(game.step(player.act(game, rng)))
    return frames


@pytest.fixture(scope="module")
def scripted_play() -> list[GameFrame]:
    return play_scripted(ToyGame(), seed=18)


def test_the_same_seed_and_actions_give_the_same_play():
    plays = []
    for _ in range(2):
        game = ToyGame()
        plays.append([game.reset(3), *play(game, random_actions(150))])
    assert_same(*plays)
    assert plays[0][-1].state["x"] > plays[0][0].state["x"] + 50


def test_another_seed_gives_another_level():
    assert not np.array_equal(ToyGame().reset(0).image, ToyGame().reset(1).image)


def test_a_game_played_before_leaves_no_trace():
    game = ToyGame()
    game.reset(1)
    play(game, random_actions(60))
    again = [game.reset(3), *play(game, random_actions(100))]
    fresh = ToyGame()
    assert_same(again, [fresh.reset(3), *play(fresh, random_actions(100))])


@pytest.mark.parametrize("forked_at", [0, 23, 70])  # at 23 a jump sounds
def test_a_saved_game_has_exactly_the_same_future(forked_at):
    game = ToyGame()
    game.reset(5)
    play(game, ([RIGHT] * 20 + [RIGHT_JUMP] * 60)[:forked_at])
    saved = game.save()
    future = play(game, random_actions(80, seed=1))
    game.load(saved)
    assert game.save() == saved
    assert_same(play(game, random_actions(80, seed=1)), future)
    other = ToyGame()
    other.reset(9)
    other.load(saved)
    assert_same(play(other, random_actions(80, seed=1)), future)
    other.load(saved)
    different = play(other, [LEFT_JUMP] * 80)
    assert different[-1].state["x"] != future[-1].state["x"]
    assert isinstance(game, ForkableGame)


def test_what_is_not_a_saved_game_is_refused():
    game = ToyGame()
    with pytest.raises(InputError, match="not a saved ToyGame"):
        game.load(b"\x80\x04garbage")
    with pytest.raises(InputError, match="not a saved ToyGame"):
        game.load(b"{}")
    game.reset(0)
    with pytest.raises(InputError, match="'toy-game-0'"):
        game.load(game.save().replace(b"toy-game-1", b"toy-game-0"))


def test_an_action_shows_in_the_very_next_frame():
    for action, column, sign in ((RIGHT, "x", 1), (LEFT, "x", -1), (JUMP, "y", -1)):
        game = ToyGame()
        before = game.reset(0)
        after = game.step(action)
        assert np.sign(after.state[column] - before.state[column]) == sign
        assert not np.array_equal(after.image, before.image)
        still = ToyGame()
        still.reset(0)
        assert still.step(IDLE).state[column] == before.state[column]


def test_state_speeds_are_pixels_a_second():
    game = ToyGame(fps=60)
    frames = [game.reset(0), *play(game, [RIGHT] * 30)]
    for before, after in zip(frames, frames[1:], strict=False):
        assert (after.state["x"] - before.state["x"]) * 60 == after.state["vx"]


def test_holding_jump_jumps_higher_and_does_not_jump_again():
    tops = []
    for held in (3, 12):
        game = ToyGame()
        start = game.reset(0).state["y"]
        frames = play(game, [JUMP] * held + [IDLE] * 30)
        tops.append(start - min(f.state["y"] for f in frames))
        assert frames[-1].state["y"] == start
    assert tops[1] > tops[0] + 8 and 32 < tops[1] < 40
    game.reset(0)
    assert play(game, [JUMP] * 50)[-1].state["on_ground"] == 1


@pytest.mark.parametrize("fps", FRAME_RATES)
def test_a_frame_holds_its_exact_share_of_samples(fps):
    game = ToyGame(fps=fps)
    frames = [game.reset(0), *play(game, [JUMP] * 3)]
    assert all(f.sound.shape == (24_000 // fps, 1) and f.sound.dtype == np.int16 for f in frames)
    assert not frames[0].sound.any() and frames[1].sound.any()


def test_every_frame_rate_shows_and_sounds_the_same_play():
    actions = [RIGHT] * 4 + [RIGHT_JUMP] * 4 + [LEFT] * 6 + [LEFT_JUMP] * 4 + [IDLE] * 2  # each for 1/10 s
    plays = {}
    for fps in FRAME_RATES:
        if fps % 10 == 0:
            game = ToyGame(fps=fps)
            game.reset(2)
            frames = play(game, list(np.repeat(actions, fps // 10)))
            plays[fps] = frames[fps // 10 - 1 :: fps // 10], np.concatenate([f.sound for f in frames])
    for frames, sound in plays.values():
        assert [f.state for f in frames] == [f.state for f in plays[60][0]]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, plays[60][0], strict=True))
        assert np.array_equal(sound, plays[60][1])


def test_a_jump_sounds_in_the_frame_that_shows_it_and_whole():
    game = ToyGame()
    game.reset(0)
    assert not any(f.sound.any() for f in play(game, [IDLE] * 20))
    jump = play(game, [JUMP] * 12)
    assert jump[0].state["vy"] < 0
    wave = effects()["jump"]
    assert np.array_equal(np.concatenate([f.sound for f in jump])[: len(wave), 0], wave)


def test_coins_sound_and_pay_in_the_frame_they_are_taken(scripted_play):
    taken = [
        i for i in range(1, len(scripted_play)) if scripted_play[i].state["coins"] > scripted_play[i - 1].state["coins"]
    ]
    assert len(taken) > 10
    for i in taken:
        assert scripted_play[i].reward >= 1 and scripted_play[i].sound.any()


def test_effects_start_and_end_at_zero_and_overlap_as_a_sum():
    for name, wave in effects().items():
        assert abs(wave[:2]).max() < 60 and abs(wave[-2:]).max() < 60, name
        assert 2000 < abs(wave).max() < 9000, name
    coin = effects()["coin"]
    both = mix([("coin", 0), ("coin", 500)], 0, len(coin))[:, 0]
    assert np.array_equal(both[500:], coin[500:] + coin[:-500])
    loud = mix([("coin", 0)] * 20, 0, len(coin))[:, 0]
    assert np.array_equal(loud, np.clip(20 * coin, -32768, 32767))


def test_reward_is_coins_and_stomps_and_five_for_the_flag(scripted_play):
    last = scripted_play[-1].state
    assert last["has_won"] and scripted_play[-1].terminated and not scripted_play[-1].truncated
    assert sum(f.reward for f in scripted_play) == last["coins"] + last["stomps"] + 5
    assert last["stomps"] > 0


def test_the_scripted_player_reaches_the_flag_on_most_seeds():
    ends = [play_scripted(ToyGame(), seed)[-1].state for seed in range(10)]
    assert sum(end["has_won"] for end in ends) >= 8
    assert np.mean([end["coins"] for end in ends]) > 20


def test_the_scripted_player_follows_a_game_that_was_loaded():
    game, player, rng = ToyGame(), ScriptedToyPlayer(), np.random.default_rng(0)
    game.reset(4)
    saved = game.save()
    for _ in range(50):
        game.step(player.act(game, rng))
    game.load(saved)
    for _ in range(250):
        frame = game.step(player.act(game, rng))
    assert frame.state["x"] > 200 and not frame.state["is_dead"]


def test_falling_into_a_pit_ends_the_game():
    game = ToyGame()
    game.reset(0)
    frames = play(game, [RIGHT] * 600)
    died = next(i for i, f in enumerate(frames) if f.state["is_dead"])
    assert frames[died].state["y"] > 120 and frames[died].sound.any()
    assert frames[-1].terminated and not frames[-1].truncated
    assert not any(f.terminated for f in frames[:-1])
    assert len(frames) - 1 - died == ENDING_TICKS // game.ticks_per_frame
    with pytest.raises(InputError, match="reset"):
        game.step(IDLE)
    assert game.reset(0).state["is_dead"] == 0


def meet_walker(game: ToyGame, above: int) -> GameFrame:
    """Put the player's feet `above` pixels over a walker's top, falling, and step once."""
    game.reset(8)
    walker = game.level.walkers[0]
    game.play.x = walker.position(game.play.tick)[0] + (WALKER_WIDTH // 2 - 4) * SUB
    game.play.y = (walker.y - above) * SUB - HEIGHT
    game.play.vy, game.play.on_ground = 300, False
    return game.step(IDLE)


def test_a_walker_dies_when_stomped_and_kills_when_touched():
    game = ToyGame()
    stomp = meet_walker(game, above=1)
    assert (stomp.state["stomps"], stomp.reward, stomp.state["is_dead"]) == (1, 1, 0)
    assert stomp.state["vy"] < 0 and stomp.sound.any()
    assert stomp.state["walker0_x"] != game.level.walkers[0].position(game.play.tick)[0] / SUB
    touch = meet_walker(game, above=-WALKER_HEIGHT)
    assert (touch.state["stomps"], touch.reward, touch.state["is_dead"]) == (0, 0, 1)
    assert play(game, [IDLE] * 60)[-1].terminated


def test_a_game_is_truncated_after_forty_seconds():
    game = ToyGame(fps=10, height=32, width=32)
    game.reset(0)
    frames = play(game, [IDLE] * 1000)
    assert len(frames) == 400
    assert frames[-1].truncated and not frames[-1].terminated


def test_the_players_mask_is_where_the_player_is_drawn():
    game = ToyGame()
    game.reset(5)
    for action in ([RIGHT] * 20, [RIGHT_JUMP] * 12, [LEFT] * 6):
        play(game, action)
        with_player, mask = game.image(), game.masks()["player"]
        y, game.play.y = game.play.y, -200 * SUB
        changed = (with_player != game.image()).any(-1)
        assert not game.masks()["player"].any()
        game.play.y = y
        assert changed.sum() > 90 and not (changed & ~mask).any()
        assert (mask & ~changed).sum() <= 0.1 * mask.sum()  # the few pixels that look like what is behind them
        left = game.play.x // SUB - game.state()["camera_x"]
        assert left - 2 <= np.nonzero(mask.any(0))[0].min() and np.nonzero(mask.any(0))[0].max() < left + 10
        assert np.nonzero(mask.any(1))[0].max() == (game.play.y + HEIGHT) // SUB - 1


def test_masks_name_each_pixel_at_most_once_and_follow_the_world():
    game = ToyGame()
    frames = [game.reset(8)]
    player, rng = ScriptedToyPlayer(), np.random.default_rng(0)
    seen = dict.fromkeys(game.masks(), 0)
    while not frames[-1].terminated:
        frames.append(game.step(player.act(game, rng)))
        if len(frames) % 10 == 0:
            masks = game.masks()
            assert np.sum(list(masks.values()), axis=0).max() <= 1
            for name, mask in masks.items():
                assert mask.shape == (128, 128) and mask.dtype == bool
                seen[name] += bool(mask.any())
    assert all(seen.values())
    corner = game.masks()["ground"][-1, 0]
    assert not corner  # behind the closing picture nothing is seen


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 160), (192, 256)])
def test_other_picture_sizes_show_the_same_play(height, width):
    game, usual = ToyGame(height=height, width=width), ToyGame()
    for one in (game, usual):
        one.reset(6)
    frames, usual_frames = play(game, random_actions(100)), play(usual, random_actions(100))
    assert all(f.image.shape == (height, width, 3) and f.image.dtype == np.uint8 for f in frames)
    assert all(a.state["x"] == b.state["x"] for a, b in zip(frames, usual_frames, strict=True))
    assert game.masks()["player"].sum() > 90


def test_a_frame_is_the_callers_own():
    game = ToyGame()
    frame = game.reset(0)
    frame.image[:] = 0
    frame.sound[:] = 9
    assert game.image().any()
    game.step(JUMP).sound[:] = 0
    again = ToyGame()
    again.reset(0)
    assert again.step(JUMP).sound.any()


def test_keys_press_the_actions_they_are_named_for():
    actions: ActionMap = ToyGame.actions
    assert actions.name(actions.from_keys({"right", "space"})) == "right+jump"
    assert [actions.name(actions.from_keys(keys)) for keys in (set(), {"left"}, {"space"})] == ["idle", "left", "jump"]


def test_wrong_use_is_refused_with_the_value_and_the_way_out():
    with pytest.raises(InputError, match="24.*10, 12, 15, 20, 30, 60"):
        ToyGame(fps=24)
    with pytest.raises(InputError, match="8x128"):
        ToyGame(width=8)
    with pytest.raises(InputError, match="reset"):
        ToyGame().step(0)
    game = ToyGame()
    with pytest.raises(InputError, match="-1"):
        game.reset(-1)
    game.reset(0)
    with pytest.raises(InputError, match="6.*0..5"):
        game.step(6)


def test_a_thousand_frames_take_less_than_a_second():
    game, fastest = ToyGame(), np.inf
    for _ in range(3):
        game.reset(3)
        game.play.x = 300 * SUB  # amid things to draw
        start = time.perf_counter()
        play(game, [IDLE, JUMP] * 125)
        fastest = min(fastest, (time.perf_counter() - start) / 250)
    assert fastest < 1e-3
