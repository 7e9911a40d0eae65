"""Answering with Janus: conversations with any number of images and turns, several in one batch, text as it comes.

Rows of a batch are padded on the left, so that all of them end where the answers begin; nobody sees the padding, and
each row's answer is the one it would get alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dualsight.models.janus_core import JanusCore, Reading
from dualsight.models.janus_processor import JanusProcessor
from dualsight.types import Conversation


def answer(
    model: JanusCore,
    processor: JanusProcessor,
    conversations: Sequence[Conversation],
    max_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[str]:
    """The assistant's next turn in each conversation.

    Args:
        max_tokens: an answer is cut off here.
        temperature: 0 takes the best token at every step.
        top_p: sample from the best tokens that together have this probability.
        seed: of sampling.

    Raises:
        ValueError: a conversation does not end with the user's turn, or is too long for the model; see also
            ``JanusProcessor.conversation``.
    """
    return [
        processor.decode(row)
        for row in torch.stack(
            list(_tokens(model, processor, conversations, max_tokens, temperature, top_p, seed)), dim=1
        ).tolist()
    ]


def stream(
    model: JanusCore,
    processor: JanusProcessor,
    conversation: Conversation,
    max_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[str]:
    """The assistant's next turn, piece by piece; the pieces joined are what :func:`answer` returns."""
    ids: list[int] = []
    said = ""
    for tokens in _tokens(model, processor, [conversation], max_tokens, temperature, top_p, seed):
        ids.append(int(tokens[0]))
        text = processor.decode(ids)
        # A character of several tokens is not shown before it is whole.
        if text.startswith(said) and not text.endswith("\ufffd"):
            yield text[len(said) :]
            said = text


@torch.inference_mode()
def log_likelihood(model: JanusCore, processor: JanusProcessor, conversation: Conversation) -> tuple[float, bool]:
    """How likely the last turn, the assistant's, is: the logarithm of its probability with the end of it, and whether
    it is what the model itself would say.

    Raises:
        ValueError: the last turn is not the assistant's; see also ``JanusProcessor.conversation``.
    """
    if not conversation.turns or conversation.turns[-1].role != "assistant":
        raise ValueError("the last turn is not the assistant's: there is no answer whose probability could be told")
    ids, said = processor.conversation(conversation)
    last = len(said) - 1 - said[::-1].index(False)  # the last token before the answer
    row = torch.tensor([ids], device=model.device)
    images = [processor.picture(image) for image in conversation.images]
    embeddings = model.embed(row, torch.stack(images) if images else None)
    hidden = model.read(embeddings, model.begin(1, len(ids)))[0, last:-1]
    scores, answer = model.language_model.lm_head(hidden).float(), row[0, last + 1 :]
    nats = scores.log_softmax(-1).gather(-1, answer[:, None]).sum()
    return float(nats), bool((scores.argmax(-1) == answer).all())


@torch.inference_mode()
def next_scores(
    model: JanusCore, processor: JanusProcessor, conversations: Sequence[Conversation]
) -> Float[Tensor, "B V"]:
    """What comes next in each conversation: the scores of every token.

    Raises:
        ValueError: there is no conversation, or one is too long for the model.
    """
    if not conversations:
        raise ValueError("no conversation: expected at least one")
    return model.language_model.lm_head(_read(model, processor, conversations, 1)[0]).float()


def _read(
    model: JanusCore, processor: JanusProcessor, conversations: Sequence[Conversation], max_tokens: int
) -> tuple[Float[Tensor, "B D"], Reading]:
    """All conversations, read in one batch: the hidden states that their answers begin with, and their memory."""
    prompts = processor.prompts(conversations)
    room = prompts.ids.shape[1] + max_tokens
    if room > model.config.text.max_position_embeddings:
        raise ValueError(
            f"the longest conversation has {prompts.ids.shape[1]} tokens; with {max_tokens} for the answer that is "
            f"more than the {model.config.text.max_position_embeddings} of this model: shorten it, or ask for less"
        )
    reading = model.begin(len(conversations), room)
    ids, valid = prompts.ids.to(model.device), prompts.valid.to(model.device)
    return model.read(model.embed(ids, prompts.images), reading, valid)[:, -1], reading


@torch.inference_mode()
def _tokens(
    model: JanusCore,
    processor: JanusProcessor,
    conversations: Sequence[Conversation],
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> Iterator[Int[Tensor, " B"]]:
    """The next token of every answer, until all have ended; one that has ended goes on with its end."""
    _check(conversations, max_tokens, temperature, top_p)
    dice = [torch.Generator().manual_seed(seed) for _ in conversations]  # one each: a row does not depend on the others
    hidden, reading = _read(model, processor, conversations, max_tokens)
    ended = torch.zeros(len(hidden), dtype=torch.bool, device=model.device)
    for _ in range(max_tokens):
        tokens = _choose(model.language_model.lm_head(hidden).float(), temperature, top_p, dice)
        tokens = tokens.masked_fill(ended, model.config.tokens.eos)
        yield tokens
        ended = ended | (tokens == model.config.tokens.eos)
        if ended.all():
            return
        hidden = model.read(model.language_model.get_input_embeddings()(tokens[:, None]), reading)[:, -1]


def _choose(
    scores: Float[Tensor, "B V"], temperature: float, top_p: float, dice: Sequence[torch.Generator]
) -> Int[Tensor, " B"]:
    if temperature == 0:
        return scores.argmax(-1)
    best, order = (scores / temperature).softmax(-1).sort(descending=True)
    best = best.masked_fill(best.cumsum(-1) - best >= top_p, 0)  # the first token is always kept
    chosen = [torch.multinomial(row, 1, generator=own) for row, own in zip(best.cpu(), dice, strict=True)]
    return order.gather(-1, torch.stack(chosen).to(order.device))[:, 0]


def _check(conversations: Sequence[Conversation], max_tokens: int, temperature: float, top_p: float) -> None:
    if not conversations:
        raise ValueError("no conversation: expected at least one")
    if any(len(conversation.turns) % 2 == 0 for conversation in conversations):
        raise ValueError("a conversation does not end with the user's turn: there is nothing to answer")
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; expected at least 1")
    if temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(f"temperature {temperature:g}, top_p {top_p:g}; expected at least 0, and above 0 up to 1")
