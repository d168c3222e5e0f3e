from importlib.resources import files
from pathlib import Path

import pytest

from clinical_mm.errors import StudyError
from clinical_mm.study.file import load_study, load_study_file

TEMPLATE = files("clinical_mm").joinpath("study_template.yaml").read_text(encoding="utf-8")


def written(directory: Path, text: str) -> Path:
    path = directory / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(directory: Path, text: str) -> str:
    with pytest.raises(StudyError) as caught:
        load_study(written(directory, text))
    return str(caught.value)


def line_with(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


def test_the_template_is_a_valid_study(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, TEMPLATE))
    assert study.tasks["relapse"].modalities.names == ("text", "image", "genomics", "clinical")
    assert study.sources_of("image") == ("ct",)


def test_relative_paths_are_relative_to_the_study_file(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, TEMPLATE))
    assert study.store_path == tmp_path.resolve() / "store"
    assert study.landing_path == tmp_path.resolve() / "landing"


def test_a_wrong_key_is_named_with_its_line_and_the_nearest_valid_one(tmp_path: Path) -> None:
    text = TEMPLATE.replace("available_time: available_time", "avalable_time: available_time")
    message = refusal(tmp_path, text)
    assert f"study.yaml:{line_with(text, 'avalable_time:')}:" in message
    assert "sources.notes.avalable_time: is no option; did you mean 'available_time'?" in message


def test_an_option_of_one_kind_of_source_is_not_suggested_for_another(tmp_path: Path) -> None:
    text = TEMPLATE.replace("modalities: [CT]", "sampls: rows")
    assert "'samples'" not in refusal(tmp_path, text)


def test_all_problems_are_listed_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = TEMPLATE.replace("quiet_period_s: 600", "quiet_period_s: -1").replace(
        "fusion: gated", "fusion: gatd"
    )
    lines = refusal(tmp_path, text).splitlines()
    assert len(lines) == 2
    assert "deliveries.quiet_period_s" in lines[0]
    assert "did you mean 'gated'?" in lines[1]


def test_a_task_whose_outcome_no_source_declares_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, TEMPLATE.replace("variable: relapse,", "variable: relapsed,"))
    assert "names the variable 'relapsed', which no outcomes source declares (relapse)" in message


def test_reading_past_the_index_time_needs_a_reason(tmp_path: Path) -> None:
    message = refusal(tmp_path, TEMPLATE.replace("until_days: 0", "until_days: 3"))
    assert "reaches past the index time" in message


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    assert "stands twice" in refusal(tmp_path, TEMPLATE + "\nseed: 8\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no study"),
        ("- a\n- b\n", "holds no study"),
        ("a: [1,\n", "is no YAML"),
        ("a: !!python/x y", ""),
    ],
)
def test_what_is_no_study_is_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


def test_a_missing_study_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="clinical-mm init"):
        load_study(tmp_path / "study.yaml")


def test_the_line_of_an_option_can_be_asked_for(tmp_path: Path) -> None:
    file = load_study_file(written(tmp_path, TEMPLATE))
    assert file.line_of(("tasks", "relapse", "model", "fusion")) == line_with(TEMPLATE, "fusion: gated")
