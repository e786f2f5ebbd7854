"""Which of torchrun's processes this is, and its share of the work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.core.errors import DataError, GraftError
from graft.runs.processes import NoPeers, PeerFailedError, Process, current_process, raise_first_failure


@given(n=st.integers(0, 100), size=st.integers(1, 12))
def test_the_parts_cover_everything_in_order(n: int, size: int) -> None:
    parts = [list(range(n))[Process(rank, size).part(n)] for rank in range(size)]
    assert [thing for part in parts for thing in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert current_process() == Process(0, 1)
    assert current_process().is_first


def test_torchrun_tells_which_process_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert current_process() == Process(2, 3)
    assert current_process().name == "process 3 of 3"
    assert not current_process().is_first


@pytest.mark.parametrize(("rank", "size"), [("3", "3"), ("-1", "2"), ("a", "2"), ("0", "")])
def test_an_invalid_environment_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(GraftError, match=f"RANK={rank}, WORLD_SIZE={size}: expected a rank from 0 to below WORLD_SIZE"):
        current_process()


def test_a_single_process_raises_its_own_error() -> None:
    error = DataError("broken")
    with pytest.raises(DataError) as found, raise_first_failure(NoPeers()):
        raise error
    assert found.value is error


def test_the_first_failure_among_peers_is_raised() -> None:
    class Others:
        def report_failure(self, error: Exception) -> Exception:
            return PeerFailedError("process 2 of 2: broken")

    with pytest.raises(PeerFailedError, match="process 2 of 2: broken"), raise_first_failure(Others()):
        raise RuntimeError("connection reset")
