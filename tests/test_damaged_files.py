"""Files that are damaged, or made to harm: only our own error comes of them, and nothing of them is executed."""

import copy
import io
import json
import random
import sys
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import spikax as sx
from spikax.datasets import Loader

from .test_saving import loop, stack


# Nothing depends on the float type, and the checks of types execute code of their own.
pytestmark = [pytest.mark.modes("float32"), pytest.mark.unchecked]

WATCHED = ("import", "exec", "pickle.find_class", "os.system", "subprocess.Popen", "shutil.unpack_archive")


class Watch:
    """Records what Python executes, imports or writes. A hook of Python cannot be removed, only silenced."""

    def __init__(self):
        self.is_on, self.seen = False, []
        sys.addaudithook(self._hook)

    def _hook(self, event, arguments):
        if self.is_on and (event in WATCHED or (event == "open" and set(str(arguments[1])) & set("wxa+"))):
            self.seen.append((event, *map(str, arguments[:1])))

    def __enter__(self):
        self.is_on, self.seen = True, []
        return self

    def __exit__(self, *_):
        self.is_on = False


@pytest.fixture(scope="module")
def watch():
    # Names in an archive are decoded with it.
    "x".encode("cp437")
    return Watch()


def test_the_watch_sees_what_is_executed(watch, tmp_path):
    with watch:
        exec("1")
        (tmp_path / "file").write_bytes(b"")
    assert [event for event, *_ in watch.seen] == ["exec", "open"]


def broken(content, rng):
    """The content with bytes lost, flipped, inserted or overwritten, most often in the directory of the archive."""
    data, start = bytearray(content), max(content.find(b"PK\x01\x02"), 0)
    place = rng.randrange(start if rng.random() < 0.5 else 0, len(data) - 8)
    match rng.randrange(5):
        case 0:
            return bytes(data[:place])
        case 1:
            data[place] ^= 1 << rng.randrange(8)
        case 2:
            data[place:place] = rng.randbytes(rng.randint(1, 30))
        case 3:
            del data[rng.randrange(place + 1) : place]
        case 4:
            size = rng.choice([2, 4, 8])
            data[place : place + size] = rng.choice([b"\xff" * size, b"\x00" * size, b"\xff" * (size - 1) + b"\x7f"])
    return bytes(data)


def assert_refused_or_same(path, watch, expected):
    """A file that is read all the same was damaged where nothing is stored, such as in a date."""
    with watch:
        try:
            network, _ = sx.load(path)
        except ValueError as error:
            assert str(error).startswith(f"`path` must be a file written by `sx.save`; got {str(path)!r}: ")
            network = None
    assert watch.seen == []
    if network is not None and expected is not None:
        np.testing.assert_array_equal(network.connections[0].weight, expected.connections[0].weight)


def test_a_damaged_network_is_refused(watch, tmp_path):
    network, options = stack()
    path, rng = tmp_path / "file", random.Random(0)
    sx.save(path, network, options)
    sx.load(path)
    whole = path.read_bytes()
    for _ in range(300):
        path.write_bytes(broken(whole, rng))
        assert_refused_or_same(path, watch, network)


def test_an_archive_that_points_before_its_start_is_refused(tmp_path):
    """Python's `zipfile` seeks there, which is an error of the operating system."""
    path = tmp_path / "file"
    sx.save(path, sx.LIF())
    path.write_bytes(path.read_bytes()[30:])
    with pytest.raises(ValueError, match="`path` must be a file"):
        sx.load(path)


def places(node, at=()):
    """The paths to all nodes of a description."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def at(node, path):
    for key in path:
        node = node[key]
    return node


NODES = [
    *(None, True, -1, 2**70, 1.5, "", "text", "\ud800", [], [[]], [-1], {}, {"float": "nan"}, {"tuple": [1, 2]}),
    *({"dict": {"a": 1}}, {"function": "spikax.save"}, {"function": "os.system"}, {"class": "spikax.LIF"}),
    *({"class": name, "fields": {}} for name in ("subprocess.Popen", "spikax.LIF", "spikax.FunctionNeuron")),
    {"array": "../../file", "of": "jax", "dtype": "float32", "shape": [6]},
    {"array": "network.json", "of": "numpy", "dtype": "float32", "shape": [2]},
    {"array": "arrays/0.npy", "of": "numpy", "dtype": "object", "shape": [2**40, 2**40]},
]


def crafted(path, description, members):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("network.json", json.dumps(description))
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("make", [stack, loop])
def test_a_crafted_description_is_refused(watch, tmp_path, make):
    path, rng = tmp_path / "file", random.Random(1)
    sx.save(path, *make())
    sx.load(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(members.pop("network.json"))
    paths = list(places(description))
    for _ in range(150):
        changed = copy.deepcopy(description)
        *parent, key = rng.choice(paths)
        other = copy.deepcopy(rng.choice(NODES) if rng.random() < 0.6 else at(description, rng.choice(paths)))
        at(changed, parent)[key] = other
        crafted(path, changed, members)
        assert_refused_or_same(path, watch, None)


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "arrays/../../escaped", "C:\\escaped", "a\x00b"])
def test_names_of_other_places_are_never_written(watch, tmp_path, name):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    array = io.BytesIO()
    np.save(array, np.ones(2, np.float32))
    node = {"array": name, "of": "numpy", "dtype": "float32", "shape": [2]}
    description = {"format": 1, "spikax": "0", "network": node, "options": {"dict": {}}}
    crafted(folder / "file", description, {name: array.getvalue()})
    before = sorted(tmp_path.rglob("*"))
    assert_refused_or_same(folder / "file", watch, None)
    assert sorted(tmp_path.rglob("*")) == before


def functions(name):
    """The description of a neuron of functions, which a simulation would call."""
    node = {"function": name}
    given = {"dynamics": node, "spike_condition": node, "reset": node}
    synapse = {"class": "spikax.ExpSynapse", "fields": {"tau": 5.0}}
    fields = {"parameters": None, "start": 0.0, "synapse": synapse, "functions": {"dict": given}}
    return {"class": "spikax.FunctionNeuron", "fields": fields | {"events": {"tuple": []}}}


@pytest.mark.parametrize(
    "node, complaint",
    [
        ({"function": "spikax.load"}, "it names the unknown function `spikax.load`"),
        ({"function": "optimistix.nothing"}, "it names the unknown function"),
        ({"class": "os.system", "fields": {}}, "it names the class `os.system`"),
        ({"class": "antigravity.x", "fields": {}}, "it names the class `antigravity.x`"),
        (functions("optimistix.rms_norm"), "it has a neuron of functions, which `sx.save` does not write"),
        (functions("spikax.save"), "it names the unknown function `spikax.save`"),
    ],
)
def test_no_function_of_a_file_is_called(watch, tmp_path, node, complaint):
    crafted(tmp_path / "file", {"format": 1, "spikax": "0", "network": node, "options": {"dict": {}}}, {})
    with watch, pytest.raises(ValueError, match=complaint):
        sx.load(tmp_path / "file")
    assert watch.seen == [] and "antigravity" not in sys.modules


@pytest.mark.parametrize("array", [np.zeros(2, "M8[ns]"), np.zeros(2, "f8,f8"), np.zeros(2, "S4"), np.zeros(2, "V3")])
def test_arrays_of_other_things_than_numbers_are_refused(tmp_path, array):
    content = io.BytesIO()
    np.lib.format.write_array(content, array)
    node = {"array": "a", "of": "numpy", "dtype": array.dtype.name, "shape": [2]}
    crafted(
        tmp_path / "file",
        {"format": 1, "spikax": "0", "network": node, "options": {"dict": {}}},
        {"a": content.getvalue()},
    )
    with pytest.raises(ValueError, match="`path` must be a file written by `sx.save`"):
        sx.load(tmp_path / "file")


# --- Checkpoints ---

SGD = optax.chain(optax.sgd(0.1, momentum=0.9))


def objective(weight, inputs, targets):
    return (inputs @ weight - targets) ** 2, {}


def trained(directory, epochs=1):
    data = Loader(np.ones((4, 2), np.float32), np.ones(4, np.float32), batch_size=4)
    return sx.train.fit(jnp.zeros(2), objective, data, data, optimizer=SGD, epochs=epochs, directory=directory)


@pytest.fixture
def checkpoint(tmp_path):
    trained(tmp_path)
    return tmp_path / "last.eqx"


def assert_refused(path, watch, complaint="`directory` must"):
    with watch, pytest.raises(ValueError, match=complaint):
        trained(path.parent)
    assert [entry for entry in watch.seen if entry[0] != "open"] == []


def test_a_damaged_checkpoint_is_refused(watch, checkpoint):
    whole, rng = checkpoint.read_bytes(), random.Random(2)
    trained(checkpoint.parent)
    for _ in range(100):
        content = broken(whole, rng)
        if content != whole:
            checkpoint.write_bytes(content)
            assert_refused(checkpoint, watch)


def resealed(path, leaves, **changes):
    """Writes a checkpoint with changes of its header, and a checksum that fits."""
    header = json.loads(path.read_bytes().partition(b"\n")[0]) | changes
    header.pop("crc32")
    checksum = zlib.crc32(leaves, zlib.crc32(json.dumps(header).encode()))
    path.write_bytes(json.dumps(header | {"crc32": checksum}).encode() + b"\n" + leaves)


EPOCH = {"number": 1, "seconds": 0.1, "training": {"loss": 1.0}, "validation": {"loss": 1.0}}


@pytest.mark.parametrize(
    "changes",
    [
        {"history": None},
        {"history": ["text"]},
        {"history": [EPOCH | {"seconds": "text"}]},
        {"history": [EPOCH | {"validation": {}}]},
        {"history": [EPOCH | {"training": 3}]},
        {"history": [EPOCH | {"other": 3}]},
        {"identity": 3},
        {"identity": {"network": "other"}},
    ],
)
def test_a_crafted_header_of_a_checkpoint_is_refused(watch, checkpoint, changes):
    leaves = checkpoint.read_bytes().partition(b"\n")[2]
    resealed(checkpoint, leaves)
    trained(checkpoint.parent)
    resealed(checkpoint, leaves, **changes)
    assert_refused(checkpoint, watch, "`(directory|network)` must")


def npy(array, **header):
    """An array as NumPy writes it, with other entries in its header."""
    content = io.BytesIO()
    described = np.lib.format.header_data_from_array_1_0(array) | header
    np.lib.format.write_array_header_1_0(content, described)
    return content.getvalue() + array.tobytes()


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"PK\x03\x04" + bytes(100),
        b"\x80\x04cposix\nsystem\n.",
        npy(np.zeros(2, np.float32), shape=(2**40,)),
        npy(np.zeros(2, np.float32), shape=(2**40, 2**40)),
        npy(np.zeros(2, np.float32), shape=(-2,)),
        npy(np.zeros(3, np.float32)),
        npy(np.zeros(2, np.float32), descr="|O"),
        npy(np.zeros(2, np.float32))[:6] + b"\x09\x09" + npy(np.zeros(2, np.float32))[8:],
    ],
)
def test_crafted_arrays_of_a_checkpoint_are_refused(watch, checkpoint, first):
    """Before memory is allocated for what a header promises."""
    leaves = checkpoint.read_bytes().partition(b"\n")[2]
    rest = leaves[len(npy(np.zeros(2, np.float32))) :]
    resealed(checkpoint, first + rest)
    assert_refused(checkpoint, watch, "`directory` must hold a whole checkpoint; .* is damaged")
