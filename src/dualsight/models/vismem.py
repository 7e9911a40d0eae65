"""VisMem (arXiv:2511.11007): a frozen VLM that calls up latent memory while it decodes.

::

    image, question -> VLM -> "... , <short> M M M M </short> ... . <long> M M M M M M M M </long> ..."

The model says ``<short>`` or ``<long>``; what it saw and what it said since the last memory become queries, a former
makes latents M of them (``memory/latent.py``), and these enter in the places of placeholder tokens, one per decoding
step, between the two tokens of a pair. Nothing of the VLM changes: hooks put latents in the place of embeddings, read
hidden states, and add two rows to the logits, all only while a `Stream` is read. Without one the model is the stock
one, bit for bit.

Decoding is stock ``generate()``. A whole sequence is read (`VisMem.score`) by the same code in longer steps, cut where
memories are formed, so that one pass over it gives the logits of its roll-out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from dualsight.memory.latent import ImageKeys, LongFormer, Place, QueryBuilder, Relook, ShortFormer, Slots, Tokens
from dualsight.memory.vlms import Anatomy, anatomy

Kind = Literal["short", "long"]
KINDS: tuple[Kind, ...] = ("short", "long")
Content = Literal["own", "wrong-image", "wrong-question", "noise", "constant", "zero", "swapped", "hidden", "pooled"]
CONTENTS = tuple(content for content in get_args(Content) if content != "own")
"""Words of `Mode.parse` for what is put in the place of memory."""
Latents = Callable[[list[int], Float[Tensor, "R N D"]], Float[Tensor, "R N D"]]
"""Rows and the latents that were formed for them -> what enters in their place."""


@dataclass(frozen=True)
class VisMemConfig:
    """Where the paper says two things or nothing, the choice stands here by name. Words of which there is one name what
    is done; others are refused. After which tokens memory is called stands beside them (``delimiters`` of `VisMem`),
    and when during training beside the training (``train.grpo``).

    Raises:
        ValueError: a word that is not there, or dropout.
    """

    queries: int = 8
    """K."""
    short: int = 8
    """N_s, latents of a short memory (the paper's text; its appendix has 4)."""
    long: int = 16
    """N_l (8 in the appendix)."""
    width: int = 512
    """Of the query builder, apart from the VLM's: the same at 7B would be 300 M parameters."""
    layers: int = 2
    """Of the query builder; not given in the paper."""
    heads: int = 8
    rank: int = 16
    """Of the LoRAs of both formers."""
    alpha: float = 32.0
    vision_targets: str = ""
    """Linear layers of the vision encoder that the short former adapts, by the end of their names; by default the
    family's: q and v, or the fused projections where there are no others."""
    text_targets: str = ""
    """The same of the decoder's last layers and the long former."""
    last_layers: float = 0.25
    """The share of the decoder's layers that the long former runs through: the paper's "final language model"."""
    seeded: bool = True
    """Slots start from the queries, too. Not as in the paper, which has M_init alone: what is asked then reaches the
    slots only through frozen layers that were not trained to carry it (44 % against 99.9 %; ``memory.latent.Slots``).
    False is the paper's."""
    relook: bool = True
    """A short memory is a pooled second look plus what the former makes, which begins at a tenth. Not as in the paper,
    which has the former alone: latents that are made from nothing must hit place and content of a visual token at
    once, these learn only which one to take (``memory.latent.Relook``). False is the paper's."""
    prompt_tail: int = 0
    """So many tokens of the prompt count as the beginning of the first segment; the paper has none."""
    anchored: bool = True
    """Memory is called after a delimiter only. In the middle of a clause it cuts what the frozen model was saying."""
    max_invocations: int = 8
    """Of one row."""
    noise: float = 1e-3
    """Spread of the new tokens around what they start from, in shares of its row's own."""
    rows: Literal["image", "delimiters"] = "image"
    """What the rows of the four tokens start from (`fit_rows`): what stands around images, so that latents arrive as an
    image does, and long ones in its size; or, as in the paper, delimiters, behind which a frozen model goes on as if
    nothing had been shown."""
    encoder: Literal["pre-norm"] = "pre-norm"
    """The query builder's; the paper's equations have another residual than either norm."""
    dropout: float = 0.0
    """None: an answer that is read again must have the likelihood it was said with. The paper has 0.1."""
    carried: Literal["linear"] = "linear"
    """How queries reach the widths of both formers."""
    projected: Literal["own", "repeated"] = "own"
    """Where the VLM's projector makes a token of several patches: each latent has as many slots of its own, or one slot
    that is repeated."""
    rotation: Literal["none"] = "none"
    """Of slots in the vision encoder: they stand nowhere in the image."""
    windows: Literal["apart"] = "apart"
    """In windowed blocks slots are a window by themselves; they see the image in the blocks that see all of it."""
    images: Literal["all"] = "all"
    """Which images of its row a short memory sees."""
    context: Literal["visual+segment"] = "visual+segment"
    """What the long former reads: the states of both that enter the first of its layers."""
    standing: Literal["call", "image"] = "call"
    """Where the segment and slots stand, for the long former: where memory was called, or moved to where the last
    visual token stands. From where it was called they look at the image over any distance, and learn each anew."""
    entrance: Literal["norm", "linear"] = "norm"
    """How what the long former makes enters the decoder: normalised, at a learnt scale that starts from the size of
    visual tokens (`VisMem.fit_whitening`; of words, where ``rows`` are delimiters); or with a linear map between the
    two, which starts as none."""
    deepstack: Literal["none"] = "none"
    """What latents get of features that a VLM adds inside its decoder (Qwen3-VL)."""
    calling: Literal["rows"] = "rows"
    """What learns when to call, the paper's "part" of the policy: rows and heads of the memory tokens."""

    def __post_init__(self):
        for name, hint in get_type_hints(type(self)).items():
            words, value = get_args(hint), getattr(self, name)
            if get_origin(hint) is Literal and value not in words:
                raise ValueError(f"a memory with {name}={value!r} is not implemented; there is {', '.join(words)}")
        if self.dropout:
            raise ValueError(f"a memory with dropout={self.dropout} is not implemented; there is 0.0")


@dataclass(frozen=True)
class Mode:
    """Who decides when memory is called, which kinds there are, and what is put in its place."""

    decision: Literal["off", "learned", "forced"] = "learned"
    share: float = 1.0
    """Of delimiters at which memory is forced."""
    kinds: tuple[Kind, ...] = KINDS
    content: Content = "own"

    @classmethod
    def parse(cls, text: str | Mode) -> Mode:
        """Words, or several of them joined by ``+``: ``always+short+noise``. A mode stays what it is.

        ==================  =======================================================================================
        ``off``             the stock model
        ``learned``         the model calls memory, by default
        ``always``          memory is called at every delimiter, ...
        ``random:p``        ... or at a share p of them
        ``short``, ``long`` one kind only
        ``wrong-image``     what is formed of the image of the next prompt in the batch
        ``wrong-question``  what is formed of what the next prompt's row said
        ``noise``           noise of the norm of what is formed
        ``constant``        the same for all, whatever was seen and said (``VisMem.constant``)
        ``zero``            nothing: zeros
        ``swapped``         what the other kind's former makes, cut or repeated to the length of this one
        ``hidden``          what is formed, but nothing that follows may attend to it
        ``pooled``          averages of neighbouring visual tokens
        ==================  =======================================================================================

        Raises:
            ValueError: another word, or a share that is none.
        """
        if isinstance(text, Mode):
            return text
        changes: dict[str, Any] = {}
        for word in text.split("+"):
            name, _, number = word.partition(":")
            if word in ("off", "learned"):
                changes["decision"] = word
            elif word == "always":
                changes["decision"] = "forced"
            elif name == "random" and _share(number) is not None:
                changes |= {"decision": "forced", "share": _share(number)}
            elif word in KINDS:
                changes["kinds"] = (word,)
            elif word in CONTENTS:
                changes["content"] = word
            else:
                raise ValueError(
                    f"memory={text!r}: {word!r} is none of off, learned, always, random:p (p in 0..1), short, long, "
                    + ", ".join(CONTENTS)
                )
        return cls(**changes)


def _share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


class Invocation(NamedTuple):
    """One memory of one row."""

    row: int
    column: int
    """Where its first token stands, counted with the prompt and its padding."""
    kind: Kind


class VisMem(nn.Module):
    """Memory around a frozen VLM of transformers.

    Args:
        vlm: any that ``memory/vlms.py`` knows. It is frozen here, and otherwise left as it is.
        delimiters: ids after which memory may be called; ``delimiters_of(tokenizer)``.

    Raises:
        ValueError: no delimiters, or a VLM of an unknown family.
    """

    def __init__(self, vlm: PreTrainedModel, delimiters: Iterable[int], config: VisMemConfig = VisMemConfig()):
        super().__init__()
        self.config, self.delimiters = config, tuple(sorted(set(delimiters)))
        if not self.delimiters:
            raise ValueError("memory needs delimiters after which it may be called; got none")
        vlm.requires_grad_(False).eval()
        self.parts: Anatomy = anatomy(vlm)
        parts, c = self.parts, config
        last = max(1, round(c.last_layers * len(parts.text.layers)))
        self.builder = QueryBuilder(parts.width, c.queries, c.width, c.layers, c.heads)
        repeats = parts.merge if c.projected == "repeated" else 1
        slots = Slots(c.queries, c.short * parts.merge // repeats, c.width, parts.vision_width, c.seeded)
        self.short = ShortFormer(parts, slots, c.rank, c.alpha, c.vision_targets or parts.vision_targets, repeats)
        self.relook = Relook(parts.width, c.queries, c.short, c.width) if c.relook else None
        slots = Slots(c.queries, c.long, c.width, parts.width, c.seeded)
        targets = c.text_targets or parts.text_targets
        self.long = LongFormer(parts, slots, last, c.rank, c.alpha, targets, c.entrance == "linear")
        self.tokens = MemoryTokens(parts, self.delimiters, c.noise)
        self.constant = nn.ParameterDict(
            {kind: nn.Parameter(torch.zeros(self.latents(kind), parts.width), False) for kind in KINDS}
        )
        self.to(vlm.dtype).to(vlm.device)

    @property
    def vlm(self) -> Any:
        return self.parts.vlm

    def latents(self, kind: Kind) -> int:
        """N of a kind."""
        return self.config.short if kind == "short" else self.config.long

    def written(self, kind: Kind) -> list[int]:
        """A memory as it stands in a sequence: its begin, its placeholders, its end."""
        begin = self.tokens.begin_of(kind)
        return [begin, *[self.tokens.placeholder] * self.latents(kind), begin + 1]

    # --- reading with memory --------------------------------------------------------------------------------------

    @contextmanager
    def reading(self, stream: Stream) -> Generator[None]:
        """Within, what the VLM reads is ``stream``."""
        parts, deep = self.parts, self.long.layers[0]
        with ExitStack() as hooks:
            for handle in (
                parts.tower.register_forward_pre_hook(stream.looks, with_kwargs=True),
                self.vlm.get_input_embeddings().register_forward_pre_hook(stream.takes),
                self.vlm.get_input_embeddings().register_forward_hook(stream.embeds),
                parts.text.register_forward_pre_hook(stream.hides, with_kwargs=True),
                parts.text.layers[0].register_forward_pre_hook(stream.begins, with_kwargs=True),
                deep.register_forward_pre_hook(stream.deepens, with_kwargs=True),
                parts.text.register_forward_hook(stream.ends),
                self.vlm.get_output_embeddings().register_forward_hook(self.tokens.speak),
            ):
                hooks.callback(handle.remove)
            yield

    @torch.no_grad()
    def generate(self, memory: str = "learned", seed: int = 0, **inputs: Any) -> Any:
        """Stock ``generate`` with memory; takes and returns what that does. Memories are a part of what is generated:
        ``max_new_tokens`` counts their latents, begins and ends, and none is called that does not fit.

        Args:
            memory: see `Mode.parse`.
            seed: of forced and of noisy memory.

        Raises:
            ValueError: an unknown mode, or a way to decode that memory cannot work with: beam search, assistants,
                prompt lookup, a cache of before or none; or see `Stream`.
        """
        return self.generate_with_trace(memory, seed, **inputs)[0]

    @torch.no_grad()
    def generate_with_trace(
        self, memory: str = "learned", seed: int = 0, latents: Latents | None = None, **inputs: Any
    ) -> tuple[Any, list[Invocation]]:
        """``generate``, and which row called which memory where. ``latents`` may change what enters, and keep it."""
        mode = Mode.parse(memory)
        if mode.decision == "off":
            return self.parts.generate(**inputs), []
        settings = inputs.get("generation_config") or self.vlm.generation_config
        chosen = {name: inputs.get(name, getattr(settings, name, None)) for name in _SETTINGS}
        refused = [name for name in _NEVER if chosen[name] is not None]
        refused += ["use_cache"] * (chosen["use_cache"] is False) + ["num_beams"] * ((chosen["num_beams"] or 1) > 1)
        if refused:
            raise ValueError(
                f"memory is formed while every token is read once, in order, from the prompt on: it cannot work with "
                f"{', '.join(refused)}; sample or decode greedily, with num_beams=1, use_cache=True and none of "
                f"{', '.join(_NEVER)}"
            )
        ids: Tensor = inputs["input_ids"]
        copies = chosen["num_return_sequences"] or 1
        there = inputs.get("attention_mask")
        there = torch.ones_like(ids) if there is None else there
        there = there.bool().repeat_interleave(copies, 0)
        stream = Stream(self, mode, ids, there, ids.shape[1], inputs, seed, latents)
        room = chosen["max_new_tokens"]
        end = ids.shape[1] + room if room else (chosen["max_length"] or None)
        grammar = Grammar(self, mode, ids.shape[1], end, seed)
        with self.reading(stream):
            processors = LogitsProcessorList([*inputs.pop("logits_processor", []), grammar])
            return self.parts.generate(**inputs, logits_processor=processors), stream.invocations

    def score(
        self,
        input_ids: Int[Tensor, "B L"],
        attention_mask: Int[Tensor, "B L"],
        prompt: int,
        content: str | Mode = "learned",
        seed: int = 0,
        latents: Latents | None = None,
        looks: list[Float[Tensor, "R N V"]] | None = None,
        learn: int = 0,
        **vision: Any,
    ) -> Float[Tensor, "B L W"]:
        """Logits of whole sequences with their memories, as in the roll-out that said them; differentiable in the
        memory. They are cut after every token that calls one, and each part is read once.

        Args:
            prompt: columns that were given, images among them. Rows may be padded on the left.
            content: a mode that says what the latents are; when memory is called stands in the ids.
            latents: may change what enters, such as to what entered in a roll-out.
            looks: is given where the latents look, call by call: a short memory's second look, or slots.
            learn: a column behind the prompt; what stands before it, memories among it, is read without gradients.
            vision: pixel values and what comes with them, for the stock model.
        """
        mode, there = Mode.parse(content), attention_mask.bool()
        stream = Stream(self, mode, input_ids, there, prompt, vision, seed, latents, looks)
        return torch.cat([*self._read(stream, input_ids, attention_mask, learn)], 1)

    def score_answers(
        self,
        input_ids: Int[Tensor, "B L"],
        attention_mask: Int[Tensor, "B L"],
        prompt: int,
        copies: int = 1,
        latents: Latents | None = None,
        **vision: Any,
    ) -> Float[Tensor, "B T W"]:
        """Logits that the tokens behind the prompt follow from: ``score(...)[:, prompt - 1 : -1]``, without those of
        the prompt.

        Args:
            copies: rows that answer the same prompt, one behind the other: it is read once for them, with its images,
                of which ``vision`` has each once.

        Raises:
            ValueError: they do not.
        """
        prompts = input_ids[::copies, :prompt].repeat_interleave(copies, 0)
        if len(prompts) != len(input_ids) or not torch.equal(prompts, input_ids[:, :prompt]):
            raise ValueError(
                f"expected {copies} rows to each prompt, one behind the other, which these {len(input_ids)} are not"
            )
        stream = Stream(self, Mode(), input_ids[::copies], attention_mask.bool(), prompt, vision, latents=latents)
        return torch.cat([*self._read(stream, input_ids, attention_mask, prompt_logits=1)], 1)[:, :-1]

    def _read(
        self,
        stream: Stream,
        input_ids: Int[Tensor, "B L"],
        attention_mask: Int[Tensor, "B L"],
        learn: int = 0,
        prompt_logits: int = 0,
    ) -> Generator[Float[Tensor, "B l W"]]:
        """Logits, piece by piece; ``prompt_logits`` is how many of the first, from its end on, 0 for all."""
        copies = stream.copies
        there = attention_mask.unflatten(0, (-1, copies)).amax(1).bool()
        positions = self.parts.positions(stream.ids, there, stream.inputs).repeat_interleave(copies, -2)
        cache = DynamicCache(config=self.vlm.config.get_text_config())
        with self.reading(stream):
            for start, end in pairwise([0, *self._cuts(input_ids, stream.prompt, learn)]):
                rows = slice(None, None, 1 if start else copies)
                with torch.set_grad_enabled(torch.is_grad_enabled() and start >= learn):
                    outputs = self.vlm(
                        input_ids=input_ids[rows, start:end],
                        attention_mask=attention_mask[rows, :end],
                        position_ids=positions[..., rows, start:end],
                        past_key_values=cache,
                        use_cache=True,
                        **({} if start else {**stream.inputs, "logits_to_keep": prompt_logits}),
                    )
                logits = outputs.logits
                if start == 0 and copies > 1:
                    cache.batch_repeat_interleave(copies)
                    logits = logits.repeat_interleave(copies, 0)
                yield logits

    def _cuts(self, input_ids: Int[Tensor, "B L"], prompt: int, learn: int) -> list[int]:
        """Where pieces of sequences end: the prompt, before ``learn``, after every call, the last column."""
        calls, length = self.tokens.calls(input_ids[:, prompt:]).any(0), input_ids.shape[1]
        cuts = [max(prompt, learn), prompt, *(prompt + 1 + calls.nonzero()[:, 0]).tolist(), length]
        return sorted({min(cut, length) for cut in cuts})

    @torch.no_grad()
    def fit_whitening(self, input_ids: Int[Tensor, "B L"], attention_mask: Int[Tensor, "B L"], **vision: Any) -> None:
        """Learn from sequences without labels how the query builder's inputs are spread, once, before training. What a
        long memory makes starts from the size of visual tokens, too, where ``config.rows`` has it arrive as an image
        does: beside words these can be large (56 times, in a policy of 36 cells), and what is as small as a word is not
        read among them.
        """
        stream = Stream(self, Mode(), input_ids, attention_mask.bool(), input_ids.shape[1], vision)
        with self.reading(stream):
            self.parts.core(**self.whole(input_ids, attention_mask, vision))
        seen, said = stream.states()
        self.builder.whiten_v.fit(seen)
        self.builder.whiten_h.fit(said)
        if self.config.rows == "image" and len(seen):
            self.long.scale.copy_(seen.float().square().mean().sqrt())

    @torch.no_grad()
    def fit_rows(self, input_ids: Int[Tensor, "B L"]) -> None:
        """Have the rows of begins and ends start from what mostly stands before and behind images in these sequences,
        once, before training. Where there are no images, or ``config.rows`` says so, they stay like delimiters."""
        shows = self.parts.shows(input_ids)
        before = input_ids[:, :-1][shows[:, 1:] & ~shows[:, :-1]]
        behind = input_ids[:, 1:][shows[:, :-1] & ~shows[:, 1:]]
        if self.config.rows != "image" or not len(before) or not len(behind):
            return
        rows, table = self.tokens.rows, self.vlm.get_input_embeddings().weight
        marks = table[[int(before.mode().values), int(behind.mode().values)] * len(KINDS)].to(rows)
        like = table[list(self.delimiters)].float().mean(0).to(rows)
        rows.add_(marks - like)

    @torch.no_grad()
    def fit_calls(
        self, input_ids: Int[Tensor, "B L"], attention_mask: Int[Tensor, "B L"], share: float = 0.5, **vision: Any
    ) -> None:
        """Set what says <short> and <long> such that, behind delimiters of these sequences, memory is called with
        probability ``share``, either kind alike: least squares on logits, ``w h = logsumexp(others) + log-odds``.

        Rewards can only teach what is tried now and then, and from a delimiter's row memory is called next to never:
        a model is all but certain of what follows a delimiter, and it is no other delimiter.
        """
        at = torch.isin(input_ids, torch.tensor(self.delimiters, device=input_ids.device)) & attention_mask.bool()
        read = self.parts.core(**self.whole(input_ids, attention_mask, vision)).last_hidden_state[at]
        odds = math.log(share / (1 - share)) - math.log(len(KINDS))
        wanted = self.vlm.get_output_embeddings()(read).double().logsumexp(-1) + odds
        hidden = read.double()
        square = hidden.T @ hidden
        ridge = 1e-4 * square.trace() / len(square) * torch.eye(len(square)).to(square)
        self.tokens.heads.copy_(torch.linalg.solve(square + ridge, hidden.T @ wanted).expand(len(KINDS), -1))

    def whole(self, input_ids: Tensor, attention_mask: Tensor, vision: Mapping[str, Any]) -> dict[str, Any]:
        """Whole sequences as the stock model takes them, rows padded on either side."""
        positions = self.parts.positions(input_ids, attention_mask.bool(), vision)
        return {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": positions, **vision}

    def spoken(self, said: Int[Tensor, "R T"], ends: Sequence[int] | None = None) -> list[list[int]]:
        """What answers say: up to the token that ends them (one of ``ends``; the VLM's own by default), without their
        memories."""
        ours = torch.tensor([*self.tokens.begin, *self.tokens.set], device=said.device)
        last = torch.tensor(ends_of(self.vlm) if ends is None else ends, dtype=said.dtype, device=said.device)
        there = (torch.isin(said, last).cumsum(1) == 0) & ~torch.isin(said, ours)
        return [row[kept].tolist() for row, kept in zip(said, there, strict=True)]

    def chosen(self, input_ids: Int[Tensor, "B L"]) -> Bool[Tensor, "B L"]:
        """Which tokens somebody chose: not the placeholders and ends, which the grammar sets."""
        return ~torch.isin(input_ids, torch.tensor(self.tokens.set, device=input_ids.device))


_NEVER = (
    "past_key_values",
    "assistant_model",
    "assistant_early_exit",
    "prompt_lookup_num_tokens",
    "prefill_chunk_size",
)
"""Settings of ``generate`` with which tokens are not read, or read twice or in pieces."""
_SETTINGS = ("num_beams", "num_return_sequences", "max_new_tokens", "max_length", "use_cache", *_NEVER)


class MemoryTokens(nn.Module):
    """The four tokens and the placeholder, behind the VLM's own vocabulary: rows beside its tables, which stay.

    Ids, from the size of the embedding on: ``<short>``, ``</short>``, ``<long>``, ``</long>``, placeholder.
    """

    def __init__(self, parts: Anatomy, delimiters: tuple[int, ...], noise: float):
        super().__init__()
        first = parts.vocabulary
        self.first = first
        self.begin: tuple[int, int] = (first, first + 2)
        self.end: tuple[int, int] = (first + 1, first + 3)
        self.placeholder = first + 4
        self.set = (*self.end, self.placeholder)
        like = list(delimiters)
        table, head = (
            module.weight.detach()[like].float().mean(0)
            for module in (parts.vlm.get_input_embeddings(), parts.vlm.get_output_embeddings())
        )
        self.rows = nn.Parameter(table + noise * table.std() * torch.randn(4, len(table), device=table.device))
        self.heads = nn.Parameter(head + noise * head.std() * torch.randn(2, len(head), device=head.device))
        """What says <short> and <long>."""

    def embed(self, ids: Int[Tensor, "B L"], known: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """The rows of our tokens in the places of theirs; placeholders stay for latents."""
        index = (ids - self.first).clamp(0, 3)
        ours = (ids >= self.first) & (ids < self.placeholder)
        return torch.where(ours[..., None], self.rows[index].to(known.dtype), known)

    def speak(self, head: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        """Logits over the longer vocabulary: ends and placeholders cannot be said."""
        begins = F.linear(inputs[0], self.heads.to(inputs[0].dtype)).to(logits.dtype)
        never = torch.full_like(begins[..., :1], torch.finfo(logits.dtype).min)
        return torch.cat([logits, begins[..., :1], never, begins[..., 1:], never, never], -1)

    def calls(self, ids: Int[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """Which tokens call a memory."""
        return torch.isin(ids, torch.tensor(self.begin, device=ids.device))

    def kind(self, token: int) -> Kind:
        return KINDS[self.begin.index(token)]

    def begin_of(self, kind: Kind) -> int:
        return self.begin[KINDS.index(kind)]


def ends_of(vlm: Any) -> list[int]:
    """Tokens that end an answer."""
    ends = vlm.generation_config.eos_token_id
    ends = vlm.config.get_text_config().eos_token_id if ends is None else ends
    return [] if ends is None else list(ends) if isinstance(ends, Sequence) else [ends]


def delimiters_of(tokenizer: PreTrainedTokenizerBase, marks: str = ",.;:\n") -> list[int]:
    """Ids of tokens that end in one of ``marks`` and hold nothing else but spaces."""
    return [
        token
        for token in range(len(tokenizer))
        if (text := str(tokenizer.decode([token])).strip(" ")) and set(text) <= set(marks)
    ]


def in_front(chosen: Bool[Tensor, "B L"]) -> tuple[Int[Tensor, "B V"], Bool[Tensor, "B V"]]:
    """The columns that are chosen in each row, in order, padded behind to as many as a row has (at least one), and
    which of these are there."""
    most = max(1, int(chosen.sum(1).max()))
    order = chosen.long().sort(dim=1, descending=True, stable=True).indices[:, :most]
    return order, chosen.gather(1, order)


class Stream:
    """A batch of sequences on its way through the VLM: what was seen, said and remembered so far.

    Its methods are hooks; they are called with longer or shorter pieces of the sequences, and keep the count.
    """

    def __init__(
        self,
        memory: VisMem,
        mode: Mode,
        ids: Int[Tensor, "B L"],
        there: Bool[Tensor, "R L"],
        prompt: int,
        inputs: Mapping[str, Any],
        seed: int = 0,
        latents: Latents | None = None,
        looks: list[Float[Tensor, "R N V"]] | None = None,
    ):
        """
        Args:
            ids: what is given; sequences may go on behind it.
            there: which of it is there, for each sequence: as many are made of each row of ``ids``, one behind the
                other. What they are given may be read once for all of them.
            prompt: columns before the first segment.
            inputs: what describes the images.
            latents: see `Latents`.
            looks: is given where latents look.

        Raises:
            ValueError: there are videos, or no next prompt, or rows without an image, where the mode needs them.
        """
        self.memory, self.mode, self.inputs = memory, mode, inputs
        self.latents, self._looks = latents, looks
        self.ids, self.there, self.prompt = ids, there, prompt
        rows = len(there)
        self.copies = rows // len(ids)
        self.seeing = memory.parts.shows(ids).any(1).repeat_interleave(self.copies).tolist()
        """Which sequences have visual tokens."""
        self.columns = 0
        self.segment = [max(0, prompt - memory.config.prompt_tail)] * rows
        """Where each row's segment began."""
        self.waiting: list[Tensor | None] = [None] * rows
        """Latents that are yet to enter."""
        self.invocations: list[Invocation] = []
        self._rng = torch.Generator().manual_seed(seed)
        self._pieces: list[tuple[Tensor, ...]] = []
        self._placeholders: list[Tensor] = []
        self._check(mode.content)
        self._call: tuple[tuple, dict] = ((), {})

    def _check(self, content: str) -> None:
        """Before anything is read: can its images be looked at, and has it what is put in the place of memory?"""
        if self.inputs.get("pixel_values_videos") is not None:
            raise ValueError("memory looks at images only, not at pixel_values_videos: give frames as images")
        if content in ("wrong-image", "wrong-question") and len(self.ids) < 2:
            raise ValueError(f"memory={content!r} takes it from the next prompt of the batch: read at least two rows")
        blind = [row for row, sees in enumerate(self.seeing) if not sees]
        if blind and content in ("wrong-image", "swapped", "pooled"):
            raise ValueError(f"memory={content!r} needs an image in every row; there is none in {blind}")

    # --- hooks, in the order of a pass ----------------------------------------------------------------------------

    def looks(self, tower: nn.Module, arguments: tuple, keywords: dict) -> None:
        """The vision encoder runs: how, in case that the short former wants to look again."""
        self._call = arguments, keywords

    def takes(self, table: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """Ids enter: ours are none of the table's."""
        self._piece_ids = inputs[0]
        return (inputs[0].masked_fill(inputs[0] >= self.memory.tokens.first, 0),)

    def embeds(self, table: nn.Module, inputs: tuple[Tensor], known: Tensor) -> Tensor:
        """Embeddings leave: latents take the places of placeholders."""
        ids, tokens = self._piece_ids, self.memory.tokens
        if not (ids >= tokens.first).any():
            return known
        embedded = tokens.embed(ids, known)
        places = ids == tokens.placeholder
        if not places.any():
            return embedded
        taken = []
        for row, number in enumerate(places.sum(1).tolist()):
            if number == 0:
                continue
            waiting = self.waiting[row]
            if waiting is None or len(waiting) < number:
                raise ValueError(f"row {row} has placeholders, but no token before them calls a memory")
            taken.append(waiting[:number])
            self.waiting[row] = waiting[number:]
        return embedded.masked_scatter(places[..., None], torch.cat(taken).to(known.dtype))

    def hides(self, text: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict] | None:
        """The decoder is called: hidden latents keep their places, but are no more there than padding is."""
        self._placeholders.append(self._of_all(self._piece_ids == self.memory.tokens.placeholder))
        if self.mode.content != "hidden":
            return None
        hidden, mask = torch.cat(self._placeholders, 1), keywords["attention_mask"]
        if not isinstance(mask, Tensor) or mask.shape != hidden.shape:
            raise ValueError(
                "memory='hidden' needs one mask of all that was read, as growing caches have: leave "
                "cache_implementation at its default"
            )
        return arguments, keywords | {"attention_mask": mask.masked_fill(hidden, 0)}

    def begins(self, layer: nn.Module, arguments: tuple, keywords: dict) -> None:
        """The decoder begins, with images in their places."""
        self._entering = keywords["hidden_states"] if "hidden_states" in keywords else arguments[0]

    def deepens(self, layer: nn.Module, arguments: tuple, keywords: dict) -> None:
        """The first of the layers that the long former borrows begins."""
        states = keywords["hidden_states"] if "hidden_states" in keywords else arguments[0]
        cos, sin = (rope.expand(len(states), -1, -1) for rope in keywords["position_embeddings"])
        self._deep = states, cos, sin

    def ends(self, text: nn.Module, inputs: tuple, outputs: Any) -> None:
        """The decoder ends: remember what was said, and form what was called."""
        ids, hidden, (deep, cos, sin) = self._piece_ids, outputs[0], self._deep
        if not self._pieces:
            self._keep_visual(deep, cos, sin)
        self.columns += ids.shape[1]
        self._pieces.append((self._of_all(hidden), self._of_all(deep), self._of_all(cos), self._of_all(sin)))
        last = ids[:, -1].tolist() if self.columns > self.prompt else []
        for kind, begin in zip(KINDS, self.memory.tokens.begin, strict=True):
            if rows := [row for row, token in enumerate(last) if token == begin]:
                self._remember(kind, rows)

    def states(self) -> tuple[Float[Tensor, "n D"], Float[Tensor, "m D"]]:
        """All that the query builder could read so far: visual tokens, and hidden states of the rest."""
        hidden = torch.cat([piece[0] for piece in self._pieces], 1)
        return self._tokens[self._visual.there], hidden[self.there & ~self.memory.parts.shows(self.ids)]

    # --- forming --------------------------------------------------------------------------------------------------

    def _of_all(self, x: Tensor) -> Tensor:
        """For each sequence what was read once for all of a prompt."""
        return x if len(x) == len(self.there) else x.repeat_interleave(self.copies, 0)

    def _keep_visual(self, deep: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Visual tokens of each prompt, as they enter the decoder and as they enter its last layers, padded behind.
        Where none has any there is one that is not there: attention takes no empty sequences."""
        order, there = in_front(self.memory.parts.shows(self.ids[:, : self._piece_ids.shape[1]]))

        def picked(x: Tensor) -> Tensor:
            return x[:: len(x) // len(order)].gather(1, order[..., None].expand(-1, -1, x.shape[-1]))

        self._tokens = picked(self._entering)
        self._visual = Place(picked(deep), picked(cos), picked(sin), there)

    def _said(self, rows: list[int]) -> tuple[Tensor, Place]:
        """Hidden states of the segments of ``rows``, padded in front, and the same at the long former's entrance."""
        starts = [min(self.segment[row], self.columns - 1) for row in rows]
        first, begin, pieces = min(starts), self.columns, []
        for piece in reversed(self._pieces):  # what lies before the segments, the prompt for one, need not be joined
            pieces.insert(0, piece)
            begin -= piece[0].shape[1]
            if begin <= first:
                break
        joined = [torch.cat(piece, 1) for piece in zip(*pieces, strict=True)]
        hidden, deep, cos, sin = (tensor[rows, first - begin :] for tensor in joined)
        columns = torch.arange(first, self.columns, device=hidden.device)
        there = columns >= torch.tensor(starts, device=hidden.device)[:, None]
        given = F.pad(self.there, (0, max(0, self.columns - self.there.shape[1])), value=True)
        return hidden, Place(deep, cos, sin, there & given[rows, first : self.columns])

    def _remember(self, kind: Kind, rows: list[int]) -> None:
        latents = self._content(kind, rows)
        if self.latents is not None:
            latents = self.latents(rows, latents)
        for row, latent in zip(rows, latents, strict=True):
            self.waiting[row] = latent
            self.invocations.append(Invocation(row, self.columns - 1, kind))
            self.segment[row] = self.columns + len(latent) + 1  # behind the token that ends the pair

    def _content(self, kind: Kind, rows: list[int]) -> Float[Tensor, "R N D"]:
        """What enters: what is formed, or what the mode puts in its place."""
        memory, content = self.memory, self.mode.content
        if content == "constant":
            return memory.constant[kind].expand(len(rows), -1, -1)
        if content == "zero":
            return self._tokens.new_zeros(len(rows), memory.latents(kind), memory.parts.width)
        if content == "pooled":
            seen = (self._tokens[row, self._visual.there[row]] for row in self._prompts(rows))
            return torch.stack([F.adaptive_avg_pool1d(tokens.T, memory.latents(kind)).T for tokens in seen])
        if content == "swapped":
            other, number = self._form("long" if kind == "short" else "short", rows), memory.latents(kind)
            return other.repeat(1, -(-number // other.shape[1]), 1)[:, :number]
        latents = self._form(kind, rows)
        if content == "noise":
            noise = torch.randn(latents.shape, generator=self._rng).to(latents)
            return noise * latents.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
        return latents

    def _form(self, kind: Kind, rows: list[int]) -> Float[Tensor, "R N D"]:
        memory, visual = self.memory, self._visual
        looked, asked = (self._partners(rows, content) for content in ("wrong-image", "wrong-question"))
        if kind == "short" and (blind := [row for row in looked if not self.seeing[row]]):
            raise ValueError(f"a short memory is called in rows without an image to look at: {blind}; call a long one")
        looked, (hidden, segment) = self._prompts(looked), self._said(asked)
        there = visual.there[looked]
        queries = memory.builder(self._read[looked], there, hidden, segment.there)
        if kind == "short":
            images = [self._images[prompt] for prompt in looked]
            if memory.relook is None:
                return memory.short(queries, self._image_keys, images, self._looks)
            latents = memory.short(queries, self._image_keys, images)
            weights = memory.relook(queries, self._white[looked], there)
            if self._looks is not None:
                self._looks.append(weights)
            return weights @ self._tokens[looked] + memory.relook.share * latents
        if memory.config.standing == "image":
            segment = segment.moved_to(visual.last().rows(looked))
        seen = [(keys[looked], values[looked]) for keys, values in self._deep_keys]
        return memory.long(queries, seen, there, segment, self._looks)

    def _prompts(self, rows: list[int]) -> list[int]:
        return [row // self.copies for row in rows]

    def _partners(self, rows: list[int], content: str) -> list[int]:
        """Whose image, or whose question, each row gets: those of the next prompt. The next row may be a copy."""
        return [(row + self.copies) % len(self.there) for row in rows] if self.mode.content == content else rows

    # What all memories of the images share, made when the first one is called.

    @cached_property
    def _white(self) -> Tokens:
        return self.memory.builder.whiten_v(self._tokens)

    @cached_property
    def _read(self) -> Float[Tensor, "B V E"]:
        """Visual tokens as the query builder reads them."""
        return self.memory.builder.see(self._white, self._visual.there)

    @cached_property
    def _deep_keys(self) -> list[tuple[Tensor, Tensor]]:
        return self.memory.long.look(self._visual)

    @cached_property
    def _image_keys(self) -> ImageKeys:
        arguments, keywords = self._call
        if not arguments and not keywords:
            raise ValueError("a short memory was called, but no image was given to look at")
        tower = self.memory.parts.tower
        return self.memory.short.look(lambda: tower(*arguments, **keywords))

    @cached_property
    def _images(self) -> list[list[int]]:
        """Which images of the encoder's batch each prompt shows."""
        counts = self.memory.parts.images_of_rows(self.ids, self.inputs)
        ends = torch.tensor(counts).cumsum(0).tolist()
        return [list(range(end - count, end)) for count, end in zip(counts, ends, strict=True)]


class Grammar(LogitsProcessor):
    """Well-formed memories: a begin, its latents, its end, and where one may begin. It reads all of it off the ids."""

    def __init__(self, memory: VisMem, mode: Mode, prompt: int, end: int | None, seed: int):
        self.memory, self.mode, self.prompt, self.end, self.seed = memory, mode, prompt, end, seed
        self.never = [*memory.tokens.set, *memory.parts.vision_ids]

    def __call__(self, input_ids: Int[Tensor, "B L"], scores: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        scores = scores.clone()
        sees = self.memory.parts.shows(input_ids[:, : self.prompt]).any(1).tolist()
        for row, ids in enumerate(input_ids[:, self.prompt :].tolist()):
            allowed = self._allowed(row, ids, int(input_ids[row, -1]), sees[row])
            if isinstance(allowed, int):
                scores[row] = torch.finfo(scores.dtype).min
                scores[row, allowed] = 0.0
            else:
                closed = [token for token in self.memory.tokens.begin if token not in allowed]
                scores[row, self.never + closed] = torch.finfo(scores.dtype).min
        return scores

    def _allowed(self, row: int, ids: list[int], last: int, sees: bool) -> int | tuple[int, ...]:
        """The one token that must follow, or the begins that may."""
        tokens, memory = self.memory.tokens, self.memory
        behind = next((n for n, token in enumerate(reversed(ids)) if token != tokens.placeholder), len(ids))
        if behind < len(ids) and ids[-1 - behind] in tokens.begin:
            begin = ids[-1 - behind]
            return tokens.placeholder if behind < memory.latents(tokens.kind(begin)) else begin + 1
        kinds = [kind for kind in self.mode.kinds if sees or kind == "long"]  # without an image nothing to look at
        begins = tuple(token for token in tokens.begin if tokens.kind(token) in kinds)
        begins = tuple(token for token in begins if self._fits(token, len(ids)))
        called = sum(token in tokens.begin for token in ids)
        at_delimiter = last in memory.delimiters
        if called >= memory.config.max_invocations or not begins or (memory.config.anchored and not at_delimiter):
            return ()
        if self.mode.decision == "learned":
            return begins
        dice = torch.Generator().manual_seed(hash((self.seed, row, len(ids))) % 2**63)
        forced, which = torch.rand(2, generator=dice).tolist()
        return begins[int(which * len(begins))] if at_delimiter and forced < self.mode.share else ()

    def _fits(self, begin: int, length: int) -> bool:
        """Is there room for all of it?"""
        needed = len(self.memory.written(self.memory.tokens.kind(begin)))
        return self.end is None or self.prompt + length + needed <= self.end
