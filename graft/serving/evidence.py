"""What a registration rests on: an evaluated model's answers to the test images of one dataset."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.core.errors import DataError
from graft.data.dataset import ImageDataset
from graft.evaluation.assessment import SplitPredictions
from graft.evaluation.held_out_table import PREDICTIONS_FILE, probabilities_of, read_predictions
from graft.evaluation.schema import SCORES_FILE, Evaluation, read_evaluation, task_evaluation
from graft.evaluation.served_answers import judge_served_answers
from graft.serving.challenger import SmokeTest
from graft.stats.decision_rule import Rule

SMOKE_IMAGES = 8
CARD_FILE = "card.md"


@dataclass(frozen=True)
class Evidence:
    """The basis of the decision: the evaluated model on the test images of one dataset."""

    folder: Path
    dataset: ImageDataset
    evaluation: Evaluation
    rows: npt.NDArray[np.int64]
    """Rows of the test images in the dataset (n,)."""
    probabilities: npt.NDArray[np.float64]
    """Probabilities of the evaluated model for those rows, shape (n, classes)."""
    further: "tuple[Evidence, ...]" = ()
    """The same of the tasks after the first."""

    @property
    def by_task(self) -> "tuple[Evidence, ...]":
        """The evidence of each task, the first one first."""
        return (replace(self, further=()), *self.further)

    @classmethod
    def read(cls, folder: Path, dataset: ImageDataset) -> "Evidence":
        """Read the output of `evaluate`.

        Raises:
            DataError: if the evaluation is of other data.
        """
        evaluation = read_evaluation(folder)
        if evaluation.dataset_digest != dataset.spec.digest:
            raise DataError(
                f"{folder}: evaluated on dataset {evaluation.dataset_digest[:12]}, but this one is "
                f"{dataset.spec.digest[:12]}; run evaluate again"
            )
        first, *further = dataset.tasks
        of_further = tuple(cls.read(task_evaluation(folder, task.name), dataset.of_task(task)) for task in further)
        dataset = dataset.of_task(first)
        rows = dataset.labelled("test")
        found = stored_probabilities(folder / PREDICTIONS_FILE, dataset.table["id"].to_numpy()[rows])
        if found is None:
            raise DataError(f"{folder / PREDICTIONS_FILE}: test images are missing; run evaluate again")
        return cls(folder, dataset, evaluation, rows, found, of_further)

    def judged(self, rule: Rule | None) -> Evaluation:
        """Return the evaluation of the answers that are served under a rule."""
        dataset = self.dataset
        targets, groups = dataset.targets(), dataset.table["group"].to_numpy()
        test = SplitPredictions(targets[self.rows], self.probabilities, self.probabilities, groups[self.rows])
        return judge_served_answers(self.evaluation, test, targets[dataset.labelled("train")], rule)

    def smoke_test(self) -> SmokeTest:
        """Return up to 8 evenly spaced test images, and for each task the evaluated model's probabilities for them.

        The images have a label for every task, if any image has.
        """
        common = self.rows
        for one in self.further:
            common = np.intersect1d(common, one.rows)
        of_all = common if len(common) else self.rows
        rows = of_all[np.unique(np.linspace(0, len(of_all) - 1, SMOKE_IMAGES).round().astype(int))]
        known = self.by_task if len(common) else (self,)
        reader = self.dataset.reader()
        first, *further = (one.probabilities[np.searchsorted(one.rows, rows)] for one in known)
        return SmokeTest([reader[int(row)] for row in rows], first, tuple(further))

    def smallest_image(self) -> bytes:
        """Return the test image with the fewest bytes, used as the model's input example."""
        sizes = self.dataset.table["bytes"].to_numpy()[self.rows]
        return self.dataset.image(int(self.rows[int(sizes.argmin())]))

    def files(self) -> list[Path]:
        """Return the files that a version keeps."""
        files = [self.folder / name for name in (SCORES_FILE, PREDICTIONS_FILE, CARD_FILE)]
        return [file for file in files if file.is_file()]


def stored_probabilities(path: Path, ids: npt.NDArray[np.object_]) -> npt.NDArray[np.float64] | None:
    """Return the probabilities of these images in `predictions.parquet` (n, classes); None if one is missing."""
    if not path.is_file():
        return None
    table = read_predictions(path.parent).drop_duplicates("id").set_index("id")
    at = table.index.get_indexer(pd.Index(ids))
    return None if (at < 0).any() else probabilities_of(table.iloc[at])
