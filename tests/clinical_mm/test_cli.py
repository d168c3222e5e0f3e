"""The command: what it prints, in which order stages run, and with which status it leaves."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pydicom
import pytest
from typer.testing import CliRunner

import clinical_mm
from clinical_mm import cli, errors
from clinical_mm.cli_options import EXIT_STATUS
from clinical_mm.errors import CheckFailedError, ClinicalMMError, DeliveryError, StudyError
from clinical_mm.study.reference import reference
from clinical_mm.summary import Check, StageSummary

REPOSITORY = Path(__file__).resolve().parents[2]
CT = Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm"
COMMANDS = sorted(
    command.name or (command.callback.__name__ if command.callback else "")
    for command in cli.app.registered_commands
)
GROUPS = {
    str(group.name): sorted(str(command.name) for command in group.typer_instance.registered_commands)
    for group in cli.app.registered_groups
    if group.typer_instance is not None
}
STAGES = ("notes", "imaging", "genomics", "clinical", "outcomes")

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """The command as the console script calls it: status, what it printed, and what it said on standard error."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["clinical-mm", *map(str, arguments)])
        status: object = 0
        try:
            cli.main()
        except SystemExit as left:
            status = left.code
        shown = capsys.readouterr()
        return int(str(status or 0)), shown.out, " ".join(shown.err.split())

    return call


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of which two deliveries have arrived, one of them whole."""
    assert CliRunner().invoke(cli.app, ["init", str(tmp_path)]).exit_code == 0
    for name in ("d1", "d2"):
        (tmp_path / "landing" / name).mkdir()
    (tmp_path / "landing" / "d1" / "_SUCCESS").touch()
    return tmp_path / "study.yaml"


def stub(monkeypatch: pytest.MonkeyPatch, summary: StageSummary | BaseException) -> list[str]:
    """In place of ingest: hands back a summary, or fails; the deliveries that it was called with."""
    called: list[str] = []

    def ingest_delivery(_study: object, _store: object, delivery: object) -> list[StageSummary]:
        called.append(getattr(delivery, "name", ""))
        if isinstance(summary, BaseException):
            raise summary
        return [summary]

    monkeypatch.setattr("clinical_mm.ingest.run.ingest_delivery", ingest_delivery)
    return called


# ---- help and status ---------------------------------------------------------------------------------------


def test_every_command_says_what_it_does_and_what_its_status_means() -> None:
    assert len(COMMANDS) > 10
    assert GROUPS == {"quarantine": ["list", "retry", "show"]}
    of_groups = [[group, name] for group, names in GROUPS.items() for name in names]
    for command in [[], *([name] for name in (*COMMANDS, *GROUPS)), *of_groups]:
        shown = CliRunner().invoke(cli.app, [*command, "--help"])
        assert shown.exit_code == 0
        text = " ".join(shown.output.split())
        assert "Exit status: 0 done, 1 interrupted or refused by the system, 2 command line or study" in text
        assert "10 a blocking check failed" in text
    for command in cli.app.registered_commands:
        assert command.callback is not None
        assert command.callback.__doc__


def test_every_error_leaves_with_a_status_that_the_help_and_the_manual_name() -> None:
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, ClinicalMMError)]
    statuses = {kind.exit_code for kind in kinds}
    assert statuses == set(range(1, 11))
    assert {int(n) for n in re.findall(r"(?:[:,] |^)(\d+) ", EXIT_STATUS)} == {0, *statuses}
    manual = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    assert {int(n) for n in re.findall(r"^\| (\d+) \|", manual, flags=re.MULTILINE)} == {0, *statuses}


def test_every_command_that_a_sentence_names_exists() -> None:
    package = Path(clinical_mm.__file__).parent
    pages = [*package.rglob("*.py"), *package.rglob("*.yaml"), *(REPOSITORY / "docs").rglob("*.md")]
    pages += [REPOSITORY / "README.md", *(REPOSITORY / "examples").rglob("*.py")]
    named = {
        (match, path.name)
        for path in pages
        for match in re.findall(r"clinical-mm (\w[\w-]*)`", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    assert {name for name in named if name[0] not in {*COMMANDS, *GROUPS}} == set()


@pytest.mark.parametrize("arguments", [["nonsense"], ["check", "--stdy", "x"], ["demo-data"], []])
def test_a_wrong_command_line_leaves_with_two(main: Main, arguments: list[str]) -> None:
    status, shown, said = main(*arguments)
    assert status == 2
    assert "Usage: clinical-mm" in shown + said


def test_the_command_starts_without_the_heavy_libraries() -> None:
    script = (
        "import sys, clinical_mm.cli\n"
        "print(*sorted({'torch', 'transformers', 'monai', 'captum', 'dagster', 'pydicom'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(cli.app, ["version"]).output.strip() == clinical_mm.__version__


# ---- what becomes of an error ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (DeliveryError("the column 'a' is not there"), 4, "the column 'a' is not there"),
        (ClinicalMMError("[bold]no markup[/bold]"), 1, "[bold]no markup[/bold]"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "the system refused: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 1, "Permission denied (/x/y)"),
        (KeyboardInterrupt(), 1, "interrupted: the store is as it was; the same command carries on"),
    ],
)
def test_an_error_is_its_sentence_and_its_status(
    main: Main,
    study: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    error: BaseException,
    status: int,
    sentence: str,
) -> None:
    stub(monkeypatch, error)
    left, _, said = main("ingest", "--study", study)
    assert left == status
    assert said.endswith(sentence)


def test_a_long_sentence_is_not_broken_into_lines(
    monkeypatch: pytest.MonkeyPatch, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub(monkeypatch, DeliveryError("word " * 60 + "end"))
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "argv", ["clinical-mm", "ingest", "--study", str(study)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "word " * 60 + "end\n" in capsys.readouterr().err


# ---- stages ------------------------------------------------------------------------------------------------


def test_only_complete_deliveries_are_ingested_unless_one_is_named(
    main: Main, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = stub(monkeypatch, StageSummary("ingest notes"))
    assert main("ingest", "--study", study)[0] == 0
    assert main("ingest", "--study", study, "--delivery", "d2", "-d", "d1")[0] == 0
    assert called == ["d1", "d2", "d1"]


def test_a_delivery_of_several_that_is_unknown_stops_before_any_is_ingested(
    main: Main, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = stub(monkeypatch, StageSummary("ingest notes"))
    status, _, said = main("ingest", "--study", study, "-d", "d1", "-d", "d9")
    assert (status, called) == (2, [])
    assert said.endswith("there is d1, d2")


def test_a_blocking_check_that_fails_stops_the_run_with_ten(
    main: Main, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study.parent / "landing" / "d2" / "_SUCCESS").touch()
    lost = Check("conservation", is_passed=False, sentence="5 records found, 4 of known fate")
    called = stub(monkeypatch, StageSummary("ingest notes", checks=(lost,)))
    status, shown, said = main("ingest", "--study", study)
    assert (status, called) == (10, ["d1"])
    assert "FAILED conservation: 5 records found, 4 of known fate" in " ".join(shown.split())
    assert said == "conservation: 5 records found, 4 of known fate"
    assert CheckFailedError.exit_code == 10


def test_a_check_that_only_warns_lets_the_run_go_on(
    main: Main, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study.parent / "landing" / "d2" / "_SUCCESS").touch()
    odd = Check("no ambiguous identity", is_passed=False, sentence="2 ids", is_blocking=False)
    called = stub(monkeypatch, StageSummary("ingest notes", checks=(odd,)))
    status, shown, said = main("ingest", "--study", study)
    assert (status, called, said) == (0, ["d1", "d2"], "")
    assert shown.count("WARNING") == 2
    assert shown.count("0 of 1 passed") == 2


def test_facts_tables_and_checks_are_printed_as_they_are(
    main: Main, study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = pd.DataFrame({"name": ["[red]a[/red]", None], "share": [0.123456, float("nan")]})
    summary = StageSummary(
        "ingest notes",
        facts={"rows": 12345, "large": 1234567.0, "metric": 0.98765432, "note": "[b]x[/b]"},
        tables={"a table": table},
        checks=(Check("kept", is_passed=True, sentence="[all]"),),
        path=tmp_path / "somewhere",
        is_unchanged=True,
    )
    stub(monkeypatch, summary)
    status, shown, _ = main("ingest", "--study", study)
    assert status == 0
    words = " ".join(shown.split())
    for expected in (
        "ingest notes (unchanged)",
        "rows 12345",
        "large 1,234,567",
        "metric 0.9877",
        "note [b]x[/b]",
        "a table name share [red]a[/red] 0.1235",
        "passed kept: [all]",
        f"written to {tmp_path / 'somewhere'}",
    ):
        assert expected in words
    assert "nan" not in words.lower()


def test_a_study_without_pretraining_says_what_to_add(main: Main, study: Path) -> None:
    text = study.read_text(encoding="utf-8")
    text = text.replace("encoder: pretrained ", "encoder: ./encoder ").replace(
        "pretrain_text:\n  epochs: 3", ""
    )
    study.write_text(text, encoding="utf-8")
    status, _, said = main("pretrain-text", "--study", study)
    assert status == 2
    assert "has no pretrain_text: add it to say what to pretrain" in said


@pytest.mark.parametrize("command", ["cohort", "train", "evaluate", "explain", "report"])
def test_a_task_that_is_not_in_the_study_is_named_before_anything_runs(
    main: Main, study: Path, command: str
) -> None:
    status, _, said = main(command, "--study", study, "-t", "relapse", "-t", "grade")
    assert (status, said) == (2, "the study has no task grade: its tasks are relapse")


# ---- the commands that need no store -----------------------------------------------------------------------


def test_a_new_study_passes_its_check(main: Main, tmp_path: Path) -> None:
    folder = tmp_path / "liver 2026"
    status, shown, _ = main("init", folder)
    assert status == 0
    assert f"wrote {folder / 'study.yaml'}" in shown
    assert (folder / "landing").is_dir()
    text = (folder / "study.yaml").read_text(encoding="utf-8")
    template = files("clinical_mm").joinpath("study_template.yaml").read_text(encoding="utf-8")
    assert text == template.replace("my-study", "liver-2026", 1)
    status, shown, said = main("check", "--study", folder / "study.yaml")
    assert (status, said) == (0, "")
    assert "no delivery has arrived yet" in shown


@pytest.mark.parametrize("name", ["2026-liver", "étude", "_x", "-", "a" * 90])
def test_whatever_the_folder_is_called_the_study_in_it_is_valid(
    main: Main, tmp_path: Path, name: str
) -> None:
    assert main("init", "--", tmp_path / name)[0] == 0
    assert main("check", "--study", tmp_path / name / "study.yaml")[0] == 0


def test_a_study_that_exists_is_never_written_over(main: Main, study: Path) -> None:
    study.write_text("mine", encoding="utf-8")
    status, _, said = main("init", study.parent)
    assert status == 2
    assert said.endswith("exists: remove it first, or name another folder")
    assert main("demo-data", study.parent)[0] == 2
    assert study.read_text(encoding="utf-8") == "mine"


def test_a_check_that_fails_lists_every_problem_and_leaves_with_two(main: Main, study: Path) -> None:
    status, shown, said = main("check", "--study", study)
    assert status == 2
    assert "problems 5" in " ".join(shown.split())
    assert said.count("no delivery holds a file that matches") == 5
    assert said.count("study.yaml:") == 5


def test_the_options_are_the_reference() -> None:
    shown = CliRunner().invoke(cli.app, ["options"])
    assert shown.exit_code == 0
    assert shown.output == reference() + "\n"


def test_the_demo_data_pass_their_check(main: Main, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert main("demo-data", folder, "--patients", "40", "--seed", "3")[0] == 0
    status, shown, said = main("check", "--study", folder / "study.yaml")
    assert (status, said) == (0, "")
    assert "the study fits the files" in shown


def test_demo_data_of_too_few_patients_are_a_wrong_command_line(main: Main, tmp_path: Path) -> None:
    status, _, said = main("demo-data", tmp_path / "demo", "--patients", "5")
    assert status == 2
    assert "40" in said
    assert not (tmp_path / "demo").exists()


def test_the_console_script_is_the_command() -> None:
    script = Path(sys.executable).with_name("clinical-mm")
    done = subprocess.run([script, "version"], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == clinical_mm.__version__


def test_an_unknown_study_file_is_an_error_for_every_command(main: Main, tmp_path: Path) -> None:
    for command in ("check", "ingest", "cohort", "pretrain-text", "train", "report"):
        status, _, said = main(command, "--study", tmp_path / "study.yaml")
        assert status == StudyError.exit_code
        assert "there is no study file" in said


# ---- the quarantine ----------------------------------------------------------------------------------------


@pytest.fixture
def quarantine(main: Main, study: Path) -> Path:
    """The study, ingested: of its first delivery, outcomes of nobody in rows 2 and 3, and an image cut short."""
    text = "sources:\n"
    text += "  scans: {kind: dicom, path: scans/*}\n"
    text += "  outcomes: {kind: outcomes, path: outcomes.csv, patient_id: id, variables: {y: {minimum: 0}}}\n"
    text += "tasks:\n  relapse: {question: '?', outcome: {kind: binary, variable: y}, index_time: none, "
    text += "modalities: {image: {sources: [scans]}}}\n"
    study.write_text(f"study: s\n{text}", encoding="utf-8")
    delivery = study.parent / "landing" / "d1"
    (delivery / "outcomes.csv").write_text("id,y\nJane-Doe-4711,1\n,1\n,0\n")
    (delivery / "scans").mkdir()
    (delivery / "scans" / "cut.dcm").write_bytes(CT.read_bytes()[:20_000])
    status, shown, said = main("ingest", "--study", study)
    assert (status, said) == (0, ""), shown
    return study


def test_the_quarantine_is_listed_up_to_a_limit_and_written_whole(
    main: Main, quarantine: Path, tmp_path: Path
) -> None:
    csv = tmp_path / "out.csv"
    status, shown, said = main("quarantine", "list", "-s", quarantine, "--limit", "2", "--csv", csv)
    assert (status, said) == (0, "")
    words = " ".join(shown.split())
    assert "entries 3 listed 2 more 1" in words
    assert "d1 outcomes missing_patient_id 2" in words
    assert f"all 3 written to {csv}" in words
    assert len(csv.read_text(encoding="utf-8").splitlines()) == 4
    _, shown, _ = main("quarantine", "list", "-s", quarantine, "--source", "scans")
    assert "entries 1" in " ".join(shown.split())
    assert "outcomes.csv" not in shown
    _, shown, _ = main("quarantine", "list", "-s", quarantine, "--reason", "missing_patient_id", "--all")
    assert "entries 2" in " ".join(shown.split())
    assert "cut.dcm" not in shown


def test_a_record_in_quarantine_is_shown_and_never_its_content(main: Main, quarantine: Path) -> None:
    status, shown, said = main("quarantine", "show", "outcomes.csv#row 2", "-s", quarantine, "-d", "d1")
    assert (status, said) == (0, "")
    words = " ".join(shown.split())
    assert "entry 1 of 1" in words
    assert "reason_code missing_patient_id" in words
    assert "file stands yes" in words
    status, shown, said = main("quarantine", "show", "Jane-Doe-4711", "-s", quarantine)
    assert (status, shown) == (4, "")
    assert said.startswith("nothing is on record of this locator")
    assert "Jane" not in said


def test_a_mended_image_is_accepted_by_a_retry(main: Main, quarantine: Path) -> None:
    shutil.copyfile(CT, quarantine.parent / "landing" / "d1" / "scans" / "cut.dcm")
    status, shown, said = main("quarantine", "retry", "-s", quarantine)
    assert (status, said) == (0, "")
    words = " ".join(shown.split())
    assert "delivery d1 left the quarantine 1 new in it 0 in quarantine 2" in words
    assert "passed conservation: imaging: 1 records found, 1 of known fate" in words
    assert "Jane" not in shown
    _, shown, _ = main("quarantine", "list", "-s", quarantine)
    assert "entries 2" in " ".join(shown.split())
    status, shown, _ = main("quarantine", "retry", "-s", quarantine, "-d", "d1")
    assert status == 0
    assert "quarantine retry (unchanged)" in shown


def test_a_retry_that_loses_a_record_leaves_with_ten(
    main: Main, quarantine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinical_mm.ingest.ledger import Ledger

    monkeypatch.setattr(Ledger, "accept", lambda _self, _n=1: None)
    status, shown, said = main("quarantine", "retry", "-s", quarantine)
    assert status == 10
    assert "FAILED conservation: outcomes: 3 records found, 2 of known fate" in " ".join(shown.split())
    assert said.startswith("conservation: outcomes: 3 records found")


def test_a_delivery_that_has_left_the_landing_folder_is_listed_and_not_retried(
    main: Main, quarantine: Path
) -> None:
    shutil.rmtree(quarantine.parent / "landing" / "d1")
    status, shown, _ = main("quarantine", "retry", "-s", quarantine)
    assert status == 0
    assert "delivery d1 is no longer in the landing folder: it stays as it was read" in shown
    status, _, said = main("quarantine", "retry", "-s", quarantine, "-d", "d1")
    assert status == 4
    assert "no longer in the landing folder" in said
    assert "entries 3" in " ".join(main("quarantine", "list", "-s", quarantine)[1].split())


def test_what_the_quarantine_does_not_know_is_named_with_what_there_is(main: Main, quarantine: Path) -> None:
    for arguments in (["list"], ["show", "x"], ["retry"]):
        status, _, said = main("quarantine", *arguments, "-s", quarantine, "-d", "d2")
        assert (status, said) == (2, "no delivery d2 was ingested: there is d1")
    status, _, said = main("quarantine", "list", "-s", quarantine, "--source", "scan")
    assert (status, said) == (2, "no source scan: the study has scans, outcomes")


def test_before_anything_was_ingested_the_quarantine_says_what_to_run(main: Main, study: Path) -> None:
    for arguments in (["list"], ["show", "x"], ["retry"]):
        status, shown, said = main("quarantine", *arguments, "-s", study)
        assert (status, shown, said) == (3, "", "nothing was ingested yet: run `clinical-mm ingest` first")
