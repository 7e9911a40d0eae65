"""Where the frozen model would look: what the teacher says, and that a look learns it."""

import numpy as np
import pytest
import torch

from dualsight.inference.talk_vlm import SMALL, Call, TalkBatch, new_policy
from dualsight.models.janus_core import IGNORE
from dualsight.models.vismem import VisMem, VisMemConfig
from dualsight.train.distillation import lesson_loss, usefulness

CONFIG = VisMemConfig(queries=2, short=2, long=3, width=16, heads=2, rank=4)


@pytest.fixture(scope="module")
def memory() -> VisMem:
    torch.manual_seed(0)
    return VisMem(new_policy(SMALL), [6], CONFIG)


@pytest.fixture(scope="module")
def batch(memory):
    rng = np.random.default_rng(0)
    talks = [SMALL.task.sample(4, rng) for _ in range(3)]
    batch = TalkBatch(SMALL, memory)(talks, rng, calls=[Call(1, "short"), Call(3, "short")], learn=[1, 3])
    del batch["answers"]
    return batch


def test_a_token_is_as_useful_as_the_answer_is_likely_behind_it_alone(memory, batch):
    """By hand for the second memory; what is said behind the first does not count there."""
    told = usefulness(memory, prompt=len(SMALL.image), **batch)
    assert told.shape == (3, 2, SMALL.visual_tokens)
    torch.testing.assert_close(told.sum(-1), torch.ones(3, 2))
    vlm, ids, odds = memory.vlm, batch["input_ids"], []
    seen = torch.stack(list(vlm.model.get_image_features(pixel_values=batch["pixel_values"]).pooler_output))
    said = (batch["labels"][0] != IGNORE).nonzero()[-3:, 0]  # name, colon and answer behind the second
    with torch.no_grad():
        for token in range(SMALL.visual_tokens):
            known = vlm.get_input_embeddings()(ids.clamp(max=memory.tokens.first - 1))
            embedded = memory.tokens.embed(ids, known).masked_scatter(memory.parts.shows(ids)[..., None], seen)
            embedded[ids == memory.tokens.placeholder] = seen[:, token].repeat_interleave(
                2 * memory.latents("short"), 0
            )
            hidden = vlm.model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
            likely = vlm.lm_head(hidden[:, said]).log_softmax(-1)
            odds.append(likely.gather(2, batch["labels"][:, said, None])[..., 0].sum(1))
    # The head says <short> and <long>, too, which takes the same from every token's odds only if they are never said.
    torch.testing.assert_close(told[:, 1], torch.stack(odds, -1).softmax(-1), rtol=0.02, atol=2e-3)


def test_the_lesson_is_the_cross_entropy_of_every_look_by_hand():
    looks = [torch.tensor([[[0.5, 0.5], [0.25, 0.75]]])]
    told = torch.tensor([[[1.0, 0.0]]])
    assert float(lesson_loss(looks, told)) == pytest.approx(-(np.log(0.5) + np.log(0.25)) / 2)


def test_a_look_learns_where_to_look(memory, batch):
    told = torch.nn.functional.one_hot(torch.tensor([[0, 1], [2, 3], [4, 5]]), SMALL.visual_tokens).float()
    optimiser = torch.optim.AdamW([p for p in memory.parameters() if p.requires_grad], 1e-2)
    inputs = (batch["input_ids"], batch["attention_mask"], len(SMALL.image))
    for _ in range(30):
        looks: list[torch.Tensor] = []
        with memory.builder.centre.by_batch(3):
            memory.score(*inputs, looks=looks, pixel_values=batch["pixel_values"])
        loss = lesson_loss(looks, told)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.stack(looks, 1).argmax(-1).tolist() == [[[0, 0], [1, 1]], [[2, 2], [3, 3]], [[4, 4], [5, 5]]]
