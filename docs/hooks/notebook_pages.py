"""MkDocs hook: shows notebooks as pages, with the outputs that they were saved with.

A link to ``NAME.ipynb`` works on GitHub; on the site it leads to the page of the notebook.
"""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

IMAGES = ("image/png", "image/jpeg")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace each notebook by a generated Markdown page."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        notebook = json.loads(Path(str(file.abs_src_path)).read_text())
        text = "\n\n".join(part for cell in notebook["cells"] for part in cell_parts(cell))
        files.remove(file)
        files.append(File.generated(config, _page(file.src_uri), content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks lead to their pages."""
    return re.sub(r"\]\(([^)]+\.ipynb)\)", lambda match: f"]({_page(match[1])})", markdown)


def cell_parts(cell: dict[str, Any]) -> list[str]:
    """Markdown of a cell: its text, or its code and the outputs."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    return [f"```python\n{source}\n```", *map(output_part, cell["outputs"])]


def output_part(output: dict[str, Any]) -> str:
    """Markdown of an output: a picture, a table, or text."""
    data = output.get("data", {})
    for kind in IMAGES:
        if kind in data:
            return f'<img alt="output" src="data:{kind};base64,{"".join(data[kind]).strip()}">'
    if "text/html" in data:
        return re.sub(r"<style.*?</style>\n?", "", "".join(data["text/html"]), flags=re.DOTALL)
    text = "".join(output.get("text") or data.get("text/plain", ""))
    return f"```text\n{text.rstrip()}\n```"


def _page(name: str) -> str:
    return name.removesuffix(".ipynb") + ".md"
