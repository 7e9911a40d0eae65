"""What does latent memory cost? Time and tokens of an answer: without memory, with some, with all, and with the whole
image put in again (re-look). One run, random weights, the same words in every answer.

    python benchmarks/memory_cost.py
    python benchmarks/memory_cost.py --shapes 3b --layers 9

A script says the words, with a delimiter at the end of every sentence, and where memory is called, so that all counts
are known; decoding is stock ``generate()``, and its steps are timed one by one. ``re-look`` puts the visual tokens in
as one piece, which stock ``generate()`` cannot do: it is compared with a plain loop that says the same.

The pass lines:

- memory off costs nothing: it is the stock model's own call;
- a call costs at most N decoding steps, one for each of its latents, and 10 %. The pair around them takes two more
  steps, so a few latents cannot hold this line, however fast they are formed. Beside it stands what forming them adds:
  the call against all of its steps, N + 2, and 10 %;
- forming a short memory takes at most a fifth of the time of the vision encoder on an image of 1,024 tokens.

The first memory of an answer also makes the keys of its image, which the later ones share, so the lines are drawn for
the first and for later calls apart, and for all of an answer together.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import (
    DynamicCache,
    LogitsProcessor,
    LogitsProcessorList,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from dualsight.bench.speed import clock, medians, save_result, take_turns
from dualsight.models.vismem import KINDS, Kind, VisMem, VisMemConfig

NOTHING, CALL, ENCODER = 1.02, 1.10, 5.0
"""The pass lines: off against stock (they are the same call; 2 % is for the clock, and ``stock, again`` shows how much
two runs of the same differ by here), a call against the decoding steps of its tokens, the vision encoder against a
short memory."""
LARGE = 1024
"""Visual tokens from which on the encoder's line is drawn."""
CALLS = 4
"""Of an answer with some memory: short and long in turn, so that both have a first and a later one."""
WORD, DELIMITER, IMAGE, VIDEO, START, END = 7, 5, 11, 12, 13, 14
WORDS_BEFORE = 24
"""Of the prompt, besides the image."""


@dataclass(frozen=True)
class Shapes:
    """A Qwen2.5-VL, by what sets its time."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    vision: int
    vision_inner: int
    blocks: int
    vision_heads: int
    patch: int
    window: int
    whole_every: int
    """Each so-manieth block of the encoder sees the whole image; the others see windows."""
    side: int
    """Visual tokens on a side of the image."""

    def cut(self, layers: int) -> Shapes:
        """The same widths, fewer layers; the encoder shrinks in proportion, but keeps a block that sees the image."""
        blocks = max(1, round(self.blocks * layers / self.layers))
        return replace(self, layers=layers, blocks=blocks, whole_every=min(self.whole_every, blocks))


SHAPES = {
    "tiny": Shapes(160, 640, 5, 5, 5, 256, False, 96, 384, 4, 4, 8, 32, 2, 6),
    "3b": Shapes(2048, 11008, 36, 16, 2, 151936, True, 1280, 3420, 32, 16, 14, 112, 8, 32),
    "7b": Shapes(3584, 18944, 28, 28, 4, 152064, False, 1280, 3420, 32, 16, 14, 112, 8, 32),
}
"""``3b`` and ``7b`` are Qwen2.5-VL's, with an image of 1,024 visual tokens; ``tiny`` is about 2 M parameters."""
SIZES = {
    "tiny": VisMemConfig(queries=4, short=4, long=8, width=96, heads=4),
    "3b": VisMemConfig(),
    "7b": VisMemConfig(),
}


def build(shapes: Shapes, device: torch.device, dtype: torch.dtype) -> Any:
    """A VLM of random weights, made where it will run."""
    head = shapes.hidden // shapes.heads
    text = {
        "vocab_size": shapes.vocabulary, "hidden_size": shapes.hidden, "intermediate_size": shapes.inner,
        "num_hidden_layers": shapes.layers, "num_attention_heads": shapes.heads,
        "num_key_value_heads": shapes.kv_heads, "tie_word_embeddings": shapes.tied, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e6,
            "mrope_section": [head // 8, head * 3 // 16, head * 3 // 16],
        },
    }  # fmt: skip
    vision = {
        "depth": shapes.blocks, "hidden_size": shapes.vision, "intermediate_size": shapes.vision_inner,
        "num_heads": shapes.vision_heads, "patch_size": shapes.patch, "window_size": shapes.window,
        "fullatt_block_indexes": list(range(shapes.whole_every - 1, shapes.blocks, shapes.whole_every)),
        "out_hidden_size": shapes.hidden,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=shapes.tied, image_token_id=IMAGE,
        video_token_id=VIDEO, vision_start_token_id=START, vision_end_token_id=END,
    )  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return Qwen2_5_VLForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(before)


def prompt(shapes: Shapes, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """An image of noise and some words."""
    ids = torch.tensor([[START, *[IMAGE] * shapes.side**2, END, *[WORD] * WORDS_BEFORE]], device=device)
    grid = [1, 2 * shapes.side, 2 * shapes.side]  # of patches, four to a token
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == IMAGE).int(),
        "pixel_values": torch.randn(grid[1] * grid[2], 3 * 2 * shapes.patch**2, device=device, dtype=dtype),
        "image_grid_thw": torch.tensor([grid], device=device),
    }


@dataclass(frozen=True)
class Answer:
    """Sentences of words that end in a delimiter, and which memory is called behind which of them."""

    sentences: int
    words: int
    """Of a sentence, its delimiter among them."""
    calls: dict[int, Kind]

    def extra(self, memory: VisMem) -> int:
        """Tokens of memories: latents, and the pair around them."""
        return sum(len(memory.written(kind)) for kind in self.calls.values())


class Script(LogitsProcessor):
    """Says an answer, whatever the model would say, and notes when each step was done."""

    def __init__(self, answer: Answer, memory: VisMem, prompt: int):
        self.answer, self.tokens, self.prompt = answer, memory.tokens, prompt
        self.done: list[tuple[int, float]] = []
        """The token that went into each step (at first the last one of the prompt), and the time behind it."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        ids = input_ids[0, self.prompt :].tolist()
        self.done.append((int(input_ids[0, -1]), clock(input_ids.device)))
        sentence, word = divmod(sum(token < self.tokens.first for token in ids), self.answer.words)
        token = DELIMITER if word == self.answer.words - 1 else WORD
        if ids and ids[-1] == DELIMITER and sentence - 1 in self.answer.calls:
            token = self.tokens.begin_of(self.answer.calls[sentence - 1])
        scores = torch.full_like(scores, torch.finfo(scores.dtype).min)
        scores[:, token] = 0.0
        return scores


class Clocked:
    """Answers through stock ``generate()``, and the seconds of their steps, by what went into them."""

    def __init__(self, memory: VisMem, inputs: dict[str, Tensor]):
        self.memory, self.inputs = memory, inputs
        self.steps: dict[str, dict[str, list[float]]] = {}
        self.said: dict[str, list[int]] = {}

    def run(self, name: str, mode: str | None, answer: Answer) -> Callable[[], object]:
        """``mode`` of memory; None calls the stock model."""
        memory: Any = self.memory
        generate = memory.vlm.generate if mode is None else partial(memory.generate, mode)
        prompt = self.inputs["input_ids"].shape[1]
        length = answer.sentences * answer.words + answer.extra(self.memory) + 1  # the last token is said, but not read
        seconds = self.steps[name] = {}

        def say() -> None:
            script = Script(answer, self.memory, prompt)
            ids = generate(
                **self.inputs, logits_processor=LogitsProcessorList([script]), max_new_tokens=length, do_sample=False
            )
            if name in self.said:  # the first round does not count
                for step, value in self._named(script.done):
                    seconds.setdefault(step, []).append(value)
            self.said[name] = ids[0, prompt:].tolist()

        return say

    def _named(self, done: list[tuple[int, float]]) -> list[tuple[str, float]]:
        """Steps by name. A call is all of its steps, from the token that calls to the end of its pair."""
        tokens, called, named = self.memory.tokens, set(), []
        name, start = "", 0.0
        for (_, before), (token, after) in pairwise(done):
            if token in tokens.begin:
                kind = tokens.kind(token)
                name, start = f"{kind}, {'later' if kind in called else 'first'}", before
                called.add(kind)
                named.append((f"{name}: its first step", after - before))
            elif token in tokens.end:
                named.append((name, after - start))
            elif token != tokens.placeholder:
                named.append(("word", after - before))
        return named


class PlainLoop:
    """Decoding without ``generate()``: words one by one, and in a piece all visual tokens again, where they are asked
    for. The encoder runs once."""

    def __init__(self, vlm: Any, inputs: dict[str, Tensor]):
        self.vlm, self.inputs = vlm, inputs
        kinds, grid = inputs["mm_token_type_ids"], inputs["image_grid_thw"]
        self.positions = vlm.model.get_rope_index(inputs["input_ids"], kinds, image_grid_thw=grid)[0]

    def run(self, answer: Answer) -> Callable[[], object]:
        """Says ``answer``, and looks again at its calls."""
        vlm, ids = self.vlm, self.inputs["input_ids"]

        def say() -> None:
            embed = vlm.get_input_embeddings()
            image = vlm.get_image_features(self.inputs["pixel_values"], self.inputs["image_grid_thw"]).pooler_output
            image = torch.cat(list(image))[None]  # (1, V, D)
            embedded = embed(ids).masked_scatter((ids == IMAGE)[..., None], image)
            cache, end = DynamicCache(config=vlm.config.get_text_config()), int(self.positions.max()) + 1
            vlm(inputs_embeds=embedded, position_ids=self.positions, past_key_values=cache, logits_to_keep=1)
            for sentence in range(answer.sentences):
                pieces = [embed(ids.new_full((1, 1), WORD))] * answer.words
                pieces += [image] if sentence in answer.calls else []
                for piece in pieces:
                    start, end = end, end + piece.shape[1]
                    places = torch.arange(start, end, device=ids.device).expand(3, 1, -1)
                    vlm(inputs_embeds=piece, position_ids=places, past_key_values=cache, logits_to_keep=1)

        return say


@dataclass(frozen=True)
class Line:
    """A pass line, and what was measured."""

    what: str
    value: float
    limit: float
    at_most: bool = True

    @property
    def held(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def pass_lines(
    seconds: dict[str, float], steps: dict[str, dict[str, float]], memory: VisMem, some: Answer, visual: int
) -> list[Line]:
    """Each line for the first call, which makes the image's keys, and for a later one."""
    word, own = steps["off"]["word"], steps["learned"]
    lines = [Line("off / stock", seconds["off"] / seconds["stock"], NOTHING)]
    for kind in KINDS:
        for order in ("first", "later"):
            of = memory.latents(kind), len(memory.written(kind))
            for name, count in zip(("N", "N + 2"), of, strict=True):
                ratio = own[f"{kind}, {order}"] / (count * word)
                lines.append(Line(f"{kind} call, {order} / {name} steps", ratio, CALL))
    added = seconds["learned"] - seconds["off"]
    for name, count in (("N", some.extra(memory) - 2 * len(some.calls)), ("N + 2", some.extra(memory))):
        lines.append(Line(f"all that memory adds / {name} steps a call", added / (count * word), CALL))
    if visual >= LARGE:
        for order in ("first", "later"):
            forming = own[f"short, {order}: its first step"] - own["word"]
            ratio = seconds["vision encoder"] / forming
            lines.append(Line(f"vision encoder / short memory, {order}", ratio, ENCODER, at_most=False))
    return lines


def print_answers(console: Console, seconds: dict[str, float], tokens: dict[str, int], title: str) -> None:
    table = Table(title=title)
    for column in ("answer", "tokens", "ms", "against without"):
        table.add_column(column, justify="left" if column == "answer" else "right")
    for name, number in tokens.items():
        without = "plain loop" if name in ("plain loop", "re-look") else "stock"
        ratio = seconds[name] / seconds[without]
        table.add_row(name, str(number), f"{1000 * seconds[name]:.1f}", f"{ratio:.2f}")
    console.print(table)


def print_steps(console: Console, steps: dict[str, dict[str, float]], encoder: float) -> None:
    table = Table(title="Steps")
    for column in ("", "ms", "words without memory"):
        table.add_column(column, justify="right" if column else "left")
    word = steps["off"]["word"]
    rows = {"a word, memory off": word, "a word, memory on": steps["learned"]["word"]}
    rows |= {name: value for name, value in sorted(steps["learned"].items()) if name != "word"}
    for name, value in (rows | {"vision encoder": encoder}).items():
        table.add_row(name, f"{1000 * value:.2f}", f"{value / word:.2f}")
    console.print(table)


def print_lines(console: Console, lines: list[Line]) -> None:
    table = Table(title="Pass lines")
    for column in ("", "measured", "line", ""):
        table.add_column(column, justify="right" if column else "left")
    for line in lines:
        limit = f"{'at most' if line.at_most else 'at least'} {line.limit:g}"
        table.add_row(line.what, f"{line.value:.2f}", limit, "held" if line.held else "not held")
    console.print(table)


def scale(full: Shapes, used: Shapes) -> str:
    """What was measured of the model, in words."""
    whole, seeing = full.blocks // full.whole_every, used.blocks // used.whole_every
    if used == full:
        return "whole model"
    return (
        f"{used.layers} of {full.layers} decoder layers and {used.blocks} of {full.blocks} vision blocks, of true "
        f"widths; {seeing} of these blocks see the whole image ({whole} in the model). Embedding, head and query "
        "builder are whole. Nothing is extrapolated: seconds are of the cut model, and in its ratios what is whole "
        "weighs more than in the model's"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=list(SHAPES), default="tiny")
    parser.add_argument("--layers", type=int, help="of the decoder, the encoder in proportion; all by default")
    parser.add_argument("--side", type=int, help="visual tokens on a side of the image; 6 or 32 by default")
    parser.add_argument("--sentences", type=int, default=8)
    parser.add_argument("--words", type=int, default=8, help="of a sentence")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/memory_cost.json"))
    args = parser.parse_args()
    if args.sentences < CALLS:
        parser.error(f"--sentences {args.sentences}: at least {CALLS}, for a first and a later call of both kinds")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    full = SHAPES[args.shapes]
    full = replace(full, side=args.side or full.side)
    shapes = full.cut(args.layers) if args.layers else full
    device, console = torch.device(args.device), Console()
    with console.status("building"):
        vlm = build(shapes, device, getattr(torch, args.dtype))
        memory = VisMem(vlm, [DELIMITER], replace(SIZES[args.shapes], max_invocations=args.sentences))
        inputs = prompt(shapes, device, vlm.dtype)

    kinds = dict(enumerate(KINDS * args.sentences))
    none = Answer(args.sentences, args.words, {})
    some = replace(none, calls={n * args.sentences // CALLS: kinds[n] for n in range(CALLS)})
    every = replace(none, calls={n: kinds[n] for n in range(args.sentences)})
    clocked, plain = Clocked(memory, inputs), PlainLoop(vlm, inputs)
    pixels, grid = inputs["pixel_values"], inputs["image_grid_thw"]
    with console.status("answering"), torch.no_grad():
        runs = {
            "stock": clocked.run("stock", None, none),
            "off": clocked.run("off", "off", none),
            "stock, again": clocked.run("stock, again", None, none),
            "learned": clocked.run("learned", "learned", some),
            "always": clocked.run("always", "learned", every),
            "plain loop": plain.run(none),
            "re-look": plain.run(some),
            "vision encoder": lambda: memory.parts.tower(pixels, grid_thw=grid),
        }
        seconds = medians(take_turns(runs, args.rounds, device))
    steps = {name: medians(values) for name, values in clocked.steps.items()}
    words = {name: [token for token in said if token < memory.tokens.first] for name, said in clocked.said.items()}
    if any(said != words["stock"] for said in words.values()):
        raise SystemExit("the answers do not say the same: their times cannot be compared")

    tokens = {name: len(said) for name, said in clocked.said.items()}
    tokens |= {"plain loop": tokens["stock"], "re-look": tokens["stock"] + CALLS * shapes.side**2}
    unit = "CPU time of one thread" if device.type == "cpu" else f"wall time on {torch.cuda.get_device_name(device)}"
    print_answers(console, seconds, tokens, f"Answers, {CALLS} calls (always: {args.sentences}), {unit}")
    print_steps(console, steps, seconds["vision encoder"])
    lines = pass_lines(seconds, steps, memory, some, shapes.side**2)
    print_lines(console, lines)
    print(f"{args.shapes}, {shapes.side**2} visual tokens, {args.dtype}: {scale(full, shapes)}")
    if shapes.side**2 < LARGE:
        print(f"the vision encoder's line is drawn from {LARGE} visual tokens on: --shapes 3b")
    save_result(
        args.out,
        {
            "shapes": args.shapes, "size": asdict(shapes), "scale": scale(full, shapes), "dtype": args.dtype,
            "device": str(device), "rounds": args.rounds, "memory": asdict(memory.config), "tokens": tokens,
            "seconds": seconds, "steps": steps, "lines": [asdict(line) | {"held": line.held} for line in lines],
        },
    )  # fmt: skip
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
