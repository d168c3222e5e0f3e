"""The clinical modality: structured covariates as numbers, and categories as one 0 or 1 for each declared level.

A variable is one thing, whichever source tells of it. Of several used values of a number the mean counts, of a
category the one that the cohort prefers. Nothing is standardised here: statistics are those of training patients.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.cohort.candidates import clinical_item_id
from clinical_mm.cohort.current import current_rows
from clinical_mm.errors import StudyError
from clinical_mm.features.items import joined
from clinical_mm.features.left_out import LeftOut
from clinical_mm.features.matrix import create_matrix, name_matrix
from clinical_mm.store import Store
from clinical_mm.study.root import Study
from clinical_mm.study.sources import CategoryVariable, ClinicalSource, Variable
from clinical_mm.study.tasks import ClinicalModality

NAME = "clinical"


def clinical_variables(study: Study, settings: ClinicalModality) -> dict[str, Variable]:
    """The variables that a task reads, in the order of the study file; levels that sources declare are united.

    Raises:
        StudyError: one source declares a variable as a number, another as a category.
    """
    declared: dict[str, Variable] = {}
    for source_name in settings.sources or study.sources_of(NAME):
        source = study.sources[source_name]
        assert isinstance(source, ClinicalSource)
        for name, variable in source.variables.items():
            if settings.variables and name not in settings.variables:
                continue
            other = declared.get(name)
            if other is not None and other.type != variable.type:
                raise StudyError(
                    f"sources.{source_name}.variables.{name} is a {variable.type}, another source says a {other.type}: "
                    "one variable is one thing; rename one of them"
                )
            if isinstance(variable, CategoryVariable) and isinstance(other, CategoryVariable):
                levels = tuple(dict.fromkeys((*other.levels, *variable.levels)))
                declared[name] = variable.model_copy(update={"levels": levels})
            else:
                declared[name] = variable
    return declared


def build_clinical(
    store: Store,
    items: pd.DataFrame,
    directory: Path,
    variables: dict[str, Variable],
    left_out: LeftOut,
) -> tuple[list[str], int]:
    """Write the matrix of all patients who have a value.

    Args:
        store: where the values were ingested to.
        items: used items of the clinical modality, in reading order.
        directory: the snapshot that is being written.
        variables: of `clinical_variables`.
        left_out: takes values that the study file does not declare.

    Returns:
        The patients with any value, and the number of features.

    Raises:
        CohortError: a value is no longer the current one.
    """
    columns = ["source", "delivery", "variable", "locator", "value_number", "value_text"]
    rows = current_rows(store, tables.CLINICAL, "clinical", columns)
    values = joined(items, rows, clinical_item_id(rows))
    features, categories = _features(variables)
    patients = sorted(values["patient_id"].unique())
    matrix = create_matrix(directory, NAME, patients, features)
    row_of = {patient_id: i for i, patient_id in enumerate(patients)}
    column_of = {feature: i for i, feature in enumerate(features)}
    for key, of_variable in values.groupby(["patient_id", "variable"], sort=True):
        patient_id, name = (str(part) for part in key)
        variable = variables.get(name)
        if variable is None:
            left_out.add(patient_id, NAME, "variable_not_declared", len(of_variable))
            continue
        row = matrix[row_of[patient_id]]
        if isinstance(variable, CategoryVariable):
            level = of_variable["value_text"].iloc[0]
            if level not in variable.levels:
                left_out.add(patient_id, NAME, "level_not_declared")
                continue
            row[[column_of[f"{name}={other}"] for other in variable.levels]] = 0
            row[column_of[f"{name}={level}"]] = 1
        else:
            row[column_of[name]] = of_variable["value_number"].mean()
    is_kept = np.array([bool(np.isfinite(row).any()) for row in matrix], dtype=bool)
    name_matrix(directory, NAME, patients=patients, features=features, is_kept=is_kept, categories=categories)
    return [p for p, kept in zip(patients, is_kept, strict=True) if kept], len(features)


def _features(variables: dict[str, Variable]) -> tuple[list[str], list[str]]:
    """All features, and those of them that are levels of a category."""
    features: list[str] = []
    categories: list[str] = []
    for name, variable in variables.items():
        if isinstance(variable, CategoryVariable):
            levels = [f"{name}={level}" for level in variable.levels]
            features += levels
            categories += levels
        else:
            features.append(name)
    return features, categories
