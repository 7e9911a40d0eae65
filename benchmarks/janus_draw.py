"""How long does an image take, against what its matrix products alone take, and against transformers? One run, same
weights, same tokens.

    python benchmarks/janus_draw.py --images 16

One thread, CPU time, greedy, guidance 5. ``products`` multiplies a row per sequence with every weight matrix that a
token passes, once for each token: less than that a loop of single tokens cannot take. ``same prompt`` draws as many
images of one prompt, which is read once. ``compiled`` needs a C++ compiler (``inference/token_graph.py``).
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import JanusForConditionalGeneration, PreTrainedTokenizerFast

from dualsight.bench.speed import medians, save_result, take_turns
from dualsight.checkpoints.janus import save_transformers
from dualsight.inference.image import draw_codes
from dualsight.models.janus import Janus
from dualsight.models.janus_config import TOKEN_NAMES, JanusConfig, JanusTextConfig, JanusTokens
from dualsight.models.janus_processor import JanusProcessor
from dualsight.pathways.encoders import EncoderConfig
from dualsight.pathways.vq import VQConfig

PROMPT = "a red circle to the left of two striped blue stars on a plain grey background"
MOST_OVER_PRODUCTS, LEAST_FROM_BATCH = 1.15, 8.0
"""What is aimed at: one image against the products, and sixteen prompts in a batch against one by one."""
GUIDANCE = 5.0


def model_and_processor(hidden: int, layers: int, side: int) -> tuple[Janus, JanusProcessor]:
    """Random weights; 16,384 codes, as released."""
    words = [*TOKEN_NAMES.values(), "<unk>", *PROMPT.split(), "User", "Assistant", ":"]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in TOKEN_NAMES.values()])
    text = JanusTextConfig(128, hidden, int(hidden * 2.6875), layers, hidden // 64, hidden // 64)
    # transformers makes as many tokens as its encoder sees
    encoder = EncoderConfig("siglip", 8 * side, 8, 64, 1, 4)
    vq = VQConfig(32, (1, 1, 2), (1, 1, 2), res_blocks=1, z_channels=32)
    config = JanusConfig(text, encoder, vq, JanusTokens(*range(6)), image_size=4 * side, roles=("User", "Assistant"))
    torch.manual_seed(0)
    return Janus(config).eval(), JanusProcessor(config, PreTrainedTokenizerFast(tokenizer_object=tokenizer))


def products(model: Janus, rows: int) -> Callable[[], object]:
    """Every weight matrix that a token passes, once for each token of an image."""
    layers: list[nn.Module] = [*model.language_model.model.layers, model.gen_head, model.gen_aligner]
    weights = [module.weight for layer in layers for module in layer.modules() if isinstance(module, nn.Linear)]
    inputs = {weight.shape[1]: torch.randn(rows, weight.shape[1]) for weight in weights}

    def run() -> None:
        for _ in range(model.config.drawn_tokens):
            for weight in weights:
                F.linear(inputs[weight.shape[1]], weight)

    return run


def of_transformers(model: Janus, processor: JanusProcessor) -> Callable[[], Tensor]:
    """The same model and prompt in transformers' own loop."""
    with tempfile.TemporaryDirectory() as folder:
        save_transformers(model, processor, folder, dtype=None)
        theirs = JanusForConditionalGeneration.from_pretrained(folder).eval()
    ids = torch.tensor([processor.drawing(PROMPT)])

    def run() -> Tensor:
        return theirs.generate(
            ids, attention_mask=torch.ones_like(ids), generation_mode="image", do_sample=False, guidance_scale=GUIDANCE
        )

    return run


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--side", type=int, default=8, help="tokens on a side of an image")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/janus_draw.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    console = Console()
    model, processor = model_and_processor(args.hidden, args.layers, args.side)
    prompts = [" ".join(PROMPT.split()[: 4 + i % 12]) for i in range(args.images)]

    def ours(texts: list[str], per_prompt: int = 1, compile: bool = False) -> Tensor:
        return draw_codes(
            model, processor, texts, per_prompt=per_prompt, guidance=GUIDANCE, temperature=0, compile=compile
        )

    theirs = of_transformers(model, processor)
    if not torch.equal(theirs().flatten()[-model.config.drawn_tokens :], ours([PROMPT]).flatten()):
        raise SystemExit("transformers draws other tokens: one of the two is wrong")
    together, alone = ours(prompts), torch.cat([ours([text]) for text in prompts])
    if not torch.equal(together, alone):
        raise SystemExit("the batch draws other tokens than its prompts one by one")
    if not torch.equal(ours([PROMPT], compile=True), ours([PROMPT])):
        raise SystemExit("the compiled graph draws other tokens")
    with console.status("drawing"):
        single = medians(
            take_turns(
                {
                    "products": products(model, 2),
                    "dualsight": lambda: ours([PROMPT]),
                    "compiled": lambda: ours([PROMPT], compile=True),
                    "transformers": theirs,
                },
                args.rounds,
            )
        )
        several = medians(
            take_turns(
                {
                    "one by one": lambda: [ours([text]) for text in prompts],
                    "batch": lambda: ours(prompts),
                    "same prompt": lambda: ours([PROMPT], args.images),
                },
                max(1, args.rounds // 2),
            )
        )
    result = {
        "parameters": sum(p.numel() for p in model.language_model.parameters()),
        "tokens": model.config.drawn_tokens,
        "images": args.images,
        "seconds": {**single, **several},
        "over_products": single["dualsight"] / single["products"],
        "compiled_over_products": single["compiled"] / single["products"],
        "over_transformers": single["dualsight"] / single["transformers"],
        "batch_gain": several["one by one"] / several["batch"],
    }
    table = Table(
        title=f"An image of {model.config.drawn_tokens} tokens, guidance {GUIDANCE:g}, CPU time of one thread"
    )
    for column in ("", "ms a token", "against the products"):
        table.add_column(column, justify="right")
    for name, value in single.items():
        table.add_row(name, f"{1000 * value / model.config.drawn_tokens:.1f}", f"{value / single['products']:.2f}")
    console.print(table)
    gain = result["batch_gain"]
    console.print(f"{args.images} prompts in a batch: {gain:.1f} times the throughput of one by one, the same tokens")
    save_result(args.out, result)
    print(f"written to {args.out}")
    best = min(result["over_products"], result["compiled_over_products"])
    if best > MOST_OVER_PRODUCTS or gain < LEAST_FROM_BATCH:
        console.print(
            f"short of the aim: {MOST_OVER_PRODUCTS} of the products, {LEAST_FROM_BATCH:g} times from a batch"
        )


if __name__ == "__main__":
    main()
