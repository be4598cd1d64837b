"""One rank of a run on several devices; ``distributed.launch`` starts it, not a user.

Arguments: the folder that holds ``orders.json``, in which a failing rank leaves its cause, and the
process ID of the parent.
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
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from product_cls.core.child_processes import prepare_child
from product_cls.core.files import storage_sentence, write_text_whole
from product_cls.runs.folder import RunFolder

# Messages of gloo and NCCL when another rank is gone.
LOST = re.compile(r"gloo|NCCL|[Cc]onnection (closed|reset)|Broken pipe")


def main() -> None:
    folder, parent, rank = Path(sys.argv[1]), int(sys.argv[2]), int(os.environ["RANK"])
    prepare_child(parent)()
    # Ctrl-C reaches all processes of a terminal; the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        train(json.loads((folder / "orders.json").read_text()), rank)
    except BaseException as error:
        report_failure(folder, rank, error)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        # An orderly exit would wait for ranks that wait for this one.
        os._exit(1)


def train(orders: dict[str, Any], rank: int) -> None:
    """Rebuild the run's plan and train on this rank's share of the pictures."""
    import torch.distributed

    from product_cls.tracking.trackers import closing_trackers
    from product_cls.training.build import build_parts
    from product_cls.training.fit import build_trainer, fit_here
    from product_cls.training.plan import plan_from_orders
    from product_cls.training.run import quiet_libraries

    gc.freeze()  # as train.py does
    folder = RunFolder(Path(orders["folder"]))
    configure_logging(folder, rank)
    quiet_libraries()
    plan = plan_from_orders(orders)
    module, data = build_parts(plan, rank=rank)
    with closing_trackers():
        fit_here(plan, folder, module, data, build_trainer(plan, folder, module, data))
    if torch.distributed.is_initialized():  # it is not if early stopping had already ended training
        torch.distributed.destroy_process_group()


def configure_logging(folder: RunFolder, rank: int) -> None:
    """Rank 0 continues the run's log; the other ranks show errors only."""
    form = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"  # Hydra's
    if rank == 0:
        handlers: list[logging.Handler] = [
            logging.StreamHandler(sys.stdout),
            logging.FileHandler(folder.log_file),
        ]
        logging.basicConfig(level=logging.INFO, format=form, handlers=handlers)
        # The parent has already logged the messages of these modules.
        for module in ("build", "data_source"):
            logging.getLogger(f"product_cls.training.{module}").setLevel(logging.ERROR)
    else:
        logging.basicConfig(level=logging.ERROR, format=f"[rank {rank}]{form}")
        warnings.simplefilter("ignore")


def report_failure(folder: Path, rank: int, error: BaseException) -> None:
    """Write why this rank failed to ``cause-RANK.json``.

    The traceback of an unexpected error goes to the run's log file; a stop signal, or an error that
    one sentence explains, has none.

    Args:
        folder: inside the run's folder, made by the parent.
        rank: number of this rank.
        error: what ended it.
    """
    import torch
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    from product_cls.core.errors import UserError
    from product_cls.distributed.launch import Cause

    line = f"{type(error).__name__}: {error}".splitlines()[0]
    lost = isinstance(error, torch.distributed.DistError) or LOST.search(str(error)) is not None
    kind, text = "other", f"failed: {line}"
    if isinstance(error, UserError):
        kind, text = "user", str(error)
    elif isinstance(error, OSError) and (sentence := storage_sentence(error)):
        kind, text = "user", sentence
    elif isinstance(error, torch.OutOfMemoryError):
        kind, text = "memory", str(error)
    cause = Cause(rank, kind, text, lost, time.time())
    write_text_whole(folder / f"cause-{rank}.json", json.dumps(asdict(cause)))
    # `fit_here` raises KeyboardInterrupt.
    stopped = isinstance(error, SIGTERMException | KeyboardInterrupt)
    if kind == "other" and not stopped:
        print(f"[rank {rank}] {line}", file=sys.stderr)
        if not lost:
            trace = "".join(traceback.format_exception(error))
            with suppress(OSError), RunFolder(folder.parent).log_file.open("a") as log:
                log.write(f"[rank {rank}] {trace}")


if __name__ == "__main__":
    main()
