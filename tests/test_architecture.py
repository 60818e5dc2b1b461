"""Imports point one way, and keep to what other libraries make public."""

import ast
import pathlib

import pytest

import spikax as sx


ROOT = pathlib.Path(sx.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A module imports from its own level or from below. A name stands for a module, or for a folder and all in it.
LEVELS = [
    ["_interrupted"],
    ["_version", "_files", "_held", "_types", "_checks", "_parameters", "_results", "_spikes", "init", "constraints"],
    ["_synapse"],
    ["_neuron"],
    ["_check_neuron"],
    ["neurons", "_connection", "_network", "_written"],
    ["_engine"],
    ["_devices", "_observe", "_solution", "_until"],
    ["_method", "_violations", "_wiring"],
    ["_recurrence"],
    ["_one_clock"],
    ["_simulate"],
    ["_saving"],
    ["losses", "silence", "encode", "datasets", "train"],
    ["plot", "nir"],
    ["tasks"],
    ["__main__"],
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
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
    assert module[0] in LEVEL, f"{module[0]} has no level"
    for path, node in imported(file):
        if path[0] != "spikax" or inside_function(file, node):
            continue
        target = path[1]
        assert target in LEVEL, f"line {node.lineno} imports `{target}` from the table of contents"
        assert LEVEL[target] <= LEVEL[module[0]], f"line {node.lineno} imports {target}, which lies above"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_private_module_of_another_library(file):
    for path, node in imported(file):
        if path[0] in PRIVATE_ROOTS:
            hidden = [part for part in path if part.startswith("_") or part == "internal"]
            assert not hidden, f"line {node.lineno} imports {'.'.join(path)}"


@pytest.mark.parametrize("file", sorted((ROOT / "_engine").glob("*.py")), ids=name_of)
def test_the_engine_knows_no_model(file):
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
        if path[0] == "spikax" and inside_function(file, node) and LEVEL[path[1]] > LEVEL.get(module_of(file)[0], 99)
    ]
    assert upward in ([], [("_network.py", "_simulate")])


def test_the_table_of_contents_is_complete():
    """Every public name of the package is re-exported as itself, and once."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    names = [alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert None not in names
    assert len(set(names)) == len(names)
    assert all(hasattr(sx, name) for name in names)
