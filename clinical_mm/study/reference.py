"""The reference of the study file as Markdown, read off the models: `clinical-mm options` prints it."""

import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from clinical_mm.study.root import Study

_HEAD = """# The study file

Every option of `study.yaml`, read off the models that validate it: `clinical-mm options` prints this page.
An option without a default must be given. Relative paths are relative to the study file.
"""


def reference() -> str:
    """One section a group of options, in the order in which the study file nests them."""
    sections: list[str] = [_HEAD]
    seen: set[type[BaseModel]] = set()
    _add(Study, "the study", sections, seen)
    return "\n".join(sections)


def _add(model: type[BaseModel], where: str, sections: list[str], seen: set[type[BaseModel]]) -> None:
    if model in seen:
        return
    seen.add(model)
    summary = (model.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    lines = [
        f"## {where}",
        "",
        " ".join(summary.split()),
        "",
        "| option | type | default | meaning |",
        "|---|---|---|---|",
    ]
    inner: list[tuple[type[BaseModel], str]] = []
    prefix = "" if model is Study else f"{where}."
    for name, field in model.model_fields.items():
        inner += [(m, _place(prefix + name, m, field)) for m in _models(field.annotation)]
        cells = (f"`{name}`", _type(field.annotation), _default(field), field.description or "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    sections.append("\n".join(lines) + "\n")
    for each, place in inner:
        _add(each, place, sections, seen)


def _place(path: str, model: type[BaseModel], field: FieldInfo) -> str:
    tags = [f for f in model.model_fields.values() if typing.get_origin(f.annotation) is typing.Literal]
    is_one_of_several = len(_models(field.annotation)) > 1 and tags
    place = f"{path}.<name>" if _is_mapping(field.annotation) else path
    return f"{place} ({typing.get_args(tags[0].annotation)[0]})" if is_one_of_several else place


def _is_mapping(annotation: Any) -> bool:
    return typing.get_origin(annotation) is dict


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in typing.get_args(annotation) for m in _models(a)]


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin in (typing.Union, types.UnionType):
        kinds = [_type(a) for a in arguments if a is not type(None)]
        return (
            "options"
            if len(set(kinds)) > 1 and all(_models(a) for a in arguments)
            else " or ".join(dict.fromkeys(kinds))
        )
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "options"
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(annotation, "any")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "—"
    value = field.default
    if isinstance(value, BaseModel):
        return "all defaults"
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return ", ".join(f"`{m.model_dump(exclude_defaults=True)}`" for m in value)
    if isinstance(value, tuple):
        return ", ".join(f"`{v}`" for v in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
