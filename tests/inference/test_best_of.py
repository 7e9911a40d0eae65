"""Drawing several and keeping one: which one, and that nothing else changes."""

import numpy as np
import pytest
import torch

from dualsight.inference.assistant import Assistant
from dualsight.inference.best_of import QUESTION, candidate_seeds, shows
from dualsight.types import IMAGE_MARK, Conversation, Turn
from tests.models.janus_tiny import tiny

PROMPTS = ["a red cat", "two green dogs"]


@pytest.fixture(scope="module")
def assistant():
    return Assistant(*tiny())


@pytest.fixture(scope="module")
def pictures(assistant):
    return assistant.generate_images(PROMPTS, per_prompt=2)


@torch.no_grad()
def test_how_sure_it_is_follows_from_its_answer(assistant, pictures):
    model, processor = assistant.model, assistant.processor
    asked = Conversation((Turn("user", f"{IMAGE_MARK}\n{QUESTION.format('a red cat')}"),), (pictures[0],))
    prompts = processor.prompts([asked])
    scores = model.language_model(inputs_embeds=model.embed(prompts.ids, prompts.images)).logits[0, -1]
    yes, no = (processor.encode(word)[0] for word in ("yes", "no"))
    assert assistant.shows(pictures[:1], ["a red cat."]) == pytest.approx([float(scores[yes] - scores[no])], abs=1e-5)


def test_a_picture_is_judged_alike_in_any_batch(assistant, pictures, monkeypatch):
    prompts = [PROMPTS[0]] * 2 + [PROMPTS[1]] * 2
    together = assistant.shows(pictures, prompts)
    assert together == pytest.approx(
        [assistant.shows([p], [t])[0] for p, t in zip(pictures, prompts, strict=True)], abs=1e-5
    )
    monkeypatch.setattr("dualsight.inference.best_of.BATCH", 3)
    assert together == pytest.approx(assistant.shows(pictures, prompts), abs=1e-5)
    assert len(set(together)) > 1


def test_the_surest_of_the_candidates_is_kept(assistant):
    kept = assistant.generate_images(PROMPTS, seeds=[5, 9], candidates=3)
    for prompt, seed, image in zip(PROMPTS, [5, 9], kept, strict=True):
        seeds = candidate_seeds(seed, 3)
        drawn = [assistant.generate_images([prompt], seeds=[s])[0] for s in seeds]
        best = int(np.argmax(assistant.shows(drawn, [prompt] * 3)))
        assert np.array_equal(image, drawn[best]), "whatever else is in the batch"


def test_several_images_of_a_prompt_have_candidates_of_their_own(assistant):
    first, second = assistant.generate_images(PROMPTS[:1], seeds=[3, 4], per_prompt=2, candidates=2)
    (alone,) = assistant.generate_images(PROMPTS[:1], seeds=[4], candidates=2)
    assert np.array_equal(second, alone) and not np.array_equal(first, second)


def test_the_first_candidate_is_the_image_without_a_choice():
    assert candidate_seeds(7, 1) == [7]
    assert candidate_seeds(7, 4)[:2] == candidate_seeds(7, 2) and candidate_seeds(7, 4)[0] == 7
    assert len({*candidate_seeds(7, 4), *candidate_seeds(8, 4), *candidate_seeds(-8, 4)}) == 12


def test_what_cannot_be_judged_is_refused(assistant, pictures, monkeypatch):
    with pytest.raises(ValueError, match="candidates is 0; expected at least 1"):
        assistant.generate_images(PROMPTS, candidates=0)
    with pytest.raises(ValueError, match="4 pictures and 1 prompts"):
        assistant.shows(pictures, ["a cat"])
    drawn = []
    monkeypatch.setattr("dualsight.inference.assistant.draw", lambda *given, **how: drawn.append(given))
    with pytest.raises(ValueError, match=r"takes \d+ tokens and an answer, of 256: shorten it"):
        assistant.generate_images(["a red cat " * 79], candidates=2)
    monkeypatch.setattr("dualsight.inference.best_of.ANSWERS", (("yes", "Yes"), ("unheard", "things")))
    with pytest.raises(ValueError, match="does not tell yes from no"):
        assistant.generate_images(PROMPTS, candidates=2)
    assert not drawn, "refused before anything is drawn"


def test_one_visual_pathway_for_both_judges_too(pictures):
    model, processor = tiny(encoder=None)
    assert len(shows(model, processor, pictures, ["a cat"] * 4)) == 4
