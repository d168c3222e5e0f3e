"""Sources of declared variables: clinical covariates, and the outcomes that are to be predicted."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clinical_mm.study.base import Column, Settings
from clinical_mm.study.source_base import TableSource


class Conversion(Settings):
    """How a value in another unit becomes one in the variable's: value × factor + offset."""

    factor: float = Field(gt=0, allow_inf_nan=False)
    offset: float = Field(0.0, allow_inf_nan=False)


class NumberVariable(Settings):
    """A number with its unit and the range, in that unit, outside which a value cannot be true."""

    type: Literal["number"] = "number"
    column: Column | None = Field(
        None, description="default: the variable's name; in the long layout what stands in `variable_column`"
    )
    unit: str | None = Field(None, min_length=1, description="as the source writes it, such as mg/dL in UCUM")
    unit_column: Column | None = Field(
        None,
        description="wide layout: the column with the unit of each value; one that is not declared is quarantined",
    )
    conversions: dict[Column, Conversion] = Field(
        {},
        description="other units that are accepted, and how they become `unit`: {umol/L: {factor: 0.0113}}",
    )
    minimum: float | None = None
    maximum: float | None = None

    @model_validator(mode="after")
    def _unit_is_declared(self) -> Self:
        if (self.conversions or self.unit_column is not None) and self.unit is None:
            raise ValueError("converts from other units, or names a unit_column, and has no unit: declare it")
        if self.unit is not None and self.unit in self.conversions:
            raise ValueError(f"converts {self.unit!r} to itself: leave it out of conversions")
        return self


class CategoryVariable(Settings):
    """A category with its levels; a value that is none of them is quarantined."""

    type: Literal["category"]
    column: Column | None = Field(None, description="default: the variable's name")
    levels: tuple[str, ...] = Field(min_length=1)


Variable = Annotated[NumberVariable | CategoryVariable, Field(discriminator="type")]


class _VariablesSource(TableSource):
    patient_id: Column
    variables: dict[str, Variable] = Field(min_length=1)
    missing_values: tuple[str, ...] = Field(
        ("", "NA", "NaN", "nan", "null", "None"), description="read as absent"
    )

    @model_validator(mode="before")
    @classmethod
    def _type_defaults_to_number(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("variables"), dict):
            filled = {
                name: ({"type": "number", **(v or {})} if v is None or isinstance(v, dict) else v)
                for name, v in data["variables"].items()
            }
            return {**data, "variables": filled}
        return data


class ClinicalSource(_VariablesSource):
    """Structured covariates: age, sex, laboratory values; one row a patient, or a patient and time, or a value."""

    kind: Literal["clinical"]
    layout: Literal["wide", "long"] = Field(
        "wide", description="wide: a column a variable; long: a row a value, as laboratories deliver them"
    )
    variable_column: Column | None = Field(None, description="long layout: says which variable a row is of")
    value_column: Column | None = Field(None, description="long layout: the value")
    unit_column: Column | None = Field(
        None, description="long layout: the value's unit; a number in one that is not declared is quarantined"
    )
    available_time: Column | None = None
    is_timeless: bool = Field(
        False, description="the values hold at any index time (sex, age at the index time)"
    )

    @model_validator(mode="after")
    def _time_is_declared(self) -> "ClinicalSource":
        if self.available_time is None and not self.is_timeless:
            raise ValueError("names no available_time: name the column, or declare is_timeless: true")
        return self

    @model_validator(mode="after")
    def _layout_is_declared(self) -> "ClinicalSource":
        own = [c for c in (self.variable_column, self.value_column, self.unit_column) if c is not None]
        numbers = [v for v in self.variables.values() if isinstance(v, NumberVariable)]
        if self.layout == "wide":
            if own:
                raise ValueError(
                    "names variable_column, value_column or unit_column, which are of layout: long alone; in the wide "
                    "layout a variable names its unit_column"
                )
            without = [
                name
                for name, v in self.variables.items()
                if isinstance(v, NumberVariable) and v.conversions and v.unit_column is None
            ]
            if without:
                raise ValueError(
                    f"converts units of {without[0]!r} without its unit_column: nothing says which apply"
                )
            return self
        if self.variable_column is None or self.value_column is None:
            raise ValueError("is of layout: long and names no variable_column, or no value_column")
        if any(v.unit_column is not None for v in numbers):
            raise ValueError("is of layout: long, where the source, not a variable, names the unit_column")
        if self.unit_column is None and any(v.conversions for v in numbers):
            raise ValueError("converts units without a unit_column: nothing says which apply")
        if self.unit_column is not None and any(v.unit is None for v in numbers):
            raise ValueError("names a unit_column, and a number among its variables has no unit: declare it")
        codes = [v.column or name for name, v in self.variables.items()]
        if len(set(codes)) < len(codes):
            raise ValueError("has two variables of the same code in variable_column")
        return self


class OutcomesSource(_VariablesSource):
    """What is to be predicted: one row a patient, with the index time from which it is predicted."""

    kind: Literal["outcomes"]
    index_time: Column | None = Field(None, description="the moment at which the prediction is made")
