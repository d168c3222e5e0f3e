"""Hostile bytes in everything that reads a delivery: nothing crashes, hangs, balloons or goes unaccounted for.

A fresh process reads the inputs: see `reading` for what each is held to, and `__main__` for how to run more of them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def _fuzz(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--keep", str(folder / "kept"), *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_some_hundred_mutants_of_every_kind_are_accounted_for(tmp_path: Path) -> None:
    done = _fuzz(tmp_path, "--n", "300", "--seed", "1", "--without-crafted")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n300 inputs, 0 problems" in done.stdout


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_thousand_mutants_and_every_crafted_file_are_accounted_for(tmp_path: Path) -> None:
    done = _fuzz(tmp_path, "--n", "10000", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_reader_that_crashes_is_found_and_its_input_kept(tmp_path: Path) -> None:
    """The fuzzer itself: a reader that is made to die by one input, in the process that reads."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import sys, os\n"
        "if 'tests.fuzz.reading' in ' '.join(sys.orig_argv):\n"
        "    import clinical_mm.ingest.outcomes as o\n"
        "    real = o.read_outcomes\n"
        "    def dies(name, source, delivery, files, ledger):\n"
        "        if files[0].name.startswith('m00003'): os.abort()\n"
        "        ledger.found()\n"
        "        return real(name, source, delivery, files, ledger)\n"
        "    o.read_outcomes = dies\n"
    )
    arguments = ["--n", "8", "--kinds", "outcomes", "--without-crafted"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments, "--keep", str(tmp_path / "kept")],
        cwd=REPOSITORY,
        env={**os.environ, "FUZZ_PATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "\n8 inputs, " in done.stdout
    assert "the process ended (-6)" in done.stdout
    assert "not conserved" in done.stdout
    kept = {path.name.split("--")[-1][:6] for path in (tmp_path / "kept").iterdir()}
    assert "m00003" in kept
    assert len(kept) > 1
