"""Image weights from a file: what fits, what is reported, what is refused."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from clinical_mm.errors import EncoderError
from clinical_mm.model.weights import load_network_weights, read_tensors


def network(n_outputs: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, n_outputs)
    )


def weights(**more: Tensor) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network(seed=1).state_dict().items()} | more


def test_weights_of_the_same_network_are_loaded_whole(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(weights(), path)
    made = network()
    report = load_network_weights(made, path)
    assert (report.n_loaded, report.fresh, report.unexpected) == (11, (), ())
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, weights()[name]), name


def test_a_last_layer_with_other_outputs_stays_fresh_and_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(weights(extra=torch.zeros(2)), path)
    made, before = network(7), network(7).state_dict()
    report = load_network_weights(made, path)
    assert report.n_loaded == 9
    assert report.fresh == ("4.bias", "4.weight")
    assert report.unexpected == ("extra",)
    after = made.state_dict()
    assert torch.equal(after["4.weight"], before["4.weight"])
    assert torch.equal(after["3.weight"], weights()["3.weight"])


def test_a_last_layer_may_be_missing_and_batch_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({n: t for n, t in weights().items() if not n.startswith("4.") and "num_batches" not in n}, path)
    assert load_network_weights(network(), path).fresh == ("4.bias", "4.weight")


@pytest.mark.parametrize("prefix", ["module.", "backbone."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_torch_files_are_read_through_the_usual_wrappers(
    tmp_path: Path, prefix: str, wrapper: str | None
) -> None:
    named = {prefix + name: tensor for name, tensor in weights().items()}
    path = tmp_path / "w.pt"
    torch.save({wrapper: named, "epoch": 3} if wrapper else named, path)
    assert load_network_weights(network(), path).n_loaded == 11


def test_weights_of_another_network_are_refused_before_anything_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    other = weights() | {"0.weight": torch.zeros(8, 1, 3, 3), "head.bias": torch.zeros(1)}
    del other["3.weight"]
    save_file(other, path)
    made = network()
    with pytest.raises(
        EncoderError, match=r"2 of its 11 tensors are .*0.weight, 3.weight; 1 differ in shape\), 1 in"
    ):
        load_network_weights(made, path)
    assert torch.equal(made.state_dict()["0.bias"], network().state_dict()["0.bias"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"there are no weights .*w.pt: check image.weights"):
        read_tensors(tmp_path / "w.pt")


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.path),)  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_file_that_runs_code_is_refused_unrun(tmp_path: Path, how: str) -> None:
    trap = _Trap()
    trap.path = str(tmp_path / "sprung")  # type: ignore[attr-defined]
    path = tmp_path / "w.pt"
    if how == "torch":
        torch.save({"state_dict": weights(), "hook": trap}, path)
    else:
        path.write_bytes(pickle.dumps(trap, protocol=2))
    with pytest.raises(EncoderError, match="no torch file of tensors alone"):
        read_tensors(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 9], ids=["empty", "nonsense"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EncoderError, match=f"{name} is no"):
        read_tensors(tmp_path / name)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    for name in ("w.pt", "w.safetensors"):
        path = tmp_path / name
        torch.save(weights(), path) if name == "w.pt" else save_file(weights(), path)
        path.write_bytes(path.read_bytes()[:-50])
        with pytest.raises(EncoderError, match="is no"):
            read_tensors(path)


@pytest.mark.parametrize(
    "content", [torch.zeros(3), {"epoch": 3}, [1, 2]], ids=["tensor", "no tensors", "list"]
)
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(EncoderError, match="holds no tensors by name"):
        read_tensors(tmp_path / "w.pt")
