"""The page that `reenax quickstart` leaves: one file that shows everything, offline, and loads nothing.

Videos and pictures are inside it as copies. Its policy allows no request at all, and no script but its own.
"""

import base64
import hashlib
import html
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from reenax.inference.evaluate import ROWS
from reenax.inference.protocols import CROSS, PROTOCOLS
from reenax.inference.report import shown, write_text
from reenax.inference.scores import METRICS
from reenax.quickstart.curve import curve
from reenax.quickstart.look import SCRIPT, STYLE

COMPETING = ("method", "copy", "copy_driving")
"""The rows among which the best is marked: what estimators read from the truth itself is no competitor."""

BASELINES = {"copy": "copying the source", "copy_driving": "copying the driving frame"}
WHO = {"test": "On people it never saw", "train": "On the people it was trained on"}
WHAT = {
    "self": "doing what they do themselves",
    "cross": "doing what others do",
    "cross_relative": "doing what others do from an aligned start",
}

NEXT: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "Train longer",
        "More people, larger pictures, more steps. Stopped or killed, "
        "`reenax train --resume runs/heads128` goes on as if nothing had happened.",
        (
            "reenax prepare synthetic --identities 400 --seconds 3.2 --fps 5 --size 128 --workers 2 "
            "--out data/heads128",
            "reenax train --config configs/fomm.py:synth128 --data data/heads128 --run runs/heads128",
        ),
    ),
    (
        "Train on your own videos",
        "A model that has only seen made-up heads knows no photographs. Videos of people teach it; the second command "
        "turns the published VGG-19 into the weights of the perceptual loss.",
        (
            "reenax prepare videos/ --out data/mine --size 256 --workers 8",
            "reenax import vgg19 vgg19-dcbb9e9d.pth --out runs/vgg19",
            "reenax train --config configs/fomm.py:vox256 --data data/mine --run runs/vox "
            "--config.frozen.vgg19=runs/vgg19",
        ),
    ),
    (
        "Animate your own picture",
        "The driving video's sound and frame times are kept; `--compare` writes source, driving and result side by "
        "side.",
        ("reenax animate --run runs/vox --source me.jpg --driving talk.mp4 --out me_talking.mp4 --compare",),
    ),
    (
        "Compare",
        "Which methods there are and how to measure them all alike.",
        ("reenax methods", "python experiments/benchmark.py --help"),
    ),
)
"""Title, text with commands in backquotes, and the commands to copy."""

RESPONSIBLE = (
    "The people on this page are made up: they are rendered and never lived. When you animate real people, animate "
    "those who agreed to it, and do not deceive, harass or impersonate. Every reenacted clip carries C2PA content "
    "credentials that say it was made by AI, by which method, from which kind of inputs. What this page embeds are "
    "copies; the signed files lie beside it. Pass those on, and leave the credentials in."
)


class Clip(NamedTuple):
    """A video to show.

    Attributes:
        title: stands above it; where it names several pictures side by side, divided by " | ", as heads of columns.
        caption: stands below it.
        path: a small .mp4 that browsers can play (H.264, AAC).
    """

    title: str
    caption: str
    path: Path


def write_page(
    path: Path,
    *,
    clips: Sequence[Clip],
    evaluation: Mapping[str, Any] | None,
    history: Sequence[Mapping[str, float | int | None]],
    sheet: Path | None,
    commands: Sequence[str],
    facts: Mapping[str, str],
    unfinished: str = "",
) -> None:
    """Writes the page in one piece: it is there whole or not at all. What is not there yet is left out.

    Args:
        path: the .html file; its folder exists.
        clips: videos, embedded.
        evaluation: what `reenax.inference.evaluate.Evaluation.to_json` gives.
        history: the rows of a run's ``metrics.jsonl``, in any order.
        sheet: a PNG of examples, embedded.
        commands: what made all this, in order.
        facts: names and values to remember.
        unfinished: the stage at which it stopped; empty when all is done.

    Raises:
        OSError: a clip or the sheet cannot be read, or the page cannot be written.
    """
    sections = [
        *_banner(unfinished),
        *_clips(clips),
        *_evaluation(evaluation),
        *_sheet(sheet),
        *_history(history),
        *_making(commands, facts),
        *_next(),
    ]
    write_text(path, _document("".join(sections)))


def verdict(evaluation: Mapping[str, Any]) -> str:
    """Sentences on how the method does against doing nothing, across identities where that was measured.

    Empty where the numbers for it are missing.
    """
    protocols = evaluation["protocols"]
    name = CROSS if CROSS in protocols else next(iter(protocols), "")
    rows = protocols.get(name, {})
    method = rows.get("method", {})
    split = evaluation.get("split", "test")
    opening = f"{WHO.get(split, f'On the {split} clips')}, {WHAT.get(name, name)}"
    sentences = []
    for row, name in BASELINES.items():
        baseline = rows.get(row, {})
        if any(_missing(scores.get(m)) for scores in (method, baseline) for m in ("l1", "psnr")):
            continue
        change = 100 * (method["l1"] / max(baseline["l1"], 1e-9) - 1)
        gain = method["psnr"] - baseline["psnr"]
        ending = ("; that is worse than doing nothing", "; better by one of the two only", "")[
            (change < 0) + (gain > 0)
        ]
        sentences.append(
            f"{'L1 is' if sentences else f'{opening}: L1'} {_apart(change, '%')} {name}, "
            f"PSNR {_apart(gain, 'dB')} it{ending}."
        )
    return " ".join(sentences)


def _apart(difference: float, unit: str) -> str:
    digits = 0 if unit == "%" and abs(difference) >= 1 else 1
    return f"{abs(difference):.{digits}f}\N{NO-BREAK SPACE}{unit} {'below' if difference < 0 else 'above'}"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _escaped(text: object) -> str:
    return html.escape(str(text))


def _prose(text: str) -> str:
    """Escaped text in which `backquoted` words are code."""
    parts = _escaped(text).split("`")
    return "".join(f"<code>{part}</code>" if k % 2 else part for k, part in enumerate(parts))


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{_escaped(title)}</h2>{''.join(parts)}</section>\n"


def _embedded(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _banner(unfinished: str) -> Iterator[str]:
    if unfinished:
        yield (
            f'<p class="banner" role="status"><strong>Not finished.</strong> It stopped at this stage: '
            f"{_escaped(unfinished)}. Run the same command again: it continues there. "
            "What was made so far is below.</p>\n"
        )


def _clips(clips: Sequence[Clip]) -> Iterator[str]:
    if not clips:
        return
    figures = []
    for clip in clips:
        heads = "".join(f"<span>{_escaped(part)}</span>" for part in clip.title.split(" | "))
        figures.append(
            f'<figure><div class="heads">{heads}</div>'
            f'<video controls loop muted playsinline preload="auto" aria-label="{_escaped(clip.title)}: '
            f'{_escaped(clip.caption)}" src="{_embedded(clip.path, "video/mp4")}"></video>'
            f"<figcaption>{_escaped(clip.caption)}</figcaption></figure>"
        )
    button = '<button type="button" id="together" hidden>Play all together</button>'
    sound = '<p class="note">The players are muted to begin with.</p>'
    yield _section("Watch", button, *figures, sound)


def _evaluation(evaluation: Mapping[str, Any] | None) -> Iterator[str]:
    if not evaluation or not evaluation.get("protocols"):
        return
    sentences = verdict(evaluation)
    about = [f"{evaluation.get('method', 'the method')} at step {evaluation.get('step', '?')}"]
    about += [f"pictures of {evaluation['size']}x{evaluation['size']}"] if "size" in evaluation else []
    about += [f"dataset digest {evaluation['data_digest']}"] if "data_digest" in evaluation else []
    yield _section(
        "Measured",
        f'<p class="verdict">{_escaped(sentences)}</p>' if sentences else "",
        _table(evaluation),
        f'<p class="note">{_escaped("; ".join(about))}. Bold is best of its group. Copying is what doing nothing '
        "gives.</p>",
        _legend(evaluation),
    )


def _measured(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of the metrics that any row has."""
    rows = [scores for rows in evaluation["protocols"].values() for scores in rows.values() if isinstance(scores, dict)]
    return [m for m in METRICS if any(not _missing(scores.get(m)) for scores in rows)]


def _table(evaluation: Mapping[str, Any]) -> str:
    metrics = _measured(evaluation)
    heads = "".join(
        f'<th scope="col"><abbr title="{_escaped(METRICS[m].unit)}">{_escaped(METRICS[m].title)}</abbr>'
        f'&nbsp;<span class="way">{"↑" if METRICS[m].higher else "↓"}</span></th>'
        for m in metrics
    )
    bodies = "".join(_group(name, rows, evaluation, metrics) for name, rows in evaluation["protocols"].items())
    return (
        '<div class="wide" role="region" aria-label="Scores" tabindex="0"><table class="scores"><thead><tr>'
        f'<th scope="col">↑ higher, ↓ lower is better</th>{heads}</tr></thead>{bodies}</table></div>'
    )


def _group(name: str, rows: Mapping[str, Any], evaluation: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """One protocol: its name, then a line per row."""
    title = PROTOCOLS[name].title if name in PROTOCOLS else name
    count = sum(clip.get("protocol") == name for clip in evaluation.get("clips", ()))
    clips = f" · {count} clip{'s' * (count != 1)}" if count else ""
    lines = [
        f'<tr><th class="group" colspan="{len(metrics) + 1}" scope="colgroup">{_escaped(title)}'
        f'<span class="note">{clips}</span></th></tr>'
    ]
    present = {row: rows[row] for row in ROWS if row in rows}
    best = {m: _best(m, present) for m in metrics}
    for row, scores in present.items():
        label = ROWS[row] or str(evaluation.get("method", row))
        cells = "".join(
            f"<td>{f'<strong>{text}</strong>' if row in best[m] else text}</td>"
            for m in metrics
            for text in [shown(m, scores.get(m))]
        )
        lines.append(f'<tr class="{row}"><th scope="row">{_escaped(label)}</th>{cells}</tr>')
    return f"<tbody>{''.join(lines)}</tbody>"


def _best(metric: str, rows: Mapping[str, Mapping[str, float | None]]) -> set[str]:
    """The rows with the best value; none where only one has a value."""
    values = {row: v for row in COMPETING if row in rows and (v := rows[row].get(metric)) is not None and v == v}
    if len(values) < 2:
        return set()
    top = (max if METRICS[metric].higher else min)(values.values())
    return {row for row, value in values.items() if value == top}


def _legend(evaluation: Mapping[str, Any]) -> str:
    terms = [
        (PROTOCOLS[name].title if name in PROTOCOLS else name, rows.get("about", ""))
        for name, rows in evaluation["protocols"].items()
    ]
    terms += [(METRICS[m].title, METRICS[m].unit) for m in _measured(evaluation)]
    items = "".join(f"<dt>{_escaped(term)}</dt><dd>{_escaped(text)}</dd>" for term, text in terms if text)
    return f"<details><summary>What is measured, and how</summary><dl>{items}</dl></details>"


def _sheet(sheet: Path | None) -> Iterator[str]:
    if sheet is not None:
        text = "Rows of examples: source, driving frame, generated frame, the true frame, and their difference"
        yield _section(
            "Frame by frame",
            f'<figure class="sheet"><img src="{_embedded(sheet, "image/png")}" alt="{text}">'
            "<figcaption>Each row shows the frame in which the driver is farthest from its first one.</figcaption>"
            "</figure>",
        )


def _history(history: Sequence[Mapping[str, float | int | None]]) -> Iterator[str]:
    """A curve for every player's loss and for everything measured on held-out clips."""
    if not history:
        return
    rows = sorted(history, key=lambda row: row["step"] or 0)
    names = dict.fromkeys(name for row in rows for name in row if name.endswith("/loss") or name.startswith("eval/"))
    panels = sorted(names, key=lambda name: name.startswith("eval/"))
    curves = []
    for name in panels:
        title = f"held-out {name.removeprefix('eval/')}" if name.startswith("eval/") else f"{name.split('/')[0]} loss"
        latest = {row["step"]: row[name] for row in rows if name in row}  # one value per step
        points = [(float(x or 0), math.nan if y is None else float(y)) for x, y in latest.items()]
        width, height = (480, 280) if len(panels) > 1 else (960, 320)
        drawn = curve(points, title=title, value=title, width=width, height=height)
        curves.append(f"<figure>{drawn}</figure>")
    note = _pace(rows)
    if any('class="faint"' in drawn for drawn in curves):
        note += " The pale line is what was logged, the strong one its running mean."
    yield _section("Training", f'<div class="curves">{"".join(curves)}</div>', f'<p class="note">{note}</p>')


def _pace(rows: Sequence[Mapping[str, float | int | None]]) -> str:
    """Steps and how long they took, from the rates that were logged."""
    speeds = [(row["step"] or 0, float(v)) for row in rows if (v := row.get("speed/steps_per_s")) and v > 0]
    last = max(row["step"] or 0 for row in rows)
    text = f"{last:g} steps"
    if speeds:
        begins = [0, *(step for step, _ in speeds)]
        seconds = sum((step - begin) / rate for begin, (step, rate) in zip(begins, speeds, strict=False))
        text += f", about {_duration(seconds)} at {median(rate for _, rate in speeds):.3g} steps/s"
    return f"{text}."


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _blocks(commands: Sequence[str]) -> str:
    """Lines to copy; options stay together with their values where there is room."""
    options = (_escaped(command).split(" --") for command in commands)
    lines = (" ".join((first, *(f"<span>--{option}</span>" for option in others))) for first, *others in options)
    return "".join(f'<pre tabindex="0"><code>{line}</code></pre>' for line in lines)


def _making(commands: Sequence[str], facts: Mapping[str, str]) -> Iterator[str]:
    parts = []
    if commands:
        items = "".join(f"<li>{_blocks([command])}</li>" for command in commands)
        parts.append(f'<p>The stages as commands of their own:</p><ol class="commands">{items}</ol>')
    if facts:
        lines = "".join(f'<tr><th scope="row">{_escaped(k)}</th><td>{_escaped(v)}</td></tr>' for k, v in facts.items())
        parts.append(f'<table class="facts"><tbody>{lines}</tbody></table>')
    if parts:
        yield _section("How it was made", *parts)


def _next() -> Iterator[str]:
    parts = [f"<h3>{title}</h3><p>{_prose(text)}</p>{_blocks(commands)}" for title, text, commands in NEXT]
    yield _section("What to do next", *parts)
    yield _section("Responsible use", f"<p>{_escaped(RESPONSIBLE)}</p>")


def _document(body: str) -> str:
    """The whole page; its policy lets nothing be loaded and no script run but the one in it."""
    style, script = (
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (STYLE, SCRIPT)
    )
    policy = f"default-src 'none'; img-src data:; media-src data:; style-src {style}; script-src {script}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>reenax quickstart</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<main>
<header><p class="eyebrow">reenax quickstart</p><h1>A face that moves like another</h1>
<p class="lead">Heads of people who never lived are rendered, a small model is trained on them, and people whom it never
saw are made to do what others do. Everything is rendered, so the truth is known and the result can be measured.</p>
</header>
{body}</main>
<script>{SCRIPT}</script>
</body>
</html>
"""
