"""Published weights: a byte each in the graphs, the same numbers in half precision beside them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from worldgen.export.rounding import as_bytes, round_weights, rounded  # noqa: E402


def weights(*shape: int) -> torch.Tensor:
    """Rows as far apart in size as half precision allows, and one of zeros"""
    made = 0.03 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for row, scale in ((1, 0.0), (2, 1e-6), (3, 1e5)):
        made[row] *= scale
    return made


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("shape", [(64, 48), (30, 20, 3, 3), (40, 40)])
def test_rounded_weights_are_bytes_times_steps_and_half_precision(shape: tuple[int, ...], dtype: type):
    made = rounded(weights(*shape))
    assert torch.equal(made.half().float(), made)
    found = as_bytes(made.numpy().astype(dtype))
    assert found is not None
    multiples, steps = found
    assert multiples.dtype == np.int8 and steps.dtype == dtype
    assert steps.shape == (shape[0], *[1] * (len(shape) - 1))
    np.testing.assert_array_equal(multiples * steps, made.numpy().astype(dtype))


@pytest.mark.parametrize("shape", [(64, 48), (40, 40)])
def test_a_transposed_matrix_is_bytes_too(shape: tuple[int, int]):
    made = np.ascontiguousarray(rounded(weights(*shape)).numpy().T)
    found = as_bytes(made)
    assert found is not None
    np.testing.assert_array_equal(found[0] * found[1], made)


def test_rounding_errs_by_less_than_a_hundredth_and_steps_of_a_power_of_two_by_more():
    given = 0.03 * torch.randn(200, 300, generator=torch.Generator().manual_seed(0))
    largest = given.abs().amax(1, keepdim=True)
    coarse = torch.exp2((largest / 127).log2().ceil())
    errors = [
        ((made - given).norm() / given.norm()).item() for made in (rounded(given), coarse * (given / coarse).round())
    ]
    assert errors[0] < 0.01
    assert errors[1] > 1.2 * errors[0]


@pytest.mark.parametrize("array", [np.ones(2000, np.float32), np.ones((40, 40), np.int64)])
def test_vectors_and_other_numbers_stay(array: np.ndarray):
    assert as_bytes(array) is None


def test_a_column_is_no_rows_of_one_number_each():
    column = torch.randn(400, 1, generator=torch.Generator().manual_seed(0)).half().numpy()
    assert as_bytes(column) is None and as_bytes(column.T) is None
    assert as_bytes(np.ones_like(column)) is not None  # one row, transposed


def test_weights_that_were_not_rounded_stay():
    given = weights(64, 48)
    assert as_bytes(given.numpy()) is None
    assert as_bytes(given.half().float().numpy()) is None


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(64, 48), torch.nn.Conv2d(3, 4, 3)])
        self.tokens_out = torch.nn.Linear(48, 64)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("dynamics", ["blocks.0.weight"]), ("tokenizer", ["blocks.0.weight", "tokens_out.weight"]), ("upscaler", [])],
)
def test_what_is_rounded_is_large_and_chosen_and_a_second_time_changes_nothing(name: str, chosen: list[str]):
    torch.manual_seed(0)
    network = Small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    round_weights(name, network)
    once = {key: value.clone() for key, value in network.state_dict().items()}
    assert [key for key, value in before.items() if not torch.equal(value, once[key])] == chosen
    round_weights(name, network)
    assert all(torch.equal(value, once[key]) for key, value in network.state_dict().items())
