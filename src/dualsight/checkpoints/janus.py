"""Janus on disk: our own folders, the official releases and transformers' layout, read and written.

Our parameter names are the official ones (``deepseek-ai/Janus-1.3B``, ``Janus-Pro-1B``, ``Janus-Pro-7B``), which so
load without a map; ``JanusFlow-1.3B`` calls the understanding side otherwise (``_FLOW``). transformers'
(``deepseek-community/Janus-Pro-*``) differ by ``transformers_names``, and have the queries, keys and values of the
vision tower apart.

What the model has to know of its tokens is looked up in the checkpoint's own tokenizer: the ids differ between the
releases. So do the roles; see ``roles_of``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers import JanusConfig as TransformersConfig
from transformers.models.janus.modeling_janus import JanusForConditionalGeneration

from dualsight.checkpoints.weights import CheckpointError, WeightFiles, check_names, save_weights, write_json
from dualsight.models.janus import Janus
from dualsight.models.janus_config import (
    JANUS_FLOW_1_3B,
    TOKEN_NAMES,
    UNDERSTANDING_PROMPT,
    JanusConfig,
    JanusTextConfig,
    JanusTokens,
)
from dualsight.models.janus_core import JanusCore
from dualsight.models.janus_dit import JanusDiT
from dualsight.models.janus_flow import JanusFlow
from dualsight.models.janus_processor import LEAST_SIDE, JanusProcessor
from dualsight.pathways.encoders import SIGLIP_LARGE, EncoderConfig
from dualsight.pathways.shallow_uvit import PATCH
from dualsight.pathways.vq import UNUSED, VQConfig

PRO_ROLES, FIRST_ROLES = ("<|User|>", "<|Assistant|>"), ("User", "Assistant")
UNDERSTANDING = ("vision_model.", "aligner.", "language_model.")
STAND_IN = VQConfig(32, (1,), (1,), res_blocks=1, z_channels=32, codebook_size=8, codebook_dim=4)
POOL = "vision_model.vision_tower.attn_pool."
State = dict[str, Tensor]
TEMPLATE = (
    "{%- for turn in messages -%}"
    "{%- if turn['role'] == 'user' -%}{{ 'USER: ' }}{%- else -%}{{ 'ASSISTANT: ' }}{%- endif -%}"
    "{%- if turn['content'] is string -%}{{ turn['content'] }}{%- else -%}{%- for part in turn['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{ 'IMAGE\\n' }}{%- else -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- if turn['role'] == 'user' -%}{{ '\\n\\n' }}{%- else -%}{{ 'EOS' }}{%- endif -%}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
)
"""Conversations in Jinja, as ``JanusProcessor`` writes them, without the first token."""


def save_pretrained(
    model: JanusCore, processor: JanusProcessor, folder: str | Path, dtype: torch.dtype | None = None
) -> None:
    """Write model and tokenizer in our own layout. ``dtype`` is that of the stored weights."""
    _save(model.state_dict(), model.config.to_dict(), processor, Path(folder), dtype)


def save_official(
    model: Janus | JanusFlow, processor: JanusProcessor, folder: str | Path, dtype: torch.dtype | None = torch.bfloat16
) -> None:
    """Write model and tokenizer as the official code reads them; what is for training only (REPA's head) is left out.

    Raises:
        ValueError: the model has something that the official code cannot express.
    """
    state = _drawing(model) if model.config.vq else to_official_flow(_drawing(model))
    _save(state, official_config(model.config), processor, Path(folder), dtype)


def save_transformers(
    model: Janus, processor: JanusProcessor, folder: str | Path, dtype: torch.dtype | None = torch.bfloat16
) -> None:
    """Write model and processor as ``transformers.JanusForConditionalGeneration`` and ``JanusProcessor`` read them.

    Raises:
        ValueError: the model has something that transformers' class cannot express.
    """
    folder, config = Path(folder), model.config
    _save(to_transformers(_drawing(model)), transformers_config(config), processor, folder, dtype)
    tokens = config.tokens
    ids = {"bos_token_id": tokens.bos, "eos_token_id": tokens.eos, "pad_token_id": tokens.pad}
    write_json(folder / "generation_config.json", {**ids, "generation_kwargs": {"boi_token_id": tokens.begin_image}})
    picture = {"image_mean": list(processor.mean), "image_std": list(processor.std), "min_size": LEAST_SIDE}
    size = {"height": config.seen_size, "width": config.seen_size}
    write_json(
        folder / "preprocessor_config.json", {"image_processor_type": "JanusImageProcessor", "size": size, **picture}
    )
    write_json(
        folder / "processor_config.json",
        {"processor_class": "JanusProcessor", "num_image_tokens": config.seen_tokens},
    )
    marks = {"image_token": "image", "boi_token": "begin_image", "eoi_token": "end_image"}
    named = json.loads((folder / "tokenizer_config.json").read_text())
    named |= {theirs: TOKEN_NAMES[ours] for theirs, ours in marks.items()}  # what their processor asks it for
    write_json(folder / "tokenizer_config.json", named)


def _drawing(model: JanusCore) -> State:
    """What answers and draws: all but what only training needs."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("repa_head.")}


def _save(
    state: dict[str, Tensor], config: dict, processor: JanusProcessor, folder: Path, dtype: torch.dtype | None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(state, folder, dtype)
    tokenizer = deepcopy(processor.tokenizer)
    if config["model_type"] != "janus" or "vq_config" in config:  # ours has the roles in its config
        tokenizer.chat_template = tokenizer.chat_template or _template(processor.config.roles)
    tokenizer.save_pretrained(folder)
    write_json(folder / "config.json", config)


def _template(roles: tuple[str, str]) -> str:
    """Our prompts in Jinja, for other programs; and for the roles to be found when the folder is read again."""
    filled = TEMPLATE.replace("USER", roles[0]).replace("ASSISTANT", roles[1])
    return filled.replace("IMAGE", TOKEN_NAMES["image"]).replace("EOS", TOKEN_NAMES["eos"])


def from_pretrained(
    folder: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    roles: tuple[str, str] | None = None,
) -> tuple[Janus | JanusDiT | JanusFlow, JanusProcessor]:
    """Load a model and its processor from a folder in any of the three layouts.

    Args:
        roles: names of user and assistant in prompts, where the checkpoint's own files should not decide.

    Raises:
        CheckpointError: the folder holds no such checkpoint, or a damaged or foreign one; what is wrong is named.
    """
    folder = Path(folder)
    data, processor = _read_json(folder / "config.json"), load_processor(folder, roles)
    with init_empty_weights():
        model = model_of(processor.config)
    if "vq_config" in data:
        layout = to_transformers, from_transformers
    elif data.get("model_type") == "multi_modality" and processor.config.flow:
        layout = to_official_flow, from_official_flow
    else:
        layout = dict, lambda state, names: state
    _load(model, WeightFiles(folder), dtype, *layout)
    return model.to(device).eval(), processor


def load_processor(folder: str | Path, roles: tuple[str, str] | None = None) -> JanusProcessor:
    """The processor of a folder in any of the three layouts, without the model.

    Raises:
        CheckpointError: the folder holds no such checkpoint.
    """
    folder = Path(folder)
    data = _read_json(folder / "config.json")
    kind = data.get("model_type")
    try:
        if kind == "janus" and "vq_config" not in data:
            tokenizer = _tokenizer(folder, PreTrainedTokenizerFast)
            config = JanusConfig.from_dict(data)
            config = replace(config, roles=roles or config.roles)
        elif kind in ("multi_modality", "janus"):
            tokenizer = _tokenizer(folder, AutoTokenizer)
            read = config_of_official if kind == "multi_modality" else config_of_transformers
            config = read(data, tokens_of(tokenizer), roles or roles_of(tokenizer))
        else:
            raise CheckpointError(f"{folder / 'config.json'} has model_type {kind!r}, which is no Janus")
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'} is not a Janus config: {error}") from error
    return JanusProcessor(config, tokenizer)


def model_of(config: JanusConfig) -> Janus | JanusDiT | JanusFlow:
    """The model of a config, with random weights."""
    if config.dit:
        return JanusDiT(config)
    return JanusFlow(config) if config.flow else Janus(config)


def _load(
    model: JanusCore,
    weights: WeightFiles,
    dtype: torch.dtype,
    to_theirs: Callable[[State], State],
    from_theirs: Callable[[State, Iterable[str]], State],
) -> None:
    """Put the tensors of a folder into a model on the meta device; every name and shape is checked first."""
    ours = model.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in to_theirs(ours).items()}
    found = {name: shape for name, shape in weights.shapes.items() if not name.endswith(UNUSED)}
    check_names(found, expected, str(weights.path))
    state = from_theirs(weights.read(expected), ours)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)


def tokens_of(tokenizer: PreTrainedTokenizerBase) -> JanusTokens:
    """The ids that this tokenizer gives to the tokens that the model has to know.

    Raises:
        CheckpointError: it lacks one of them.
    """
    vocabulary = tokenizer.get_vocab()
    if absent := [name for name in TOKEN_NAMES.values() if name not in vocabulary]:
        raise CheckpointError(f"the tokenizer lacks {', '.join(absent)}: it is not Janus's")
    return JanusTokens(**{field: vocabulary[name] for field, name in TOKEN_NAMES.items()})


def roles_of(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """The roles that a checkpoint was trained with: those in its chat template if it has one (in ours, whatever they
    are), Pro's if its tokenizer knows them as single tokens, else those of Janus-1.3B."""
    template = str(getattr(tokenizer, "chat_template", None) or "")
    said = re.findall(r"\{\{ '(.+?): ' \}\}", template)
    if len(said) == 2 and template == _template((said[0], said[1])):
        return said[0], said[1]
    known = set(tokenizer.get_vocab())
    return PRO_ROLES if PRO_ROLES[0] in template or set(PRO_ROLES) <= known else FIRST_ROLES


def _tokenizer(folder: Path, kind: Any) -> PreTrainedTokenizerBase:
    try:
        return kind.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} holds no readable tokenizer: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} is no checkpoint: it has no config.json") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error


# --- the official layout ------------------------------------------------------------------------------------------

_TEXT = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_TEXT += ("num_key_value_heads", "max_position_embeddings", "rope_theta", "rms_norm_eps")
_LLAMA = {"intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096}
"""What the official configs leave to LlamaConfig's defaults."""
TOWER = {"image_size": 384, "model_name": "siglip_large_patch16_384", "select_feature": "same", "select_layer": -1}
"""The understanding encoder of every release."""


def config_of_official(data: dict[str, Any], tokens: JanusTokens, roles: tuple[str, str]) -> JanusConfig:
    """Our config for an official ``config.json``; KeyError names what it lacks."""
    if "vision_gen_enc_config" in data:
        return _config_of_flow(data, tokens, roles)
    _check_tower(data["vision_config"]["params"])
    vq = data["gen_vision_config"]["params"]
    return JanusConfig(
        text=_text_of(data["language_config"]),
        encoder=SIGLIP_LARGE,
        vq=VQConfig(codebook_size=vq["image_token_size"], codebook_dim=vq["n_embed"]),
        tokens=tokens,
        aligner_depth=data["aligner_config"]["params"]["depth"],
        roles=roles,
        system=UNDERSTANDING_PROMPT,
    )


def _check_tower(params: dict[str, Any]) -> None:
    if params["model_name"] != TOWER["model_name"]:
        raise ValueError(f"vision tower {params['model_name']!r}; only {TOWER['model_name']} was ever released")


def _text_of(language: dict[str, Any]) -> JanusTextConfig:
    """The language model of a config that states only what differs from LlamaConfig's defaults."""
    stated = {name: language[name] for name in _TEXT if language.get(name) is not None}
    merged = {**_LLAMA, **stated}
    rope = language.get("rope_parameters") or {}
    merged.setdefault("num_key_value_heads", merged["num_attention_heads"])
    if "rope_theta" in rope:
        merged["rope_theta"] = rope["rope_theta"]
    return JanusTextConfig(**merged)


def official_config(config: JanusConfig) -> dict[str, Any]:
    """The official ``config.json`` of a model: the inverse of ``config_of_official``.

    Raises:
        ValueError: the model has something that the official code cannot express.
    """
    if config.encoder != SIGLIP_LARGE or config.text.architecture != "llama":
        raise ValueError("the official code knows SigLIP-L/16-384 and Llama only: use save_pretrained")
    if config.flow:
        return _flow_config(config)
    width, vq = config.text.hidden_size, config.vq
    if vq is None or vq != VQConfig(codebook_size=vq.codebook_size, codebook_dim=vq.codebook_dim):
        raise ValueError("the official code knows VQ-16 only: use save_pretrained")

    def projector(inputs: int) -> dict[str, Any]:
        params = {"projector_type": "mlp_gelu", "depth": config.aligner_depth, "input_dim": inputs, "n_embed": width}
        return {"cls": "MlpProjector", "model_type": "aligner", "params": params}

    head = {"image_token_embed": width, "image_token_size": vq.codebook_size, "n_embed": width}
    codes = {"image_token_size": vq.codebook_size, "n_embed": vq.codebook_dim}
    return {
        "architectures": ["MultiModalityCausalLM"],
        "model_type": "multi_modality",
        "vision_config": {"cls": "CLIPVisionTower", "model_type": "vision", "params": TOWER},
        "aligner_config": projector(config.encoder.hidden_size),
        "gen_vision_config": {"cls": "VQ-16", "model_type": "gen_vision", "params": codes},
        "gen_aligner_config": {**projector(vq.codebook_dim), "model_type": "gen_aligner"},
        "gen_head_config": {"cls": "vision_head", "model_type": "gen_head", "params": head},
        "language_config": _language_config(config.text),
        "torch_dtype": "bfloat16",
    }


def _language_config(config: JanusTextConfig) -> dict[str, Any]:
    text = {name: value for name, value in asdict(config).items() if name in _TEXT}
    return {"model_type": "llama", **text, "tie_word_embeddings": False, "torch_dtype": "bfloat16"}


_FLOW = {"vision_und_enc_model.": "vision_model.", "vision_und_enc_aligner.": "aligner.layers.0."}
"""How names of JanusFlow begin where they differ: the official one and ours."""


def to_official_flow(state: State) -> State:
    """A JanusFlow's state dict under the official names."""
    renamed = {}
    for name, tensor in state.items():
        theirs = next((official for official, ours in _FLOW.items() if name.startswith(ours)), None)
        renamed[name if theirs is None else theirs + name.removeprefix(_FLOW[theirs])] = tensor
    return renamed


def from_official_flow(state: State, names: Iterable[str]) -> State:
    """Our parameters ``names`` out of an official state dict: the inverse of ``to_official_flow``."""
    renamed = {}
    for name, tensor in state.items():
        theirs = next((official for official in _FLOW if name.startswith(official)), None)
        renamed[name if theirs is None else _FLOW[theirs] + name.removeprefix(theirs)] = tensor
    return {name: renamed[name] for name in names}


def _config_of_flow(data: dict[str, Any], tokens: JanusTokens, roles: tuple[str, str]) -> JanusConfig:
    _check_tower(data["vision_und_enc_config"]["params"])
    for name, released in _flow_modules(JANUS_FLOW_1_3B).items():
        for parameter, value in data[name]["params"].items():
            if released.get(parameter, value) != value:
                raise ValueError(
                    f"{parameter} of {name} is {value}; JanusFlow was only released with {released[parameter]}"
                )
    return replace(JANUS_FLOW_1_3B, text=_text_of(data["language_config"]), tokens=tokens, roles=roles)


def _flow_config(config: JanusConfig) -> dict[str, Any]:
    release, flow = JANUS_FLOW_1_3B, config.flow
    assert flow
    same = (flow, config.text.hidden_size, config.aligner_depth)
    if same != (release.flow, release.text.hidden_size, release.aligner_depth):
        raise ValueError("the official code knows JanusFlow in the released widths only: use save_pretrained")
    encoder, decoder = _flow_modules(config).values()
    return {
        "architectures": ["MultiModalityCausalLM"],
        "model_type": "multi_modality",
        "vision_und_enc_config": {"cls": "CLIPVisionTower", "model_type": "vision_und_enc", "params": TOWER},
        "vision_gen_enc_config": {"cls": "ShallowUViTEncoder", "model_type": "vision_gen_enc", "params": encoder},
        "vision_gen_dec_config": {"cls": "ShallowUViTDecoder", "model_type": "vision_gen_dec", "params": decoder},
        "language_config": _language_config(config.text),
        "torch_dtype": "bfloat16",
    }


def _flow_modules(config: JanusConfig) -> dict[str, dict[str, Any]]:
    """Parameters of the official classes. The released ``config.json`` is not on record: strides, kernels and the one
    upsampling follow from the shapes of the weights, the names from the classes."""
    flow = config.flow
    assert flow
    channels, width = flow.vae.latent_channels, config.text.hidden_size
    both = {"block_out_channels": [flow.width], "layers_in_middle": flow.blocks, "hidden_size": width}
    return {
        "vision_gen_enc_config": {"input_channels": channels, "stride": PATCH, "kernel_size": PATCH, **both},
        "vision_gen_dec_config": {"in_channels": flow.width, "out_channels": channels, "upsamples": 1, **both},
    }


# --- transformers' layout -----------------------------------------------------------------------------------------

_TOWER, _LAYERS = r"vision_model\.vision_tower\.", "model.vision_model.encoder.layers."
_RULES = [
    (_TOWER + r"blocks\.(\d+)\.attn\.proj\.", _LAYERS + r"\1.self_attn.projection_layer."),
    (_TOWER + r"blocks\.(\d+)\.norm(\d)\.", _LAYERS + r"\1.layer_norm\2."),
    (_TOWER + r"blocks\.", _LAYERS),
    (_TOWER + r"patch_embed\.proj\.", "model.vision_model.embeddings.patch_embedding."),
    (_TOWER + r"pos_embed", "model.vision_model.embeddings.position_embedding.weight"),
    (_TOWER + r"norm\.", "model.vision_model.post_layernorm."),
    (r"gen_aligner\.", "model.generation_aligner."),
    (r"gen_head\.output_mlp_projector\.", "model.generation_head.proj_out."),
    (r"gen_head\.", "model.generation_head."),
    (r"gen_embed\.", "model.generation_embeddings."),
    (r"gen_vision_model\.encoder\.conv_blocks\.", "model.vqmodel.encoder.down."),
    (r"gen_vision_model\.decoder\.conv_blocks\.", "model.vqmodel.decoder.up."),
    (r"gen_vision_model\.", "model.vqmodel."),
    (r"language_model\.lm_head\.", "lm_head."),
    (r"language_model\.model\.", "model.language_model."),
    (r"aligner\.", "model.aligner."),
]
"""How an official name begins, and how transformers' does: the first rule that fits."""

_QKV = re.compile(_TOWER + r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)")
_MIDDLE = {"0": "block_1", "1": "attn_1", "2": "block_2"}


def transformers_names(name: str) -> list[str]:
    """What transformers calls a parameter; a joint projection of attention becomes three."""
    if match := _QKV.fullmatch(name):
        return [f"{_LAYERS}{match[1]}.self_attn.{letter}_proj.{match[2]}" for letter in "qkv"]
    for pattern, beginning in _RULES:
        if re.match(pattern, name):
            name = re.sub(f"^{pattern}", beginning, name)
            break
    if "aligner.layers." in name:
        layer = r"\.layers\.(\d+)\."
        return [re.sub(layer, lambda m: ".fc1." if m[1] == "0" else f".hidden_layers.{int(m[1]) // 2 - 1}.", name)]
    if "vqmodel" in name:
        name = re.sub(r"\.mid\.(\d)\.", lambda m: f".mid.{_MIDDLE[m[1]]}.", name)
        name = name.replace(".res.", ".block.")
    return [name]


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under transformers' names; the pooling head, which that lacks, is left out."""
    renamed = {}
    for name, tensor in state.items():
        if not name.startswith(POOL):
            names = transformers_names(name)
            parts = (
                [part.clone() for part in tensor.chunk(3)]
                if len(names) == 3
                else [tensor[0] if name.endswith("pos_embed") else tensor]
            )
            renamed |= zip(names, parts, strict=True)
    return renamed


def from_transformers(state: dict[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Our parameters ``names`` out of transformers' state dict: the inverse of ``to_transformers``."""
    renamed = {}
    for name in names:
        parts = [state[part] for part in transformers_names(name)]
        renamed[name] = torch.cat(parts) if len(parts) == 3 else parts[0]
        if name.endswith("pos_embed"):
            renamed[name] = renamed[name][None]
    return renamed


def understanding_vlm(model: JanusCore) -> JanusForConditionalGeneration:
    """The half of a Janus that understands, as transformers' class: what works around any VLM of transformers (a
    memory) works around it. The weights are shared. What makes images there is a stand-in that was never trained.

    Raises:
        ValueError: the model has something that transformers' class cannot express.
    """
    if model.config.flow and model.config.flow.begin_token:
        raise ValueError("transformers' Janus has no learned embedding in front of an image; this model does")
    config = replace(model.config, vq=STAND_IN, dit=None, flow=None, align_after=None)
    vlm = JanusForConditionalGeneration(TransformersConfig(**transformers_config(config))).to(model.device).eval()
    ours = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(UNDERSTANDING)}
    state = to_transformers(ours)
    check_names({name: tuple(tensor.shape) for name, tensor in state.items()}, _understanding_names(vlm), "the model")
    vlm.load_state_dict(state, strict=False, assign=True)
    ends = {"bos_token_id": config.tokens.bos, "eos_token_id": config.tokens.eos, "pad_token_id": config.tokens.pad}
    vlm.generation_config.update(**ends)
    return vlm


def _understanding_names(vlm: JanusForConditionalGeneration) -> dict[str, tuple[int, ...]]:
    parts = ("model.vision_model.", "model.aligner.", "model.language_model.", "lm_head.")
    return {name: tuple(tensor.shape) for name, tensor in vlm.state_dict().items() if name.startswith(parts)}


def config_of_transformers(data: dict[str, Any], tokens: JanusTokens, roles: tuple[str, str]) -> JanusConfig:
    """Our config for transformers' ``config.json``; KeyError names what it lacks."""
    vision, vq = data["vision_config"], data["vq_config"]
    multipliers = tuple(vq["channel_multiplier"])
    return JanusConfig(
        text=_text_of(data["text_config"]),
        encoder=EncoderConfig(
            "siglip",
            vision["image_size"],
            vision["patch_size"],
            vision["hidden_size"],
            vision["num_hidden_layers"],
            vision["num_attention_heads"],
            vision["mlp_ratio"],
        ),
        vq=VQConfig(
            base_channels=vq["base_channels"],
            encoder_ch_mult=multipliers,
            decoder_ch_mult=multipliers,
            res_blocks=vq["num_res_blocks"],
            z_channels=vq["latent_channels"],
            codebook_size=vq["num_embeddings"],
            codebook_dim=vq["embed_dim"],
        ),
        tokens=tokens,
        aligner_depth=vision["depth"],
        image_size=vq["num_patches"] * 2 ** (len(multipliers) - 1),
        roles=roles,
        system=UNDERSTANDING_PROMPT,
    )


def transformers_config(config: JanusConfig) -> dict[str, Any]:
    """transformers' ``config.json`` of a model: the inverse of ``config_of_transformers``.

    Raises:
        ValueError: the model has something that transformers' class cannot express.
    """
    encoder, text, vq = config.encoder, config.text, config.vq
    if encoder is None or encoder.kind != "siglip" or text.architecture != "llama" or not vq or vq.norm_groups != 32:
        raise ValueError("transformers' Janus has SigLIP, Llama and 32 groups per norm: use save_pretrained")
    return {
        "architectures": ["JanusForConditionalGeneration"],
        "model_type": "janus",
        "image_token_id": config.tokens.image,
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "llama",
            **{name: value for name, value in asdict(text).items() if name in _TEXT and name != "rope_theta"},
            "rope_parameters": {"rope_type": "default", "rope_theta": text.rope_theta},
            "tie_word_embeddings": False,
            "pad_token_id": config.tokens.pad,
            "bos_token_id": config.tokens.bos,
            "eos_token_id": config.tokens.eos,
        },
        "vision_config": {
            "model_type": "janus_vision_model",
            "hidden_size": encoder.hidden_size,
            "num_hidden_layers": encoder.num_layers,
            "num_attention_heads": encoder.num_heads,
            "image_size": encoder.image_size,
            "patch_size": encoder.patch_size,
            "mlp_ratio": encoder.mlp_ratio,
            "layer_norm_eps": 1e-6,
            "hidden_act": "gelu",
            "projection_dim": text.hidden_size,
            "depth": config.aligner_depth,
            "num_image_tokens": encoder.tokens,
        },
        "vq_config": {
            "model_type": "janus_vqgan",
            "embed_dim": vq.codebook_dim,
            "num_embeddings": vq.codebook_size,
            "latent_channels": vq.z_channels,
            "num_patches": config.side,
            "base_channels": vq.base_channels,
            "channel_multiplier": list(vq.encoder_ch_mult),
            "num_res_blocks": vq.res_blocks,
            "projection_dim": text.hidden_size,
            "num_hidden_layers": config.aligner_depth,
            "image_token_embed_dim": text.hidden_size,
        },
    }
