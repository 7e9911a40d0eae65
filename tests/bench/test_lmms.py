"""The plug-in for lmms-eval, with a stand-in of its two classes (it is not installed with the tests)."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from dualsight.bench.provenance import weights_sha256
from dualsight.checkpoints.janus import save_pretrained
from dualsight.inference.text import answer, log_likelihood
from dualsight.types import IMAGE_MARK, Conversation, Turn
from tests.models.janus_tiny import tiny


@pytest.fixture
def plug_in(monkeypatch):
    class lmms:
        def __init__(self):
            self.task_dict = {}

    @dataclass(frozen=True)
    class ModelManifest:
        model_id: str
        simple_class_path: str

    names = ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model", "lmms_eval.models", "lmms_eval.models.registry_v2")
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["lmms_eval.api.model"].lmms = lmms
    sys.modules["lmms_eval.models.registry_v2"].ModelManifest = ModelManifest
    monkeypatch.delitem(sys.modules, "dualsight.bench.lmms", raising=False)
    from dualsight.bench import lmms as module

    yield module
    sys.modules.pop("dualsight.bench.lmms", None)


@pytest.fixture
def folder(tmp_path):
    save_pretrained(*tiny(), tmp_path)
    return tmp_path


DOCUMENTS = [{"image": Image.new("RGB", (20, 12), color)} for color in ("red", "green", "blue")]


def request(text, document, settings, task="task"):
    return SimpleNamespace(args=(text, settings, lambda d: [d["image"]], document, task, "test"))


def model(plug_in, folder, **settings):
    made = plug_in.JanusLmms(str(folder), protocols=str(folder / "protocols"), **settings)
    rotated = [{"index": index, **document} for index, document in zip((3, 7, 1_000_003), DOCUMENTS, strict=True)]
    made.task_dict = {"task": {"test": DOCUMENTS}, "mmbench": {"test": rotated}}
    return made


def test_the_manifest_names_the_class(plug_in):
    path, name = plug_in.MANIFEST.simple_class_path.rsplit(".", 1)
    assert path == plug_in.__name__ and getattr(plug_in, name) is plug_in.JanusLmms
    assert plug_in.JanusLmms.is_simple


def test_answers_come_in_order_whatever_the_batch(plug_in, folder):
    requests = [
        request("what is this", 0, {"max_new_tokens": 5}),
        request("is there a cat", 1, {"max_new_tokens": 3, "until": ["\n"]}),
        request(f"the {IMAGE_MARK} dog", 2, {"max_new_tokens": 5}),
    ]
    one, three = (model(plug_in, folder, batch_size=n).generate_until(requests) for n in (1, 3))
    assert one == three
    talk = Conversation((Turn("user", f"{IMAGE_MARK}\nwhat is this"),), (DOCUMENTS[0]["image"],))
    assert one[0] == answer(*tiny(), [talk], max_tokens=5)[0]


def test_an_answer_is_cut_where_the_task_says(plug_in):
    assert plug_in._cut("a red cat. And more", ["\n\n", "."]) == "a red cat"
    assert plug_in._cut(" yes ", None) == "yes"
    assert plug_in._decoding({"temperature": 0.7, "do_sample": False})["temperature"] == 0
    assert plug_in._decoding({"temperature": 0.7, "top_p": None}) == {
        "max_tokens": 1024, "temperature": 0.7, "top_p": 1.0,
    }  # fmt: skip


def test_the_likelihood_of_an_answer_is_the_product_of_its_tokens(plug_in, folder):
    made = model(plug_in, folder)
    greedy = made.generate_until([request("what is this", 0, {"max_new_tokens": 3})])[0]
    texts = [greedy, "red cat", "blue"]
    told = made.loglikelihood([request("what is this", 0, text) for text in texts])
    janus, processor = tiny()
    for text, (nats, _) in zip(texts, told, strict=True):
        talk = Conversation(
            (Turn("user", f"{IMAGE_MARK}\nwhat is this"), Turn("assistant", text)), (DOCUMENTS[0]["image"],)
        )
        assert log_likelihood(janus, processor, talk)[0] == pytest.approx(nats, abs=1e-4)
        assert nats < 0
    with pytest.raises(ValueError, match="not the assistant's"):
        log_likelihood(janus, processor, Conversation((Turn("user", "a"),)))


def test_the_protocol_is_stamped(plug_in, folder):
    plain = model(plug_in, folder).protocol
    assert plain["roles"] == ("<|User|>", "<|Assistant|>") and plain["system"] == ""
    assert model(plug_in, folder, system_prompt="Be brief.").protocol["system"] == "Be brief."


def test_a_file_for_each_task_says_what_was_asked_and_how(plug_in, folder):
    made = model(plug_in, folder)
    settings = {"max_new_tokens": 2, "until": ["\n"]}
    asked = [request("is there a cat", n, settings) for n in range(2)]
    made.generate_until([*asked, *(request("A or B", n, settings, "mmbench") for n in (0, 2))])

    def stamp(task="task"):
        return json.loads((folder / "protocols" / f"{task}.json").read_text())

    first = stamp()
    assert first["split"] == "test" and first["requests"] == 2 and first["first_prompt"] == "is there a cat"
    assert first["settings"] == {"max_new_tokens": "2", "until": "['\\n']"}
    assert first["roles"] == ["<|User|>", "<|Assistant|>"] and first["weights_sha256"] == weights_sha256(folder)
    assert not first["circular"] and stamp("mmbench")["circular"], "row 1000003 is question 3 in another order"
    made.generate_until(asked[::-1])
    assert stamp()["prompts_sha256"] == first["prompts_sha256"], "whatever the order"
    made.loglikelihood([request("is there a cat", 0, "yes"), request("is there a dog", 1, "yes")])
    assert stamp()["prompts_sha256"] != first["prompts_sha256"] and stamp()["settings"] == {}


def test_protocols_lie_with_the_runs_by_default(plug_in, folder):
    assert plug_in.JanusLmms(str(folder)).protocols == Path("runs/lmms_eval") / folder.name


@pytest.mark.parametrize(
    ("settings", "message"), [({"dtype": "int8"}, "expected float32"), ({"colour": "red"}, "unknown model_args colour")]
)
def test_wrong_arguments_are_named(plug_in, folder, settings, message):
    with pytest.raises(ValueError, match=message):
        model(plug_in, folder, **settings)
