"""Latent memory around VLMs of four families: it changes nothing when off, and says the same however it is read."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from transformers import DynamicCache

from dualsight.checkpoints.vismem import load_memory, save_memory
from dualsight.memory.latent import Centring, Place, Relook, Slots, Whitening, _paid, _sines, _tap
from dualsight.memory.vlms import anatomy
from dualsight.models.vismem import CONTENTS, KINDS, Mode, VisMem, VisMemConfig
from dualsight.nn.config import build
from tests.models.tiny_vlms import (
    END,
    FAMILIES,
    IMAGE,
    START,
    VOCABULARY,
    image_tokens,
    images,
    prompts,
    take,
    tiny_vlm,
)

CONFIG = VisMemConfig(queries=3, short=2, long=3, width=16, heads=2, rank=4)
ANY = range(4, 50)
"""Every word is a delimiter: an untrained model says few of them otherwise."""
TEXTS = [[7, 8, 9, 5], [11, 5]]


def remember(vlm, config=CONFIG, delimiters=ANY):
    """A memory whose LoRAs do something."""
    torch.manual_seed(3)
    memory = VisMem(vlm, delimiters, config)
    for former in (memory.short, memory.long):
        for b in former.adapters.b:
            torch.nn.init.normal_(b, std=0.3)
    return memory


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def vlm(family):
    return tiny_vlm(family)


@pytest.fixture
def memory(vlm):
    return remember(vlm)


@pytest.fixture
def batch(family, vlm):
    return prompts(family, vlm, TEXTS)


def rollout(memory, batch, mode="always", tokens=20, **options):
    outputs = memory.generate(
        mode,
        **batch,
        max_new_tokens=tokens,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return outputs.sequences, torch.stack(outputs.logits, 1)


def vision_of(batch):
    return {k: v for k, v in batch.items() if k not in ("input_ids", "attention_mask", "mm_token_type_ids")}


def score(memory, sequences, batch, content="learned", **options):
    """Logits of the answers, by one pass over whole sequences."""
    prompt = batch["input_ids"].shape[1]
    there = torch.cat([batch["attention_mask"], torch.ones_like(sequences[:, prompt:])], 1)
    logits = memory.score(sequences, there, prompt, content, **options, **vision_of(batch))
    return logits[:, prompt - 1 : -1]


def only(batch, family, row):
    """One row without its padding."""
    there = batch["attention_mask"][row].bool()
    text = {name: batch[name][row : row + 1, there] for name in batch if name not in vision_of(batch)}
    return text | take(family, vision_of(batch), row)


def test_off_is_the_stock_model(memory, vlm, batch):
    before = vlm(**batch).logits
    rollout(memory, batch)
    assert torch.equal(vlm(**batch).logits, before), "after memory has run, the model is the stock one, bit for bit"
    assert torch.equal(rollout(memory, batch, "off")[0], vlm.generate(**batch, max_new_tokens=20, do_sample=False))
    assert not any(parameter.requires_grad for parameter in vlm.parameters())
    assert vlm.get_input_embeddings().weight.shape[0] == VOCABULARY


def test_where_nothing_can_be_called_the_logits_are_the_stock_models_bit_for_bit(vlm, batch):
    """With memory attached: each step of ``generate``, and a sequence that is read in one piece."""
    memory = remember(vlm, replace(CONFIG, max_invocations=0))
    sequences, logits = rollout(memory, batch, "learned", tokens=8)
    stock = memory.parts.generate(
        **batch, max_new_tokens=8, do_sample=False, output_logits=True, return_dict_in_generate=True,
        suppress_tokens=list(memory.parts.vision_ids),
    )  # fmt: skip
    assert torch.equal(sequences, stock.sequences)
    assert torch.equal(logits[..., :VOCABULARY], torch.stack(stock.logits, 1))
    there = batch["attention_mask"]
    whole = memory.score(batch["input_ids"], there, there.shape[1], **vision_of(batch))
    positions = memory.parts.positions(batch["input_ids"], there.bool(), batch)  # as ``generate`` counts: not padding
    assert torch.equal(whole[there.bool()][:, :VOCABULARY], vlm(**batch, position_ids=positions).logits[there.bool()])


def test_a_sequence_without_memories_has_the_stock_models_logits(memory, vlm, batch):
    """Also while memory is attached, and in however many pieces it is read: matrices of other sizes are multiplied in
    another order, which shows in the last bits."""
    logits = memory.score(
        batch["input_ids"], batch["attention_mask"], batch["input_ids"].shape[1] - 1, **vision_of(batch)
    )
    torch.testing.assert_close(logits[..., :VOCABULARY], vlm(**batch).logits, atol=2e-6, rtol=0)


def test_what_was_rolled_out_has_the_same_logits_when_read_at_once(memory, batch):
    sequences, logits = rollout(memory, batch)
    assert (sequences == memory.tokens.begin[0]).any() and (sequences == memory.tokens.begin[1]).any()
    torch.testing.assert_close(score(memory, sequences, batch), logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["internvl"])
def test_memories_before_the_one_that_learns_get_no_gradients(memory, vlm, batch):
    """The logits are the same; of two memories of different kinds only the second one's former is trained."""
    written = [memory.written(kind) for kind in ("short", "long")]
    said = torch.tensor([[7, *written[0], 8, 9, *written[1], 10]]).expand(2, -1)
    sequences, prompt = torch.cat([batch["input_ids"], said], 1), batch["input_ids"].shape[1]
    there = torch.cat([batch["attention_mask"], torch.ones_like(said)], 1)
    second = prompt + 1 + len(written[0]) + 2
    assert sequences[0, second] == memory.tokens.begin[1]
    whole = memory.score(sequences, there, prompt, **vision_of(batch))
    later = memory.score(sequences, there, prompt, learn=second, **vision_of(batch))
    torch.testing.assert_close(later, whole, atol=1e-5, rtol=0)
    later[:, -2].square().sum().backward()
    short, long = (
        sum(float(p.grad.abs().sum()) for p in former.parameters() if p.grad is not None)
        for former in (memory.short, memory.long)
    )
    assert short == 0 < long


def test_each_row_is_as_it_is_alone(memory, family, batch):
    """The rows call different memories at different steps; each equals its lone run."""
    sequences, _ = rollout(memory, batch, seed=5)
    prompt = batch["input_ids"].shape[1]
    calls = [
        [i for i, token in enumerate(row) if token in memory.tokens.begin] for row in sequences[:, prompt:].tolist()
    ]
    assert calls[0] != calls[1]
    together = score(memory, sequences, batch)
    for row in range(2):
        alone = only(batch, family, row)
        whole = torch.cat([alone["input_ids"], sequences[row : row + 1, prompt:]], 1)
        torch.testing.assert_close(score(memory, whole, alone)[0], together[row], atol=1e-5, rtol=0)


def test_a_static_cache_says_the_same(memory, batch):
    dynamic, logits = rollout(memory, batch)
    static, others = rollout(memory, batch, cache_implementation="static")
    assert torch.equal(dynamic, static)
    torch.testing.assert_close(logits, others, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shared", [False, True])
def test_copies_of_a_row_share_its_image(memory, family, batch, shared):
    """Two answers to each prompt: each has the logits that it has as an answer to its prompt alone, also when the
    decoder reads the prompt once for both."""
    torch.manual_seed(0)
    with memory.parts.sharing_prompts(2 if shared else 1), Rows(memory) as rows:
        outputs = memory.generate(
            "always", **batch, max_new_tokens=14, do_sample=True, num_return_sequences=2, output_logits=True,
            return_dict_in_generate=True,
        )  # fmt: skip
    prompt = batch["input_ids"].shape[1]
    assert rows.read == ([2] if shared else [4]) + [4] * 13
    assert len(outputs.sequences) == 4
    for copy, (sequence, logits) in enumerate(zip(outputs.sequences, torch.stack(outputs.logits, 1), strict=True)):
        alone = only(batch, family, copy // 2)
        whole = torch.cat([alone["input_ids"], sequence[None, prompt:]], 1)
        torch.testing.assert_close(score(memory, whole, alone)[0], logits, atol=1e-5, rtol=0)


class Rows:
    """How many rows the first layer of the decoder reads, pass by pass."""

    def __init__(self, memory):
        self.layer, self.read = memory.parts.text.layers[0], []

    def __enter__(self):
        self.handle = self.layer.register_forward_hook(lambda layer, inputs, out: self.read.append(len(out)))
        return self

    def __exit__(self, *_):
        self.handle.remove()


def test_answers_to_a_prompt_are_scored_with_one_reading_of_it(memory, batch):
    """Logits and gradients are those of rows that are read each by itself."""
    torch.manual_seed(0)
    sequences = memory.generate("always", **batch, max_new_tokens=20, do_sample=True, num_return_sequences=3)
    prompt, given = batch["input_ids"].shape[1], batch["attention_mask"].repeat_interleave(3, 0)
    there = torch.cat([given, torch.ones_like(sequences[:, prompt:])], 1)
    there[0, -2:] = 0  # its copies go on
    with Rows(memory) as rows:
        together = memory.score_answers(sequences, there, prompt, 3, **vision_of(batch))
    assert rows.read[0] == 2 and set(rows.read[1:]) == {6}
    apart = torch.empty_like(together)
    for copy in range(3):
        whole = memory.score(sequences[copy::3], there[copy::3], prompt, **vision_of(batch))
        apart[copy::3] = whole[:, prompt - 1 : -1]
    read = there[:, prompt - 1 : -1].bool()
    torch.testing.assert_close(together[read], apart[read], atol=1e-5, rtol=0)
    learnt = [parameter for parameter in memory.parameters() if parameter.requires_grad]
    ours, theirs = (
        torch.autograd.grad(logits[read].float().log_softmax(-1)[..., 7].sum(), learnt, allow_unused=True)
        for logits in (together, apart)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    for rows, copies in ((6, 6), (5, 3)):
        with pytest.raises(ValueError, match=f"expected {copies} rows to each prompt"):
            memory.score_answers(sequences[:rows], there[:rows], prompt, copies, **vision_of(batch))


def test_pairs_are_always_well_formed(memory, batch):
    tokens = memory.tokens
    sequences, _ = rollout(memory, batch, "always", tokens=23)
    for row in sequences[:, batch["input_ids"].shape[1] :].tolist():
        while row:
            token = row.pop(0)
            assert token not in tokens.set, "an end or a placeholder that nothing began"
            if token in tokens.begin:
                number = memory.latents(tokens.kind(token))
                assert [row.pop(0) for _ in range(number)] == [tokens.placeholder] * number
                assert row.pop(0) == token + 1


def blind(batch, family, rows):
    """The batch with words in the places of images in ``rows``."""
    shows = torch.isin(batch["input_ids"], torch.tensor(IMAGE))
    shows[[row for row in range(2) if row not in rows]] = False
    text = batch | {"input_ids": batch["input_ids"].masked_fill(shows, 9)}
    if "mm_token_type_ids" in batch:
        text["mm_token_type_ids"] = batch["mm_token_type_ids"].masked_fill(shows, 0)
    seen = [take(family, vision_of(batch), row) for row in range(2) if row not in rows]
    return {k: v for k, v in text.items() if k not in vision_of(batch)} | (seen[0] if seen else {})


@pytest.mark.parametrize("rows", [(0,), (0, 1)])
def test_a_row_without_an_image_calls_no_short_memory(memory, family, batch, rows):
    """Beside rows that do, and alone; it is as it is by itself."""
    mixed = blind(batch, family, rows)
    sequences, trace = memory.generate_with_trace("always", **mixed, max_new_tokens=20, do_sample=False)
    assert {call.row for call in trace} == {0, 1}
    assert {call.kind for call in trace if call.row in rows} == {"long"}
    _, none = memory.generate_with_trace("always+short", **mixed, max_new_tokens=8, do_sample=False)
    assert {call.row for call in none} == {0, 1} - set(rows)
    together, prompt = score(memory, sequences, mixed), batch["input_ids"].shape[1]
    for row in rows:
        there = mixed["attention_mask"][row].bool()
        alone = {name: mixed[name][row : row + 1, there] for name in mixed if name not in vision_of(mixed)}
        whole = torch.cat([alone["input_ids"], sequences[row : row + 1, prompt:]], 1)
        torch.testing.assert_close(score(memory, whole, alone)[0], together[row], atol=1e-5, rtol=0)
    ids = torch.cat([mixed["input_ids"], torch.tensor([memory.written("short")] * 2)], 1)
    with pytest.raises(ValueError, match=r"rows without an image to look at: \[" + str(rows[0])):
        score(memory, ids, mixed)
    for content in ("wrong-image", "swapped", "pooled"):
        with pytest.raises(ValueError, match=f"memory='{content}' needs an image in every row"):
            memory.generate(f"always+{content}", **mixed)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "internvl"])
def test_rows_with_two_images(memory, family, vlm):
    """One row has two and the other one: what is rolled out is what is read at once, and alone. A short memory of the
    first sees both of its images."""
    marks = [START, *[IMAGE] * image_tokens(family, vlm), END]
    texts = [[*marks, 7, *marks, 8, 5], [0] * (len(marks) + 2) + [*marks, 5]]
    ids = torch.tensor(texts)
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long(), **images(family, 3)}
    if family.startswith("qwen"):
        batch["mm_token_type_ids"] = (ids == IMAGE).int()
    assert memory.parts.images_of_rows(ids, batch) == [2, 1]
    sequences, logits = rollout(memory, batch, "always", tokens=14)
    read = score(memory, sequences, batch)
    torch.testing.assert_close(read, logits, atol=1e-5, rtol=0)
    size = len(batch["pixel_values"]) // 3
    for row, own in ((0, slice(0, 2)), (1, slice(2, 3))):
        alone = {name: batch[name][row : row + 1] for name in batch if name not in vision_of(batch)}
        alone |= {name: value[own] for name, value in vision_of(batch).items()}
        alone["pixel_values"] = batch["pixel_values"][own.start * size : own.stop * size]
        there = alone["attention_mask"][0].bool()
        alone |= {name: value[:, there] for name, value in alone.items() if name not in vision_of(alone)}
        whole = torch.cat([alone["input_ids"], sequences[row : row + 1, ids.shape[1] :]], 1)
        torch.testing.assert_close(score(memory, whole, alone)[0], read[row], atol=1e-5, rtol=0)
    called = torch.cat([ids, torch.tensor([memory.written("short")] * 2)], 1)
    for image in range(3):
        pixels = batch["pixel_values"].clone()
        pixels[image * size : (image + 1) * size] += 1.0
        formers = []
        tap = memory.short.register_forward_hook(lambda _, inputs, latents, kept=formers: kept.append(latents))
        for given in (batch["pixel_values"], pixels):
            score(memory, called, batch | {"pixel_values": given})
        tap.remove()
        moved = (formers[0] - formers[1]).abs().amax((1, 2)) > 1e-4
        assert moved.tolist() == [image < 2, image == 2]


def test_videos_are_refused(memory, batch):
    with pytest.raises(ValueError, match="pixel_values_videos: give frames as images"):
        memory.generate("always", **batch, pixel_values_videos=torch.zeros(1, 3, 2, 16, 16))


def test_no_more_memories_than_allowed(vlm, batch):
    memory = remember(vlm, VisMemConfig(queries=3, short=2, long=3, width=16, heads=2, rank=4, max_invocations=1))
    sequences, _ = rollout(memory, batch)
    assert torch.isin(sequences, torch.tensor(memory.tokens.begin)).sum(1).tolist() == [1, 1]


def test_memory_is_called_after_delimiters_only(vlm, batch):
    memory = remember(vlm, delimiters=(5,))
    sequences, trace = memory.generate_with_trace("always", **batch, max_new_tokens=12, do_sample=False)
    assert len(trace) >= 2
    assert all(sequences[call.row, call.column - 1] == 5 for call in trace)


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_only(memory, batch, kind):
    sequences, trace = memory.generate_with_trace(f"always+{kind}", **batch, max_new_tokens=20, do_sample=False)
    assert trace and {call.kind for call in trace} == {kind}
    begin = memory.tokens.begin_of(kind)
    assert all(sequences[call.row, call.column] == begin for call in trace)


def test_what_is_put_in_the_place_of_memory_shows(memory, batch):
    """Each content gives other logits, but only behind the first latent."""
    sequences, _ = rollout(memory, batch)
    first = int(torch.isin(sequences, torch.tensor(memory.tokens.begin)).long().argmax(1).min())
    first -= batch["input_ids"].shape[1] - 1  # the column of logits whose input is the first begin
    own = score(memory, sequences, batch)
    seen = [own]
    for content in (content for content in CONTENTS if content != "zero"):  # what is constant was not learnt: zeros
        other = score(memory, sequences, batch, content)
        torch.testing.assert_close(other[:, : first + 1], own[:, : first + 1])
        assert all(not torch.allclose(other, known, atol=1e-4) for known in seen), content
        seen.append(other)


def test_a_wrong_image_needs_another_row(memory, family, batch):
    sequences, _ = rollout(memory, batch)
    alone = only(batch, family, 0)
    whole = torch.cat([alone["input_ids"], sequences[:1, batch["input_ids"].shape[1] :]], 1)
    with pytest.raises(ValueError, match="at least two rows"):
        score(memory, whole, alone, "wrong-image")


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_put_in_the_place_of_memory_is_read_as_it_was_rolled_out(memory, batch, content):
    if content == "noise":
        pytest.skip("drawn memory by memory, in the order in which they are formed")
    sequences, logits = rollout(memory, batch, f"always+{content}", tokens=14)
    torch.testing.assert_close(score(memory, sequences, batch, content), logits, atol=1e-5, rtol=0)


def test_zeros_and_latents_of_the_other_kind(memory, batch):
    """Two of the three latents of a long memory in the place of a short one, and one of its two again the other way."""
    tokens, prompt = memory.tokens, batch["input_ids"].shape[1]
    with torch.no_grad():
        tokens.rows[2] = tokens.rows[0]  # the token that calls is read, too: only so are the queries the same

    def entered(kind, content):
        """What enters in the place of one memory behind the prompt."""
        found = []
        ids = torch.cat([batch["input_ids"], torch.tensor([memory.written(kind)] * 2)], 1)
        score(memory, ids, batch, content, latents=lambda rows, latents: found.append(latents) or latents)
        assert len(found) == 1 and ids[0, prompt] == tokens.begin_of(kind)
        return found[0]

    short, long = (entered(kind, "learned") for kind in KINDS)
    torch.testing.assert_close(entered("short", "swapped"), long[:, :2], atol=1e-5, rtol=0)
    torch.testing.assert_close(entered("long", "swapped"), short[:, [0, 1, 0]], atol=1e-5, rtol=0)
    assert short.any() and not entered("short", "zero").any() and not entered("long", "zero").any()


def test_nothing_attends_to_hidden_latents(memory, batch):
    """They are formed, and whatever they are, no logit behind them changes; those of latents in sight do."""
    sequences, _ = rollout(memory, batch)
    other = lambda rows, latents: -3 * latents  # noqa: E731
    places = sequences[:, batch["input_ids"].shape[1] - 1 : -1] == memory.tokens.placeholder
    for content, alike in (("hidden", True), ("learned", False)):
        one, changed = score(memory, sequences, batch, content), score(memory, sequences, batch, content, latents=other)
        assert torch.allclose(one[~places], changed[~places], atol=1e-5) == alike
        assert not torch.allclose(one[places], changed[places], atol=1e-3), "a latent says something by itself"


def test_hidden_latents_need_a_mask_of_all_that_was_read(memory, batch):
    with pytest.raises(ValueError, match="cache_implementation at its default"):
        rollout(memory, batch, "always+hidden", cache_implementation="static")


@pytest.mark.parametrize("content", ["wrong-image", "wrong-question"])
def test_what_is_wrong_is_of_another_prompt_and_not_of_a_copy(memory, family, batch, content):
    """Three answers to each prompt: what enters is what each answer would get beside one answer to the other prompt."""
    entered = []

    def keep(rows, latents):
        entered.extend(zip(rows, latents, strict=True))
        return latents

    options = {"max_new_tokens": 4, "do_sample": False}
    memory.generate_with_trace(f"always+short+{content}", latents=keep, **batch, **options, num_return_sequences=1)
    alone = dict(entered)
    entered.clear()
    torch.manual_seed(0)
    many = options | {"do_sample": True, "num_return_sequences": 3}
    memory.generate_with_trace(f"always+short+{content}", latents=keep, **batch, **many)
    assert sorted(row for row, _ in entered) == list(range(6))
    for row, latents in entered:  # nothing was said yet: all copies get what the one answer gets
        torch.testing.assert_close(latents, alone[row // 3], atol=1e-5, rtol=0)
    alone = only(batch, family, 0)
    with pytest.raises(ValueError, match="at least two rows"):
        memory.generate(f"always+{content}", **alone, **many)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_former_that_was_called_and_nothing_frozen(memory, vlm, batch, kind):
    sequences, _ = rollout(memory, batch, f"always+{kind}", tokens=12)
    score(memory, sequences, batch).exp().clamp(max=10).sum().backward()
    called, other = (memory.short, memory.long) if kind == "short" else (memory.long, memory.short)
    assert all(b.grad is not None and b.grad.abs().sum() > 0 for b in (called.slots.start, called.slots.read.weight))
    assert any(b.grad is not None and b.grad.abs().sum() > 0 for b in called.adapters.b)
    assert memory.builder.start.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in other.parameters())
    assert all(parameter.grad is None for parameter in vlm.parameters())


def test_the_builder_is_one_pass_in_which_hidden_states_do_not_see_the_queries(memory):
    """Under the paper's mask, by torch's own encoder."""
    torch.manual_seed(0)
    builder = memory.builder
    v_there, h_there = torch.ones(2, 5, dtype=torch.bool), torch.tensor([[False, True, True, True], [True] * 4])
    seen, h = builder.see(torch.randn(2, 5, 32), v_there), torch.randn(2, 4, 32)
    read = builder.read_h(builder.whiten_h(h)) + _sines(torch.tensor([[3, 2, 1, 0]]), CONFIG.width)
    x = torch.cat([seen, read, builder.start.expand(2, -1, -1)], 1)
    there = torch.cat([v_there, h_there, h_there.new_ones(2, CONFIG.queries)], 1)
    hidden = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool)
    hidden[:9, 9:] = True
    whole = builder.encoder(x, mask=hidden, src_key_padding_mask=~there)[:, 9:]
    torch.testing.assert_close(builder(seen, v_there, h, h_there), builder.centre(whole))
    seeing = builder.encoder(x, src_key_padding_mask=~there)[:, 9:]
    assert not torch.allclose(builder.centre(seeing), builder.centre(whole)), "or the mask would not matter"


@pytest.mark.parametrize("kind", ["short", "long"])
def test_where_latents_look_is_told_and_nothing_changes_by_it(memory, batch, kind):
    """Shares of visual tokens that are there, for every latent of every call."""
    sequences, _ = rollout(memory, batch, f"always+{kind}")
    looks: list[torch.Tensor] = []
    logits = score(memory, sequences, batch, looks=looks)
    torch.testing.assert_close(logits, score(memory, sequences, batch), atol=1e-6, rtol=0)
    assert sum(map(len, looks)) == int(memory.tokens.calls(sequences).sum()) > 0
    visual = memory.parts.shows(batch["input_ids"]).sum(1)
    for look in looks:
        assert look.shape[1:] == (memory.latents(kind), int(visual.max()))
        torch.testing.assert_close(look.sum(-1), torch.ones(look.shape[:2]))


@pytest.mark.parametrize("family", ["internvl"])
def test_slots_of_the_papers_short_former_tell_where_they_look(vlm, batch):
    memory = remember(vlm, replace(CONFIG, relook=False))
    sequences, _ = rollout(memory, batch, "always+short")
    looks: list[torch.Tensor] = []
    score(memory, sequences, batch, looks=looks)
    assert looks and looks[0].shape[1:] == (CONFIG.short, int(memory.parts.shows(batch["input_ids"])[0].sum()))
    torch.testing.assert_close(looks[0].sum(-1), torch.ones(looks[0].shape[:2]))


@pytest.mark.parametrize("groups", [1, 2])
def test_what_tokens_pay_is_what_attention_weighs(groups):
    """By hand, with keys that several heads share."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 4, 3, 8), torch.randn(2, 4 // groups, 5, 8)
    mask = torch.zeros(2, 1, 3, 5).masked_fill(torch.rand(2, 1, 3, 5) < 0.3, -1e9)
    paid = _paid(query, key, mask, 0.5, 2, 4)
    for row, token, seen in product(range(2), range(2), range(4)):
        weights = [
            (query[row, head, 1 + token] @ key[row, head // groups].T * 0.5 + mask[row, 0, 1 + token]).softmax(0)
            for head in range(4)
        ]
        torch.testing.assert_close(paid[row, token, seen], sum(weight[seen] for weight in weights))


def test_padding_in_front_of_a_segment_changes_nothing(memory):
    torch.manual_seed(0)
    h, v_there = torch.randn(1, 4, 32), torch.ones(1, 5, dtype=torch.bool)
    seen = memory.builder.see(torch.randn(1, 5, 32), v_there)
    padded = torch.cat([torch.randn(1, 3, 32), h], 1), torch.tensor([[False] * 3 + [True] * 4])
    alone = memory.builder(seen, v_there, h, torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(memory.builder(seen, v_there, *padded), alone)


def test_keys_that_are_kept_give_what_a_whole_pass_gives(memory, vlm, batch):
    """The long former's visual keys are computed once; running its layers over [visual, segment, slots] is the same."""
    long, rng = memory.long, torch.Generator().manual_seed(1)

    def place(size):
        angles = torch.rand(2, size, 4, generator=rng)
        cos, sin = (torch.cat([x, x], -1) for x in (angles.cos(), angles.sin()))
        return Place(torch.randn(2, size, 32, generator=rng), cos, sin, torch.ones(2, size, dtype=torch.bool))

    visual, segment, queries = place(6), place(3), torch.randn(2, 3, 16, generator=rng)
    kept = long(queries, long.look(visual), visual.there, segment)
    joined = Place(*(torch.cat(pair, 1) for pair in zip(visual, segment, strict=True)))
    nothing = [(keys[:, :, :0], values[:, :, :0]) for keys, values in long.look(visual)]
    whole = long(queries, nothing, visual.there[:, :0], joined)
    torch.testing.assert_close(kept, whole, atol=1e-5, rtol=0)


def test_slots_see_their_image_as_the_encoder_does(memory, vlm, family):
    """A slot's latents do not depend on what else is in the batch, and do on its own image."""
    short, parts = memory.short, anatomy(vlm)
    inputs = images(family, 3)
    calls = []
    handle = parts.tower.register_forward_pre_hook(lambda m, a, k: calls.append((a, k)), with_kwargs=True)
    vlm.model.get_image_features(**inputs)
    handle.remove()
    keys = short.look(lambda: parts.tower(*calls[0][0], **calls[0][1]))
    queries = torch.randn(3, 3, 16, generator=torch.Generator().manual_seed(0))
    tiles = len(next(iter(keys.of.values()))) // 3
    own = [list(range(tiles * row, tiles * row + tiles)) for row in range(3)]
    together = short(queries, keys, own)
    alone = short(queries[1:2], keys, own[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)
    mixed = short(queries, keys, [own[0] + own[1], own[1], own[2]])  # rows with more images than others
    torch.testing.assert_close(mixed[1:], together[1:], atol=1e-5, rtol=0)
    assert not torch.allclose(mixed[0], together[0], atol=1e-3)


def large(family, count):
    """Images of Qwen2.5-VL's that have several windows; others as they are."""
    if not family.startswith("qwen"):
        return images(family, count)
    pixels = torch.randn(count * 64, 48, generator=torch.Generator().manual_seed(0))
    return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 8, 8]] * count)}


def in_one_pass(parts, run, slots, number):
    """One row's slots through the vision encoder behind the patches of its ``number`` images, as one sequence: patches
    see what they see in the stock model, slots all of it and each other, in windowed blocks each other only."""
    calls = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args, options: calls.append((args, options)), with_kwargs=True)
        for block in parts.blocks
    ]
    run()
    for hook in hooks:
        hook.remove()
    patches = calls[0][0][0]
    tokens = patches.shape[-2]
    x = torch.cat([patches.flatten(0, -2), slots])
    size, behind = len(x) - len(slots), len(slots)
    visible = torch.ones(len(x), len(x), dtype=torch.bool)

    def attend(module, query, key, value, mask, scaling, **options):
        scores = (query @ key.transpose(2, 3) * scaling).masked_fill(~visible, -torch.inf)
        return (scores.softmax(-1) @ value).transpose(1, 2), None

    windowed = []
    for block, (args, options) in zip(parts.blocks, calls, strict=True):
        packed = "cu_seqlens" in options
        bounds = options["cu_seqlens"] if packed else torch.arange(0, size + 1, tokens)
        segment = torch.bucketize(torch.arange(size), bounds, right=True)
        windowed.append(len(bounds) - 1 > number)
        visible[:size, :size] = segment[:, None] == segment
        visible[:size, size:] = False
        visible[size:, :size] = not windowed[-1]
        if packed:
            cos, sin = options["position_embeddings"]
            still = cos.new_ones(behind, cos.shape[-1]), sin.new_zeros(behind, sin.shape[-1])
            rope = torch.cat([cos, still[0]]), torch.cat([sin, still[1]])
            ends = torch.tensor([0, len(x)], dtype=torch.int32)
            options = options | {"cu_seqlens": ends, "max_seqlen": len(x), "position_embeddings": rope}
        with _tap(parts.tower.config, attend):
            x = block(x if packed else x[None], *args[1:], **options)
        x = x.view(size + behind, -1)
    return x[None, size:], windowed


@torch.no_grad()
def test_slots_with_kept_keys_are_as_in_one_pass_with_the_image(memory, vlm, family):
    """For a row with two images."""
    short, parts, inputs = memory.short, anatomy(vlm), large(family, 2)
    run = lambda: vlm.model.get_image_features(**inputs)  # noqa: E731
    keys = short.look(run)
    own = list(range(len(keys.of[list(keys.of)[-1]])))
    queries = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(0))
    with short.adapters.active():
        slots, windowed = in_one_pass(parts, run, short.slots(queries)[0], len(own))
    assert windowed == ([True, False, False] if family == "qwen2_5_vl" else [False] * 3)
    torch.testing.assert_close(short(queries, keys, [own]), parts.project(slots[:, 3:]), atol=1e-5, rtol=2e-5)


@torch.no_grad()
def test_patches_through_the_projector_are_the_models_own_features(vlm, family):
    parts, left = anatomy(vlm), []
    hook = parts.blocks[-1].register_forward_hook(lambda _, inputs, patches: left.append(patches))
    features = vlm.model.get_image_features(**large(family, 2)).pooler_output
    hook.remove()
    patches = left[0]
    if family == "qwen2_5_vl":  # window by window, 2 x 2 tokens each
        order = torch.arange(16).view(2, 2, 2, 2).transpose(1, 2).flatten()
        features = [image[order] for image in features]
    if family.startswith("qwen"):
        patches = patches.unflatten(0, (2, -1))
    elif family == "internvl":  # without the class token, 2 x 2 patches to a token
        patches = patches[:, 1:].unflatten(1, (2, 2, 2, 2)).transpose(2, 3).flatten(1, 4)
    elif family == "llava_onevision":  # the image itself; its tiles come behind, cut to size
        patches, features = patches[::2], [image[:16] for image in features]
    torch.testing.assert_close(parts.project(patches), torch.stack(list(features)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seeded", [True, False])
def test_slots_start_from_queries_or_as_in_the_paper(seeded):
    torch.manual_seed(0)
    slots = Slots(queries=2, slots=5, inner=6, width=8, seeded=seeded)
    one, other = slots(torch.randn(1, 2, 6)), slots(torch.randn(1, 2, 6))
    assert one.shape == (1, 7, 8)
    assert not torch.allclose(one[:, :2], other[:, :2])
    assert torch.equal(one[:, 2:], other[:, 2:]) == (not seeded)


def test_a_second_look_weighs_the_tokens_that_are_there():
    torch.manual_seed(0)
    look = Relook(width=8, queries=2, latents=3, inner=6)
    v, there = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True, True, False, False, False]])
    queries = torch.randn(2, 2, 6)
    weights = look(queries, v, there)
    assert weights.shape == (2, 3, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))
    assert (weights[1, :, 2:] == 0).all() and (weights[1, :, :2] > 0).all()
    torch.testing.assert_close(look(queries, torch.where(there[..., None], v, 100.0), there), weights)


def test_second_looks_are_given_call_by_call(memory, batch):
    """One of each short memory, of the rows that call it; what enters is what they weigh, plus the former's share."""
    sequences, _ = rollout(memory, batch, "always+short")
    looks: list[torch.Tensor] = []
    score(memory, sequences, batch, looks=looks)
    calls = (sequences[:, batch["input_ids"].shape[1] :] == memory.tokens.begin_of("short")).sum()
    assert sum(len(weights) for weights in looks) == calls > 0
    assert all(weights.shape[1] == memory.latents("short") for weights in looks)


def test_without_a_second_look_a_memory_is_the_formers_alone(vlm, batch):
    memory = remember(vlm, replace(CONFIG, relook=False))
    sequences, logits = rollout(memory, batch, "always+short")
    assert memory.relook is None
    torch.testing.assert_close(score(memory, sequences, batch), logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("changes", [{"projected": "repeated"}, {"standing": "image"}, {"entrance": "linear"}])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "internvl"])
def test_other_choices_are_read_as_they_are_rolled_out_and_kept(vlm, family, batch, changes, tmp_path):
    memory = remember(vlm, replace(CONFIG, **changes))
    sequences, logits = rollout(memory, batch, tokens=14)
    torch.testing.assert_close(score(memory, sequences, batch), logits, atol=1e-5, rtol=0)
    save_memory(memory, tmp_path)
    again = load_memory(vlm, tmp_path)
    assert again.config == memory.config
    assert torch.equal(score(again, sequences, batch), score(memory, sequences, batch))


def test_a_slot_is_repeated_for_the_projector(vlm, family):
    """Qwen and InternVL make a token of four patches: a slot for each latent then does for four."""
    own, repeated = (remember(vlm, replace(CONFIG, projected=word)).short for word in ("own", "repeated"))
    merge = 4 if family in ("qwen2_5_vl", "qwen3_vl", "internvl") else 1
    assert len(own.slots.start) == merge * CONFIG.short and len(repeated.slots.start) == CONFIG.short
    left = []
    tap = repeated._parts.project
    repeated._parts.project = lambda slots: left.append(slots) or tap(slots)
    calls = images(family, 1)
    keys = repeated.look(lambda: vlm.model.get_image_features(**calls))
    latents = repeated(torch.randn(1, 3, 16), keys, [[0]])
    assert latents.shape == (1, CONFIG.short, 32)
    for slot in range(CONFIG.short):
        of_latent = left[0][0, slot * merge : slot * merge + merge]
        assert torch.equal(of_latent, of_latent[:1].expand(merge, -1))


def test_a_linear_entrance_starts_as_the_norm(vlm, batch):
    norm, linear = remember(vlm), remember(vlm, replace(CONFIG, entrance="linear"))
    missing, unexpected = linear.load_state_dict(norm.state_dict(), strict=False)
    assert set(missing) == {"long.enter.weight", "long.enter.bias"} and not unexpected
    sequences, logits = rollout(norm, batch, "always+long", tokens=8)
    torch.testing.assert_close(score(linear, sequences, batch), logits, atol=1e-5, rtol=0)
    score(linear, sequences, batch).logsumexp(-1).sum().backward()
    assert linear.long.enter.weight.grad.any()


def test_a_place_is_moved_to_where_another_ends():
    """By angles, at any scale of the rotation; where there is nowhere to go it stays."""
    torch.manual_seed(0)
    angles, to = torch.rand(3, 5, 8) * 9, torch.rand(3, 3, 8) * 9
    there = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]]).bool()
    segment = Place(angles, 2 * angles.cos(), 2 * angles.sin(), torch.ones(3, 5).bool())
    moved = segment.moved_to(Place(to, 2 * to.cos(), 2 * to.sin(), there).last())
    ends = torch.stack([to[0, 1], to[1, 2], angles[2, -1]])[:, None]
    torch.testing.assert_close(moved.cos, 2 * (angles - angles[:, -1:] + ends).cos())
    torch.testing.assert_close(moved.sin, 2 * (angles - angles[:, -1:] + ends).sin())
    assert torch.equal(moved.states, segment.states) and torch.equal(moved.there, segment.there)


def test_a_segment_stands_where_it_was_said_or_where_the_image_ends(vlm, batch):
    """The latter whenever it is said: for the long former, one distance is all there is."""
    ends = {}
    for standing in ("call", "image"):
        memory, places = remember(vlm, replace(CONFIG, standing=standing)), []
        memory.long.register_forward_pre_hook(lambda _, inputs, places=places: places.append(inputs[3]))
        rollout(memory, batch, "always+long", tokens=12)
        ends[standing] = [place.cos[:, -1] for place in places]
    assert len(ends["call"]) == len(ends["image"]) > 1
    assert not torch.allclose(ends["call"][0], ends["call"][-1])
    torch.testing.assert_close(ends["image"][0], ends["image"][-1])


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": "post-norm"}, {"dropout": 0.1}, {"carried": "mlp"}, {"projected": "pooled"}, {"rotation": "2d"},
        {"windows": "joined"}, {"images": "last"}, {"context": "segment"}, {"standing": "start"},
        {"entrance": "none"}, {"deepstack": "pooled"}, {"calling": "lora"},
    ],
)  # fmt: skip
def test_a_choice_that_is_not_implemented_is_refused_by_name(changes):
    (name, value), *_ = changes.items()
    with pytest.raises(ValueError, match=rf"{name}={value!r} is not implemented; there is "):
        VisMemConfig(**changes)


def test_configs_from_before_a_choice_had_a_name_are_read():
    before = {name: value for name, value in vars(CONFIG).items() if name in list(vars(CONFIG))[:17]}
    assert "noise" in before and "encoder" not in before
    assert build(VisMemConfig, before, "config.json") == CONFIG


def test_whitening_gives_unit_covariance():
    torch.manual_seed(0)
    x = torch.randn(4000, 6) @ torch.diag(torch.tensor([5.0, 3, 2, 1, 0.5, 0.4])) @ torch.randn(6, 6) + 3
    white = Whitening(6)
    assert torch.equal(white(x), x), "nothing, before it has seen anything"
    white.fit(x, floor=1e-9)
    y = white(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.T @ y / len(y), torch.eye(6), atol=1e-2, rtol=0)


def test_queries_are_centred_by_their_batch_while_it_is_learnt_and_by_averages_afterwards():
    torch.manual_seed(0)
    centring, queries = Centring(2, 3), 5 + 2 * torch.randn(64, 2, 3)
    torch.testing.assert_close(centring(queries), queries, atol=1e-4, rtol=1e-4)  # nothing was learnt
    with centring.by_batch(len(queries)):
        for _ in range(60):
            centred = centring(queries)
        few = centring(queries[:5])
    assert centred.mean(0).abs().max() < 1e-5 and (centred.var(0) - 1).abs().max() < 0.1
    assert torch.equal(few, centring(queries[:5])), "a few rows are not centred by themselves"
    torch.testing.assert_close(centring(queries), centred, atol=0.05, rtol=0.05)
    torch.testing.assert_close(centring(queries[:1]), centring(queries)[:1])


@pytest.mark.parametrize("family", ["internvl", "qwen2_5_vl"])
@pytest.mark.parametrize("rows", ["image", "delimiters"])
def test_latents_arrive_as_an_image_does(vlm, batch, rows):
    """Begins and ends start as the tokens around images, or as in the paper."""
    memory = remember(vlm, replace(CONFIG, rows=rows, noise=0.0))
    table, ids = vlm.get_input_embeddings().weight, batch["input_ids"][0]
    like = table[list(ANY)].mean(0)
    memory.fit_rows(torch.tensor([[7, 8, 9]]))
    torch.testing.assert_close(memory.tokens.rows, like.expand(4, -1), msg="no image, nothing to start from")
    memory.fit_rows(batch["input_ids"])
    places = memory.parts.shows(ids).nonzero()[:, 0]
    around = table[ids[torch.stack([places[0] - 1, places[-1] + 1]).repeat(2)]]
    torch.testing.assert_close(memory.tokens.rows, around if rows == "image" else like.expand(4, -1))


@pytest.mark.parametrize("rows", ["image", "delimiters"])
def test_long_latents_start_as_large_as_visual_tokens(vlm, batch, rows):
    """Or as words, as in the paper: the root of the mean square of either."""
    memory = remember(vlm, replace(CONFIG, rows=rows))
    entered = []
    layer = memory.parts.text.layers[0]
    handle = layer.register_forward_pre_hook(
        lambda layer, given, named: entered.append(named["hidden_states"] if "hidden_states" in named else given[0]),
        with_kwargs=True,
    )
    memory.fit_whitening(batch["input_ids"], batch["attention_mask"], **vision_of(batch) | _kinds(batch))
    handle.remove()
    words = vlm.get_input_embeddings().weight.square().mean().sqrt()
    visual = entered[0][memory.parts.shows(batch["input_ids"])].square().mean().sqrt()
    torch.testing.assert_close(memory.long.scale.detach(), visual if rows == "image" else words, rtol=1e-4, atol=1e-6)
    assert not torch.isclose(visual, words, rtol=0.05)


def test_calls_are_made_as_likely_as_asked(vlm, batch):
    memory = remember(vlm)
    there = batch["attention_mask"]
    memory.fit_calls(batch["input_ids"], there, 0.5, **vision_of(batch) | _kinds(batch))
    logits = memory.score(batch["input_ids"], there, there.shape[1], **vision_of(batch)).detach().double()
    at = torch.isin(batch["input_ids"], torch.tensor(memory.delimiters)) & there.bool()
    share = logits[at].softmax(-1)[:, list(memory.tokens.begin)]
    torch.testing.assert_close(share[:, 0], share[:, 1])
    assert 0.4 < float(share.sum(-1).mean()) < 0.6


def _kinds(batch):
    return {name: batch[name] for name in ("mm_token_type_ids",) if name in batch}


def test_pooled_visual_tokens_take_the_place_of_latents(vlm, batch):
    memory, entered, pooled = remember(vlm, replace(CONFIG, short=1)), [], {}

    def keep(rows, latents):
        pooled.update(zip(rows, latents, strict=True))
        return latents

    layer = memory.parts.text.layers[0]
    hook = layer.register_forward_pre_hook(
        lambda _, args, kwargs: entered.append(kwargs.get("hidden_states", args[0] if args else None)), with_kwargs=True
    )
    memory.generate_with_trace("always+short+pooled", latents=keep, max_new_tokens=9, do_sample=False, **batch)
    hook.remove()
    places = torch.isin(batch["input_ids"], torch.tensor(memory.parts.vision_ids))
    for row, latents in pooled.items():
        torch.testing.assert_close(latents[0], entered[0][row, places[row]].mean(0))
    assert pooled


@pytest.mark.parametrize("text", ["sometimes", "random", "random:1.5", "short+never", ""])
def test_an_unknown_mode_says_which_there_are(text):
    with pytest.raises(ValueError, match="learned, always, random:p"):
        Mode.parse(text)


def test_modes_join():
    assert Mode.parse("random:0.25+short+noise") == Mode("forced", 0.25, ("short",), "noise")
    assert Mode.parse("always") == Mode("forced")
    assert Mode.parse("wrong-image") == Mode(content="wrong-image")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_beams", 2), ("use_cache", False), ("prompt_lookup_num_tokens", 2), ("past_key_values", DynamicCache()),
        ("assistant_model", torch.nn.Identity()), ("prefill_chunk_size", 4),
    ],
)  # fmt: skip
def test_what_does_not_read_every_token_once_is_refused(setting, value):
    """By name, also where it stands in the model's own settings."""
    vlm = tiny_vlm("internvl")
    memory, batch = remember(vlm), prompts("internvl", vlm, TEXTS)
    with pytest.raises(ValueError, match=f"cannot work with {setting}; sample or decode greedily, with num_beams=1"):
        memory.generate("always", **batch, **{setting: value})
    if setting in ("num_beams", "use_cache", "prompt_lookup_num_tokens"):
        setattr(vlm.generation_config, setting, value)
        with pytest.raises(ValueError, match=setting):
            memory.generate("always", **batch)


def test_new_tokens_are_counted_with_latents(memory, batch):
    for room in (4, 5, 9):
        sequences, _ = rollout(memory, batch, "always+long", tokens=room)
        assert sequences.shape[1] - batch["input_ids"].shape[1] == room
        calls = memory.tokens.calls(sequences).sum(1).tolist()
        assert calls == [room // 5] * 2, "a memory of three latents takes five"


def test_memory_needs_delimiters(vlm):
    with pytest.raises(ValueError, match="delimiters"):
        VisMem(vlm, ())


def test_placeholders_without_a_call_are_an_error(memory, batch):
    ids = torch.cat([batch["input_ids"], torch.full((2, 1), memory.tokens.placeholder)], 1)
    there = torch.cat([batch["attention_mask"], torch.ones(2, 1, dtype=torch.long)], 1)
    with pytest.raises(ValueError, match="no token before them"):
        memory.score(ids, there, batch["input_ids"].shape[1], **vision_of(batch))


def test_an_unknown_family_is_named():
    from transformers import LlamaConfig, LlamaForCausalLM

    small = {
        "vocab_size": 9,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    with pytest.raises(ValueError, match=r"'llama'.*qwen2_5_vl"):
        anatomy(LlamaForCausalLM(LlamaConfig(**small)))
