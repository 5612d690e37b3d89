import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condgan.labels import Field, Labels, LabelSpec
from condgan.utils.errors import UserError

CLASSES = LabelSpec.of_classes(["a", "b", "c"])
MIXED = LabelSpec((Field("hair", ("red", "black", "gray")), Field("extras", ("hat", "glasses"), exclusive=False)))


def test_one_hot_labels_keep_the_class() -> None:
    labels = Labels.from_index(CLASSES, torch.tensor([2, 0, 1]))
    assert labels.index().tolist() == [2, 0, 1]
    assert torch.equal(labels.vector(), torch.eye(3)[[2, 0, 1]])


@given(st.integers(0, 10_000))
def test_cross_entropy_is_the_numpy_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4, 5)) * 3
    hair, extras, known = rng.integers(0, 3, 4), rng.integers(0, 2, (4, 2)), rng.integers(0, 2, (4, 2)).astype(bool)
    values = np.concatenate([np.eye(3)[hair], extras], 1)
    softmax = np.exp(logits[:, :3]) / np.exp(logits[:, :3]).sum(1, keepdims=True)
    sigmoid = 1 / (1 + np.exp(-logits[:, 3:]))
    expected = -np.log(softmax[np.arange(4), hair]) * known[:, 0]
    expected += -(extras * np.log(sigmoid) + (1 - extras) * np.log(1 - sigmoid)).sum(1) * known[:, 1]
    labels = Labels(MIXED, torch.tensor(values).float(), torch.tensor(known))
    assert np.allclose(labels.cross_entropy(torch.tensor(logits)).numpy(), expected, atol=1e-5)


def test_unknown_fields_give_no_gradient_and_no_accuracy() -> None:
    labels = Labels(MIXED, torch.tensor([[1.0, 0, 0, 1, 0]]), torch.tensor([[True, False]]))
    logits = torch.tensor([[2.0, 0, 0, -5, 5]], requires_grad=True)
    labels.cross_entropy(logits).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 3:].tolist() == [0, 0]
    assert labels.accuracy(logits.detach()).item() == 1


def test_several_fields_tell_networks_what_is_known() -> None:
    labels = Labels(MIXED, torch.zeros(2, 5), torch.tensor([[True, False], [False, True]]))
    assert labels.vector().shape == (2, MIXED.vector_width)
    assert labels.vector()[:, 5:].tolist() == [[1, 0], [0, 1]]


def test_parts_put_together_are_the_whole() -> None:
    labels = Labels.from_index(CLASSES, torch.arange(3).repeat(4))
    again = Labels.cat(labels.chunk(4))
    assert torch.equal(again.values, labels.values)
    assert torch.equal(labels[torch.tensor([5])].values, labels.values[5:6])


HAIR = Field("attributes", ("young", "black", "blond", "brown", "hat"), False, (("black", "blond", "brown"),))


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        (("a", "a"), (), "label 'a' given twice"),
        (("a", "b", "c"), (("a", "b"), ("b", "c")), "member of exclusive groups 'b' given twice"),
        (("a", "b"), (("a", "a"),), "member of exclusive groups 'a' given twice"),
        (("a", "b"), (("a", "c"),), "unknown member of exclusive groups 'c'"),
    ],
)
def test_fields_that_make_no_sense_are_refused(values: tuple, groups: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Field("attributes", values, False, groups)


def test_ten_thousand_attributes_in_groups_take_no_time() -> None:
    names = tuple(map(str, range(10_000)))
    began = time.monotonic()
    field = Field("attributes", names, exclusive=False, groups=tuple(zip(names[::2], names[1::2], strict=True)))
    assert len(field.units()) == 5_000
    assert time.monotonic() - began < 1


def test_a_group_is_one_question_and_other_attributes_are_one_each() -> None:
    assert HAIR.units() == [[0], [1, 2, 3], [4]]
    assert Field("class", ("a", "b")).units() == [[0, 1]]


@given(st.permutations([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0]).map(lambda values: values[:5]))
def test_of_a_group_the_highest_logit_above_zero_is_read(logits: list[float]) -> None:
    read = HAIR.most_likely(torch.tensor([logits]))[0].tolist()
    top = max(logits[1:4])
    assert read == [logits[0] > 0, *(one == top and top > 0 for one in logits[1:4]), logits[4] > 0]


def test_accuracy_counts_units() -> None:
    """Young right, the hair wrong because two compete, no hat right."""
    labels = Labels(LabelSpec((HAIR,)), torch.tensor([[1.0, 1, 0, 0, 0]]), torch.ones(1, 1) > 0)
    assert labels.accuracy(torch.tensor([[2.0, 1, 3, -1, -2]])).item() == pytest.approx(2 / 3)
    assert labels.accuracy(torch.tensor([[2.0, 1, -3, -1, -2]])).item() == 1
