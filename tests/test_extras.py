from dualsight import extras


def test_a_checkout_is_told_what_works_there(tmp_path, monkeypatch):
    assert extras.install("sim") == "pip install -c constraints.txt -e '.[sim]' in the checkout"
    monkeypatch.setattr(extras, "CHECKOUT", tmp_path)
    assert extras.install("sim") == "pip install 'dualsight[sim]'"
