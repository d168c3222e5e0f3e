"""What sources have in common: where their files are, and how tables and times are written."""

from typing import Annotated

from pydantic import Field

from clinical_mm.study.base import Settings

Glob = Annotated[str, Field(min_length=1, description="glob pattern, relative to the delivery's folder")]


class TableFormat(Settings):
    """How a delimited table is written. Parquet needs none of it; compression follows the file's ending."""

    delimiter: str | None = Field(None, description="default: a tab for .tsv, .txt and .maf, else a comma")
    encoding: str = Field(
        "utf-8", description="a file that does not decode in it is quarantined, never guessed"
    )
    comment: str | None = Field(
        None, min_length=1, max_length=1, description="lines that begin with it are skipped"
    )


class TimeFormat(Settings):
    """How times are written where they are not ISO 8601, and the zone of those that name none."""

    format: str | None = Field(None, description="strptime format; default ISO 8601")
    timezone: str | None = Field(
        None, description="IANA zone of the hospital; times with an offset are converted to it (default: UTC)"
    )


class BaseSource(Settings):
    """What every source declares."""

    path: Glob
    is_required: bool = Field(
        True, description="whether `check` refuses a study to which no delivery brings a file"
    )


class TableSource(BaseSource):
    """A source that is a table, or has one."""

    table: TableFormat = TableFormat()
    time: TimeFormat = TimeFormat()
