"""The study of memory around Janus, in miniature."""

import json

import numpy as np
import pytest

from dualsight.bench import understanding
from dualsight.bench.janus import answering as asked_by_us
from dualsight.bench.provenance import DifferentRun
from dualsight.checkpoints.janus import save_pretrained, understanding_vlm
from dualsight.data.rooms import RoomPicture, write_rooms
from dualsight.data.scene_questions import sample_question
from dualsight.data.scenes import render
from dualsight.inference.assistant import Assistant
from dualsight.models.vismem import VisMem, delimiters_of
from dualsight.studies import janus_memory
from dualsight.studies.answers import ARMS
from dualsight.studies.janus_memory import CONFIG, STUDY, LastAnswers, answering, run
from dualsight.train.janus_sources import new_janus, open_sources, tiny


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms")
    rng = np.random.default_rng(0)
    picture = RoomPicture(rng.integers(0, 255, (64, 64, 3), np.uint8), "kitchen", (("fridge", "white", 0.2),))
    write_rooms(folder / "rooms-000000.safetensors", [picture] * 2)
    return folder


@pytest.fixture(scope="module")
def talk(rooms):
    return open_sources(["scenes", f"room-talk:{rooms}"])


@pytest.fixture(scope="module")
def janus(talk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dualsight.train.janus_sources.WORDS_FROM", 40)
        return new_janus(tiny("siglip", "vq"), talk, None, None)


def items(count, seed):
    rng = np.random.default_rng(seed)
    found = []
    for kind in ("attribute", "count", "relation", "existence_random", "room"):
        scene, question = sample_question(rng, "attribute" if kind == "room" else kind)
        kind = understanding.CATEGORIES["room"][0] if kind == "room" else kind
        found += [understanding.Item(kind, render(scene, 64), question.text, question.answer)] * count
    return found


def test_rows_end_before_the_last_answer(janus, talk):
    _, processor = janus
    rows = LastAnswers(talk["understanding"], processor)
    for index in range(20):
        chat, row = talk["understanding"][index], rows[index]
        whole, said = processor.conversation(chat)
        ids = row["inputs"]["input_ids"][0].tolist()
        assert whole[: len(ids)] == ids and not said[len(ids) - 1] and all(said[len(ids) :])
        assert ids[-1] in delimiters_of(processor.tokenizer), "memory can be called behind the question"


def test_without_memory_it_answers_as_the_assistant_does(janus):
    model, processor = janus
    memory = VisMem(understanding_vlm(model), delimiters_of(processor.tokenizer), CONFIG)
    asked = items(2, 0)
    frames, questions = [item.frame for item in asked], [item.question for item in asked]
    expected = asked_by_us(Assistant(model, processor))(frames, questions)
    found = answering(memory, processor, "off")(frames, questions)
    assert found == expected


def test_every_arm_is_asked_once_and_every_claim_judged(janus, rooms, tmp_path, monkeypatch):
    model, processor = janus
    save_pretrained(model, processor, tmp_path / "model")
    monkeypatch.setattr(understanding, "make_items", items)
    result = run(tmp_path / "out", tmp_path / "model", rooms, (0,), steps=1, questions=2)
    assert set(result["figures"]) == set(ARMS)
    assert [claim["claim"] for claim in result["claims"]] == [claim.text for claim in STUDY.claims]
    monkeypatch.setattr(janus_memory, "answering", None)
    monkeypatch.setattr(janus_memory.sft, "warm_start", None)
    assert run(tmp_path / "out", tmp_path / "model", rooms, (0,), steps=1, questions=2) == result
    assert result == json.loads((tmp_path / "out" / "results.json").read_text())
    with pytest.raises(DifferentRun, match="questions is 3, was 2"):
        run(tmp_path / "out", tmp_path / "model", rooms, (0,), steps=1, questions=3)
