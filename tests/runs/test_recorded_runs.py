"""A summary that names where its run is recorded may come from somebody else."""

import json
from pathlib import Path
from typing import Any

import pytest

from graft.core.errors import GraftError
from graft.runs.recorded_runs import find_run


def test_a_summary_cannot_make_mlflow_log_in_somewhere(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.runs.recorded_runs.open_existing", lambda uri: pytest.fail(f"asked {uri}"))
    place = {"tracking_uri": "http://me:secret@evil.example:5000", "run_id": "a" * 32}
    (tmp_path / "summary.json").write_text(json.dumps({"mlflow": place}))
    with pytest.raises(GraftError, match="if you trust it, set MLFLOW_TRACKING_URI=") as caught:
        find_run(str(tmp_path))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [[], 3, {}, {"mlflow": []}, {"mlflow": {"tracking_uri": 3, "run_id": "a"}}])
def test_a_summary_of_another_form_is_one_line(tmp_path: Path, content: Any) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(content))
    with pytest.raises(GraftError, match=r"summary\.json: does not say where its run is recorded") as caught:
        find_run(str(tmp_path))
    assert "\n" not in str(caught.value)
