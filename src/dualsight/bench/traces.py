"""Invocation traces of VisMem: where memory was called, how much it is attended to, and what is lost without it.

Attention alone shows where a model looks, not whether that matters; so each memory is also taken away, twice, and the
same answer is read again without it:

===========  =======================================================================================================
``hidden``   later tokens do not see its latents. They are hidden in the masks of the layers, not in the attention
             mask that the model is given: by that one most families count positions, and tokens would move up
``noise``    its latents are noise, each of the norm of the one in whose place it stands
===========  =======================================================================================================

What comes after a memory that was taken away, later memories too, is computed anew: an effect is the whole effect.

    ids, calls = memory.generate_with_trace("learned", **inputs)
    traces = trace(memory, ids, calls, **inputs)
    save_traces(Path("traces.json"), traces)
    trace_html(traces, tokenizer.decode, Path("traces.html"))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dualsight.data.files import replacing, write_json
from dualsight.memory.vlms import TEXT_INPUTS
from dualsight.models.vismem import KINDS, Invocation, Kind, Mode, VisMem, ends_of

REMOVALS = ("hidden", "noise")


@dataclass(frozen=True)
class MemoryTrace:
    """One memory of one answer. Lists over tokens have an entry for each token of the answer."""

    kind: Kind
    at: int
    """Which token of the answer called it."""
    latents: int
    attention: list[list[float]]
    """(layers, T): the attention on its latents, mean over heads, of the position that chose the token."""
    effect: dict[str, list[float]]
    """(T,) for each of `REMOVALS`: ``log p(token | without it) - log p(token)`` in nats. Below zero it had helped."""


@dataclass(frozen=True)
class RowTrace:
    """One answer."""

    tokens: list[int]
    """(T,), up to the one that ends it, with those of its memories."""
    logprobs: list[float]
    """(T,) of the chosen tokens; 0 for those that follow from a call."""
    image: list[list[float]]
    """(layers, T): the attention on the visual tokens, for comparison."""
    memories: tuple[MemoryTrace, ...]


@torch.no_grad()
def trace(
    memory: VisMem,
    sequences: Int[Tensor, "B L"],
    invocations: Sequence[Invocation],
    content: str = "learned",
    seed: int = 0,
    **inputs: Any,
) -> list[RowTrace]:
    """Traces of what `VisMem.generate_with_trace` gave, a row each.

    Rows are independent, so the first memories of all rows are taken away in one pass, then the second ones, and so
    on: ``1 + 2 max(memories of a row)`` passes over the batch.

    Args:
        sequences: prompts with their answers.
        content: the mode of `generate_with_trace`, where that put something else in the place of memory.
        seed: as given there; that of the noise.
        inputs: what described the prompts there: ``input_ids``, ``attention_mask``, pixel values.

    Raises:
        ValueError: several answers to a prompt, or a mode in which rows depend on each other.
    """
    _check(sequences, content, inputs)
    prompt, there = inputs["input_ids"].shape[1], _there(memory, sequences, inputs)
    vision = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS}
    by_row = [[call for call in invocations if call.row == row] for row in range(len(sequences))]
    turns = [list(filter(None, turn)) for turn in zip_longest(*by_row)]

    def read(watch: _Watch) -> Float[Tensor, "B T"]:
        with watch.reading():
            logits = memory.score(sequences, there, prompt, content, seed, **vision)[:, prompt - 1 : -1]
        said = sequences[:, prompt:]
        logprobs = logits.float().log_softmax(-1).gather(2, said[..., None])[..., 0]
        return logprobs.masked_fill(~memory.chosen(said), 0.0)

    groups = [memory.parts.shows(sequences), *(_latents(memory, sequences, turn) for turn in turns)]
    watch = _Watch(memory, torch.stack(groups, 1))
    logprobs = read(watch)
    attention = watch.attention()[..., prompt - 1 : -1]  # (layers, B, 1 + turns, T)
    without = [
        {how: read(_Watch(memory, latents[:, None], how, seed)) - logprobs for how in REMOVALS}
        for latents in groups[1:]
    ]

    def row_trace(row: int) -> RowTrace:
        length = int(there[row, prompt:].sum())
        memories = tuple(
            MemoryTrace(
                kind=call.kind,
                at=call.column - prompt,
                latents=int(groups[1 + turn][row].sum()),
                attention=_rounded(attention[:, row, 1 + turn, :length]),
                effect={how: _rounded(change[row, :length]) for how, change in without[turn].items()},
            )
            for turn, call in enumerate(by_row[row])
        )
        tokens = sequences[row, prompt : prompt + length].tolist()
        return RowTrace(tokens, _rounded(logprobs[row, :length]), _rounded(attention[:, row, 0, :length]), memories)

    return [row_trace(row) for row in range(len(sequences))]


def credit(
    memory: VisMem,
    sequences: Int[Tensor, "B L"],
    invocations: Sequence[Invocation],
    distances: int = 16,
    content: str = "learned",
    seed: int = 0,
    **inputs: Any,
) -> dict[Kind, list[float]]:
    """How far a memory's lesson reaches: the norm of the gradient of ``log p(token)`` with respect to the latents, for
    the 1st, 2nd, ... chosen token behind a memory. Mean over the memories of a kind that have so many; NaN if none has.

    What a memory learns comes from the tokens at which this is large. Where it falls quickly, long answers dilute it.

    Args:
        distances: how many tokens.
        sequences, invocations, content, seed, inputs: as for `trace`, with what it refuses.
    """
    _check(sequences, content, inputs)
    prompt, there = inputs["input_ids"].shape[1], _there(memory, sequences, inputs)
    vision = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS}
    formed: dict[tuple[int, int], Tensor] = {}
    calls_of = [[call for call in invocations if call.row == row] for row in range(len(sequences))]
    turn = [0] * len(sequences)

    def keep(rows: list[int], latents: Tensor) -> Tensor:
        leaves = [latent.detach().requires_grad_() for latent in latents]
        for row, leaf in zip(rows, leaves, strict=True):
            formed[row, turn[row]] = leaf
            turn[row] += 1
        return torch.stack(leaves)

    with torch.enable_grad():
        logits = memory.score(sequences, there, prompt, content, seed, keep, **vision)[:, :-1]
    logprobs = logits.float().log_softmax(-1).gather(2, sequences[:, 1:, None])[..., 0]  # of columns 1, 2, ...
    chosen = memory.chosen(sequences) & there.bool()
    norms: dict[Kind, list[list[float]]] = {kind: [[] for _ in range(distances)] for kind in KINDS}
    for row, calls in enumerate(calls_of):
        for number, call in enumerate(calls):
            behind = call.column + memory.latents(call.kind) + 2
            tokens = (behind + chosen[row, behind:].nonzero()[:distances, 0]).tolist()
            for distance, column in enumerate(tokens):
                target, leaf = logprobs[row, column - 1], formed[row, number]
                (gradient,) = torch.autograd.grad(target, leaf, retain_graph=True, allow_unused=True)
                norms[call.kind][distance].append(0.0 if gradient is None else float(gradient.norm()))
    return {
        kind: [sum(at) / len(at) if at else math.nan for at in found]
        for kind, found in norms.items()
        if any(call.kind == kind for call in invocations)
    }


def save_traces(path: Path, traces: Iterable[RowTrace]) -> None:
    """Write them as JSON, whole or not at all."""
    write_json(path, [asdict(row) for row in traces])


def _check(sequences: Int[Tensor, "B L"], content: str, inputs: dict[str, Any]) -> None:
    """One answer to each prompt, and rows that do not depend on each other."""
    given: Tensor = inputs["input_ids"]
    if len(given) != len(sequences):
        raise ValueError(
            f"{len(sequences)} answers to {len(given)} prompts: traces take one to each; repeat the prompts and their "
            "images instead of asking for num_return_sequences"
        )
    if Mode.parse(content).content == "wrong-question":
        raise ValueError("memory='wrong-question' forms each row's memory of another row: what removing it does to one "
                         "row would show in two; trace another mode")  # fmt: skip


def _there(memory: VisMem, sequences: Int[Tensor, "B L"], inputs: dict[str, Any]) -> Int[Tensor, "B L"]:
    """Which columns count: the prompt's own, and answers up to their end."""
    given: Tensor = inputs["input_ids"]
    mask = inputs.get("attention_mask")
    ends = torch.tensor(ends_of(memory.vlm), device=sequences.device)
    ended = torch.isin(sequences[:, given.shape[1] :], ends).long()
    said = ended.cumsum(1) - ended == 0
    return torch.cat([torch.ones_like(given) if mask is None else mask, said.to(given)], 1)


def _latents(memory: VisMem, sequences: Int[Tensor, "B L"], calls: Iterable[Invocation]) -> Bool[Tensor, "B L"]:
    """The columns of the latents of one call in each of some rows."""
    columns = torch.zeros_like(sequences, dtype=torch.bool)
    for call in calls:
        columns[call.row, call.column + 1 : call.column + 1 + memory.latents(call.kind)] = True
    return columns


def _rounded(values: Tensor) -> Any:
    """Plain numbers, to the sixth digit behind the point: more is neither stable nor read."""
    return values.double().mul(1e6).round().div(1e6).add(0.0).tolist()


class _Watch:
    """What is noted of the decoder, and perhaps done to it, while a batch is read once by `VisMem.score`.

    Args:
        groups: columns whose attention is noted, group by group.
        removal: one of `REMOVALS`, if the columns of the groups are to be taken away.
    """

    def __init__(self, memory: VisMem, groups: Bool[Tensor, "B G L"], removal: str | None = None, seed: int = 0):
        self.text: Any = memory.parts.text
        self.groups, self.removal, self.seed = groups, removal, seed
        self.gone = groups.any(1)  # (B, L)
        self.noted: list[list[Tensor]] = [[] for _ in self.text.layers]
        self._start = 0
        self._size = 0
        """Columns that were read before this piece, and its own; none between pieces, when a former may borrow the
        decoder's layers."""

    def attention(self) -> Float[Tensor, "layers B G L"]:
        """Mean over heads, sum over the columns of a group, for each column that looks."""
        return torch.stack([torch.cat(pieces, -1) for pieces in self.noted])

    @contextmanager
    def reading(self) -> Generator[None]:
        """Within, the decoder computes its attention so that it can be seen; afterwards it is as it was."""
        config = self.text.config
        before = config._attn_implementation
        with ExitStack() as undo:
            undo.callback(setattr, config, "_attn_implementation", before)
            config._attn_implementation = "eager"  # the one that has weights, and always a mask
            handles = [
                self.text.register_forward_pre_hook(self._begins, with_kwargs=True),
                self.text.register_forward_hook(self._ends),
            ]
            for number, layer in enumerate(self.text.layers):
                handles.append(layer.self_attn.register_forward_hook(self._note(self.noted[number])))
                if self.removal == "hidden":
                    handles.append(layer.register_forward_pre_hook(self._hide, with_kwargs=True))
            for handle in handles:
                undo.callback(handle.remove)
            yield

    def _begins(self, text: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
        """A piece enters the decoder."""
        embedded: Tensor = keywords["inputs_embeds"]
        self._size = embedded.shape[1]
        if self.removal == "noise":
            gone = self.gone[:, self._start : self._start + self._size]
            keywords = keywords | {"inputs_embeds": torch.where(gone[..., None], self._noise(embedded), embedded)}
        return arguments, keywords

    def _ends(self, text: nn.Module, inputs: tuple, outputs: Any) -> None:
        self._start, self._size = self._start + self._size, 0

    def _noise(self, like: Float[Tensor, "B Q D"]) -> Float[Tensor, "B Q D"]:
        """Of the same norms. The same for all rows, so that a row is as it is alone."""
        columns = self.groups.shape[2]
        noise = torch.randn(columns, like.shape[2], generator=torch.Generator().manual_seed(self.seed)).to(like)
        # A row's padding shifts its columns: noise is counted from the row's first latent.
        first = self.gone.long().argmax(1)
        place = torch.arange(self._start, self._start + self._size, device=like.device) - first[:, None]
        noise = noise[place.clamp(min=0)]
        return noise * like.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)

    def _hide(self, layer: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict] | None:
        """Mask the columns that are gone for all that come behind them."""
        if not self._size:
            return None
        mask: Tensor = keywords["attention_mask"]  # (B or 1, 1, Q, K), added to scores
        gone = self.gone[:, None, self._keys(mask.shape[-1])]  # (B, 1, K)
        never = torch.finfo(mask.dtype).min
        looks = torch.arange(self._start, self._start + self._size, device=mask.device)
        behind = looks[None] > self._last()[:, None]  # (B, Q)
        hidden = (gone & behind[..., None])[:, None]
        return arguments, keywords | {"attention_mask": mask.expand(len(gone), -1, -1, -1).masked_fill(hidden, never)}

    def _last(self) -> Int[Tensor, " B"]:
        """The last column that is gone of each row; -1 where none is."""
        columns = torch.arange(self.gone.shape[1], device=self.gone.device)
        return torch.where(self.gone, columns, -1).amax(1)

    def _keys(self, number: int) -> slice:
        """The columns of the keys of this piece: a layer with a window keeps the last ones only."""
        end = self._start + self._size
        return slice(end - number, end)

    def _note(self, pieces: list[Tensor]) -> Callable:
        def note(attention: nn.Module, inputs: tuple, outputs: Any) -> None:
            if not self._size:
                return
            weights: Tensor = outputs[1].float().mean(1)  # (B, Q, K)
            groups = self.groups[..., self._keys(weights.shape[-1])].to(weights)
            pieces.append(torch.einsum("bqk,bgk->bgq", weights, groups))

        return note


# --- a page -----------------------------------------------------------------------------------------------------------

STYLE = """
:root { --ink: #202124; --faint: #6b6862; --line: #e3dfd6; --short: #0072b2; --long: #b34700 }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink); background: #faf9f6;
       margin: 0 auto; max-width: 1240px; padding: 2.2rem 1.4rem }
h1 { font-weight: 650; font-size: 1.9rem; margin: 0 }
h2 { font-weight: 600; font-size: 1.05rem; margin: 0 0 .5rem }
h2 small, .sub, .key { color: var(--faint); font-weight: 400 }
.sub { margin: .2rem 0 .6rem; max-width: 75ch }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; margin: 0 0 1.6rem; font-size: .88rem }
.key > span { display: inline-flex; align-items: center; gap: .45rem }
.key .lane { width: 19px; margin: 0 }
.row { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.1rem;
       margin-bottom: 1.3rem }
.pick label { cursor: pointer; border: 1px solid var(--line); border-radius: 99px; padding: .1rem .7rem;
              font-size: .85rem; margin-right: .3rem }
.pick input { position: absolute; opacity: 0 }
.pick label:has(:checked) { background: var(--ink); color: #fff }
.pick label:has(:focus-visible) { outline: 2px solid var(--ink); outline-offset: 2px }
.short { --kind: var(--short) } .long { --kind: var(--long) }
.text { display: flex; flex-wrap: wrap; align-items: flex-start; gap: .7rem 0; margin: .8rem 0 1rem }
.token { min-width: 22px; cursor: default }
.token:hover { background: #f2efe8 }
.word { display: block; white-space: pre; padding: 0 1px; min-height: 1.5em }
.chip { display: inline-block; background: var(--kind); color: #fff; border-radius: 99px; padding: 0 .6rem;
        margin: 0 .25rem; font-size: .82rem; white-space: nowrap }
.break { flex-basis: 100%; height: 0 }
.lane { position: relative; display: block; height: 30px; margin: 3px 0 0 2px }
.lane::before { content: ""; position: absolute; inset: 15px 0 auto 0; border-top: 1px solid var(--line) }
i { position: absolute; width: 5px; border: 1px solid var(--kind) }
.seen { left: 0; background: var(--kind); opacity: .4 }
.hidden { left: 6px; background: var(--kind) }
.noise { left: 12px }
.up { bottom: 15px } .down { top: 15px }
table { border-collapse: collapse; font-size: .88rem }
td, th { padding: .2rem .9rem .2rem 0; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
td:first-child, th:first-child { text-align: left }
th { font-weight: 600; color: var(--faint); cursor: help }
.layers { display: inline-flex; align-items: end; gap: 1px; height: 20px; vertical-align: bottom }
.layers u { width: 7px; background: var(--kind, #8a867e); min-height: 1px }
.scroll { overflow-x: auto }
"""

HEADS = {
    "memory": "in the order of the calls",
    "token": "which token of the answer called it",
    "latents": "",
    "attention": "on its latents, mean over the later chosen tokens, over heads and layers",
    "hidden": "change of the log-probability of all that was said later, in nats, when its latents are hidden",
    "noise": "the same when they are noise of the same norms",
    "layers": "attention by layer, the first on the left; the highest bar is the layer's share written behind",
}
"""Columns of the summary of a row, with what they mean."""


def trace_html(
    traces: Sequence[RowTrace],
    decode: Callable[[list[int]], str],
    path: Path,
    title: str = "Invocation traces",
) -> None:
    """Write one page that shows answers with their memories: calls as chips, and bars under each later token.

    Everything is inside the file, style inline, no script: it opens offline, from anywhere.

    Args:
        decode: tokens to text; ``tokenizer.decode``. It is not asked for the tokens of memories.
    """
    memories = [memory for row in traces for memory in row.memories]
    most = _Scale(
        max((_share(m.attention, place) for m in memories for place in range(len(m.attention[0]))), default=0.0),
        max((abs(change) for m in memories for how in REMOVALS for change in m.effect[how]), default=0.0),
    )
    page = "\n".join(
        [
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>",
            f"<meta name=viewport content='width=device-width'><style>{STYLE}{_choices(traces)}</style>",
            f"<h1>{escape(title)}</h1>{_key(most)}",
            *(_row(number, row, decode, most) for number, row in enumerate(traces)),
            "</html>\n",
        ]
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


@dataclass(frozen=True)
class _Scale:
    """What the highest bars of the page stand for."""

    attention: float
    effect: float


def _share(attention: list[list[float]], place: int) -> float:
    """Of the attention at one place, mean over layers."""
    return sum(layer[place] for layer in attention) / len(attention)


def _choices(traces: Sequence[RowTrace]) -> str:
    """Rules that show the lane of one memory only, when its button is pressed."""
    most = max((len(row.memories) for row in traces), default=0)
    return "".join(
        f".row:has([value='{n}']:checked) .lane:not(.m{n}) {{ display: none }}\n" for n in range(1, most + 1)
    )


def _key(most: _Scale) -> str:
    """How to read the page."""
    return (
        "<p class=sub>Each answer with the memories that it called. Under a token stand the bars of each memory before "
        "it, one lane below the other: how much the model attended to its latents when it chose the token, and how the "
        "token's log-probability changes without it. Point at a token for the numbers.</p><p class=key>"
        "<span><span class='chip short'>short</span><span class='chip long'>long</span> a call and its latents</span>"
        f"<span>{_bars('short', [('seen up', 14)])} attention, this high: {_percent(most.attention)}</span>"
        f"<span>{_bars('short', [('hidden down', 14), ('noise down', 14)])} less likely with the latents hidden, with "
        f"noise in their place; this low: {most.effect:.2f} nats</span>"
        f"<span>{_bars('short', [('hidden up', 14), ('noise up', 14)])} more likely without them</span></p>"
    )


def _row(number: int, row: RowTrace, decode: Callable[[list[int]], str], most: _Scale) -> str:
    """One answer: which memory is shown, the text, the summary."""
    lanes = range(1, len(row.memories) + 1)
    buttons = "".join(f"<label><input type=radio name=row{number} value={n}>memory {n}</label>" for n in lanes)
    pick = f"<label><input type=radio name=row{number} value=all checked>all</label>{buttons}"
    calls = f"{len(lanes)} {'memory' if len(lanes) == 1 else 'memories'}"
    return (
        f"<section class=row><h2>Answer {number + 1} <small>{len(row.tokens)} tokens, {calls}</small></h2>"
        f"{f'<div class=pick>{pick}</div>' if len(lanes) > 1 else ''}"
        f"<div class=text>{''.join(_tokens(row, decode, most))}</div>{_summary(row) if lanes else ''}</section>"
    )


def _tokens(row: RowTrace, decode: Callable[[list[int]], str], most: _Scale) -> Generator[str]:
    """The text with its chips, a column for each token: the word, and below it a lane for each memory."""
    calls = {memory.at: n for n, memory in enumerate(row.memories, 1)}
    inside = {at + i for at, n in calls.items() for i in range(1, row.memories[n - 1].latents + 2)}
    said: list[int] = []
    for place, token in enumerate(row.tokens):
        if place in inside:  # latents, and the token that ends them: the chip stands for them
            continue
        before = [(n, memory) for n, memory in enumerate(row.memories, 1) if memory.at < place]
        lanes = "".join(_lane(n, memory, place, most) for n, memory in before)
        if place in calls:
            memory = row.memories[calls[place] - 1]
            text = f"{memory.kind} {calls[place]}"
            word = f"<span class=word><span class='chip {memory.kind}'>{text}</span></span>"
        else:
            text = decode([*said, token])[len(decode(said)) :]  # with the space between, if it has one
            said.append(token)
            shown = escape(text).replace("\n", "↵") or "·"
            word = f"<span class=word>{shown}</span>"
        yield f"<span class=token title='{escape(_numbers(row, place, text))}'>{word}{lanes}</span>"
        if "\n" in text:
            yield "<span class=break></span>"


def _lane(n: int, memory: MemoryTrace, place: int, most: _Scale) -> str:
    """The bars of one memory under one token."""

    def height(value: float, most: float) -> float:
        return 14 * abs(value) / most if most else 0.0

    bars = [("seen up", height(_share(memory.attention, place), most.attention))]
    for how in REMOVALS:
        change = memory.effect[how][place]
        bars.append((f"{how} {'down' if change < 0 else 'up'}", height(change, most.effect)))
    return _bars(f"m{n} {memory.kind}", bars)


def _bars(lane: str, bars: Sequence[tuple[str, float]]) -> str:
    """Bars by their classes and heights; those that cannot be seen are left out."""
    drawn = (f"<i class='{name}' style='height:{height:.1f}px'></i>" for name, height in bars if height >= 0.5)
    return f"<span class='lane {lane}'>{''.join(drawn)}</span>"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _numbers(row: RowTrace, place: int, text: str) -> str:
    """What is written when one points at a token."""
    lines = [f"token {place + 1}: {text!r}, log p {row.logprobs[place]:.2f}"]
    lines.append(f"image: {_percent(_share(row.image, place))} of the attention")
    for n, memory in enumerate(row.memories, 1):
        if place > memory.at:
            seen = _share(memory.attention, place)
            changes = ", ".join(f"{memory.effect[how][place]:+.2f} {how}" for how in REMOVALS)
            lines.append(f"memory {n} ({memory.kind}): {_percent(seen)} of the attention; without it {changes}")
    return "\n".join(lines)


def _summary(row: RowTrace) -> str:
    """A line for each memory, and one for the image."""
    inside = {memory.at + i for memory in row.memories for i in range(1, memory.latents + 2)}
    chosen = [place for place in range(len(row.tokens)) if place not in inside]
    heads = "".join(f"<th title='{escape(meaning)}'>{name}</th>" for name, meaning in HEADS.items())
    lines = []
    for n, memory in enumerate(row.memories, 1):
        later = [place for place in chosen if place > memory.at]
        lost = "".join(f"<td>{sum(memory.effect[how]):+.2f}</td>" for how in REMOVALS)
        lines.append(
            f"<tr class={memory.kind}><td><span class='chip {memory.kind}'>{memory.kind} {n}</span></td>"
            f"<td>{memory.at + 1}</td><td>{memory.latents}</td>{_attended(memory.attention, later, lost)}</tr>"
        )
    none = "<td>&ndash;</td>" * len(REMOVALS)
    lines.append(f"<tr><td>image</td><td>&ndash;</td><td>&ndash;</td>{_attended(row.image, chosen, none)}</tr>")
    return f"<div class=scroll><table><tr>{heads}</tr>{''.join(lines)}</table></div>"


def _attended(attention: list[list[float]], places: list[int], between: str) -> str:
    """Mean attention at some places, and what it is in each layer."""
    layers = [sum(layer[place] for place in places) / max(1, len(places)) for layer in attention]
    most = max(layers)
    bars = "".join(
        f"<u style='height:{20 * value / most if most else 0:.1f}px' title='layer {n}: {_percent(value)}'></u>"
        for n, value in enumerate(layers)
    )
    return (
        f"<td>{_percent(sum(layers) / len(layers))}</td>{between}"
        f"<td><span class=layers>{bars}</span> {_percent(most)}</td>"
    )
