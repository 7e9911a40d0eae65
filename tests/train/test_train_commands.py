"""A navigator from nothing, as a user types it: the commands of ``data`` and ``train`` that take part, in miniature."""

import pytest

from dualsight.checkpoints.janus_vln import from_pretrained
from dualsight.cli import COMMANDS, main
from dualsight.data.r2r import read_episodes, read_ground_truth
from dualsight.data.trajectories import read_trajectories
from dualsight.train import stages

HOUSE = "--house-seeds=900002:900003"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """All that comes before the rounds."""
    work = tmp_path_factory.mktemp("work")
    main(["data", "walks", f"--out={work}/walks", HOUSE, "--walks-per-house=2"])
    for pathway in ("spatial", "semantic"):
        main(["train", pathway, f"--walks={work}/walks", f"--out={work}/{pathway}", "--steps=1", "--batch=2"])
    main(["data", "house", f"--out={work}/expert", HOUSE, "--episodes-per-house=2", "--instructions=2"])
    main(
        ["train", "imitate", f"--data=[{work}/expert]", f"--features={work}/features", f"--out={work}/navigator",
         f"--spatial={work}/spatial", f"--semantic={work}/semantic", "--steps=2", "--batch=2", "--workers=1"]
    )  # fmt: skip
    return work


def test_a_navigator_is_made(work):
    walks = read_trajectories(work / "expert")
    assert len(walks) == 2 and all(len(walk.instructions) == 2 for walk in walks)
    model, _ = from_pretrained(work / "navigator")
    assert model.config.behaviour == "paper"
    assert len(list((work / "features").rglob("*.safetensors"))) == 2  # encoded beside the training


def test_a_round_is_walked_by_the_navigator_and_labelled_by_the_expert(work):
    command = ["train", "dagger", f"--init={work}/navigator", f"--out={work}/round", HOUSE, "--episodes-per-house=1",
               "--instructions=2", "--beta=0.5", "--rows=1"]  # fmt: skip
    main(command)
    (walk,) = read_trajectories(work / "round")
    assert walk.id.startswith("dagger-") and len(walk.instructions) == 2
    assert walk.executed != walk.expert  # a navigator of one step is not right by chance
    before = (work / "round" / "annotations.json").read_text()
    main(command)
    assert (work / "round" / "annotations.json").read_text() == before


def test_rounds_follow_each_other_with_less_and_less_of_the_expert(work, monkeypatch, capsys):
    shares = []
    mixture = stages.Mixture
    monkeypatch.setattr(stages, "Mixture", lambda beta: shares.append(beta) or mixture(beta))
    out = work / "rounds"
    command = ["train", "rounds", f"--init={work}/navigator", f"--features={work}/features", f"--out={out}",
               f"--data=[{work}/expert]", "--house-seeds=900002:900004", "--rounds=2", "--beta=0.8", "--decay=0.25",
               "--episodes-per-house=1", "--instructions=1", "--steps=1", "--batch=2"]  # fmt: skip
    main(command)
    assert shares == [0.8, 0.2]
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "navigator1")
    ids = [walk.id for number in range(2) for walk in read_trajectories(out / f"walks{number}")]
    assert [name.split("-")[0] for name in ids] == ["round0", "round1"]
    assert "900002" in ids[0] and "900003" in ids[1]
    main(command)
    assert shares == [0.8, 0.2], "rounds that are done are not done again"


def test_several_processes_are_told_what_to_do(work, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="take `train dagger` and `train imitate` in turn"):
        stages.dagger(work / "navigator", [], work / "features", stages.Run(work / "x", 1), range(9))
    with pytest.raises(ValueError, match="2 houses are too few for 3 rounds"):
        stages.dagger(work / "navigator", [], work / "features", stages.Run(work / "x", 1), range(2))


def test_episodes_are_written_with_what_the_expert_does(tmp_path):
    main(["data", "episodes", f"--out={tmp_path}/a.json.gz", HOUSE, "--episodes-per-house=2"])
    truths = read_ground_truth(tmp_path / "a_gt.json.gz")
    assert [e.episode_id for e in read_episodes(tmp_path / "a.json.gz")] == list(truths)
    assert all(truth.actions[-1] == 0 and len(truth.locations) > 2 for truth in truths.values())


@pytest.mark.parametrize(
    "command", [(group, name) for group in ("data", "train") for name in COMMANDS[group] if name != "_help"]
)
def test_every_command_of_a_group_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0 and "usage:" in capsys.readouterr().out
