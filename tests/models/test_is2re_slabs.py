"""The shipped network of slabs on our own data, and what it tells of slabs that it does not know."""

from pathlib import Path

import pytest
from ase.build import add_adsorbate, fcc111

import equispec
from equispec.checkpoint import load_model
from equispec.data.properties import PropertyStore, atoms_of
from equispec.errors import DomainWarning
from equispec.predict import model_folder
from equispec.workflows.property_evaluation import evaluate_properties

SLABS = Path(__file__).parents[2] / "data" / "slabs"


def test_it_is_no_worse_than_its_card_says() -> None:
    store = PropertyStore(SLABS / "slabs-in-domain.h5")
    training = load_model(model_folder("is2re-slabs")).metadata["training"]
    assert training["data_sha256"] == store.content_sha256
    found = evaluate_properties("is2re-slabs", SLABS / "slabs-in-domain.h5")
    assert (found.split, found.structures) == ("test", 74)
    assert found.score("adsorption_energy").mae < 0.41


def test_unknown_metals_are_told() -> None:
    predictor = equispec.load("is2re-slabs")
    for metal, known in (("Cu", True), ("Pd", False)):
        slab = fcc111(metal, (2, 2, 3), vacuum=6.0, periodic=True)
        add_adsorbate(slab, "O", 1.2, "fcc")
        slab.pbc = True
        if known:
            (found,) = predictor.properties([slab])
            assert found.outside_domain == ()
        else:
            with pytest.warns(DomainWarning, match="has never seen the element Pd"):
                (found,) = predictor.properties([slab])
            assert found.outside_domain


def test_all_structures_out_of_domain_are_told_and_none_in_domain() -> None:
    """By palladium, or by the bonds of CO and NH, whose elements are known; the counts are those of the card."""
    predictor = equispec.load("is2re-slabs")
    test = set(predictor.members[0].metadata["training"]["split"]["test"])
    told = {}
    for name in ("in-domain", "ood-ads", "ood-cat", "ood-both"):
        structures = [
            atoms_of(s) for s in PropertyStore(SLABS / f"slabs-{name}.h5") if name != "in-domain" or s.id in test
        ]
        concerns = [predictor.concerns(atoms) for atoms in structures]
        told[name] = len(structures), sum(map(bool, concerns)), {text for one in concerns for text in one}
    element = "the model has never seen the element Pd"
    bonds = {f"{pair} bonds, which no structure has that it was trained on" for pair in ("C-O", "H-N")}
    assert told == {
        "in-domain": (74, 0, set()),
        "ood-ads": (153, 153, bonds),
        "ood-cat": (158, 158, {element}),
        "ood-both": (48, 48, {element, *bonds}),
    }


def test_the_splits_are_what_their_names_say() -> None:
    told = {}
    for name in ("in-domain", "ood-ads", "ood-cat", "ood-both"):
        samples = list(PropertyStore(SLABS / f"slabs-{name}.h5"))
        palladium = {46 in sample.z for sample in samples}
        told[name] = (
            len(samples),
            palladium,
            {"".join(map(str, sorted(sample.z[sample.tags == 2]))) for sample in samples},
        )
        assert all(sample.properties["adsorption_energy"].shape == () for sample in samples)
    seen, new = {"1", "6", "7", "8", "18", "1116"}, {"68", "17"}
    assert told == {
        "in-domain": (491, {False}, seen),
        "ood-ads": (153, {False}, new),
        "ood-cat": (158, {True}, seen),
        "ood-both": (48, {True}, new),
    }
