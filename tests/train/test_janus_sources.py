"""From names of data to a Janus that can be trained on it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualsight.checkpoints.codecs import save_codec
from dualsight.checkpoints.janus import from_pretrained, save_pretrained
from dualsight.checkpoints.weights import WeightFiles, save_weights
from dualsight.cli import main
from dualsight.data.rooms import RoomPicture, write_rooms
from dualsight.data.scene_labels import LabelledScenes
from dualsight.inference.flow import draw_by_flow
from dualsight.models.janus import Janus
from dualsight.models.janus_config import TINY, TINY_FLOW
from dualsight.models.janus_dit import JanusDiT
from dualsight.models.janus_flow import JanusFlow
from dualsight.pathways.dit import DIT_XL
from dualsight.pathways.encoders import Encoder
from dualsight.pathways.vae import VAE, PretrainedVAE, VAEConfig
from dualsight.pathways.vq import VQTokenizer
from dualsight.train.contrastive import CaptionBatch, ContrastivePretraining, pretrain_encoder
from dualsight.train.figures import FigurePretraining, LabelledBatch, pretrain_on_figures
from dualsight.train.janus_sources import (
    Concatenation,
    Frames,
    new_janus,
    open_sources,
    pictures_of,
    swap_generation,
    tiny,
)
from dualsight.train.janus_stages import STAGES, train_stage
from dualsight.train.trainer import Run
from dualsight.types import Conversation, Drawing
from tests.train.learning import learn

WORDS_FROM = "dualsight.train.janus_sources.WORDS_FROM"


@pytest.fixture(scope="module")
def scenes():
    return open_sources(["scenes"])


@pytest.fixture
def janus(scenes, monkeypatch):
    monkeypatch.setattr(WORDS_FROM, 60)
    return new_janus(tiny("siglip", "vq"), scenes, None, None)


def test_scenes_are_there_by_name(scenes):
    assert isinstance(scenes["understanding"][3], Conversation)
    assert isinstance(scenes["generation"][3], Drawing)
    assert open_sources(["scenes"], seed=1)["generation"][3].prompt != scenes["generation"][3].prompt


def test_files_of_foreign_columns_are_read_and_named(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures/a.png")
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a red cat", "file": "a.png"}\n' * 2)
    columns = {"prompt": "text", "image": "file"}
    found = open_sources([str(path), "scenes"], columns=columns, images=tmp_path / "pictures")["generation"]
    assert found[1].prompt == "a red cat"
    assert [found.where(index) for index in (1, 2)] == [f"{path}, line 2", ""], "scenes have no file"


def test_train_janus_reads_them(tmp_path, janus, capsys):
    save_pretrained(*janus, tmp_path / "janus")
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a red star", "file": "../a.png"}\n')
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "pictures").mkdir()
    command = ["train", "janus", f"--init={tmp_path / 'janus'}", f"--data={path}", f"--out={tmp_path / 'out'}"]
    command += ['--columns={"prompt": "text", "image": "file"}', f"--images={tmp_path / 'pictures'}", "--steps=1"]
    with pytest.raises(SystemExit):
        main([*command, f"--root={tmp_path / 'pictures'}"])
    assert "leads out of" in capsys.readouterr().err
    main([*command, "--batch=1", "--recipe=tiny"])
    assert (tmp_path / "out/model.safetensors").exists()


def test_sources_stand_one_after_the_other():
    joined = Concatenation(["ab", "c", "def"])
    assert [joined[i] for i in range(len(joined))] == list("abcdef")


def test_what_is_no_source_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no shards of rooms in .*: run `dualsight data rooms` first"):
        open_sources([f"rooms:{tmp_path}"])
    rooms = tmp_path / "rooms-000000.safetensors"
    write_rooms(rooms, [RoomPicture(np.zeros((64, 64, 3), np.uint8), "kitchen", (("table", "red", 0.3),))])
    assert set(open_sources([f"rooms:{tmp_path}"])) == {"understanding", "generation"}
    mixed = open_sources(["scenes", f"room-talk:{tmp_path}"])
    assert len(mixed["understanding"]) - len(mixed["generation"]) == len(mixed["generation"]) // 3
    with pytest.raises(OSError, match=r"nowhere\.jsonl: no such file"):
        open_sources([str(tmp_path / "nowhere.jsonl")])
    with pytest.raises(ValueError, match="holds no drawings"):
        pictures_of({})


def test_a_new_model_knows_the_words_of_its_data(janus, scenes):
    model, processor = janus
    assert isinstance(model, Janus)
    for kind in ("understanding", "generation"):
        for index in range(5):
            example = scenes[kind][index]
            ids = processor.drawing(example.prompt) if kind == "generation" else processor.conversation(example)[0]
            assert processor.tokenizer.unk_token_id not in ids


def test_a_new_model_takes_a_codec_and_an_encoder(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(WORDS_FROM, 20)
    codec, encoder = VQTokenizer(TINY.vq), Encoder(TINY.encoder)
    save_codec(codec, tmp_path / "vq")
    save_weights(encoder.state_dict(), tmp_path / "encoder")
    model, _ = new_janus(TINY, scenes, tmp_path / "vq", tmp_path / "encoder")
    assert torch.equal(model.gen_vision_model.quantize.embedding.weight, codec.quantize.embedding.weight)
    assert torch.equal(model.vision_model.vision_tower.pos_embed, encoder.vision_tower.pos_embed)
    other = replace(TINY, vq=replace(TINY.vq, codebook_size=64))
    with pytest.raises(ValueError, match=r"holds a codec of .*codebook_size=2048.*model's is .*codebook_size=64"):
        new_janus(other, scenes, tmp_path / "vq", None)


def test_the_ways_of_seeing_and_making_swap(scenes, monkeypatch):
    monkeypatch.setattr(WORDS_FROM, 20)
    assert isinstance(new_janus(tiny("clip", "dit"), scenes, None, None)[0], JanusDiT)
    assert isinstance(new_janus(tiny("siglip", "flow"), scenes, None, None)[0], JanusFlow)
    assert tiny("none", "vq").encoder is None
    assert tiny("dinov2", "vq").encoder.kind == "dinov2"


def test_a_new_janusflow_takes_a_vae_and_learns_by_the_command(tmp_path, monkeypatch):
    """What `train new` and `train janus` write; the words of few scenes suffice."""
    monkeypatch.setattr(WORDS_FROM, 20)
    codec = VAE(TINY_FLOW.flow.vae)
    save_codec(codec, tmp_path / "vae")
    save_codec(VQTokenizer(TINY.vq), tmp_path / "vq")
    new = ["train", "new", "--data=scenes", "--generation=flow"]
    main([*new, f"--codec={tmp_path}/vae", f"--out={tmp_path}/new"])
    model, _ = from_pretrained(tmp_path / "new")
    assert isinstance(model, JanusFlow)
    assert torch.equal(model.gen_vae.encoder.conv_in.weight, codec.encoder.conv_in.weight)
    main(["train", "janus", f"--init={tmp_path}/new", f"--out={tmp_path}/out", "--data=scenes", "--recipe=tiny",
          "--stage=II", "--steps=1", "--batch=2", "--capacity=200"])  # fmt: skip
    assert isinstance(from_pretrained(tmp_path / "out")[0], JanusFlow)
    with pytest.raises(ValueError, match=r"holds a codec of VQConfig.*; the model's is VAEConfig"):
        new_janus(TINY_FLOW, {}, tmp_path / "vq", None)


def test_every_part_is_made_from_pictures_of_ones_own(tmp_path):
    """From a file with other names and pictures elsewhere: codec, encoder and a Janus that knows its words."""
    (tmp_path / "pictures").mkdir()
    colors = ("teal", "plum", "rust", "sand")
    for index in range(len(colors)):
        Image.new("RGB", (64, 64), (60 * index, 90, 120)).save(tmp_path / f"pictures/{index}.png")
    rows = [json.dumps({"says": f"a {color} wall", "jpg": f"{index}.png"}) for index, color in enumerate(colors)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    ours = [
        f"--data={tmp_path}/rows.jsonl",
        f"--images={tmp_path}/pictures",
        '--columns={"prompt": "says", "image": "jpg"}',
    ]
    main(["train", "codec", *ours, f"--out={tmp_path}/vq", "--steps=1", "--batch=2"])
    main(["train", "encoder", *ours, f"--out={tmp_path}/encoder", "--steps=1", "--batch=2"])
    parts = [f"--codec={tmp_path}/vq", f"--encoder={tmp_path}/encoder"]
    main(["train", "new", *ours, *parts, f"--root={tmp_path}/pictures", f"--out={tmp_path}/new"])
    _, processor = from_pretrained(tmp_path / "new")
    assert set(colors) <= processor.tokenizer.get_vocab().keys()


def test_another_generation_pathway_learns_alone(janus, scenes, tmp_path):
    """`train swap`, then the stage that trains only what is new: the model answers as before."""
    model, processor = janus
    save_pretrained(model, processor, tmp_path / "model")
    save_codec(VAE(VAEConfig(base_channels=8)), tmp_path / "codec")
    main(["train", "swap", f"--init={tmp_path}/model", f"--codec={tmp_path}/codec", f"--out={tmp_path}/swapped"])
    main(["train", "janus", f"--init={tmp_path}/swapped", f"--out={tmp_path}/out", "--data=scenes", "--recipe=tiny",
          "--stage=swap", "--steps=2", "--batch=2", "--capacity=200", "--align-after=3"])  # fmt: skip
    before, after = (from_pretrained(tmp_path / name)[0] for name in ("swapped", "out"))
    assert isinstance(after, JanusDiT) and (before.config.align_after, after.config.align_after) == (None, 3)
    kept = after.state_dict()
    changed = {name.split(".")[0] for name, tensor in before.state_dict().items() if not tensor.equal(kept[name])}
    assert changed == {"dit"}
    for name, tensor in model.state_dict().items():
        assert name.startswith("gen_") or tensor.equal(kept[name])


def test_at_full_size_the_codec_is_one_of_diffusers(janus, tmp_path, monkeypatch):
    """A DiT-XL/2 in the latents of a codec that is fetched by its name, and is no part of the model."""
    model, processor = janus
    save_pretrained(model, processor, tmp_path / "model")
    asked_for = []

    class Fetched(torch.nn.Module):
        channels, factor = 4, 4

        def __init__(self, name):
            super().__init__()
            asked_for.append(name)
            self.vae = VAE(VAEConfig(base_channels=8))

        def decode(self, latents):
            return self.vae.decode(latents)

    monkeypatch.setattr("dualsight.train.janus_sources.DiffusersVAE.from_pretrained", Fetched)
    monkeypatch.setattr("dualsight.train.janus_sources.DIT_XL", replace(DIT_XL, depth=2, width=64, heads=4))
    swapped, its_processor = swap_generation(tmp_path / "model", Path("stabilityai/sdxl-vae"))
    assert asked_for == ["stabilityai/sdxl-vae"]
    assert swapped.config.dit.vae == PretrainedVAE("stabilityai/sdxl-vae", 4, 4)
    sizes = swapped.config.dit.dit
    assert (sizes.depth, sizes.condition_width, sizes.condition_layers) == (2, 192, (0, 1, 2, 3, 4))
    assert not [name for name in swapped.state_dict() if "vae" in name]
    (image,) = draw_by_flow(swapped, its_processor, ["a red circle"], steps=1)
    assert image.shape == (64, 64, 3)
    save_pretrained(swapped, its_processor, tmp_path / "swapped")
    again, _ = from_pretrained(tmp_path / "swapped")
    assert again.config == swapped.config


def test_a_flow_inside_the_language_model_is_swapped_too(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(WORDS_FROM, 20)
    model, processor = new_janus(TINY_FLOW, scenes, None, None)
    save_pretrained(model, processor, tmp_path / "model")
    save_codec(VAE(VAEConfig(base_channels=8)), tmp_path / "vae")
    swapped, _ = swap_generation(tmp_path / "model", tmp_path / "vae")
    assert isinstance(swapped, JanusDiT) and swapped.config.flow is None
    assert torch.equal(swapped.language_model.lm_head.weight, model.language_model.lm_head.weight)


def test_what_cannot_be_swapped_is_said(janus, scenes, tmp_path):
    save_pretrained(*new_janus(tiny("none", "vq"), scenes, None, None), tmp_path / "shared")
    save_pretrained(*janus, tmp_path / "model")
    save_codec(VAE(VAEConfig(base_channels=8)), tmp_path / "vae")
    save_codec(VQTokenizer(TINY.vq), tmp_path / "vq")
    with pytest.raises(ValueError, match="`train swap` gives it one"):
        train_stage(*janus, STAGES["tiny"]["swap"], {}, Run(tmp_path, 1, 1e-3))
    with pytest.raises(ValueError, match="nothing to swap"):
        swap_generation(tmp_path / "shared", tmp_path / "vae")
    released = replace(TINY_FLOW, flow=replace(TINY_FLOW.flow, begin_token=True))
    save_pretrained(*new_janus(released, scenes, None, None), tmp_path / "released")
    with pytest.raises(ValueError, match="learned token in front of images"):
        swap_generation(tmp_path / "released", tmp_path / "vae")
    with pytest.raises(ValueError, match="expected a VAE"):
        swap_generation(tmp_path / "model", tmp_path / "vq")


def test_frames_for_a_codec_have_one_size():
    rng = np.random.default_rng(0)
    drawings = [Drawing("a", rng.integers(0, 255, (h, w, 3), np.uint8)) for h, w in ((64, 64), (20, 90))]
    frames = Frames({"generation": drawings})
    assert np.array_equal(frames[0], drawings[0].image)
    assert frames[1].shape == (64, 64, 3)


def test_an_encoder_learns_which_caption_belongs_to_which_picture(janus, scenes, tmp_path):
    model, processor = janus
    torch.manual_seed(0)
    training = ContrastivePretraining(model.vision_model, processor.config.text.vocab_size)
    batch = CaptionBatch(processor)([scenes["generation"][i] for i in range(8)])
    losses = learn(training, batch, 40, 1e-3)
    assert losses[-1]["loss"] < 0.5 * losses[0]["loss"]
    assert losses[-1]["found"] > 0.5, "by chance one of eight"
    folder = pretrain_encoder(model.vision_model, processor, scenes["generation"], Run(tmp_path, 1, batch=2))
    assert (folder / "model.safetensors").exists()


def test_an_encoder_learns_what_patches_show(janus, tmp_path):
    model, processor = janus
    scenes = LabelledScenes(8, 3)
    batch = LabelledBatch(processor)([scenes[i] for i in range(8)])
    assert batch["words"].shape == (8, 64, 4)
    torch.manual_seed(0)
    training = FigurePretraining(model.vision_model)
    losses = learn(training, batch, 80, 2e-3)
    assert losses[-1]["loss"] < 0.6 * losses[0]["loss"]
    assert losses[-1]["color_right"] > 0.6, "by chance one of eight"
    before = model.vision_model.vision_tower.pos_embed.clone()
    folder = pretrain_on_figures(model.vision_model, processor, Run(tmp_path, 1, batch=2))
    after = WeightFiles(folder).read(["vision_tower.pos_embed"])["vision_tower.pos_embed"]
    assert not torch.equal(before, after)


def test_padding_of_captions_changes_nothing(janus, scenes):
    model, processor = janus
    training = ContrastivePretraining(model.vision_model, processor.config.text.vocab_size).eval()
    batch = CaptionBatch(processor)([scenes["generation"][i] for i in range(3)])
    longer = {
        **batch,
        "ids": torch.nn.functional.pad(batch["ids"], (0, 5), value=7),
        "there": torch.nn.functional.pad(batch["there"], (0, 5)),
    }
    with torch.no_grad():
        assert float(training(**batch)["loss"]) == pytest.approx(float(training(**longer)["loss"]), abs=1e-4)
