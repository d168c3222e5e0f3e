"""MLflow as this project speaks to it: versions, their runs, aliases, and the record of who was champion.

By default everything is local: SQLite and files in the store. The rule of promotion does not belong here.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported

import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from clinical_mm import tables
from clinical_mm.errors import ModelError
from clinical_mm.evaluation.record import ABOUT, REPORT, Evaluation
from clinical_mm.store import Store, read_json
from clinical_mm.study.root import Study
from clinical_mm.training.members import TRAINING, about_version, version_directory

CHAMPION = "champion"
CHALLENGER = "challenger"
_VERSION = "clinical_mm.version"
_EVENT = "clinical_mm.event."
_SERVERS = ("http://", "https://", "databricks")
"""Where artifacts go through the server; with a database alone they lie in the store."""

_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
"""What MLflow answers where a model, or an alias of it, is not there; which one depends on the store behind it."""


@dataclass(frozen=True)
class Event:
    """A change of the champion.

    Attributes:
        kind: promoted, forced or rolled_back.
        version: the champion from then on.
        previous: the champion before, or None.
        reason: one sentence.
        at: time, UTC, ISO 8601.
    """

    kind: str
    version: str
    previous: str | None
    reason: str
    at: str


@contextmanager
def connected(study: Study, store: Store) -> Iterator["Tracking"]:
    """The study's registry; MLflow's own errors become ours.

    Raises:
        ModelError: it cannot be reached, or refuses.
    """
    try:
        yield Tracking(study, store)
    except MlflowException as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"the MLflow registry refused ({first}): see `tracking` in the study file") from None


class Tracking:
    """MLflow, spoken to in this project's terms."""

    def __init__(self, study: Study, store: Store) -> None:
        self._uri = study.tracking.uri or f"sqlite:///{store.root / 'mlflow.db'}"
        self._is_local = not self._uri.startswith(_SERVERS)
        self._artifacts = (store.root / "mlartifacts").as_uri() if self._is_local else None
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        self._client = MlflowClient(self._uri, self._uri)
        self._experiment = study.tracking.experiment or study.study

    @property
    def shown_uri(self) -> str:
        """Where the registry is, without a password."""
        scheme, _, rest = self._uri.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    def holder(self, name: str, alias: str) -> str | None:
        """The version of ours that an alias points to, or None."""
        try:
            found = self._client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return None
            raise
        return str(found.tags[_VERSION])

    def events(self, name: str) -> list[Event]:
        """Changes of the champion, oldest first."""
        try:
            tags = self._client.get_registered_model(name).tags
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return []
            raise
        return [Event(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(_EVENT)]

    def point(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version of ours."""
        self._client.set_registered_model_alias(name, alias, self._registered(name, version).version)

    def crown(self, name: str, version: str, kind: str, previous: str | None, reason: str) -> Event:
        """Make a version champion, and keep it on record."""
        event = Event(kind, version, previous, reason, datetime.now(UTC).isoformat(timespec="seconds"))
        self.point(name, CHAMPION, version)
        number = len(self.events(name))
        self._client.set_registered_model_tag(name, f"{_EVENT}{number:06d}", json.dumps(asdict(event)))
        return event

    def register(self, name: str, study: Study, store: Store, task: str, evaluation: Evaluation) -> None:
        """Register a version with its run: parameters, metrics, model card and evaluation; once a version."""
        try:
            self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
            self._client.create_registered_model(name, description=study.tasks[task].question)
        if self._find(name, evaluation.version) is not None:
            return
        directory = version_directory(store, task, evaluation.version)
        run_id = self._log_run(study, task, directory, evaluation)
        source = directory.as_uri() if self._is_local else f"runs:/{run_id}/model"
        self._client.create_model_version(
            name, source, run_id, tags={_VERSION: evaluation.version}, description=evaluation.first_line
        )

    def _log_run(self, study: Study, task: str, directory: Path, evaluation: Evaluation) -> str:
        client, about = self._client, about_version(directory)
        tags = {"task": task, _VERSION: evaluation.version, "mlflow.runName": f"{task} {evaluation.version}"}
        tags |= {key: str(about[key]) for key in ("study_hash", "data_fingerprint", "made")}
        run_id: str = client.create_run(self._experiment_id(), tags=tags).info.run_id
        for key, value in _settings(directory, task).items():
            client.log_param(run_id, key, value)
        metrics = evaluation.metrics()
        for row in metrics[metrics["split"] == "test"].to_dict("records"):
            key = f"{row['model']}/{row['subset'].replace('+', '-')}/{row['metric']}"
            for suffix, column in (("", "value"), ("_lower", "lower"), ("_upper", "upper")):
                if pd.notna(row[column]):
                    client.log_metric(run_id, key + suffix, float(row[column]))
        for fold in about["folds"]:
            training = read_json(directory / f"fold_{fold}" / TRAINING)
            for curve, values in training["curves"].items():
                for step, value in enumerate(values, start=1):
                    client.log_metric(run_id, f"fold_{fold}/{curve}", float(value), step=step)
        for path in (
            directory / "README.md",
            evaluation.directory / ABOUT,
            evaluation.directory / REPORT,
            evaluation.directory / f"{tables.METRICS.name}.parquet",
        ):
            client.log_artifact(run_id, str(path), "evaluation")
        if not self._is_local:
            client.log_artifacts(run_id, str(directory), "model")
        client.set_terminated(run_id)
        return run_id

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(self._experiment, artifact_location=self._artifacts))

    def _registered(self, name: str, version: str) -> ModelVersion:
        found = self._find(name, version)
        if found is None:
            raise ModelError(f"model {version} is not registered: `clinical-mm promote` registers it")
        return found

    def _find(self, name: str, version: str) -> ModelVersion | None:
        found = self._client.search_model_versions(f"name = '{name}'")
        of_ours = [v for v in found if v.tags.get(_VERSION) == version]
        return of_ours[0] if of_ours else None


def _settings(directory: Path, task: str) -> dict[str, Any]:
    """The settings that a version was trained with, as flat parameters."""
    of_task = read_json(directory / "study.json")["tasks"][task]
    chosen = {key: of_task[key] for key in ("outcome", "split", "model", "training")}
    flat = pd.json_normalize(chosen, sep=".").iloc[0].to_dict()
    return {str(key): value for key, value in flat.items() if value is not None}
