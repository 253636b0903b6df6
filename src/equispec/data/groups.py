"""Which functional groups molecules have: a coarse table, to see what a set of data covers and what it lacks."""

from collections.abc import Iterable

GROUPS = {  # SMARTS; a molecule may belong to several
    "alkyne": "C#C",
    "nitrile": "C#N",
    "alkene": "C=C",
    "imine": "C=N",
    "aromatic ring": "a",
    "carbonyl": "C=O",
    "carboxylic acid or ester": "C(=O)[OX2]",
    "amide": "C(=O)[NX3]",
    "hydroxyl": "[OX2H]",
    "ether": "[OX2]([#6;!$(C=O)])[#6;!$(C=O)]",
    "amine": "[NX3+0;!$(N-*=*);!$(N-*#*)]",
    "nitro": "[$([NX3](=O)=O),$([NX3+](=O)[O-])]",
    "three-membered ring": "[r3]",
    "four-membered ring": "[r4]",
    "fluorine": "F",
}


def count_groups(smiles: Iterable[str]) -> dict[str, int] | None:
    """Molecules that have each group of GROUPS, in its order; SMILES that RDKit cannot read count nowhere.

    None where no SMILES is known, or RDKit (the extra chem) is not installed.
    """
    if not any(known := list(smiles)):
        return None
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        return None
    patterns = {name: Chem.MolFromSmarts(text) for name, text in GROUPS.items()}
    counts = dict.fromkeys(GROUPS, 0)
    with rdBase.BlockLogs():
        for molecule in filter(None, map(Chem.MolFromSmiles, filter(None, known))):
            for name, pattern in patterns.items():
                counts[name] += molecule.HasSubstructMatch(pattern)
    return counts
