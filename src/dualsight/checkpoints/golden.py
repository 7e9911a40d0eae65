"""Parity with recorded outputs: run ours on a recording of somebody else's model and report the largest deviation.

A *golden* file is a safetensors file with the inputs and outputs of a reference implementation, tensors named by what
they are, its weights under ``weights.``, and ``config`` (JSON), ``seed`` and ``source`` in the metadata. The sections
of the config say which system was recorded, and so which runner of ``RUNNERS`` repeats it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors import safe_open
from torch import Tensor

from dualsight.checkpoints.weights import CheckpointError, WeightFiles, check_names
from dualsight.memory.window import WindowMemory
from dualsight.models.janus import Janus
from dualsight.models.janus_config import JanusConfig, JanusTextConfig, JanusTokens
from dualsight.models.janus_vln import JanusVLN
from dualsight.models.janus_vln_config import JanusVLNConfig, TextConfig, TokenIds, VisionConfig
from dualsight.models.janus_vln_release import greedy, look, new_release_memory, prefill, rope_positions
from dualsight.pathways.encoders import EncoderConfig
from dualsight.pathways.qwen_vit import patchify
from dualsight.pathways.vggt import VGGT, VGGTConfig, windowed
from dualsight.pathways.vq import UNUSED, VQConfig

TOLERANCE = 1e-5
"""Largest absolute deviation in float32. Token ids have to agree exactly."""
GUIDED = "cfg_logits"
"""Ends the name of logits under guidance, u + s (c - u): rounding errors of c and u count 2 s - 1 times in them, and so
does the tolerance. (The recording of Janus is itself 2.6e-5 away from what float64 gives, and so are we.)"""

WEIGHTS = "weights."
Outputs = Iterator[tuple[str, Tensor]]
"""What a runner yields: the name of a recorded tensor and our value for it."""


@dataclass
class ParityReport:
    """How far ours is from a recording, tensor by tensor."""

    path: Path
    source: str
    deviations: dict[str, float] = field(default_factory=dict)
    """Largest absolute difference of each floating-point tensor."""
    tolerances: dict[str, float] = field(default_factory=dict)
    """How large each may be."""
    agreements: dict[str, float] = field(default_factory=dict)
    """Share of equal elements of each integer tensor (token ids)."""

    @property
    def passed(self) -> bool:
        """Whether everything agrees; NaN does not."""
        near = all(deviation <= self.tolerances[name] for name, deviation in self.deviations.items())
        return near and all(agreement == 1 for agreement in self.agreements.values())

    def print(self, console: Console | None = None) -> None:
        """One line for each tensor and a verdict."""
        table = Table(title=f"{self.path.name}: {self.source}", title_justify="left")
        for column in ("tensor", "largest deviation", "allowed", "ids that agree"):
            table.add_column(column, justify="left" if column == "tensor" else "right")
        for name, deviation in self.deviations.items():
            allowed = self.tolerances[name]
            table.add_row(name, f"{deviation:.1e}", f"{allowed:.0e}", "", style=None if deviation <= allowed else "red")
        for name, agreement in self.agreements.items():
            table.add_row(name, "", "", f"{agreement:.1%}", style=None if agreement == 1 else "red")
        console = console or Console()
        console.print(table)
        console.print(f"[green]within {TOLERANCE:g}[/]" if self.passed else f"[red]beyond {TOLERANCE:g}[/]")


def run_parity(path: str | Path) -> ParityReport:
    """Repeat a recording with our code and print how near it comes; see ``measure_parity`` for what it raises."""
    report = measure_parity(path)
    report.print()
    return report


@torch.no_grad()
def measure_parity(path: str | Path) -> ParityReport:
    """Repeat a recording with our code.

    Raises:
        CheckpointError: the file is damaged, is no recording, or holds weights that are not its config's.
    """
    path = Path(path)
    names = WeightFiles(path).shapes  # also refuses what is not a safetensors file
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        recorded = {name: file.get_tensor(name) for name in names if not name.startswith(WEIGHTS)}
    if "config" not in metadata:
        raise CheckpointError(f"{path} is no recording: its metadata has no config")
    config = json.loads(metadata["config"])
    report = ParityReport(path, metadata.get("source", "unknown source"))
    for name, value in _runner(config, path)(config, recorded, path):
        compare(report, name, value, recorded[name], 2 * config["cfg_weight"] - 1 if name.endswith(GUIDED) else 1)
    return report


def compare(report: ParityReport, name: str, value: Tensor, expected: Tensor, amplified: float = 1) -> None:
    """Add one tensor to the report; its rounding errors are ``amplified`` so many times."""
    if value.shape != expected.shape:
        raise CheckpointError(f"{name} has shape {tuple(value.shape)}, recorded was {tuple(expected.shape)}")
    if expected.is_floating_point():
        report.deviations[name] = (value - expected).abs().max().item()
        report.tolerances[name] = amplified * TOLERANCE
    else:
        report.agreements[name] = (value == expected).float().mean().item()


def _runner(config: dict, path: Path) -> Callable[[dict, dict[str, Tensor], Path], Outputs]:
    for section, runner in RUNNERS.items():
        if section in config:
            return runner
    raise CheckpointError(f"{path}: nothing here repeats a recording whose config has {', '.join(sorted(config))}")


def weights_of(path: str | Path) -> dict[str, Tensor]:
    """The model's weights of a recording, under their own names."""
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if name.startswith(WEIGHTS)]  # noqa: SIM118
        return {name.removeprefix(WEIGHTS): file.get_tensor(name) for name in names}


def _load(model: torch.nn.Module, path: Path, ignore: str = "") -> None:
    weights = {name: tensor for name, tensor in weights_of(path).items() if not ignore or not name.endswith(ignore)}
    found, expected = ({name: tuple(t.shape) for name, t in state.items()} for state in (weights, model.state_dict()))
    check_names(found, expected, f"the weights of {path}")
    model.load_state_dict(weights)
    model.eval()


# --- JanusVLN ---------------------------------------------------------------------------------------------------------


def janus_vln_of(config: dict) -> JanusVLN:
    """The model of a recorded JanusVLN, with random weights."""
    vision, text, vggt = config["vision"], config["text"], config["vggt"]
    text_names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    text_names += ("num_key_value_heads", "rope_theta", "rms_norm_eps")
    vision_names = ("depth", "hidden_size", "intermediate_size", "num_heads", "patch_size", "spatial_merge_size")
    vision_names += ("temporal_patch_size", "window_size")
    return JanusVLN(
        JanusVLNConfig(
            vision=VisionConfig(
                **{name: vision[name] for name in vision_names},
                fullatt_block_indexes=tuple(vision["fullatt_block_indexes"]),
            ),
            text=TextConfig(
                **{name: text[name] for name in text_names},
                mrope_section=tuple(text["rope_scaling"]["mrope_section"]),
            ),
            vggt=VGGTConfig(
                image_size=vggt["img_size"],
                **{name: vggt[name] for name in vggt if name != "img_size"},
            ),
            merger_hidden=text["vggt_merger_hidden_dim"],
            lam=text["lam"],
            behaviour="release",
            initial=config["initial"],
            recent=config["recent"],
            num_history=config["num_history"],
            # no token ends a turn: what was recorded is a fixed number of greedy tokens
            tokens=TokenIds(text["image_token_id"], text["vision_start_token_id"], text["vision_end_token_id"], -1),
        )
    )


def _janus_vln(config: dict, recorded: dict[str, Tensor], path: Path) -> Outputs:
    """An episode in released behaviour: the scores of each step's prompt, and the tokens chosen after it."""
    model = janus_vln_of(config)
    _load(model, path)
    frames = recorded["frames"]
    memory = new_release_memory(model, *frames.shape[-2:])
    for step, frame in enumerate(frames):
        ids = recorded[f"step{step}.input_ids"][0]
        images = look(model, frame[None], memory)
        read = prefill(model, [ids], images, memory.grid)
        if step == 0:
            yield "step0.pixel_values", patchify(frame[None])[0]
            yield "step0.image_embeds_2d", memory.semantic[0][0]
            yield "step0.position_ids", rope_positions(ids, model.config.tokens.image, memory.grid)[:, None]
        yield f"step{step}.logits", model.lm_head(read.hidden)[0]
        yield f"step{step}.greedy", greedy(model, read, len(recorded[f"step{step}.greedy"]))[1][0]


# --- VGGT -------------------------------------------------------------------------------------------------------------


def vggt_of(config: dict) -> VGGT:
    """The model of a recorded streaming VGGT, with random weights."""
    return VGGT(
        VGGTConfig(
            image_size=config["img_size"],
            patch_size=config["patch_size"],
            embed_dim=config["embed_dim"],
            depth=config["depth"],
            num_heads=config["num_heads"],
            dino_depth=config["dino_depth"],
            dino_heads=config["dino_heads"],
            num_register_tokens=config["num_register_tokens"],
            heads=("camera", "point", "depth"),
            camera_depth=config["camera_trunk_depth"],
            camera_heads=config["camera_heads"],
            dpt_features=config["dpt_features"],
            dpt_channels=tuple(config["dpt_out_channels"]),
            dpt_layers=tuple(config["dpt_layers"]),
        )
    )


def _vggt(config: dict, recorded: dict[str, Tensor], path: Path) -> Outputs:
    """A walk streamed with eviction, its beginning in one pass both ways, and the heads on recorded features."""
    model = vggt_of(config)
    _load(model, path)
    aggregator, frames = model.aggregator, recorded["frames"]
    height, width = frames.shape[-2:]
    layers = range(config["depth"])
    shape = aggregator.memory_shape(layers, height, width)
    memory = WindowMemory(**shape, initial=config["initial"], recent=config["recent"])
    yield "streamed", torch.stack([torch.cat(aggregator.step(frame[None], memory, layers)) for frame in frames])
    for visibility in ("causal", "bidirectional"):
        batch = frames[None, : recorded[f"{visibility}_batch"].shape[1]]
        yield f"{visibility}_batch", torch.cat(aggregator(batch, visibility))
    features = [feature[None] for feature in recorded[config["heads_input"]]]
    # the released camera head looks back only; the dense heads look at one frame each
    yield (
        "pose_enc_iterations",
        torch.stack(model.get_submodule("camera_head")(features[-1][:, :, 0], windowed("causal", 1))),
    )
    dense = [features[layer] for layer in model.config.dpt_layers]
    for head in ("depth_head", "point_head"):
        values, confidence = model.get_submodule(head)(dense, height, width)
        yield f"{head}.values", values
        yield f"{head}.confidence", confidence


# --- Janus ------------------------------------------------------------------------------------------------------------


def janus_of(config: dict) -> Janus:
    """The model of a recorded Janus, with random weights."""
    official, siglip, vq = config["official"], config["siglip"], config["vq"]
    text = official["language_config"]
    names = [f.name for f in fields(JanusTextConfig) if f.name in text]
    nowhere = -1  # the recording's prompts come as ids: it needs no other tokens
    return Janus(
        JanusConfig(
            text=JanusTextConfig(**{name: text[name] for name in names}),
            encoder=EncoderConfig(
                "siglip",
                siglip["image_size"],
                siglip["patch_size"],
                siglip["width"],
                siglip["layers"],
                siglip["heads"],
                siglip["mlp_ratio"],
                pool=siglip["global_pool"] == "map",
            ),
            vq=VQConfig(
                base_channels=vq["base_channels"],
                encoder_ch_mult=tuple(vq["encoder_ch_mult"]),
                decoder_ch_mult=tuple(vq["decoder_ch_mult"]),
                z_channels=vq["z_channels"],
                codebook_size=vq["codebook_size"],
                codebook_dim=vq["codebook_embed_dim"],
            ),
            tokens=JanusTokens(
                text["bos_token_id"],
                text["eos_token_id"],
                config["pad_token_id"],
                config["begin_of_image_id"],
                nowhere,
                nowhere,
            ),
            aligner_depth=official["aligner_config"]["params"]["depth"],
            image_size=32,
        )
    )


def _janus(config: dict, recorded: dict[str, Tensor], path: Path) -> Outputs:
    """Answering about images, tokens of images and back, and two images drawn greedily with guidance."""
    model = janus_of(config)
    _load(model, path, ignore=UNUSED)
    images, ids, seen = (recorded[f"understanding.{name}"] for name in ("pixel_values", "input_ids", "image_mask"))
    features = model.vision_model(images[:, 0])
    yield "understanding.vision_features", features
    yield "understanding.aligned", model.aligner(features)
    hidden = model.read(model.embed(ids, images[:, 0], seen), model.begin(*ids.shape))
    yield "understanding.logits", model.language_model.lm_head(hidden)

    codec = model.gen_vision_model
    indices = codec.encode(recorded["vq.images"])
    side = math.isqrt(indices.shape[1])
    yield "vq.indices", indices
    quantised = codec.lookup(indices)
    yield "vq.quantised", quantised.transpose(1, 2).unflatten(2, (side, side))
    yield "vq.decoded", codec.decode(indices, (side, side))

    for name in ("generation0", "generation1"):
        prompt = recorded[f"{name}.prompt_ids"]
        unconditional = torch.full_like(prompt, config["pad_token_id"])
        unconditional[[0, -1]] = prompt[[0, -1]]
        rows = torch.stack([prompt, unconditional])
        reading = model.begin(2, len(prompt) + model.config.drawn_tokens)
        hidden = model.read(model.embed(rows), reading)
        scores, tokens = [], []
        for _ in range(model.config.drawn_tokens):
            conditional, without = model.gen_head(hidden[:, -1]).float()
            scores.append(without + config["cfg_weight"] * (conditional - without))
            tokens.append(scores[-1].argmax())
            hidden = model.read(model.embed_codes(tokens[-1].expand(2, 1)), reading)
        yield f"{name}.cfg_logits", torch.stack(scores)
        yield f"{name}.tokens", torch.stack(tokens)
        yield f"{name}.image", codec.decode(torch.stack(tokens)[None], (side, side))


# Which runner repeats a recording, by a key that only its config has.
RUNNERS: dict[str, Callable[[dict, dict[str, Tensor], Path], Outputs]] = {
    "vggt": _janus_vln,
    "camera_trunk_depth": _vggt,
    "official": _janus,
}
