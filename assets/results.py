"""From a library's summary to what the Dagster UI shows: metadata, check results, and errors in one sentence."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pandas as pd

from clinical_mm.errors import ClinicalMMError
from clinical_mm.summary import Check, StageSummary

_MAX_ROWS = 200


@contextmanager
def sentences() -> Iterator[None]:
    """Turn an error that is meant for the user into a failed step with that sentence, not retried."""
    try:
        yield
    except ClinicalMMError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None


def check_specs(asset: str, *names: str, blocking: bool = True) -> list[dg.AssetCheckSpec]:
    """Specifications of the checks that a stage makes of its own result."""
    return [
        dg.AssetCheckSpec(name=check_name(n), asset=asset, blocking=blocking, description=n) for n in names
    ]


def check_name(name: str) -> str:
    """A check's name in Dagster's alphabet."""
    return "".join(c if c.isalnum() else "_" for c in name.lower())


def materialized(summary: StageSummary, asset: str, names: tuple[str, ...] = ()) -> dg.MaterializeResult:
    """The outcome of a stage.

    Args:
        summary: what the library handed back.
        asset: the asset's key.
        names: the checks that the asset declares; each is reported, and a summary without one of them fails it.
    """
    by_name = {c.name: c for c in summary.checks}
    missing = "the stage did not make this check"
    checks = [by_name.get(n, Check(n, is_passed=False, sentence=missing)) for n in names]
    return dg.MaterializeResult(
        asset_key=asset,
        metadata=metadata(summary),
        check_results=[_check_result(asset, c) for c in checks],
    )


def metadata(summary: StageSummary) -> dict[str, dg.MetadataValue]:
    """Facts as values, small tables as Markdown, curves as a picture, the result's place as a path."""
    found: dict[str, dg.MetadataValue] = {"unchanged": dg.MetadataValue.bool(summary.is_unchanged)}
    for name, value in summary.facts.items():
        if isinstance(value, bool):
            found[name] = dg.MetadataValue.bool(value)
        elif isinstance(value, int):
            found[name] = dg.MetadataValue.int(value)
        elif isinstance(value, float):
            found[name] = dg.MetadataValue.float(value)
        else:
            found[name] = dg.MetadataValue.text(str(value))
    for title, frame in summary.tables.items():
        found[title] = dg.MetadataValue.md(_markdown(frame))
    if summary.curves:
        found["curves"] = dg.MetadataValue.md(f"![curves](data:image/png;base64,{_picture(summary.curves)})")
    warnings = [c for c in summary.checks if not c.is_passed and not c.is_blocking]
    if warnings:
        found["warnings"] = dg.MetadataValue.md("\n".join(f"- **{c.name}**: {c.sentence}" for c in warnings))
    if summary.path is not None:
        found["path"] = dg.MetadataValue.path(str(summary.path))
    return found


def _check_result(asset: str, check: Check) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.ERROR if check.is_blocking else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=check_name(check.name),
        passed=check.is_passed,
        severity=severity,
        metadata={"sentence": check.sentence},
    )


def _markdown(frame: pd.DataFrame) -> str:
    if frame.empty:
        return "none"
    shown = frame.head(_MAX_ROWS)
    lines = [
        "| " + " | ".join(_cell(c) for c in shown.columns) + " |",
        "|" + " --- |" * len(shown.columns),
        *("| " + " | ".join(_cell(v) for v in row) + " |" for row in shown.itertuples(index=False)),
    ]
    if len(frame) > _MAX_ROWS:
        lines.append(f"\n{len(frame) - _MAX_ROWS} more rows")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return "" if value is None else str(value).replace("|", "\\|")


def _picture(curves: dict[str, list[float]]) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, marker=".", label=name)
    axes.set_xlabel("epoch")
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return base64.b64encode(buffer.getvalue()).decode()
