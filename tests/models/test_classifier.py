"""The output layer as a module: it computes what was fitted, whatever its kind, and is written and read as such."""

import numpy as np
import pytest
import torch

from graft.heads.families import FAMILIES
from graft.heads.protocols import Kind
from graft.models.classifier import Head, HeadSpec
from tests.support import tasks
from tests.support.features import blobs

KINDS = sorted(FAMILIES)


def fitted_head(kind: Kind, taps: dict[str, int], classes: int = 3) -> tuple[Head, np.ndarray, np.ndarray]:
    """A head of each kind, the features it was fitted to, and the fit's logits for them."""
    features, targets = blobs(60, sum(taps.values()), classes)
    fitted = FAMILIES[kind].fit_at(1e-3, features, targets, tasks.of_classes(classes), list(taps.values()))
    return Head.of(fitted, list(taps)), features, fitted.logits(features)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("taps", [{"a": 7}, {"a": 3, "b": 90}], ids=["one tap", "two taps"])
def test_the_module_computes_what_was_fitted(kind: Kind, taps: dict[str, int]) -> None:
    head, features, expected = fitted_head(kind, taps)
    with torch.inference_mode():
        found = head(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    assert head.spec.kind == kind
    assert head.spec.taps == tuple(taps)
    assert head.spec.features == sum(taps.values())
    assert (head.spec.hidden > 0) == (kind == "mlp")


@pytest.mark.parametrize("kind", KINDS)
def test_spec_and_tensors_are_enough(kind: Kind) -> None:
    head, features, _ = fitted_head(kind, {"a": 5})
    spec = HeadSpec.model_validate_json(head.spec.model_dump_json())
    again = Head(spec, 3)
    again.load_state_dict(head.state_dict())
    x = torch.from_numpy(features)
    with torch.inference_mode():
        assert torch.equal(again(x), head(x))


@pytest.mark.parametrize("kind", KINDS)
def test_everything_but_the_standardisation_can_be_trained_further(kind: Kind) -> None:
    head, features, _ = fitted_head(kind, {"a": 5})
    head.train()
    torch.autograd.backward(head(torch.from_numpy(features)).square().mean())
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in head.parameters())
    assert {name for name, _ in head.named_buffers()} == {"mean", "scale"}


def test_the_tensors_of_a_linear_head_have_not_changed() -> None:
    spec = HeadSpec.model_validate({"kind": "linear", "taps": ["neck"], "features": 4})
    assert set(Head(spec, 2).state_dict()) == {"mean", "scale", "linear.weight", "linear.bias"}
