"""Open runs, sweeps, checkpoints, indexes and ONNX files as models that name pictures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from product_cls.core.device import pick_device
from product_cls.core.errors import UserError
from product_cls.inference.onnx_model import OnnxModel
from product_cls.inference.predictor import Predictor
from product_cls.inference.systems import NetworkModel, PictureModel, VoteModel
from product_cls.retrieval.index.embed import load_predictors
from product_cls.retrieval.index.layout import META
from product_cls.retrieval.index.model import IndexModel
from product_cls.retrieval.index.sources import EmbeddedRun, build_index, embedded_run
from product_cls.retrieval.index.store import GalleryIndex
from product_cls.runs.folder import RunFolder, find_runs

# Views for a checkpoint file, which does not record its run's views.
CHECKPOINT_TTA = ("identity", "hflip")


def open_model(
    source: str | Path, *, device: str = "auto", tta: Sequence[str] | None = None
) -> PictureModel:
    """Open a model that names pictures.

    Args:
        source: a run's folder; a sweep's folder, for the vote of its finished runs; a checkpoint;
            an index's folder; or an ONNX file. Retrieval runs are joined, and pictures are named by
            their neighbours in the runs' gallery, also if the source is the best checkpoint in a
            run's folder. A retrieval checkpoint without its run has no gallery and is scored by
            its head, with a note. In a sweep of softmax and retrieval runs, each kind has half of
            the weight.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``; ONNX files run on the CPU.
        tta: views to average; None: those of each run or of the index; for a checkpoint that is
            scored by its head, ``CHECKPOINT_TTA``.

    Returns:
        A model with ``predict(pictures)`` and ``embed(pictures)``.

    Raises:
        UserError: nothing there, an unfinished run (with the reason), a file of another kind, runs
            that cannot be combined, or an unknown view or device.
    """
    path, torch_device = Path(source), pick_device(device)
    if path.is_dir():
        if (path / META).is_file():
            return _open_index(path, torch_device, tta)
        return _open_runs(path, torch_device, tta)
    if not path.is_file():
        raise UserError(f"There is no folder or file {path}.")
    if path.suffix == ".onnx":
        if tta is not None and list(tta) != ["identity"]:
            raise UserError(f"tta={list(tta)} has no effect on an ONNX file; leave it out.")
        return OnnxModel(path)
    return _open_checkpoint(path, torch_device, tta)


def _open_checkpoint(file: Path, device: torch.device, tta: Sequence[str] | None) -> PictureModel:
    predictor, notes = Predictor.load(file), []
    if predictor.task.needs_gallery:
        run = RunFolder(file.resolve().parent.parent)
        if run.best_checkpoint != file.resolve() or not run.status_file.is_file():
            why = "it is not the best checkpoint in the folder of a run"
        elif not run.predictions_file("gallery").is_file():
            why = f"the run {run.path} has no gallery"
        else:
            embedded = embedded_run(run, predictor, tta=_averaged(tta))
            return _neighbours([(embedded, predictor)], device, tta)
        notes = [
            f"{file} answers by the softmax of its head, not by neighbours, because {why}; the "
            "accuracy of a retrieval run is that of its neighbours."
        ]
    model = NetworkModel(predictor, CHECKPOINT_TTA if tta is None else tta, device)
    model.notes = notes
    return model


def _open_index(folder: Path, device: torch.device, tta: Sequence[str] | None) -> PictureModel:
    index = GalleryIndex.open(folder)
    predictors = load_predictors(index)
    return IndexModel(_with_views(index, tta), predictors, device)


def _open_runs(root: Path, device: torch.device, tta: Sequence[str] | None) -> PictureModel:
    """The vote of the finished runs below ``root``."""
    notes: list[str] = []
    reasons: list[str] = []
    networks: list[PictureModel] = []
    embedded: list[tuple[EmbeddedRun, Predictor]] = []
    for folder in find_runs(root):
        if shortcoming := folder.shortcoming():
            sentence = f"The run {folder.path} {shortcoming}"
            # A debug run has complete files; it is opened if the user named this run.
            if folder.path != root or folder.state().kind != "limited":
                notes.append(f"{sentence}; it is left out.")
                reasons.append(sentence)
                continue
            notes.append(f"{sentence}.")
        try:
            predictor = Predictor.load(folder.best_checkpoint)
            if predictor.task.needs_gallery:
                embedded.append((embedded_run(folder, predictor, tta=_averaged(tta)), predictor))
            else:
                views = _views_of(folder) if tta is None else tta
                networks.append(NetworkModel(predictor, views, device))
        except UserError as error:  # one bad folder does not end the vote of the others
            if folder.path == root:
                raise
            sentence = f"The run {folder.path} cannot be used: {str(error).rstrip('.')}"
            notes.append(f"{sentence}; it is left out.")
            reasons.append(sentence)
    kinds = [networks[0] if len(networks) == 1 else VoteModel(networks)] if networks else []
    if embedded:
        kinds.append(_neighbours(embedded, device, tta))
    if not kinds:
        raise UserError(f"{'; '.join(reasons)}.")
    model = kinds[0] if len(kinds) == 1 else VoteModel(kinds)
    if reasons:
        used = len(networks) + len(embedded)
        notes.append(f"{used} of {used + len(reasons)} runs answer.")
    model.notes = notes
    return model


def _averaged(tta: Sequence[str] | None) -> bool:
    """Whether queries are compared with embeddings averaged over views: not if they are not."""
    return tta is None or list(tta) != ["identity"]


def _neighbours(
    embedded: Sequence[tuple[EmbeddedRun, Predictor]],
    device: torch.device,
    tta: Sequence[str] | None,
) -> IndexModel:
    """The vote of neighbours in the joined galleries of runs."""
    runs = [run for run, _ in embedded]
    index = _with_views(build_index(runs, runs[0].vote, kind="exact"), tta)
    return IndexModel(index, [predictor for _, predictor in embedded], device)


def _views_of(folder: RunFolder) -> list[str]:
    """The views that the run averages."""
    views: list[str] = folder.config()["tta"]
    return views


def _with_views(index: GalleryIndex, tta: Sequence[str] | None) -> GalleryIndex:
    """The index with other views for the queries; the gallery is unchanged."""
    if tta is None:
        return index
    return replace(index, sources=[replace(s, tta=list(tta)) for s in index.sources])
