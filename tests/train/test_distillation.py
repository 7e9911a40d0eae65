"""Where the frozen model would look: what the teacher says, and that a look learns it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dualsight.inference.talk_vlm import SMALL, Call, TalkBatch, new_policy
from dualsight.models.vismem import VisMem, VisMemConfig
from dualsight.train.distillation import leaning, look_loss, token_loss

CONFIG = VisMemConfig(queries=2, short=2, long=3, width=16, heads=2, rank=4)


@pytest.fixture(scope="module")
def memory() -> VisMem:
    torch.manual_seed(0)
    return VisMem(new_policy(SMALL), [6], CONFIG)


@pytest.fixture(scope="module")
def shown():
    """Talks whose image is shown again behind the last delimiter, up to the answer, and the answer."""
    rng = np.random.default_rng(0)
    batch = TalkBatch(SMALL)([SMALL.task.sample(4, rng) for _ in range(3)], rng, again={3: SMALL.visual_tokens})
    end = int(batch["answers"][3])
    return {
        "input_ids": batch["input_ids"][:, :end],
        "answer": batch["input_ids"][:, end],
        "pixel_values": batch["pixel_values"],
    }


def test_what_an_answer_leans_on_is_the_squared_gradient_of_its_logit(memory, shown):
    """By hand: visual tokens are put in, and the second image's are differentiated with respect to."""
    told, tokens = leaning(memory, **shown)
    assert told.shape == (3, SMALL.visual_tokens) and (told >= 0).all()
    torch.testing.assert_close(told.sum(-1), torch.ones(3))
    vlm, ids = memory.vlm, shown["input_ids"]
    seen = torch.stack(list(vlm.model.get_image_features(pixel_values=shown["pixel_values"]).pooler_output))
    again = seen[1::2].detach().requires_grad_()
    places = memory.parts.shows(ids).nonzero()[:, 1].view(3, 2, -1)
    embedded = vlm.get_input_embeddings()(ids).detach()
    for row in range(3):
        embedded[row, places[row, 0]] = seen[2 * row].detach()
        embedded[row, places[row, 1]] = again[row]
    logits = vlm.lm_head(vlm.model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state[:, -1])
    logits.gather(1, shown["answer"][:, None]).sum().backward()
    squares = again.grad.square().sum(-1)
    torch.testing.assert_close(told, squares / squares.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(tokens, again.detach())


def test_the_teacher_leaves_the_model_as_it_was(memory, shown):
    leaning(memory, **shown)
    assert all(p.grad is None for p in memory.parameters())
    assert not memory.parts.text.layers[0]._forward_pre_hooks


def test_images_that_a_teacher_cannot_compare_are_refused(memory, shown):
    shorter = shown["input_ids"].clone()
    shorter[0, int((shorter[0] == memory.parts.image_token).nonzero()[-1])] = 5
    with pytest.raises(ValueError, match=r"as many tokens; they have \[8, 9, 9\]"):
        leaning(memory, **shown | {"input_ids": shorter})
    with pytest.raises(ValueError, match="has to end with an image"):
        leaning(memory, torch.full((2, 4), 5), torch.tensor([1, 1]))


def test_a_look_is_taught_by_cross_entropy_by_hand():
    look = torch.tensor([[[0.5, 0.5], [0.25, 0.75]], [[0.9, 0.1], [0.9, 0.1]]])
    told = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert float(look_loss(look, told)) == pytest.approx(-(np.log(0.5) + np.log(0.25)) / 2), "one row is told"
    assert float(look_loss(look, torch.zeros(2, 2))) == 0


def test_a_latent_is_taught_to_be_the_token_by_hand():
    """Of tokens of which 16 / 17 are wanted where 2 / 3 is leant on."""
    seen = torch.tensor([[[0.0, 2.0], [2.0, 2.0]], [[0.0, 0.0], [2.0, 0.0]]])  # 2 from their mean, squared
    told = torch.tensor([[2 / 3, 1 / 3], [0.0, 0.0]])
    latents = torch.tensor([[[0.0, 2.0], [1.0, 2.0]], [[9.0, 9.0], [9.0, 9.0]]])
    wanted = 2 / 17
    expected = (wanted**2 + (1 - wanted) ** 2) / 2 / 2
    assert float(token_loss(latents, told, seen)) == pytest.approx(expected)


@pytest.mark.parametrize(("kind", "relook"), [("short", True), ("short", False), ("long", True)])
def test_a_look_learns_where_to_look(kind, relook):
    """A second look, and slots in the encoder and in the decoder."""
    torch.manual_seed(0)
    memory = VisMem(new_policy(SMALL), [6], replace(CONFIG, relook=relook))
    rng = np.random.default_rng(0)
    talks = [SMALL.task.sample(4, rng) for _ in range(3)]
    batch = TalkBatch(SMALL, memory)(talks, rng, calls=[Call(1, kind), Call(3, kind)])
    told = torch.nn.functional.one_hot(torch.tensor([1, 3, 5]), SMALL.visual_tokens).float()
    optimiser = torch.optim.AdamW([p for p in memory.parameters() if p.requires_grad], 1e-2)
    inputs = (batch["input_ids"], batch["attention_mask"], len(SMALL.image))
    for _ in range(60):
        looks: list[torch.Tensor] = []
        with memory.builder.centre.by_batch(3):
            memory.score(*inputs, looks=looks, pixel_values=batch["pixel_values"])
        loss = look_loss(looks[-1], told)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (looks[-1].argmax(-1) == torch.tensor([1, 3, 5])[:, None]).all()
