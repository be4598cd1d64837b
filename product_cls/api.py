"""The Python API, for notebooks and services; ``import product_cls`` exports it.

    model = product_cls.load("multirun/quickstart")
    model.predict(["a.jpg"])

Wrong arguments and settings raise ``UserError``, a ``ValueError`` with a one-sentence message;
nothing exits the interpreter.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from product_cls.config.compose import compose_run, sweep_sources
from product_cls.config.literal import literal_config
from product_cls.core.errors import UserError
from product_cls.core.nested import flatten
from product_cls.inference.frames import predictions_frame
from product_cls.inference.predictions import Predictions
from product_cls.runs.folder import RunFolder, find_runs

if TYPE_CHECKING:
    from product_cls.inference.systems import PictureModel, Pictures

__all__ = [
    "Model",
    "Run",
    "UserError",
    "compose",
    "ensemble",
    "load",
    "read_predictions",
    "runs",
    "train",
]


@dataclass(frozen=True)
class Model:
    """Names the products in pictures. ``load`` opens one.

    Pictures are a list of files, Pillow images, or uint8 arrays ``[H, W, 3]`` RGB, ``[H, W]`` grey
    or ``[H, W, 4]`` RGBA; or one uint8 array ``[N, H, W, 3]``.

    Attributes:
        opened: the wrapped model.
        source: what it was opened from.
    """

    opened: "PictureModel"
    source: str = ""

    def __repr__(self) -> str:
        names = self.classes
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return f"Model('{self.source}', {len(names)} classes: {shown})"

    @property
    def classes(self) -> list[str]:
        """Names of the columns of the scores, ``[C]``."""
        return list(self.opened.classes)

    def scores(self, pictures: "Pictures", *, batch_size: int = 64) -> np.ndarray:
        """Scores of N pictures, averaged over test-time augmentation.

        Returns:
            float32 ``[N, C]``, probabilities: over all classes for one label per picture; of each
            label by itself for several labels; over the classes of each head for several heads.

        Raises:
            UserError: no pictures, or one that cannot be decoded.
        """
        return self.opened.predict(pictures, batch_size=batch_size)

    @overload
    def predict(
        self,
        pictures: "Pictures",
        *,
        top: int = 5,
        as_frame: Literal[False] = False,
        batch_size: int = 64,
    ) -> list[list[tuple[str, float]]]: ...

    @overload
    def predict(
        self,
        pictures: "Pictures",
        *,
        top: int = 5,
        as_frame: Literal[True],
        batch_size: int = 64,
    ) -> pd.DataFrame: ...

    def predict(
        self, pictures: "Pictures", *, top: int = 5, as_frame: bool = False, batch_size: int = 64
    ) -> list[list[tuple[str, float]]] | pd.DataFrame:
        """The labels of N pictures with their scores, best first.

        Args:
            pictures: see the class.
            top: maximum number of labels per picture. It has no effect with several labels per
                picture, which are those above their thresholds, or with several heads, each of
                which names its best class.
            as_frame: return a table instead.
            batch_size: pictures on the device at a time.

        Returns:
            For each picture its ``(label, score)`` pairs, scores in [0, 1]; or a DataFrame with the
            columns that ``predictions.csv`` has.

        Raises:
            UserError: no pictures, a picture that cannot be decoded, or a ``top`` below 1.
        """
        from product_cls.inference.systems import list_of_pictures

        if top < 1:
            raise UserError(f"top={top}; allowed: 1 or more.")
        pictures = list_of_pictures(pictures)  # a generator can be read only once
        scores = self.scores(pictures, batch_size=batch_size)
        if not as_frame:
            return self.opened.task.ranked(scores, top)
        names = [_picture_name(picture, number) for number, picture in enumerate(pictures)]
        return pd.DataFrame({"image": names, **self.opened.task.describe(scores, top)[0]})

    def embed(self, pictures: "Pictures", *, batch_size: int = 64) -> np.ndarray:
        """Embeddings of N pictures, for search and clustering.

        Returns:
            float32 ``[N, D]``, L2-normalised, so that inner products are cosines.

        Raises:
            UserError: no pictures, or one that cannot be decoded.
        """
        return self.opened.embed(pictures, batch_size=batch_size)


def load(source: str | Path, *, device: str = "auto", tta: Sequence[str] | None = None) -> Model:
    """Open a model.

    Args:
        source: a run's folder, a sweep's folder (the vote of its runs), a checkpoint, an index's
            folder, or an ONNX file.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``.
        tta: views to average, ``["identity", "hflip"]``; None for those that the runs averaged.

    Raises:
        UserError: nothing there, an unfinished run, runs that cannot be combined, or an unknown
            device or view.
    """
    from product_cls.retrieval.open_model import open_model

    if not isinstance(source, str | Path):
        raise UserError(f"load takes the path of a run, a file or an index, not {source!r}.")
    opened = open_model(source, device=device, tta=tta)
    for note in opened.notes:
        warnings.warn(note, stacklevel=2)
    return Model(opened, str(source))


def compose(*words: str) -> DictConfig:
    """Compose the config of one run from the arguments that ``product-cls train`` takes.

    Args:
        words: ``"model=lite0"``, ``"data.root=PICTURES"``, ``"--config-dir=FOLDER"``, ...

    Raises:
        UserError: an argument that the command would refuse, or a set of runs (``sweep=NAME``).
    """
    from product_cls.training.in_process import remember

    if wrong := [word for word in words if not isinstance(word, str)]:
        raise UserError(f"{wrong[0]} is not a word; pass text: compose('fold=0', 'seed=1').")
    if flags := [word for word in words if word in ("-m", "--multirun")]:
        raise UserError(
            f"compose makes the config of one run and takes no {flags[0]}; a sweep is "
            f"`product-cls train -m ...`."
        )
    try:
        run = compose_run(words)
    except UserError as error:
        if "--multirun" not in str(error):
            raise
        raise UserError(
            f"compose makes the config of one run, and {' '.join(words)} is a sweep: "
            f"`product-cls train -m {' '.join(words)}`."
        ) from None
    if run.swept:
        raise UserError(
            f"{' '.join(sweep_sources(words)) or 'This config'} is a set of runs (of "
            f"{', '.join(run.swept)}), and compose makes the config of one run; train the set by "
            f"`product-cls train -m {' '.join(words)}`."
        )
    return remember(run)


def train(config: DictConfig | Mapping[str, Any], *, folder: str | Path | None = None) -> "Run":
    """Train a run in this process; skip it if it has finished, resume it if it was interrupted.

    Args:
        config: from ``compose``.
        folder: where results go. None: the folder that the command would use for the config's
            arguments, ``multirun/NAME/ARGUMENTS``; for a config that was changed since, or not
            composed, ``multirun/NAME/config-DIGEST``.

    Raises:
        UserError: settings or data are refused, or the config lacks a setting.
    """
    from product_cls.training.in_process import train_in_process

    if not isinstance(config, DictConfig | Mapping):
        raise UserError(
            f"train takes a config, not {config!r}; compose makes one: train(compose('model=b0'))."
        )
    return Run(train_in_process(config, None if folder is None else Path(folder)))


@dataclass(frozen=True, init=False)
class Run:
    """A run, whose folder is read on each access.

    Attributes:
        path: the run's folder.
    """

    path: Path

    def __init__(self, path: str | Path) -> None:
        object.__setattr__(self, "path", Path(path))

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    @property
    def state(self) -> str:
        """``done``, ``failed``, ``running``, ``limited`` (trainer=debug), ..."""
        return str(self.folder.state().kind)

    @property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``: metrics by split, epochs, seconds, versions.

        Raises:
            UserError: the run has not finished.
        """
        return self.folder.metrics()

    @property
    def config(self) -> DictConfig:
        """The resolved config.

        Raises:
            UserError: the run has not started, or its file is damaged.
        """
        return literal_config(self.folder.config())

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the best epoch, which made the predictions."""
        return self.folder.best_checkpoint

    def predictions(self, split: str = "test", *, tta: bool = True) -> pd.DataFrame:
        """``read_predictions`` of this run."""
        return read_predictions(self.path, split, tta=tta)


def ensemble(
    runs: Sequence[str | Path],
    *,
    method: str = "mean",
    weights: str | Sequence[float] | None = None,
    prior: str | None = None,
    device: str = "auto",
    out: str | Path | None = None,
) -> pd.DataFrame:
    """Blend the finished runs below some folders.

    Args:
        runs: run or sweep folders; at least one finished run in each.
        method: ``mean``, ``gmean`` or ``sharpened`` for one label per picture; ``mean`` or
            ``logits`` for several.
        weights: one per run, in the order of the table; ``greedy`` or ``optimised`` to tune them
            on held-out pictures; None for equal weights.
        prior: class totals of the test, which get a row of their own: ``uniform``, ``estimated`` or
            a CSV with the columns ``label`` and ``count``; None for none.
        device: where retrieval runs are searched.
        out: folder for predictions, tables and submission, as the command writes them; None writes
            nothing.

    Returns:
        A row for each run, group of runs and the whole system; the task's main measure in %, with
        test-time augmentation.

    Raises:
        UserError: no folders, a folder without a finished run, runs that cannot be blended, or
            weights that do not suit them.
    """
    from product_cls.ensemble.blend_folders import blend_folders

    if isinstance(runs, str | Path):
        raise UserError(f"A single folder was passed; pass a list: ['{runs}'].")
    result = blend_folders(
        runs, method=method, weights=weights, prior=prior, device=device, out=out
    )
    for sentence in result.left_out:
        warnings.warn(f"Left out: {sentence}.", stacklevel=3)
    return result.tables[result.measures[0], True]


def read_predictions(
    run: str | Path | Run, split: str = "test", *, tta: bool = True
) -> pd.DataFrame:
    """A finished run's predictions.

    Args:
        run: its folder.
        split: ``val`` or ``test``.
        tta: whether scores are averaged over test-time augmentation.

    Returns:
        Columns ``id``, ``target`` (the label, or the labels joined as the task writes them; None if
        it is unknown or not a class of training), ``view`` if known, and a column of float32 scores
        in [0, 1] for each class.

    Raises:
        UserError: no such run, an unfinished run, or no predictions for that split.
    """
    folder = RunFolder(run.path if isinstance(run, Run) else Path(run))
    find_runs(folder.path)
    state = folder.state()
    if state.kind not in ("done", "limited"):
        raise UserError(f"The run {folder.path} {folder.shortcoming()}.")
    file = folder.predictions_file(split)
    if not file.is_file():
        splits = sorted(other.stem for other in file.parent.glob("*.npz"))
        raise UserError(f"split={split}; the run {folder.path} has {', '.join(splits) or 'none'}.")
    predictions = Predictions.load(file)
    return predictions_frame(predictions if tta else predictions.without_tta())


def runs(root: str | Path = "multirun") -> pd.DataFrame:
    """List the runs below a folder, sorted by path.

    Returns:
        A row for each run: ``run`` (its folder), ``overrides``, ``state``, ``error`` (why it is
        not done), and its metrics, one column each (``val/accuracy``, ``epochs``, ...).

    Raises:
        UserError: no such folder, or no run in it.
    """
    rows = []
    for folder in find_runs(Path(root)):
        state = folder.state()
        row = {
            "run": str(folder.path),
            "overrides": " ".join(_overrides(folder)),
            "state": state.kind,
            "error": state.reason,
        }
        try:
            if folder.metrics_file.exists():
                metrics = flatten(folder.metrics(), separator="/")
                row |= {name: value for name, value in metrics.items() if name not in row}
        except UserError as error:  # the other runs' rows do not depend on it
            row |= {"state": "unreadable", "error": str(error).rstrip(".")}
        rows.append(row)
    return pd.DataFrame(rows)


def _overrides(folder: RunFolder) -> list[str]:
    try:
        return folder.overrides()
    except UserError:
        return []


def _picture_name(picture: Any, number: int) -> str:
    name = picture if isinstance(picture, str | Path) else getattr(picture, "filename", "")
    return str(name) or f"picture {number + 1}"
