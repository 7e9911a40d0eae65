"""Drawing: what an image depends on (its prompt and seed), and what it does not (its batch)."""

import numpy as np
import pytest
import torch

from dualsight.checkpoints.janus import save_pretrained
from dualsight.inference.assistant import Assistant
from dualsight.inference.image import develop, draw, draw_codes
from dualsight.inference.token_graph import choose, gumbel
from tests.models.janus_tiny import tiny


@pytest.fixture(scope="module")
def janus():
    return tiny()


@torch.no_grad()
def plain_loop(model, processor, prompt, steps, guidance, choose):
    """The release's loop: two rows, everything read again at every step."""
    ids = processor.drawing(prompt)
    rows = torch.tensor([ids, processor.unconditional(ids)])
    codes = []
    for _ in range(steps):
        embeddings = model.embed(rows)
        if codes:
            embeddings = torch.cat([embeddings, model.embed_codes(torch.stack(codes)[None]).expand(2, -1, -1)], 1)
        hidden = model.language_model.model(inputs_embeds=embeddings).last_hidden_state[:, -1]
        conditional, unconditional = model.gen_head(hidden)
        codes.append(choose(unconditional + guidance * (conditional - unconditional)))
    return torch.stack(codes)


def test_greedy_tokens_are_the_plain_loops(janus):
    model, processor = janus
    codes = draw_codes(model, processor, ["a red cat"], temperature=0)
    expected = plain_loop(model, processor, "a red cat", codes.shape[1], 5.0, lambda scores: scores.argmax())
    assert torch.equal(codes[0], expected)


def test_an_image_does_not_depend_on_its_batch(janus):
    """Prompts of different lengths, so that rows are padded."""
    model, processor = janus
    prompts = ["a red cat", "the dog on the two red cat", "green"]
    together = draw_codes(model, processor, prompts, seeds=[3, 7, 3])
    for index, (prompt, seed) in enumerate(zip(prompts, [3, 7, 3], strict=True)):
        assert torch.equal(together[index], draw_codes(model, processor, [prompt], seeds=[seed])[0])


def test_images_of_a_prompt_share_its_pass_and_differ_by_seed(janus, monkeypatch):
    model, processor = janus
    read, lengths = model.read, []
    monkeypatch.setattr(model, "read", lambda x, *rest: (lengths.append(tuple(x.shape[:2])), read(x, *rest))[1])
    codes = draw_codes(model, processor, ["a red cat", "the blue dog"], seeds=[1, 2, 3, 1], per_prompt=2)
    assert lengths[0][0] == 3, "two prompts and one unconditional prompt of their common length are read"
    assert lengths[1] == (8, 1)
    monkeypatch.undo()
    assert not torch.equal(codes[0], codes[1])
    assert torch.equal(codes[3], draw_codes(model, processor, ["the blue dog"], seeds=[1])[0])
    assert torch.equal(codes[0], draw_codes(model, processor, ["a red cat"], seeds=[1])[0])


def test_without_guidance_nothing_unconditional_is_computed(janus, monkeypatch):
    model, processor = janus
    plain = plain_loop(model, processor, "a red cat", model.config.drawn_tokens, 1.0, lambda scores: scores.argmax())
    read, rows = model.read, []
    monkeypatch.setattr(model, "read", lambda x, *rest: (rows.append(len(x)), read(x, *rest))[1])
    codes = draw_codes(model, processor, ["a red cat"], guidance=1.0, temperature=0)
    assert set(rows) == {1}
    assert torch.equal(codes[0], plain)


def test_sampling_follows_the_softmax(janus):
    """The first token of many seeds, against its probabilities: chi-square far below what a wrong law gives."""
    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0, -torch.inf]]).expand(4000, -1)
    noise = [torch.Generator().manual_seed(seed) for seed in range(4000)]
    for temperature, top_k in ((1.0, None), (0.5, None), (1.0, 2)):
        kept = scores[0] / temperature
        if top_k:
            kept = kept.masked_fill(kept < kept.topk(top_k).values[-1], -torch.inf)
        expected = 4000 * kept.softmax(-1)
        drawn = torch.bincount(choose(scores, gumbel(noise, 5, scores.device), 1.0, temperature, top_k), minlength=5)
        some = expected > 0
        assert (drawn[~some] == 0).all()
        chi = ((drawn[some] - expected[some]) ** 2 / expected[some]).sum()
        assert chi < 16.3, "the 0.1 % point of 3 degrees of freedom"


def test_top_k_of_one_is_greedy(janus):
    model, processor = janus
    assert torch.equal(
        draw_codes(model, processor, ["a dog"], top_k=1), draw_codes(model, processor, ["a dog"], temperature=0)
    )


def test_progress_and_partial_images(janus):
    model, processor = janus
    steps, partial = [], []
    images = draw(
        model,
        processor,
        ["a dog"],
        on_step=lambda done, total: steps.append((done, total)),
        on_partial=partial.append,
        partial_every=4,
    )
    total = model.config.drawn_tokens
    assert steps == [(i + 1, total) for i in range(total)]
    assert len(partial) == total // 4 - 1
    assert images[0].shape == (8, 8, 3) and images[0].dtype == np.uint8
    assert partial[0][0].shape == (8, 8, 3)


def test_a_model_is_loaded_where_and_as_it_is_wanted(janus, tmp_path):
    save_pretrained(*janus, tmp_path)
    assert Assistant.from_pretrained(tmp_path, dtype="bfloat16").model.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="no dtype 'float33'; expected float32"):
        Assistant.from_pretrained(tmp_path, dtype="float33")
    with pytest.raises(ValueError, match=r"device 'cuda:99' cannot be used here: \w+"):
        Assistant.from_pretrained(tmp_path, "cuda:99")


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_draws(dtype):
    model, processor = tiny()
    codes = draw_codes(model, processor, ["a dog"], temperature=0)
    (exact,) = draw(model, processor, ["a dog"], temperature=0)
    scores, head = [], model.gen_head.forward
    model.to(dtype).gen_head.forward = lambda hidden: (scores.append(head(hidden)), scores[-1])[1]
    assert (draw_codes(model, processor, ["a dog"], temperature=0) == codes).float().mean() > 0.7, "near ties may turn"
    assert all(part.isfinite().all() and part.dtype == dtype for part in scores)
    made = develop(model, processor, codes)[0]
    assert np.abs(made.astype(int) - exact).max() < 10


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"prompts": []}, ValueError, "no prompt"),
        ({"prompts": "a dog"}, TypeError, "expected a list of texts"),
        ({"prompts": [" "]}, ValueError, "what to draw"),
        ({"prompts": ["dog " * 300]}, ValueError, "more than the 256 of this model"),
        ({"seeds": [1, 2]}, ValueError, "2 seeds for 1 images"),
        ({"guidance": 0.5}, ValueError, "guidance is 0.5"),
        ({"temperature": -1.0}, ValueError, "temperature is -1"),
        ({"top_k": 0}, ValueError, "top_k is 0"),
        ({"per_prompt": 0}, ValueError, "0 images of each"),
    ],
)
def test_what_cannot_be_drawn_is_refused(janus, change, kind, message):
    model, processor = janus
    with pytest.raises(kind, match=message):
        draw(model, processor, **{"prompts": ["a dog"], **change})


def test_what_is_drawn_is_reconstructed_from_its_own_tokens(janus):
    """Pictures of any size go through the tokenizer as they would in training."""
    model, processor = janus
    size = model.config.image_size
    picture = np.random.default_rng(0).integers(0, 256, (size + 5, size, 3), np.uint8)
    (back,) = Assistant(model, processor).reconstruct([picture])
    with torch.no_grad():
        output = model.gen_vision_model(processor.canvas(picture)[None])
    assert np.array_equal(back, processor.finished(output.images)[0])
    assert back.shape == (size, size, 3)
