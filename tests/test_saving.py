"""Networks in files: what comes back, and what is refused."""

import json
import zipfile

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import optimistix
import pytest

import spikax as sx

from .helpers import cast, random_inputs, single_layer


class Leaky(sx.AbstractNeuron):
    """A neuron that spikax does not know."""

    tau_mem: sx.Scalar = 20.0
    synapse: sx.Synapse = sx.ExpSynapse()

    def initial_state(self):
        return sx.LIFState(jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        return sx.LIFState((drive - state.v) / self.tau_mem)

    def spike_condition(self, t, state):
        return state.v - 1.0

    def reset(self, t, state):
        return sx.LIFState(jnp.zeros_like(state.v))


def stack():
    """Layers that need no solver, with parameters of every kind."""
    hidden = sx.LIF(tau_mem=sx.Positive(jnp.linspace(15.0, 25.0, 6)), bias=jnp.full(6, 0.1))
    draw = sx.init.normal(3.0, 1.0)
    layers = sx.Layer(hidden, 6, weights=draw), sx.Layer(sx.LIF(tau_mem=np.float32(15.0)), 2, weights=draw)
    options = {"until": sx.FirstSpikes(), "max_spikes": {"hidden": 16, "output": 1}}
    return sx.sequential(3, *layers, key=jax.random.key(0)), options


def wrapped():
    """Neurons around a neuron of the user's own, with conductances."""
    ports = {"exc": sx.ExpSynapse(3.0), "inh": sx.ExpSynapse(jnp.asarray(8.0))}
    inside = sx.ConductanceBased(Leaky(jnp.asarray(20.0), ports), {"exc": 3.0, "inh": jnp.asarray(-0.5)})
    weight = {"exc": np.ones((3, 2)), "inh": np.eye(3, 2)}
    network = single_layer(sx.Refractory(inside, jnp.asarray(2.0)), weight, float)
    return network, {"method": sx.EventLoop(diffrax.Bosh3(), rtol=1e-4), "adjoint": sx.DiscreteAdjoint(memory=2**20)}


def cell():
    """A soma with dendrites."""
    dendrites = {"trunk": sx.Dendrite(sx.LI(15.0), 0.8, 0.4), "tuft": sx.Dendrite(sx.LI(10.0), parent="trunk")}
    synapse = {"soma": sx.ExpSynapse(5.0), "tuft": sx.ExpSynapse(jnp.asarray(10.0))}
    neuron = sx.MultiCompartment(sx.LIF(tau_mem=jnp.asarray(20.0)), dendrites, synapse)
    weight = {"soma": np.full((3, 2), 2.0), "tuft": np.full((3, 2), 1.0)}
    return single_layer(neuron, weight, float), {"method": sx.EventLoop(dt0=1.0), "max_spikes": 16}


def loop():
    """A recurrent layer with signed, masked, delayed synapses."""
    size, signs = 4, jnp.asarray([[1.0], [1.0], [1.0], [-1.0]])
    weight = sx.Masked(sx.Signed(0.5 * signs * jnp.ones((size, size)), signs), ~jnp.eye(size, dtype=bool))
    connections = [
        sx.Dense("input", "a", jnp.full((3, size), 3.0), delay=sx.Positive(jnp.ones(3))),
        sx.Dense("a", "a", weight, delay=2.0),
        sx.Sparse("a", "b", [0, 1], [1, 0], jnp.full(2, 4.0), shape=(size, 2)),
    ]
    layers = {"b": sx.Layer(sx.LIF(), 2), "a": sx.Layer(sx.LIF(), size)}
    return sx.Network(layers, connections, 3, ["a", "b"]), {"method": sx.Windows(8), "max_spikes": 16}


@pytest.mark.modes("float32")
@pytest.mark.parametrize("make", [stack, wrapped, cell, loop])
def test_a_loaded_network_gives_the_same_spikes_to_the_bit(make, dtype, tmp_path):
    network, options = make()
    network = cast(network, dtype)
    sx.save(tmp_path / "network.zip", network, options)
    loaded, same = sx.load(tmp_path / "network.zip", [Leaky])
    assert_same(network, loaded)
    assert_same(options, same)
    inputs = random_inputs(1, (3, 3, 5), 25.0, dtype)
    spikes, again = (net(inputs, 30.0, **options) for net, options in ((network, options), (loaded, same)))
    spikes, again = (jax.tree.leaves(part) for part in (spikes, again))
    assert all(np.isfinite(times).any() for times in spikes)
    for times, repeated in zip(spikes, again, strict=True):
        np.testing.assert_array_equal(times, repeated)


def assert_same(tree, other):
    """One structure, with its classes, static fields and order, and leaves of one type, dtype and value."""
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for leaf, repeated in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert type(leaf) is type(repeated)
        if hasattr(leaf, "dtype"):
            assert leaf.dtype == repeated.dtype and leaf.shape == repeated.shape
        np.testing.assert_array_equal(leaf, repeated)


def round_trip(tmp_path, tree, **options):
    sx.save(tmp_path / "file", tree, options)
    loaded, same = sx.load(tmp_path / "file", [Leaky])
    assert_same((tree, options), (loaded, same))
    return loaded, same


def test_every_neuron_comes_back(tmp_path, dtype):
    kinds = [kind for kind in vars(sx).values() if isinstance(kind, type) and issubclass(kind, sx.AbstractNeuron)]
    around = {
        sx.FilteredBias,
        sx.Threshold,
        sx.Refractory,
        sx.SingleSpike,
        sx.ConductanceBased,
        sx.MultiCompartment,
        sx.FunctionNeuron,
        sx.EquationNeuron,
    }
    made = [kind() for kind in kinds if kind not in around and not getattr(kind, "__abstractmethods__", ())]
    assert len(made) >= 10
    learning = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), made)
    round_trip(
        tmp_path,
        {
            "constant": made,
            "learning": learning,
            "single": sx.SingleSpike(Leaky(), freezes=False),
            "biased": sx.FilteredBias(Leaky(), 0.5),
            "written": sx.neuron_from_equations("dv/dt = I - v / tau : 1", parameters={"tau": jnp.ones(3, dtype)}),
        },
    )


def test_all_kinds_of_values_come_back(tmp_path):
    numbers = [1, 1.0, True, None, float("inf"), -float("inf"), 1e-300, 2**70, "text ä", (), [], {}, ((1,), [2.0])]
    arrays = {
        "order": jnp.arange(3, dtype=jnp.int32),
        "half": jnp.asarray([1.5, -2.0], jnp.bfloat16),
        "numpy": np.asarray([[np.inf, 1.0]], np.float16),
        "scalar": np.float32(0.1),
        "flag": jnp.asarray(True),
        "empty": np.zeros((0, 2), np.int16),
    }
    loaded, _ = round_trip(tmp_path, (numbers, arrays))
    assert list(loaded[1]) == list(arrays)
    sx.save(tmp_path / "file", float("nan"))
    assert np.isnan(sx.load(tmp_path / "file")[0])


def test_options_come_back(tmp_path):
    finders = (
        optimistix.Newton(rtol=1e-10, atol=1e-12),
        optimistix.Chord(1e-8, 1e-8, norm=optimistix.rms_norm, linear_solver=lineax.QR()),
        optimistix.Dogleg(1e-6, 1e-6),
        diffrax.VeryChord(rtol=1e-10, atol=1e-12),
    )
    for finder in finders:
        _, options = round_trip(
            tmp_path, None, method=sx.EventLoop(diffrax.Kvaerno5(root_finder=finder)), t1=30.0, throw=False
        )
        assert options["method"].solver.root_finder.norm is finder.norm
    round_trip(
        tmp_path, None, method=sx.EventLoop(diffrax.HalfSolver(diffrax.Euler())), saveat={"output": jnp.arange(3.0)}
    )


def test_the_description_can_be_read(tmp_path):
    sx.save(tmp_path / "file", sx.LIF(tau_mem=12.5), {"t1": 30.0})
    with zipfile.ZipFile(tmp_path / "file") as archive:
        description = json.loads(archive.read("network.json"))
    assert description["format"] == 1 and description["spikax"] == sx.__version__
    assert description["network"]["class"] == "spikax.LIF"
    assert description["network"]["fields"]["tau_mem"] == 12.5
    assert description["options"] == {"dict": {"t1": 30.0}}


def test_a_neuron_of_functions_is_refused_and_the_old_file_stays(tmp_path):
    functions = {"dynamics": lambda t, v, drive, p: drive - v, "spike_condition": lambda t, v, p: v - 1.0}
    neuron = sx.neuron_from(initial_state=0.0, reset=lambda t, v, p: 0.0, **functions)
    sx.save(tmp_path / "file", sx.LIF())
    expected = r"`network.functions\['dynamics'\]` must be made of .* got <function .* no code.* Write a class"
    with pytest.raises(TypeError, match=expected):
        sx.save(tmp_path / "file", neuron)
    assert sx.load(tmp_path / "file")[0] == sx.LIF()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    sx.save(tmp_path / "file", sx.LIF())

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="no space"):
        sx.save(tmp_path / "file", sx.LIF(tau_mem=jnp.asarray(1.0)))
    assert sx.load(tmp_path / "file")[0] == sx.LIF()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "tree, options, error, complaint",
    [
        ({1: 2.0}, None, TypeError, "`network` must be made of"),
        ([sx.LIF(), {"a": {3}}], None, TypeError, r"`network\[1\]\['a'\]` must be"),
        (np.asarray(["text"]), None, TypeError, "`network` must be"),
        (jax.random.key(0), None, TypeError, "`network` must be"),
        (sx.LIF(), {"colour": 1}, ValueError, "`options` must be arguments of `sx.simulate`"),
        (sx.LIF(), {"inputs": 1}, ValueError, "`options` must be"),
        (sx.LIF(), [1], TypeError, "`options` must be a dictionary"),
        (sx.LIF(), {"until": jnp.tanh}, TypeError, r"`options\['until'\]` must be"),
    ],
)
def test_save_refuses(tree, options, error, complaint, tmp_path):
    with pytest.raises(error, match=complaint):
        sx.save(tmp_path / "file", tree, options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.unchecked
def test_two_classes_of_one_name_are_refused(tmp_path):
    other = type("Leaky", (Leaky,), {"__annotations__": {}})
    with pytest.raises(ValueError, match=r"`network\[1\]` must be of the only class `Leaky`"):
        sx.save(tmp_path / "file", [Leaky(), other()])
    with pytest.raises(ValueError, match="`modules` must be classes of different names"):
        sx.load(tmp_path / "file", [Leaky, other])
    for modules, error in ((Leaky, TypeError), ([Leaky()], TypeError), ([dict], TypeError)):
        with pytest.raises(error, match="`modules` must be"):
            sx.load(tmp_path / "file", modules)


@pytest.fixture
def tampered(tmp_path):
    """A function that writes a file, changes its description and leaves out members, and loads it."""

    def load(change=lambda description: description, without=(), tree=None):
        path = tmp_path / "file"
        sx.save(path, sx.LIF(tau_mem=jnp.ones(3)) if tree is None else tree)
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist() if name not in without}
        text = members["network.json"].decode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (members | {"network.json": change(text)}).items():
                archive.writestr(name, content)
        return sx.load(path)

    return load


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ('"format": 1', '"format": 7', "its format is 7, and this version of spikax reads 1"),
        ("spikax.LIF", "spikax.LIV", "names the class `spikax.LIV`"),
        ("spikax.LIF", "spikax.Scalar", "names the class `spikax.Scalar`"),
        ("spikax.LIF", "spikax.simulate", "names the class"),
        ("spikax.LIF", "os.system", "names the class"),
        ("spikax.LIF", "diffrax.Tsit5", "has the fields"),
        ("spikax.LIF", "spikax.AbstractNeuron", "has the fields"),
        ('"v_reset"', '"v_rest"', "has the fields"),
        ('"class"', '"klass"', "has a part of an unknown form"),
        ("arrays/0.npy", "arrays/1.npy", "no item named 'arrays/1.npy'"),
        ("arrays/0.npy", "network.json", "magic string"),
        ("[\n          3\n        ]", "[4]", r"is float\d\d\[3\], and is described as float\d\d\[4\]"),
        ('"float', '"int', "is described as"),
        ('"dtype": "float', '"dtype": "bfloat', "must be a file"),
        ("{", "", "must be a file"),
    ],
)
def test_a_tampered_file_is_refused(tampered, tmp_path, old, new, complaint):
    def change(text):
        assert old in text
        return text.replace(old, new)

    with pytest.raises(ValueError, match=complaint) as caught:
        tampered(change)
    assert str(tmp_path / "file") in str(caught.value)


def test_the_parts_of_a_loaded_network_are_checked(tampered):
    with pytest.raises(ValueError, match="`tau_mem` must be positive; got -3.0"):
        tampered(lambda text: text.replace("12.5", "-3.0"), tree=sx.LIF(tau_mem=12.5))


def test_missing_members_are_refused(tampered):
    with pytest.raises(ValueError, match="arrays/0.npy"):
        tampered(without=("arrays/0.npy",))


def test_nothing_is_unpickled(tampered, tmp_path):
    sx.save(tmp_path / "file", [jnp.ones(3)])
    with zipfile.ZipFile(tmp_path / "file") as archive:
        text = archive.read("network.json")
    np.save(tmp_path / "pickled.npy", np.asarray([1, "a", None], object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr("network.json", text)
        archive.write(tmp_path / "pickled.npy", "arrays/0.npy")
    with pytest.raises(ValueError, match="is object.3., and is described as float"):
        sx.load(tmp_path / "file")


def crafted(path, change, tree, compression=zipfile.ZIP_STORED):
    """Writes a file, has its members changed, as NumPy arrays and a description, and loads it."""
    sx.save(path, tree)
    with zipfile.ZipFile(path) as archive:
        description = json.loads(archive.read("network.json"))
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        arrays = {name: np.lib.format.read_array(archive.open(name)) for name in names}
    change(description, arrays)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("network.json", json.dumps(description))
        for name, array in arrays.items():
            with archive.open(name, "w") as member:
                np.lib.format.write_array(member, array)
    return sx.load(path)


SPARSE = sx.Sparse("input", "a", [0, 1], [1, 0], np.ones(2, np.float32), shape=(3, 2), delay=np.ones(2, np.float32))
SMALL = sx.Network({"a": sx.Layer(sx.LIF(), 2)}, [SPARSE], 3, "a")


def replaced(name, array):
    """A change of the array with this number."""
    return lambda description, arrays: arrays.update({f"arrays/{name}.npy": np.asarray(array, np.int32)})


def described(**fields):
    """A change of the description."""
    return lambda description, _: description["network"]["fields"].update(fields)


@pytest.mark.parametrize(
    "change, complaint",
    [
        (replaced(2, [0, 3]), "`sources` must be a list of integers from 0 to 2"),
        (replaced(2, [-1, 0]), "`sources` must be a list of integers from 0 to 2"),
        (replaced(3, [[1, 7]]), "`slots` must be of shape .slots, 2., with each synapse once"),
        (replaced(3, [[1, -1]]), "`slots` must be"),
        (replaced(3, [[1, 1]]), "`slots` must be"),
        (replaced(3, [[0, 2]]), "`slots` must be"),
        (replaced(3, np.zeros(10**6)), "is int32.1000000., and is described as int32.1, 2."),
        (described(outputs={"tuple": []}), "`outputs` must be the name"),
        (described(inputs={"dict": {"input": 0}}), "`inputs` must be at least"),
        (described(connections=None), "`connections` must be a list"),
    ],
)
def test_a_crafted_network_is_refused(change, complaint, tmp_path):
    assert_same(SMALL, crafted(tmp_path / "file", lambda *_: None, SMALL)[0])
    with pytest.raises(ValueError, match=f"`path` must be a file written by `sx.save`; got .*{complaint}"):
        crafted(tmp_path / "file", change, SMALL)


@pytest.mark.parametrize(
    "parameter, change, complaint",
    [
        (sx.Positive(2.0), described(log="text"), "`value` must be a real number"),
        (sx.Positive(2.0), described(log={"float": "inf"}), "`value` must be finite"),
        (sx.Signed(np.ones(2), np.ones(2)), described(excites=1.0), "`signs` must be an array of True"),
        (sx.Signed(np.ones(2), np.ones(2)), described(log=1.0), "`signs` must be of a shape"),
        (sx.Masked(np.ones(2), np.ones(2, bool)), described(mask=None), "`mask` must be an array"),
        (sx.Masked(np.ones(2), np.ones(2, bool)), described(inner=None), "`value` must be a real"),
    ],
)
def test_a_crafted_parameter_is_refused(parameter, change, complaint, tmp_path):
    """What no constructor would make is none of what a constructor promises."""
    with pytest.raises(ValueError, match=f"`path` must be a file written by `sx.save`; got .*{complaint}"):
        crafted(tmp_path / "file", change, parameter)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_file_is_not_unpacked(method, tmp_path):
    """Little of a file can be much of memory."""
    with pytest.raises(ValueError, match="it is compressed.*unzip it"):
        crafted(tmp_path / "file", lambda *_: None, np.zeros(10**6, np.float32), method)
    assert (tmp_path / "file").stat().st_size < 10**5


def test_members_longer_than_the_file_are_refused(tmp_path):
    path = tmp_path / "file"
    sx.save(path, np.zeros(100, np.float32))
    content = bytearray(path.read_bytes())
    # The size of the array in the directory at the end of the archive.
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (2**30).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match="its members are larger than the file"):
        sx.load(path)


def test_an_array_is_read_once_and_whole(tmp_path):
    def twice(description, _):
        description["network"] = [description["network"]] * 2

    with pytest.raises(ValueError, match="it names the array `arrays/0.npy` twice"):
        crafted(tmp_path / "file", twice, np.ones(3))
    path = tmp_path / "file"
    sx.save(path, np.ones(3))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for change in (lambda data: data[:-1], lambda data: data + b"x"):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, change(content) if name.endswith(".npy") else content)
        with pytest.raises(ValueError, match="its array `arrays/0.npy` is not of 152 bytes"):
            sx.load(path)
    sx.save(path, np.ones(3))
    content = path.read_bytes()
    last = content.rindex(np.float64(1.0).tobytes())
    path.write_bytes(content[:last] + np.float64(2.0).tobytes() + content[last + 8 :])
    with pytest.raises(ValueError, match="CRC"):
        sx.load(path)


def test_too_long_a_description_is_refused(tmp_path, monkeypatch):
    sx.save(tmp_path / "file", list(range(100)))
    monkeypatch.setattr("spikax._saving._LONGEST", 200)
    with pytest.raises(ValueError, match="its description has [0-9]+ bytes, more than 200"):
        sx.load(tmp_path / "file")
    with pytest.raises(ValueError, match="`network` must be described in 200 bytes; .*as arrays."):
        sx.save(tmp_path / "file", list(range(100)))


def test_the_order_of_bytes_does_not_matter(tmp_path):
    def swap(_, arrays):
        arrays["arrays/0.npy"] = arrays["arrays/0.npy"].astype(">f4")

    np.testing.assert_array_equal(crafted(tmp_path / "file", swap, np.arange(3, dtype=np.float32))[0], [0, 1, 2])


def test_unknown_foreign_and_truncated_files_are_refused(tmp_path):
    path = tmp_path / "file"
    sx.save(path, Leaky(jnp.ones(100)))
    with pytest.raises(ValueError, match=r"names the class `Leaky`.*sx.load\(path, \[Leaky\]\)"):
        sx.load(path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:100] + b"x" + whole[101:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="`path` must be a file written by `sx.save`; got .*file"):
            sx.load(path, [Leaky])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.txt", "text")
    with pytest.raises(ValueError, match=r"network\.json"):
        sx.load(path)
    with pytest.raises(FileNotFoundError):
        sx.load(tmp_path / "nowhere")


@pytest.mark.modes("float32")
def test_no_precision_is_lost_in_silence(tmp_path):
    sx.save(tmp_path / "file", np.ones(3))
    np.testing.assert_array_equal(sx.load(tmp_path / "file")[0], np.ones(3))
    with jax.enable_x64(True):
        sx.save(tmp_path / "file", jnp.ones(3, jnp.float64))
    with pytest.raises(ValueError, match="jax_enable_x64"):
        sx.load(tmp_path / "file")


def test_equinox_modules_of_other_libraries_can_be_named(tmp_path):
    linear = eqx.nn.Linear(2, 3, key=jax.random.key(0))
    sx.save(tmp_path / "file", linear)
    assert_same(linear, sx.load(tmp_path / "file", [eqx.nn.Linear])[0])
