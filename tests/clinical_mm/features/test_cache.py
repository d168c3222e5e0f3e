"""Arrays of the cache: what NumPy wrote is mapped as NumPy reads it, and what was not written whole is not there."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clinical_mm.features.cache import read_array, write_array

ARRAYS = arrays.arrays(
    st.sampled_from(["<f2", "<f4", "<i4", "<u1", ">i2"]),
    arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3),
)


@given(ARRAYS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_array_is_read_as_it_was_written(tmp_path, array):
    path = tmp_path / "a.npy"
    write_array(path, array)
    found = read_array(path)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_what_is_read_cannot_be_written_to(tmp_path):
    write_array(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        read_array(tmp_path / "a.npy")[0] = 1


@pytest.mark.parametrize(
    "array", [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros((1,) * 30), np.zeros(2, "i4,f8")]
)
def test_layouts_that_are_not_written_here_are_read_too(tmp_path: Path, array):
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), array)


def test_an_array_cut_off_anywhere_is_not_there(tmp_path):
    path = tmp_path / "a.npy"
    write_array(path, np.arange(10, dtype=np.int32))
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert read_array(path) is None, length
    path.unlink()
    assert read_array(path) is None
    path.write_bytes(b"not an array, but longer than a header" * 10)
    assert read_array(path) is None
