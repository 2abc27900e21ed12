"""nm.graph: DOT text that says what the program says, pictures where Graphviz is, and files written whole."""

import os
import re
import stat
import sys

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, MissingDependency, TraceError

NODE = re.compile(r'^\s*(n\d+) \[label="((?:[^"\\]|\\.)*)"(.*)\];$')
EDGE = re.compile(r"^\s*(n\d+) -> (n\d+)(?: \[(.*)\])?;$")
OPEN = re.compile(r"^\s*subgraph (cluster_\d+) \{$")


def ones(*shape):
    return np.ones(shape)


def parse(dot):
    """Nodes, edges and the clusters of each node; every line of the text must be one of those that are known."""
    lines = dot.splitlines()
    assert lines[0].startswith("digraph ")
    assert lines[0].endswith(" {")
    assert lines[-1] == "}"
    nodes, edges, clusters, titles, around = {}, [], {}, {}, []
    for line in lines[1:-1]:
        if m := NODE.match(line):
            assert m[1] not in nodes
            nodes[m[1]] = re.sub(r"\\(.)", lambda e: "\n" if e[1] == "n" else e[1], m[2])
            clusters[m[1]] = tuple(around)
        elif m := EDGE.match(line):
            edges.append((m[1], m[2], m[3] or ""))
        elif m := OPEN.match(line):
            around.append(m[1])
        elif line.strip() == "}":
            around.pop()
        elif m := re.match(r'^\s*label="(.*?)"; fontname', line):
            titles[around[-1]] = m[1]
        else:
            assert re.match(r"^\s*(graph|node|edge) \[.*\];$", line), line
    assert not around
    assert {n for e in edges for n in e[:2]} <= set(nodes)
    return nodes, edges, clusters, titles


def predict(w, x):
    return np.tanh(x @ w) - 1.5


def test_nodes_and_edges_are_those_of_the_program():
    nodes, edges, _, _ = parse(nm.graph(predict, ones(3, 4), ones(2, 3)).dot)
    assert list(nodes.values()) == [
        "w\nfloat64 (3, 4)",
        "x\nfloat64 (2, 3)",
        "contract\nspec=('ij', 'jk', 'ik')\nfloat64 (2, 4)",
        "tanh\nfloat64 (2, 4)",
        "subtract(_, 1.5)\nfloat64 (2, 4)",
        "result",
    ]
    assert edges == [
        ("n1", "n2", 'headlabel="0"'),
        ("n0", "n2", 'headlabel="1"'),
        ("n2", "n3", ""),
        ("n3", "n4", ""),
        ("n4", "n5", ""),
    ]


def model_loss(model, x):
    return nm.nn.softmax_cross_entropy(model(x), np.array([0, 1])).mean()


@pytest.mark.parametrize("f", [model_loss, nm.grad(model_loss)], ids=["loss", "gradient"])
def test_a_model_whose_leaves_have_their_paths(f):
    args = nm.nn.MLP.init((3, 4, 2), rng=0), ones(2, 3)
    program = nm.stage(f, *args)
    nodes, edges, _, _ = parse(nm.graph(f, *args).dot)
    labels = list(nodes.values())
    assert [t.splitlines()[0] for t in labels[:5]] == [
        "model.layers[0].weight",
        "model.layers[0].bias",
        "model.layers[1].weight",
        "model.layers[1].bias",
        "x",
    ]
    operations = [
        t
        for t in labels
        if t.split("\n")[0].split("(")[0] in {e.primitive.name for e in program.equations}
    ]
    assert len(operations) == len(program.equations)
    read = sum(hasattr(x, "number") for e in program.equations for x in e.operands)
    assert len(edges) == read + sum(hasattr(o, "number") for o in program.outputs)
    if f is not model_loss:
        assert "result.layers[0].weight" in labels


def test_lines_of_the_code_are_tooltips():
    dot = nm.graph(predict, ones(3, 4), ones(2, 3)).dot
    number = predict.__code__.co_firstlineno + 1
    assert dot.count(f'tooltip="test_graph.py:{number}: return np.tanh(x @ w) - 1.5"') == 3


def test_sub_programs_are_clusters():
    def step(c, t):
        return nm.cond(c.sum() > 0, lambda a: 2 * a, lambda a: a, c + np.sin(t)), c

    nodes, edges, clusters, titles = parse(
        nm.graph(lambda c, ts: nm.scan(step, c, ts), ones(3), ones(5, 3)).dot
    )
    assert titles == {
        "cluster_0": "scan: body",
        "cluster_1": "cond: false_fun",
        "cluster_2": "cond: true_fun",
    }
    of = {t.split("\n")[0]: clusters[n] for n, t in nodes.items()}
    assert of["scan"] == ()
    assert of["sin"] == of["cond"] == ("cluster_0",)
    assert of["multiply(2, _)"] == ("cluster_0", "cluster_2")
    joined = [e for e in edges if "lhead" in e[2]]
    assert [e[2].split(",")[0] for e in joined] == [
        "lhead=cluster_1",
        "lhead=cluster_2",
        "lhead=cluster_0",
    ]
    for tail, head, _ in set(edges) - set(joined):  # no value crosses the frame of a sub-program
        assert clusters[tail] == clusters[head]


def test_a_program_several_results_numbers_and_nothing():
    program = nm.stage(lambda x: {"u": np.linalg.svd(x)[0], "s": 2.0}, ones(2, 2))
    nodes, edges, _, _ = parse(nm.graph(program).dot)
    assert nodes["n0"] == "args[0]\nfloat64 (2, 2)"
    assert list(nodes.values())[-2:] == ["result['s']\n2.0", "result['u']"]
    assert edges[-1][2] == 'headlabel="result 0"'
    nodes, edges, _, _ = parse(nm.graph(lambda: 1.0).dot)
    assert (list(nodes.values()), edges) == (["result\n1.0"], [])
    nodes, edges, _, _ = parse(nm.graph(lambda x: x * x, 2.0).dot)
    assert edges[:2] == [("n0", "n1", "")] * 2


def test_names_are_escaped():
    key = 'a"b\\N\nc\\'
    f = lambda p: p[key] + 1  # noqa: E731
    f.__name__ = 'quote " and \\'
    drawn = nm.graph(f, {key: ones(2)})
    nodes, _, _, _ = parse(drawn.dot)
    assert nodes["n0"] == f"p[{key!r}]\nfloat64 (2,)"
    assert drawn.dot.splitlines()[0] == 'digraph "quote \\" and \\\\" {'


def test_it_prints_its_text():
    drawn = nm.graph(predict, ones(3, 4), ones(2, 3))
    assert str(drawn) == drawn.dot
    assert repr(drawn) == f"ProgramGraph(predict: {len(drawn.dot.splitlines())} lines of DOT)"


# ------------------------------------------------------------------------------------------- files
@pytest.fixture
def drawn():
    return nm.graph(predict, ones(3, 4), ones(2, 3))


@pytest.fixture
def no_dot(monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.fixture
def fake_dot(monkeypatch, tmp_path):
    """A `dot` that answers with its argument and what it read; it fails on a text with the word `broken`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "dot"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "text = sys.stdin.read()\n"
        "sys.exit('syntax error near broken') if 'broken' in text else print('<svg>', sys.argv[1:], text)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize("ending", [".dot", ".gv", ".DOT"])
def test_text_needs_nothing(drawn, tmp_path, no_dot, ending):
    path = tmp_path / f"net{ending}"
    path.write_text("old")
    drawn.save(path)
    assert path.read_text() == drawn.dot
    assert sorted(os.listdir(tmp_path)) == ["empty", path.name]  # nothing else is left


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_a_picture_without_graphviz_is_a_clear_error(drawn, tmp_path, no_dot, ending):
    path = tmp_path / f"net.{ending}"
    path.write_text("old")
    with pytest.raises(
        MissingDependency, match=r"needs Graphviz, and there is no `dot` on the PATH"
    ):
        drawn.save(path)
    assert path.read_text() == "old"
    assert drawn._repr_svg_() is None


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for Graphviz is a script")
def test_a_picture_is_drawn_by_graphviz(drawn, tmp_path, fake_dot):
    drawn.save(str(tmp_path / "net.svg"))
    assert (tmp_path / "net.svg").read_text() == f"<svg> ['-Tsvg'] {drawn.dot}\n"
    drawn.save(tmp_path / "net.png")
    assert (tmp_path / "net.png").read_text().startswith("<svg> ['-Tpng']")
    assert drawn._repr_svg_() == f"<svg> ['-Tsvg'] {drawn.dot}\n"
    broken = nm.graph(lambda broken: broken * 2, 1.0)
    with pytest.raises(
        MissingDependency, match=r"dot failed with code 1: syntax error near broken"
    ):
        broken.save(tmp_path / "net.svg")
    assert broken._repr_svg_() is None
    assert sorted(os.listdir(tmp_path)) == ["bin", "net.png", "net.svg"]
    assert (tmp_path / "net.svg").read_text().endswith(f"{drawn.dot}\n")  # the old picture is whole


def test_a_file_that_cannot_be_finished_leaves_the_old_one(drawn, tmp_path, monkeypatch):
    path = tmp_path / "net.dot"
    path.write_text("old")

    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        drawn.save(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["net.dot"]


@pytest.mark.parametrize("name", ["net", "net.txt", "net.dot.bak"])
def test_other_endings_are_refused(drawn, tmp_path, name):
    with pytest.raises(DomainError, match=r"`path` must end in one of \.dot, \.gv, \.svg"):
        drawn.save(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_bad_arguments_are_refused():
    with pytest.raises(DtypeError, match="graph: `f` must be callable"):
        nm.graph(3)
    with pytest.raises(DomainError, match="a Program takes no `args`, got 1"):
        nm.graph(nm.stage(np.sin, 1.0), 1.0)
    with pytest.raises(TraceError):
        nm.graph(lambda x: 1 if x > 0 else 2, 1.0)
