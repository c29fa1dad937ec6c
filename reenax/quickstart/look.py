"""How the page of `reenax quickstart` looks, and the little that it does: its style sheet and its script.

The page works without the script, which adds a button that plays all clips together, one beside every command that
copies it, and hides the players' controls, which darken the pictures, until they are wanted.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #ffffff; --ink: #1d2126; --quiet: #5d656e; --rule: #dfdcd4; --accent: #0b6b74;
  --code: #f1efe9; --warn: #fff3d6; --warn-edge: #d39a1c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1b1f23; --ink: #e6e7e5; --quiet: #9aa3ab; --rule: #31373d; --accent: #5cc3cc;
    --code: #20252a; --warn: #3a2f14; --warn-edge: #c9982f;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.55 "Source Sans 3", "Segoe UI", system-ui, -apple-system, "Helvetica Neue", sans-serif;
}
main { max-width: 1040px; margin: 0 auto; padding: 56px 24px 72px; }
h1, h2, h3 { line-height: 1.2; text-wrap: balance; font-weight: 650; letter-spacing: -0.012em; }
h1 { font-size: clamp(30px, 5vw, 44px); margin: 0 0 14px; }
h2 { font-size: 25px; margin: 0 0 18px; }
h3 { font-size: 18px; margin: 30px 0 4px; letter-spacing: 0; }
p { margin: 0 0 14px; max-width: 68ch; text-wrap: pretty; }
section { margin-top: 52px; padding-top: 30px; border-top: 1px solid var(--rule); }
.eyebrow { color: var(--accent); font-weight: 600; margin-bottom: 8px; }
.lead { font-size: 19px; color: var(--quiet); max-width: 62ch; }
.note, figcaption { color: var(--quiet); font-size: 15px; }
.banner {
  max-width: none; margin: 28px 0 0; padding: 14px 18px; background: var(--warn);
  border-left: 4px solid var(--warn-edge); border-radius: 4px;
}
.verdict { font-size: 21px; line-height: 1.42; max-width: 52ch; margin-bottom: 24px; }
figure { margin: 0 0 28px; }
figcaption { margin-top: 8px; }
video, .sheet img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--card); }
.sheet img { background: #fff; border: 1px solid var(--rule); }
.heads { display: flex; margin-bottom: 6px; font-weight: 600; }
.heads span { flex: 1 1 0; min-width: 0; overflow-wrap: anywhere; }
.heads span:not(:only-child) { text-align: center; }
button {
  font: inherit; font-size: 15px; color: var(--accent); background: var(--card); cursor: pointer;
  border: 1px solid var(--rule); border-radius: 6px; padding: 6px 14px;
}
button:hover { border-color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
#together { margin-bottom: 20px; }
.wide { overflow-x: auto; margin-bottom: 14px; }
table { border-collapse: collapse; font-size: 16px; font-variant-numeric: tabular-nums; }
.scores { width: 100%; }
.scores th, .scores td { padding: 6px 8px; text-align: right; white-space: nowrap; }
.scores thead th:not(:first-child) { white-space: normal; }
.scores th:first-child { position: sticky; left: 0; background: var(--paper); text-align: left; padding-left: 0; }
.scores thead th { font-weight: 600; vertical-align: bottom; border-bottom: 2px solid var(--ink); }
.scores thead th:first-child, .way { font-weight: 400; color: var(--quiet); font-size: 14px; }
.scores tbody th { font-weight: 400; }
.scores tr + tr > * { border-top: 1px solid var(--rule); }
.scores .group { padding-top: 20px; font-weight: 650; }
.scores .method th { font-weight: 600; }
.scores .truth { color: var(--quiet); }
.scores strong { font-weight: 700; color: var(--accent); }
abbr { text-decoration: none; }
details { margin-top: 6px; }
summary { cursor: pointer; color: var(--accent); font-size: 15px; }
dl { font-size: 15px; margin: 12px 0 0; display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; }
dt { font-weight: 600; }
dd { margin: 0; color: var(--quiet); }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 12px 28px; }
.curves figure { margin-bottom: 8px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--quiet); font-size: 13px; font-variant-numeric: tabular-nums; }
svg path { fill: none; stroke-linejoin: round; stroke-linecap: round; }
svg .grid { stroke: var(--rule); }
svg .axis { stroke: var(--quiet); }
svg .line { stroke: var(--accent); stroke-width: 2.2; }
svg .faint { stroke: var(--accent); stroke-width: 1.2; opacity: 0.35; }
svg .dot { fill: var(--accent); }
pre {
  position: relative; margin: 0 0 10px; padding: 12px 16px; background: var(--code); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
code { font: 14px/1.5 ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", monospace; }
pre span { display: inline-block; max-width: 100%; }
pre code { user-select: all; -webkit-user-select: all; }
p code { background: var(--code); border-radius: 4px; padding: 1px 5px; overflow-wrap: anywhere; }
pre.copies { padding-right: 84px; }
pre button { position: absolute; top: 7px; right: 8px; padding: 2px 10px; font-size: 13px; }
.commands { padding-left: 1.5em; margin: 0 0 26px; }
.commands li::marker { color: var(--quiet); }
.facts th { text-align: left; font-weight: 400; color: var(--quiet); padding: 5px 24px 5px 0; vertical-align: top; }
.facts td { padding: 5px 0; overflow-wrap: anywhere; }
.facts tr + tr > * { border-top: 1px solid var(--rule); }
@media (max-width: 560px) {
  body { font-size: 16px; }
  main { padding: 32px 16px 48px; }
  .heads { font-size: 13px; }
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: 8px; }
}
@media print { button, video { display: none; } section { break-inside: avoid; } }
"""

SCRIPT = """
const together = document.getElementById("together");
const videos = [...document.querySelectorAll("video")];
if (together) {
  const start = videos.length > 1 ? "Play all together" : "Play";
  const playing = () => videos.some((video) => !video.paused);
  const name = () => { together.textContent = playing() ? "Pause" : start; };
  together.hidden = false;
  together.addEventListener("click", () => {
    const stop = playing();
    for (const video of videos) {
      if (stop) { video.pause(); continue; }
      video.currentTime = 0;
      video.play().catch(() => {});
    }
  });
  for (const video of videos) {
    const show = () => { video.controls = true; };
    video.controls = false;
    video.tabIndex = 0;
    for (const event of ["play", "pause"]) video.addEventListener(event, name);
    for (const event of ["pointerenter", "pointerdown", "focus"]) video.addEventListener(event, show);
    video.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") video.controls = false; });
  }
  name();
}
if (navigator.clipboard) {
  for (const block of document.querySelectorAll("pre")) {
    const button = document.createElement("button"), text = block.textContent;
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
      catch { button.textContent = "Select it"; }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.classList.add("copies");
    block.append(button);
  }
}
"""
