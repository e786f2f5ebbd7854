"""Classes of one to three images: what the finding advises leads through a whole run to a model that answers."""

import re
from pathlib import Path

import pytest

from graft.core.errors import DataError
from graft.evaluation.schema import read_evaluation
from graft.models.bundle import ModelBundle
from graft.params.validate_data import ValidateDataParams
from tests.support.pictures import picture
from tests.support.whole_run import train


def pictures(folder: Path, counts: dict[str, int]) -> Path:
    for place, (label, images) in enumerate(counts.items()):
        (folder / label).mkdir(parents=True)
        for number in range(images):
            picture(place, 50 * place + number).save(folder / label / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    "counts",
    [{"ant": 2, "bee": 2, "cat": 2}, {"ant": 3, "bee": 3}, {"ant": 12, "bee": 12, "rare": 2}, {"ant": 12, "bee": 1}],
    ids=["all of two", "all of three", "one of two", "one of one"],
)
def test_the_advice_leads_to_a_model(tmp_path: Path, counts: dict[str, int]) -> None:
    source = pictures(tmp_path / "own", counts)
    with pytest.raises(DataError, match="too_few") as stopped:
        train(source, tmp_path / "first")
    ((field, value),) = re.findall(r"set validate_data\.(\w+)=(\d+)", str(stopped.value))
    train(source, tmp_path / "second", ValidateDataParams.model_validate({field: value}))
    assert read_evaluation(tmp_path / "second/evaluation").classes == tuple(counts)
    answers = ModelBundle.load(tmp_path / "second/model").predict(source)
    assert len(answers) == sum(counts.values())
    assert set(answers["label"]) <= {*counts}
