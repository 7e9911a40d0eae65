"""Janus on disk: the three layouts, there and back, and what is wrong with a folder."""

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, JanusForConditionalGeneration

from dualsight.checkpoints.janus import (
    FIRST_ROLES,
    PRO_ROLES,
    config_of_official,
    config_of_transformers,
    from_pretrained,
    from_transformers,
    official_config,
    roles_of,
    save_official,
    save_pretrained,
    save_transformers,
    to_official_flow,
    to_transformers,
    tokens_of,
    transformers_config,
    understanding_vlm,
)
from dualsight.checkpoints.weights import CheckpointError, save_weights
from dualsight.inference.image import draw_codes
from dualsight.models.janus import JANUS_1_3B, JANUS_PRO_1B, JANUS_PRO_7B, Janus
from dualsight.models.janus_config import JANUS_FLOW_1_3B, UNDERSTANDING_PROMPT
from dualsight.models.janus_flow import JanusFlow
from dualsight.models.janus_processor import JanusProcessor
from dualsight.pathways.vae import VAEConfig
from dualsight.pathways.vq import UNUSED
from dualsight.types import IMAGE_MARK, Conversation, Turn
from tests.models.janus_tiny import config, tiny, tokenizer

KEYS = Path(__file__).parent.parent / "golden" / "janus_keys.json.gz"


def same(ours, theirs):
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items()) and ours.keys() == theirs.keys()


@pytest.mark.parametrize(("name", "size"), [("janus_pro_1b", JANUS_PRO_1B), ("janus_pro_7b", JANUS_PRO_7B)])
def test_every_released_key_is_accounted_for(name, size):
    released = {key: tuple(shape) for key, shape in json.loads(gzip.decompress(KEYS.read_bytes()))[name].items()}
    with torch.device("meta"):
        ours = {key: tuple(tensor.shape) for key, tensor in Janus(size).state_dict().items()}
    extra = {key for key in released if key.endswith(UNUSED)}
    assert len(extra) == 1
    assert ours == {key: shape for key, shape in released.items() if key not in extra}


@pytest.mark.parametrize("size", [JANUS_PRO_1B, JANUS_PRO_7B, JANUS_1_3B])
def test_official_configs_go_there_and_back(size):
    assert config_of_official(official_config(size), size.tokens, size.roles) == size


def test_an_official_config_leaves_much_to_llamas_defaults():
    """The 7B's file states neither the width of its MLP nor its key heads."""
    data = official_config(JANUS_PRO_7B)
    for name in ("intermediate_size", "num_key_value_heads", "rms_norm_eps", "rope_theta"):
        del data["language_config"][name]
    assert config_of_official(data, JANUS_PRO_7B.tokens, JANUS_PRO_7B.roles) == JANUS_PRO_7B


def test_what_a_layout_cannot_express_is_refused():
    with pytest.raises(ValueError, match="use save_pretrained"):
        official_config(config())
    with pytest.raises(ValueError, match="use save_pretrained"):
        transformers_config(config(encoder=None))


def test_our_own_layout_goes_there_and_back(tmp_path):
    model, processor = tiny()
    save_pretrained(model, processor, tmp_path)
    again, its_processor = from_pretrained(tmp_path)
    assert same(model.state_dict(), again.state_dict())
    assert again.config == model.config
    assert its_processor.drawing("a red cat") == processor.drawing("a red cat")


@torch.no_grad()
def test_transformers_computes_what_we_compute(tmp_path):
    model, processor = tiny()
    save_transformers(model, processor, tmp_path, dtype=None)
    theirs, info = JanusForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    theirs.eval()
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]

    images = torch.rand(2, 3, 32, 32) * 2 - 1
    seen = theirs.model.get_image_features(images).pooler_output
    assert (seen - model.see(images)).abs().max() < 1e-5

    ids = torch.randint(8, 30, (2, 30))
    ids[:, 4:20] = model.config.tokens.image
    logits = theirs(input_ids=ids, pixel_values=images, attention_mask=torch.ones_like(ids)).logits
    hidden = model.read(model.embed(ids, images), model.begin(2, 30))
    assert (logits - model.language_model.lm_head(hidden)).abs().max() < 1e-5

    codes = torch.randint(0, model.config.vq.codebook_size, (1, model.config.drawn_tokens))
    side = model.config.side
    decoded = model.gen_vision_model.decode(codes, (side, side))
    assert (theirs.decode_image_tokens(codes).movedim(-1, 1) - decoded).abs().max() < 1e-5


@torch.no_grad()
def test_the_half_that_understands_works_around_transformers():
    """Of any Janus with SigLIP and Llama, whatever its image generation; the logits are ours."""
    model, _ = tiny(vq=replace(config().vq, norm_groups=8))
    vlm = understanding_vlm(model)
    pixels = torch.randn(1, 3, 32, 32)
    tokens = model.config.tokens
    ids = torch.tensor([[tokens.bos, tokens.begin_image, *[tokens.image] * 16, tokens.end_image, 12, 13, 14]])
    with torch.no_grad():
        hidden = model.read(model.embed(ids, pixels), model.begin(1, ids.shape[1]))
        expected = model.language_model.lm_head(hidden)
        torch.testing.assert_close(vlm(input_ids=ids, pixel_values=pixels).logits, expected, atol=1e-5, rtol=1e-5)
    assert vlm.generation_config.eos_token_id == tokens.eos
    with pytest.raises(ValueError, match="SigLIP, Llama"):
        understanding_vlm(tiny(encoder=replace(config().encoder, kind="dinov2"))[0])


def test_transformers_layout_goes_there_and_back(tmp_path):
    model, processor = tiny()
    save_transformers(model, processor, tmp_path, dtype=None)
    again, its_processor = from_pretrained(tmp_path)
    assert same(model.state_dict(), again.state_dict())
    # what transformers' config has no field for is looked up in the tokenizer, or the released value
    assert again.config == replace(model.config, system=UNDERSTANDING_PROMPT)
    assert its_processor.config.tokens == processor.config.tokens


@pytest.mark.parametrize("roles", [PRO_ROLES, FIRST_ROLES, ("Human", "Robot")])
def test_roles_are_those_it_was_trained_with(tmp_path, roles):
    model, processor = tiny(roles=roles)
    for save in (save_transformers, save_pretrained):
        save(model, processor, tmp_path / save.__name__, dtype=None)
        assert from_pretrained(tmp_path / save.__name__)[1].config.roles == roles
        other = from_pretrained(tmp_path / save.__name__, roles=("A", "B"))[1]
        assert other.config.roles == ("A", "B"), "unless one says otherwise"
    assert processor.tokenizer.chat_template is None, "the tokenizer at hand is not changed"


@torch.no_grad()
def test_transformers_own_programs_run_what_is_written(tmp_path):
    """Its processor makes our inputs, but for the first token, which released tokenizers add; its generate() draws."""
    model, processor = tiny()
    save_transformers(model, processor, tmp_path, dtype=None)
    theirs, vlm = AutoProcessor.from_pretrained(tmp_path), JanusForConditionalGeneration.from_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this"}]}]
    prompt = theirs.apply_chat_template(talk, add_generation_prompt=True)
    inputs = theirs(text=prompt, images=[image], return_tensors="pt")
    ours = processor.prompts([Conversation((Turn("user", f"{IMAGE_MARK}\nwhat is this"),), (image,))])
    assert torch.equal(inputs["input_ids"][0], ours.ids[0, 1:])
    torch.testing.assert_close(inputs["pixel_values"], ours.images, atol=1e-5, rtol=0)
    ids = torch.tensor([processor.drawing("a red cat")])
    greedy = {"generation_mode": "image", "do_sample": False, "guidance_scale": 5}
    drawn = vlm.generate(ids, attention_mask=torch.ones_like(ids), **greedy)
    codes = draw_codes(model, processor, ["a red cat"], temperature=0)
    assert torch.equal(drawn.flatten()[-codes.shape[1] :], codes[0])


def test_what_only_training_needs_is_for_our_own_layout(tmp_path):
    model, processor = tiny(align_after=1)
    save_transformers(model, processor, tmp_path / "theirs", dtype=None)
    save_pretrained(model, processor, tmp_path / "ours")
    theirs, ours = (from_pretrained(tmp_path / name)[0] for name in ("theirs", "ours"))
    assert ours.config == model.config and same(model.state_dict(), ours.state_dict())
    assert (ours.config.align_after, theirs.config.align_after) == (1, None)
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("repa_head.")}
    assert len(kept) < len(model.state_dict()) and same(kept, theirs.state_dict())


def test_names_go_to_transformers_and_back_at_full_size():
    with torch.device("meta"):
        state = Janus(JANUS_PRO_1B).state_dict()
    kept = {name: tensor for name, tensor in state.items() if "attn_pool" not in name}
    theirs = to_transformers(state)
    back = from_transformers(theirs, kept)
    assert {name: t.shape for name, t in back.items()} == {name: t.shape for name, t in kept.items()}
    with torch.device("meta"):
        from transformers import JanusConfig

        made = transformers_config(JANUS_PRO_1B)
        stock_model = JanusForConditionalGeneration(
            JanusConfig(**{k: v for k, v in made.items() if k not in ("architectures", "model_type")})
        )
    assert {name: t.shape for name, t in theirs.items()} == {
        name: t.shape for name, t in stock_model.state_dict().items()
    }
    assert config_of_transformers(made, JANUS_PRO_1B.tokens, JANUS_PRO_1B.roles) == replace(
        JANUS_PRO_1B, encoder=replace(JANUS_PRO_1B.encoder, pool=False)
    )


def test_an_official_folder_goes_there_and_back(tmp_path, monkeypatch):
    """With a small SigLIP and VQ in place of the released sizes, which the official configs do not state."""
    small = config()
    encoder = replace(small.encoder, pool=True)
    monkeypatch.setattr("dualsight.checkpoints.janus.SIGLIP_LARGE", encoder)
    monkeypatch.setattr("dualsight.checkpoints.janus.VQConfig", lambda **sizes: replace(small.vq, **sizes))
    model, processor = tiny(encoder=encoder)
    save_official(model, processor, tmp_path, dtype=None)
    written = load_file(tmp_path / "model.safetensors")
    assert same(model.state_dict(), written), "our names are the official ones"
    again, _ = from_pretrained(tmp_path, roles=("User", "Assistant"))
    assert same(model.state_dict(), again.state_dict())
    assert again.config.roles == ("User", "Assistant")


def test_the_size_of_janusflow():
    """The released state dict is not on record. Derived: SigLIP (with its pooling head) and language model are those of
    Janus-Pro-1B, whose released keys are; both ends of the flow are counted by hand in ``test_shallow_uvit``; the rest
    are the layers that stand between. Community reports say "about 2.05 B"."""
    released = json.loads(gzip.decompress(KEYS.read_bytes()))["janus_pro_1b"]
    shared = sum(
        math.prod(shape) for name, shape in released.items() if name.startswith(("vision_model.", "language_model."))
    )
    assert shared == 303_688_704 + 12_595_200 + 1_233_225_728 + 419_430_400
    ends = 21_614_336 + 50_561_296
    aligners = (1024 * 2048 + 2048) + (768 * 2048 + 2048) + (2048 * 768 + 768)
    begin, norm = 2048, 2048
    with torch.device("meta"):
        model = JanusFlow(JANUS_FLOW_1_3B)
    assert sum(p.numel() for p in model.parameters()) == shared + ends + aligners + begin + norm == 2_046_367_504
    names = to_official_flow(model.state_dict())
    assert {name.split(".")[0] for name in names} == {
        "vision_und_enc_model", "vision_und_enc_aligner", "beg_of_und_embed", "vision_gen_enc_model",
        "vision_gen_enc_aligner", "vision_gen_dec_aligner_norm", "vision_gen_dec_aligner", "vision_gen_dec_model",
        "language_model",
    }  # fmt: skip
    assert {"vision_und_enc_aligner.weight", "vision_und_enc_model.vision_tower.pos_embed"} <= names.keys()


def test_official_janusflow_configs_go_there_and_back():
    size = JANUS_FLOW_1_3B
    data = official_config(size)
    assert config_of_official(data, size.tokens, size.roles) == size
    for name in ("vision_gen_enc_config", "vision_gen_dec_config"):
        data[name]["params"] = {}
    assert config_of_official(data, size.tokens, size.roles) == size, "what a config leaves out is as released"
    data["vision_gen_enc_config"]["params"] = {"stride": 4}
    with pytest.raises(ValueError, match="stride of vision_gen_enc_config is 4; JanusFlow was only released with 2"):
        config_of_official(data, size.tokens, size.roles)
    for changes in ({"flow": replace(size.flow, vae=VAEConfig())}, {"aligner_depth": 2}):
        with pytest.raises(ValueError, match="use save_pretrained"):
            official_config(replace(size, **changes))


def test_the_official_layout_of_janusflow_goes_there_and_back(tmp_path, monkeypatch):
    """A small stand-in for the released size, which alone the official code knows; REPA's head is not for it."""
    small, encoder = config(), replace(config().encoder, pool=True)
    flow = replace(JANUS_FLOW_1_3B.flow, width=16)
    release = replace(JANUS_FLOW_1_3B, text=small.text, encoder=encoder, flow=flow, tokens=small.tokens, image_size=64)
    monkeypatch.setattr("dualsight.checkpoints.janus.SIGLIP_LARGE", encoder)
    monkeypatch.setattr("dualsight.checkpoints.janus.JANUS_FLOW_1_3B", release)
    torch.manual_seed(0)
    model = JanusFlow(replace(release, align_after=2))
    save_official(model, JanusProcessor(model.config, tokenizer()), tmp_path, dtype=None)
    again, processor = from_pretrained(tmp_path)
    assert again.config == release and processor.config.roles == FIRST_ROLES
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("repa_head.")}
    assert same(kept, again.state_dict())
    with pytest.raises(ValueError, match="no learned embedding in front of an image"):
        understanding_vlm(again)
    written = load_file(tmp_path / "model.safetensors")
    del written["beg_of_und_embed"]
    save_weights(written, tmp_path)
    with pytest.raises(CheckpointError, match=r"missing \(1\): beg_of_und_embed"):
        from_pretrained(tmp_path)


def test_tokens_and_roles_come_from_the_tokenizer():
    plain = tokenizer()
    assert tokens_of(plain) == config().tokens
    assert roles_of(plain) == FIRST_ROLES
    assert roles_of(tokenizer(roles=PRO_ROLES)) == PRO_ROLES
    plain.chat_template = "{{ '<|User|>: ' }}"
    assert roles_of(plain) == PRO_ROLES
    foreign = tokenizer()
    foreign.get_vocab = lambda: {"a": 0}
    with pytest.raises(CheckpointError, match=r"lacks .*begin_of_image"):
        tokens_of(foreign)


def test_folders_that_hold_no_janus(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="'bert', which is no Janus"):
        from_pretrained(tmp_path)
    model, processor = tiny()
    save_pretrained(model, processor, tmp_path)
    wrong = {**model.config.to_dict(), "image_size": 4, "aligner_depth": 3}
    (tmp_path / "config.json").write_text(json.dumps(wrong))
    with pytest.raises(CheckpointError, match=r"missing .*aligner"):
        from_pretrained(tmp_path)
    del wrong["text"]
    (tmp_path / "config.json").write_text(json.dumps(wrong))
    with pytest.raises(CheckpointError, match=r"is not a Janus config: .*text"):
        from_pretrained(tmp_path)


def test_a_tokenizer_that_is_gone_is_named(tmp_path):
    model, processor = tiny()
    save_pretrained(model, processor, tmp_path)
    for file in tmp_path.glob("token*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="no readable tokenizer"):
        from_pretrained(tmp_path)
