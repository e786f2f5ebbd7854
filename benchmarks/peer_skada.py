"""skada's estimators and scorers on stored features, run with a Python that has skada.

python -m benchmarks.peer_skada CASES.npz

CASES.npz holds for each case n `source/n` (k, D), `label/n` (k,), `target/n` (m, D) and `truth/n` (m,), which only
tells how many answers are right. Prints one line of JSON: for each case the accuracy of every estimator, and which one
each scorer picks.
"""

import json
import sys
import warnings
from typing import Any

import numpy as np
from skada import (
    CORALAdapter,
    LinearOTMappingAdapter,
    OTMappingAdapter,
    SubspaceAlignmentAdapter,
    make_da_pipeline,
)
from skada.metrics import ImportanceWeightedScorer, PredictionEntropyScorer, SoftNeighborhoodDensity
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

MASKED = -1
PARTS = 50
"""Principal components before the methods that need the inverse of a covariance, as in SKADA-Bench."""
SCORERS = {
    "importance weighting": ImportanceWeightedScorer,
    "prediction entropy": PredictionEntropyScorer,
    "soft neighbourhood density": SoftNeighborhoodDensity,
}


def estimators() -> dict[str, Any]:
    """Return the estimators, each on standardised features with logistic regression at the end."""
    adapters: dict[str, Any] = {
        "source only": None,
        "CORAL": CORALAdapter(reg=0.1),
        "subspace alignment": SubspaceAlignmentAdapter(n_components=20),
        "linear OT": LinearOTMappingAdapter(reg=0.1),
        "OT": OTMappingAdapter(),
    }
    return {
        name: make_da_pipeline(
            *(part for part in (StandardScaler(), PCA(PARTS), adapter) if part is not None),
            LogisticRegression(max_iter=300).set_fit_request(sample_weight=False).set_score_request(sample_weight=True),
        )
        for name, adapter in adapters.items()
    }


def main(file: str) -> None:
    """Fit and score every estimator on every case."""
    warnings.simplefilter("ignore")
    cases, found = np.load(file), []
    for number in range(sum(name.startswith("truth/") for name in cases)):
        source, label, target, truth = (cases[f"{part}/{number}"] for part in ("source", "label", "target", "truth"))
        features = np.concatenate([source, target]).astype(np.float64)
        labels = np.concatenate([label, np.full(len(target), MASKED)])
        domain = np.concatenate([np.full(len(source), 1), np.full(len(target), -2)])
        accuracy, scores = {}, {name: {} for name in SCORERS}
        for name, estimator in estimators().items():
            estimator.fit(features, labels, sample_domain=domain)
            answers = estimator.predict(target.astype(np.float64), sample_domain=np.full(len(target), -2))
            accuracy[name] = float((answers == truth).mean())
            for scorer, made in SCORERS.items():
                try:
                    scores[scorer][name] = float(made()._score(None, estimator, features, labels, sample_domain=domain))
                except (ValueError, np.linalg.LinAlgError) as error:
                    print(f"{scorer} on {name}: {error}", file=sys.stderr)
                    scores[scorer][name] = -np.inf
        picked = {scorer: max(values, key=values.__getitem__) for scorer, values in scores.items()}
        found.append({"accuracy": accuracy, "picked": picked})
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
