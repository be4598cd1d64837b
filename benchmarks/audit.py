"""What `product-cls check` finds of planted faults, and how fast and in how much memory.

    python benchmarks/audit.py                        # rendered products
    python benchmarks/audit.py data=grocery root=GroceryStoreDataset
    python benchmarks/audit.py speed=50000            # made-up pictures of 256 px, without faults

Plants 60 near copies in training (cropped by up to 4 % at each edge, scaled to 60 to 100 %, 10 %
brighter or darker, saved as JPEG of quality 40 to 85), 20 contradictions (such copies under another
label), 10 leaks into the test, 10 broken files, 20 blurred pictures and 10 tiny ones, in a copy of
the pictures. Prints the share of each kind that is found, and the share of clean pictures that are
in a finding of that kind; writes benchmarks/results/audit.json.
"""

import io
import resource
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from common import RESULTS, report
from PIL import Image

from product_cls import api
from product_cls.audit.__main__ import audit_data
from product_cls.core.cli import guard, parse_arguments
from product_cls.data.pictures import load_picture
from product_cls.training.data_source import build_samples

PLANTED = {"copy": 60, "contradiction": 20, "leak": 10, "unreadable": 10, "blurred": 20, "tiny": 10}


@dataclass
class Arguments:
    """Faults planted in the pictures of a data set.

    data: rendered, or another name of conf/data with root=. products: of rendered. seed: of the
    faults. speed: only time so many made-up pictures of 256 px, without faults. out: the JSON file.
    """

    data: str = "rendered"
    root: str | None = None
    products: int = 48
    seed: int = 0
    speed: int = 0
    out: str | None = None


def copied(pixels: np.ndarray, rng: np.random.Generator) -> bytes:
    """A near copy, as JPEG."""
    height, width = pixels.shape[:2]
    top, bottom, left, right = rng.uniform(0, 0.04, 4)
    cut = pixels[
        int(top * height) : height - int(bottom * height),
        int(left * width) : width - int(right * width),
    ]
    scale = rng.uniform(0.6, 1)
    cut = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    light = cut * rng.uniform(0.9, 1.1) + rng.uniform(-8, 8)
    return jpeg(light.clip(0, 255).astype(np.uint8), int(rng.integers(40, 86)))


def jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def plant(samples: pd.DataFrame, folder: Path, seed: int) -> dict[str, set[str]]:
    """Write training and test pictures as class folders, with faults; ids of each kind."""
    rng = np.random.default_rng(seed)
    training = samples[samples["split"] != "test"]
    for _, row in training.iterrows():
        place = folder / "train" / str(row["label"])
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(row["path"], place / f"{row['id'].replace('/', '_')}")
    (folder / "test").mkdir()
    picked = rng.permutation(len(training))[: sum(PLANTED.values())]
    planted: dict[str, set[str]] = {kind: set() for kind in PLANTED}
    kinds = [kind for kind, count in PLANTED.items() for _ in range(count)]
    labels = sorted(training["label"].unique())
    for number, (kind, k) in enumerate(zip(kinds, picked, strict=True)):
        row = training.iloc[k]
        label, name = str(row["label"]), f"planted{number}.jpg"
        pixels = load_picture(row["path"])
        where = folder / "train" / label
        if kind == "leak":
            where, content = folder / "test", copied(pixels, rng)
        elif kind == "contradiction":
            other = rng.choice([text for text in labels if text != label])
            where, content = folder / "train" / str(other), copied(pixels, rng)
        elif kind == "copy":
            content = copied(pixels, rng)
        else:
            original = where / row["id"].replace("/", "_")
            if kind == "unreadable":
                content = original.read_bytes()[: original.stat().st_size // 2]
            elif kind == "blurred":
                sigma = max(pixels.shape) / 64
                content = jpeg(cv2.GaussianBlur(pixels, (0, 0), sigma))
            else:
                content = jpeg(cv2.resize(pixels, (24, 24), interpolation=cv2.INTER_AREA))
            original.unlink()
        (where / name).write_bytes(content)
        planted[kind].add(name)
    return planted


def measure(arguments: Arguments) -> list[dict[str, object]]:
    words = [f"data={arguments.data}"]
    words += [f"data.root={arguments.root}"] if arguments.root else []
    words += [f"data.products={arguments.products}"] if arguments.data == "rendered" else []
    samples, _ = build_samples(api.compose(*words))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted = plant(samples, folder, arguments.seed)
        started = time.perf_counter()
        audit = audit_data(
            ["data=folder", f"data.root={folder / 'train'}", f"data.test={folder / 'test'}"]
        )
        seconds = time.perf_counter() - started
    names = [Path(str(name)).name for name in audit.samples["id"]]
    every = {name for part in planted.values() for name in part}
    lines: list[dict[str, object]] = []
    for kind, wanted in planted.items():
        rows = {k for finding in audit.found if finding.kind == kind for k in finding.rows}
        found = {names[k] for k in rows}
        # The original of a copy is rightly in its finding.
        partners = {
            names[k]
            for finding in audit.found
            if finding.kind == kind and any(names[k] in every for k in finding.rows)
            for k in finding.rows
        }
        lines.append(
            {
                "fault": kind,
                "planted": len(wanted),
                "found %": 100 * len(found & wanted) / len(wanted),
                "clean pictures in such a finding %": 100
                * len(found - partners - every)
                / (len(names) - len(every)),
            }
        )
    print(f"{len(names)} pictures in {seconds:.1f} s")
    return lines


def time_many(count: int) -> list[dict[str, object]]:
    """Made-up pictures: smooth patterns of 256 px, each of its own."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        for k in range(count):
            place = Path(name) / str(k % 1000)
            place.mkdir(exist_ok=True)
            small = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            large = cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC)
            (place / f"{k}.jpg").write_bytes(jpeg(large))
        started = time.perf_counter()
        audit = audit_data(["data=folder", f"data.root={name}"])
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [
        {
            "pictures": count,
            "seconds": seconds,
            "pictures a second": count / seconds,
            "GiB at most": peak,
            "findings": len(audit.found),
        }
    ]


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/audit.py")
    if arguments.speed:
        rows, title, name = time_many(arguments.speed), "time and memory", "audit_speed"
    else:
        rows, name = measure(arguments), f"audit_{arguments.data}"
        title = f"planted faults, data={arguments.data}"
    out = arguments.out or str(RESULTS / f"{name}.json")
    report("audit", rows, title, out, "opencv-python-headless", "pillow")


if __name__ == "__main__":
    guard(main)
