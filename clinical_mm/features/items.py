"""The items that the cohort chose, joined with the rows that they stand for.

The cohort says which note, series, sample or value a patient's model may read, and in which delivery it stood. Where
that delivery's row is no longer the current one, the content (and its time) may have changed since the cohort judged
it: such an item is refused, never read. What an item becomes does not belong here.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from clinical_mm.errors import CohortError


def used_items(items: pd.DataFrame, modality: str) -> pd.DataFrame:
    """The used items of a modality: patient by patient, in the order in which the model reads them."""
    used = items[(items["modality"] == modality) & items["is_used"]]
    return used.sort_values(["patient_id", "rank", "source", "item_id"], kind="stable").reset_index(drop=True)


def joined(items: pd.DataFrame, rows: pd.DataFrame, item_ids: pd.Series) -> pd.DataFrame:
    """The items with the columns of their rows.

    Args:
        items: of `used_items`.
        rows: current rows of the table, with `source` and `delivery`.
        item_ids: the item id of each row, in the rows' order.

    Returns:
        The items in their order: their columns, and those of the rows which the items do not have.

    Raises:
        CohortError: an item's row is not the current one any more.
    """
    key = ["source", "delivery", "item_id"]
    named = rows.assign(item_id=item_ids.to_numpy(dtype=object))
    own = [*key, *(c for c in named.columns if c not in items.columns)]
    found = items.merge(named[own], on=key, how="left", validate="many_to_one", indicator="_is_found")
    n_missing = int((found["_is_found"] != "both").sum())
    if n_missing:
        raise CohortError(
            f"{n_missing} of {len(items)} items that the cohort chose are no longer the current ones: a delivery "
            "changed them since; run `clinical-mm cohort` again"
        )
    return found.drop(columns="_is_found")


def named_rows(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples, whose columns no type checker knows."""
    return frame.itertuples(index=False)
