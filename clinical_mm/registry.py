"""Which model is champion: the rule by which a challenger takes its place, and the way back.

A study's task is a registered model with the aliases `challenger` and `champion`. Every change of the champion is on
record, so that each can be undone. How two models are compared stands in `evaluation.contest`, where versions are kept
in `tracking`.
"""

from dataclasses import asdict

import pandas as pd

from clinical_mm.errors import CheckFailedError, ModelError
from clinical_mm.evaluation.compare import Comparison, Decision, decide
from clinical_mm.evaluation.contest import against_champion
from clinical_mm.evaluation.record import require_evaluation
from clinical_mm.store import Store
from clinical_mm.study.root import Study
from clinical_mm.summary import Check, StageSummary
from clinical_mm.tracking import CHALLENGER, CHAMPION, Event, Tracking, connected
from clinical_mm.training.members import version_directory

_LOCK_TIMEOUT_S = 120.0


def champion(study: Study, store: Store, task: str) -> str | None:
    """The champion's version, or None where there is none."""
    with connected(study, store) as registry:
        return registry.holder(model_name(study, task), CHAMPION)


def challenger(study: Study, store: Store, task: str) -> str | None:
    """The version that was considered last, or None."""
    with connected(study, store) as registry:
        return registry.holder(model_name(study, task), CHALLENGER)


def history(study: Study, store: Store, task: str) -> list[Event]:
    """Every change of the champion, oldest first."""
    with connected(study, store) as registry:
        return registry.events(model_name(study, task))


def consider(study: Study, store: Store, task: str) -> StageSummary:
    """Register the version that was evaluated last as challenger, and promote it where the rule allows.

    Raises:
        StoreError: nothing was evaluated yet.
        ModelError: the registry cannot be reached.
    """
    with store.lock(f"registry-{task}", _LOCK_TIMEOUT_S), connected(study, store) as registry:
        return _consider(registry, study, store, task, force=False)


def promote(
    study: Study, store: Store, task: str, version: str | None = None, *, force: bool = False
) -> StageSummary:
    """Make a version the champion by hand.

    Args:
        study: the study.
        store: its store.
        task: name of the task.
        version: that was evaluated; default: the last one.
        force: also where the rule says no; it is recorded as forced.

    Raises:
        CheckFailedError: the rule says no.
        StoreError: the version was not evaluated.
        ModelError: the registry cannot be reached.
    """
    with store.lock(f"registry-{task}", _LOCK_TIMEOUT_S), connected(study, store) as registry:
        summary = _consider(registry, study, store, task, version=version, force=force)
    refused = [c for c in summary.checks if not c.is_passed]
    if refused and not force:
        raise CheckFailedError(f"task {task}: {refused[0].sentence} (--force promotes all the same)")
    return summary


def rollback(study: Study, store: Store, task: str) -> StageSummary:
    """Make the champion before this one the champion again.

    Raises:
        ModelError: there is no champion, or none before it, or its model is gone.
    """
    name = model_name(study, task)
    with store.lock(f"registry-{task}", _LOCK_TIMEOUT_S), connected(study, store) as registry:
        stack = _stack(registry.events(name))
        if len(stack) < 2:
            raise ModelError(f"task {task} has no champion before this one: there is nothing to go back to")
        current, previous = stack[-1], stack[-2]
        version_directory(store, task, previous)
        event = registry.crown(name, previous, "rolled_back", current, "rolled back by hand")
        return _summary(registry, name, "rollback", [event])


def model_name(study: Study, task: str) -> str:
    """Name of a task's registered model."""
    return f"{study.study}-{task}"


def _consider(
    registry: Tracking, study: Study, store: Store, task: str, *, version: str | None = None, force: bool
) -> StageSummary:
    evaluation = require_evaluation(store, task, version)
    version, name = evaluation.version, model_name(study, task)
    registry.register(name, study, store, task, evaluation)
    standing = registry.holder(name, CHAMPION)
    if standing == version:
        return _summary(registry, name, "promote", [], is_unchanged=True)
    registry.point(name, CHALLENGER, version)
    settings = study.tasks[task].promotion
    against, note = against_champion(study, store, task, evaluation, standing)
    stored = evaluation.about["against_baseline"]
    against_baseline = None if stored is None else Comparison(**stored)
    decision = decide(against, against_baseline, settings.beat_baseline)
    if note is not None:
        decision = Decision(decision.is_allowed and note.is_allowed, (note.sentence, *decision.reasons))
    events = []
    if decision.is_allowed or force:
        kind = "promoted" if decision.is_allowed else "forced"
        events.append(registry.crown(name, version, kind, standing, decision.sentence))
    verdict = f"model {version}: {decision.sentence}"
    check = Check("promotion rule", decision.is_allowed, verdict, is_blocking=False)
    return _summary(registry, name, "promote", events, check=check, against=against)


def _stack(events: list[Event]) -> list[str]:
    """The champions that a rollback would bring back, the present one last."""
    stack: list[str] = []
    for event in events:
        if event.kind == "rolled_back":
            stack.pop()
        else:
            stack.append(event.version)
    return stack


def _summary(
    registry: Tracking,
    name: str,
    stage: str,
    events: list[Event],
    *,
    check: Check | None = None,
    against: Comparison | None = None,
    is_unchanged: bool = False,
) -> StageSummary:
    holder = registry.holder(name, CHAMPION)
    facts: dict[str, str | int | float] = {
        "registered model": name,
        "champion": holder or "none",
        "challenger": registry.holder(name, CHALLENGER) or "none",
        "registry": registry.shown_uri,
    }
    if events:
        previous = events[-1].previous
        facts["outcome"] = f"{events[-1].kind.replace('_', ' ')}, in place of {previous or 'none'}"
    elif not is_unchanged:
        facts["outcome"] = "the champion stays" if holder else "no champion yet"
    shown = pd.DataFrame([asdict(e) for e in registry.events(name)])
    found = {"changes of the champion": shown[["at", "kind", "version", "previous"]]} if len(shown) else {}
    if against is not None:
        found["against the champion"] = pd.DataFrame([against.to_json()])
    checks = () if check is None else (check,)
    return StageSummary(stage, facts, found, {}, checks, is_unchanged=is_unchanged)
