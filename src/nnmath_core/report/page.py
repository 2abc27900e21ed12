"""The report of a study: one HTML file, made from the results alone.

Nothing is loaded from elsewhere: style and pictures are inside. Colours are variables with a light
and a dark set, the reader's system chooses. Columns become rows on a narrow screen, and what is
wider than the screen scrolls in its own box.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from nnmath_core.plot.curves import loss_curves
from nnmath_core.plot.spectrum import eigenvalue_ends, singular_values
from nnmath_core.report.numbers import interval, percent, short

__all__ = ["study_page"]

Results = dict[str, Any]

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1a1c20;--soft:#5d6470;--line:#d9dde3;--card:#f4f6f9;
--good:#14713a;--bad:#b3261e;--series-1:#1f5fbf;--series-2:#c2410c;--series-3:#15803d;--series-4:#7c3aed;
--series-5:#a8286a;--series-6:#0e7490}
@media(prefers-color-scheme:dark){:root{--paper:#14161a;--ink:#e8eaee;--soft:#a3abb8;--line:#353a43;--card:#1e2127;
--good:#5cc98a;--bad:#ff8a80;--series-1:#7fb0ff;--series-2:#ff9d5c;--series-3:#69d391;--series-4:#b99cff;
--series-5:#ff8fc4;--series-6:#56cfe1}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:64rem;margin:0 auto;padding:1rem 1rem 3rem}
h1{font-size:1.5rem;line-height:1.25;margin:.3rem 0}
h2{font-size:1.2rem;margin:2.2rem 0 .5rem}
p{margin:.5rem 0;max-width:46rem}
.soft{color:var(--soft)}
.small{font-size:.86rem}
.cards{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));margin:1rem 0}
.card{background:var(--card);border-radius:.6rem;padding:.8rem 1rem}
.card h2{font-size:1rem;margin:0}
.number{font-size:2rem;font-weight:650;line-height:1.2;margin:.2rem 0}
.good{color:var(--good)}.bad{color:var(--bad)}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5rem 0}
th,td{padding:.25rem .7rem .25rem 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
th{color:var(--soft);font-weight:500}
figure{margin:.8rem 0;max-width:42rem}
figure svg{width:100%;height:auto;display:block}
figcaption{color:var(--soft);font-size:.86rem}
code{font-size:.9em;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:.5rem 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
"""


def study_page(results: Results) -> str:
    """Return the page of a study's results."""
    data, model = results["data"], results["model"]
    title = f"A network on {data['name']}"
    lead = (
        f"{model['name']} with {model['parameters']} parameters, {data['rows']} rows of "
        f"{data['features']} features in {len(data['classes'])} classes."
    )
    sections = (
        _cards(results),
        _accuracy(results["accuracy"], data["classes"]),
        *(
            [_optimizers(results["optimizers"], results["study"]["protocol"])]
            if results["optimizers"]
            else []
        ),
        _layers(results["layers"], results["surface"]["rows"]),
        _surface(results["surface"]),
        _gradients(results["gradients"]),
        _made(results),
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="soft">{escape(lead)}</p>\n'
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


# --------------------------------------------------------------------------------- first screen
def _cards(results: Results) -> str:
    accuracy, gradients, surface = (results[k] for k in ("accuracy", "gradients", "surface"))
    chance = max(c["rows"] for c in results["data"]["classes"]) / results["data"]["rows"]
    good = _card(
        "How good is the network?",
        percent(accuracy["mean"]),
        f"of new examples get their class right; with 95 % confidence "
        f"{interval(*accuracy['interval'])}. Always guessing the commonest class: {percent(chance)}.",
    )
    trusted = _card(
        "Can its gradients be trusted?",
        f"{gradients['wrong']} wrong",
        ("Yes. " if gradients["ok"] else "No. ") + gradients["verdict"],
        "good" if gradients["ok"] else "bad",
    )
    top = surface["eigenvalues"][-1]
    flat = _card(
        "What does its loss surface look like where training stopped?",
        short(top["value"]),
        f"is the steepest curvature, the largest eigenvalue of the Hessian. {surface['verdict']}",
    )
    return f'<div class="cards">{good}{trusted}{flat}</div>'


def _card(question: str, number: str, words: str, kind: str = "") -> str:
    return (
        f'<section class="card"><h2>{escape(question)}</h2>'
        f'<div class="number {kind}">{escape(number)}</div><p>{escape(words)}</p></section>'
    )


# --------------------------------------------------------------------------------------- below
def _accuracy(accuracy: Results, classes: Sequence[Results]) -> str:
    rows = [
        (str(k + 1), str(s["tested"]), str(s["correct"]), percent(s["accuracy"]))
        for k, s in enumerate(accuracy["splits"])
    ]
    if len(rows) > 1:
        rows.append(("mean", "", "", percent(accuracy["mean"])))
    labels = [c["label"] for c in classes]
    pairs = sorted(
        (
            (count, labels[i], labels[j])
            for i, line in enumerate(accuracy["confusion"])
            for j, count in enumerate(line)
            if i != j and count
        ),
        key=lambda pair: -pair[0],
    )
    mistakes = [(a, b, str(count)) for count, a, b in pairs[:6]]
    how = (
        "Each row was tested once, by a network that had not seen it: the rows are divided into "
        f"{len(accuracy['splits'])} parts with the same shares of the classes, and each part is tested by a "
        "network trained on the others."
        if len(accuracy["splits"]) > 1
        else "The rows that were set aside for the test were not seen in the training."
    )
    text = f"<h2>Accuracy</h2><p>{how} {escape(accuracy['method'])}.</p>" + _table(
        ("split", "tested", "right", "accuracy"), rows
    )
    if mistakes:
        text += "<p>The most frequent mistakes:</p>"
        text += _table(("true class", "answer", "times"), mistakes)
    return text


def _optimizers(records: Sequence[Results], protocol: Results) -> str:
    picture = loss_curves({r["name"]: r["loss"] for r in records})
    longest = max(len(r["loss"]) for r in records) - 1
    rows = [
        (
            r["name"],
            ", ".join(
                f"{name.replace('_', ' ')} {value:g}" for name, value in r["settings"].items()
            ),
            "diverged" if r["diverged"] else short(r["loss"][-1]),
            "" if r["test_accuracy"] is None else percent(r["test_accuracy"]),
        )
        for r in records
    ]
    return (
        "<h2>Five optimizers</h2><p>The same start and the same batches of "
        f"{protocol['batch_size']} rows for {longest} epochs at constant rates, on "
        "the first split. The rates are common choices and not tuned: this shows how each behaves, not "
        "which is best.</p>"
        + _figure(picture, "Mean cross entropy of the training rows after each epoch.")
        + _table(("optimizer", "settings", "last loss", "test accuracy"), rows)
    )


def _layers(layers: Sequence[Results], rows_used: int) -> str:
    picture = singular_values({r["name"]: r["singular_values"] for r in layers})
    weights = [
        (
            r["name"],
            " × ".join(map(str, r["shape"])),
            short(r["singular_values"][0]),
            short(r["singular_values"][-1]),
            "singular" if r["condition"] is None else short(r["condition"]),
            short(r["gain"]),
        )
        for r in layers
    ]
    signals = [
        (
            r["name"],
            *(short(r[k]) for k in ("input", "output", "output_gradient", "weight_gradient")),
        )
        for r in layers
    ]
    notes = sorted({r["note"] for r in layers if r["note"]})
    return (
        "<h2>Layers</h2><p>The weights after training. The condition is the largest singular value over "
        "the smallest; the gain is the factor by which white noise grows in passing the layer.</p>"
        + _table(("weight", "shape", "largest", "smallest", "condition", "gain"), weights)
        + _figure(picture, "Singular values of each weight, in descending order.")
        + f"<p>Sizes of the signals on {rows_used} training rows, as root mean squares: what enters the "
        "product with the weight, what leaves it, the gradient of an example's loss in what leaves it, "
        "and the gradient of the mean loss in the weight.</p>"
        + _table(("weight", "in", "out", "gradient of out", "gradient of weight"), signals)
        + "".join(f'<p class="soft">{escape(note)}</p>' for note in notes)
    )


def _surface(surface: Results) -> str:
    values = surface["eigenvalues"]
    low, high = values[: surface["lowest"]], values[surface["lowest"] :]
    picture = eigenvalue_ends([e["value"] for e in low], [e["value"] for e in high])
    rows = [
        (
            f"{'highest' if e in high else 'lowest'} {k}",
            short(e["value"], 6),
            f"± {short(e['bound'], 2)}",
            "yes" if e["converged"] else "no",
        )
        for k, e in [
            *((k + 1, e) for k, e in enumerate(reversed(high))),
            *((k + 1, e) for k, e in enumerate(low)),
        ]
    ]
    down, bent = surface["downhill"], surface["negative_direction"]
    tried = (
        f"Along the negative gradient the loss falls from {short(surface['loss'])} to "
        f"{short(down['loss'])} at distance {short(down['distance'])}."
    )
    if bent is not None:
        tried += (
            f" Along the direction of the lowest curvature it goes to {short(bent['loss'])} at distance "
            f"{short(bent['distance'])}."
        )
    return (
        "<h2>Loss surface</h2>"
        f"<p><strong>{escape(surface['verdict'])}</strong> {escape(tried)}</p>"
        f"<p>The surface is that of the mean cross entropy of {surface['rows']} training rows in "
        f"{surface['parameters']} parameters. The gradient there has norm {short(surface['gradient_norm'])}. "
        "Each eigenvalue of the Hessian comes with a bound: some true eigenvalue lies within it. "
        f"{escape(_others(surface))}Lanczos iteration: {escape(surface['iteration'])}.</p>"
        + _figure(
            picture, "The lowest and the highest eigenvalues; those between are not computed."
        )
        + _table(("eigenvalue", "value", "bound", "converged"), rows)
    )


def _others(surface: Results) -> str:
    low, high = surface["others"]
    if low is None or high is None:
        return ""
    return (
        f"All that are not listed lie between {short(low)} and {short(high)}, with a probability of at "
        "least 0.999 over the random start. "
    )


def _gradients(gradients: Results) -> str:
    lines = "".join(f"<p>{escape(line)}</p>" for line in gradients["findings"])
    return (
        "<h2>Gradients</h2><p>Before training, the derivatives of the loss were compared with differences "
        f"of the loss on {gradients['rows']} rows. {escape(gradients['verdict'])}</p>{lines}"
    )


def _made(results: Results) -> str:
    study, environment, data = results["study"], results["environment"], results["data"]
    blas = environment["blas"]
    pools = (
        blas
        if isinstance(blas, str)
        else "; ".join(
            f"{p['internal_api']} {p['version']} ({p['architecture']}), threads: {p['num_threads']}"
            for p in blas
        )
    )
    rows = {
        "data": f"{data['source']}, {data['dtype']}, SHA-256 {data['sha256'][:16]}…",
        "seed": str(study["seed"]),
        "device": study["device"],
        "features": "standardised" if study["standardised"] else "as they are",
        "training": f"Adam, learning rate {study['protocol']['learning_rate']:g} falling to 0 along half a "
        f"cosine, {results['accuracy']['epochs']} epochs, batches of {study['protocol']['batch_size']}",
        "versions": ", ".join(
            f"{name} {environment[name]}" for name in ("nnmath_core", "python", "numpy", "scipy")
        ),
        "machine": f"{environment['machine']}, instruction set {environment['instruction_set']}",
        "BLAS": pools,
    }
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items())
    return (
        f'<h2>How this was made</h2><dl class="small">{items}</dl>'
        '<p class="small soft">All numbers, more than are shown, stand in <code>results.json</code>. The '
        "same seed, versions, machine and numbers of threads give the same bits.</p>"
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
