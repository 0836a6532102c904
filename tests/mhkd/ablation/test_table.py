from __future__ import annotations

from pathlib import Path

import pytest
from mhkd.engine.phases import phase_configs

from mhkd.ablation.table import CONTROLS, Recipe
from preprocess.base.errors import UserError
from tests.mhkd.conftest import DEMO

TEACHER = Path("teacher.pth")


def recipe(*overrides: str) -> Recipe:
    return Recipe(DEMO, Path("tiles"), teacher_iterations=90, iterations=60, scale=4, overrides=overrides)


def phases(name: str, *overrides: str):
    cfg = recipe(*overrides).config(CONTROLS[name], seed=7, output_dir=Path("out"), teacher=TEACHER)
    return phase_configs(cfg)


@pytest.mark.parametrize("name", [name for name in CONTROLS if name != "untrained"])
def test_every_control_is_given_its_budget_and_start(name):
    control, found = CONTROLS[name], phases(name)
    budget = {"teacher": 90, "independent": 150}.get(name, 60)
    assert sum(phase.SOLVER.MAX_ITER for phase in found) == budget
    assert ("" if name in {"teacher", "independent"} else "teacher.pth") == found[0].MODEL.WEIGHTS
    assert {phase.SEED for phase in found} == {7}
    assert {phase.INPUT.SIDE for phase in found} == {"teacher" if name == "teacher" else "student"}
    distils = [any(phase.MODEL.MHKD.LOSS_WEIGHTS.values()) for phase in found]
    assert distils == [control.distils] * len(found)


def test_the_phases_are_those_of_the_steps():
    basic, adaptive, local, semantic = (phase.MODEL.MHKD for phase in phases("phases1234"))
    assert _weights(basic) == {"FEATURE": 2.0}
    assert [p.BFA.ENABLED for p in (basic, adaptive, local, semantic)] == [False, True, True, True]
    assert _weights(local) == {"LOCAL": 1.0}
    assert _weights(semantic) == {"LOCAL": 1.0, "SEMANTIC_CLS": 1.0, "SEMANTIC_BOX": 1.0}
    assert [p.SOLVER.MAX_ITER for p in phases("phases12")] == [30, 30]


def test_all_students_share_one_schedule():
    (strict,) = phases("strict")
    found = phases("phases1234")  # of 15 iterations each; decays at 42 and 54, warm-up of 6
    assert (strict.SOLVER.STEPS, strict.SOLVER.WARMUP_ITERS) == ((42, 54), 6)
    assert [phase.SOLVER.STEPS for phase in found] == [(), (), (12,), (9,)]
    assert [phase.SOLVER.BASE_LR / strict.SOLVER.BASE_LR for phase in found] == pytest.approx([1, 1, 1, 0.1])


def test_joint_has_every_loss_at_once():
    (joint,) = phases("joint")
    assert _weights(joint.MODEL.MHKD) == {"FEATURE": 2.0, "LOCAL": 1.0, "SEMANTIC_CLS": 1.0, "SEMANTIC_BOX": 1.0}
    assert joint.MODEL.MHKD.BFA.ENABLED


def test_cumulative_phases_keep_the_losses_before():
    weights = [phase.MODEL.MHKD.LOSS_WEIGHTS for phase in phases("cumulative")]
    assert [w.FEATURE for w in weights] == [2.0] * 4
    assert [w.LOCAL for w in weights] == [0.0, 0.0, 1.0, 1.0]
    assert [w.SEMANTIC_CLS for w in weights] == [0.0, 0.0, 0.0, 1.0]


def test_only_the_last_teacher_learns_in_mutual():
    assert [list(phase.MODEL.MHKD.TEACHER.TRAINABLE) for phase in phases("mutual")] == [[], [], [], ["roi_heads"]]


def test_another_feature_loss_has_its_weight_where_features_are_distilled():
    found = [phase.MODEL.MHKD for phase in phases("feature_mse")]
    weight = CONTROLS["feature_mse"].overrides["MODEL.MHKD.LOSS_WEIGHTS.FEATURE"]
    assert [p.LOSS_WEIGHTS.FEATURE for p in found] == [weight, weight, 0.0, 0.0]
    assert {p.FEATURE_LOSS for p in found} == {"mse"}


def test_a_smaller_input_has_smaller_anchors():
    (native,), (strict,) = phases("strict_u1"), phases("strict")
    assert (native.MODEL.MHKD.UPSAMPLE, strict.MODEL.MHKD.UPSAMPLE) == (1, 4)
    assert native.MODEL.ANCHOR_GENERATOR.SIZES == [[8, 12], [16, 24], [32, 48]]


@pytest.mark.parametrize(
    ("name", "weights", "settings"),
    [
        ("alone_cwd", {"FEATURE": 3.0}, {"FEATURE_LOSS": "cwd"}),
        ("alone_roi", {"LOCAL": 1.0}, {"ALIGN": "shared"}),
        ("alone_crosskd", {"SEMANTIC_CLS": 1.0, "SEMANTIC_BOX": 1.0}, {"ALIGN": "crosskd"}),
        ("alone_scores", {"SEMANTIC_CLS": 1.0}, {"ALIGN": "shared"}),
    ],
)
def test_another_method_is_one_loss_on_the_strict_baseline(name, weights, settings):
    (found,), (strict,) = phases(name), phases("strict")
    assert _weights(found.MODEL.MHKD) == weights
    assert {key: found.MODEL.MHKD[key] for key in settings} == settings
    # Nothing else is different: no BFA, the same input, the same schedule.
    assert found.SOLVER == strict.SOLVER
    assert (found.MODEL.MHKD.BFA.ENABLED, found.MODEL.MHKD.UPSAMPLE) == (False, 4)
    assert found.MODEL.META_ARCHITECTURE == "MHKD"


def test_shifted_pyramids_go_with_half_the_input():
    (half,), (native,), (strict,) = phases("shift_half"), phases("shift_u1"), phases("strict_half")
    assert [x.MODEL.MHKD.UPSAMPLE for x in (half, native, strict)] == [2, 1, 2]
    assert half.MODEL.ANCHOR_GENERATOR.SIZES == strict.MODEL.ANCHOR_GENERATOR.SIZES == [[16, 24], [32, 48], [64, 96]]
    with pytest.raises(UserError, match="a scale factor of 3 does not divide by 2"):
        CONTROLS["shift_half"].factor(3)


def test_as_is_has_no_iterations():
    assert recipe().budget(CONTROLS["untrained"]) == 0
    assert CONTROLS["untrained"].factor(8) == 8


def test_overrides_reach_students_and_may_not_change_the_iterations():
    (strict,) = phases("strict", "SOLVER.BASE_LR", "0.125")
    assert strict.SOLVER.BASE_LR == 0.125
    assert phases("teacher", "SOLVER.BASE_LR", "0.125")[0].SOLVER.BASE_LR == 0.001
    with pytest.raises(UserError, match="61 iterations, and the controls have 60"):
        phases("strict", "SOLVER.MAX_ITER", "61", "SOLVER.SCHEDULE_LENGTH", "61")


def test_overrides_name_neither_a_teacher_nor_weights_to_start_from():
    with pytest.raises(UserError, match=r"phases 1-2.*another teacher, other\.pth.*the teacher of its seed"):
        phases("phases12", "MODEL.MHKD.TEACHER.WEIGHTS", "other.pth")
    with pytest.raises(UserError, match=r"ImageNet.*start from other\.pth"):
        phases("independent", "MODEL.WEIGHTS", "other.pth")
    assert phases("independent", "MODEL.WEIGHTS", "R-50.pkl")[0].MODEL.WEIGHTS == "R-50.pkl"
    assert phases("strict", "MODEL.WEIGHTS", "other.pth")[0].MODEL.WEIGHTS == "teacher.pth"


def _weights(settings):
    return {name: weight for name, weight in settings.LOSS_WEIGHTS.items() if weight}
