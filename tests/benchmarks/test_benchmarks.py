"""Each benchmark's two sides do the same work: shown on small inputs, without a look at the clock."""

from pathlib import Path

import pytest

from benchmarks.__main__ import names
from benchmarks.harness import Benchmark, Side, compare, described, in_a_process, measure
from benchmarks.sample import load

SMALL = 0.01


@pytest.mark.parametrize("name", names())
def test_both_sides_return_the_same_on_a_small_input(name: str, tmp_path: Path) -> None:
    benchmark = load(name)
    benchmark.prepare(tmp_path, SMALL)
    values = []
    if benchmark.needs_own_processes:
        values = [in_a_process(name, which, tmp_path).value for which in ("ours", "other")]
    for side in () if benchmark.needs_own_processes else (benchmark.ours, benchmark.other):
        if side.before is not None:
            side.before(tmp_path)
        values.append(side.run(tmp_path))
    benchmark.agree(*values)


def test_a_sample_knows_the_memory_that_the_work_took_and_gave_back(tmp_path: Path) -> None:
    def work(folder: Path) -> int:
        return len(b"x" * (200 << 20))

    sample = measure(Side("two hundred MiB", work), tmp_path)
    assert sample.value == 200 << 20
    assert (190 << 20) <= sample.peak_bytes < (300 << 20)


def test_a_sample_taken_while_the_machine_was_busy_is_thrown_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import harness

    canaries = iter([0.10, 0.10, 0.30, 0.10, 0.10, 0.10])
    seconds = iter([1.0, 4.0, 9.0, 4.0, 1.0, 4.0])

    def sample(name: str, which: str, folder: Path) -> harness.Sample:
        return harness.Sample(next(seconds), 10, next(canaries), 1)

    monkeypatch.setattr(harness, "in_a_process", sample)
    benchmark = Benchmark("w", "4×", lambda *_: None, Side("a", len), Side("b", len), lambda *_: None)
    outcome = compare("any", benchmark, tmp_path, n_samples=2)
    assert outcome.n_thrown_out == 1
    assert outcome.speed == 4.0
    assert described(benchmark, outcome, 2)[3] == "4.0×"
