"""The page that quickstart leaves: whole in itself, true to its numbers, safe against what it is given."""

import base64
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_pipelines.video_writer import write_video
from reenax.cli import build_parser
from reenax.quickstart.curve import curve, linear_axis, logarithmic_axis, running_mean, thinned
from reenax.quickstart.page import NEXT, Clip, verdict, write_page

VOID = {"meta", "link", "img", "br", "hr", "input"}
SHAPES = {"path", "circle"}  # of SVG, closed where they are opened
EMPTY: dict[str, Any] = {"clips": (), "evaluation": None, "history": (), "sheet": None, "commands": (), "facts": {}}
COMMANDS = ["reenax prepare synthetic --identities 3 --out 'a & b'", "reenax train --data 'a & b' --run run"]


class Page(HTMLParser):
    """Tags with their attributes, text by tag, and whether all that is opened is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.unbalanced: list[str] = []
        self.feed(text)
        self.close()
        self.unbalanced += self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in SHAPES:
            self.unbalanced.append(f"<{tag}/>")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(f"</{tag}>")

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def scores(l1: float, psnr: float, ssim: float | None = 0.5) -> dict[str, float | None]:
    return {"l1": l1, "psnr": psnr, "ssim": ssim}


def evaluation(method: dict[str, float | None]) -> dict[str, Any]:
    """Two protocols; across identities the method has the scores given."""
    cross = {"method": method, "copy": scores(0.06, 15.0), "copy_driving": scores(0.08, 12.0, 0.6)}
    alone = {"method": scores(0.031, 22.5, 0.789), "copy": scores(0.0593, 15.25, None)}
    truth = {"nme": 0.25}
    clips = [{"protocol": "self"}, {"protocol": "cross"}, {"protocol": "cross"}]
    protocols = {"self": {"about": "as <they> move", **alone}, "cross": {"about": "B moves A", **cross, "truth": truth}}
    return {"method": "fomm", "step": 700, "split": "test", "clips": clips, "protocols": protocols}


def row(step: int, loss: float, **others: float) -> dict[str, float]:
    return {"step": step, "generator/loss": loss, "generator/l1": loss / 2, "speed/steps_per_s": 4.0, **others}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small videos and a picture."""
    folder = tmp_path_factory.mktemp("material")
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 64, 3), np.uint8)
    for name in ("one", "two"):
        write_video(folder / f"{name}.mp4", frames, 25.0)
    Image.fromarray(frames[0]).save(folder / "sheet.png")
    return folder


def written(path: Path, **given: Any) -> str:
    write_page(path / "index.html", **{**EMPTY, **given})
    return (path / "index.html").read_text("utf-8")


@pytest.fixture(scope="module")
def full(material: Path) -> str:
    """A page that has everything."""
    clips = [Clip("source | driving", "A does what B does", material / "one.mp4"), Clip("B", "b", material / "two.mp4")]
    history = [row(k, 9 / k, **({"eval/l1": 1 / k} if k % 20 == 0 else {})) for k in range(10, 701, 10)]
    return written(
        material,
        clips=clips,
        evaluation=evaluation(scores(0.03, 20.0)),
        history=history,
        sheet=material / "sheet.png",
        commands=COMMANDS,
        facts={"machine": "2 cores", "seconds <training>": "182"},
    )


def test_it_loads_nothing_from_outside(full: str):
    page = Page(full)
    for tag, attributes in page.tags:
        for name in ("src", "href", "poster", "data", "action", "srcset"):
            if tag != "a" and name in attributes:
                assert (attributes[name] or "").startswith("data:"), (tag, name)
    assert "@import" not in full
    assert "url(" not in full
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    assert "unsafe" not in policy


def test_its_tags_are_balanced_and_it_is_a_page(full: str, tmp_path: Path):
    for text in (full, written(tmp_path)):
        page = Page(text)
        assert page.unbalanced == []
        assert text.startswith("<!DOCTYPE html>")
        assert all(len(page.all(tag)) == 1 for tag in ("html", "head", "body", "title", "main", "h1"))
        assert page.all("html")[0]["lang"] == "en"
        identifiers = [a["id"] for _, a in page.tags if "id" in a]
        assert len(identifiers) == len(set(identifiers))


def test_videos_and_pictures_in_it_are_the_files(full: str, material: Path):
    page = Page(full)
    sources = [video["src"] or "" for video in page.all("video")]
    assert [base64.b64decode(s.removeprefix("data:video/mp4;base64,")) for s in sources] == [
        (material / name).read_bytes() for name in ("one.mp4", "two.mp4")
    ]
    for video in page.all("video"):
        assert {"controls", "loop", "muted", "playsinline"} <= set(video)
    (picture,) = page.all("img")
    found = base64.b64decode((picture["src"] or "").removeprefix("data:image/png;base64,"))
    assert found == (material / "sheet.png").read_bytes()
    assert picture["alt"]
    assert page.texts["figcaption"][0] == "A does what B does"
    assert [t for t in page.texts["span"] if t in ("source", "driving", "B")] == ["source", "driving", "B"]
    assert "hidden" in next(a for a in page.all("button") if a.get("id") == "together")


def test_what_comes_from_outside_is_escaped(material: Path, tmp_path: Path):
    bad = "<script>alert(1)</script> & \"quoted\" 'too'"
    text = written(
        tmp_path,
        clips=[Clip(bad, bad, material / "one.mp4")],
        evaluation={**evaluation(scores(0.03, 20.0)), "method": bad, "split": bad, "data_digest": bad, "size": bad},
        history=[{"step": 1, f"{bad}/loss": 1.0, f"eval/{bad}": 2.0}],
        commands=[bad],
        facts={bad: bad},
        unfinished=bad,
    )
    page = Page(text)
    assert "<script>alert" not in text
    assert len(page.all("script")) == 1
    assert page.unbalanced == []
    assert bad in page.texts["code"]
    assert [label for v in page.all("video") if (label := v["aria-label"])] == [f"{bad}: {bad}"]
    assert bad in page.texts["td"]


def test_commands_and_facts_stand_in_it_as_given(full: str):
    page = Page(full)
    own = [*COMMANDS, *(command for _, _, commands in NEXT for command in commands)]
    assert page.texts["pre"] == own
    assert [t for t in page.texts["tr"] if "182" in t or "2 cores" in t] == ["machine2 cores", "seconds <training>182"]


def cells(text: str) -> list[list[str]]:
    """The lines of the table of scores below its head, the best in asterisks."""
    table = text[text.index('<table class="scores">') : text.index("</table>")]
    lines = re.findall(r'<tr class="\w+">(.*?)</tr>', table)
    marked = [line.replace("<strong>", "*").replace("</strong>", "*") for line in lines]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in marked]


def test_the_table_has_the_numbers_and_marks_the_best_of_each_group(full: str):
    assert cells(full) == [
        ["fomm", "*0.0310*", "*22.50*", "0.789", "-"],
        ["copy the source", "0.0593", "15.25", "-", "-"],  # one value alone is no best
        ["fomm", "*0.0300*", "*20.00*", "0.500", "-"],
        ["copy the source", "0.0600", "15.00", "0.500", "-"],
        ["copy the driving frame", "0.0800", "12.00", "*0.600*", "-"],
        ["the true frames", "-", "-", "-", "0.25"],
    ]
    assert [t for t in Page(full).texts["th"] if "clip" in t] == ["self · 1 clip", "cross, absolute · 2 clips"]
    assert "as &lt;they&gt; move" in full


def plain(sentences: str) -> str:
    return sentences.replace("\N{NO-BREAK SPACE}", " ")


def test_the_verdict_says_how_much_better(full: str):
    said = plain(verdict(evaluation(scores(0.03, 20.1))))
    assert said == (
        "On people it never saw, doing what others do: L1 50 % below copying the source, PSNR 5.1 dB above it. "
        "L1 is 62 % below copying the driving frame, PSNR 8.1 dB above it."
    )
    assert "L1 50 % below copying the source, PSNR 5.0 dB above it." in plain(full)


def test_the_verdict_says_when_it_is_worse():
    worse = plain(verdict(evaluation(scores(0.072, 14.5))))
    assert "L1 20 % above copying the source, PSNR 0.5 dB below it; that is worse than doing nothing." in worse
    assert worse.endswith("L1 is 10 % below copying the driving frame, PSNR 2.5 dB above it.")
    mixed = plain(verdict(evaluation(scores(0.0597, 14.5))))
    assert "L1 0.5 % below copying the source, PSNR 0.5 dB below it; better by one of the two only." in mixed


def test_the_verdict_takes_what_there_is():
    known = evaluation(scores(0.03, 20.0))
    alone = {**known, "split": "train", "protocols": {"self": known["protocols"]["self"]}}
    said = plain(verdict(alone))
    assert said.startswith("On the people it was trained on, doing what they do themselves: L1 48 % below")
    assert verdict(evaluation({"l1": None, "psnr": 20.0})) == ""
    assert verdict({"protocols": {}}) == ""


def test_a_page_of_nothing_still_tells_what_to_do_next(tmp_path: Path):
    page = Page(written(tmp_path))
    assert page.texts["h2"] == ["What to do next", "Responsible use"]
    assert not {"video", "img", "svg", "table"} & {tag for tag, _ in page.tags}
    assert 'class="banner"' not in (tmp_path / "index.html").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.html"]


def test_an_unfinished_one_says_where_it_stopped(tmp_path: Path):
    text = written(tmp_path, unfinished="training, three minutes", history=[{"step": 4, "generator/loss": math.nan}])
    banner = re.search(r'<p class="banner".*?</p>', text)
    assert banner is not None
    assert "training, three minutes" in banner.group()
    assert "Run the same command again" in banner.group()
    assert "nothing to show yet" in text


def test_it_is_written_whole_or_not_at_all(tmp_path: Path):
    before = written(tmp_path)
    with pytest.raises(OSError, match="missing"):
        written(tmp_path, clips=[Clip("", "", tmp_path / "missing.mp4")])
    assert (tmp_path / "index.html").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.html"]


def test_the_commands_it_proposes_exist():
    for command in (command for _, _, commands in NEXT for command in commands if command.startswith("reenax ")):
        words = command.removeprefix("reenax ").replace("prepare synthetic", "prepare-synthetic").split()
        options, rest = build_parser().parse_known_args(words)
        assert options.command == words[0]
        assert all(word.startswith("--config.") for word in rest)


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def paths(svg: str, name: str) -> list[str]:
    return re.findall(rf'<path class="{name}" d="([^"]*)"', svg)


@pytest.mark.parametrize("count", [1, 2, 39, 70, 5000])
def test_curves_go_on_in_x_and_stay_inside(count: int):
    svg = curve([(10.0 * k, 3 + math.sin(k)) for k in range(1, count + 1)], title="loss", value="loss")
    lines = [*paths(svg, "line"), *paths(svg, "faint")]
    assert len(lines) == (2 if count >= 40 else 1)
    for line in lines:
        at = places(line)
        assert len(at) == min(count, 600)
        assert all(a[0] < b[0] for a, b in pairwise(at))
        assert all(0 <= x <= 480 and 0 <= y <= 280 for x, y in at)
    assert svg.count("<circle") == (count if count <= 20 else 0)
    assert Page(svg).unbalanced == []


def test_curves_go_up_where_values_do_and_are_lifted_at_gaps():
    (line,) = paths(
        curve([(1.0, 1.0), (2.0, 2.0), (3.0, math.nan), (4.0, math.inf), (5.0, 4.0)], title="t", value="v"), "line"
    )
    (_, first), (_, second), (_, third) = places(line)
    assert first > second > third  # y grows downwards
    assert line.count("M") == 2


def test_a_wide_range_gets_a_logarithmic_axis():
    svg = curve([(1.0, 100.0), (2.0, 10.0), (3.0, 1.0)], title="t", value="loss")
    assert "loss (log scale)" in svg
    (_, a), (_, b), (_, c) = places(paths(svg, "line")[0])
    assert b - a == pytest.approx(c - b, abs=0.2)
    assert logarithmic_axis(1.0, 100.0, 0.0, 1.0).ticks == (1, 2, 5, 10, 20, 50, 100)
    assert 2 <= len(logarithmic_axis(1e-9, 1e9, 0.0, 1.0).ticks) <= 7


def test_axes_have_round_ticks():
    assert linear_axis(0.0, 700.0, 0.0, 1.0, 5, whole=True).ticks == (0, 200, 400, 600)
    assert linear_axis(0.0, 3.0, 0.0, 1.0, 8, whole=True).ticks == (0, 1, 2, 3)
    axis = linear_axis(0.013, 0.088, 10.0, 0.0, 5)
    assert axis.ticks == pytest.approx((0, 0.02, 0.04, 0.06, 0.08, 0.1))
    assert axis.place(0.05) == pytest.approx(5)
    assert linear_axis(2.0, 2.0, 0.0, 1.0, 5).place(2.0) == pytest.approx(0.5)


def test_many_points_are_thinned_and_smoothed_without_moving_their_mean():
    points = [(float(k), math.nan if 100 <= k < 200 else float(k % 2)) for k in range(1200)]
    thin = thinned(points)
    assert len(thin) == 600
    assert thin[0] == (0.5, 0.5)
    assert [math.isnan(y) for _, y in thin] == [50 <= k < 100 for k in range(600)]
    assert all(y == 0.5 or math.isnan(y) for _, y in running_mean(thin))


def test_the_history_may_come_twice_and_out_of_order(tmp_path: Path):
    text = written(tmp_path, history=[row(20, 2.0), row(10, 3.0), row(20, 1.0), {"step": 20, "eval/l1": 0.5}])
    labels = [a["aria-label"] for a in Page(text).all("svg")]
    assert labels == ["generator loss: 3 at step 10, 1 at step 20", "held-out l1: 0.5 at step 20"]
    assert "20 steps, about 5 s at 4 steps/s." in text
