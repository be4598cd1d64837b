"""Time and memory of probes with many pictures and products, on made-up features.

python benchmarks/probe.py pictures=48000 features=1280 classes=1000 stored=100000
"""

import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from product_cls.core.cli import guard, parse_arguments


@dataclass
class Arguments:
    """Fit a classifier to made-up features, and open a file of features.

    pictures: to learn from.
    features: of a picture.
    classes: products.
    stored: pictures in the file of features.
    classifier: of task=probe.
    noise: spread of a product's pictures, in spreads of the products.
    """

    pictures: int = 48_000
    features: int = 1_280
    classes: int = 1_000
    stored: int = 100_000
    classifier: str = "logistic"
    noise: float = 4.0


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/probe.py")
    with tempfile.TemporaryDirectory() as folder:
        _store(arguments, Path(folder))
    _fit(arguments)


def _store(arguments: Arguments, folder: Path) -> None:
    from product_cls.probing.features import FeatureFile, FeatureKey

    key = FeatureKey("made up", "made up", (96, 96), "identity")
    rng = np.random.default_rng(0)

    def compute(rows: np.ndarray):
        for some in np.array_split(rows, max(1, len(rows) // 4096)):
            yield some, rng.standard_normal((len(some), 1, arguments.features), np.float32)

    FeatureFile(folder, key, arguments.stored).fill((1, arguments.features), compute)
    started = time.perf_counter()
    file = FeatureFile(folder, key, arguments.stored)
    assert file.open()
    row = file.array[arguments.stored // 2]
    seconds = time.perf_counter() - started
    size = file.data_file.stat().st_size / 1e6
    each = f"{size:.0f} MB, {row.shape[1]} each"
    print(f"{arguments.stored} pictures ({each}) open in {seconds:.3f} s")


def _fit(arguments: Arguments) -> None:
    from product_cls.data.folds import stratified_folds
    from product_cls.probing.choose import fit_classifier

    rng = np.random.default_rng(1)
    means = rng.standard_normal((arguments.classes, arguments.features), np.float32)

    def made(count: int) -> tuple[np.ndarray, np.ndarray]:
        target = np.arange(count) % arguments.classes
        noise = rng.standard_normal((count, arguments.features), np.float32)
        return means[target] + arguments.noise * noise, target

    features, target = made(arguments.pictures)
    started = time.perf_counter()
    fitted, choice = fit_classifier(
        arguments.classifier,
        features,
        target,
        stratified_folds(target, 3, 0),
        arguments.classes,
        0,
    )
    seconds = time.perf_counter() - started
    test, truth = made(5_000)
    right = 100 * (fitted.logits(test).argmax(axis=1) == truth).mean()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{arguments.classifier}: {arguments.pictures} x {arguments.features}, "
        f"{arguments.classes} classes: {seconds:.0f} s, {choice}; {right:.1f} % of new pictures "
        f"right; {memory:.1f} GiB at most"
    )


if __name__ == "__main__":
    guard(main)
