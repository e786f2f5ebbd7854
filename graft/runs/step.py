"""A pipeline step: a plain function that tests call, DVC runs and Kubeflow wraps.

    @step
    def train_head(features: In, model: Out, params: TrainHeadParams, log: Log) -> Metrics: ...

The function's name is the step's name everywhere: parameter section, DVC stage, KFP task, folder. `Step.run` is the one
place that validates the section, opens the run, writes the metrics, moves outputs into place and records a failure.

torchrun may start a `distributed_step` as several processes: each calls the function, and only the first logs and
writes.
"""

import inspect
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from graft.core.atomic import move_into_place, remove, write_json, write_text
from graft.core.boundary import machine_fault
from graft.core.checksums import check_folder
from graft.core.commit import finish_commit, replacing_together
from graft.core.credentials import mask_credentials
from graft.core.errors import GraftError, error_text
from graft.core.owners import process_seconds
from graft.core.temporaries import own_temporaries
from graft.params.checking import validate_values
from graft.params.overrides import read_yaml
from graft.params.section import Section
from graft.runs.mlflow_store import store_fault
from graft.runs.processes import (
    Join,
    NoPeers,
    PeerFailedError,
    Peers,
    PeersLostError,
    Process,
    current_process,
    raise_first_failure,
)
from graft.runs.run_log import Log, SilentLog
from graft.runs.termination import clean_end_on_sigterm

_INPUT, _INPUTS, _OUTPUT, _PLAIN = "input", "inputs", "output", "plain"
In = Annotated[Path, _INPUT]
Ins = Annotated[Sequence[Path], _INPUTS]
"""Any number of inputs of one kind, possibly none; not available on the command line."""
Out = Annotated[Path, _OUTPUT]
FilesOut = Annotated[Path, _OUTPUT, _PLAIN]
"""A folder of the user's own files, to which nothing is added; every other folder gets its checksums."""
Metrics = Mapping[str, Any]
ERROR_FILE = "error.txt"
SINGLE_PROCESS = Process()


class Step:
    """A step function with its inputs, outputs and section, read from its signature."""

    def __init__(self, function: Callable[..., Metrics], join: Join | None = None) -> None:
        self.function = function
        self.join = join
        self.name = function.__name__
        self.__doc__ = function.__doc__
        hints = get_type_hints(function, include_extras=True)
        self.inputs = [name for name, hint in hints.items() if _marked(hint, _INPUT)]
        self.input_lists = [name for name, hint in hints.items() if _marked(hint, _INPUTS)]
        self.outputs = [name for name, hint in hints.items() if _marked(hint, _OUTPUT)]
        self.plain = [name for name, hint in hints.items() if _marked(hint, _PLAIN)]
        self.section: type[Section] = hints["params"]

    def __call__(self, *args: Any, **kwargs: Any) -> Metrics:
        """Call the plain function."""
        return self.function(*args, **kwargs)

    def run(
        self, *, params: Mapping[str, Any], metrics: str | Path, **paths: str | Path | Sequence[str | Path]
    ) -> Metrics:
        """Run and record the step; its outputs and metrics appear together or not at all.

        Args:
            params: the step's parameter section, as plain values.
            metrics: where to write what the step returns, as JSON with `seconds` added.
            **paths: one path for each input and output of the function, any number for an input declared as `Ins`.

        Raises:
            SystemExit: if the step fails; the message is one line.
        """
        places: dict[str, Path] = {}
        several: dict[str, list[Path]] = {}
        for name, path in paths.items():
            if isinstance(path, str | Path):
                places[name] = Path(path).absolute()
            else:
                several[name] = [Path(one).absolute() for one in path]
        metrics = Path(metrics).absolute()
        process = SINGLE_PROCESS
        try:
            process = current_process()
            if process.is_first:
                remove(metrics.parent / ERROR_FILE)
            with clean_end_on_sigterm(), own_temporaries(), self._joined(process) as peers, raise_first_failure(peers):
                return self._run(params, metrics, places, several, process, peers)
        except Exception as error:
            raise failure_exit(self.name, error, metrics.parent / ERROR_FILE, process) from error

    def _joined(self, process: Process) -> AbstractContextManager[Peers]:
        if process.size == 1:
            return nullcontext(NoPeers())
        if self.join is None:
            raise GraftError(
                f"{process.size} processes were started, but this step runs as one: start it without torchrun"
            )
        return self.join(process)

    def _run(
        self,
        params: Mapping[str, Any],
        metrics: Path,
        places: Mapping[str, Path],
        several: Mapping[str, Sequence[Path]],
        process: Process,
        peers: Peers,
    ) -> Metrics:
        section = validate_values(self.section, params, where=self.name)
        taken = {name: [places[name]] for name in self.inputs} | dict(several)
        for name, path in ((name, path) for name, paths in taken.items() for path in paths):
            if process.is_first:
                finish_commit(path)
            if not path.exists():
                raise GraftError(f"input {name!r} not found at {path}; run the step that makes it first")
            check_folder(path)
        with ExitStack() as stack:
            log: Log = SilentLog()
            if process.is_first:
                # late: a wrong parameter should fail before the slow import of MLflow
                from graft.runs import tracking

                # Left in the reverse order: the outputs are in place before MLflow says that the step has finished.
                values = section.model_dump(mode="json")
                log = stack.enter_context(tracking.step_run(self.name, values, goes_on=any(taken.values())))
                outputs = [*(places[name] for name in self.outputs), metrics]
                for path in outputs:
                    finish_commit(path)
                *written, numbers = stack.enter_context(
                    replacing_together(outputs, plain=[places[name] for name in self.plain])
                )
                staged = dict(zip(self.outputs, written, strict=True))
            else:
                scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="graft-")))
                staged = {name: scratch / name for name in self.outputs}
                numbers = scratch / metrics.name
            stack.enter_context(raise_first_failure(peers))  # MLflow gets the first failure, whichever process it is in
            inputs = {name: places[name] for name in self.inputs}
            try:
                result = dict(self.function(**inputs, **several, **staged, params=section, log=log))
            except GraftError as error:
                for name in error.keep if process.is_first else ():
                    move_into_place(staged[name], places[name])
                raise
            result["seconds"] = round(process_seconds(), 3)
            log.metric("seconds", result["seconds"])
            write_json(numbers, result)
        return result

    def main(self) -> None:
        """Run as a command; its options are the function's inputs and outputs."""

        def command(**options: Any) -> None:
            try:
                params = read_yaml(options.pop("params")).get(self.name) or {}
            except GraftError as error:
                raise SystemExit(f"{self.name}: {error}") from error
            self.run(params=params, **options)

        command.__doc__ = self.__doc__
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [_option(name, f"{kind} of the step") for kind, names in self._ports() for name in names]
            + [
                _option("metrics", "where to write the step's numbers (JSON)"),
                _option("params", f"YAML file with a section {self.name!r}", default=Path("params.yaml")),
            ]
        )
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(command)
        sys.exit(app())

    def _ports(self) -> list[tuple[str, list[str]]]:
        return [(_INPUT, self.inputs), (_OUTPUT, self.outputs)]


def step(function: Callable[..., Metrics]) -> Step:
    """Turn a function `(inputs: In, ..., outputs: Out, ..., params: Section, log: Log) -> Metrics` into a step."""
    return Step(function)


def distributed_step(join: Join) -> Callable[[Callable[..., Metrics]], Step]:
    """Make a step that torchrun may start as several processes, connected by `join`."""
    return lambda function: Step(function, join)


def failure_exit(step: str, error: Exception, error_file: Path, process: Process = SINGLE_PROCESS) -> SystemExit:
    """Write the cause of a failure to `error_file`; return the exception that ends the process.

    Args:
        step: name of the step that failed.
        error: its traceback is printed unless it is a GraftError, or the machine or the MLflow store is its cause.
        error_file: tells the caller of a pipeline, who only sees that a task failed, why it failed.
        process: which of the step's processes failed.
    """
    if not isinstance(error, GraftError):
        fault = machine_fault(error) or store_fault(error)
        if fault is None:
            print(mask_credentials(traceback.format_exc()), end="", file=sys.stderr)
        else:
            error = GraftError(fault)
    elsewhere = isinstance(error, PeerFailedError)  # the other process reports it itself
    # Another process knew more and has written its cause already.
    known = isinstance(error, PeersLostError) and error_file.is_file()
    line = f"{step}: {error_text(error) if process.is_first else f'{process.name}: {error_text(error)}'}"
    if not known and (process.is_first or not elsewhere):
        try:
            write_text(error_file, f"{line}\n")
        except GraftError as unwritable:
            line = f"{line} ({unwritable})" if str(unwritable) != error_text(error) else line
    return SystemExit(1 if elsewhere else line)


def _marked(hint: Any, marker: str) -> bool:
    return get_origin(hint) is Annotated and marker in get_args(hint)


def _option(name: str, text: str, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    hint = Annotated[Path, typer.Option(help=text)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
