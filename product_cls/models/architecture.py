"""How timm builds a network for pictures of a size: its arguments, and what its features are.

Most convolutional networks take pictures of any size. Transformers have positions: those that
interpolate them (``dynamic_img_size``) take any multiple of their patches, others are built for one
size. What a network accepts is tried on shapes alone, without weights.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from product_cls.core.errors import reason

HUB, FOLDER = "hf-hub:", "local-dir:"
Size = tuple[int, int]

# A network's own complaints about a size, or about an argument that it does not know (TypeError);
# timm has no common type for them.
REFUSES = (
    AssertionError, RuntimeError, ValueError, IndexError, ZeroDivisionError, TypeError,
)  # fmt: skip


# Arguments of timm.create_model that read files or fetch them.
LOADING = (
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict",
    "checkpoint_path", "cache_dir", "model_name", "hf_hub_id",
)  # fmt: skip
MAP: Mapping[str, Any] = {"global_pool": ""}  # the feature map as it is
ANY: Size = (64, 64)  # pixels that a network of any size takes


@dataclass(frozen=True)
class Architecture:
    """A network of timm that has not been built yet.

    Attributes:
        name: timm's, without a tag or with one.
        arguments: of ``timm.create_model``, beside ``num_classes``.
        tokens: whether its features are tokens ``[B, N, C]`` and not a map.
        example: height and width in pixels that it takes.
        any_size: whether it takes others, too: multiples of its patches.
        patch: height and width of its patches in pixels; None without patches.
        source: what timm loads weights by: ``hf-hub:NAME``, ``local-dir:FOLDER``, or "" for the
            name.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: MAP)
    tokens: bool = False
    example: Size = ANY
    any_size: bool = True
    patch: Size | None = None
    source: str = ""

    def create(self, *, pretrained: bool = False, drop_path_rate: float = 0.0) -> nn.Module:
        """Build the network, without its classifier.

        Args:
            pretrained: load the weights of ``source``.
            drop_path_rate: stochastic depth, in [0, 1), for networks that have it.
        """
        # Networks without stochastic depth do not take the argument.
        optional: dict[str, Any] = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
        name = self.source if pretrained and self.source else self.name
        network: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=0, **self.arguments, **optional
        )
        return network

    def features(self, network: Any, images: Tensor) -> Tensor:
        """A map ``[B, C, h, w]`` or ``[B, h, w, C]``, or tokens, of pictures ``[B, 3, H, W]``."""
        whole = self.arguments.get("global_pool") == ""  # nothing follows the features
        raw: Tensor = network(images) if whole else network.forward_features(images)
        return raw

    def fixed(self, size: Size) -> "Architecture":
        """The same network, built for pictures of one height and width in pixels."""
        kept = {key: v for key, v in self.arguments.items() if key != "dynamic_img_size"}
        return replace(self, arguments={**kept, "img_size": size}, example=size, any_size=False)

    def check_size(self, size: Size) -> None:
        """Check that the network takes pictures of a height and width in pixels.

        Raises:
            ValueError: it does not.
        """
        if not self.any_size and size != self.example:
            raise ValueError(
                f"{self.name} is built for pictures of {_sides(self.example)} pixels and does not "
                f"take {_sides(size)}"
            )
        if self.patch is not None and any(n % p for n, p in zip(size, self.patch, strict=True)):
            near = {
                n // p * p + step
                for n, p in zip(size, self.patch, strict=True)
                for step in (0, p)
                if n // p or step
            }
            raise ValueError(
                f"the patches of {self.name}, {_sides(self.patch)} pixels, do not divide pictures "
                f"of {_sides(size)}; allowed: multiples of them, such as "
                f"{', '.join(map(str, sorted(near)))}"
            )

    def record(self) -> dict[str, Any]:
        """What a checkpoint must hold beside the name; empty for feature maps of any size."""
        if self.arguments == MAP:
            return {}
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        del kept["name"], kept["source"]
        return {key: list(v) if isinstance(v, tuple) else v for key, v in kept.items()} | {
            "arguments": {
                key: list(v) if isinstance(v, tuple) else v for key, v in self.arguments.items()
            }
        }

    @classmethod
    def of(cls, name: str, record: Mapping[str, Any]) -> "Architecture":
        """The architecture of a checkpoint.

        Args:
            name: timm's.
            record: from ``record``; empty for feature maps of any size.

        Raises:
            ValueError: an unknown network, or a record that no network of this package has. A
                checkpoint may come from anyone, and timm has arguments that load files.
        """
        _check_known(name)
        if not record:
            return cls(name)
        if odd := sorted(set(record) - {"arguments", "tokens", "example", "any_size", "patch"}):
            raise ValueError(f"architecture.{odd[0]} is unknown")
        if odd := sorted(key for key in record["arguments"] if key in LOADING):
            raise ValueError(f"architecture.arguments.{odd[0]} is not allowed in a checkpoint")
        sides = {k: tuple(record[k]) for k in ("example", "patch") if record.get(k) is not None}
        arguments = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in record["arguments"].items()
        }
        return cls(name, **{**record, **sides, "arguments": arguments})


def _sides(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def find_architecture(backbone: str, size: Size | None = None) -> Architecture:
    """What timm must be told to build a network for pictures of a size.

    Args:
        backbone: a timm name, ``hf-hub:NAME``, or a folder with ``config.json`` as timm writes it.
        size: height and width in pixels; None for the network's own.

    Raises:
        ValueError: an unknown network, a config out of reach, or a size that it does not take.
    """
    name, given, source = _named(backbone)
    _check_known(name)
    features = _try(name, {**given, **MAP}, ANY)
    if isinstance(features, Tensor) and features.ndim == 4:
        return Architecture(name, {**given, **MAP}, source=source)
    own = _own_size(name)
    wanted = size or own
    features = _try(name, {**given, **MAP}, own)
    is_map = isinstance(features, Tensor) and features.ndim == 4
    # With timm's own pooling, transformers have the layers that belong to it.
    base = {**given, **MAP} if is_map else dict(given)
    patch = None if is_map else _patch(name, given)
    Architecture(name, patch=patch).check_size(wanted)
    problem = ""
    for extra in ({"dynamic_img_size": True}, {"img_size": wanted}, {}):
        arguments = {**base, **extra}
        features = _try(name, arguments, wanted)
        if isinstance(features, Tensor):
            other = _try(name, arguments, (2 * wanted[0], 2 * wanted[1]))
            return Architecture(
                name,
                arguments,
                tokens=features.ndim == 3,
                example=wanted,
                any_size=isinstance(other, Tensor),
                patch=patch,
                source=source,
            )
        problem = features
    raise ValueError(
        f"backbone={backbone} does not take pictures of {_sides(wanted)} pixels: {problem}."
    )


def _check_known(name: str) -> None:
    if not timm.is_model(name):
        close = timm.list_models(f"*{name.split('.')[0]}*")[:5]
        hint = f"timm has {', '.join(close)}" if close else "see timm.list_models()"
        raise ValueError(f"backbone={name} is unknown; {hint}.")


def _named(backbone: str) -> tuple[str, dict[str, Any], str]:
    """timm's name, arguments that a config names, and where weights come from."""
    if backbone.startswith(HUB):
        return _from_hub(backbone)
    folder = Path(backbone.removeprefix(FOLDER))
    if backbone.startswith(FOLDER) or (folder / "config.json").is_file():
        return _from_folder(folder)
    return backbone, {}, ""


def _from_hub(backbone: str) -> tuple[str, dict[str, Any], str]:
    from timm.models import load_model_config_from_hf

    try:
        _, name, arguments = load_model_config_from_hf(backbone.removeprefix(HUB))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"backbone={backbone}: its config cannot be fetched from the model hub "
            f"({reason(error)}); connect once, or name a folder with its config.json and weights."
        ) from None
    return name, _of_features(arguments or {}), backbone


def _from_folder(folder: Path) -> tuple[str, dict[str, Any], str]:
    file = folder / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        name, arguments = content["architecture"], content.get("model_args") or {}
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise ValueError("architecture is no name")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"backbone={folder}: {file} is no config of timm ({reason(error)}); it names the "
            f"architecture, as timm.models.save_for_hf writes it."
        ) from None
    return name, _of_features(arguments), f"{FOLDER}{folder}"


def _of_features(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a config that concern the features, not the classifier or the weights."""
    return {k: value for k, value in arguments.items() if k not in ("num_classes", *LOADING)}


def _try(name: str, arguments: Mapping[str, Any], size: Size) -> "Tensor | str":
    """Shape of the features of one picture, or why there are none."""
    try:
        with torch.device("meta"), torch.inference_mode():  # shapes without numbers
            planned = Architecture(name, arguments)
            features = planned.features(planned.create().eval(), torch.zeros(1, 3, *size))
    except REFUSES as error:
        return reason(error)
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        return "its features are neither a map nor tokens"
    return features


def _own_size(name: str) -> Size:
    """Height and width in pixels that the pretrained network was made for."""
    config = timm.get_pretrained_cfg(name)
    shape = (3, 224, 224) if config is None else config.input_size
    return int(shape[1]), int(shape[2])


def _patch(name: str, given: Mapping[str, Any]) -> Size | None:
    """Height and width of the patches in pixels; None if the network does not tell."""
    with torch.device("meta"):
        network: Any = timm.create_model(name, num_classes=0, **given)
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    return patch if isinstance(patch, tuple) else None
