"""The image encoder, and how networks of MONAI become one."""

from typing import Any

import pytest
import torch
from monai.networks import nets
from monai.utils import optional_import
from torch import nn

from clinical_mm.errors import ModelError
from clinical_mm.model.image import ImageEncoder, build_network, check_network

DENSE: dict[str, Any] = {"init_features": 4, "growth_rate": 4, "block_config": [1, 1]}
RESNET: dict[str, Any] = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 4, 8, 8]}
NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("DenseNet121", DENSE),
    ("ResNet", RESNET),
    ("resnet10", {}),  # a function that returns a network
    ("Classifier", {"channels": [4, 8], "strides": [2, 2]}),
]


def encoder(spatial_dims: int = 3, **settings: Any) -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(
        **{
            "network": "DenseNet121",
            "arguments": DENSE,
            "spatial_dims": spatial_dims,
            "size": [16] * spatial_dims,
            "in_channels": 1,
            "hidden": 6,
            **settings,
        }
    )


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("name", "arguments"), NETWORKS, ids=[name for name, _ in NETWORKS])
def test_networks_read_two_and_three_dimensions(
    name: str, arguments: dict[str, Any], spatial_dims: int
) -> None:
    size = [16, 24, 32][:spatial_dims]
    made = encoder(spatial_dims, network=name, arguments=arguments, size=size)
    check_network(made.network, name, made.n_channels, size, 6)
    made.eval()
    mask = torch.tensor([[True, True], [True, False]])
    image = torch.rand(2, 2, 1, *size)
    with torch.no_grad():
        found = made(image, mask)
        alone = made(image[1:, :1], mask[1:, :1])
    assert found.shape == (2, 6)
    assert torch.allclose(found[1:], alone, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("resnet18", {}), ("SEResNet50", {}), ("EfficientNetBN", {"model_name": "efficientnet-b0"})],
)
def test_networks_of_full_size_are_built_by_name(
    name: str, arguments: dict[str, Any], spatial_dims: int
) -> None:
    size = [64] * spatial_dims
    made, n_channels = build_network(
        name, arguments, spatial_dims=spatial_dims, size=size, in_channels=1, n_outputs=6
    )
    check_network(made, name, n_channels, size, 6)


def test_series_are_a_set_and_all_of_them_count() -> None:
    made = encoder()
    made.eval()
    image, mask = torch.rand(1, 3, 1, 16, 16, 16), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        found = made(image, mask)
        assert torch.allclose(found, made(image.flip(1), mask), atol=1e-5)
        for series in range(3):
            changed = image.clone()
            changed[0, series] = torch.rand(1, 16, 16, 16)
            assert not torch.equal(found, made(changed, mask))


def test_an_image_of_one_channel_is_repeated_where_the_network_reads_three() -> None:
    made = encoder(2, arguments={**DENSE, "in_channels": 3})
    assert made.n_channels == 3
    made.eval()
    image, mask = torch.rand(1, 1, 1, 16, 16), torch.ones(1, 1, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(made(image, mask), made(image.expand(-1, -1, 3, -1, -1), mask))


def test_one_series_alone_trains_with_running_statistics_and_leaves_the_rest_as_it_was() -> None:
    made = encoder()
    made.train()
    norms = [m for m in made.network.modules() if isinstance(m, nn.BatchNorm3d)]
    before = [m.running_mean.clone() for m in norms if m.running_mean is not None]
    image = torch.rand(1, 1, 1, 16, 16, 16)
    made(image, torch.ones(1, 1, dtype=torch.bool))[0, 0].backward()
    assert all(
        torch.equal(old, m.running_mean)
        for old, m in zip(before, norms, strict=True)
        if m.running_mean is not None
    )
    assert all(m.training for m in norms)
    assert all(p.grad is not None for p in made.network.parameters())
    made(image.repeat(2, 1, 1, 1, 1, 1), torch.ones(2, 1, dtype=torch.bool))
    assert not any(
        torch.equal(old, m.running_mean)
        for old, m in zip(before, norms, strict=True)
        if m.running_mean is not None
    )


def test_no_activation_works_in_place() -> None:
    made, _ = build_network("DenseNet121", DENSE, spatial_dims=3, size=[16] * 3, in_channels=1, n_outputs=6)
    assert any(isinstance(m, nn.ReLU) for m in made.modules())
    assert not any(getattr(m, "inplace", False) for m in made.modules())


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("DenseNet1211", {}, "'DenseNet1211' is no network of monai.networks.nets"),
        ("sys", {}, "'sys' is no network of monai.networks.nets"),
        ("SwinUNETR", {"out_channels": 3}, "sets out_channels: outputs and dimensions follow from the study"),
        ("DenseNet121", {"pretrained": True}, "pretrained weights are given as image.weights"),
        ("DenseNet121", {"spatial_dims": 2}, "sets spatial_dims"),
        ("DenseNet121", {"growth": 4}, "has growth, which DenseNet121 does not take; it takes .*growth_rate"),
        ("DenseNet121", {"norm": "nonsense"}, "DenseNet121 cannot be built from image.arguments"),
        ("AutoEncoder", {}, "cannot be built from image.arguments"),
        ("VarFullyConnectedNet", {}, "cannot be built|no number of outputs"),
    ],
)
def test_what_cannot_be_built_is_an_error_that_says_why(
    name: str, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        build_network(name, arguments, spatial_dims=3, size=[16] * 3, in_channels=1, n_outputs=6)


def test_a_network_that_needs_a_package_of_its_own_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    class Needy(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.layer = optional_import("no_such_package")[0](num_classes)

    monkeypatch.setattr(nets, "Needy", Needy, raising=False)
    with pytest.raises(
        ModelError, match=r"Needy needs a package that is not installed \(no_such_package\): install"
    ):
        build_network("Needy", {}, spatial_dims=3, size=[16] * 3, in_channels=1, n_outputs=6)


def test_a_network_that_gives_a_map_is_no_classification_network() -> None:
    made, n_channels = build_network(
        "BasicUNet", {"features": [4] * 6}, spatial_dims=3, size=[16] * 3, in_channels=1, n_outputs=6
    )
    with pytest.raises(
        ModelError, match=r"gives \[1, 6, 32, 32, 32\] for one image where \[1, 6\] was expected"
    ):
        check_network(made, "BasicUNet", n_channels, [32] * 3, 6)


def test_an_image_too_small_for_the_network_is_an_error_that_names_its_size() -> None:
    made, n_channels = build_network(
        "DenseNet121", {}, spatial_dims=3, size=[8] * 3, in_channels=1, n_outputs=6
    )
    made.train()
    with pytest.raises(ModelError, match=r"fails on one image of \[8, 8, 8\] voxels .*choose a larger size"):
        check_network(made, "DenseNet121", n_channels, [8] * 3, 6)
    assert made.training


def test_16_bits_are_converted_by_the_encoder_to_the_same_values() -> None:
    half = torch.rand(2, 1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1)).half()
    mask = torch.ones(2, 1, dtype=torch.bool)
    network = encoder().eval()
    with torch.no_grad():
        assert torch.equal(network(half, mask), network(half.float(), mask))
