"""Traces of memories: attention is the model's own, removing a memory moves nothing else, the model stays as it is."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from transformers import DynamicCache

from dualsight.bench.traces import REMOVALS, credit, save_traces, trace, trace_html
from dualsight.memory.vlms import TEXT_INPUTS
from dualsight.models.vismem import Mode, Stream, VisMem, VisMemConfig
from tests.models.tiny_vlms import FAMILIES, prompts, take, tiny_vlm

CONFIG = VisMemConfig(queries=3, short=2, long=3, width=16, heads=2, rank=4)
ANY = range(4, 50)
"""Every word is a delimiter: an untrained model says few of them otherwise."""
TEXTS = [[7, 8, 9, 5], [11, 5]]


def remember(vlm):
    torch.manual_seed(3)
    return VisMem(vlm, ANY, CONFIG)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def answers(family, mode="always", tokens=22, **text):
    """A memory, a batch of prompts, what it said to them and what it called."""
    vlm = tiny_vlm(family, **text)
    memory = remember(vlm)
    batch = prompts(family, vlm, TEXTS)
    length = {"min_new_tokens": tokens, "max_new_tokens": tokens}
    sequences, calls = memory.generate_with_trace(mode, **batch, **length, do_sample=False)
    return memory, batch, sequences, calls


def vision_of(batch):
    return {name: value for name, value in batch.items() if name not in TEXT_INPUTS}


def whole(batch, sequences):
    """The attention mask of prompts with answers."""
    prompt = batch["input_ids"].shape[1]
    return torch.cat([batch["attention_mask"], torch.ones_like(sequences[:, prompt:])], 1)


@torch.no_grad()
def read_plainly(memory, batch, sequences, mask, positions, **options):
    """What `VisMem.score` does, with any mask and any positions: outputs of the pieces, cut at every token."""
    prompt, vision = batch["input_ids"].shape[1], vision_of(batch)
    stream = Stream(memory, Mode(), sequences, whole(batch, sequences).bool(), prompt, vision)
    cache, outputs, start = DynamicCache(config=memory.vlm.config.get_text_config()), [], 0
    with memory.reading(stream):
        for end in range(prompt, sequences.shape[1] + 1):
            outputs.append(
                memory.vlm(
                    input_ids=sequences[:, start:end],
                    attention_mask=mask[:, :end],
                    position_ids=positions[..., start:end],
                    past_key_values=cache,
                    use_cache=True,
                    **(vision if start == 0 else {}),
                    **options,
                )
            )
            start = end
    return outputs


def positions_of(memory, batch, sequences, mask):
    return memory.parts.positions(sequences, mask.bool(), vision_of(batch))


def latents(memory, call):
    return slice(call.column + 1, call.column + 1 + memory.latents(call.kind))


def hooks_of(vlm):
    return [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in vlm.modules()]


def said_logprobs(outputs, sequences, prompt):
    logits = torch.cat([output.logits[:, -1:] for output in outputs], 1)[:, :-1]
    return logits.log_softmax(-1).gather(2, sequences[:, prompt:, None])[..., 0]


def test_the_attention_is_the_models_own(family):
    memory, batch, sequences, calls = answers(family)
    traces = trace(memory, sequences, calls, **batch)
    prompt, mask = batch["input_ids"].shape[1], whole(batch, sequences)
    memory.parts.text.config._attn_implementation = "eager"
    positions = positions_of(memory, batch, sequences, mask)
    outputs = read_plainly(memory, batch, sequences, mask, positions, output_attentions=True)
    assert any(len(row.memories) > 1 for row in traces)
    for row, found in enumerate(traces):
        for call, of_memory in zip([call for call in calls if call.row == row], found.memories, strict=True):
            assert (of_memory.kind, of_memory.at) == (call.kind, call.column - prompt)
            for step, output in enumerate(outputs[: len(found.tokens)]):  # the output that chose token `step`
                for layer, weights in enumerate(output.attentions):
                    mass = weights[row, :, -1, latents(memory, call)].mean(0).sum().item()
                    assert of_memory.attention[layer][step] == pytest.approx(mass, abs=1e-5)


def test_hiding_moves_nothing_else(family):
    """Hidden latents are those that a given attention mask leaves out, at positions that still count them."""
    memory, batch, sequences, calls = answers(family)
    traces = trace(memory, sequences, calls, **batch)
    prompt, mask = batch["input_ids"].shape[1], whole(batch, sequences)
    positions = positions_of(memory, batch, sequences, mask)
    call = next(call for call in calls if call.row == 0)
    thinned = mask.clone()
    thinned[0, latents(memory, call)] = 0
    found = traces[0].memories[0]
    own = torch.tensor(traces[0].logprobs)
    behind = [place for place in range(found.at + found.latents + 2, len(own)) if own[place] != 0]

    def effect(positions):
        outputs = read_plainly(memory, batch, sequences, thinned, positions)
        return (said_logprobs(outputs, sequences, prompt)[0] - own)[behind]

    hidden = torch.tensor(found.effect["hidden"])[behind]
    assert hidden.abs().max() > 1e-3, "this memory does nothing, so that hiding it shows nothing"
    torch.testing.assert_close(hidden, effect(positions), atol=2e-5, rtol=0)
    moved = positions_of(memory, batch, sequences, thinned)
    assert not torch.allclose(hidden, effect(moved), atol=1e-3), "later tokens would have moved up"


def test_noise_is_what_is_heard_in_the_place_of_a_memory():
    """The last memories as noise: up to them nothing changes, and the norms are the same."""
    memory, batch, sequences, calls = answers("qwen2_5_vl")
    entered = []
    handle = memory.parts.text.layers[0].register_forward_pre_hook(
        lambda layer, inputs, keywords: entered.append(keywords.get("hidden_states", inputs[0] if inputs else None)),
        with_kwargs=True,
    )
    trace(memory, sequences, calls, **batch)
    handle.remove()
    length = sequences.shape[1]
    passes, columns = [[]], 0
    for piece in entered:
        passes[-1].append(piece)
        columns += piece.shape[1]
        if columns == length:
            passes, columns = [*passes, []], 0
    own, hidden, noise = (torch.cat(pieces, 1) for pieces in passes[:3])
    call = next(call for call in calls if call.row == 0)
    place = latents(memory, call)
    torch.testing.assert_close(hidden[0, place], own[0, place])
    torch.testing.assert_close(noise[0, : place.start], own[0, : place.start])
    assert not torch.allclose(noise[0, place], own[0, place], atol=1e-2)
    torch.testing.assert_close(noise[0, place].norm(dim=-1), own[0, place].norm(dim=-1))


def test_nothing_happens_before_a_memory(family):
    memory, batch, sequences, calls = answers(family)
    for row in trace(memory, sequences, calls, **batch):
        for found in row.memories:
            until = found.at + 1
            assert all(not any(layer[:until]) for layer in found.attention)
            assert all(not any(found.effect[how][:until]) for how in REMOVALS)
            assert all(any(layer[until:]) for layer in found.attention)
            for place in range(until, until + found.latents + 1):
                assert row.logprobs[place] == 0 == found.effect["noise"][place], "nobody chose these"


def test_the_model_stays_as_it_is(family):
    memory, batch, sequences, calls = answers(family)
    vlm = memory.vlm
    before, implementation, hooks = vlm(**batch).logits, memory.parts.text.config._attn_implementation, hooks_of(vlm)
    trace(memory, sequences, calls, **batch)
    broken = sequences.clone()
    broken[0, batch["input_ids"].shape[1]] = memory.tokens.placeholder
    with pytest.raises(ValueError, match="no token before them"):
        trace(memory, broken, calls, **batch)
    assert memory.parts.text.config._attn_implementation == implementation
    assert hooks_of(vlm) == hooks
    assert torch.equal(vlm(**batch).logits, before)


def test_each_row_is_as_it_is_alone(family):
    memory, batch, sequences, calls = answers(family)
    together = trace(memory, sequences, calls, **batch)
    prompt = batch["input_ids"].shape[1]
    for row in range(2):
        there = batch["attention_mask"][row].bool()
        alone = {name: batch[name][row : row + 1, there] for name in TEXT_INPUTS if name in batch}
        alone |= take(family, vision_of(batch), row)
        moved = int((~there).sum())
        own = [call._replace(row=0, column=call.column - moved) for call in calls if call.row == row]
        ids = torch.cat([alone["input_ids"], sequences[row : row + 1, prompt:]], 1)
        (lone,) = trace(memory, ids, own, **alone)
        assert lone.tokens == together[row].tokens
        torch.testing.assert_close(lone.logprobs, together[row].logprobs, atol=2e-5, rtol=0)
        for one, other in zip(lone.memories, together[row].memories, strict=True):
            assert (one.kind, one.at, one.latents) == (other.kind, other.at, other.latents)
            torch.testing.assert_close(one.attention, other.attention, atol=2e-5, rtol=0)
            torch.testing.assert_close(one.effect, other.effect, atol=5e-5, rtol=0)


def test_an_answer_ends_where_it_ended():
    """Padding behind the token that ends an answer is not read, and changes nothing before it."""
    memory, batch, sequences, calls = answers("internvl")
    prompt, cut = batch["input_ids"].shape[1], 12
    sequences[1, prompt + cut] = memory.vlm.generation_config.eos_token_id
    calls = [call for call in calls if call.row == 0 or call.column + 6 < prompt + cut]
    sequences[1, prompt + cut + 1 :] = 0
    padded = trace(memory, sequences, calls, **batch)
    assert [len(row.tokens) for row in padded] == [sequences.shape[1] - prompt, cut + 1]
    sequences[1, prompt + cut + 1 :] = 9
    assert trace(memory, sequences, calls, **batch) == padded


def test_a_window_is_counted_from_its_end():
    """Layers that keep the last tokens only: a memory that left their windows has no attention."""
    window = 6
    memory, batch, sequences, calls = answers(
        "internvl", "always", 30, use_sliding_window=True, sliding_window=window, max_window_layers=2
    )
    row = trace(memory, sequences, calls, **batch)[0]
    first = row.memories[0]
    gone = first.at + first.latents + window  # the position that chose this token lies a window behind the last latent
    assert first.latents and gone + 3 < len(row.tokens)
    sliding = [kind == "sliding_attention" for kind in memory.parts.text.config.layer_types]
    assert True in sliding and False in sliding
    for layer, slides in zip(first.attention, sliding, strict=True):
        assert any(layer[gone - 2 : gone])
        assert any(layer[gone + 1 :]) != slides


def test_what_other_modes_put_in_its_place_can_be_traced():
    memory, batch, sequences, calls = answers("qwen2_5_vl", "always+noise")
    own, noise = (trace(memory, sequences, calls, content, **batch) for content in ("learned", "noise"))
    assert own[0].tokens == noise[0].tokens and own[0].logprobs != noise[0].logprobs
    with pytest.raises(ValueError, match="wrong-question"):
        trace(memory, sequences, calls, "wrong-question", **batch)


def test_one_answer_to_each_prompt():
    memory, batch, sequences, calls = answers("qwen2_5_vl")
    with pytest.raises(ValueError, match=r"4 answers to 2 prompts.*num_return_sequences"):
        trace(memory, sequences.repeat_interleave(2, 0), calls, **batch)


def test_no_memories_no_effects():
    memory, batch, sequences, calls = answers("qwen2_5_vl", "off")
    traces = trace(memory, sequences, calls, **batch)
    assert all(not row.memories and any(row.image[0]) for row in traces)


# --- on paper ---------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects tags, what they refer to, and what is left open."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, tag, name):
        return [found for kind, found in self.tags if kind == tag and name in found.get("class", "").split()]


@pytest.fixture(scope="module")
def traces():
    memory, batch, sequences, calls = answers("qwen2_5_vl", tokens=30)
    return trace(memory, sequences, calls, **batch)


def decode(ids):
    return " ".join(f"w{token}" if token != 9 else "<b>&" for token in ids)


def test_they_are_written_as_json(traces, tmp_path):
    save_traces(tmp_path / "traces.json", traces)
    rows = json.loads((tmp_path / "traces.json").read_text())
    assert len(rows) == 2
    for row, known in zip(rows, traces, strict=True):
        assert row["tokens"] == known.tokens and row["image"] == known.image
        assert [memory["effect"] for memory in row["memories"]] == [memory.effect for memory in known.memories]


def test_the_page_shows_every_call_and_every_token(traces, tmp_path):
    trace_html(traces, decode, tmp_path / "traces.html", "tiny: <two> answers")
    text = (tmp_path / "traces.html").read_text()
    page = Page(text)
    assert page.open == [] and page.sources == [] and "script" not in [tag for tag, _ in page.tags]
    assert not re.search(r"https?:", text)
    assert "<h1>tiny: &lt;two&gt; answers</h1>" in text
    shown = sum(len(row.tokens) - sum(memory.latents + 1 for memory in row.memories) for row in traces)
    assert len(page.of("span", "token")) == shown
    assert len(page.of("section", "row")) == len(traces)
    for kind in ("short", "long"):  # in the text, in the summary, and in the key
        calls = sum(memory.kind == kind for row in traces for memory in row.memories)
        assert len([chip for chip in page.of("span", "chip") if kind in chip["class"]]) == 2 * calls + 1
    found = traces[0].memories[0]
    total = sum(found.effect["hidden"])
    assert f"<td>{total:+.2f}</td>" in text
    place = len(traces[0].tokens) - 1
    assert f"{found.effect['hidden'][place]:+.2f} hidden, {found.effect['noise'][place]:+.2f} noise" in text
    heights = [float(height) for height in re.findall(r"height:([\d.]+)px'></i>", text)]
    assert max(heights) == 14.0 and len(set(heights)) > 5


def test_what_it_quotes_is_escaped(traces, tmp_path):
    trace_html(traces, lambda ids: "<b>&'" * len(ids), tmp_path / "traces.html")
    text = (tmp_path / "traces.html").read_text()
    assert "<b>&'" not in text and "&lt;b&gt;&amp;&#x27;" in text


def test_a_page_without_memories(tmp_path):
    memory, batch, sequences, calls = answers("qwen2_5_vl", "off", 4)
    trace_html(trace(memory, sequences, calls, **batch), decode, tmp_path / "traces.html")
    assert not Page((tmp_path / "traces.html").read_text()).of("span", "m1")


def test_credit_is_the_steepest_change_of_a_token(family):
    """By hand: where the latents of a memory are moved along the gradient of a token's log-probability, that changes by
    the norm, per step."""
    vlm = tiny_vlm(family)
    torch.manual_seed(3)
    memory = VisMem(vlm, ANY, replace(CONFIG, max_invocations=1))
    batch, length = prompts(family, vlm, TEXTS), {"min_new_tokens": 12, "max_new_tokens": 12}
    sequences, calls = memory.generate_with_trace("always", **batch, **length, do_sample=False)
    mask, prompt = whole(batch, sequences), batch["input_ids"].shape[1]
    found = credit(memory, sequences, calls, 3, **batch)
    assert [call.row for call in calls] == [0, 1] and set(found) == {call.kind for call in calls}
    expected = {call.kind: [[], [], []] for call in calls}
    for row, call in enumerate(calls):
        for distance in range(3):
            column = call.column + memory.latents(call.kind) + 2 + distance  # all that follows the only memory is said

            def logprob(change, row=row, column=column):
                def move(rows, latents):
                    return latents + change * torch.tensor([[[1.0 if r == row else 0.0]] for r in rows])

                logits = memory.score(sequences, mask, prompt, latents=move, **vision_of(batch))
                return logits[row, column - 1].double().log_softmax(-1)[sequences[row, column]]

            change = torch.zeros(memory.latents(call.kind), memory.parts.width, requires_grad=True)
            (gradient,) = torch.autograd.grad(logprob(change), change)
            step = 1e-2 * gradient / gradient.norm()
            with torch.no_grad():
                assert (logprob(step) - logprob(-step)) / 2e-2 == pytest.approx(float(gradient.norm()), rel=0.05)
            expected[call.kind][distance].append(float(gradient.norm()))
    for kind, norms in expected.items():
        assert found[kind] == pytest.approx([sum(at) / len(at) for at in norms], rel=1e-4)


def test_credit_refuses_rows_that_depend_on_each_other():
    memory, batch, sequences, calls = answers("qwen2_5_vl")
    with pytest.raises(ValueError, match="forms each row's memory of another row"):
        credit(memory, sequences, calls, content="always+wrong-question", **batch)
