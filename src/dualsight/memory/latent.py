"""Latent memory: what is formed of an image and of what was said, and read as a few tokens (VisMem, arXiv:2511.11007).

=================  ==================================================================================================
``QueryBuilder``   what is wanted: K queries, read off the visual tokens and the hidden states of the current segment
``ShortFormer``    perceptual memory: slots that go through the vision encoder with the queries and look at the image
``LongFormer``     semantic memory: slots that go through the decoder's last layers and look at what was understood
=================  ==================================================================================================

Both formers borrow the frozen VLM's own layers, through LoRAs that count only while they run (`Adapters.active`).
What they look at never looks back at them, so the keys and values of an image are computed once and serve every
invocation: a former costs K + N tokens, not the image again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dualsight.memory.vlms import Anatomy

Tokens = Float[Tensor, "R T C"]


class Adapters(nn.Module):
    """LoRAs (arXiv:2106.09685) beside frozen linear layers: ``W x + alpha / rank * B A x``, only while ``active``.

    The layers themselves are not touched, so that the model they belong to is the stock one whenever it runs by itself.
    """

    def __init__(self, layers: dict[str, nn.Linear], rank: int, alpha: float):
        super().__init__()
        if not layers:
            raise ValueError("no linear layer to adapt: the pattern of its targets matches none")
        self.layers = list(layers.values())  # in a list: they are the VLM's, not ours
        self.scale = alpha / rank
        self.a = nn.ParameterList(torch.empty(rank, layer.in_features) for layer in self.layers)
        self.b = nn.ParameterList(torch.zeros(layer.out_features, rank) for layer in self.layers)
        for a in self.a:
            nn.init.kaiming_uniform_(a, math.sqrt(5))

    @contextmanager
    def active(self) -> Generator[None]:
        """Within, the layers answer with their LoRAs."""
        handles = [
            layer.register_forward_hook(self._added(a, b))
            for layer, a, b in zip(self.layers, self.a, self.b, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _added(self, a: Tensor, b: Tensor) -> Callable:
        def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return output + F.linear(F.linear(inputs[0], a), b) * self.scale

        return add


def linear_layers(module: nn.Module, pattern: str) -> dict[str, nn.Linear]:
    """The linear layers whose names end in ``pattern``, a regular expression."""
    ending = re.compile(rf"(?:.*\.)?(?:{pattern})$")
    return {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear) and ending.match(name)}


class Whitening(nn.Module):
    """``(x - mean) Z``: inputs with unit covariance in every direction, once ``fit`` has seen some.

    Hidden states of a trained model vary far more in some directions than in others, and where something *is* can lie
    in the quiet ones, which a query then learns of last. On nine cells it was learnt with whitening and not without.
    """

    def __init__(self, width: int):
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(width))
        self.matrix = nn.Buffer(torch.eye(width))

    def forward(self, x: Float[Tensor, "*n C"]) -> Float[Tensor, "*n C"]:
        return (x - self.mean) @ self.matrix

    @torch.no_grad()
    def fit(self, x: Float[Tensor, "n C"], floor: float = 1e-3) -> None:
        """ZCA: ``Z = U (max(lambda, 0) + floor * max lambda)^-1/2 U^T`` of the covariance of ``x``; of none it stays
        what it is."""
        if not len(x):
            return
        mean = x.double().mean(0)
        centred = x.double() - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
        scaled = (values.clamp(min=0) + floor * values.max()).rsqrt()
        self.mean.copy_(mean)
        self.matrix.copy_(vectors * scaled @ vectors.T)


class Centring(nn.Module):
    """``(Q - mean) / deviation`` of each feature of each query: within ``by_batch`` those of the batch (batch
    normalisation, arXiv:1502.03167, without its affine map), otherwise their running averages, so that no row depends
    on the others. Rewards are learnt from with the averages: a roll-out and its training pass must agree."""

    def __init__(self, queries: int, width: int):
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(queries * width))
        self.variance = nn.Buffer(torch.ones(queries * width))
        self._rows = 0

    @contextmanager
    def by_batch(self, rows: int) -> Generator[None]:
        """Within, memories that all ``rows`` call together, at least two, are centred by themselves, and the averages
        follow; those of a few are not."""
        self._rows = rows
        try:
            yield
        finally:
            self._rows = 0

    def forward(self, queries: Float[Tensor, "R K E"]) -> Float[Tensor, "R K E"]:
        training = len(queries) == self._rows > 1
        return F.batch_norm(queries.flatten(1), self.mean, self.variance, training=training).view_as(queries)


class QueryBuilder(nn.Module):
    """What is wanted: ``Q = encoder([v, h, Q_init])[-K:]``, a pre-norm transformer of a width of its own.

    Q sees everything, ``[v, h]`` see only each other (the paper's mask), so they run by themselves, Q beside them, and
    in the last layer Q alone: the same as one pass under that mask, without its square of all tokens.
    Visual tokens know their place among the others (many a VLM binds places only inside its language model), hidden
    states how far they lie from the end of their segment; there is no longest segment.

    Q leaves without what all queries of a batch share (`Centring`). That part learns fastest, and it can only say
    "always the same place": attention that follows it is saturated before the question has been learnt.
    """

    def __init__(self, width: int, queries: int, inner: int, layers: int, heads: int):
        super().__init__()
        self.whiten_v, self.whiten_h = Whitening(width), Whitening(width)
        self.read_v, self.read_h = nn.Linear(width, inner), nn.Linear(width, inner)
        self.start = nn.Parameter(torch.randn(queries, inner) * 0.5)
        layer = nn.TransformerEncoderLayer(inner, heads, 4 * inner, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(inner), enable_nested_tensor=False)
        self.centre = Centring(queries, inner)

    def see(self, white: Tokens, there: Bool[Tensor, "R V"]) -> Float[Tensor, "R V E"]:
        """Whitened visual tokens as the encoder reads them: the same for every memory of an image."""
        return self.read_v(white) + _sines(there.long().cumsum(1) - 1, self.start.shape[1]).to(white.dtype)

    def forward(
        self, seen: Tokens, seen_there: Bool[Tensor, "R V"], h: Tokens, h_there: Bool[Tensor, "R S"]
    ) -> Float[Tensor, "R K E"]:
        """What ``see`` gave, and hidden states, padded anywhere, to queries."""
        to_end = h_there.long().flip(1).cumsum(1).flip(1) - 1
        h = self.read_h(self.whiten_h(h)) + _sines(to_end, self.start.shape[1]).to(h.dtype)
        given, queries = torch.cat([seen, h], 1), self.start.expand(len(h), -1, -1)
        there = torch.cat([seen_there, h_there], 1)
        all_there = F.pad(there, (0, len(self.start)), value=True)
        layers: list[Any] = list(self.encoder.layers)
        norm: Any = self.encoder.norm
        for layer in layers:
            of_given, of_queries = _projected(layer, given), _projected(layer, queries)
            everything = [torch.cat(pair, 2) for pair in zip(of_given[1:], of_queries[1:], strict=True)]
            queries = _pre_norm(layer, queries, of_queries[0], *everything, all_there)
            if layer is not layers[-1]:
                given = _pre_norm(layer, given, *of_given, there)
        return self.centre(norm(queries))


def _projected(layer: nn.TransformerEncoderLayer, x: Tokens) -> list[Float[Tensor, "R H T C"]]:
    """Query, key and value in a layer of torch's encoder."""
    attention = layer.self_attn
    projected = F.linear(layer.norm1(x), attention.in_proj_weight, attention.in_proj_bias)
    return [part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in projected.chunk(3, -1)]


def _pre_norm(
    layer: nn.TransformerEncoderLayer, x: Tokens, query: Tensor, key: Tensor, value: Tensor, there: Bool[Tensor, "R T"]
) -> Tokens:
    """``x`` behind the layer; they look at the keys that are ``there``."""
    seen = F.scaled_dot_product_attention(query, key, value, there[:, None, None])
    x = x + layer.self_attn.out_proj(seen.transpose(1, 2).flatten(2))
    return x + layer.linear2(layer.activation(layer.linear1(layer.norm2(x))))


def _sines(places: Int[Tensor, "R S"], width: int) -> Float[Tensor, "R S E"]:
    """Sinusoidal codes of places."""
    rates = torch.exp(torch.arange(0, width, 2, device=places.device) * (-math.log(1000.0) / width))
    angles = places[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


class Slots(nn.Module):
    """What goes into a former behind what it looks at: ``[Q, M_init + W mix(Q)]``, in the former's width.

    Each slot starts from the learnt ``M_init`` and, if ``seeded``, from a mixture of the queries. The paper has M_init
    alone: the frozen layers must then carry each query over to the slots by themselves, for which they were not
    trained. (Under a linear head on the latents, on nine cells: 44 % against 99.9 %; docs/log.md.)
    """

    def __init__(self, queries: int, slots: int, inner: int, width: int, seeded: bool):
        super().__init__()
        self.read = nn.Linear(inner, width)
        self.start = nn.Parameter(torch.randn(slots, width))
        self.seed = nn.Linear(inner, width) if seeded else None
        if seeded:
            self.mix = nn.Parameter(torch.eye(queries)[torch.arange(slots) % queries])

    def forward(self, queries: Float[Tensor, "R K E"]) -> Float[Tensor, "R K+T C"]:
        slots = self.start.expand(len(queries), -1, -1)
        if self.seed is not None:
            slots = slots + self.seed(self.mix @ queries)
        return torch.cat([self.read(queries), slots], 1)


class Relook(nn.Module):
    """A second look, pooled: ``softmax(tau (W_q Q) (W_k v)^T / sqrt(E)) v`` of whitened keys and plain visual tokens.

    A frozen language model reads a visual token by its place and then its content. Latents that are made from nothing
    have to hit both at once; these have both, and learn only which token to take.
    """

    def __init__(self, width: int, queries: int, latents: int, inner: int):
        super().__init__()
        self.mix = nn.Parameter(torch.eye(queries)[torch.arange(latents) % queries])
        self.ask, self.key = nn.Linear(inner, inner), nn.Linear(width, inner)
        self.tau = nn.Parameter(torch.tensor(4.0))
        self.share = nn.Parameter(torch.tensor(0.1))
        """Of what the former makes, which is added."""

    def forward(
        self, queries: Float[Tensor, "R K E"], white: Tokens, there: Bool[Tensor, "R V"]
    ) -> Float[Tensor, "R N V"]:
        """Where each latent looks: its weights of the visual tokens."""
        asked = self.ask(self.mix @ queries)
        scores = self.tau * asked @ self.key(white).transpose(1, 2) / math.sqrt(asked.shape[-1])
        return scores.masked_fill(~there[:, None], torch.finfo(scores.dtype).min).softmax(-1)


# --- short: through the vision encoder --------------------------------------------------------------------------------


class ImageKeys:
    """Keys and values of images in the blocks of a vision encoder, in the order in which the encoder attended."""

    def __init__(self) -> None:
        self.of: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    def add(self, module: nn.Module, key: Tensor, value: Tensor) -> None:
        """(images, heads, P, C) or one image at a time."""
        self.of.setdefault(module, []).extend(zip(key.split(1), value.split(1), strict=True))

    def take(self, module: nn.Module, images: list[int]) -> tuple[Tensor, Tensor]:
        """Those of some images, joined: (1, heads, P', C)."""
        keys, values = zip(*(self.of[module][image] for image in images), strict=True)
        return torch.cat(keys, 2), torch.cat(values, 2)


_TAP: ContextVar[Callable | None] = ContextVar("dualsight_attention_tap", default=None)
_NAME = "dualsight_tapped"


def _tapped(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options):
    tap = _TAP.get()
    assert tap is not None
    return tap(module, query, key, value, attention_mask, **options)


ALL_ATTENTION_FUNCTIONS.register(_NAME, _tapped)


@contextmanager
def _tap(config: Any, function: Callable) -> Generator[None]:
    """Within, every attention of the model with this config calls ``function`` in place of its own."""
    before, token = config._attn_implementation, _TAP.set(function)
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _TAP.reset(token)


class ShortFormer(nn.Module):
    """``M = projector(vision encoder([image, slots])[-N:])``: slots that look at the image as the encoder does.

    The slots stand nowhere (no rotation), see the image in the blocks that see all of it and only each other in
    windowed ones, and leave through the VLM's own projector, ``merge`` slots to a latent, or a slot ``repeats`` times.
    """

    def __init__(self, parts: Anatomy, slots: Slots, rank: int, alpha: float, targets: str, repeats: int = 1):
        super().__init__()
        self._parts, self._repeats = parts, repeats
        used = nn.ModuleDict({"blocks": parts.blocks})
        self.adapters = Adapters(linear_layers(used, targets), rank, alpha)
        self.slots = slots

    def look(self, run: Callable[[], Any]) -> ImageKeys:
        """The keys of images: ``run`` runs the encoder on them, once."""
        keys, plain = ImageKeys(), ALL_ATTENTION_FUNCTIONS["sdpa"]

        def record(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options):
            keys.add(module, key, value)
            return plain(module, query, key, value, mask, **options)

        with self.adapters.active(), _tap(self._parts.tower.config, record):
            run()
        return keys

    def forward(
        self,
        queries: Float[Tensor, "R K E"],
        keys: ImageKeys,
        images: list[list[int]],
        looks: list[Float[Tensor, "R N V"]] | None = None,
    ) -> Tokens:
        """Latents (R, N, D).

        Args:
            images: whose keys each row sees.
            looks: is given where each latent's slots look: their share of what all heads and blocks pay to patches.
        """
        parts, plain = self._parts, ALL_ATTENTION_FUNCTIONS["sdpa"]
        x = self.slots(queries)
        sees, row = False, 0
        paid: list[Tensor] = []

        def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options):
            nonlocal row
            if sees:  # packed encoders attend one row at a time, the others all at once
                rows = [(row + i) % len(images) for i in range(len(query))]
                row = (rows[-1] + 1) % len(images)
                own = key.shape[2]
                key, value, mask = _beside([keys.take(module, images[r]) for r in rows], key, value)
                if looks is not None:
                    slots, seen = own - queries.shape[1], key.shape[2] - own
                    paid.append(_paid(query, key, mask, options["scaling"], slots, seen))
            return plain(module, query, key, value, mask, **options)

        with self.adapters.active(), _tap(parts.tower.config, attend):
            for block in range(len(parts.blocks)):
                sees = parts.sees_image(block)
                x = parts.run_block(block, x)
        if looks is not None:
            seen = parts.tokens_of(torch.stack(paid).sum(0))
            looks.append(F.normalize(seen.unflatten(1, (-1, parts.merge // self._repeats)).sum(2), 1, -1))
        return parts.project(x[:, queries.shape[1] :].repeat_interleave(self._repeats, 1))


def _paid(
    query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, last: int, first: int
) -> Float[Tensor, "R T P"]:
    """What the ``last`` tokens pay to the ``first`` ones in an attention, all heads together."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scores = query[:, :, -last:] @ key.mT * scaling
    if mask is not None:
        scores = scores + mask[:, :, -last:]
    return scores.softmax(-1)[..., :first].float().sum(1)


def _beside(seen: list[tuple[Tensor, Tensor]], key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The slots' own keys and values behind those of their images, and which are there; None if all are."""
    lengths = [k.shape[2] for k, _ in seen]
    longest = max(lengths)
    if min(lengths) < longest:
        seen = [(_longer(k, longest), _longer(v, longest)) for k, v in seen]
    keys, values = (torch.cat([k for k, _ in seen]), torch.cat([v for _, v in seen]))
    keys, values = torch.cat([keys, key], 2), torch.cat([values, value], 2)
    if min(lengths) == longest:
        return keys, values, None
    there = torch.arange(keys.shape[2], device=key.device)
    missing = (there >= torch.tensor(lengths, device=key.device)[:, None]) & (there < longest)  # (R, K)
    return keys, values, _additive(~missing[:, None], key.dtype)


def _longer(x: Tensor, length: int) -> Tensor:
    return F.pad(x, (0, 0, 0, length - x.shape[2]))


def _additive(visible: Bool[Tensor, "R Q K"], dtype: torch.dtype) -> Float[Tensor, "R 1 Q K"]:
    """A mask that every attention implementation takes."""
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)[:, None]


# --- long: through the decoder's last layers --------------------------------------------------------------------------


class Place(NamedTuple):
    """Hidden states with where they stand and which of them are there."""

    states: Float[Tensor, "R T D"]
    cos: Float[Tensor, "R T C"]
    sin: Float[Tensor, "R T C"]
    there: Bool[Tensor, "R T"]

    def rows(self, rows: list[int]) -> Place:
        return Place(*(tensor[rows] for tensor in self))

    def last(self) -> Place:
        """The last one of each row, padded behind."""
        at = self.there.sum(1).clamp(min=1)[:, None, None] - 1
        states, cos, sin = (tensor.take_along_dim(at, 1) for tensor in self[:3])
        return Place(states, cos, sin, self.there.any(1, keepdim=True))

    def moved_to(self, end: Place) -> Place:
        """These, padded in front, moved so that the last one stands where the ``end`` of its row does, if there is one:
        ``cos(a + d) = cos a cos d - sin a sin d``, for any rotation there is.
        """
        cos, sin = self.cos[:, -1:], self.sin[:, -1:]
        stays, size = ~end.there[..., None], cos.square() + sin.square()  # a VLM may scale its rotations
        by_cos = ((end.cos * cos + end.sin * sin) / size).masked_fill(stays, 1.0)
        by_sin = ((end.sin * cos - end.cos * sin) / size).masked_fill(stays, 0.0)
        return self._replace(cos=self.cos * by_cos - self.sin * by_sin, sin=self.sin * by_cos + self.cos * by_sin)


class LongFormer(nn.Module):
    """``M = scale * norm(last layers([visual, segment, slots])[-N:])``, from the states that enter these layers; with a
    ``linear`` entrance ``scale * (W norm(..) + b)``, which starts as that.

    All slots stand where the last token of the segment does, the one that called them; what tells them apart is learnt.
    """

    def __init__(
        self, parts: Anatomy, slots: Slots, layers: int, rank: int, alpha: float, targets: str, linear: bool = False
    ):
        super().__init__()
        self.layers, self._text = list(parts.text.layers[-layers:]), parts.text.config
        self.adapters = Adapters(linear_layers(nn.ModuleList(self.layers), targets), rank, alpha)
        self.slots = slots
        rows = parts.vlm.get_input_embeddings().weight.detach()
        self.scale = nn.Parameter(rows.float().pow(2).mean().sqrt())
        self.enter = nn.Linear(parts.width, parts.width) if linear else None
        if self.enter is not None:
            nn.init.eye_(self.enter.weight)
            nn.init.zeros_(self.enter.bias)

    def look(self, visual: Place) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the visual tokens in each layer, (B, heads, V, C)."""
        cache = DynamicCache()
        causal = visual.there.new_ones(visual.there.shape[1], visual.there.shape[1]).tril()
        self._run(visual.states, visual.there[:, None] & causal, visual.cos, visual.sin, cache)
        first = self.layers[0].self_attn.layer_idx
        layers: list[Any] = cache.layers[first:]
        return [(layer.keys, layer.values) for layer in layers]

    def forward(
        self,
        queries: Float[Tensor, "R K E"],
        seen: list[tuple[Tensor, Tensor]],
        seen_there: Bool[Tensor, "R V"],
        segment: Place,
        looks: list[Float[Tensor, "R N V"]] | None = None,
    ) -> Tokens:
        """Latents (R, N, D).

        Args:
            seen: of ``look``, of these rows.
            segment: the states since the last invocation; the last one is the token that calls.
            looks: is given where each latent's slot looks in the image: its share of what all heads and layers pay to
                visual tokens.
        """
        given = self.slots(queries)
        rows, slots, _ = given.shape
        x = torch.cat([segment.states, given], 1)
        cos, sin = (torch.cat([rope, rope[:, -1:].expand(-1, slots, -1)], 1) for rope in (segment.cos, segment.sin))
        there = torch.cat([segment.there, segment.there.new_ones(rows, slots)], 1)
        causal = there.new_ones(x.shape[1], x.shape[1]).tril()
        causal[-slots:] = True
        visible = torch.cat([seen_there[:, None].expand(-1, x.shape[1], -1), there[:, None] & causal], 2)
        cache = DynamicCache()
        for layer, (keys, values) in zip(self.layers, seen, strict=True):
            cache.update(keys, values, layer.self_attn.layer_idx)
        latents = slots - queries.shape[1]
        paid: list[Tensor] = []

        def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **options):
            paid.append(_paid(query, key, mask, options["scaling"], latents, seen_there.shape[1]))
            return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, mask, **options)

        with nullcontext() if looks is None else _tap(self._text, attend):
            x = self._run(x, visible, cos, sin, cache)
        if looks is not None:
            looks.append(F.normalize(torch.stack(paid).sum(0), 1, -1))
        x = F.layer_norm(x[:, -latents:], x.shape[-1:])
        return self.scale * (x if self.enter is None else self.enter(x))

    def _run(self, x: Tensor, visible: Bool[Tensor, "R Q K"], cos: Tensor, sin: Tensor, cache: DynamicCache) -> Tensor:
        mask = _additive(visible, x.dtype)
        with self.adapters.active():
            for layer in self.layers:
                out = layer(x, attention_mask=mask, position_embeddings=(cos, sin), past_key_values=cache)
                x = out[0] if isinstance(out, tuple) else out
        return x
