"""Hashes of weights and predictions of tiny runs, to show that a change moves no number.

    python benchmarks/same_numbers.py out=before.json                       # before the change
    python benchmarks/same_numbers.py out=after.json against=before.json    # after it

trains tiny networks of every task, with SAM, with averaged weights, in two ranks and from shards,
and compares the hashes with those of an earlier call. Hashes hold for one machine and one set of
package versions. Takes about two minutes on a CPU core. ``--help`` lists the settings.
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.core.files import write_text_whole
from product_cls.runs.folder import RunFolder

ROOT = Path(__file__).parents[1]
PRODUCTS = ("data.products=4", "data.rolls=3", "data.render_size=32")
TINY = (
    "data.size=32",
    "data.batch_size=8",
    "model=tiny",
    "mix.p=1",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "folds.n_splits=2",
)
RETRIEVAL = ("task=retrieval", "model.pooling=gem", "task.embedding=16")
HEADS = ("task=multi_head", "task.heads=[shape,flavour]")
LETTERS = ("data=letters", "data.pictures=40", "data.test_pictures=12", "data.render_size=32")
RANKS = ("trainer=ddp", "trainer.devices=2")
RUNS: dict[str, tuple[str, ...]] = {
    "single_label": PRODUCTS,
    "retrieval": (*PRODUCTS, *RETRIEVAL),
    "multi_head": (*PRODUCTS, *HEADS),
    "multi_label": (*LETTERS, "task=multi_label", "loss=bce"),
    "sam": (*PRODUCTS, "optimizer=sam"),
    "ema": (*PRODUCTS, "callbacks=ema"),
    "ranks": (*PRODUCTS, *RANKS),
}


@dataclass
class Arguments:
    """Record hashes of tiny runs, and compare them with an earlier record.

    out: JSON file to write.
    against: an earlier record; exit status 1 if a hash differs from it.
    """

    out: str = MISSING
    against: str | None = None


def execute(folder: Path, *words: str) -> None:
    """Run one of our commands in ``folder``, on one thread.

    Raises:
        UserError: the command failed; the sentence ends with its output.
    """
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise UserError(f"{' '.join(words)} failed: {(ended.stdout + ended.stderr)[-2000:]}")


def array_digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of named arrays: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def hashes(run: RunFolder) -> dict[str, str]:
    """SHA-256 of a run's last weights and of the arrays in each of its predictions files."""
    checkpoint = torch.load(run.last_checkpoint, map_location="cpu", weights_only=True)
    weights = {name: tensor.numpy() for name, tensor in checkpoint["state_dict"].items()}
    result = {"weights": array_digest(weights)}
    for file in sorted((run.path / "predictions").glob("*.npz")):
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files if name not in ("path", "task")}
        result[file.name] = array_digest(arrays)
    return result


def record(folder: Path) -> dict[str, dict[str, str]]:
    """Train all runs in ``folder``; hashes of each by name."""
    shards = folder / "shards"
    execute(folder, "-m", "product_cls.stream", f"out={shards}", "shard=30", *PRODUCTS)
    runs = RUNS | {"streaming": ("data=streaming", f"data.root={shards}")}
    found = {}
    for name, words in runs.items():
        run = RunFolder(folder / "runs" / name)
        execute(folder, str(ROOT / "train.py"), *words, *TINY, f"hydra.run.dir={run.path}")
        found[name] = hashes(run)
        print(f"{name}: {found[name]['weights'][:16]}")
    return found


def differences(earlier: dict[str, dict[str, str]], now: dict[str, dict[str, str]]) -> list[str]:
    """``RUN: FILE`` for each hash that is not the same in both records."""
    return [
        f"{run}: {file}"
        for run in {**earlier, **now}
        for file in {**earlier.get(run, {}), **now.get(run, {})}
        if earlier.get(run, {}).get(file) != now.get(run, {}).get(file)
    ]


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/same_numbers.py")
    earlier = None
    if arguments.against is not None:
        try:
            earlier = json.loads(Path(arguments.against).read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"against={arguments.against} cannot be read: {error}.") from None
    with TemporaryDirectory(prefix="product_cls-same_numbers-") as folder:
        now = record(Path(folder))
    write_text_whole(Path(arguments.out), json.dumps(now, indent=2) + "\n")
    if earlier is None:
        return
    if changed := differences(earlier, now):
        print(f"Changed: {', '.join(changed)}.", file=sys.stderr)
        raise SystemExit(1)
    print(f"All {len(now)} runs are the same to the bit.")


if __name__ == "__main__":
    guard(main)
