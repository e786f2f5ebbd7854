"""A step of the pipeline: a plain function that the tests call, DVC runs and Kubeflow wraps.

    @step
    def train_head(features: In, model: Out, params: TrainHeadParams, log: Log) -> Metrics: ...

The function's name is the step's name everywhere: parameter section, DVC stage, KFP task, folder. `Step.run` is the one
place that validates the section, opens the run, writes the metrics, puts outputs in place and marks a failure.

A `distributed_step` may be started by torchrun as several processes: each calls the function, and the first alone logs
and writes.
"""

import inspect
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import psutil
import typer

from graft.core.atomic import remove, replacing, take_place, write_json, write_text
from graft.core.errors import GraftError, cause
from graft.runs.params import Section, read_yaml, validated
from graft.runs.processes import AbandonedError, Alone, Company, Join, OtherFailedError, World, blamed, started
from graft.runs.run_log import Log, SilentLog

_INPUT, _INPUTS, _OUTPUT = "input", "inputs", "output"
In = Annotated[Path, _INPUT]
Ins = Annotated[Sequence[Path], _INPUTS]
"""Any number of inputs of one kind, none if they are not given; not offered on the command line."""
Out = Annotated[Path, _OUTPUT]
Metrics = Mapping[str, Any]
ERROR_FILE = "error.txt"
ONE = World()


class Step:
    """A step function with its inputs, outputs and section, read from its signature."""

    def __init__(self, function: Callable[..., Metrics], join: Join | None = None) -> None:
        self.function = function
        self.join = join
        self.name = function.__name__
        self.__doc__ = function.__doc__
        hints = get_type_hints(function, include_extras=True)
        self.inputs = [name for name, hint in hints.items() if _marked(hint, _INPUT)]
        self.several = [name for name, hint in hints.items() if _marked(hint, _INPUTS)]
        self.outputs = [name for name, hint in hints.items() if _marked(hint, _OUTPUT)]
        self.section: type[Section] = hints["params"]

    def __call__(self, *args: Any, **kwargs: Any) -> Metrics:
        """Call the plain function."""
        return self.function(*args, **kwargs)

    def run(
        self, *, params: Mapping[str, Any], metrics: str | Path, **paths: str | Path | Sequence[str | Path]
    ) -> Metrics:
        """Run the step with its record kept, and put its outputs in place all together or not at all.

        Args:
            params: the step's section, as plain values.
            metrics: where to write what the step returns, as JSON with `seconds` added.
            **paths: one path for each input and output of the function, any number for what is declared as `Ins`.

        Raises:
            SystemExit: with the one-line cause, if the step fails with an error its user can mend.
        """
        places: dict[str, Path] = {}
        several: dict[str, list[Path]] = {}
        for name, path in paths.items():
            if isinstance(path, str | Path):
                places[name] = Path(path).absolute()
            else:
                several[name] = [Path(one).absolute() for one in path]
        metrics = Path(metrics).absolute()
        world = ONE
        try:
            world = started()
            if world.first:
                remove(metrics.parent / ERROR_FILE)
            with self._joined(world) as company, blamed(company):
                return self._run(params, metrics, places, several, world, company)
        except Exception as error:
            raise ended(self.name, error, metrics.parent / ERROR_FILE, world) from error

    def _joined(self, world: World) -> AbstractContextManager[Company]:
        if world.size == 1:
            return nullcontext(Alone())
        if self.join is None:
            raise GraftError(
                f"{world.size} processes were started, but it is the work of one: start it without torchrun"
            )
        return self.join(world)

    def _run(
        self,
        params: Mapping[str, Any],
        metrics: Path,
        places: Mapping[str, Path],
        several: Mapping[str, Sequence[Path]],
        world: World,
        company: Company,
    ) -> Metrics:
        section = validated(self.section, params, where=self.name)
        taken = {name: [places[name]] for name in self.inputs} | dict(several)
        for name, path in ((name, path) for name, paths in taken.items() for path in paths):
            if not path.exists():
                raise GraftError(f"input {name!r} not found at {path}; run the step that makes it first")
        with ExitStack() as stack:
            log: Log = SilentLog()
            if world.first:
                from graft.runs import (
                    tracking,  # late: a wrong parameter should not cost the seconds of importing MLflow
                )

                staged = {name: stack.enter_context(replacing(places[name])) for name in self.outputs}
                log = stack.enter_context(tracking.step_run(self.name, section.model_dump(mode="json")))
            else:
                scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="graft-")))
                staged = {name: scratch / name for name in self.outputs}
            stack.enter_context(blamed(company))  # the run is told the cause, whichever process it is in
            inputs = {name: places[name] for name in self.inputs}
            try:
                result = dict(self.function(**inputs, **several, **staged, params=section, log=log))
            except GraftError as error:
                for name in error.keep if world.first else ():
                    take_place(staged[name], places[name])
                raise
            result["seconds"] = round(time.time() - psutil.Process().create_time(), 3)
            log.metric("seconds", result["seconds"])
        if world.first:
            write_json(metrics, result)
        return result

    def main(self) -> None:
        """Run as a command whose options are the function's inputs and outputs."""

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
    """Make a step of a function `(inputs: In, ..., outputs: Out, ..., params: Section, log: Log) -> Metrics`."""
    return Step(function)


def distributed_step(join: Join) -> Callable[[Callable[..., Metrics]], Step]:
    """Make a step that torchrun may start as several processes, which meet through `join`."""
    return lambda function: Step(function, join)


def ended(step: str, error: Exception, error_file: Path, world: World = ONE) -> SystemExit:
    """Leave the cause of a failure in `error_file`; return what ends the process.

    Args:
        step: name of the step that failed.
        error: a traceback is printed of one that its user cannot mend.
        error_file: tells the caller of a pipeline, who learns only that a task failed, why.
        world: which of the step's processes failed.
    """
    if not isinstance(error, GraftError):
        traceback.print_exc()
    elsewhere = isinstance(error, OtherFailedError)  # the other process says so itself
    known = isinstance(error, AbandonedError) and error_file.is_file()  # by one that knew more
    line = f"{step}: {cause(error) if world.first else f'{world.name}: {cause(error)}'}"
    if not known and (world.first or not elsewhere):
        try:
            write_text(error_file, f"{line}\n")
        except GraftError as unwritable:
            line = f"{line} ({unwritable})" if str(unwritable) != cause(error) else line
    return SystemExit(1 if elsewhere else line)


def _marked(hint: Any, marker: str) -> bool:
    return get_origin(hint) is Annotated and marker in get_args(hint)


def _option(name: str, text: str, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    hint = Annotated[Path, typer.Option(help=text)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
