"""The model registry: versions of one name, and the aliases that mark the version in use.

Serving loads `champion`; `challenger` is the last registered version that was not promoted. An alias points at one
version, so there is never more than one champion; the alias is moved and never deleted, so a champion always remains.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from graft.core.checksums import SUMS_FILE, write_checksums
from graft.core.digest import file_digest
from graft.core.errors import RegistryError
from graft.runs import mlflow_store
from graft.runs.registered_files import ADDRESS, FILES_TAG
from graft.serving import server_lock
from graft.serving.adoption import ADOPTED_TAG, KEY_TAG, PIPELINE_TAG, find_unfinished, registration_key
from graft.serving.registered_version import Version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
HISTORY_TAG = "graft.champions"
"""On the registered model: JSON list of the versions that were champion, oldest first."""
ANY_CHAMPION = -1


class ChampionChangedError(RegistryError):
    """Another process has promoted a version in the meantime: compare with that version."""


class Registry:
    """The versions of one registered name."""

    def __init__(self, name: str, client: "MlflowClient", uri: str) -> None:
        self.name = name
        self.client = client
        self.tracking_uri = uri

    @classmethod
    def open(cls, name: str, uri: str | None = None) -> "Registry":
        """Open the registry at `uri`, or the one that `MLFLOW_TRACKING_URI` names.

        Raises:
            GraftError: if it does not answer.
        """
        uri = uri or mlflow_store.tracking_uri()
        return cls(name, mlflow_store.open_client(uri), uri)

    def versions(self) -> list[Version]:
        """Return all versions, newest first; empty if the name is not registered."""
        aliases = self._aliases()
        found = self.client.search_model_versions(f"name = '{self.name}'", max_results=10_000)
        versions = [self._version(entry, aliases) for entry in found]
        return sorted(versions, key=lambda version: -version.number)

    def version(self, number: int) -> Version:
        """Return one version.

        Raises:
            RegistryError: if the version does not exist; the message lists the existing ones.
        """
        for version in (known := self.versions()):
            if version.number == number:
                return version
        numbers = ", ".join(str(version.number) for version in known) or "none"
        raise RegistryError(f"model {self.name!r} has no version {number}; versions: {numbers}")

    def version_with_alias(self, alias: str) -> Version | None:
        """Return the version an alias points at."""
        number = self._aliases().get(alias)
        return self.version(number) if number is not None else None

    def champion(self) -> Version | None:
        """Return the version that serving loads."""
        return self.version_with_alias(CHAMPION)

    def register(
        self,
        folder: Path,
        tags: Mapping[str, str],
        description: str = "",
        experiment: str | None = None,
        run_id: str | None = None,
    ) -> Version:
        """Log a packed model and register it as a new version with alias `challenger`.

        If a run was killed while it registered the same, its version is returned, to be finished.

        Args:
            folder: an MLflow model.
            tags: of the version.
            description: shown on the version's page.
            experiment: id of the experiment that the model is logged to; None: the one set in the environment.
            run_id: of the run that made it.
        """
        from mlflow.entities import LoggedModelOutput

        client = self.client
        key = registration_key(tags)
        if adopted := find_unfinished(client, self.versions(), key, tags.get(PIPELINE_TAG)):
            self.set_tags(adopted.number, {**tags, **({ADOPTED_TAG: run_id} if run_id else {})})
            if CHAMPION not in adopted.aliases:
                client.set_registered_model_alias(self.name, CHALLENGER, str(adopted.number))
            return self.version(adopted.number)
        write_checksums(folder)
        tags = {**tags, KEY_TAG: key, FILES_TAG: file_digest(folder / SUMS_FILE, "sha256")}
        experiment = experiment or mlflow_store.experiment_id(client, self.tracking_uri)
        logged = client.create_logged_model(experiment, name=self.name, source_run_id=run_id, tags=dict(tags))
        try:
            client.log_model_artifacts(logged.model_id, str(folder))
        except BaseException:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        client.finalize_logged_model(logged.model_id, "READY")
        if run_id:
            client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        with mlflow_store.locked(self.tracking_uri):
            self._create_name()
        made = client.create_model_version(
            self.name,
            source=logged.artifact_location,
            run_id=run_id,
            tags=dict(tags),
            description=description or None,
            model_id=logged.model_id,
        )
        client.set_registered_model_alias(self.name, CHALLENGER, made.version)
        return self.version(int(made.version))

    def promote(
        self, number: int, check: Callable[[Path], object] | None = None, expected_champion: int | None = ANY_CHAMPION
    ) -> Version:
        """Make a version the champion: first check its downloaded files, then move the alias.

        Args:
            number: the version.
            check: called with the folder of the version's files; raises if it must not be served. None: they were
                checked before.
            expected_champion: the version that was champion when the decision was taken (None: there was none).

        Returns:
            The version, with its new aliases.

        Raises:
            RegistryError: if the version does not exist.
            ChampionChangedError: if the champion is no longer `expected_champion`.
        """
        version = self.version(number)
        if check:
            with self.downloaded(version) as folder:
                check(folder)
        with self._one_at_a_time() as still_mine:
            current = self._aliases().get(CHAMPION)
            if expected_champion not in (ANY_CHAMPION, current) or not still_mine():
                raise ChampionChangedError(f"model {self.name!r}: version {current} became champion in the meantime")
            if current != number:
                self._move_champion([*self._history(current), number])
                if (found := self._aliases().get(CHAMPION)) != number:
                    raise ChampionChangedError(f"model {self.name!r}: version {found} became champion in the meantime")
            if self._aliases().get(CHALLENGER) == number:
                self.client.delete_registered_model_alias(self.name, CHALLENGER)
        return self.version(number)

    def rollback(self, check: Callable[[Path], object]) -> Version:
        """Make the previous champion the champion again, after checking its files with `check`.

        Raises:
            RegistryError: if there is no previous champion.
        """
        current = self._aliases().get(CHAMPION)
        history = self._history(current)
        known = {version.number for version in self.versions()}
        earlier = [number for number in history[:-1] if number in known]
        if not earlier:
            raise RegistryError(f"model {self.name!r} had no champion before version {current}: no rollback possible")
        with self.downloaded(self.version(earlier[-1])) as folder:
            check(folder)
        with self._one_at_a_time() as still_mine:
            if self._aliases().get(CHAMPION) != current or not still_mine():
                raise ChampionChangedError(f"model {self.name!r}: the champion was changed in the meantime; try again")
            self._move_champion(earlier)
        return self.version(earlier[-1])

    def champion_before(self, number: int) -> Version | None:
        """Return the champion that a version has replaced; None if there was none."""
        earlier = [one for one in self._history(number) if one != number]
        known = {version.number: version for version in self.versions()}
        return next((known[one] for one in reversed(earlier) if one in known), None)

    def set_tags(self, number: int, tags: Mapping[str, str]) -> None:
        """Add tags to a version."""
        for name, value in tags.items():
            self.client.set_model_version_tag(self.name, str(number), name, value)

    def describe(self, text: str) -> None:
        """Describe the registered model (`text` is Markdown), unless somebody has."""
        if not self.client.get_registered_model(self.name).description:
            self.client.update_registered_model(self.name, text)

    @contextmanager
    def downloaded(self, version: Version) -> Iterator[Path]:
        """Yield a temporary folder with the version's files, which are those that were registered.

        Raises:
            DamagedError: if they are not.
        """
        # Late: what packs a model needs torch, what lists versions does not.
        from graft.serving.registered_content import download_checked

        with tempfile.TemporaryDirectory() as folder:
            yield download_checked(version.uri, Path(folder), self.tracking_uri)

    @contextmanager
    def _one_at_a_time(self) -> Iterator[Callable[[], bool]]:
        """Let one process move the champion; yields a function that says whether it still may."""
        with mlflow_store.locked(self.tracking_uri):
            if mlflow_store.is_on_this_machine(self.tracking_uri):
                yield lambda: True
                return
            with server_lock.exclusive(server_lock.LockTag(self.client, self.name)) as still_mine:
                yield still_mine

    def _move_champion(self, history: list[int]) -> None:
        # The list first, the alias last: if this process dies in between, only the alias counts (see _history).
        self.client.set_registered_model_tag(self.name, HISTORY_TAG, json.dumps(history))
        self.client.set_registered_model_alias(self.name, CHAMPION, str(history[-1]))

    def _history(self, current: int | None) -> list[int]:
        """Return the versions that were champion, ending with the current one."""
        if current is None:
            return []
        tags = self.client.get_registered_model(self.name).tags
        history = [int(number) for number in json.loads(tags.get(HISTORY_TAG, "[]"))]
        if current in history:
            return history[: len(history) - history[::-1].index(current)]
        return [*history, current]

    def _aliases(self) -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        try:
            aliases = self.client.get_registered_model(self.name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}
        return {alias: int(number) for alias, number in aliases.items()}

    def _create_name(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _version(self, entry: "ModelVersion", aliases: Mapping[str, int]) -> Version:
        number = int(entry.version)
        return Version(
            name=self.name,
            number=number,
            aliases=tuple(sorted(alias for alias, target in aliases.items() if target == number)),
            tags=dict(entry.tags),
            run_id=entry.run_id or None,
            created=entry.creation_timestamp,
        )


def find_version(model_uri: str) -> Version:
    """Return the version that `models:/name/3` or `models:/name@champion` stands for now.

    Raises:
        RegistryError: if there is none.
    """
    found = ADDRESS.fullmatch(model_uri)
    if not found:
        raise RegistryError(f"{model_uri}: not a registered model; write models:/name@champion or models:/name/3")
    registry = Registry.open(found["name"])
    if found["number"]:
        return registry.version(int(found["number"]))
    version = registry.version_with_alias(found["alias"])
    if version is None:
        raise RegistryError(f"{model_uri}: model {found['name']!r} has no version with alias {found['alias']!r}")
    return version
