"""Fetch pretrained weights into a folder, for machines without a network.

python -m product_cls.weights fetch dinov2_s

The folder goes with the project; model.backbone=FOLDER uses it.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError


@dataclass
class Arguments:
    """Fetch the weights of a network from the model hub: fetch NAME [out=FOLDER].

    NAME is an option of model=, a name of timm, or hf-hub:OWNER/NAME.

    out: folder for config.json and model.safetensors; null: weights/NAME.
    """

    out: str | None = None


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["fetch"] and len(words) > 1 and "=" not in words[1] and words[1][0] != "-":
        arguments = parse_arguments(Arguments, words[2:], prog=f"{Path(sys.argv[0]).name} fetch")
        name = words[1]
        short = name.removeprefix("hf-hub:").rpartition("/")[2]
        folder = fetch(name, Path(arguments.out or Path("weights") / short))
        print(f"Fetched {name}: {folder}. Use it by model.backbone={folder}, model.weights=auto.")
        return
    if {"-h", "--help"} & set(words):
        parse_arguments(Arguments, ["--help"], prog="python -m product_cls.weights")
    raise UserError("weights takes the word fetch and a network: weights fetch dinov2_s.")


def fetch(name: str, folder: Path) -> Path:
    """Write the pretrained weights of a network as a folder that ``model.backbone`` takes.

    Args:
        name: an option of ``conf/model``, a name of timm, or ``hf-hub:OWNER/NAME``.
        folder: gets ``config.json`` and ``model.safetensors``.

    Returns:
        The folder.

    Raises:
        UserError: no such network, a folder that holds other files, or weights out of reach.
    """
    from product_cls.config.model_names import model_settings
    from product_cls.models.backbone import PACKAGED, build_backbone, save_pretrained

    backbone = model_settings(name)["backbone"]
    if backbone in PACKAGED:
        raise UserError(f"{name} needs no fetching: its weights come with the installed packages.")
    if folder.exists() and not (folder / "config.json").is_file() and any(folder.iterdir()):
        raise UserError(f"out={folder} holds other files; name another folder.")
    try:
        build_backbone(backbone, "hub")
        save_pretrained(backbone, folder)
    except ValueError as error:
        raise UserError(str(error).removeprefix("weights=hub: ")) from None
    return folder


if __name__ == "__main__":
    guard(main)
