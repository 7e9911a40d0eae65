"""The configuration of a Janus model, and the sizes that are shipped: the released ones and TINY."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from dualsight.nn.config import build
from dualsight.pathways.dit import DiTConfig
from dualsight.pathways.encoders import SIGLIP_LARGE, EncoderConfig
from dualsight.pathways.shallow_uvit import PATCH
from dualsight.pathways.vae import TINY as TINY_VAE
from dualsight.pathways.vae import PretrainedVAE, VAEConfig
from dualsight.pathways.vq import TINY as TINY_VQ
from dualsight.pathways.vq import VQConfig


@dataclass(frozen=True)
class JanusTextConfig:
    """The language model, of transformers; the names are those of its config. Its head is never tied."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    architecture: Literal["llama", "qwen2"] = "llama"
    max_position_embeddings: int = 16384
    rope_theta: float = 1e4
    rms_norm_eps: float = 1e-6

    def __post_init__(self):
        if self.architecture not in ("llama", "qwen2"):
            raise ValueError(f"architecture is {self.architecture!r}; expected llama or qwen2")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


TOKEN_NAMES = {
    "bos": "<｜begin▁of▁sentence｜>",  # noqa: RUF001
    "eos": "<｜end▁of▁sentence｜>",  # noqa: RUF001
    "pad": "<｜▁pad▁｜>",  # noqa: RUF001
    "begin_image": "<begin_of_image>",
    "end_image": "<end_of_image>",
    "image": "<image_placeholder>",
}
"""How the tokenizers of the releases call the tokens that the model has to know."""


@dataclass(frozen=True)
class JanusTokens:
    """Tokens that the model itself has to know. They differ between the released checkpoints, so there is no default:
    loaders take them from the checkpoint's own tokenizer. ``pad`` also is the unconditional prompt of guidance."""

    bos: int
    eos: int
    pad: int
    begin_image: int
    end_image: int
    image: int


@dataclass(frozen=True)
class DiTPathwayConfig:
    """Making images by a diffusion transformer: its sizes, and the autoencoder in whose latents it works."""

    dit: DiTConfig
    vae: VAEConfig | PretrainedVAE


@dataclass(frozen=True)
class FlowPathwayConfig:
    """Making images by a flow inside the language model: the sizes of its way in and out, and the autoencoder."""

    width: int
    """Of the convolutions before the language model; those behind it are twice as wide."""
    blocks: int
    """Of them, before and behind."""
    vae: VAEConfig | PretrainedVAE
    begin_token: bool = False
    """An image to understand has a learned embedding at the place of ``<begin_of_image>``, as in the release."""
    hides_padding: bool = False
    """Whether the padding of the unconditional prompt is hidden from what follows. The released loop hides it; a Janus
    of tokens reads it. The paper only says that captions are dropped."""

    def __post_init__(self):
        if self.width % 2 or self.width < 2 or self.blocks < 1:
            raise ValueError(f"a width of {self.width} and {self.blocks} blocks; expected an even width and a block")


@dataclass(frozen=True)
class JanusConfig:
    """Everything that decides what a Janus model computes.

    Images are made through ``vq`` (Janus, Janus-Pro), ``dit`` or ``flow`` (JanusFlow), one of the three. ``encoder``
    None is the ablation of decoupling: the model then understands images through the tokens of its generation pathway.
    """

    text: JanusTextConfig
    encoder: EncoderConfig | None
    vq: VQConfig | None
    tokens: JanusTokens
    dit: DiTPathwayConfig | None = None
    flow: FlowPathwayConfig | None = None
    aligner_depth: int = 2
    """Linear layers of the understanding and of the generation aligner."""
    image_size: int = 384
    """Pixels: the side of the images that it makes."""
    roles: tuple[str, str] = ("<|User|>", "<|Assistant|>")
    """Janus-Pro's. Janus-1.3B was trained with ``("User", "Assistant")``."""
    system: str = ""
    """System prompt of a conversation that gives none."""
    align_after: int | None = None
    """REPA (JanusFlow: 6): the layer of the language model, or block of the diffusion transformer, behind which states
    of an image that is made learn to tell what the understanding encoder would see there. None: they do not."""

    def __post_init__(self):
        if sum(pathway is not None for pathway in (self.vq, self.dit, self.flow)) != 1:
            raise ValueError("images are made through vq, dit or flow: give one of the three")
        if self.encoder is None and self.vq is None:
            raise ValueError("without an encoder a model understands through the tokens of vq; there is none")
        if self.image_size % self.factor:
            raise ValueError(f"an image of {self.image_size} pixels is not made of {self.factor}-pixel cells")
        if self.align_after is not None:
            self._check_alignment(self.align_after)

    def _check_alignment(self, after: int) -> None:
        dit = self.dit.dit if self.dit else None
        depth = dit.depth if dit else self.text.num_hidden_layers
        made = (self.side // dit.patch) ** 2 if dit else self.drawn_tokens
        if not 1 <= after <= depth:
            raise ValueError(f"align_after is {after}; what makes the images has layers 1 to {depth}")
        if self.encoder is None or self.encoder.tokens != made:
            seen = self.encoder.tokens if self.encoder else "no"
            raise ValueError(
                f"align_after compares the {made} tokens of an image to make with those of an encoder that sees it; "
                f"this model has {seen} such tokens, expected as many"
            )

    @property
    def factor(self) -> int:
        """Pixels of a token, or (where an image has no tokens) of a cell of latents, on each axis."""
        if self.vq:
            return self.vq.factor
        if self.flow:
            return PATCH * self.flow.vae.factor
        assert self.dit
        return self.dit.vae.factor

    @property
    def side(self) -> int:
        """Rows, and columns, of tokens or latents in an image that it makes."""
        return self.image_size // self.factor

    @property
    def latents(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the latents of an image that it makes by a flow."""
        pathway = self.dit or self.flow
        assert pathway
        cells = self.image_size // pathway.vae.factor
        return pathway.vae.latent_channels, cells, cells

    @property
    def drawn_tokens(self) -> int:
        """Tokens of an image that it makes; for a diffusion transformer it has none in the sequence."""
        return 0 if self.dit else self.side**2

    @property
    def seen_tokens(self) -> int:
        """Tokens of an image that it understands."""
        return self.encoder.tokens if self.encoder else self.drawn_tokens

    @property
    def seen_size(self) -> int:
        """Pixels: the side of an image that it understands."""
        return self.encoder.image_size if self.encoder else self.image_size

    def to_dict(self) -> dict[str, Any]:
        return {"model_type": "janus", **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> JanusConfig:
        """The config that ``to_dict`` wrote.

        Raises:
            ValueError: it is another model's config, or a key is unknown or missing; all of them are named.
        """
        if data.get("model_type") != "janus":
            raise ValueError(f"config has model_type {data.get('model_type')!r}; expected 'janus'")
        return build(cls, {key: value for key, value in data.items() if key != "model_type"}, "config")


UNDERSTANDING_PROMPT = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
"""The system prompt with which the released models answer about images; for drawing it is empty."""

PRO_1B_TOKENS = JanusTokens(bos=100000, eos=100001, pad=100002, begin_image=100003, end_image=100580, image=100581)
PRO_7B_TOKENS = JanusTokens(bos=100000, eos=100001, pad=100015, begin_image=100016, end_image=100593, image=100594)

JANUS_PRO_1B = JanusConfig(
    text=JanusTextConfig(102400, 2048, 5632, 24, 16, 16),
    encoder=SIGLIP_LARGE,
    vq=VQConfig(),
    tokens=PRO_1B_TOKENS,
    system=UNDERSTANDING_PROMPT,
)

JANUS_PRO_7B = replace(JANUS_PRO_1B, text=JanusTextConfig(102400, 4096, 11008, 30, 32, 32), tokens=PRO_7B_TOKENS)

JANUS_1_3B = replace(JANUS_PRO_1B, tokens=PRO_7B_TOKENS, roles=("User", "Assistant"))

JANUS_FLOW_1_3B = replace(
    JANUS_1_3B,
    vq=None,
    flow=FlowPathwayConfig(768, 2, PretrainedVAE(), begin_token=True, hides_padding=True),
    aligner_depth=1,
)
"""The ids of its tokens are not on record; loaders ask the checkpoint's tokenizer, as for the others."""

TINY = JanusConfig(
    text=JanusTextConfig(512, 192, 512, 4, 6, 6, max_position_embeddings=1024),
    encoder=EncoderConfig("siglip", 64, 8, 128, 4, 4),
    vq=TINY_VQ,
    tokens=JanusTokens(*range(6)),
    image_size=64,
    roles=("User", "Assistant"),
)
"""Small enough to train and to run on two CPU cores: images of 64 x 64 pixels, 64 tokens to see and 64 to make."""

TINY_DIT = replace(
    TINY,
    vq=None,
    dit=DiTPathwayConfig(DiTConfig(channels=TINY_VAE.latent_channels, condition_width=TINY.text.hidden_size), TINY_VAE),
)
"""The same with a diffusion transformer."""

TINY_FLOW = replace(TINY, vq=None, flow=FlowPathwayConfig(128, 2, TINY_VAE))
"""The same with a flow inside the language model."""

Generation = Literal["vq", "dit", "flow"]
GENERATIONS: dict[Generation, JanusConfig] = {"vq": TINY, "dit": TINY_DIT, "flow": TINY_FLOW}
"""The ways of making images, by name, at TINY size."""
