"""Reading a study file: YAML in, a `Study` out, or one error that lists all that is wrong with line numbers.

What the options mean stands in the models; whether the files that they name exist is for `clinical_mm.check`.
"""

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from clinical_mm.errors import StudyError
from clinical_mm.study.problems import Location, StudyProblems
from clinical_mm.study.root import Study


@dataclass(frozen=True)
class StudyFile:
    """A study with the place of every option in its file."""

    path: Path
    study: Study
    _tree: Any

    def line_of(self, location: Location) -> int:
        """Line, from 1, of the deepest part of a location that the file spells out."""
        return _line_of(self._tree, location)


def load_study(path: Path) -> Study:
    """Read and validate a study file; its relative paths become relative to its folder.

    Raises:
        StudyError: names every wrong key, value or combination, with its line.
    """
    return load_study_file(path).study


def load_study_file(path: Path) -> StudyFile:
    """As `load_study`, keeping the lines of the options."""
    tree = _parse(path)
    try:
        study = Study.model_validate(_plain(tree))
    except ValidationError as error:
        raise StudyError(_describe(error, tree, path)) from None
    return StudyFile(path, study.placed_in(path.resolve().parent), tree)


def _parse(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError(f"there is no study file {path}: `clinical-mm init` writes one") from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}") from None
    try:
        tree = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise StudyError(f"{path}:{line}: the same key stands twice: remove one") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise StudyError(f"{path}:{line}: is no YAML: {error.problem}") from None
    except YAMLError:
        raise StudyError(f"{path} is no YAML") from None
    if not isinstance(tree, Mapping):
        raise StudyError(
            f"{path} holds no study: a mapping of options was expected, `clinical-mm init` writes one"
        )
    return tree


def _plain(node: Any) -> Any:
    """The tree as dictionaries, lists and scalars of Python's own types."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, str):
        return str(node)
    if isinstance(node, Sequence):
        return [_plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, int):
        return int(node)
    return float(node) if isinstance(node, float) else node


def _line_of(tree: Any, location: Location) -> int:
    node, line = tree, 1
    for part in location:
        if isinstance(node, Mapping) and part in node:
            line = node.lc.key(part)[0] + 1  # type: ignore[attr-defined]
            node = node[part]
        elif (
            isinstance(node, Sequence)
            and not isinstance(node, str)
            and isinstance(part, int)
            and part < len(node)
        ):
            line = node.lc.item(part)[0] + 1  # type: ignore[attr-defined]
            node = node[part]
        # Anything else is the tag of a union, which the file does not spell as a key.
    return line


def _describe(error: ValidationError, tree: Any, path: Path) -> str:
    problems: list[tuple[int, str]] = []
    for entry in error.errors():
        location = entry["loc"]
        cause = entry.get("ctx", {}).get("error")
        if isinstance(cause, StudyProblems):
            problems += [
                (_line_of(tree, where), f"{_dotted(tree, where)} {text}") for where, text in cause.problems
            ]
            continue
        problems.append(
            (_line_of(tree, location), f"{_dotted(tree, location)}: {_sentence(entry, location)}")
        )
    lines = [f"{path}:{line}: {text}" for line, text in sorted(problems)]
    return "\n".join(lines)


def _dotted(tree: Any, location: Location) -> str:
    """The location as the file spells it; a key that it lacks is named, the tag of a union is not."""
    parts: list[str] = []
    node = tree
    for i, part in enumerate(location):
        is_key = isinstance(node, Mapping) and part in node
        is_item = isinstance(node, Sequence) and not isinstance(node, str) and isinstance(part, int)
        if is_key or is_item:
            node = node[part] if is_key or int(part) < len(node) else None
        elif i < len(location) - 1:
            continue
        parts.append(f"[{part}]" if isinstance(part, int) else f".{part}")
    return "".join(parts).lstrip(".") or "the study"


def _sentence(entry: Any, location: Location) -> str:
    kind = entry["type"]
    if kind == "extra_forbidden":
        return f"is no option{_nearest(str(location[-1]), _options_at(location[:-1]))}"
    if kind == "missing":
        return "is missing, and has no default"
    if kind in {"union_tag_invalid", "literal_error"}:
        expected = str(entry.get("ctx", {}).get("expected_tags") or entry.get("ctx", {}).get("expected"))
        given = str(entry.get("ctx", {}).get("tag", entry["input"]))
        names = [name.strip(" '") for name in expected.replace(" or ", ",").split(",")]
        return f"{given!r} is none of {expected}{_nearest(given, names)}"
    if kind == "union_tag_not_found":
        return f"needs {entry['ctx']['discriminator']} to say what it is"
    if kind == "value_error":
        return str(entry["ctx"]["error"])
    message = entry["msg"]
    given = entry["input"]
    shown = f", found {given!r}" if isinstance(given, str | int | float | bool) else ""
    return message[:1].lower() + message[1:] + shown


def _nearest(word: str, options: Sequence[str]) -> str:
    matches = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    if matches:
        return f"; did you mean {matches[0]!r}?"
    return f"; the options are {', '.join(sorted(options))}" if options else ""


def _options_at(location: Location) -> list[str]:
    """The keys that the model at a location knows; tags in the location choose among the members of a union."""
    annotations: list[Any] = [Study]
    for part in location:
        annotations = [a for annotation in annotations for a in _step(annotation, part)]
    models = [m for annotation in annotations for m in _models(annotation)]
    return sorted({name for model in models for name in model.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [m for a in typing.get_args(annotation) for m in _models(a)]
    return []


def _step(annotation: Any, part: str | int) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _step(typing.get_args(annotation)[0], part)
    if origin in (typing.Union, types.UnionType):
        tagged = [m for m in _models(annotation) if part in _tags(m)]
        return list(tagged) if tagged else [s for a in typing.get_args(annotation) for s in _step(a, part)]
    if origin is dict:
        return [typing.get_args(annotation)[1]]
    if origin in (tuple, list):
        return [typing.get_args(annotation)[0]]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if part in _tags(annotation):
            return [annotation]
        field = annotation.model_fields.get(str(part))
        return [field.annotation] if field is not None else []
    return []


def _tags(model: type[BaseModel]) -> set[Any]:
    literals = [
        f.annotation for f in model.model_fields.values() if typing.get_origin(f.annotation) is typing.Literal
    ]
    return {value for literal in literals for value in typing.get_args(literal)}
