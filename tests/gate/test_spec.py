"""Gate rules as users write them."""

import pytest

from pytest_harbor.gate.spec import GateSpec


@pytest.mark.parametrize(
    "text, spec",
    [
        ("drop=0.1", GateSpec(drop=0.1)),
        ("alpha=0.01, drop=0", GateSpec(drop=0.0, alpha=0.01)),
        ("pass-rate=.8", GateSpec(pass_rate=0.8)),
        ("each", GateSpec(each=True)),
        ("drop=5%", GateSpec(drop=0.05)),
        ("flip", GateSpec(flip=True)),
        ("each,pass-rate=1,drop=0.2,alpha=0.1", GateSpec(0.2, 0.1, 1.0, True)),
    ],
)
def test_rules(text, spec):
    assert GateSpec.parse(text) == spec
    assert GateSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "drop",
        "each=1",
        "drop=5 points",
        "drop=-1",
        "drop=nan",
        "alpha=0",
        "alpha=2",
        "x=1",
        "drop=1,drop=1",
        "each,",
    ],
)
def test_invalid_rule_error_shows_a_valid_rule(text):
    with pytest.raises(ValueError, match="use drop=SHARE, alpha=SHARE, pass-rate=SHARE") as caught:
        GateSpec.parse(text)
    assert "flip or versus=AGENT" in str(caught.value)
