"""One HTML file that shows an evaluation: figures with their intervals, and every episode with its film.

Everything is inside the file (films as data URIs, style inline, no script): it opens offline, from anywhere.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from dualsight.data.files import replacing

METRICS = {
    "SR": ("%", "success: said STOP less than {radius} m from the goal"),
    "SPL": ("%", "success weighted by path length"),
    "OS": ("%", "oracle success: ever came that close"),
    "nDTW": ("%", "how well the walked path follows the one described"),
    "sDTW": ("%", "nDTW of the successes, 0 for the rest"),
    "NE": ("m", "navigation error: distance left to walk at the end"),
    "TL": ("m", "trajectory length"),
    "steps": ("", "actions taken, STOP included"),
    "collisions": ("", "moves that a wall or a piece of furniture cut short"),
}
"""Unit and meaning of each column."""

STYLE = """
:root { --ink: #202124; --faint: #74716b; --line: #e3dfd6; --good: #22823c; --bad: #ce3e38 }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink); background: #faf9f6;
       margin: 0 auto; max-width: 1240px; padding: 2.2rem 1.4rem }
h1 { font-weight: 650; font-size: 1.9rem; margin: 0 }
.sub, footer, figcaption { color: var(--faint) }
.sub { margin: .2rem 0 1.6rem }
.summary, .episode { background: #fff; border: 1px solid var(--line); border-radius: 10px }
.summary { overflow-x: auto; padding: .4rem .8rem }
table { border-collapse: collapse; width: 100% }
td, th { padding: .5rem .7rem; text-align: right; white-space: nowrap }
th { font-weight: 600; color: var(--faint); cursor: help }
td { font-size: 1.25rem; font-variant-numeric: tabular-nums }
td small { display: block; color: var(--faint); font-size: .8rem }
nav { margin: 1.6rem 0 .8rem }
nav label { cursor: pointer; padding: .25rem .9rem; border: 1px solid var(--line); border-radius: 99px;
            margin-right: .4rem; background: #fff }
input[name=show] { display: none }
#all:checked ~ nav [for=all], #hits:checked ~ nav [for=hits], #misses:checked ~ nav [for=misses]
  { background: var(--ink); color: #fff }
#hits:checked ~ main .missed, #misses:checked ~ main .reached { display: none }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(560px, 100%), 1fr)); gap: 1.3rem }
.episode { margin: 0; overflow: hidden }
video { display: block; width: 100%; aspect-ratio: 8/5 }
figcaption { padding: .6rem .9rem .8rem }
figcaption p { color: var(--ink); margin: .35rem 0 }
.tag { border-radius: 99px; padding: .08rem .7rem; color: #fff; margin-right: .5rem }
.reached .tag { background: var(--good) }
.missed .tag { background: var(--bad) }
footer { margin-top: 2rem; font-size: .85rem; overflow-wrap: anywhere }
"""


def write_report(path: Path, title: str, results: dict, records: Sequence[dict], films: Path) -> None:
    """Write the page.

    Args:
        results: the content of results.json.
        records: the lines of episodes.jsonl.
        films: the folder of <episode id>.mp4; an episode without one is shown without.
    """
    cards = [_card(record, films / f"{record['episode_id']}.mp4") for record in records]
    hits = sum(bool(record["success"]) for record in records)
    page = "\n".join(
        [
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>",
            f"<meta name=viewport content='width=device-width'><style>{STYLE}</style>",
            f"<h1>{escape(title)}</h1><p class=sub>{_rules(results)}</p>{_table(results)}",
            "<input type=radio name=show id=all checked><input type=radio name=show id=hits>"
            "<input type=radio name=show id=misses>",
            f"<nav><label for=all>all {len(records)}</label><label for=hits>reached {hits}</label>"
            f"<label for=misses>missed {len(records) - hits}</label></nav>",
            f"<main>{''.join(cards)}</main><footer>{_footer(results)}</footer></html>\n",
        ]
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _rules(results: dict) -> str:
    """The protocol in one line."""
    protocol = results["protocol"]
    camera = protocol["camera"]
    sees = f"RGB alone, {camera['width']}&times;{camera['height']}, {camera['hfov']:.0f}&deg;"
    moves = f"{protocol['forward']:g} m forward, {protocol['turn']:g}&deg; turns, at most {protocol['max_steps']} steps"
    episodes = f"{results['summary']['episodes']} episodes in {results['scenes']} houses"
    return f"{episodes}. Protocol {protocol['name']}, version {protocol['version']}: {sees}; {moves}."


def _table(results: dict) -> str:
    """The summary, a column per metric with its 95 % interval."""
    radius = f"{results['protocol']['success_distance']:g}"
    heads, cells = [], []
    for name, (unit, meaning) in METRICS.items():
        heads.append(f"<th title='{escape(meaning.format(radius=radius))}'>{name}{f' ({unit})' if unit else ''}</th>")
        estimate = results["summary"][name]
        if estimate is None:
            cells.append("<td>&ndash;</td>")
            continue
        interval = f"{estimate['low']:.1f} to {estimate['high']:.1f}"
        cells.append(f"<td>{estimate['mean']:.1f}<small>{interval}</small></td>")
    return f"<div class=summary><table><tr>{''.join(heads)}</tr><tr>{''.join(cells)}</tr></table></div>"


def _card(record: dict, film: Path) -> str:
    """One episode: film, outcome, instruction, figures."""
    word = "reached" if record["success"] else "missed"
    video = ""
    if film.exists():
        data = base64.b64encode(film.read_bytes()).decode()
        video = f"<video controls loop muted playsinline preload=metadata src='data:video/mp4;base64,{data}'></video>"
    return (
        f"<figure class='episode {word}'>{video}<figcaption><span class=tag>{word}</span>{escape(record['scene_id'])}"
        f"<p>{escape(record['episode_instruction'])}</p>{_facts(record)}</figcaption></figure>"
    )


def _facts(record: dict) -> str:
    if record["unreachable"]:
        return "no path leads to this goal; counted as missed"
    left = "" if record["ne"] is None else f"{record['ne']:.1f} m left"
    facts = [
        left,
        f"{record['steps']} steps",
        f"{record['tl']:.1f} m walked",
        f"shortest way {record['geodesic']:.1f} m",
    ]
    facts += [f"SPL {100 * record['spl']:.0f}", f"nDTW {100 * record['ndtw']:.0f}"]
    if record["truncated"]:
        facts.append("out of steps")
    if record["unparsed"]:
        facts.append(f"{record['unparsed']} answers that are no action")
    return " &middot; ".join(filter(None, facts))


def _footer(results: dict) -> str:
    """What is needed to make the same numbers again."""
    said = results["config"] | {name: version for name, version in results["versions"].items() if version}
    facts = ", ".join(f"{name} {value}" for name, value in said.items())
    return f"Intervals are at 95 %: Wilson's for SR and OS, bootstrap for the rest. {escape(facts)}"
