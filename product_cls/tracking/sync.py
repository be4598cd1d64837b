"""What W&B has not got yet, sent: runs that were offline, and what a failing network kept back.

python -m product_cls.tracking.sync runs=multirun
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.runs.folder import RunFolder


def unsent(root: Path) -> tuple[list[Path], list[str]]:
    """Files of runs that W&B has not got.

    Returns:
        The files and sentences about those that are left for later.

    Raises:
        UserError: no such folder.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}.")
    files, later = [], []
    for file in root.rglob("wandb/*run-*/run-*.wandb"):
        if file.with_name(f"{file.name}.synced").is_file():
            continue
        owner = file.parents[2]
        try:
            if (owner / ".lock").is_file():
                with RunFolder(owner).locked():
                    pass
        except UserError:
            later.append(f"{owner} is being trained, and sent when it is done")
            continue
        files.append(file)
    return sorted(files), sorted(set(later))


@dataclass
class Arguments:
    """Send to W&B what runs have kept; needs a key (`wandb login`, or WANDB_API_KEY).

    runs: a folder with runs below it.
    """

    runs: str = "multirun"


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.tracking.sync")
    files, later = unsent(Path(arguments.runs))
    for sentence in later:
        print(f"LATER: {sentence}.")
    if not files:
        print(f"Nothing in {arguments.runs} waits to be sent to W&B.")
        return
    # W&B sends the parts of an interrupted run one after another, by their time. Files begun online
    # are here only where their end was not sent.
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", *map(str, files)]
    subprocess.run(command, check=False)
    if missing := [file for file in files if not file.with_name(f"{file.name}.synced").is_file()]:
        raise UserError(f"{len(missing)} of {len(files)} were not sent; the lines above say why.")


if __name__ == "__main__":
    guard(main)
