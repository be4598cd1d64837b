"""Checkpoints of a run: how Lightning writes and reads them, and what a resumed run starts from."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import TorchCheckpointIO

from product_cls.core.checkpoint_file import first_not_finite, read_checkpoint, write_checkpoint
from product_cls.core.errors import UserError
from product_cls.core.files import whole_file
from product_cls.models.lora import has_adapters, merge_adapters
from product_cls.runs.folder import RunFolder
from product_cls.training.module import ProductModule

log = logging.getLogger(__name__)


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole, and neither writes nor reads one that is damaged or diverged.

    Lightning's own plugin writes to the temporary folder first. On another file system the move
    from there is a copy over the old checkpoint, which a kill leaves empty.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint to ``path``.

        Raises:
            UserError: a weight is not finite, or the disk gives other bytes back.
            OSError: the disk refuses the file.
        """
        if (weight := first_not_finite(checkpoint)) is not None:
            raise UserError(
                f"Training diverged in epoch {int(checkpoint['epoch']) + 1}: the weights {weight} "
                f"are not finite; lower optimizer.lr or set trainer.gradient_clip_val=1."
            )
        try:
            write_checkpoint(checkpoint, Path(path))
        except ValueError as error:
            raise UserError(
                f"{path} could not be written: read back, {error}; check the disk."
            ) from None

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Content of a checkpoint, on the CPU, with the paths of the folder that it lies in.

        Raises:
            UserError: it is damaged.
        """
        try:
            content = read_checkpoint(Path(path))
        except ValueError as error:
            raise UserError(f"{path}: {error}.") from None
        # Lightning forgets the best score if the folder was moved, and would keep a worse epoch.
        states = content.get("callbacks", {})
        for name, state in states.items():
            if old := state.get("dirpath"):
                states[name] = _moved(state, str(old), os.path.realpath(Path(path).parent))
        return content


def _moved(value: Any, old: str, new: str) -> Any:
    """A copy of plain containers in which texts, and keys, that begin with ``old`` begin with
    ``new``."""
    if isinstance(value, dict):
        return {_moved(key, old, new): _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, str) and value.startswith(old):
        return new + value.removeprefix(old)
    return value


def finished_epochs(checkpoint: Path) -> int | None:
    """Number of epochs that a checkpoint has finished; None if it is missing or damaged, or if its
    weights are not finite."""
    try:
        content = read_checkpoint(checkpoint)
        return None if first_not_finite(content) else int(content["epoch"]) + 1
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def resume_point(folder: RunFolder) -> tuple[Path, int] | None:
    """The checkpoint to resume a run from and the epochs that it has finished; None to start anew.

    Both checkpoints hold all that a run needs to go on, so an earlier one replaces a damaged
    ``last.ckpt``: the epochs between them are trained again, with the same result. A damaged
    ``best.ckpt`` cannot be replaced, because later epochs have other weights.
    """
    best, last = finished_epochs(folder.best_checkpoint), finished_epochs(folder.last_checkpoint)
    if best is None:
        if folder.best_checkpoint.is_file() or folder.last_checkpoint.is_file():
            log.warning(
                "%s is %s; the run starts anew.",
                folder.best_checkpoint,
                "damaged" if folder.best_checkpoint.is_file() else "missing",
            )
        return None
    if last is None:
        log.warning(
            "%s is %s; going on after epoch %d, from %s.",
            folder.last_checkpoint,
            "damaged" if folder.last_checkpoint.is_file() else "missing",
            best,
            folder.best_checkpoint.name,
        )
        return folder.best_checkpoint, best
    return folder.last_checkpoint, last


def restore_last(folder: RunFolder) -> None:
    """Put a copy of ``best.ckpt``, from which a run goes on, in the place of ``last.ckpt``.

    Raises:
        OSError: the disk refuses the copy.
    """
    with whole_file(folder.last_checkpoint, durable=True) as partial:
        shutil.copyfile(folder.best_checkpoint, partial)


def merge_checkpoint(file: Path, module: ProductModule) -> None:
    """Merge LoRA's matrices, in a checkpoint and in the module that wrote it.

    Training cannot go on from the merged checkpoint. A checkpoint that is merged already, by a run
    that was killed before it ended, stays as it is.

    Args:
        file: the checkpoint.
        module: with adapters; ends with the merged weights.

    Raises:
        UserError: the merged weights are not finite.
        OSError: the disk refuses the file.
    """
    content = read_checkpoint(file)
    adapted = has_adapters(content["state_dict"])
    if adapted:
        module.load_state_dict(content["state_dict"])
    merge_adapters(module.network)
    if adapted:
        content["state_dict"] = module.state_dict()
        content["optimizer_states"] = []  # of the matrices, which are gone
        WholeCheckpoints().save_checkpoint(content, file)
    else:
        module.load_state_dict(content["state_dict"])
