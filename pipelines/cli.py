"""The command line of Graft: every command with its group and an example; `graft` starts it (`graft/__main__.py`)."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from graft.core.installed import DISTRIBUTION
from graft.core.temporaries import own_temporaries
from graft.demo import demo_digits
from pipelines.cluster import commands as cluster
from pipelines.console import (
    comparing,
    deploying,
    exporting,
    learning,
    looking,
    models,
    predicting,
    project,
    training,
    validating,
)
from pipelines.console.options import DataCommand

HELP = """From a folder of labelled images to a validated, tested, registered classifier.

  graft run photos          train on your images; graft run alone takes the demo
  graft predict a.jpg       ask the model of the last run
  graft COMMAND --help      options and an example
"""
EXIT_CODES = (
    "Exit codes: 0 done; 1 a mistake or a failing verdict, said in one line; 2 wrong words on the command line; "
    "130 stopped by Ctrl-C; 143 stopped by SIGTERM."
)
UsageError: Any = typer.BadParameter.__mro__[1]
"""Its base class, which typer does not name itself."""
TRAIN, DATA, MODELS, CLUSTER, PROJECT = "Train", "Data", "Models", "Kubeflow", "Project"


@dataclass(frozen=True)
class Command:
    """One command."""

    function: Callable[..., None]
    group: str
    example: str
    name: str | None = None


COMMANDS = (
    Command(training.run, TRAIN, 'graft run photos --budget 5m --params "train_head.l2=0.1"'),
    Command(training.resume, TRAIN, "graft resume"),
    Command(training.repro, TRAIN, "graft repro"),
    Command(demo_digits.main, DATA, "graft demo --out data/digits", "demo"),
    Command(looking.doctor, DATA, "graft doctor photos"),
    Command(validating.validate, DATA, "graft validate photos --out outputs/data"),
    Command(predicting.predict, MODELS, "graft predict one.jpg other.jpg"),
    Command(models.try_model, MODELS, "graft try --open", "try"),
    Command(models.serve, MODELS, "graft serve --port 5001"),
    Command(models.models, MODELS, "graft models"),
    Command(models.promote, MODELS, "graft promote 3"),
    Command(models.rollback, MODELS, "graft rollback"),
    Command(exporting.export, MODELS, "graft export --int8 --hub"),
    Command(deploying.kserve, MODELS, "graft kserve --storage s3://bucket/model"),
    Command(learning.update, MODELS, "graft update new_photos"),
    Command(learning.adapt, MODELS, "graft adapt night_photos --check labelled.csv"),
    Command(learning.history, MODELS, "graft history"),
    Command(learning.forget, MODELS, "graft forget ids.csv photos"),
    Command(cluster.compile_pipeline, CLUSTER, "graft compile --profile k8s --data /data/photos", "compile"),
    Command(cluster.submit, CLUSTER, "graft submit --host https://kubeflow.example.org --data /data/photos"),
    Command(cluster.schedule, CLUSTER, "graft schedule --cron '0 0 3 * * *' --data /data/photos"),
    Command(cluster.status, CLUSTER, "graft status RUN"),
    Command(cluster.logs, CLUSTER, "graft logs RUN train_head"),
    Command(cluster.cancel, CLUSTER, "graft cancel RUN"),
    Command(project.init, PROJECT, "graft init my_project"),
    Command(comparing.report, PROJECT, "graft report outputs/first outputs/second"),
    Command(project.ui, PROJECT, "graft ui --port 5000"),
    Command(project.sync, PROJECT, "graft sync"),
)
WITH_DATA = frozenset(
    {training.run, looking.doctor, validating.validate, predicting.predict, learning.update, learning.adapt}
)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"graft {version(DISTRIBUTION)}")
        except PackageNotFoundError:
            print("graft, from the repository")
        raise typer.Exit


def _app() -> typer.Typer:
    made = typer.Typer(name="graft", no_args_is_help=True, pretty_exceptions_enable=False, help=HELP, epilog=EXIT_CODES)

    @made.callback()
    def options(
        shown: Annotated[
            bool, typer.Option("--version", help="show the version", callback=_show_version, is_eager=True)
        ] = False,
    ) -> None:
        del shown

    for one in COMMANDS:
        kind: dict[str, Any] = {"cls": DataCommand} if one.function in WITH_DATA else {}
        example = f"Example: {one.example}"
        made.command(one.name, rich_help_panel=one.group, epilog=example, **kind)(one.function)
    anything = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    made.command("step", hidden=True, context_settings=anything)(training.step)
    return made


app = _app()


def main() -> None:
    """Run a command; what is wrong with the words of the command line is one line, too."""
    try:
        with own_temporaries():
            sys.exit(app(standalone_mode=False, prog_name="graft"))
    except UsageError as error:
        place = error.ctx.command_path if error.ctx else "graft"
        print(f"{place}: {error.format_message()} ({place} --help)", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
