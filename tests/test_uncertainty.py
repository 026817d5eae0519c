"""Uncertainty: how unlike recorded frames a frame is, measured with the heads and shown with every frame."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from env_worlds import EndlessWorld

from worldgen.bundle import Starts, network_hashes, source_hashes
from worldgen.envs import WorldEnv, WorldVectorEnv
from worldgen.errors import InputError
from worldgen.uncertainty import FILE, Uncertainty, fit_uncertainty
from worldgen.world import World

HIDDEN = (5, 32)  # of the tiny world: four tokens and the action's
ACTIONS = [1, 4, 0, 2, 3, 3]


@pytest.fixture(scope="module")
def telling_world(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with statistics of made-up hidden states."""
    folder = tmp_path_factory.mktemp("telling") / "tiny"
    shutil.copytree(tiny_world, folder)
    rng = np.random.default_rng(0)
    fit_uncertainty(rng.normal(size=(200, *HIDDEN)), rng.normal(size=(100, *HIDDEN)), network_hashes(folder)).save(
        folder
    )
    return folder


def test_what_is_unlike_the_recorded_states_is_far():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6)) * np.linspace(0.1, 3, 6)  # correlated, and of unlike spreads
    states = (rng.normal(size=(3000, 4, 6)) @ mixing).astype(np.float32)
    found = fit_uncertainty(states[:2000], states[2000:2500], {"tokenizer": "a", "dynamics": "b"})
    same = found.of(states[2500:])
    assert 0.002 < np.mean(same > 1) < 0.03  # as the unit says
    narrow = np.linalg.inv(mixing)[:, 0] / np.linalg.norm(np.linalg.inv(mixing)[:, 0])
    moved = states[2500:] + (2 * narrow).astype(np.float32)  # a small step, where recorded states do not vary
    assert np.median(found.of(moved)) > 2 * np.median(same)
    assert np.median(found.of(3 * states[2500:])) > 2 * np.median(same)


def test_a_figure_does_not_depend_on_the_others_of_its_batch(telling_world: Path):
    single = [play(WorldEnv(EndlessWorld.load(telling_world)), seed) for seed in range(3)]
    envs = WorldVectorEnv(EndlessWorld.load(telling_world, batch=3), num_envs=3)
    _, infos = envs.reset(seed=0)
    told = [infos["uncertainty"]]
    for action in ACTIONS:
        told.append(envs.step(np.full(3, action))[4]["uncertainty"])
    assert np.array_equal(np.array(single, np.float32).T, np.array(told))
    assert np.isfinite(told).all()


def play(env: WorldEnv, seed: int) -> list[float]:
    told = [env.reset(seed=seed)[1]["uncertainty"]]
    return told + [env.step(action)[4]["uncertainty"] for action in ACTIONS]


def test_engines_agree(telling_world: Path):
    pytest.importorskip("torch")
    frames = [World.load(telling_world, backend=name).reset(0) for name in ("onnxruntime", "torch")]
    assert frames[0].uncertainty == pytest.approx(frames[1].uncertainty, rel=1e-3)


def test_a_world_without_statistics_gives_no_figure(tiny_world: Path):
    world = World.load(tiny_world)
    assert not world.has_uncertainty
    assert world.reset().uncertainty is None
    assert world.step(0).uncertainty is None
    assert "uncertainty" not in WorldEnv(tiny_world).reset()[1]


def test_games_that_stay_as_they_were_have_no_figure(telling_world: Path):
    world = World.load(telling_world, batch=3)
    world.reset(0)
    told = world.reset(5, mask=np.array([False, True, False])).uncertainty
    assert np.isnan(told[[0, 2]]).all()
    assert np.isfinite(told[1])


def test_graphs_alone_know_whose_statistics_they_may_use(telling_world: Path, tmp_path: Path):
    folder = tmp_path / "graphs"
    shutil.copytree(telling_world, folder, ignore=shutil.ignore_patterns("tokenizer", "dynamics", "heads"))
    assert source_hashes(folder)["dynamics"] == network_hashes(telling_world)["dynamics"]
    assert World.load(folder).reset(0).uncertainty == World.load(telling_world).reset(0).uncertainty


def test_statistics_of_other_networks_or_damaged_ones_are_refused_with_the_way_out(telling_world: Path, tmp_path: Path):
    folder = tmp_path / "stale"
    shutil.copytree(telling_world, folder)
    found = Uncertainty.load(folder, lambda: network_hashes(folder), HIDDEN)
    assert found is not None
    replace(found, hashes={**found.hashes, "dynamics": "0" * 64}).save(folder)
    with pytest.raises(InputError, match="another dynamics.*python -m worldgen.training.uncertainty"):
        World.load(folder)
    replace(found, directions=found.directions[:5]).save(folder)
    with pytest.raises(InputError, match="does not fit a hidden state"):
        World.load(folder)
    (folder / FILE).write_bytes(b"PK")
    with pytest.raises(InputError, match="damaged.*delete it"):
        World.load(folder)


def test_an_episode_ends_where_the_world_is_too_uncertain(telling_world: Path):
    told = play(WorldEnv(EndlessWorld.load(telling_world)), seed=0)[1:]
    limit = sorted(told)[-2]  # so that one step goes above it
    env = WorldEnv(EndlessWorld.load(telling_world), end_above=limit)
    env.reset(seed=0)
    ends = [env.step(action)[2] for action in ACTIONS[: 1 + int(np.argmax(told))]]
    assert ends == [False] * int(np.argmax(told)) + [True]


def test_of_many_games_only_the_uncertain_ones_end(telling_world: Path):
    def play_with(end_above: float | None):
        world = EndlessWorld.load(telling_world, batch=4)
        envs = WorldVectorEnv(world, num_envs=4, end_above=end_above, autoreset_mode="Disabled")
        envs.reset(seed=0)
        return envs.step(np.full(4, 1))

    told = play_with(None)[4]["uncertainty"]
    _, _, terminations, truncations, infos = play_with(float(np.median(told)))
    assert np.array_equal(terminations, told > np.median(told))
    assert not truncations.any()
    assert np.array_equal(infos["uncertainty"], told)


@pytest.mark.parametrize("end_above, said", [(0.0, "above 0"), (-1.0, "above 0"), (float("nan"), "above 0")])
def test_a_limit_that_cannot_be_is_refused(telling_world: Path, end_above: float, said: str):
    with pytest.raises(InputError, match=said):
        WorldEnv(telling_world, end_above=end_above)


def test_a_limit_needs_statistics(tiny_world: Path):
    with pytest.raises(InputError, match="cannot tell how uncertain.*worldgen.training.uncertainty"):
        WorldVectorEnv(tiny_world, num_envs=2, end_above=1.5)


def test_an_existing_world_gets_statistics_from_recordings(
    tiny_world: Path, toy_recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    pytest.importorskip("torch")
    from worldgen.training.uncertainty import main

    folder = tmp_path / "tiny"
    shutil.copytree(tiny_world, folder)
    assert main([str(toy_recordings), "--world", str(folder)]) == 0
    assert "rank correlation" in capsys.readouterr().out
    world = World.load(folder)
    recorded = Starts.load(folder).frames * 0 + np.array([40, 90, 90], np.uint8)  # an empty floor, as in the recordings
    noise = np.random.default_rng(0).integers(0, 256, recorded.shape, np.uint8)
    assert world.reset(0, start=recorded[0]).uncertainty < world.reset(0, start=noise[0]).uncertainty
    assert main([str(tmp_path), "--world", str(folder)]) == 2


def test_a_frame_that_is_foretold_well_has_a_high_rank_correlation(tiny_world: Path):
    pytest.importorskip("torch")
    from worldgen.training.uncertainty import foretold

    class Telling(World):
        """Each game is as wrong as it says: by its own number of grey levels"""

        def reset(self, *given, **how):
            return self._told(super().reset(*given, **how))

        def step(self, *given, **how):
            return self._told(super().step(*given, **how))

        def _told(self, frame):
            level = np.arange(self.batch)
            image = np.broadcast_to((100 + 5 * level)[:, None, None, None], frame.image.shape).astype(np.uint8)
            return replace(frame, image=image, uncertainty=level.astype(np.float32))

    world = Telling.load(tiny_world, batch=6)
    frames = np.full((6, 17, 16, 16, 3), 100, np.uint8)
    assert foretold(world, frames, world.config.actions.null(6, 17) * 0) > 0.9
