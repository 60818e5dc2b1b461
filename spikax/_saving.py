"""Saving and loading of networks: a description in JSON, and the arrays."""

import dataclasses
import errno
import inspect
import json
import math
import os
import sys
import types
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._checks import require, require_instance
from ._files import replacing
from ._simulate.entry import simulate
from ._types import Constant, Integer, resolved
from ._version import __version__
from .neurons._function import FunctionNeuron


FORMAT = 1

# Libraries whose classes and functions a file may name. Other classes have to be passed to `load`.
_LIBRARIES = ("spikax", "diffrax", "optimistix", "lineax")
_DESCRIPTION = "network.json"
_LONGEST = 2**26  # the maximal length of a description, in bytes; it takes many times as much memory


def save(path: str | os.PathLike, network: Any, options: Mapping[str, Any] | None = None) -> None:
    """Saves a network to a file, with the options of its simulation.

    ```python
    sx.save("network.zip", network, {"t1": 60.0, "max_spikes": 16, "method": sx.EventLoop(rtol=1e-7)})
    network, options = sx.load("network.zip")
    spikes = network(inputs, **options)  # the same spikes, to the bit
    ```

    The file is a zip archive with a readable description, `network.json`, and a `.npy` file for each array. It contains
    no code, only the names of classes and functions. An existing file is replaced only when the new one is complete.

    **Arguments:**

    - `path`: the path of the file.
    - `network`: the network; or any tree of Equinox modules, dictionaries with strings as keys, lists, tuples,
      numbers, strings, None, and arrays of JAX and NumPy.
    - `options`: arguments for [`spikax.simulate`][] by name, such as `method`.

    **Raises:** `TypeError` for values that cannot be saved, such as functions (except those of Diffrax, Optimistix and
    Lineax), and thus the neurons of [`spikax.neuron_from`][]; `ValueError` for unknown options of `simulate`.
    """
    options = {} if options is None else options
    require_instance(options, Mapping, "options", "a dictionary of arguments for `sx.simulate`")
    names = [name for name in inspect.signature(simulate).parameters if name not in ("network", "inputs")]
    for name in options:
        require(name in names, "options", f"arguments of `sx.simulate`, among {names}", name)
    writer = _Writer([], {})
    description = {
        "format": FORMAT,
        "spikax": __version__,
        "network": writer.describe(network, "network"),
        "options": writer.describe(dict(options), "options"),
    }
    text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    hint = "Write long lists of numbers as arrays."
    require(len(text) <= _LONGEST, "network", f"described in {_LONGEST} bytes", len(text), hint)
    with replacing(Path(path)) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_DESCRIPTION, text)
        for number, array in enumerate(writer.arrays):
            with archive.open(_member(number), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load(path: str | os.PathLike, modules: Sequence[type[eqx.Module]] = ()) -> tuple[Any, dict[str, Any]]:
    """Loads a network and the options of its simulation from a file written by [`spikax.save`][].

    Nothing in the file is executed or unpickled. Classes are looked up by name among those of spikax, Diffrax,
    Optimistix, Lineax and `modules`. The parts of the network are checked as on construction. The members of the file
    are not compressed, so no more data is read than the size of the file.

    **Arguments:**

    - `path`: the path of the file.
    - `modules`: the other classes in the network, such as your own neurons: `sx.load(path, [Adapting])`.

    **Returns:** the network and the options, an empty dictionary if none were saved.

    **Raises:** `ValueError` for a file of another format, a damaged file, or unknown classes; `OSError` if the file
    cannot be read.
    """
    classes = _by_name(modules)
    with open(path, "rb") as file:
        try:
            return _read(file, classes)
        except (*_DAMAGES, OSError) as error:
            # A damaged archive may point to a place before its start.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            what = str(error).rstrip(".") or type(error).__name__
            raise ValueError(f"`path` must be a file written by `sx.save`; got {os.fspath(path)!r}: {what}.") from error


def _read(file: BinaryIO, classes: dict[str, type]) -> tuple[Any, dict[str, Any]]:
    """The network and the options in a file."""
    with zipfile.ZipFile(file) as archive:
        _expect_plain(archive, os.fstat(file.fileno()).st_size)
        description = json.loads(archive.read(_DESCRIPTION))
        _expect(isinstance(description, dict), "its description is not a JSON object")
        version = description.get("format")
        _expect(version == FORMAT, f"its format is {version!r}, and this version of spikax reads {FORMAT}")
        reader = _Reader(archive, classes, str(description.get("spikax")), set())
        network, options = (reader.read(description.get(part)) for part in ("network", "options"))
        _expect(isinstance(options, dict), "its options are not a dictionary")
        return network, options


# The exceptions of zipfile, json, NumPy and the checks of modules for a damaged file.
_DAMAGES = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    RuntimeError,
    MemoryError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
)


class _Writer(NamedTuple):
    """Describes a tree in JSON, and collects its arrays and classes."""

    arrays: list[np.ndarray]
    classes: dict[str, type]

    def describe(self, value: Any, where: str) -> Any:
        """The description of a value. A JSON object always names its kind."""
        value = resolved(value) if isinstance(value, Constant | Integer) else value
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is list:
            return [self.describe(item, f"{where}[{i}]") for i, item in enumerate(value)]
        if kind is tuple:
            return {"tuple": [self.describe(item, f"{where}[{i}]") for i, item in enumerate(value)]}
        if kind is dict and all(type(key) is str for key in value):
            return {"dict": {key: self.describe(item, f"{where}[{key!r}]") for key, item in value.items()}}
        if isinstance(value, eqx.Module):
            names = [field.name for field in dataclasses.fields(value)]
            fields = {name: self.describe(getattr(value, name), f"{where}.{name}") for name in names}
            return {"class": self._class(kind, where), "fields": fields}
        if isinstance(value, jax.Array | np.ndarray | np.generic) and _holds_numbers(value.dtype):
            return self._array(value)
        if isinstance(value, types.FunctionType) and _is_of_solvers(value):
            return {"function": _name_of(value)}
        raise TypeError(_refusal(value, where))

    def _class(self, kind: type, where: str) -> str:
        name = _name_of(kind)
        other = self.classes.setdefault(name, kind)
        require(other is kind, where, f"of the only class `{name}` in the network", kind, "Rename one of them.")
        return name

    def _array(self, value: Any) -> dict[str, Any]:
        array = np.asarray(value)
        of = "jax" if isinstance(value, jax.Array) else "numpy" if isinstance(value, np.ndarray) else "scalar"
        # NumPy writes types that it does not have itself, such as bfloat16, as bytes without a name.
        self.arrays.append(array.view(f"u{array.itemsize}") if array.dtype.kind == "V" else array)
        name = _member(len(self.arrays) - 1)
        return {"array": name, "of": of, "dtype": array.dtype.name, "shape": list(array.shape)}


class _Reader(NamedTuple):
    """Creates a tree from its description. An invalid description raises an error that names the problem."""

    archive: zipfile.ZipFile
    classes: dict[str, type]
    version: str
    done: set[str]  # the members already read

    def read(self, node: Any) -> Any:
        """The value that a node describes."""
        match node:
            case None | bool() | int() | float() | str():
                return node
            case list():
                return [self.read(item) for item in node]
            case {"float": ("inf" | "-inf" | "nan") as text, **rest} if not rest:
                return float(text)
            case {"tuple": list(items), **rest} if not rest:
                return tuple(self.read(item) for item in items)
            case {"dict": dict(items), **rest} if not rest:
                return {key: self.read(item) for key, item in items.items()}
            case {"function": str(name), **rest} if not rest:
                function = _found(name)
                is_right = isinstance(function, types.FunctionType) and _is_of_solvers(function)
                _expect(is_right, f"it names the unknown function `{name}`")
                return function
            case {"class": str(name), "fields": dict(fields), **rest} if not rest:
                return self._module(name, {key: self.read(item) for key, item in fields.items()})
            case {"array": str(name), "of": ("jax" | "numpy" | "scalar") as of, "dtype": dtype, "shape": shape, **rest}:
                _expect(not rest, f"its description of `{name}` has unknown entries")
                return self._array(name, of, dtype, shape)
        raise ValueError(f"its description has a part of an unknown form: {str(node)[:80]}")

    def _module(self, name: str, fields: dict[str, Any]) -> eqx.Module:
        kind = self.classes.get(name) or _found(name)
        # A simulation would call whatever functions the file names.
        _expect(kind is not FunctionNeuron, "it has a neuron of functions, which `sx.save` does not write")
        is_module = isinstance(kind, type) and issubclass(kind, eqx.Module)
        hint = f"Give the class: `sx.load(path, [{name}])`"
        _expect(is_module, f"it names the class `{name}`, which is none of {', '.join(_LIBRARIES)}. {hint}")
        names = [field.name for field in dataclasses.fields(kind)]
        written = f"the file, of spikax {self.version}, has {sorted(fields)}"
        _expect(set(names) == set(fields), f"the class `{name}` has the fields {sorted(names)}, and {written}")
        # Not by the constructor, whose arguments may differ from the fields. Converters and checks are run as well.
        module = object.__new__(kind)
        for field in dataclasses.fields(kind):
            # A converter checks what `__check_init__` relies on. Converters of spikax do not change converted values.
            convert = field.metadata.get("converter") if kind.__module__.startswith("spikax.") else None
            value = fields[field.name]
            object.__setattr__(module, field.name, value if convert is None else convert(value))
        for ancestor in kind.__mro__:
            if "__check_init__" in vars(ancestor):
                vars(ancestor)["__check_init__"](module)
        return module

    def _array(self, name: str, of: str, dtype: Any, shape: Any) -> Any:
        _expect(name not in self.done, f"it names the array `{name}` twice")
        self.done.add(name)
        described = f"{dtype}{shape}"
        with self.archive.open(name) as member:
            # Only the header of the array, before memory is allocated for its data.
            _expect(np.lib.format.read_magic(member) == (1, 0), f"its array `{name}` is of another format of NumPy")
            found, _, raw = np.lib.format.read_array_header_1_0(member)
            kind = jnp.dtype(dtype)
            _expect(_holds_numbers(kind), f"its array `{name}` is not of numbers")
            # A type that NumPy does not have is stored as bytes.
            stands = kind if kind.kind == "V" and raw == np.dtype(f"u{kind.itemsize}") else raw
            head = f"{stands.name}{list(found)}"
            _expect(head == described, f"its array `{name}` is {head}, and is described as {described}")
            size = member.tell() + math.prod(found) * raw.itemsize
            _expect(size == self.archive.getinfo(name).file_size, f"its array `{name}` is not of {size} bytes")
            member.seek(0)
            array = np.lib.format.read_array(member, allow_pickle=False).astype(raw.newbyteorder("="), copy=False)
            array = array.view(kind)
        if of != "jax":
            return array if of == "numpy" else array[()]
        hint = "Call `jax.config.update('jax_enable_x64', True)` first"
        _expect(jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype, f"it holds arrays of type {dtype}. {hint}")
        return jnp.asarray(array)


def _expect_plain(archive: zipfile.ZipFile, size: int) -> None:
    """Raises unless the archive is uncompressed, its members fit into its size, and its description is short."""
    members = archive.infolist()
    is_plain = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    _expect(is_plain, "it is compressed, unlike files of `sx.save`: unzip it, and zip it uncompressed (`zip -0`)")
    _expect(sum(member.file_size for member in members) <= size, "its members are larger than the file")
    length = archive.getinfo(_DESCRIPTION).file_size
    _expect(length <= _LONGEST, f"its description has {length} bytes, more than {_LONGEST}")


def _member(number: int) -> str:
    return f"arrays/{number}.npy"


def _holds_numbers(dtype: np.dtype) -> bool:
    return bool(jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_))


def _is_of_library(value: Any) -> bool:
    return value.__module__.split(".")[0] in _LIBRARIES


def _is_of_solvers(function: Any) -> bool:
    """Whether a function is of Diffrax, Optimistix or Lineax. Their solvers have functions in fields, such as norms."""
    return _is_of_library(function) and function.__module__.split(".")[0] != "spikax"


def _name_of(value: Any) -> str:
    """The name of a class or function, qualified by its library or module if it is of one of the libraries."""
    if not _is_of_library(value):
        return value.__name__
    library, name = value.__module__.split(".")[0], value.__name__
    is_public = getattr(sys.modules[library], name, None) is value
    return f"{library if is_public else value.__module__}.{name}"


def _found(name: str) -> Any:
    """The class or function of a library with this name, or None."""
    module, _, last = name.rpartition(".")
    # Only among the imported modules: a name in a file must not import anything.
    value = vars(sys.modules[module]).get(last) if module in sys.modules else None
    is_right = isinstance(value, type | types.FunctionType) and _is_of_library(value) and _name_of(value) == name
    return value if is_right else None


def _by_name(modules: Any) -> dict[str, type]:
    require(isinstance(modules, list | tuple), "modules", "a list of classes", modules, error=TypeError)
    for kind in modules:
        is_module = isinstance(kind, type) and issubclass(kind, eqx.Module)
        require(is_module, "modules", "classes of Equinox modules", kind, error=TypeError)
    classes = {_name_of(kind): kind for kind in modules}
    require(len(classes) == len(set(modules)), "modules", "classes of different names", modules)
    return classes


def _refusal(value: Any, where: str) -> str:
    """The message for a value that cannot be saved."""
    expectation = "made of Equinox modules, dictionaries, lists, tuples, numbers, strings and arrays"
    got = f"`{where}` must be {expectation}; got {value!r}."
    if callable(value):
        hint = "A file holds no code. Write a class instead of a neuron of functions, as docs/extending.md shows."
    else:
        hint = "Store its contents in fields of an Equinox module."
    return f"{got} {hint}"


def _expect(holds: bool, complaint: str) -> None:
    """Raises `ValueError` with the complaint unless `holds`."""
    if not holds:
        raise ValueError(complaint)
