"""Linkage: how the id that a source uses becomes the id of a patient.

Rules are tried in their order for every id of every source they name; the first that answers decides, and the link
keeps its name. An id that no rule answers for is unlinked; one with two answers is ambiguous. Both are counted, and
neither is guessed.
"""

from typing import Annotated, Literal

from pydantic import Field

from clinical_mm.study.base import Column, Name, Pattern, Settings
from clinical_mm.study.sources import TableFormat


class _Rule(Settings):
    sources: tuple[Name, ...] = Field((), description="sources that the rule is for; default: all")


class ExactRule(_Rule):
    """The source's id is the patient's id."""

    rule: Literal["exact"]


class PatternRule(_Rule):
    """The patient's id is what the pattern's first group (or all of it) matches in the source's id."""

    rule: Literal["pattern"]
    pattern: Pattern = Field(description=r"regular expression, searched: ^(TCGA-\w\w-\w{4})")


class CrosswalkRule(_Rule):
    """A table of two columns says which patient an id stands for."""

    rule: Literal["crosswalk"]
    path: str = Field(
        description="CSV or Parquet: relative to the study file, or a glob within each delivery"
    )
    source_id: Column
    patient_id: Column
    within_delivery: bool = Field(False, description="the path is a glob within each delivery")
    table: TableFormat = TableFormat()


Rule = Annotated[ExactRule | PatternRule | CrosswalkRule, Field(discriminator="rule")]


class Linkage(Settings):
    """The rules, and the sources that define who is a patient."""

    rules: tuple[Rule, ...] = (ExactRule(rule="exact"),)
    patients: tuple[Name, ...] = Field(
        (), description="sources whose ids define the patients; default: the outcomes. Others' are unlinked"
    )
