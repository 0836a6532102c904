from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from mhkd.ablation.table import CONTROLS, Recipe, control_of, in_order
from mhkd.config import Phase, PhaseSchedule, read_config
from preprocess.base.errors import UserError
from tests.mhkd.conftest import DEMO

TEACHER = Path("teacher.pth")


def recipe(*overrides: str, configs: Path = DEMO) -> Recipe:
    tiles = {"tiles": Path("tiles"), "oracle_tiles": Path("oracle")}
    iterations = {"teacher_iterations": 90, "iterations": 60, "plain_iterations": 70}
    return Recipe(configs, **tiles, **iterations, scale=4, overrides=overrides)


def config(name: str, *overrides: str, configs: Path = DEMO) -> CfgNode:
    found = recipe(*overrides, configs=configs)
    return found.config(control_of(name), seed=7, output_dir=Path("out"), teacher=TEACHER)


def phases(name: str, *overrides: str) -> list[Phase]:
    return list(PhaseSchedule.from_config(config(name, *overrides)).phases)


@pytest.mark.parametrize("name", [name for name in CONTROLS if name != "untrained"])
def test_every_control_is_given_its_budget_and_start(name):
    control, cfg, found = CONTROLS[name], config(name), phases(name)
    budget = {"teacher": 90, "independent": 150, "plain": 70}.get(name, 60)
    assert (cfg.SOLVER.MAX_ITER, found[-1].stop) == (budget, budget)
    assert ("" if name in {"teacher", "plain", "independent"} else "teacher.pth") == cfg.MODEL.WEIGHTS
    assert cfg.SEED == 7
    assert ("teacher" if name == "teacher" else "student") == cfg.INPUT.SIDE
    assert [any(phase.weights.values()) for phase in found] == [control.distils] * len(found)


def test_the_phases_are_those_of_the_steps():
    found = phases("phases1234")
    assert [_weights(phase) for phase in found] == [
        {"feature": 2.0},
        {"feature": 2.0},
        {"local": 1.0},
        {"local": 1.0, "semantic_cls": 1.0, "semantic_box": 1.0},
    ]
    assert [phase.bfa for phase in found] == [False, True, True, True]
    assert [phase.stop - phase.start for phase in phases("phases12")] == [30, 30]


def test_all_students_share_one_schedule():
    assert config("phases1234").SOLVER == config("strict").SOLVER


def test_joint_has_every_loss_at_once():
    (joint,) = phases("joint")
    assert _weights(joint) == {"feature": 2.0, "local": 1.0, "semantic_cls": 1.0, "semantic_box": 1.0}
    assert joint.bfa


def test_cumulative_phases_keep_the_losses_before():
    found = [phase.weights for phase in phases("cumulative")]
    assert [w["feature"] for w in found] == [2.0] * 4
    assert [w["local"] for w in found] == [0.0, 0.0, 1.0, 1.0]
    assert [w["semantic_cls"] for w in found] == [0.0, 0.0, 0.0, 1.0]


def test_only_the_last_teacher_learns_in_mutual():
    assert [phase.teacher_parts for phase in phases("mutual")] == [(), (), (), ("roi_heads",)]


def test_another_feature_loss_has_its_weight_where_features_are_distilled():
    weight = CONTROLS["feature_mse"].overrides["MODEL.MHKD.LOSS_WEIGHTS.FEATURE"]
    assert [phase.weights["feature"] for phase in phases("feature_mse")] == [weight, weight, 0.0, 0.0]
    assert config("feature_mse").MODEL.MHKD.FEATURE_LOSS == "mse"


def test_a_smaller_input_has_smaller_anchors():
    native, strict = config("strict_u1"), config("strict")
    assert (native.MODEL.MHKD.UPSAMPLE, strict.MODEL.MHKD.UPSAMPLE) == (1, 4)
    assert native.MODEL.ANCHOR_GENERATOR.SIZES == [[8, 12], [16, 24], [32, 48]]


@pytest.mark.parametrize(
    ("name", "weights", "settings"),
    [
        ("alone_cwd", {"feature": 3.0}, {"FEATURE_LOSS": "cwd"}),
        ("alone_roi", {"local": 1.0}, {"ALIGN": "shared"}),
        ("alone_crosskd", {"semantic_cls": 1.0, "semantic_box": 1.0}, {"ALIGN": "crosskd"}),
        ("alone_scores", {"semantic_cls": 1.0}, {"ALIGN": "shared"}),
    ],
)
def test_another_method_is_one_loss_on_the_strict_baseline(name, weights, settings):
    found, strict, (phase,) = config(name), config("strict"), phases(name)
    assert _weights(phase) == weights
    assert {key: found.MODEL.MHKD[key] for key in settings} == settings
    # Nothing else is different: no BFA, the same input, the same schedule.
    assert found.SOLVER == strict.SOLVER
    assert (phase.bfa, found.MODEL.MHKD.UPSAMPLE) == (False, 4)
    assert found.MODEL.META_ARCHITECTURE == "MHKD"


def test_shifted_pyramids_go_with_half_the_input():
    half, native, strict = config("shift_half"), config("shift_u1"), config("strict_half")
    assert [x.MODEL.MHKD.UPSAMPLE for x in (half, native, strict)] == [2, 1, 2]
    assert half.MODEL.ANCHOR_GENERATOR.SIZES == strict.MODEL.ANCHOR_GENERATOR.SIZES == [[16, 24], [32, 48], [64, 96]]
    with pytest.raises(UserError, match="an up-sampling by 3 does not divide by 2"):
        CONTROLS["shift_half"].factor(3)


NATIVE = DEMO.parent / "native"


@pytest.mark.parametrize("folder", ["native", "reference_native"])
def test_a_native_student_stays_native_and_starts_where_its_configuration_says(folder):
    own = read_config(DEMO.parent / folder / "distill.yaml")
    for name in ("strict", "phases1234", "self_training", "oracle", "features_equal_labels"):
        cfg = config(name, configs=DEMO.parent / folder)
        assert (cfg.MODEL.MHKD.UPSAMPLE, cfg.MODEL.WEIGHTS, cfg.MODEL.MHKD.INIT) == (1, "", "imagenet")
        assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == own.MODEL.ANCHOR_GENERATOR.SIZES
        assert cfg.SOLVER.LR_SCHEDULER_NAME == own.SOLVER.LR_SCHEDULER_NAME
    assert config("phase1", configs=DEMO.parent / folder).MODEL.MHKD.FEATURE_FINER == own.MODEL.MHKD.FEATURE_FINER
    wide = config("strict_u2", configs=DEMO.parent / folder).MODEL
    assert (wide.MHKD.UPSAMPLE, wide.ANCHOR_GENERATOR.SIZES[0]) == (2, [16, 24, 32])
    with pytest.raises(UserError, match="an up-sampling by 1 does not divide by 2"):
        config("strict_half", configs=DEMO.parent / folder)


def test_plain_reads_native_pixels_whatever_the_students_do():
    plain = config("plain")
    assert (plain.MODEL.MHKD.UPSAMPLE, plain.MODEL.ANCHOR_GENERATOR.SIZES[0]) == (1, [8, 12, 16])
    assert plain.MODEL == config("plain", configs=NATIVE).MODEL == config("strict", configs=NATIVE).MODEL
    assert replace(recipe(), plain_iterations=None).budget(control_of("plain")) == 1350


def test_slides_that_a_student_labels_itself_are_labelled_by_the_one_without_them():
    found = {name: recipe().labeller(control_of(name)) for name in ("self_training", "joint_labels", "strict")}
    assert found == {"self_training": "strict", "joint_labels": "teacher", "strict": ""}
    assert recipe(configs=NATIVE).labeller(control_of("self_training")) == "plain"


def test_features_are_those_of_equal_or_of_finer_levels():
    for name, finer in (("features_equal", 0), ("features_finer", 1)):
        cfg = config(f"{name}_labels", configs=DEMO.parent / "reference_native")
        assert finer == cfg.MODEL.MHKD.FEATURE_FINER
        assert [entry["LOSSES"] for entry in cfg.MODEL.MHKD.PHASES] == [["FEATURE"]]


def test_students_have_forms_with_labels_and_with_more_iterations():
    assert recipe().budget(control_of("strict_labels_x2.2")) == 132
    assert recipe().budget(control_of("plain_x2")) == 140
    assert control_of("alone_mgd_labels").losses == CONTROLS["alone_mgd"].losses
    assert control_of("joint_labels_x2").text.endswith("finds on unannotated slides, 2 times the iterations")
    names = ["strict_x2", "joint", "strict_labels", "strict", "teacher", "gone", "strict_x10", "strict"]
    assert in_order(names) == ["teacher", "strict", "strict_x2", "strict_x10", "strict_labels", "joint", "gone"]


@pytest.mark.parametrize(
    "name",
    ["teacher_labels", "untrained_x2", "oracle_labels", "placebo_labels", "strict_x0", "strict_x", "stricter", ""],
)
def test_other_forms_are_refused(name):
    with pytest.raises(UserError, match=f"no control is called {name}"):
        control_of(name)


def test_as_is_has_no_iterations():
    assert recipe().budget(CONTROLS["untrained"]) == 0
    assert CONTROLS["untrained"].factor(8) == 8


def test_overrides_reach_students_and_may_not_change_the_iterations():
    assert config("strict", "SOLVER.BASE_LR", "0.125").SOLVER.BASE_LR == 0.125
    assert config("teacher", "SOLVER.BASE_LR", "0.125").SOLVER.BASE_LR == 0.001
    with pytest.raises(UserError, match="61 iterations, and the controls have 60"):
        config("strict", "SOLVER.MAX_ITER", "61")


def test_overrides_name_neither_a_teacher_nor_weights_to_start_from():
    with pytest.raises(UserError, match=r"phases 1-2.*another teacher, other\.pth.*the teacher of its seed"):
        config("phases12", "MODEL.MHKD.TEACHER.WEIGHTS", "other.pth")
    with pytest.raises(UserError, match=r"ImageNet.*start from other\.pth"):
        config("independent", "MODEL.WEIGHTS", "other.pth")
    assert config("independent", "MODEL.WEIGHTS", "R-50.pkl").MODEL.WEIGHTS == "R-50.pkl"
    assert config("strict", "MODEL.WEIGHTS", "other.pth").MODEL.WEIGHTS == "teacher.pth"


def _weights(phase: Phase) -> dict[str, float]:
    return {name: weight for name, weight in phase.weights.items() if weight}
