"""The plug-in inside lmms-eval itself: a task of our own files, with tiny random weights, offline.

lmms-eval brings 800 MB that the project does not want (torchvision among it), so it gets a virtual environment of its
own on top of this one, with only what it imports. It is made once, in the temporary folder or where
``DUALSIGHT_LMMS_VENV`` says.
"""

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dualsight
from dualsight.checkpoints.janus import save_pretrained
from dualsight.inference.text import answer
from dualsight.types import IMAGE_MARK, Conversation, Turn
from tests.conformance.environments import python_with
from tests.models.janus_tiny import tiny

LMMS_EVAL = "lmms-eval==0.7.3"
IMPORTED = [
    *("datasets", "dill", "multiprocess", "xxhash", "pyarrow", "pandas", "pytz", "tzdata", "python-dateutil", "six"),
    *("aiohttp", "multidict", "yarl", "frozenlist", "propcache", "aiosignal", "attrs", "aiohappyeyeballs", "evaluate"),
    *("loguru", "jsonlines", "sacrebleu", "portalocker", "tabulate", "colorama", "lxml", "tenacity", "requests"),
    *("charset_normalizer", "idna", "urllib3", "certifi", "tqdm", "httpx", "httpcore", "sniffio", "h11", "anyio"),
    *("pytablewriter", "DataProperty", "mbstrdecoder", "chardet", "pathvalidate", "tabledata", "tcolorpy", "typepy"),
]
COLORS = ("red", "green", "blue")
TASK = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
task: colors
test_split: test
output_type: generate_until
doc_to_visual: !function colors.pictures
doc_to_text: "What color is it?"
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 5, temperature: 0, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
PICTURES = "from PIL import Image\n\n\ndef pictures(document):\n    return [Image.open(document['image'])]\n"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def lmms_python() -> Path:
    """The interpreter of an environment that has lmms-eval, and everything that this one has."""
    python = python_with("lmms", ["--no-deps", LMMS_EVAL], ["--no-deps", *IMPORTED])
    site = next(python.parents[1].glob("lib/python*/site-packages"))
    (site / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # after its own packages
    return python


def test_a_task_of_local_files_is_answered_as_we_answer(lmms_python, tmp_path):
    model, processor = tiny()
    save_pretrained(model, processor, tmp_path / "janus")
    rows = []
    for color in COLORS:
        path = tmp_path / f"{color}.png"
        Image.new("RGB", (24, 16), color).save(path)
        rows.append({"image": str(path), "answer": color})
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "colors.yaml").write_text(TASK.format(data=tmp_path / "test.jsonl"))
    (tasks / "colors.py").write_text(PICTURES)
    command = [lmms_python, "-m", "lmms_eval", "--model", "dualsight_janus", "--tasks", "colors"]
    command += ["--model_args", f"pretrained={tmp_path / 'janus'}", "--batch_size", "2", "--device", "cpu"]
    command += ["--include_path", tasks, "--output_path", tmp_path / "out", "--log_samples"]
    environment = os.environ | {
        "PYTHONPATH": str(Path(dualsight.__file__).parents[1]),
        "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (samples,) = (tmp_path / "out").rglob("*samples_colors.jsonl")
    (results,) = (tmp_path / "out").rglob("*results.json")
    given = [json.loads(line)["filtered_resps"] for line in samples.read_text().splitlines()]
    frames = [np.asarray(Image.open(row["image"])) for row in rows]
    talks = [Conversation((Turn("user", f"{IMAGE_MARK}\nWhat color is it?"),), (frame,)) for frame in frames]
    assert given == [text.strip() for text in answer(model, processor, talks, max_tokens=5)]
    assert "colors" in json.loads(results.read_text())["results"]
