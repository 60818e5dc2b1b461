"""The report of a run: what it shows, what it says is missing, and that nothing in a file becomes code."""

import html
import json
import re
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import spikax as sx
from spikax.__main__ import main

from .helpers import random_inputs


Figure = pytest.importorskip("matplotlib.figure").Figure

pytestmark = pytest.mark.modes("float32", "float64")

VILE = "<script>alert('$x$ \"y\" &')</script>"
VOID = {"meta", "img", "br", "link", "hr"}
OPTIONAL = {"li"}


class Reader(HTMLParser):
    """Reads a page. Raises where a tag is not closed; collects tags, attributes, links and texts."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.links, self.names, self.headings, self.text = [], [], [], [], [], ""
        self.source = path.read_text()
        self.feed(self.source)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.names += [name for name, _ in attributes]
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "action")]
        if tag not in VOID | OPTIONAL:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def fit(directory, **options):
    """A training of a line."""
    inputs = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])

    def objective(weight, inputs, targets):
        error = (inputs @ weight - targets) ** 2
        return error, {"accuracy": (error < 1e-2).astype(error.dtype), VILE: error}

    data = sx.datasets.Loader(inputs, inputs[:, 0], batch_size=2)
    return sx.train.fit(
        jnp.zeros(2), objective, data, data, optimizer=optax.sgd(0.01), epochs=3, directory=directory, **options
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A directory of a training with a vile name and settings."""
    directory = tmp_path_factory.mktemp("runs") / "<b>run"
    settings = {"learning_rate": 0.01, VILE: VILE, "nested": {"note": VILE, "list": [1, None]}}
    fit(directory, settings=settings)
    return directory


@pytest.fixture(scope="module")
def simulated(dtype):
    """The simulation of a network, with a name that is vile as well: its third hidden neuron never spikes."""
    weight = jnp.asarray([[9.0, 9.0, -9.0]] * 4, dtype)
    layers = {VILE: sx.Layer(sx.LIF(), 3), "output": sx.Layer(sx.LI(), 2)}
    connections = [sx.Dense("input", VILE, weight), sx.Dense(VILE, "output", jnp.ones((3, 2), dtype))]
    network = sx.Network(layers, connections, 4, "output")
    inputs = random_inputs(3, (5, 4, 3), 20.0, dtype)
    solution = sx.simulate(
        network, inputs, 30.0, max_spikes=32, saveat={"output": jnp.linspace(0.0, 30.0, 31, dtype=dtype)}
    )
    return {"network": network, "inputs": inputs, "solution": solution}


LABELS = {"labels": np.asarray([0, 0, 0, 1, 1]), "answers": np.asarray([0, 0, 1, 1, -1]), "names": ["<i>a", "b"]}


def read(path):
    page = Reader(path)
    # No code, and nothing from elsewhere.
    assert not {"script", "iframe", "object", "link", "form", "b", "i"} & set(page.tags)
    assert not any(name.startswith("on") for name in page.names)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert "default-src 'none'" in page.source and "prefers-color-scheme" in page.source
    assert not re.search(r"url\((?!#)|@import", page.source)
    assert path.stat().st_size < 2e6
    return page


def test_a_directory_of_fit_alone(run):
    """Settings and curves are there; what needs more than the directory is named."""
    path = sx.report(run)
    assert path == run / "report.html"
    page = read(path)
    assert page.headings == ["Overview", "Learning", "Answers", "A sample", "Silent neurons", "Network", "Settings"]
    history = sx.train.read_history(run)
    assert f"{max(history, key=lambda epoch: epoch.score).number} of 3" in page.text
    assert page.tags.count("svg") == len(history[0].training) == 4
    assert page.text.count("Not in this report.") == 4
    for argument in ("labels", "answers", "solution", "network"):
        assert f"<code>{argument}</code>" in page.source
    # A setting is shown as it is.
    assert VILE in page.text and json.dumps({"note": VILE, "list": [1, None]}) in page.text
    assert html.escape(VILE) in page.source and VILE not in page.source
    assert "<b>run" in page.text


def test_all_parts(run, simulated):
    figure = Figure()
    figure.gca().set_title(VILE)
    page = read(sx.report(run, **simulated, **LABELS, figures={VILE: figure}))
    assert VILE in page.headings and "Not in this report." not in page.text.partition("Voltages")[0]
    # Of the voltages, only those of the outputs were saved.
    assert page.text.count("Not in this report.") == 1 and f"The voltages of {VILE}, which" in page.text
    assert "3 of 5 samples are right (60.0%)" in page.text
    cells = re.findall(r'<td class="(\w+)(?: deep)?" style="[^"]*">([\d,]*)<small>([^<]*)', page.source)
    assert cells == [
        ("right", "2", "66.7%"),
        ("wrong", "1", "33.3%"),
        ("nothing", "", ""),
        ("nothing", "", ""),
        ("right", "1", "50.0%"),
        ("none", "1", "50.0%"),
    ]
    # The counts of silent neurons are those of the solution.
    counts = np.asarray(simulated["solution"].spikes[VILE].count)
    assert np.all(counts[:, 2] == 0) and np.all(counts[:, :2].sum(axis=0) > 0)
    row = re.search(
        rf'<th scope="row">{re.escape(html.escape(VILE))}</th>(.*?)</tr>',
        page.source.partition('id="silent-neurons"')[2],
    )
    found = re.findall("<td[^>]*>(.*?)</td>", row[1])
    silent = f"{np.mean(counts == 0):.1%}"
    assert found == ["3", "1", silent, f"{counts.mean():.3g}", str(counts.max()), "2"]
    # The names of the curves and layers in the figures are text.
    assert f"{VILE}\n(3)".splitlines()[0] in page.text
    assert "Dense" in page.text and "5 samples" in page.text


def test_a_simulation_without_anything_else(run, simulated):
    page = read(sx.report(run, solution=simulated["solution"]))
    assert "The spikes of the inputs, which need" in page.text and "confusion matrix, which needs" in page.text


def test_the_command_line_replaces_no_page_with_more(run, simulated, capsys):
    (run / "report.html").unlink(missing_ok=True)
    assert main(["report", str(run)]) == 0
    path = sx.report(run, solution=simulated["solution"])
    before = path.read_text()
    assert main(["report", str(run)]) == 2 and path.read_text() == before
    assert "written by `sx.report` with solution" in capsys.readouterr().err


def test_large_figures_become_images(run, simulated, monkeypatch):
    monkeypatch.setattr("spikax._report._figures._LONGEST", 0)
    page = read(sx.report(run, **simulated, figures={"Own": Figure()}))
    assert "svg" not in page.tags and page.tags.count("img") == 4 + 1 + 2 + 1 + 1


def test_many_classes_have_a_row_each(run):
    labels = np.arange(40)
    answers = np.where(labels % 2 == 0, labels, 7)
    page = read(sx.report(run, labels=labels, answers=answers))
    assert "most frequent wrong answer" in page.text and "7 (1)" in page.text and "matrix" not in page.names


def test_the_style_of_the_user_has_no_effect(run):
    matplotlib = pytest.importorskip("matplotlib")
    expected = sx.report(run).read_text()
    with matplotlib.rc_context({"axes.facecolor": "#123456", "font.size": 30, "svg.fonttype": "path"}):
        assert sx.report(run).read_text() == expected


def test_a_run_without_settings_or_checkpoint(tmp_path):
    fit(tmp_path)
    page = read(sx.report(tmp_path))
    assert "fit was called without settings" in page.text
    (tmp_path / "last.eqx").unlink()
    assert "which are in the checkpoint last.eqx" in read(sx.report(tmp_path)).text
    # A file of settings that is not of the command line.
    (tmp_path / "settings.json").write_text(json.dumps({"task": "mine"}))
    sx.report(tmp_path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"network": 3}, "`network` must be a `sx.Network`"),
        ({"solution": 3}, "`solution` must be a `sx.Solution`"),
        ({"inputs": sx.Spikes(jnp.ones((1, 1, 1)))}, "`inputs` must be given with `solution`"),
        ({"labels": np.arange(3)}, "`answers` must be given with `labels`"),
        ({"labels": np.arange(3), "answers": np.arange(2)}, "`answers` must be of shape"),
        ({"names": ["a"]}, "`names` must be given with `labels`"),
        ({"labels": np.arange(3), "answers": np.arange(3), "names": "ab"}, "`names` must be at least 3"),
        ({"figures": {"a": 3}}, "must be a Matplotlib figure"),
        ({"figures": 3}, "`figures` must be a dictionary"),
    ],
    ids=str,
)
@pytest.mark.unchecked
def test_invalid_arguments(run, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sx.report(run, **options)


def test_inputs_and_solutions_of_one_sample_are_refused(run, simulated):
    inputs, solution = simulated["inputs"], simulated["solution"]
    one = jax.tree.map(lambda leaf: leaf[0], inputs)
    with pytest.raises(ValueError, match="`inputs\\['input'\\]` must be with one batch axis"):
        sx.report(run, solution=solution, inputs=one)
    alone = sx.simulate(simulated["network"], one, 30.0, max_spikes=32)
    with pytest.raises(ValueError, match="`solution` must be that of inputs with one batch axis"):
        sx.report(run, solution=alone)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[3]", '[{"epoch": 1}]', '[{"epoch": 1, "seconds": 1.0}]'])
def test_damaged_measures(tmp_path, text):
    with pytest.raises(ValueError, match="`directory` must be one with the file metrics.json"):
        sx.report(tmp_path)
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match="`directory` must"):
        sx.report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("line", [b"", b"text", b"[]\n", b'{"format": 1}\n', b'{"format": 2, "identity": 3}\n'])
def test_damaged_checkpoints(tmp_path, line):
    rows = [{"epoch": 1, "seconds": 1.0, "training_loss": 1.0, "validation_loss": None}]
    (tmp_path / "metrics.json").write_text(json.dumps(rows))
    assert "nan" in read(sx.report(tmp_path)).text
    (tmp_path / "last.eqx").write_bytes(line)
    with pytest.raises(ValueError, match="`directory` must .*checkpoint"):
        sx.report(tmp_path)


def test_matplotlib_is_optional(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'spikax\[plot\]'"):
        sx.report(run)
