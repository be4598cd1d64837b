"""The console command ``product-cls NAME ARGUMENTS``.

Imports only the module of the named command, so that ``--help`` and errors appear at once.
"""

import importlib
import sys
from difflib import get_close_matches
from pathlib import Path

from product_cls.core.interrupts import interrupt_exits

# Name -> module with a function `main`, and one line for --help.
COMMANDS = {
    "train": ("product_cls.training.command", "train one network, or with -m a sweep"),
    "ensemble": ("product_cls.ensemble.__main__", "blend finished runs: table and submission"),
    "predict": ("product_cls.predict", "name the products in new pictures"),
    "quick": ("product_cls.quick", "a first answer about own pictures, within minutes"),
    "export": ("product_cls.export", "write a checkpoint as ONNX"),
    "weights": ("product_cls.weights", "fetch pretrained weights for machines without a network"),
    "check": ("product_cls.audit.__main__", "find broken, copied and contradictory pictures"),
    "stream": ("product_cls.stream", "write pictures into shards, for data=streaming"),
    "tune": ("product_cls.tune.__main__", "search hyper-parameters with Optuna"),
    "selftrain": (
        "product_cls.selftrain.__main__",
        "let finished runs teach their successors the unlabelled test pictures",
    ),
    "index": ("product_cls.retrieval.index.__main__", "embed pictures into a searchable index"),
    "search": ("product_cls.retrieval.search", "find the products of an index in pictures"),
    "report": ("product_cls.report.__main__", "statistics and pages of a sweep"),
    "report models": ("product_cls.report.models", "model sizes by folds, votes and TTA"),
    "report validation": ("product_cls.report.validation", "random folds against held-out views"),
    "report gallery": ("product_cls.report.gallery", "contact sheets of rendered products"),
    "report curve": ("product_cls.report.curve", "two settings against a third, as a plot"),
    "report plan": ("product_cls.report.plan", "seeds and minutes that an effect takes"),
    "report schedule": ("product_cls.report.schedule", "plots of learning-rate schedules"),
    "dashboard": ("product_cls.report.dashboard", "a W&B report of a project"),
    "sync": ("product_cls.tracking.sync", "upload offline W&B runs"),
    "render": ("product_cls.data.rendered.__main__", "write the rendered products as files"),
    "letters": ("product_cls.data.letters.__main__", "write the letter pictures as files"),
}


def main() -> None:
    """Run the command that the first arguments name, and exit with its status."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        raise SystemExit(0)
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("product-cls"))
        raise SystemExit(0)
    nested = " ".join(words[:2])
    name = nested if nested in COMMANDS else words[0]
    below = [command for command in COMMANDS if command.startswith(f"{name} ")]
    if below and name != nested and "=" not in nested and not words[1].startswith("-"):
        # Commands take key=value words and flags only, so this names a command below `report`.
        name = nested
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(COMMANDS)}."
        print(f"error: There is no command '{name}'; {hint}", file=sys.stderr)
        raise SystemExit(2)
    # As with `python -m`, so that `_target_` can name the user's own classes in this folder.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    # Usage messages show it, and sweeps start this command again for each job.
    sys.argv = [f"product-cls {name}", *words[len(name.split()) :]]
    with interrupt_exits():  # from the first imports on
        run = importlib.import_module(COMMANDS[name][0]).main
        if name == "train":  # a Hydra application, which reports mistakes itself
            run()
            return
        from product_cls.core.cli import guard

        guard(run)


def refuse_module_without_command() -> None:
    """End the process if Python was started with a module of this package that does nothing.

    Called while the package is imported, before Python looks for the module.

    Raises:
        SystemExit: 2.
    """
    started = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    package, _, name = started.partition(".")
    if package != __package__ or _is_program(name):
        return
    close = get_close_matches(name.replace(".", " "), COMMANDS, n=1)
    hint = f"did you mean `python -m {package} {close[0]}`?" if close else ""
    print(
        f"error: `python -m {started}` is no command; "
        f"{hint or f'`python -m {package} --help` lists them.'}",
        file=sys.stderr,
    )
    raise SystemExit(2)


def _is_program(name: str) -> bool:
    """Whether a module of this package has a part for `python -m`."""
    path = Path(__file__).parent.joinpath(*name.split("."))
    file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    try:
        return file.name == "__main__.py" or 'if __name__ == "__main__":' in file.read_text("utf-8")
    except OSError:
        return False


def usage() -> str:
    """The text of ``product-cls --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "product-cls COMMAND key=value ...",
            "",
            "Train, compare and combine image classifiers for retail products.",
            "",
            *lines,
            "",
            "`product-cls COMMAND --help` explains a command. To add your own config groups, set",
            "the environment variable PRODUCT_CLS_CONF=FOLDER, or use train --config-dir=FOLDER.",
        ]
    )


if __name__ == "__main__":
    main()
