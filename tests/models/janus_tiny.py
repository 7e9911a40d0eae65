"""A Janus of a few thousand parameters with a word-level tokenizer, for tests."""

from dataclasses import replace

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from dualsight.checkpoints.janus import tokens_of
from dualsight.inference.flow import draw_by_flow
from dualsight.models.janus import Janus, JanusConfig
from dualsight.models.janus_config import TOKEN_NAMES, JanusTextConfig
from dualsight.models.janus_processor import JanusProcessor
from dualsight.pathways.encoders import EncoderConfig
from dualsight.pathways.vq import VQConfig

WORDS = (
    "a",
    "an",
    "the",
    "red",
    "green",
    "blue",
    "cat",
    "dog",
    "is",
    "what",
    "this",
    "there",
    "two",
    "on",
    "of",
    "and",
)
WORDS += ("yes", "no", "draw", ":", "<", ">", "|", "User", "Assistant")


def tokenizer(words=WORDS, roles=()) -> PreTrainedTokenizerFast:
    vocabulary = [*TOKEN_NAMES.values(), *roles, "<unk>", *words]
    made = Tokenizer(WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken(name, normalized=False) for name in [*TOKEN_NAMES.values(), *roles]])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", pad_token=TOKEN_NAMES["pad"], eos_token=TOKEN_NAMES["eos"]
    )


def config(**changes) -> JanusConfig:
    encoder = EncoderConfig("siglip", 32, 8, 32, 2, 4)
    vq = VQConfig(32, (1, 2), (1, 2), res_blocks=1, z_channels=16, codebook_size=24, codebook_dim=4)
    text = JanusTextConfig(64, 48, 96, 2, 4, 4, max_position_embeddings=256)
    return replace(JanusConfig(text, encoder, vq, tokens_of(tokenizer()), image_size=8), **changes)


def tiny(seed: int = 0, **changes) -> tuple[Janus, JanusProcessor]:
    torch.manual_seed(seed)
    model = Janus(config(**changes)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)  # zeros would hide mistakes
    return model, JanusProcessor(model.config, tokenizer())


def check_that_images_do_not_depend_on_their_batch(model, processor, prompts, steps, side):
    """Of a model that draws by flow: neither on the other prompts nor on the other seeds, but on its own."""
    together = draw_by_flow(model, processor, prompts, seeds=[5, 6, 5], steps=steps)
    for prompt, seed, image in zip(prompts, [5, 6, 5], together, strict=True):
        (alone,) = draw_by_flow(model, processor, [prompt], seeds=[seed], steps=steps)
        assert np.abs(alone.astype(int) - image.astype(int)).max() <= 1
    (other,) = draw_by_flow(model, processor, [prompts[0]], seeds=[6], steps=steps)
    assert np.abs(other.astype(int) - together[0].astype(int)).max() > 1
    assert together[0].shape == (side, side, 3)
