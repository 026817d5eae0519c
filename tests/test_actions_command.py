"""worldgen actions: clips of what each action does, what the codes are, and names for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import SIDE, TOY_ACTIONS

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from worldgen.actions import ActionMap  # noqa: E402
from worldgen.bundle import save_network  # noqa: E402
from worldgen.cli import main  # noqa: E402
from worldgen.config import WorldConfig  # noqa: E402
from worldgen.models.latent_action import LatentActionModel  # noqa: E402
from worldgen.naming import MAX_NAME, renamed  # noqa: E402
from worldgen.training.action_clips import ActionClips, effects, sheet  # noqa: E402
from worldgen.training.button_map import button_map_figures, names_and_keys  # noqa: E402
from worldgen.training.code_scores import ButtonMap  # noqa: E402
from worldgen.training.latent_action import latent_action_map  # noqa: E402

NUM_CODES = 6


@pytest.fixture
def latent_world(tiny_world: Path, tmp_path: Path) -> Path:
    """The tiny world as one of latent actions: five codes, one for each of its actions."""
    world = tmp_path / "latent"
    shutil.copytree(tiny_world, world)
    torch.manual_seed(0)
    network = LatentActionModel(height=SIDE, width=SIDE, num_codes=5, dim=16)
    save_network(network, world, "latent_action")
    raw = json.loads((world / "world.json").read_text())
    raw |= {"action_source": "latent", "actions": latent_action_map(5).to_json()}
    (world / "world.json").write_text(json.dumps(raw))
    return world


def clips_of(moves: list[int], num_starts: int = 3) -> ActionClips:
    """A bar that each action moves by so many pixels a frame, from another place and over another floor each start."""
    shown = np.zeros((num_starts, 16, 32, 3), np.uint8)
    frames = np.zeros((len(moves), num_starts, 4, 16, 32, 3), np.uint8)
    for s in range(num_starts):
        shown[s] += np.uint8(20 * s)
        frames[:, s] += np.uint8(20 * s)
        shown[s, :, 12 + s : 15 + s] = 200
        for a, move in enumerate(moves):
            for t in range(4):
                x = 12 + s + move * (t + 1)
                frames[a, s, t, :, x : x + 3] = 200
    actions = ActionMap.discrete([f"code {i}" for i in range(len(moves))], [(str(i),) for i in range(len(moves))])
    return ActionClips(actions, shown, frames)


def test_the_effect_of_an_action_is_how_far_it_is_from_the_others():
    found = effects(clips_of([0, -2, 2, 0]))
    assert found["code 1"]["effect"] > found["code 0"]["effect"] > 0
    assert found["code 0"]["motion"] == found["code 3"]["motion"] == 0 < found["code 1"]["motion"]
    same = effects(clips_of([1, 1]))
    assert same["code 0"]["effect"] == pytest.approx(0, abs=1e-2)
    clips = clips_of([0, 2])
    clips.frames[:, 2] = clips.shown[2]  # from the third start neither does anything
    assert effects(clips)["code 1"]["effect_spread"] > 0.5 > effects(clips_of([0, 2]))["code 1"]["effect_spread"]


def test_a_sheet_has_a_row_for_each_action_and_a_group_for_each_start():
    small, large = sheet(clips_of([0, 1], 2), {}), sheet(clips_of([0, 1, 2, -1], 4), {"code 1": "a note"})
    assert large.shape[0] > 1.4 * small.shape[0] and large.shape[1] > 1.6 * small.shape[1]


def test_clips_figures_and_keys_come_with_one_command(tiny_world_onnx: Path, tmp_path: Path, capsys):
    out, figures = tmp_path / "out", tmp_path / "f.json"
    assert main(["actions", str(tiny_world_onnx), "--out", str(out), "--frames", "3", "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert [a["name"] for a in found["actions"]] == list(TOY_ACTIONS.names)
    assert set(found["effects"]) == set(TOY_ACTIONS.names) and "read_back" not in found
    assert (out / "sheet.png").read_bytes().startswith(b"\x89PNG")
    with av.open(str(out / "clips.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 3 + 5
    assert "left" in capsys.readouterr().out


def test_codes_are_named_by_hand_and_by_labelled_frames(latent_world: Path, toy_recordings: Path, tmp_path: Path):
    figures = tmp_path / "f.json"
    told = ["--name", "2=dash", "--key", "2=space", "--json", str(figures)]
    assert main(["actions", str(latent_world), *told]) == 0
    actions = WorldConfig.load(latent_world / "world.json").actions
    assert actions.names[2] == "dash" and actions.from_keys(["space"]) == 2
    assert not (Path.cwd() / "tiny-actions").exists()  # naming makes no clips
    bound = ["--data", str(toy_recordings), "--bind", "--out", str(tmp_path / "o"), "--frames", "2"]
    assert main(["actions", str(latent_world), *bound, "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert sum(found["usage"]["usage"]) == pytest.approx(1)
    assert set(found["button_map"]["buttons"]) == set(TOY_ACTIONS.names) and found["button_map"]["labels"] <= 200
    assert set(found["read_back"]) == {a["name"] for a in found["actions"]}
    meant = {name.split(" (")[0] for name in WorldConfig.load(latent_world / "world.json").actions.names}
    assert meant & set(TOY_ACTIONS.names)


@pytest.mark.parametrize(
    "told, said",
    [
        (["--bind"], "--data DIR"),
        (["--labels", "500"], "1 to 200"),
        (["--frames", "0"], "--frames is at least 1"),
        (["--name", "7=x"], "no action 7"),
        (["--key", "0=spacebar"], "'spacebar' is no key"),
    ],
)
def test_what_cannot_be_is_one_line(latent_world: Path, told: list[str], said: str, capsys):
    assert main(["actions", str(latent_world), *told]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_recorded_actions_need_no_button_map(tiny_world: Path, toy_recordings: Path, capsys):
    assert main(["actions", str(tiny_world), "--data", str(toy_recordings)]) == 2
    assert "were recorded with the video" in capsys.readouterr().err


def test_200_labels_are_nearly_as_good_as_all_where_codes_mean_something():
    rng = np.random.default_rng(0)
    buttons = rng.integers(0, 5, 4000)
    codes = np.where(rng.random(4000) < 0.8, buttons, rng.integers(0, NUM_CODES, 4000))
    names, fitted_on = list(TOY_ACTIONS.names), np.arange(4000) % 2 == 0
    given = (codes, buttons, names, fitted_on, NUM_CODES, [f"code {i}" for i in range(NUM_CODES)])
    fitted, found = button_map_figures(*given, labels=200)
    assert found["ratio"] > 0.9 and found["accuracy_all"] > 0.75 and found["labels"] == 200
    _, few = button_map_figures(*given, labels=8)
    assert few["accuracy"] < found["accuracy"]
    named, keys = names_and_keys(fitted, TOY_ACTIONS, latent_action_map(NUM_CODES))
    assert [named[i] for i in range(5)] == names and keys[0] == () and keys[1] == ("left",)
    assert named[5].endswith("(2)") or named[5] == "code 5"


def bound(button_of: list[int], buttons: ActionMap, num_codes: int) -> ActionMap:
    codes_of = tuple(tuple(np.flatnonzero(np.array(button_of) == i).tolist()) for i in range(buttons.sizes[0]))
    fitted = ButtonMap(np.array(button_of), codes_of, labels=9)
    actions = latent_action_map(num_codes)
    return renamed(actions, *names_and_keys(fitted, buttons, actions))


def test_long_names_are_cut_and_told_apart():
    long = [f"forward+strafe left+fire+jump+{x}" for x in ("crouch", "weapon 1", "weapon 2", "weapon 1")]
    actions = bound([0, 1, 2, 3, 0], ActionMap.discrete(long, [(k,) for k in ("up", "down", "left", "right")]), 5)
    assert all(len(name) <= MAX_NAME for name in actions.names)
    ends = ("re+jump+crouch", "+jump+weapon 1", "+jump+weapon 2", "ump+weapon 1 (2)", "+jump+crouch (2)")
    for name, end in zip(actions.names, ends, strict=True):
        assert name.startswith("forward+stra") and "..." in name and name.endswith(end), name


def test_no_two_codes_share_a_key():
    weapons = ActionMap.discrete(["idle", "two", "one", "jump"], [(), ("2",), ("1",), ("1", "space")])
    actions = bound([2, 2, 1, 1, 0, 3, 3, 0], weapons, 8)
    assert actions.keys[0] == ("1",) and actions.keys[2] == ("2",) and actions.keys[4] == ()
    assert [actions.keys[i] for i in (1, 3, 6, 7)] == [("3",), ("4",), ("7",), ("8",)]
    many = bound([*range(3), *[0] * 9], ActionMap.discrete(["a", "b", "c"], [("3",), ("3",), ("Mouse",)]), 12)
    assert len(set(many.keys)) == 12 and many.keys[0] == ("3",) and all(len(held) == 1 for held in many.keys)
