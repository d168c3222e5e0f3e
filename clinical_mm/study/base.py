"""What every model of the study file has in common: frozen, and no key that is not declared."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    return pattern


Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
"""A name given by the study: it becomes part of paths, partition keys and column names."""

Column = Annotated[str, Field(min_length=1)]
"""A column of a delivered table, exactly as its header spells it."""

Pattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression."""


class Settings(BaseModel):
    """A frozen group of options; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, protected_namespaces=())
