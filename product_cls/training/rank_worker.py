"""One rank of a run on several devices, as ``ranks.py`` starts it; not a command for people.

Its two words are the folder with its orders, where it leaves why it ended, and its parent's number.
"""

import gc
import json
import logging
import os
import re
import signal
import sys
import time
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from product_cls.core.child_processes import prepare_child
from product_cls.core.files import write_text_whole
from product_cls.runs.folder import RunFolder

# What gloo and NCCL say when another rank is gone.
LOST = re.compile(r"gloo|NCCL|[Cc]onnection (closed|reset)|Broken pipe")


def main() -> None:
    place, parent, rank = Path(sys.argv[1]), int(sys.argv[2]), int(os.environ["RANK"])
    prepare_child(parent)()
    # Ctrl-C reaches all processes of a terminal; the parent says what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        train(json.loads((place / "orders.json").read_text()), rank)
    except BaseException as error:
        leave(place, rank, error)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        # An orderly exit would wait for ranks that wait for this one.
        os._exit(1)


def train(orders: dict[str, Any], rank: int) -> None:
    """Build the run's parts again and train on this rank's share."""
    import torch.distributed
    from omegaconf import DictConfig, OmegaConf

    from product_cls.tracking.trackers import closing_trackers
    from product_cls.training.build import assemble_run, assemble_samples
    from product_cls.training.run import fit, quiet_libraries

    gc.freeze()  # as train.py does
    folder = RunFolder(Path(orders["folder"]))
    log_as(folder, rank)
    quiet_libraries()
    config = OmegaConf.create(orders["config"])
    assert isinstance(config, DictConfig)
    samples, task, folds = assemble_samples(config)
    module, data = assemble_run(config, samples, task, folds, orders["first_epoch"], rank=rank)
    with closing_trackers():
        fit(config, folder, module, data, orders["resume"])
    if torch.distributed.is_initialized():  # early stopping may have ended training before
        torch.distributed.destroy_process_group()


def log_as(folder: RunFolder, rank: int) -> None:
    """The first rank continues the run's log; of others only errors are shown."""
    form = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"  # Hydra's
    if rank == 0:
        handlers: list[logging.Handler] = [
            logging.StreamHandler(sys.stdout),
            logging.FileHandler(folder.log_file),
        ]
        logging.basicConfig(level=logging.INFO, format=form, handlers=handlers)
        # What it says of data and network the parent has said.
        logging.getLogger("product_cls.training.build").setLevel(logging.ERROR)
    else:
        logging.basicConfig(level=logging.ERROR, format=f"[rank {rank}]{form}")
        warnings.simplefilter("ignore")


def leave(place: Path, rank: int, error: BaseException) -> None:
    """Write why this rank ends, and show where, unless it was told to or a sentence says it all."""
    import torch
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    from product_cls.core.errors import UserError
    from product_cls.distributed.launch import Cause

    line = f"{type(error).__name__}: {error}".splitlines()[0]
    lost = isinstance(error, torch.distributed.DistError) or LOST.search(str(error)) is not None
    kind, text = "other", f"failed: {line}"
    if isinstance(error, UserError):
        kind, text = "user", str(error)
    elif isinstance(error, torch.OutOfMemoryError):
        kind, text = "memory", str(error)
    cause = Cause(rank, kind, text, lost, time.time())
    write_text_whole(place / f"cause-{rank}.json", json.dumps(asdict(cause)))
    told_to = isinstance(error, SIGTERMException | KeyboardInterrupt)  # `fit` raises the latter
    if kind == "other" and not told_to:
        shown = line if lost else "".join(traceback.format_exception(error))
        print(f"[rank {rank}] {shown}", file=sys.stderr)


if __name__ == "__main__":
    main()
