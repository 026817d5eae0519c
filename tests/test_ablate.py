"""The ablation: every variant trains, is measured and stands in the table; what is done is not done again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from worldgen.errors import InputError  # noqa: E402
from worldgen.models.dynamics import Dynamics  # noqa: E402
from worldgen.models.tokenizer import Tokenizer  # noqa: E402
from worldgen.training import ablate as module  # noqa: E402
from worldgen.training import action_reader, presets  # noqa: E402
from worldgen.training.ablate import BASE, Ablation, ablate, main  # noqa: E402
from worldgen.training.ablation_table import COLUMNS, markdown, winners  # noqa: E402
from worldgen.training.dynamics import DynamicsLoss, dynamics_loss  # noqa: E402
from worldgen.training.fit import Fit  # noqa: E402
from worldgen.training.presets import Preset  # noqa: E402
from worldgen.training.variants import VARIANTS, Variant, WithoutPrevious  # noqa: E402


def micro() -> Preset:
    fit = Fit(steps=2, batch=4, length=5, learning_rate=1e-3, warmup=1)
    return Preset(
        side=16,
        context=4,
        tokenizer={"token_dim": 8, "channels": [8, 16, 16], "num_convs": 1},
        latent_action={},
        dynamics={"dim": 16, "num_layers": 3, "num_heads": 2},
        heads={},
        fits={"tokenizer": fit, "dynamics": replace(fit, optimizer="muon")},
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "micro", micro)
    monkeypatch.setattr(action_reader, "STEPS", 5)


def test_variants_are_trained_and_measured_and_a_killed_run_goes_on(toy_recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "check_compiler", lambda: None)
    names = ("no previous", "flow loss", "time in all", "adamw", "finer tokens")
    ablation = Ablation(
        toy_recordings, tmp_path / "table.md", preset="micro", steps=2, tokenizer_steps=2, variants=names, seeds=2,
        most_winners=1, clips=4, compile=True,
    )  # fmt: skip
    said: list[str] = []
    compiled: list[bool] = []
    train = module.train_stage
    monkeypatch.setattr(
        module, "train_stage", lambda *a, **k: compiled.append(k.pop("compiled")) or train(*a, **k, compiled=False)
    )
    results = ablate(ablation, "python -m worldgen.training.ablate ...", said.append)
    assert set(results) == {BASE, *names} and set(compiled) == {True}
    assert len(results[BASE]) == 2 and sum(len(runs) == 2 for runs in results.values()) <= 2
    for name, runs in results.items():
        known = {k for k, v in runs[0].items() if v is not None}
        far = {"skill_changed_64", "skill_64"}  # episodes have 40 frames
        unknown = {"inverse_dynamics", "inverse_dynamics_random"} | far
        assert known >= set(COLUMNS) - unknown and not known & far, name
    table = ablation.out.read_text()
    assert all(f"| {name} |" in table for name in names) and f"**{BASE}**" in table
    assert "python -m worldgen.training.ablate" in table and "2 steps of 4 x 5 frames" in table
    assert json.loads((tmp_path / "table.json").read_text()) == results
    # the variants are what they say they are
    runs = tmp_path / "table"
    assert json.loads((runs / "time-in-all-0" / "dynamics" / "config.json").read_text())["time_every"] == 1
    assert (
        json.loads((runs / "no-previous-0" / "dynamics" / "config.json").read_text())["_class_name"]
        == "WithoutPrevious"
    )
    shapes = {p.name: json.loads((p / "tokenizer" / "config.json").read_text()) for p in runs.glob("tokenizer*")}
    assert len(shapes["tokenizer-finer-tokens"]["channels"]) < len(shapes["tokenizer"]["channels"])

    def never(*args, **kwargs):
        raise AssertionError("it was trained again")

    monkeypatch.setattr(module._Bench, "_train", never)
    assert ablate(ablation, say=lambda text: None) == results
    (runs / "adamw-0" / "figures.json").unlink()  # killed before it was done
    with pytest.raises(AssertionError, match="again"):
        ablate(ablation, say=lambda text: None)
    monkeypatch.undo()
    monkeypatch.setitem(presets.PRESETS, "micro", micro)
    monkeypatch.setattr(action_reader, "STEPS", 5)
    again = ablate(ablation, say=lambda text: None)["adamw"][0]
    assert {k: v for k, v in again.items() if "second" not in k} == {
        k: v for k, v in results["adamw"][0].items() if "second" not in k
    }
    with pytest.raises(InputError, match="other settings"):
        ablate(replace(ablation, steps=3), say=lambda text: None)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_changes_what_there_is(name):
    variant, preset = VARIANTS[name], micro()
    assert variant.facts() != Variant("nothing").facts()
    tokenizer = Tokenizer(height=16, width=16, **preset.tokenizer | variant.tokenizer)
    network = variant.network_class.of_tokens(
        tokenizer, action_kind="discrete", action_sizes=[3], context=4, **preset.dynamics | variant.network
    )
    assert network.num_tokens == tokenizer.num_tokens
    loss = DynamicsLoss(**presets.tiny().loss)
    assert replace(loss, **variant.loss) != loss or not variant.loss
    assert variant.changes(presets.tiny())  # the one that the table is about


def test_what_a_preset_is_already_is_left_out(tmp_path, monkeypatch):
    assert not Variant("nothing").changes(presets.fine()) and not VARIANTS["finer tokens"].changes(presets.fine())
    monkeypatch.setattr(module._Bench, "figures", lambda self, name, seed: {"delta_psnr": 1.0, "parameters": 1})
    monkeypatch.setattr(module._Bench, "facts", lambda self: "")
    said: list[str] = []
    names = ("finer tokens", "no stem")
    ablation = Ablation(tmp_path, tmp_path / "t.md", preset="fine", variants=names, seeds=1)
    assert set(ablate(ablation, say=said.append)) == {BASE, "no stem"}
    assert any("left out" in line and "finer tokens" in line for line in said)


def test_the_previous_frame_is_not_seen():
    torch.manual_seed(0)
    choices = {"grid": [2, 2], "patch": 8, "token_dim": 8, "action_kind": "discrete", "action_sizes": [3], "dim": 16}
    blind = WithoutPrevious(num_layers=2, num_heads=2, context=4, **choices)
    for parameter in blind.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    seeing = Dynamics(num_layers=2, num_heads=2, context=4, **choices)
    seeing.load_state_dict(blind.state_dict())
    noisy, other = torch.randn(1, 3, 4, 8), torch.randn(1, 3, 2, 4, 8)
    given = (torch.ones(1, 3), torch.full((1, 3), 0.25), torch.zeros(1, 3, 2, 4, 8), torch.zeros(1, 3))
    changed = (*given[:2], other, given[3])
    action = torch.zeros(1, 3, 1, dtype=torch.long)
    assert torch.equal(blind(noisy, *given, action)[0], blind(noisy, *changed, action)[0])
    assert not torch.allclose(seeing(noisy, *given, action)[0], seeing(noisy, *changed, action)[0])


def test_the_flow_loss_cares_more_for_clean_frames():
    """An error that is the same at every noise level weighs more where there is little noise."""

    class Off(torch.nn.Module):
        config = SimpleNamespace(history=1)

        def forward(self, noisy, sigma, step_size, previous, context_sigma, action):
            return torch.where(sigma[..., None, None] < 0.5, 2.0, 0.0).expand_as(noisy), None

    tokens, actions = torch.zeros(64, 5, 4, 8), torch.zeros(64, 5, 1, dtype=torch.long)
    losses = {}
    null = torch.tensor([3])
    for space in ("tokens", "flow"):
        recipe = DynamicsLoss(space=space, own_past=0, motion_error=0)
        generator = torch.Generator().manual_seed(0)
        losses[space] = dynamics_loss(Off(), tokens, actions, null, torch.ones(8), generator, 0.0, 0.0, recipe)[
            0
        ].item()
    assert losses["flow"] > 1.5 * losses["tokens"] > 0


def test_winners_beat_the_preset_and_are_not_bought_with_the_other_figures():
    def run(delta: float, near: float, far: float = 0.0) -> list[dict]:
        return [{"delta_psnr": delta, "skill_changed_16": near, "skill_changed_64": far, "parameters": 10}]

    results = {BASE: run(2.0, 1.0), "a": run(2.5, 1.1), "b": run(3.5, -1.0), "c": run(1.9, 0.9), "d": run(2.0, 2.0)}
    results["e"] = run(2.5, 1.5, -1.5)  # soon lost
    assert winners(results, BASE, 3) == ["d", "a"] and winners(results, BASE, 1) == ["d"]


def test_the_table_shows_means_and_spreads():
    run = {"delta_psnr": 2.0, "parameters": 1_500_000}
    results = {BASE: [run, run | {"delta_psnr": 3.0}], "a": [run | {"delta_psnr": None}]}
    text = markdown(results, {BASE: "nothing", "a": "something"}, BASE, "facts", "command")
    assert "2.50 (0.50)" in text and "| 1.50 | 2 |" in text and "| a | something | - |" in text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--out", "t.md", "--variants", "no such"], "unknown variant 'no such'"),
        (["--out", "t.txt"], "call it t.md"),
        (["--out", "t.md", "--steps", "0"], "--steps is at least 1"),
        ([], "out"),
    ],
)
def test_wrong_usage_is_one_line(words, reason, capsys, tmp_path: Path):
    assert main([str(tmp_path), *words]) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1
