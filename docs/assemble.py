"""Assembles the pages of the documentation site in build/docs, from which MkDocs builds the site: `make docs`.

The pages are those of docs/, the README, the changelog and the pages of benchmarks/, and one for each example. The
tutorials are executed, several at a time with `--jobs`; a tutorial is executed again only if it, spikax, or a library
has changed since. Links between files of the repository become links between pages, and names in code, such as
`sx.LIF` or `LIF`, become links to the API reference.

    python docs/assemble.py
"""

import argparse
import ast
import hashlib
import importlib.metadata
import os
import posixpath
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


ROOT = Path(__file__).parent.parent
OUT, EXECUTED = ROOT / "build" / "docs", ROOT / "build" / "executed"

# Files outside of docs/, and the pages that they become.
MOVED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/RESULTS.md": "results.md",
    "benchmarks/yin-yang-delays.md": "results-yin-yang-delays.md",
    "benchmarks/yin-yang-eif.md": "results-yin-yang-eif.md",
    "benchmarks/close-inputs.png": "images/close-inputs.png",
    "benchmarks/scaling.png": "images/scaling.png",
}
# Scripts that build the site.
TOOLS = {"docs/assemble.py", "docs/without_init.py"}
# Tutorials that are a page of their own in the navigation.
TUTORIALS = {"docs/tutorials/getting_started.py": "getting-started.md"}
# What the output of a tutorial depends on, beside the tutorial and spikax.
LIBRARIES = ("jax", "equinox", "diffrax", "optax", "numpy", "matplotlib", "jupytext", "nbconvert")

FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
NAME = re.compile(r"(?<!\[)`(?P<prefix>sx\.)?(?P<name>\w+(?:\.\w+)*)(?:\(\))?`(?!\])")
MEMBERS = re.compile(r"^::: (spikax[\w.]*)\n    options:\n      members: \[(.*)\]$", re.MULTILINE)
DIRECTIVE = re.compile(r"^(?:::: |###.*\{ #)(spikax[\w.]*)", re.MULTILINE)


def page_of(path: str) -> str | None:
    """The place in the site of a file of the repository; None if it has none."""
    if path in MOVED | TUTORIALS:
        return (MOVED | TUTORIALS)[path]
    folder, name = posixpath.split(path)
    stem, extension = posixpath.splitext(name)
    if folder == "docs/tutorials" and extension == ".py":
        return f"tutorials/{stem.replace('_', '-')}.md"
    if folder == "examples" and extension == ".py":
        return f"examples/{stem}.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def sources() -> list[str]:
    """All files of the repository that have a place in the site."""
    files = [*MOVED, *(f"examples/{path.name}" for path in sorted((ROOT / "examples").glob("*.py")))]
    for path in sorted((ROOT / "docs").rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        is_tool = name in TOOLS or name.startswith("docs/figures/") or "__pycache__" in name
        if path.is_file() and not is_tool:
            files.append(name)
    return files


def documented() -> set[str]:
    """The full names in the API reference."""
    pages = (ROOT / "docs" / "api").glob("*.md")
    return {name for page in pages for name in DIRECTIVE.findall(page.read_text())}


def methods() -> set[str]:
    """The full names of the methods and properties in the API reference."""
    pages = (ROOT / "docs" / "api").glob("*.md")
    found = [match for page in pages for match in MEMBERS.findall(page.read_text())]
    return {f"{name}.{member}" for name, members in found for member in members.split(", ")}


def title_of(path: str) -> str:
    """The first heading of a Markdown file."""
    return re.search(r"^# (.+)$", (ROOT / path).read_text(), re.MULTILINE)[1]


def rewritten(text: str, path: str, names: set[str]) -> str:
    """The text of a page, read from `path`, with links that hold in the site. Raises for a link to no page."""
    page, folder = page_of(path), posixpath.dirname(path)

    def link(match: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(folder, match["path"]))
        place = page_of(target)
        if place is None or not (ROOT / target).is_file():
            raise ValueError(f"{path}: the link to {match['path']} is to no page of the site.")
        relative = posixpath.relpath(place, posixpath.dirname(page))
        # A text that is a path, for readers of the repository, becomes the title of the page.
        is_path = place.endswith(".md") and match["text"].strip("[]").endswith((".md", "/"))
        text = f"[{title_of(target)}]" if is_path else match["text"]
        return f"{text}({relative}{match['anchor'] or ''})"

    def name(match: re.Match) -> str:
        full = f"spikax.{match['name']}"
        # Without `sx.`, only `LIF` or `losses.van_rossum`; and not where classes of other libraries are named.
        is_clear = match["name"][0].isupper() or "." in match["name"]
        is_meant = match["prefix"] or (is_clear and folder != "docs/tutorials" and path != "docs/nir.md")
        return f"[{match[0]}][{full}]" if full in names and is_meant else match[0]

    def prose(part: str) -> str:
        lines = LINK.sub(link, part).split("\n")
        # Not in headings, and not in code that is marked by its indentation.
        return "\n".join(line if line.startswith(("#", "    ")) else NAME.sub(name, line) for line in lines)

    return outside_fences(text, prose)


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """The text, changed everywhere but in fenced code."""
    parts, start = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[start : fence.start()]), fence[0]]
        start = fence.end()
    return "".join([*parts, change(text[start:])])


def example(path: str) -> str:
    """The page of an example: its docstring, and the whole script."""
    source = (ROOT / path).read_text()
    title, _, story = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
    return f"# {title.rstrip('.')}\n{story}\n\n## The script\n\n`{path}`\n\n```python\n{source}```\n"


def key_of(path: Path) -> str:
    """A digest of everything that the output of a tutorial depends on."""
    digest = hashlib.sha256(sys.version.encode())
    for file in (path, *sorted((ROOT / "spikax").rglob("*.py"))):
        digest.update(file.read_bytes())
    for library in LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}".encode())
    return digest.hexdigest()[:16]


def executed(path: Path) -> Any:
    """The notebook of a tutorial, with its output. Raises if a cell does."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    cached = EXECUTED / f"{path.stem}-{key_of(path)}.ipynb"
    if cached.exists():
        return nbformat.read(cached, as_version=4)
    print(f"executing {path.relative_to(ROOT)}", flush=True)
    notebook = jupytext.read(path, fmt="py:percent")
    with tempfile.TemporaryDirectory() as directory:
        options = {"timeout": 900, "kernel_name": "python3", "extra_arguments": ["--log-level=ERROR"]}
        NotebookClient(notebook, resources={"metadata": {"path": directory}}, **options).execute()
    EXECUTED.mkdir(parents=True, exist_ok=True)
    for old in EXECUTED.glob(f"{path.stem}-*.ipynb"):
        old.unlink()
    nbformat.write(notebook, cached)
    return notebook


def tutorial(path: str, names: set[str], execute: bool) -> tuple[str, dict[str, bytes]]:
    """The page of a tutorial, and its figures by name."""
    import jupytext
    from nbconvert import MarkdownExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    notebook = executed(ROOT / path) if execute else jupytext.read(ROOT / path, fmt="py:percent")
    notebook.metadata["language_info"] = {"name": "python"}  # of the fences around its code
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = rewritten(cell.source, path, names)
        elif execute:
            # The value of a cell is shown if it is a table. All others, such as axes, would be noise.
            cell.outputs = [
                out for out in cell.outputs if out.output_type != "execute_result" or "text/html" in out.data
            ]
    stem = posixpath.splitext(posixpath.basename(page_of(path)))[0]
    resources = {"unique_key": stem, "output_files_dir": f"{stem}-figures"}
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    body, resources = MarkdownExporter().from_notebook_node(notebook, resources)
    script = posixpath.basename(path)
    source = f"This page is the script [`{script}`]({script}), which is executed whenever the site is built."
    return f"{body.strip()}\n\n---\n\n{source}\n", resources["outputs"]


def write(place: str, content: str | bytes) -> None:
    file = OUT / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def main() -> None:
    parser = argparse.ArgumentParser(description="Assembles the pages of the documentation site in build/docs.")
    parser.add_argument("--jobs", type=int, default=2, help="the number of tutorials that are executed at a time")
    parser.add_argument("--no-execution", action="store_true", help="show the tutorials without their output")
    options = parser.parse_args()

    # Most of the time goes into compilations. These settings halve it, and the programs are about as fast.
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    shutil.rmtree(OUT, ignore_errors=True)
    files, names = sources(), documented() | methods()
    scripts = [path for path in files if path.startswith("docs/tutorials/") and path.endswith(".py")]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda path: tutorial(path, names, not options.no_execution), scripts))
    for path, (text, figures) in zip(scripts, results, strict=True):
        write(page_of(path), text)
        write(posixpath.join(posixpath.dirname(page_of(path)), posixpath.basename(path)), (ROOT / path).read_bytes())
        for figure, content in figures.items():
            write(posixpath.join(posixpath.dirname(page_of(path)), figure), content)
    for path in files:
        if path.startswith("examples/"):
            write(page_of(path), rewritten(example(path), path, names))
        elif path.endswith(".md"):
            write(page_of(path), rewritten((ROOT / path).read_text(), path, names))
        elif path not in scripts:
            write(page_of(path), (ROOT / path).read_bytes())


if __name__ == "__main__":
    main()
