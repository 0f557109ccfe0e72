from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from potstill.errors import RecipeError
from potstill.methods.recipe import Recipe, dump, override, parse, read_yaml


def refusal(document: dict[str, object]) -> str:
    with pytest.raises(RecipeError) as caught:
        parse(document, source="mine.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("mine.yaml: ")
    return message


def test_an_empty_document_is_the_default_recipe():
    assert parse({}, source="nothing") == Recipe()


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"sed": 1}, "sed"),
        ({"method": {"iteration": 5}}, "method.iteration"),
        ({"method": {"solver": {"tol": 0.1}}}, "method.solver.tol"),
        ({"paper": [{"page": 3}]}, "page"),
    ],
)
def test_unknown_keys_are_refused_by_name(document, key):
    message = refusal(document)
    assert key in message


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"method": {"iterations": "many"}}, "method.iterations"),
        ({"method": {"iterations": 1.5}}, "method.iterations"),
        ({"images_per_class": 0}, "images_per_class"),
        ({"seed": -1}, "seed"),
        ({"method": {"l2_rate": float("nan")}}, "method.l2_rate"),
        ({"method": {"l2_rate": float("inf")}}, "method.l2_rate"),
        ({"method": {"ema_decay": 1.0}}, "method.ema_decay"),
        ({"method": {"variant": "vag"}}, "method.variant"),
        ({"method": 3}, "method"),
        ({"data": {"channels": 2}}, "data.channels"),
        ({"network": {"normalisation": "layr"}}, "network.normalisation"),
    ],
)
def test_wrong_values_are_refused_by_key_and_value(document, key):
    message = refusal(document)
    assert f"{key}: " in message
    assert "got" in message


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ({"variant": "vig"}, "set solver.name to adam"),
        ({"variant": "rig", "solver": {"name": "adam"}, "subset": 5}, "remove method.subset"),
        ({"variant": "rig"}, "set solver.name to adam"),
        ({"clip_implicit": True}, "clip_implicit needs"),
        ({"variant": "cig", "solver": {"name": "adam"}, "clip_implicit": True}, "clip_implicit"),
        ({"variant": "rig", "solver": {"name": "adam", "inner_steps": 0}}, "inner_steps to 1"),
        ({"variant": "vig", "solver": {"name": "adam", "inverse_steps": 0}}, "inverse_steps to 1"),
        ({"variant": "cig", "solver": {"name": "adam", "inverse_steps": 0}}, "inverse_steps to 1"),
        ({"pool": {"steps_per_visit": [5, 1]}}, "low <= high"),
    ],
)
def test_impossible_combinations_are_refused_with_the_remedy(method, reason):
    message = refusal({"method": method})
    assert reason in message
    assert "Value error" not in message and "{" not in message


def test_a_recipe_cannot_be_changed_after_validation():
    with pytest.raises(ValidationError):
        Recipe().seed = 4  # type: ignore[misc]


@given(
    iterations=st.integers(0, 10**6),
    rate=st.floats(min_value=1e-300, max_value=1e300),
    beta=st.none() | st.floats(min_value=0.1, max_value=1e3),
    name=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=1000),
    low=st.integers(0, 20),
    more=st.integers(0, 20),
)
def test_dump_and_parse_are_inverse(iterations, rate, beta, name, low, more):
    recipe = parse(
        {
            "name": name,
            "method": {
                "iterations": iterations,
                "l2_rate": rate,
                "softplus_beta": beta,
                "pool": {"steps_per_visit": [low, low + more]},
            },
        },
        source="drawn",
    )
    assert parse(yaml.safe_load(dump(recipe)), source="dump") == recipe


def test_override_reads_values_as_yaml():
    document = override(
        {"method": {"iterations": 5, "flip": False}},
        [
            "method.iterations=7",
            "method.flip=true",
            "method.l2_rate=1e-3",
            "method.softplus_beta=null",
            "method.pool.steps_per_visit=[1, 1]",
            "data.folder=a=b",
            "name=x",
        ],
    )
    assert document == {
        "method": {
            "iterations": 7,
            "flip": True,
            "l2_rate": 0.001,
            "softplus_beta": None,
            "pool": {"steps_per_visit": [1, 1]},
        },
        "data": {"folder": "a=b"},
        "name": "x",
    }


def test_the_last_override_wins_and_the_document_is_untouched():
    document = {"method": {"iterations": 5}}
    assert override(document, ["method.iterations=6", "method.iterations=7"]) == {
        "method": {"iterations": 7}
    }
    assert document == {"method": {"iterations": 5}}


@pytest.mark.parametrize("assignment", ["seed", "=3", "seed=[", "seed.x=3"])
def test_malformed_overrides_are_refused(assignment):
    with pytest.raises(RecipeError, match="--set"):
        override({"seed": 1}, [assignment])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"seed: [", "not valid YAML"),
        (b"\xff\xfe\xff", "not valid YAML"),
        (b"- 1\n- 2\n", "holds no recipe"),
        (b"", "holds no recipe"),
        (b"!!python/object/apply:os.getcwd []", "names a type"),
    ],
)
def test_files_that_hold_no_recipe_are_refused(tmp_path: Path, content, reason):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=reason) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match="check the path"):
        read_yaml(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("departures", "words"),
    [
        ({"method.solvr.name": "adam"}, "departures: no setting 'method.solvr.name'"),
        ({"method.solver": {}}, "departures: no setting 'method.solver'"),
        ({"description": "x"}, "departures: no setting 'description'"),
        ({"method.iterations": "many"}, "departures: the paper's values are impossible"),
        ({"method.variant": "vig"}, "departures: the paper's values are impossible"),
    ],
)
def test_departures_must_be_settings_of_a_possible_recipe(departures, words):
    assert words in refusal({"departures": departures})


def test_a_recipe_with_the_papers_values_departs_in_nothing():
    document = {"method": {"iterations": 3}, "departures": {"method.iterations": 9, "seed": 4}}
    ours = parse(document, source="mine")
    paper = ours.as_in_paper()
    assert (paper.method.iterations, paper.seed, paper.departures) == (9, 4, {})
    assert paper.as_in_paper() is paper and ours.method.iterations == 3
    assert parse(yaml.safe_load(dump(ours)), source="mine") == ours
