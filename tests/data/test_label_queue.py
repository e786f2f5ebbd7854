"""Reading a reviewed queue of label errors."""

from pathlib import Path

import pytest

from graft.core.errors import DataError
from graft.data.label_queue import read_queue


def queue(folder: Path, text: str) -> Path:
    (folder / "queue.csv").write_text(text, encoding="utf-8")
    return folder / "queue.csv"


def test_decisions(tmp_path: Path) -> None:
    text = (
        "\ufeffpath,label,suggested,score,decision,new_label,note\n"
        "a.png,cat,dog,0.9,relabel,,\n"
        "b.png,cat,dog,0.8,Relabel , fox,\n"
        "c.png,cat,dog,0.7,keep,,\n"
        "d.png,cat,dog,0.6,,,\n"
    )
    reviews = read_queue(queue(tmp_path, text))
    assert [(r.path, r.decision, r.new_label) for r in reviews] == [
        ("a.png", "relabel", "dog"),
        ("b.png", "relabel", "fox"),
        ("c.png", "keep", "cat"),
        ("d.png", "", "cat"),
    ]


def test_one_image_twice_with_one_decision(tmp_path: Path) -> None:
    text = "path,label,decision,new_label\na,cat,relabel,dog\na,cat,relabel,dog\n"
    assert len(read_queue(queue(tmp_path, text))) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\n", "no column 'decision' (found: path, label); expected path, label, suggested, score, decision"),
        ("", "is empty; expected a header"),
        ("path,label,decision\na,cat,keep,yes\n", "line 2: 4 fields, but the header has 3"),
        ("path,label,decision\na,cat,delete\n", "line 2: decision 'delete'; expected keep, relabel or an empty cell"),
        ("path,label,decision\na,cat,relabel\n", "line 2: relabel without a new_label; fill it in"),
        ("path,label,decision,new_label\na,c,relabel,d\na,c,keep,\n", "lines 2 and 3 have different decisions for 'a'"),
        ('path,label,decision\n"a,c,keep\n', "line 2: not valid CSV (a quote is never closed)"),
    ],
)
def test_faults(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_queue(queue(tmp_path, text))
    assert said in str(caught.value)
    assert "queue.csv: " in str(caught.value)


def test_no_queue(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file; a run writes its queue to"):
        read_queue(tmp_path / "none.csv")
