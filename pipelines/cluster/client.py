"""A client of a Kubeflow Pipelines server: submit, schedule, monitor and cancel runs, through KFP's own client."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.core.errors import GraftError


@dataclass(frozen=True)
class Task:
    """One step of a run on the cluster."""

    name: str
    state: str
    pods: tuple[str, ...]
    error: str | None


@dataclass(frozen=True)
class RunState:
    """A run on the cluster."""

    run_id: str
    name: str
    state: str
    error: str | None
    tasks: tuple[Task, ...]


class Cluster:
    """A connection to one server and namespace."""

    def __init__(self, host: str, *, namespace: str | None = None, token: str | None = None) -> None:
        """Connect.

        Args:
            host: URL of the server's API or of its gateway.
            namespace: the user's own namespace, on a server with several users.
            token: sent as the bearer token.

        Raises:
            GraftError: if the server does not answer.
        """
        import kfp

        self.host = host.rstrip("/")
        self.namespace = namespace
        with self._clear_errors("connect"), warnings.catch_warnings():
            _check_health(self.host, token)
            warnings.simplefilter("ignore", FutureWarning)  # the client raises one when it is created
            self._client = kfp.Client(host=self.host, existing_token=token, namespace=namespace or "kubeflow")

    def submit(
        self,
        package: Path,
        *,
        experiment: str,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        pipeline_root: str | None = None,
        service_account: str | None = None,
        description: str | None = None,
    ) -> str:
        """Start a run of a compiled pipeline and return its id.

        Args:
            package: the file that `compile` wrote.
            experiment: the Kubeflow experiment of the run; created if missing.
            name: of the run.
            parameters: override the defaults in the package.
            pipeline_root: where artifacts are stored, such as `s3://bucket/path`; None: the server's default.
            service_account: of Kubernetes; None: the server's default.
            description: of the run; `find_run` looks for it.

        Raises:
            GraftError: if the server rejects the request.
        """
        import kfp_server_api

        with self._clear_errors("submit"):
            job = self._client._create_job_config(
                params=dict(parameters or {}),
                pipeline_package_path=str(package),
                pipeline_id=None,
                version_id=None,
                enable_caching=None,  # as compiled: KFP would change the outermost tasks alone
                cache_key=None,
                pipeline_root=pipeline_root,
            )
            # The client's own method cannot set a description.
            run = kfp_server_api.V2beta1Run(
                experiment_id=self._experiment(experiment),
                display_name=name,
                description=description,
                pipeline_spec=job.pipeline_spec,
                runtime_config=job.runtime_config,
                service_account=service_account,
            )
            return str(self._client._run_api.run_service_create_run(run=run).run_id)

    def schedule(
        self,
        package: Path,
        *,
        experiment: str,
        name: str,
        cron: str,
        parameters: Mapping[str, Any] | None = None,
        pipeline_root: str | None = None,
        service_account: str | None = None,
    ) -> str:
        """Run a compiled pipeline on a schedule; return the schedule's id. A schedule of the same name is replaced.

        `cron` has six fields, seconds first (`0 0 3 * * *`: every day at three).

        Raises:
            GraftError: if `cron` does not have six fields or the server rejects the request.
        """
        if len(cron.split()) != 6:
            raise GraftError(f"cron {cron!r}: expected six fields, seconds first, such as '0 0 3 * * *'")
        with self._clear_errors("schedule"):
            experiment_id = self._experiment(experiment)
            schedules = self._all("recurring_runs", self._client.list_recurring_runs, experiment_id)
            earlier = [one for one in schedules if one.display_name == name]
            made = self._client.create_recurring_run(
                experiment_id=experiment_id,
                job_name=name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=dict(parameters or {}),
                pipeline_package_path=str(package),
                pipeline_root=pipeline_root,
                service_account=service_account,
            )
            for one in earlier:
                self._client.delete_recurring_run(one.recurring_run_id)
            return str(made.recurring_run_id)

    def find_run(self, experiment: str, description: str) -> str | None:
        """Return the id of a running or successful run in `experiment` with this description, if there is one."""
        with self._clear_errors("list runs"):
            for run in self._all("runs", self._client.list_runs, self._experiment(experiment)):
                if run.description == description and run.state not in ("FAILED", "CANCELED"):
                    return str(run.run_id)
        return None

    def status(self, run_id: str) -> RunState:
        """Return the state of a run and of its steps."""
        with self._clear_errors("status"):
            run = self._client.get_run(run_id)
        details = (run.run_details.task_details if run.run_details else None) or ()
        tasks = tuple(
            Task(
                name=task.display_name,
                state=task.state or "PENDING",
                pods=_pods(task),
                error=task.error.message if task.error else None,
            )
            for task in details
        )
        return RunState(
            run_id=run.run_id,
            name=run.display_name,
            state=run.state or "PENDING",
            error=run.error.message if run.error else None,
            tasks=tasks,
        )

    def logs(self, run_id: str, step: str) -> Iterator[str]:
        """Yield the output of each pod of a step.

        Raises:
            GraftError: if the run has no such step, or the step has no pod yet.
        """
        tasks = [task for task in self.status(run_id).tasks if task.name == step.replace("_", "-")]
        pods = [pod for task in tasks for pod in task.pods]
        if not pods:
            raise GraftError(f"run {run_id}: step {step!r} has no log yet; check the status")
        for pod in pods:
            with self._clear_errors("logs"):
                yield str(self._api(f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log"))

    def cancel(self, run_id: str) -> None:
        """Stop a run."""
        with self._clear_errors("cancel"):
            self._client.terminate_run(run_id)

    def _experiment(self, name: str) -> str:
        with contextlib.redirect_stdout(io.StringIO()):  # the client prints a link to a page
            return str(self._client.create_experiment(name=name, namespace=self.namespace).experiment_id)

    def _all(self, kind: str, listed: Callable[..., Any], experiment_id: str) -> Iterator[Any]:
        """Yield all objects of a kind in an experiment, page by page."""
        token = ""
        while True:
            page = listed(page_token=token, page_size=100, experiment_id=experiment_id, namespace=self.namespace)
            yield from getattr(page, kind) or ()
            token = page.next_page_token
            if not token:
                return

    def _api(self, path: str) -> Any:
        """Call an endpoint that the client has no method for, with the client's address and token."""
        api = self._client._run_api.api_client
        content, _, _ = api.call_api(
            path, "GET", auth_settings=["Bearer"], response_type="str", header_params={"Accept": "*/*"}
        )
        return content

    @contextlib.contextmanager
    def _clear_errors(self, action: str) -> Iterator[None]:
        import kfp_server_api
        from urllib3.exceptions import HTTPError

        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it logs every retry
        try:
            yield
        except kfp_server_api.ApiException as error:
            raise GraftError(f"Kubeflow at {self.host}: {action} refused ({error.status} {_message(error)})") from error
        except HTTPError as error:
            raise GraftError(f"Kubeflow at {self.host} does not answer ({type(error).__name__})") from error


def _check_health(host: str, token: str | None) -> None:
    """Check the server's health once: the client itself retries five times, for half a minute, even if rejected."""
    import kfp_server_api

    configuration = kfp_server_api.Configuration(host=host)
    if token:
        configuration.api_key["authorization"] = token
        configuration.api_key_prefix["authorization"] = "Bearer"
    with kfp_server_api.ApiClient(configuration) as api:
        kfp_server_api.HealthzServiceApi(api).healthz_service_get_healthz()


def _message(error: Any) -> str:
    try:
        text = json.loads(error.body)
        text = text.get("error_message") or text.get("message") or error.reason
    except (TypeError, ValueError, AttributeError):
        text = error.reason or "no reason given"
    return " ".join(str(text).split())[:300]


def _pods(task: Any) -> tuple[str, ...]:
    names = [task.pod_name, *(child.pod_name for child in task.child_tasks or ())]
    return tuple(name for name in names if name)
