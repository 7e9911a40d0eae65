"""One HTML file that shows an evaluation: figures with their intervals, and every episode with its film.

Everything is inside the file (films and pictures as data URIs, style inline): it opens offline, from anywhere.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from dualsight.data.files import replacing

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1080px; padding: 0 1rem; color: #202124;
       background: #faf9f6 }
h1 { font-weight: 600; margin-bottom: 0 } .sub { color: #666; margin-top: .2rem }
table { border-collapse: collapse; margin: 1.2rem 0 } td, th { padding: .35rem .9rem; text-align: right }
th { font-weight: 600; border-bottom: 2px solid #202124 } td { border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left } .interval { color: #888; font-size: 85% }
.episodes { display: grid; grid-template-columns: repeat(auto-fill, minmax(480px, 1fr)); gap: 1.6rem }
.episode { background: #fff; border: 1px solid #e3e0d8; border-radius: 8px; padding: .8rem }
.episode video { width: 100%; border-radius: 4px } .episode p { margin: .4rem 0 }
.tag { border-radius: 4px; padding: .05rem .5rem; color: #fff; font-size: 85% }
.good { background: #2e7d32 } .bad { background: #b3423d } .facts { color: #555; font-size: 90% }
"""

UNITS = {"SR": "%", "SPL": "%", "OS": "%", "nDTW": "%", "sDTW": "%", "NE": "m", "TL": "m", "steps": "", "collisions": ""}


def write_report(path: Path, title: str, results: dict, records: Sequence[dict], films: dict[str, Path]) -> None:
    """Write the page. ``films`` maps an episode id to its MP4; episodes without one are shown without."""
    protocol = results["protocol"]
    camera = protocol["camera"]
    sub = (
        f"{len(records)} episodes in {results['scenes']} houses, protocol {protocol['name']}@{protocol['version']} "
        f"({camera['width']}x{camera['height']}, {camera['hfov']:.0f}&deg;, success below "
        f"{protocol['success_distance']:.1f} m, {protocol['max_steps']} steps at most)"
    )
    cards = "\n".join(_card(record, films.get(record["episode_id"])) for record in records)
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><p class=sub>{sub}</p>{_table(results)}<div class=episodes>{cards}</div></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _table(results: dict) -> str:
    """The summary, a column per metric."""
    heads, cells = [], []
    for name, unit in UNITS.items():
        estimate = results["summary"][name]
        heads.append(f"<th>{name}{f' ({unit})' if unit else ''}</th>")
        if estimate is None:
            cells.append("<td>&ndash;</td>")
            continue
        interval = f"{estimate['low']:.1f} &ndash; {estimate['high']:.1f}"
        cells.append(f"<td>{estimate['mean']:.1f}<br><span class=interval>{interval}</span></td>")
    return f"<table><tr>{''.join(heads)}</tr><tr>{''.join(cells)}</tr></table>"


def _card(record: dict, film: Path | None) -> str:
    tag = ("good", "reached") if record["success"] else ("bad", "missed")
    facts = (
        f"{record['steps']} steps, {record['tl']:.1f} m walked, ended {record['ne']:.1f} m from the goal, "
        f"SPL {100 * record['spl']:.0f}, nDTW {100 * record['ndtw']:.0f}"
    )
    if record["truncated"]:
        facts += ", out of steps"
    if record["unparsed"]:
        facts += f", {record['unparsed']} answers that name no action"
    video = ""
    if film is not None and film.exists():
        data = base64.b64encode(film.read_bytes()).decode()
        video = f"<video controls loop muted preload=metadata src='data:video/mp4;base64,{data}'></video>"
    return (
        f"<div class=episode>{video}<p><span class='tag {tag[0]}'>{tag[1]}</span> "
        f"{html.escape(record['scene_id'])} &middot; episode {html.escape(str(record['episode_id']))}</p>"
        f"<p>{html.escape(record['episode_instruction'])}</p><p class=facts>{facts}</p></div>"
    )
