"""Whether the files of a finished run are still there and can be read."""

from collections.abc import Sequence

from product_cls.core.errors import UserError
from product_cls.inference.predictions import Predictions
from product_cls.retrieval.gallery import Gallery
from product_cls.runs.folder import RunFolder
from product_cls.training.checkpoints import finished_epochs


def lost_outputs(folder: RunFolder, splits: Sequence[str], *, gallery: bool) -> list[str]:
    """The outputs of a finished run that are missing or cannot be read.

    ``last.ckpt``, from which only an unfinished run goes on, is not among them.

    Args:
        folder: the run's folder.
        splits: those that have predictions.
        gallery: whether the run has a gallery.

    Returns:
        File names relative to the folder, the best checkpoint first.
    """
    lost = []
    if finished_epochs(folder.best_checkpoint) is None:
        lost.append(folder.best_checkpoint)
    try:
        whole = set(splits) <= folder.metrics().keys()
    except UserError:
        whole = False
    if not whole:
        lost.append(folder.metrics_file)
    for split in splits:
        try:
            Predictions.load(folder.predictions_file(split))
        except UserError:
            lost.append(folder.predictions_file(split))
    if gallery:
        try:
            Gallery.load(folder.predictions_file("gallery"))
        except UserError:
            lost.append(folder.predictions_file("gallery"))
    if not folder.config_file.is_file():
        lost.append(folder.config_file)
    return [str(file.relative_to(folder.path)) for file in lost]
