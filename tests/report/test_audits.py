"""Audits on the page: what they say, beside the papers' numbers and alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from potstill import papers
from potstill.audits.continual import continual
from potstill.audits.membership import membership
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data import datasets
from potstill.data.distilled import DistilledDataset
from potstill.errors import RunError
from potstill.evaluation.fixed_steps import Protocol
from potstill.papers import audits
from potstill.report import write
from potstill.runs.records import read
from tests.report import audit_records, synthetic
from tests.report.audit_records import summary
from tests.report.test_page import Page

PRIVACY: dict[str, Any] = {
    "data": {"dataset": "mnist", "train_images": 10_000},
    "images_per_class": 50,
}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Page:
    root = tmp_path_factory.mktemp("audits")
    documents = (audit_records.scores(), audit_records.membership(), audit_records.continual())
    return page_of(audit_records.audited_run(root / "run", *documents))


def page_of(folder: Path) -> Page:
    out = folder.parent / f"{folder.name}.html"
    write([folder], out)
    return Page(out)


def test_every_audit_has_its_section(audited):
    for title in (
        "From network to network",
        "Beyond labels and augmentation",
        "Membership inference",
        "Class by class",
    ):
        assert title in audited.text
    assert "Table 5" not in audited.text and "Table 10" not in audited.text


def test_a_run_without_audits_has_none_of_the_sections(tmp_path):
    page = page_of(synthetic.finished_run(tmp_path / "run"))
    assert "Membership" not in page.text and "Class by class" not in page.text
    assert "From network to network" not in page.text


def test_robust_scores_are_shown_with_their_parts(audited):
    text = audited.text
    assert "LRS label-robust 0.219" in text
    assert "HLR hard label recovery +30.0" in text
    assert "all real images 98.0 ± 1.4 after 40 epochs" in text
    assert "IOR improvement over random +5.0" in text
    assert "as many random real images 60.0" in text


def test_attacks_are_shown_for_whoever_was_attacked(audited):
    page = audited
    assert "All members 10,000 images 71.0 ± 1.4 0.99 ± 0.00" in page.text
    assert "Nothing yet" in page.text
    spoken = [attributes["aria-label"] for attributes in page.of("div") if "role" in attributes]
    roc = [words for words in spoken if words.startswith("Curve of the attack")]
    assert len(roc) == len(audit_records.ATTACKS)
    assert "trained on all members: area 0.99 ± 0.00" in roc[0]


def test_an_audit_without_baselines_has_one_line(tmp_path):
    lonely = audit_records.membership(baselines=False, untrained=None)
    page = page_of(audit_records.audited_run(tmp_path / "run", lonely))
    assert "All members" not in page.text and "Nothing yet" not in page.text
    assert "Threshold" in page.text


def test_the_tables_of_attacks_stand_beside_sets_of_their_size(tmp_path):
    of = synthetic.recipe(**PRIVACY, name="mine")
    folder = synthetic.write_run(
        tmp_path / "run",
        of,
        record=synthetic.record("stopped", 3) | {"audits": [audit_records.membership()]},
    )
    printed = audits.attacks(read(folder))
    row = printed["members"]["threshold"]
    assert (row.title, row.value, row.std) == ("RCIG, Table 5", 0.99, 0.01)
    assert set(printed["distilled"]) == {*audit_records.ATTACKS, "accuracy"}
    text = page_of(folder).text
    assert "paper 0.99 ± 0.01" in text
    assert "What differs from its setting: network depth 2 (the paper's 3)" in text


def test_what_an_attack_did_otherwise_than_the_paper_is_said(tmp_path):
    of = synthetic.recipe(**PRIVACY, name="mine")
    audit = audit_records.membership(
        networks=2, training=audit_records.TRAINING | {"augmented": False}
    )
    record = synthetic.record("stopped", 3) | {"audits": [audit]}
    text = page_of(synthetic.write_run(tmp_path / "run", of, record=record)).text
    assert "steps without augmentation; 10,000 members" in text
    less = "attack: augmented no (the paper's yes); attack: networks 2 (the paper's 5)"
    assert less in text


def test_what_learning_class_by_class_did_otherwise_than_the_paper_is_said(tmp_path):
    of = synthetic.dwa_recipe(data={"dataset": "cifar100"}, images_per_class=20)
    convnet = {"name": "convnet", "growth": 1, "normalisation": "batch"}
    audit = audit_records.continual(
        classes=100, epochs=20, protocol="dwa-paper", network=convnet, networks=5
    )
    record = synthetic.record("finished", 3) | {"audits": [audit]}
    page = page_of(synthetic.write_run(tmp_path / "run", of, record=record))
    assert "protocol dwa-paper, 20 epochs, 5 networks; classes in random order" in page.text
    assert "What differs from its setting:" in page.text
    assert "evaluation: epochs 20 (the paper's 400)" in page.text


def test_the_papers_own_audits_differ_in_nothing(tmp_path):
    of = synthetic.recipe(**PRIVACY)
    networks = {"network": of.network.model_dump(mode="json")}
    lessons = audit_records.continual(
        classes=100,
        epochs=400,
        protocol=of.evaluation.protocol,
        network={"name": "convnet", "growth": 1, "normalisation": "batch"},
        networks=5,
    )
    measured = [audit_records.membership(**networks), lessons]
    record = synthetic.record("finished", 3) | {"audits": measured}
    run = read(synthetic.write_run(tmp_path / "run", of, record=record))
    assert audits.of_membership(run.membership[0], run).phrases == ()
    unlike = audits.of_continual(run.continual[0], run, papers.rows(paper="dwa", table=10)[0])
    # Its recipe asks for RCIG's protocol, which is no lack of the audit's.
    assert unlike == ((), ("evaluation: protocol rcig-paper (the paper's dwa-paper)",))


def test_one_attack_is_followed_over_the_steps_and_no_maximum(tmp_path):
    audit = audit_records.membership(baselines=False)
    for point in audit["distilled"]["curve"]:
        point["auc"] = {name: summary(0.9) for name in audit_records.ATTACKS}
        point["auc"]["mlp"] = summary(0.4)
    page = page_of(audit_records.audited_run(tmp_path / "run", audit))
    spoken = [attributes["aria-label"] for attributes in page.of("div") if "role" in attributes]
    (course,) = [words for words in spoken if words.startswith("Perceptron as training goes on")]
    assert "0.4 after 100 steps, 0.4 after 16,000" in course
    for point in audit["distilled"]["curve"]:
        del point["auc"]["mlp"]
    others = [name for name in audit_records.ATTACKS if name != "mlp"]
    del audit["distilled"]["roc"]["tpr"]["mlp"], audit["untrained"]["auc"]["mlp"]
    audit["attacks"] = others
    page = page_of(audit_records.audited_run(tmp_path / "other", audit))
    assert "Threshold as training goes on" in page.text


def test_score_audits_are_told_apart_and_sentences_end_once(tmp_path):
    network = audit_records.NETWORK | {"normalisation": "batch"}
    documents = [audit_records.scores(network=network, seed=seed) for seed in (0, 1)]
    documents.append(audit_records.continual(network=network))
    text = page_of(audit_records.audited_run(tmp_path / "run", *documents)).text
    for seed in (0, 1):
        how = f"batch norm, protocol rcig-paper, hard labels after 40 epochs, seed {seed}. HLR"
        assert how in text
    assert "For each task ConvNet, depth 2, width 16 to 32, batch norm, protocol" in text
    assert "norm.." not in text


@pytest.mark.parametrize(
    "changes",
    [{"images_per_class": 10}, {"data": {"dataset": "mnist"}}, {"data": {"dataset": "digits"}}],
)
def test_the_tables_of_attacks_do_not_stand_beside_others(tmp_path, changes):
    of = synthetic.recipe(**(PRIVACY | changes))
    folder = synthetic.write_run(tmp_path / "run", of)
    assert audits.attacks(read(folder)) == {}


@pytest.mark.parametrize(
    ("method", "first"), [({"start": "real"}, 34.6), ({"start": "noise", "adjustment": "none"}, 0)]
)
def test_table_10_stands_beside_dwa_at_its_size(tmp_path, method, first):
    coupled = {"variance_weight": 0.01} if "adjustment" in method else {}
    of = synthetic.dwa_recipe(
        data={"dataset": "cifar100"},
        images_per_class=20,
        method={"kind": "dwa", **method, **coupled},
    )
    audit = audit_records.continual(classes=100)
    document = synthetic.record("stopped", 3) | {"audits": [audit]}
    folder = synthetic.write_run(tmp_path / "run", of, record=document)
    printed = audits.lessons(read(folder))
    assert list(printed) == [20, 40, 60, 80, 100]
    assert {row.method for row in printed.values()} == {"SRe2L" if coupled else "DWA"}
    if first:
        assert printed[20].value == first
    assert f"those of DWA, Table 10: {printed[20].method}" in page_of(folder).text


def test_other_students_stand_beside_table_3(tmp_path):
    of = synthetic.recipe(data={"dataset": "cifar10"}, images_per_class=10)
    results = [
        synthetic.result(of, [0.5]),
        synthetic.result(of, [0.4])
        | {"network": {"name": "resnet18_rcig", "normalisation": "none"}},
        synthetic.result(of, [0.45])
        | {"network": {"name": "resnet18_rcig", "normalisation": "none"}},
        synthetic.result(of, [0.3]) | {"network": {"name": "vgg11_rcig", "normalisation": "batch"}},
    ]
    document = synthetic.record("finished", 3, results)
    folder = synthetic.write_run(tmp_path / "run", of, record=document)
    text = page_of(folder).text
    assert "resnet18_rcig, no norm 45.0 1 network not measured 51.3 ± 1.7 RCIG, Table 3" in text
    assert "vgg11_rcig, batch norm 30.0 1 network not measured 46.2 ± 1.8 RCIG, Table 3" in text


def test_a_damaged_audit_is_named(tmp_path):
    audit = audit_records.membership()
    audit["distilled"]["roc"]["tpr"]["rf"] = [0.0]
    folder = audit_records.audited_run(tmp_path / "run", audit)
    with pytest.raises(RunError, match=r"distilled\.roc.*as long as fpr"):
        read(folder)


def test_what_the_audits_return_is_read(tmp_path):
    """Not the synthetic documents: those of the audits themselves."""
    source = datasets.load(DataRecipe(dataset="digits"), None)
    of = synthetic.recipe()
    images, labels = source.train.images, source.train.labels
    made = synthetic.distilled(of, images, labels, source.class_names)
    header = {key: value for key, value in made.header.items() if key != "format_version"}
    header["source"] = {**header["source"], "fingerprint": source.fingerprint}
    dataset = DistilledDataset(made.images, made.labels, made.class_names, made.preprocess, header)
    small = NetworkRecipe(depth=1, width=2)
    attacked = membership(dataset, source, steps=(1, 2), networks=1, folds=2, network=small)
    short = Protocol("short", augmented=False, steps=(2, 2), schedule_length=(2, 2), warmup=1)
    learned = continual(dataset, source, tasks=2, protocol=short, networks=1, network=small)
    folder = audit_records.audited_run(tmp_path / "run", attacked.document(), learned.document())
    run = read(folder)
    assert run.membership[0].distilled.last.steps == 2
    assert run.continual[0].tasks[1].classes_so_far == 10
    text = page_of(folder).text
    assert "1 network of ConvNet, depth 1, width 2" in text


def test_an_audit_that_was_kept_twice_is_shown_once(tmp_path):
    audit = audit_records.continual()
    folder = audit_records.audited_run(tmp_path / "run", audit, audit)
    assert len(read(folder).continual) == 1


def test_areas_are_shown_with_their_spread(tmp_path):
    audit = audit_records.membership(baselines=False)
    audit["distilled"]["curve"][-1]["auc"]["rf"] = summary(0.512, 0.548)
    text = page_of(audit_records.audited_run(tmp_path / "run", audit)).text
    assert "0.53 ± 0.03" in text
