"""Sync runs to W&B that were offline or lost the network.

python -m product_cls.tracking.sync runs=multirun
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.runs.folder import RunFolder


def unsynced(root: Path) -> tuple[list[Path], list[str]]:
    """Files of W&B runs below ``root`` that are not synced.

    Returns:
        The files, and a sentence about each run that is still training, without a full stop.

    Raises:
        UserError: no such folder.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}.")
    files, training = [], []
    for file in root.rglob("wandb/*run-*/run-*.wandb"):
        if file.with_name(f"{file.name}.synced").is_file():
            continue
        owner = file.parents[2]
        try:
            if (owner / ".lock").is_file():
                with RunFolder(owner).locked():
                    pass
        except UserError:
            training.append(f"{owner} is still training; sync it when it has finished")
            continue
        files.append(file)
    return sorted(files), sorted(set(training))


@dataclass
class Arguments:
    """Sync runs to W&B that were offline or lost the network. Needs a key (`wandb login`, or
    WANDB_API_KEY).

    runs: a folder with runs below it.
    """

    runs: str = "multirun"


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.tracking.sync")
    files, training = unsynced(Path(arguments.runs))
    for sentence in training:
        print(f"LATER: {sentence}.")
    if not files:
        print(f"Nothing to sync to W&B in {arguments.runs}.")
        return
    # W&B syncs the parts of an interrupted run in order of time. --include-online covers runs that
    # began online; `unsynced` lists them only if their end was not sent.
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", *map(str, files)]
    subprocess.run(command, check=False)
    if missing := [file for file in files if not file.with_name(f"{file.name}.synced").is_file()]:
        raise UserError(
            f"{len(missing)} of {len(files)} files were not synced; see the lines above."
        )


if __name__ == "__main__":
    guard(main)
