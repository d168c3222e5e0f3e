"""Declared variables of a table: their values, checked against unit, range and levels, and the rows that agree.

What clinical covariates and outcomes have in common stands here; their tables are made in `clinical` and `outcomes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clinical_mm.ingest.ledger import Ledger
from clinical_mm.ingest.tabular import Rows
from clinical_mm.study.sources import NumberVariable, Variable

_SENTENCES = {
    "not_a_number": "the value is no number",
    "out_of_range": "the value lies outside the declared range",
    "unknown_level": "the value is none of the declared levels",
    "missing_unit": "the value has no unit, and the source has a column for it",
    "unknown_unit": "the unit is neither the declared one nor one of those that are converted",
}


@dataclass(frozen=True)
class Values:
    """A variable's values in n rows.

    Attributes:
        number: [n] float64 of a number, NaN where there is no usable value; all NaN of a category.
        text: [n] the level of a category, None where there is no usable value; all None of a number.
        problem: [n] the reason code of an unusable value, else "".
        is_known: [n] whether there is a usable value.
    """

    number: np.ndarray
    text: np.ndarray
    problem: np.ndarray
    is_known: np.ndarray


def role_of(variable: str) -> str:
    """The role under which a variable's column is read."""
    return f"variable {variable}"


def columns_of(variables: Mapping[str, Variable]) -> dict[str, str]:
    """Column of each variable, and of its unit where it has one, by its role."""
    columns = {role_of(name): spec.column or name for name, spec in variables.items()}
    for name, spec in variables.items():
        if isinstance(spec, NumberVariable) and spec.unit_column is not None:
            columns[_unit_role_of(name)] = spec.unit_column
    return columns


def sentence_of(problem: str) -> str:
    """What is wrong with a value of that reason code."""
    return _SENTENCES[problem]


def _unit_role_of(variable: str) -> str:
    return f"unit of {variable}"


def read_values(rows: Rows, name: str, spec: Variable, missing: frozenset[str]) -> Values:
    """Read a variable's column, and that of its unit; a value that is not declared possible is none."""
    has_units = _unit_role_of(name) in rows.cells.columns
    units = rows.text(_unit_role_of(name)) if has_units else None
    return values_of(rows.text(role_of(name)), units, spec, missing)


def values_of(cells: np.ndarray, units: np.ndarray | None, spec: Variable, missing: frozenset[str]) -> Values:
    """Read cells [n] as values of a variable, in its unit.

    Args:
        cells: [n] text.
        units: [n] text, the unit of each; None where the source says nothing of units.
        spec: the variable.
        missing: cells that say that there is no value, or no unit.
    """
    said = [(str(cell), None if units is None else str(units[i])) for i, cell in enumerate(cells)]
    known = {key: _value(*key, spec, missing) for key in dict.fromkeys(said)}
    n = len(cells)
    number = np.full(n, np.nan)
    text = np.full(n, None, dtype=object)
    problem = np.full(n, "", dtype=object)
    for i, key in enumerate(said):
        number[i], text[i], problem[i] = known[key]
    is_known = ~np.isnan(number) | np.array([t is not None for t in text], dtype=bool)
    return Values(number, text, problem, is_known)


def _value(
    cell: str, unit: str | None, spec: Variable, missing: frozenset[str]
) -> tuple[float, str | None, str]:
    """A cell, with its unit where the source has one, as number, level and problem."""
    if cell in missing:
        return np.nan, None, ""
    if not isinstance(spec, NumberVariable):
        return (np.nan, cell, "") if cell in spec.levels else (np.nan, None, "unknown_level")
    number = _number(cell)
    if number is None:
        return np.nan, None, "not_a_number"
    if unit is not None and unit != spec.unit:
        if unit in missing or not unit:
            return np.nan, None, "missing_unit"
        conversion = spec.conversions.get(unit)
        if conversion is None:
            return np.nan, None, "unknown_unit"
        number = number * conversion.factor + conversion.offset
    is_low = spec.minimum is not None and number < spec.minimum
    is_high = spec.maximum is not None and number > spec.maximum
    is_possible = np.isfinite(number) and not is_low and not is_high
    return (number, None, "") if is_possible else (np.nan, None, "out_of_range")


def _number(cell: str) -> float | None:
    """A finite number; None where the cell is none, such as `<5`, `1,5` or `5 mg/dL`."""
    try:
        number = np.nan if "_" in cell else float(cell)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def settle_rows(
    keys: pd.DataFrame, values: Mapping[str, np.ndarray], rows: Rows, ledger: Ledger, what: str
) -> np.ndarray:
    """Decide which rows stand, and tell the ledger the fate of each.

    Rows with the same key may complete each other; one that adds nothing is a duplicate; where two give a variable
    different values, none of them stands.

    Args:
        keys: [n, k] what rows are told apart by.
        values: comparable values [n] by variable, None where a row says nothing of it.
        rows: the rows.
        ledger: is told.
        what: the key in words, for sentences.

    Returns:
        Mask [n] of the rows that stand.
    """
    stands = np.ones(len(rows), dtype=bool)
    is_repeated = keys.duplicated(keep=False).to_numpy()
    if is_repeated.any():
        locators = rows.locators()
        groups = keys[is_repeated].groupby(list(keys.columns), dropna=False, sort=False).indices
        repeated = np.flatnonzero(is_repeated)
        for within in groups.values():
            places = repeated[np.sort(within)]
            for place, fate in zip(places, _fates(places, values), strict=True):
                if fate == "duplicate":
                    ledger.duplicate(locators[place], f"another row of {what} says the same")
                elif fate == "conflict":
                    sentence = f"rows of {what} differ, and nothing says which is right"
                    ledger.quarantine(locators[place], "conflicting_records", sentence)
                stands[place] = fate == "accepted"
    ledger.accept(int(stands.sum()))
    return stands


def _fates(places: np.ndarray, values: Mapping[str, np.ndarray]) -> list[str]:
    said: dict[str, object] = {}
    fates: list[str] = []
    for place in places:
        own = {name: column[place] for name, column in values.items() if column[place] is not None}
        if any(name in said and said[name] != value for name, value in own.items()):
            return ["conflict"] * len(places)
        fates.append("accepted" if not fates or any(name not in said for name in own) else "duplicate")
        said.update(own)
    return fates


def report_problems(values: Mapping[str, Values], rows: Rows, stands: np.ndarray, ledger: Ledger) -> None:
    """Put the unusable values of standing rows on record."""
    for name, read in values.items():
        is_bad = stands & (read.problem != "")
        for locator, problem in zip(rows.take(is_bad).locators(), read.problem[is_bad], strict=True):
            ledger.quarantine_cell(f"{locator} {name}", problem, _SENTENCES[problem])


def comparable(read: Values) -> np.ndarray:
    """Values [n] as objects that compare: a number, a level, or None."""
    numbers = read.number.astype(object)
    return np.where(np.isnan(read.number), read.text, numbers)
