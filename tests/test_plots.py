"""What the pictures show: boxes, arrows, curves, strokes, cells and words, not pixels."""

import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax import plot, train


Figure = pytest.importorskip("matplotlib.figure").Figure
patches = pytest.importorskip("matplotlib.patches")

pytestmark = pytest.mark.modes("float64")

ROWS = [[0.0, -2.0, 3.0], [0.5, 1.0, 0.0]]
WEIGHT = jnp.asarray(ROWS)
NAN = jnp.asarray([[jnp.nan, 1.0]])


@pytest.fixture
def ax():
    return Figure(figsize=(6.0, 5.0)).gca()


def words(ax):
    return [text.get_text() for text in ax.texts]


def arrows(ax):
    return [patch for patch in ax.patches if isinstance(patch, patches.FancyArrowPatch)]


def strokes(ax):
    """The spikes that are drawn, row by row."""
    return [[float(segment[0, 0]) for segment in rows.get_segments()] for rows in ax.collections]


def extent(artist):
    return artist.get_window_extent(artist.get_figure().canvas.get_renderer())


def wired(layers=2, connections=(), **options):
    names = [f"l{i}" for i in range(layers)]
    chain = [sx.Dense(a, b, jnp.ones((3, 3))) for a, b in zip(["input", *names], names, strict=False)]
    given = {"inputs": 3, "outputs": names[-1]} | options
    return sx.Network({name: sx.Layer(sx.LIF(), 3) for name in names}, [*chain, *connections], **given)


def test_a_network_has_a_box_per_layer_and_an_arrow_per_connection(ax):
    layers = {"a": sx.Layer(sx.LIF(), 3), "b": sx.Layer(sx.QIF(), 4)}
    connections = [
        sx.Dense("image", "a", jnp.ones((2, 3)), delay=1.5),
        sx.Dense("a", "b", jnp.ones((3, 4)), delay=jnp.asarray([1.0, 2.0, 3.0])),
        sx.Dense("a", "b", jnp.ones((3, 4))),
        sx.Dense("b", "a", jnp.ones((4, 3))),
        sx.Sparse("b", "b", [0], [1], jnp.ones(1), shape=(4, 4), delay=sx.Positive(2.0)),
        sx.OneToOne("a", "a", jnp.ones(3)),
    ]
    network = sx.Network(layers, connections, {"image": 2, "cue": 1}, ["a", "b"])
    assert plot.network(network, ax) is ax
    assert sum(isinstance(patch, patches.FancyBboxPatch) for patch in ax.patches) == 4
    assert len(arrows(ax)) == len(connections) + len(network.output_names)
    contents = ["image", "2 channels", "cue", "1 channel", "a", "3 LIF", "b", "4 QIF"]
    labels = ["Dense\n1.5 ms", "Dense, 1 to 3 ms", "Dense", "Dense", "Sparse, 2 ms", "OneToOne"]
    assert sorted(words(ax)) == sorted(contents + labels)


@pytest.mark.parametrize("layers", [1, 2, 10])
def test_the_words_of_a_network_lie_inside_the_axes_and_apart(layers):
    backend = pytest.importorskip("matplotlib.backends.backend_agg")
    ax = backend.FigureCanvasAgg(Figure(figsize=(6.0, 6.0), layout="constrained")).figure.gca()
    last = f"l{layers - 1}"
    loops = [sx.Dense(name, name, jnp.ones((3, 3)), delay=1.5) for name in {"l0", last}]
    around = [
        sx.Dense(last, "l0", jnp.ones((3, 3)), delay=12.5),
        sx.Dense("input", last, jnp.ones((3, 3)), delay=jnp.asarray([2.5, 3.0, 17.5])),
    ]
    plot.network(wired(layers, [*loops, *around]), ax)
    ax.figure.draw_without_rendering()
    boxes = [extent(text) for text in ax.texts]
    for number, box in enumerate(boxes):
        assert ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 and ax.bbox.y0 <= box.y0 and box.y1 <= ax.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:number])


def test_traces_rise_to_the_threshold_at_their_spikes(ax):
    ts, values = jnp.asarray([0.0, 1.0, 2.0, 3.0]), jnp.asarray([[0.0, 0.5], [0.5, 0.4], [0.2, 0.3], [0.4, 0.2]])
    spikes = sx.Spikes(jnp.asarray([[1.5, 2.5], [jnp.inf, jnp.inf]]))
    assert plot.traces(ts, values, ax, spikes=spikes, threshold=1.0, names=("a", "b")) is ax
    first, second = ax.lines[:2]
    assert first.get_xydata().tolist() == [[0.0, 0.0], [1.0, 0.5], [1.5, 1.0], [2.0, 0.2], [2.5, 1.0], [3.0, 0.4]]
    assert second.get_ydata().tolist() == values[:, 1].tolist()
    assert strokes(ax) == [[1.5, 2.5], []]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.get_ylim()[1] > max(rows.get_lineoffset() for rows in ax.collections)


def test_traces_without_a_threshold_show_the_values_as_they_are(ax):
    spikes = sx.Spikes(jnp.asarray([[0.5, 4.0]]))
    plot.traces(jnp.asarray([0.0, 1.0]), jnp.asarray([0.0, 0.5]), ax, spikes=spikes)
    assert ax.lines[0].get_ydata().tolist() == [0.0, 0.5]
    assert strokes(ax) == [[0.5, 4.0]]
    assert ax.get_xlim() == (0.0, 4.0)  # a spike after the last value shows


def test_traces_of_whole_numbers_reach_the_threshold_too(ax):
    plot.traces([0, 2], [0, 1], ax, spikes=sx.Spikes(jnp.asarray([[0.5]])), threshold=1.5)
    assert ax.lines[0].get_xydata().tolist() == [[0.0, 0.0], [0.5, 1.5], [2.0, 1.0]]


@pytest.mark.parametrize(
    "weight, port, expected",
    [
        (WEIGHT, None, ROWS),
        ({"exc": WEIGHT, "inh": -WEIGHT}, "inh", [[0.0, 2.0, -3.0], [-0.5, -1.0, 0.0]]),
        (sx.Dense("a", "b", WEIGHT), None, ROWS),
        (sx.Dense("a", "b", sx.Masked(WEIGHT, WEIGHT > 0.7)), None, [[None, None, 3.0], [None, 1.0, None]]),
        (sx.Masked(sx.Masked(WEIGHT, WEIGHT > 0.7), WEIGHT < 2), None, [[None, None, None], [None, 1.0, None]]),
        (sx.OneToOne("a", "b", jnp.asarray([1.0, 2.0])), None, [[1.0, None], [None, 2.0]]),
        # Two synapses lead from the first to the second.
        (
            sx.Sparse("a", "b", [0, 0, 1], [1, 1, 0], jnp.asarray([1.0, 2.0, 4.0]), shape=(2, 2)),
            None,
            [[None, 3.0], [4.0, None]],
        ),
        (
            sx.Conv("a", "b", jnp.asarray([[[[1.0, 2.0]]]]), image=(1, 3)),
            None,
            [[1.0, None], [2.0, 1.0], [None, 2.0]],
        ),
    ],
    ids=["array", "port", "dense", "masked", "masked twice", "one to one", "sparse", "conv"],
)
def test_weights_show_every_synapse(ax, weight, port, expected):
    assert plot.weights(weight, ax, port=port) is ax
    (image,) = ax.images
    shown = np.ma.getdata(image.get_array())[~np.ma.getmaskarray(image.get_array())].tolist()
    assert image.get_array().shape == np.shape(expected)
    assert shown == [number for row in expected for number in row if number is not None]
    assert image.norm.vmin == -image.norm.vmax == -max(map(abs, shown))
    assert len(ax.figure.axes) == 2  # with the colour bar


@pytest.mark.parametrize(
    "weight, count",
    [
        (sx.Sparse("a", "b", [0, 0, 1], [1, 1, 0], jnp.asarray([1.0, 2.0, 4.0]), shape=(2, 2)), 3),
        (sx.Masked(WEIGHT, WEIGHT > 0.7), 2),
        (jnp.linspace(-1.0, 1.0, 1000).reshape(10, 10, 10), 1000),
    ],
    ids=["sparse", "masked", "array"],
)
def test_a_histogram_counts_every_synapse_once(ax, weight, count):
    assert plot.weight_histogram(weight, ax) is ax
    assert sum(bar.get_height() for bar in ax.patches) == count
    # No bar has weights of both signs.
    assert all(bar.get_x() >= -1e-12 or bar.get_x() + bar.get_width() <= 1e-12 for bar in ax.patches)


@pytest.mark.parametrize(
    "delay, count",
    [
        (sx.Dense("a", "b", WEIGHT, delay=1.5), 6),
        (sx.Dense("a", "b", {"x": WEIGHT, "y": sx.Masked(WEIGHT, WEIGHT > 9)}, delay=jnp.asarray([1.0, 2.0])), 6),
        (sx.Dense("a", "b", sx.Masked(WEIGHT, WEIGHT > 0.7), delay=sx.Positive(WEIGHT + 3.0)), 2),
        (sx.Sparse("a", "b", [0, 0], [1, 1], jnp.ones(2), shape=(2, 2), delay=jnp.asarray([1.0, 3.0])), 2),
        (sx.Positive(jnp.ones(5)), 5),
        (jnp.zeros(4), 4),
    ],
    ids=["one for all", "ports", "masked", "sparse", "parameter", "zero"],
)
def test_delays_are_those_of_every_synapse(ax, delay, count):
    assert plot.delays(delay, ax) is ax
    assert sum(bar.get_height() for bar in ax.patches) == count


def test_a_confusion_matrix_shows_counts_and_shares(ax):
    labels, answers = jnp.asarray([0, 0, 0, 0, 1]), jnp.asarray([0, 0, 0, 1, 1])
    assert plot.confusion_matrix(labels, answers, ax) is ax
    assert words(ax) == ["3\n75.0%", "1\n25.0%", "1\n100%"]
    assert [text.get_position() for text in ax.texts] == [(0, 0), (1, 0), (1, 1)]
    assert "4 of 5" in ax.get_title()


def test_samples_without_an_answer_have_a_column(ax):
    plot.confusion_matrix([1, 1], [-1, 1], ax, names=("yin", "yang", "dot"))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["yin", "yang", "dot", "none"]
    assert [text.get_position() for text in ax.texts] == [(1, 1), (3, 1)]
    assert words(ax) == ["1\n50.0%", "1\n50.0%"]


def test_a_raster_of_silent_layers_and_one_of_many_spikes(ax):
    silent, busy = sx.Spikes(jnp.full((3, 2), jnp.inf)), sx.Spikes(jnp.tile(jnp.arange(100.0), (50, 1)))
    plot.raster([("a", silent), ("b", busy)], ax)
    assert [len(row) for row in strokes(ax)] == [0] * 3 + [100] * 50
    plot.raster(silent, Figure().gca())


def test_a_raster_shows_events_as_the_spikes_that_they_are(ax):
    spikes = sx.Spikes(jnp.asarray([[1.0, 5.0], [jnp.inf, jnp.inf], [3.0, jnp.inf]]))
    plot.raster([("a", spikes.events()), ("b", spikes)], ax)
    assert strokes(ax) == 2 * [[1.0, 5.0], [], [3.0]]
    alone = plot.raster(spikes.events(), Figure().gca())
    assert strokes(alone) == [[1.0, 5.0], [], [3.0]] and alone.get_ylabel() == "channel"
    assert alone.get_yticks().tolist() == [0, 1, 2]  # no row is named that is not there


def test_a_raster_ends_where_it_is_told(ax):
    spikes = sx.Spikes(jnp.asarray([[1.0, 5.0, 20.0], [2.0, 5.001, jnp.inf]]))
    low, high = plot.raster(spikes, ax, t1=50.0).get_xlim()
    assert low == pytest.approx(-0.75) and high == pytest.approx(50.75)
    assert plot.raster(spikes, Figure().gca()).get_xlim()[1] == pytest.approx(20.3)
    # A spike at the end counts, and one after it does not, though there is room for its stroke.
    assert strokes(plot.raster(spikes, Figure().gca(), t1=5.0)) == [[1.0, 5.0], [2.0]]
    early = plot.raster(sx.Spikes(spikes.times - 100.0), Figure().gca(), t1=-40.0)
    assert early.get_xlim() == pytest.approx((-99.0 - 0.885, -40.0 + 0.885))


def history(*accuracies):
    return [train.Epoch(i + 1, 1.0, {"accuracy": a}, {"accuracy": a}) for i, a in enumerate(accuracies)]


def test_the_learning_curve_of_one_epoch_shows(ax):
    plot.learning_curve(history(0.9), ax)
    assert all(line.get_marker() == "o" for line in ax.lines)
    low, high = ax.get_xlim()
    assert low < 1 < high


@pytest.mark.parametrize("accuracies", [(0.0, 0.9), (0.724, 0.726), (0.9, 1.0, 0.99), (1.0, 1.0), (0.0, 0.0)])
def test_a_learning_curve_lies_inside_its_axes(ax, accuracies):
    plot.learning_curve(history(*accuracies), ax)
    low, high = ax.get_ylim()
    assert all(low < error < high for error in ax.lines[0].get_ydata())
    assert sum(low <= tick <= high for tick in ax.get_yticks()) >= 2


TS = jnp.asarray([0.0, 1.0])
TRAIN = sx.Spikes(jnp.ones((1, 1)))


@pytest.mark.parametrize(
    "name, call",
    [
        ("network", lambda ax: plot.network(sx.Layer(sx.LIF(), 3), ax)),
        ("ts", lambda ax: plot.traces(TS[None], TS, ax)),
        ("ts", lambda ax: plot.traces(TS[::-1], TS, ax)),
        ("ts", lambda ax: plot.traces(jnp.asarray([0.0, jnp.inf]), TS, ax)),
        ("values", lambda ax: plot.traces(TS, jnp.ones((4, 2, 3)), ax)),
        ("values", lambda ax: plot.traces(TS, jnp.ones(3), ax)),
        ("values", lambda ax: plot.traces(TS, TS * jnp.nan, ax)),
        ("values", lambda ax: plot.traces(TS, "voltage", ax)),
        ("spikes", lambda ax: plot.traces(TS, TS, ax, spikes=jnp.ones((1, 1)))),
        ("spikes", lambda ax: plot.traces(TS, jnp.ones((2, 2)), ax, spikes=TRAIN)),
        ("threshold", lambda ax: plot.traces(TS, TS, ax, threshold=jnp.ones(2))),
        ("threshold", lambda ax: plot.traces(TS, TS, ax, threshold="high")),
        ("names", lambda ax: plot.traces(TS, TS, ax, names=("a", "b"))),
        ("colours", lambda ax: plot.traces(TS, TS, ax, colours=())),
        ("colours", lambda ax: plot.raster(TRAIN, ax, colours=())),
        ("spikes", lambda ax: plot.raster(sx.Events(jnp.ones((2, 1)), jnp.zeros((2, 1), int), 1), ax)),
        ("spikes", lambda ax: plot.raster(sx.Spikes(jnp.ones((2, 3, 1))), ax)),
        ("spikes", lambda ax: plot.raster([("a", jnp.ones((3, 1)))], ax)),
        ("spikes", lambda ax: plot.raster([], ax)),
        ("t1", lambda ax: plot.raster(TRAIN, ax, t1="end")),
        ("t1", lambda ax: plot.raster(TRAIN, ax, t1=jnp.ones(2))),
        ("t1", lambda ax: plot.raster(TRAIN, ax, t1=0.0)),
        ("weight", lambda ax: plot.weights(jnp.ones(3), ax)),
        ("weight", lambda ax: plot.weights(NAN, ax)),
        ("weight", lambda ax: plot.weights(None, ax)),
        ("weight", lambda ax: plot.weights(sx.Dense("a", "b", WEIGHT.at[0].set(jnp.inf)), ax)),
        ("weight", lambda ax: plot.weight_histogram("all", ax)),
        ("weight", lambda ax: plot.weight_histogram(NAN, ax)),
        ("weight", lambda ax: plot.weights(sx.Masked(WEIGHT, WEIGHT > 9), ax)),
        ("weight", lambda ax: plot.weight_histogram(sx.Dense("a", "b", sx.Masked(WEIGHT, WEIGHT > 9)), ax)),
        ("weight", lambda ax: plot.weights(sx.Dense("a", "b", sx.Masked(WEIGHT, WEIGHT > 9)), ax)),
        ("port", lambda ax: plot.weights({"exc": WEIGHT}, ax)),
        ("port", lambda ax: plot.weights(WEIGHT, ax, port="exc")),
        ("delay", lambda ax: plot.delays(sx.Dense("a", "b", WEIGHT), ax)),
        ("delay", lambda ax: plot.delays(jnp.asarray([-1.0]), ax)),
        ("delay", lambda ax: plot.delays(NAN, ax)),
        ("delay", lambda ax: plot.delays(jnp.ones(0), ax)),
        ("delay", lambda ax: plot.delays(sx.Dense("a", "b", sx.Masked(WEIGHT, WEIGHT > 9), delay=1.0), ax)),
        ("delay", lambda ax: plot.delays(sx.LIF(), ax)),
        ("labels", lambda ax: plot.confusion_matrix([0.5], [1], ax)),
        ("labels", lambda ax: plot.confusion_matrix([-1], [1], ax)),
        ("labels", lambda ax: plot.confusion_matrix([[1]], [[1]], ax)),
        ("answers", lambda ax: plot.confusion_matrix([1], [-2], ax)),
        ("answers", lambda ax: plot.confusion_matrix([1, 0], [1], ax)),
        ("names", lambda ax: plot.confusion_matrix([1], [1], ax, names=("a",))),
    ],
)
def test_rubbish_is_refused(ax, name, call):
    with pytest.raises((TypeError, ValueError), match=f"^`{name}` must be "):
        call(ax)
