"""Agents by name, what a results file says of them, and the lines that people and machines read."""

import pytest

from dualsight.bench.house import describe_agent, episode_line, evaluate_houses, last_line, make_agent, summary_table
from dualsight.bench.provenance import DifferentRun
from dualsight.envs.box_room import open_box
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.protocols import HOUSE
from dualsight.inference.navigator import NavigatorAgent
from dualsight.inference.rollout import ExpertAgent, ForwardAgent, RandomAgent

from test_vlnce import make_episodes  # isort: skip  (a neighbour)


def environments(count=2):
    return [HouseEnvironment(HOUSE, open_box) for _ in range(count)]


@pytest.mark.parametrize("name, kind", [("expert", ExpertAgent), ("random", RandomAgent), ("forward", ForwardAgent)])
def test_simple_agents_have_names_and_no_controls(name, kind):
    assert isinstance(make_agent(name, "none", environments()), kind)
    with pytest.raises(ValueError, match=f"the {name} agent neither sees nor is told"):
        make_agent(name, "blind", environments())
    with pytest.raises(ValueError, match=f"tryout is for navigators: the {name} agent"):
        make_agent(name, "none", environments(), tryout=True)


def test_any_other_name_is_a_checkpoint(checkpoint):
    agent = make_agent(str(checkpoint), "deaf", environments(3))
    assert isinstance(agent, NavigatorAgent)
    assert (agent.navigator.sessions, agent.navigator.control) == (3, "deaf")


def test_weights_are_named_by_their_content(checkpoint, tmp_path):
    first = describe_agent(str(checkpoint), "none")
    assert len(first["weights_sha256"]) == 64 and first == describe_agent(str(checkpoint), "none")
    (tmp_path / "model.safetensors").write_bytes(b"others")
    assert describe_agent(str(tmp_path), "none")["weights_sha256"] != first["weights_sha256"]
    assert describe_agent("expert", "none") == {"agent": "expert", "control": "none"}


def test_weights_that_changed_do_not_go_on_with_the_walks_of_the_old_ones(tmp_path):
    def walk(weights):
        agent = {"agent": "tiny", "control": "none", "weights_sha256": weights}
        return evaluate_houses(tmp_path, ForwardAgent(), environments(), make_episodes(2), agent)

    assert walk("a") == walk("a")
    with pytest.raises(DifferentRun, match=r"weights_sha256 is 'b', was 'a'"):
        walk("b")


def test_what_is_printed(tmp_path, capsys):
    results = evaluate_houses(
        tmp_path, ForwardAgent(9), environments(), make_episodes(3), {"agent": "forward", "control": "none"}
    )
    out = capsys.readouterr().out
    assert out.count("box/0") == 3 and "forward, 3 episodes" in out and "nDTW %" in out
    summary = results["summary"]
    figures = " ".join(f"{name}={summary[name]['mean']:.1f}" for name in ("SR", "SPL", "nDTW"))
    assert last_line(results) == f"episodes=3 {figures}"
    table = summary_table({"a": results, "b": results})
    assert [column.header for column in table.columns] == ["", "a, 3 episodes", "b, 3 episodes"]


def test_lines_of_episodes_without_a_way_and_with_brackets():
    record = {"success": 0.0, "scene_id": "box/0", "steps": 0, "ne": None, "episode_instruction": "[go] " * 40}
    line = episode_line(record)
    assert "no way there" in line and r"\[go]" in line and line.endswith("...[/]")
