"""The doctor names what is broken and how to mend it."""

import sys

from dualsight import doctor


def test_this_installation_is_healthy(capsys):
    findings = {finding.what: finding for finding in doctor.doctor()}
    assert findings["torch"].level == "ok"
    assert findings["Python"].level == "ok"
    assert "[sim]" in capsys.readouterr().out, "the names of extras are shown, not taken for markup"


def test_a_broken_torchvision_is_found_with_its_fix(tmp_path, monkeypatch):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    (finding,) = doctor.check_torchvision()
    assert finding.level == "broken"
    assert "nms does not exist" in finding.found
    assert "pip uninstall torchvision" in finding.fix


def test_a_package_out_of_range_is_broken(monkeypatch):
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: "5.9.0")
    levels = {finding.what: finding.level for finding in doctor.check_packages()}
    assert levels == {"torch": "broken", "transformers": "broken", "accelerate": "broken"}


def test_a_missing_extra_is_a_note_that_names_it(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    findings = list(doctor.check_extras())
    assert all(
        finding.level == "note" and finding.fix.startswith("pip install -c constraints.txt -e '.[")
        for finding in findings
    )
