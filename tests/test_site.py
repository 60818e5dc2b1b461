"""The documentation site has every page and every public name. It is not built here: that is `make docs`."""

import ast
import importlib.util
import itertools
import re
from pathlib import Path

import pytest

import spikax as sx
from spikax import tasks


pytestmark = pytest.mark.modes("float32")  # the pages depend on no mode


ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))
MODULES = ("constraints", "datasets", "decode", "encode", "init", "losses", "nir", "plot", "silence", "train")


@pytest.fixture(scope="module")
def assemble():
    spec = importlib.util.spec_from_file_location("assemble", ROOT / "docs" / "assemble.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def defined(file):
    """The public names that a file defines, of functions, classes and values."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def exported(file):
    """The names that the table of contents of a package re-exports, `from ._file import name as name`."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.asname == alias.name)


def public_names():
    package = Path(sx.__file__).parent
    names = {f"spikax.{name}" for name in exported(package / "__init__.py")} - {f"spikax.{m}" for m in MODULES}
    for module in MODULES:
        folder = package / module
        found = exported(folder / "__init__.py") if folder.is_dir() else defined(package / f"{module}.py")
        # A name that is in `spikax` itself, such as `parameter`, is documented there.
        names |= {f"spikax.{module}.{name}" for name in found if not hasattr(sx, name)}
    return {name for name in names if not name.rpartition(".")[2].startswith("_")}


def values():
    """The docstrings of public values, below their definitions, by full name."""
    for file in ("constraints.py", "init.py", "plot/_style.py", "train/_objective.py"):
        module = re.split(r"[./]", file)[0]
        body = ast.parse((Path(sx.__file__).parent / file).read_text()).body
        for node, text in itertools.pairwise(body):
            is_value = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            if is_value and f"spikax.{module}.{node.targets[0].id}" in public_names():
                assert isinstance(text, ast.Expr), f"{node.targets[0].id} has no docstring"
                yield f"spikax.{module}.{node.targets[0].id}", text.value.value


def test_every_public_name_is_in_the_api_reference(assemble):
    assert len(public_names()) > 150
    assert public_names() <= assemble.documented()
    others = assemble.documented() - public_names()
    assert all(name.startswith("spikax.tasks.") and hasattr(tasks, name.rpartition(".")[2]) for name in others)


def test_values_have_the_text_of_their_docstrings():
    text = "\n".join(file.read_text() for file in (ROOT / "docs" / "api").glob("*.md"))
    assert len(dict(values())) == 6
    for name, docstring in values():
        entry = text.partition(f"{{ #{name} ")[2].partition("\n##")[0]
        assert docstring in entry, f"{name}: {docstring}"


def test_all_results_are_in_the_reference():
    for name in sx.RESULTS._name_to_item:
        assert f"- `{name}`: " in sx.RESULTS.__doc__
    table = (ROOT / "docs" / "reliability.md").read_text()
    assert all(f"| `{name}` |" in table for name in sx.RESULTS._name_to_item if name != "successful")


def test_every_name_of_the_api_reference_is_reachable_from_its_index(assemble):
    index = (ROOT / "docs" / "api" / "index.md").read_text()
    assert set(re.findall(r"\]\[(spikax[\w.]*)\]", index)) == assemble.documented()


def test_references_in_docstrings_are_to_documented_names(assemble):
    found = set()
    for file in Path(sx.__file__).parent.rglob("*.py"):
        found |= set(re.findall(r"\[`(spikax[\w.]*)`\]\[\]", file.read_text()))
    assert found and found <= assemble.documented()


def test_every_page_is_in_the_navigation(assemble):
    listed = set(re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {assemble.page_of(path) for path in assemble.sources()}
    assert listed == {page for page in pages if page.endswith(".md")}


def test_links_between_pages_hold(assemble):
    """Those in tutorials too, whose text is in comments."""
    for path in assemble.sources():
        if path.endswith(".md"):
            assemble.rewritten((ROOT / path).read_text(), path, assemble.documented())
    for file in TUTORIALS:
        text = "\n".join(re.findall(r"^# ?(.*)$", file.read_text(), re.MULTILINE))
        assemble.rewritten(text, file.relative_to(ROOT).as_posix(), assemble.documented())
    with pytest.raises(ValueError, match="no page"):
        assemble.rewritten("[nowhere](nowhere.md)", "docs/data.md", set())


def test_links_and_names_are_rewritten(assemble):
    names = {"spikax.LIF", "spikax.encode.drop", "spikax.load"}
    text = "# `sx.LIF`\n[a](../examples/convolution.py#b), `LIF`, `sx.encode.drop()`, `load`, `x`\n```\n`sx.LIF`\n```\n"
    assert assemble.rewritten(text, "docs/data.md", names) == (
        "# `sx.LIF`\n[a](examples/convolution.md#b), [`LIF`][spikax.LIF], "
        "[`sx.encode.drop()`][spikax.encode.drop], `load`, `x`\n```\n`sx.LIF`\n```\n"
    )
    moved = assemble.rewritten("[a](docs/data.md) [b](CHANGELOG.md)", "README.md", set())
    assert moved == "[a](data.md) [b](changelog.md)"
    titled = assemble.rewritten("[docs/units.md](docs/units.md#b) [b/](benchmarks/README.md)", "README.md", names)
    assert titled == "[Units](units.md#b) [Benchmarks](benchmarks.md)"
    assert assemble.rewritten("`LIF`, `sx.LIF`", "docs/nir.md", names) == "`LIF`, [`sx.LIF`][spikax.LIF]"
    moved = assemble.rewritten("[a](../data.md) [b](yin_yang.py)", "docs/tutorials/getting_started.py", set())
    assert moved == "[a](data.md) [b](tutorials/yin-yang.md)"


@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
def test_tutorials_are_scripts_of_cells(file):
    """They begin with a title, compile, and hold no output."""
    source = file.read_text()
    compile(source, file.name, "exec")
    assert source.startswith("# %% [markdown]\n# # ")


def test_nothing_is_fetched_when_the_site_is_viewed():
    config = (ROOT / "mkdocs.yml").read_text()
    assert "http" not in config and "font: false" in config
    for name in ("site.css", "math.js"):
        assert "http" not in (ROOT / "docs" / "assets" / name).read_text()
