"""The page is one file that needs nothing else, says what the files say, and escapes what it quotes."""

import re
from html.parser import HTMLParser

import pytest
from test_vlnce import make_episodes, run

from dualsight.bench.report import METRICS, write_report
from dualsight.bench.vlnce import read_records


class Page(HTMLParser):
    """Counts tags and collects what they refer to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]


@pytest.fixture
def written(tmp_path):
    episodes = make_episodes(4)
    results = run(tmp_path / "run", episodes)
    records = list(read_records(tmp_path / "run").values())
    records[0]["episode_instruction"] = "go to <b>the</b> 'sofa' & stop"
    records[1] |= {"unreachable": True, "ne": None, "geodesic": None}
    films = tmp_path / "films"
    films.mkdir()
    (films / "2.mp4").write_bytes(b"film")
    write_report(tmp_path / "report.html", "tiny: 4 <houses>", results, records, films)
    return results, records, (tmp_path / "report.html").read_text()


def test_everything_is_inside(written):
    page = Page(written[2])
    assert page.tags.count("figure") == 4
    assert page.sources == ["data:video/mp4;base64,ZmlsbQ=="]
    assert not re.search(r"https?:", written[2]) and "script" not in page.tags


def test_it_says_what_the_files_say(written):
    results, records, text = written
    for name in METRICS:
        assert f"<td>{results['summary'][name]['mean']:.1f}<small>" in text
    hits = sum(bool(record["success"]) for record in records)
    assert f"reached {hits}</label>" in text and f"missed {4 - hits}</label>" in text
    assert text.count("class='episode missed'") == 4 - hits
    assert "no path leads to this goal" in text
    assert "Protocol house, version 1" in text


def test_what_it_quotes_is_escaped(written):
    text = written[2]
    assert "go to &lt;b&gt;the&lt;/b&gt; &#x27;sofa&#x27; &amp; stop" in text
    assert "<h1>tiny: 4 &lt;houses&gt;</h1>" in text
