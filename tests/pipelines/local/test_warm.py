"""Tasks forked from a warm server: each is a process of its own that ends as one started by KFP would."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from kfp import dsl

from graft.core.errors import GraftError
from pipelines.local.progress import PlainLines
from pipelines.local.runner import run_locally
from pipelines.local.tasks import Start, Task
from pipelines.local.warm import warm
from pipelines.local.warm_server import NOT_IMPORTED, modules

STEP = "get_data"


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def get_data(found: dsl.Output[dsl.Artifact], params: dict):  # type: ignore[no-untyped-def, type-arg]
    import json
    import os
    import signal
    import sys
    import threading
    from pathlib import Path

    do = params.get("do")
    if do == "exit":
        raise SystemExit("get_data: this is why")
    if do == "raise":
        raise ZeroDivisionError("nothing to divide")
    if do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    print("out")
    print("err", file=sys.stderr)
    seen = {
        "pid": os.getpid(),
        "folder": str(Path.cwd()),
        "variable": os.environ.get("GRAFT_TEST"),
        "threads": threading.active_count(),
        "imported": "mlflow.tracking" in sys.modules,
        "interrupted": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    }
    Path(found.path).write_text(json.dumps(seen))


@dsl.pipeline(name="looking")
def looking(params: dict):  # type: ignore[no-untyped-def, type-arg]
    get_data(params=params)


@pytest.fixture(scope="module")
def starting() -> Iterator[Callable[[Start], Start]]:
    with warm([STEP]) as starting:
        yield starting


def no_process(task: Task) -> int:
    raise AssertionError("the server has ended")


def run(tmp_path: Path, starting: Callable[[Start], Start], do: str = "") -> list[str]:
    shown: list[str] = []
    tmp_path.mkdir(exist_ok=True)
    run_locally(
        looking,
        {"params": {"do": do}},
        [STEP],
        tmp_path / "steps",
        tmp_path / "run.log",
        PlainLines(shown.append),
        lambda _: starting(no_process),
    )
    return shown


def found(tmp_path: Path) -> dict[str, object]:
    (file,) = tmp_path.glob("steps/*/get-data/found")
    return dict(json.loads(file.read_text()))


def test_a_task_is_a_process_of_its_own_with_its_imports_done(
    tmp_path: Path, starting: Callable[[Start], Start], monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = set()
    for number in ("1", "2"):
        monkeypatch.setenv("GRAFT_TEST", number)
        monkeypatch.chdir(tmp_path)
        shown = run(tmp_path / number, starting)
        assert [line.strip() for line in shown[1:-1]] == ["out", "err"]
        seen = found(tmp_path / number)
        pids.add(seen.pop("pid"))
        assert seen == {
            "folder": str(tmp_path),
            "variable": number,
            "threads": 1,
            "imported": True,
            "interrupted": True,
        }
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize(
    ("do", "cause"),
    [
        ("exit", "get_data: get_data: this is why (the full output is in "),
        ("raise", "get_data: ZeroDivisionError: nothing to divide"),
        ("die", "get_data: was ended by SIGKILL, most often because the machine had no memory left"),
    ],
)
def test_a_task_that_fails_fails_the_run(
    tmp_path: Path, starting: Callable[[Start], Start], do: str, cause: str
) -> None:
    with pytest.raises(GraftError) as caught:
        run(tmp_path, starting, do)
    assert str(caught.value).startswith(cause)
    assert run(tmp_path / "next", starting)[-1].startswith("[1/1] get_data: done")


def test_tasks_start_without_the_server_if_it_has_ended(tmp_path: Path) -> None:
    started: list[str] = []
    with warm([STEP]) as starting:
        run(tmp_path / "first", starting)
        # The task's parent waits for it; the server is the parent of that, and this process's only child by that name.
        for process in psutil.Process().children():
            if "pipelines.local.warm_server" in process.cmdline():
                process.kill()
                process.wait()
        start = starting(lambda task: started.append(task.step) or 7)
        shown = PlainLines(lambda line: None)
        with pytest.raises(GraftError):
            run_locally(looking, {"params": {}}, [STEP], tmp_path, tmp_path / "run.log", shown, lambda _: start)
    assert started == [STEP]


def test_the_server_imports_before_the_first_task_and_ends_at_once_without_one() -> None:
    with warm([STEP]):
        (server,) = [one for one in psutil.Process().children() if "pipelines.local.warm_server" in one.cmdline()]
        assert server.is_running()
    assert not server.is_running()


def test_the_modules_of_the_first_steps_come_first_and_dvc_never() -> None:
    names = list(modules(["get_data", "train_head"]))
    assert len(names) == len(set(names))
    assert names.index("graft.data.fetch") < names.index("graft.heads.depth_selection")
    assert not NOT_IMPORTED & set(names)
