"""Imports point one way, and keep to what other libraries make public."""

import ast
import pathlib

import pytest

import spikax as sx


pytestmark = pytest.mark.modes("float32")  # the modules depend on no mode


ROOT = pathlib.Path(sx.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A module imports from its own level or from below. A path stands for a module, or for a folder and all in it.
LEVELS = [
    ["_interrupted"],
    ["_version", "_files", "_tables", "_tracing", "_types", "_checks", "_parameters", "_trains", "_spikes", "init"],
    ["constraints"],
    ["_constraints"],
    ["_synapse"],
    ["_neuron"],
    ["_check_neuron"],
    ["neurons", "_connection", "_network", "_summary"],
    ["_routing"],
    ["_methods._common"],
    ["_methods.adjoint"],
    ["_methods._base"],
    ["_methods.group_input"],
    ["_methods.event_loop", "_methods.closed_form", "_methods.event_queue", "_methods.windows"],
    ["_methods"],
    ["_simulate"],
    ["_saving"],
    ["decode", "losses", "silence", "encode", "datasets", "train"],
    ["plot", "nir", "brian"],
    ["tasks"],
    ["_report"],
    ["__main__"],
]
LEVEL = {tuple(name.split(".")): number for number, names in enumerate(LEVELS) for name in names}
METHODS = ("event_loop", "closed_form", "event_queue", "windows")
PRIVATE_ROOTS = ("jax", "equinox", "diffrax", "optimistix", "lineax", "optax", "jaxtyping")


def module_of(file):
    """The dotted path inside the package; empty for its `__init__`."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported(file):
    """Every import of a file: the dotted path, and the place. Relative imports become absolute."""
    package = ("spikax", *(file.relative_to(ROOT).parts[:-1]))
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split(".")), node
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            for alias in node.names:
                yield (*module, alias.name), node


def level_of(path):
    """The level of a module or of a name in it: that of the longest path which stands for it."""
    return next((LEVEL[path[:n]] for n in range(len(path), 0, -1) if path[:n] in LEVEL), None)


def inside_function(file, node):
    """Whether an import is made only when a function runs."""
    functions = (f for f in ast.walk(ast.parse(file.read_text())) if isinstance(f, ast.FunctionDef))
    return any(f.lineno <= node.lineno <= f.end_lineno for f in functions)


def name_of(file):
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_one_way(file):
    module = module_of(file)
    if not module:
        return  # the table of contents imports all
    assert level_of(module) is not None, f"{module[0]} has no level"
    for path, node in imported(file):
        if path[0] != "spikax" or inside_function(file, node):
            continue
        level = level_of(path[1:])
        assert level is not None, f"line {node.lineno} imports `{path[1]}` from the table of contents"
        assert level <= level_of(module), f"line {node.lineno} imports {'.'.join(path)}, which lies above"


@pytest.mark.parametrize("method", METHODS)
def test_no_method_imports_another(method):
    for file in sorted((ROOT / "_methods" / method).glob("*.py")):
        for path, node in imported(file):
            others = set(path) & set(METHODS) - {method}
            assert path[:2] != ("spikax", "_methods") or not others, f"{name_of(file)}, line {node.lineno}: {others}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_private_module_of_another_library(file):
    for path, node in imported(file):
        if path[0] in PRIVATE_ROOTS:
            hidden = [part for part in path if part.startswith("_") or part == "internal"]
            assert not hidden, f"line {node.lineno} imports {'.'.join(path)}"


@pytest.mark.parametrize("file", sorted((ROOT / "_methods").rglob("*.py")), ids=name_of)
def test_methods_know_no_model(file):
    models = {name.lower() for name in ("LIF", "LI", "QIF", "EIF")}
    for path, node in imported(file):
        assert "neurons" not in path, f"line {node.lineno}"
        assert path[-1].lower() not in models, f"line {node.lineno}"
    names = {node.id for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)}
    assert names.isdisjoint({"LIF", "LI", "QIF", "EIF", "ExpSynapse", "AlphaSynapse", "DeltaSynapse"})


def test_functions_that_import_from_above_are_few():
    """Only `Network.__call__` may, as the short form of `simulate`."""
    upward = [
        (name_of(file), path[1])
        for file in FILES
        for path, node in imported(file)
        if path[0] == "spikax"
        and inside_function(file, node)
        and level_of(path[1:]) > (level_of(module_of(file)) or 99)
    ]
    assert upward in ([], [("_network.py", "_simulate")])


def test_the_table_of_contents_is_complete():
    """Every public name of the package is re-exported as itself, and once."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    names = [alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert None not in names
    assert len(set(names)) == len(names)
    assert all(hasattr(sx, name) for name in names)
