"""The pages do not rot: commands are valid, links lead somewhere, the site builds."""

import importlib
import re
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
import yaml
from doc_blocks import PAGES, ROOT, Command, anchors, blocks, commands, links
from hydra.core.override_parser.overrides_parser import OverridesParser

from product_cls.__main__ import COMMANDS
from product_cls.config import checks
from product_cls.config.compose import compose_config
from product_cls.core.cli import parse_arguments

# Commands of others, which the pages use beside ours.
OTHERS = {"cd", "cp", "awk", "git", "mkdir", "source", "pre-commit", "pip", "ruff", "sha256sum"}
FLAGS = {"-m", "--multirun", "--help"}  # of `train`, beside settings
BY_MODULE = {module.removesuffix(".__main__"): name for name, (module, _) in COMMANDS.items()} | {
    "product_cls.search": "tune"
}


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``my_conf`` that the page about configuration describes, as its blocks say."""
    folder = tmp_path_factory.mktemp("own")
    for _, text in blocks(ROOT / "docs" / "guides" / "configuration.md", "yaml"):
        if name := re.search(r"^# (my_conf/[\w/]+\.yaml)", text, re.MULTILINE):
            file = folder / name[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return folder


def pages_with_commands() -> list[Path]:
    return [page for page in PAGES if commands(page)]


@pytest.mark.parametrize("page", pages_with_commands(), ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_are_valid(page: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings compose, other words parse, targets and extras exist."""
    monkeypatch.chdir(own_folder)
    for command in commands(page):
        try:
            check(command, monkeypatch)
        except Exception as error:
            error.add_note(f"in {command.place}: {' '.join(command.words)}")
            raise


def check(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check one command without running it.

    Raises:
        AssertionError, ValueError: it is not valid.
    """
    program, *words = command.words
    if program == "product-cls":
        nested = " ".join(words[:2])
        name = nested if nested in COMMANDS else words[0]
        if name != "--help":
            check_ours(name, words[len(name.split()) :], command.variables)
    elif program == "python" and words[0] == "train.py":
        check_ours("train", words[1:], command.variables)
    elif program == "python" and words[0] == "-m":
        check_ours(BY_MODULE[words[1]], words[2:], command.variables)
    elif program == "python":
        check_benchmark(words)
    elif program == "make":
        check_make(words)
    elif program == "pip":
        check_extras(words)
    elif program == "tests/helpers/one_node_slurm.sh":
        assert (ROOT / program).is_file()
        check(Command(command.place, tuple(words[1:])), monkeypatch)
    else:
        assert program in OTHERS or (ROOT / program).exists(), program


def check_ours(name: str, words: list[str], variables: tuple[str, ...]) -> None:
    if name == "train":
        check_settings(words, variables)
        return
    if not words or "--help" in words:  # the text names the command alone
        return
    if name == "weights":
        assert words[0] == "fetch"
        words = words[2:]
    arguments = importlib.import_module(COMMANDS[name][0]).Arguments
    own = words
    if name in ("tune", "stream", "quick", "check"):  # the other words are settings of train
        keys = {field.name for field in fields(arguments)}
        own = [word for word in words if word.partition("=")[0] in keys]
        check_settings([word for word in words if word not in own], ())
    parse_arguments(arguments, own, prog=name)


def check_settings(words: list[str], variables: tuple[str, ...]) -> None:
    """Compose the last job of a sweep; of one over options of a group, the first, too."""
    settings = [word for word in words if word not in FLAGS]
    if "--cfg" in settings:
        at = settings.index("--cfg")
        assert settings[at + 1] == "job"
        del settings[at : at + 2]
    own = []
    if "--config-dir" in settings:
        at = settings.index("--config-dir")
        own = settings[at : at + 2]
        del settings[at : at + 2]
    overrides = OverridesParser.create().parse_overrides(settings)
    sweeps = any(override.is_sweep_override() for override in overrides)
    assert not sweeps or "-m" in words or "sweep=" in " ".join(words)
    groups = [o for o in overrides if (ROOT / "conf" / o.get_key_element()).is_dir()]
    ends = (0, -1) if any(override.is_sweep_override() for override in groups) else (-1,)
    jobs = {
        tuple(
            f"{override.get_key_element()}={list(override.sweep_string_iterator())[end]}"
            if override.is_sweep_override()
            else str(override.input_line)
            for override in overrides
        )
        for end in ends
    }
    with pytest.MonkeyPatch.context() as patch:
        for variable in variables:
            patch.setenv(*variable.split("=", 1))
        for job in jobs:
            check_composed(*own, *job)


@cache
def check_composed(*settings: str) -> None:
    checks.check_settings(compose_config(settings))  # whatever devices this machine has


def check_benchmark(words: list[str]) -> None:
    """The script is there, and has a field for each key. Scripts elsewhere are not ours."""
    script, *rest = words
    if script.startswith(".."):
        return
    source = (ROOT / script).read_text()
    for word in rest:
        assert re.search(rf"^    {word.partition('=')[0]}: ", source, re.MULTILINE), word


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, is_variable, _ = word.partition("=")
        pattern = rf"^{name} [?:]?=" if is_variable else rf"^{name}:.*##"
        assert re.search(pattern, makefile, re.MULTILINE), word


def check_extras(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in re.findall(r"(?:product-cls|\.)\[([\w,]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= set(project["optional-dependencies"]), extra


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_pages_that_code_and_settings_name_exist() -> None:
    files = [
        file
        for folder, pattern in (
            ("product_cls", "*.py"),
            ("conf", "*.yaml"),
            ("benchmarks", "*.py"),
            ("tests", "*.py"),
        )
        for file in (ROOT / folder).rglob(pattern)
    ]
    missing = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text())
        if not (ROOT / name).is_file()
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_pages_name_exist(page: Path) -> None:
    """Paths in backticks, from the repository or, as in the architecture page, from the package."""
    names = re.findall(r"`([\w/]+/[\w/]+\.(?:py|yaml|sh|json|toml))`", page.read_text())
    for name in names:
        if not {"my_conf", "NAME"} & set(re.split(r"[/.]", name)):
            assert (ROOT / name).is_file() or (ROOT / "product_cls" / name).is_file(), name


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    docs = ROOT / "docs"
    pages = {file.relative_to(docs).as_posix() for file in docs.rglob("*.md")}
    pages |= {f"notebooks/{file.stem}.md" for file in (docs / "notebooks").glob("*.ipynb")}
    assert set(re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE)) == pages


def test_the_site_builds(tmp_path: Path) -> None:
    """``make docs``: every warning is an error, and nothing is loaded from other sites."""
    for module in ("material", "mkdocstrings"):
        pytest.importorskip(module)
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path))
    build(config)
    for page in ("index", "guides/data/index", "notebooks/first_shop/index", "reference/api/index"):
        html = (tmp_path / f"{page}.html").read_text()
        assert not re.findall(r'(?:<script[^>]*src|<link[^>]*stylesheet[^>]*href)="https?://', html)
    assert 'id="product_cls.api.train"' in html  # from its docstring


def test_the_changelog_tells_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_hooks_and_workflow_parse() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {hook["id"] for repo in hooks["repos"] for hook in repo["hooks"]} >= {
        "ruff",
        "ruff-format",
        "mypy",
        "lint-imports",
    }
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for target in [word for step in steps for word in step.get("run", "").split() if step]:
        if target in ("lint", "test"):
            check_make([target])
