"""Readers of labelled data: name -> function(path, **options) -> Iterator[Sample], and the provenance to store."""

from collections.abc import Callable, Iterator, Mapping

from equispec.data.readers.ck_tp_pbe import PROVENANCE as CK_TP_PBE
from equispec.data.readers.ck_tp_pbe import read_ck_tp_pbe
from equispec.data.readers.published import PROVENANCE as PUBLISHED
from equispec.data.readers.published import read_published
from equispec.data.sample import Sample

READERS: dict[str, Callable[..., Iterator[Sample]]] = {"ck-tp-pbe": read_ck_tp_pbe, "published-eigen": read_published}
WITHOUT_STRUCTURES = ("published-eigen",)  # readers of data without geometries: they take the option `structures`
PROVENANCE: dict[str, Mapping[str, str | float]] = {"ck-tp-pbe": CK_TP_PBE, "published-eigen": PUBLISHED}
