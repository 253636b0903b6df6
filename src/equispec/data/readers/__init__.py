"""Readers of labelled data: name -> function(path, **options) -> Iterator[Sample], and the provenance to store."""

from collections.abc import Callable, Iterator, Mapping

from equispec.data.readers.ck_tp_pbe import PROVENANCE as CK_TP_PBE
from equispec.data.readers.ck_tp_pbe import read_ck_tp_pbe
from equispec.data.sample import Sample

READERS: dict[str, Callable[..., Iterator[Sample]]] = {"ck-tp-pbe": read_ck_tp_pbe}
PROVENANCE: dict[str, Mapping[str, str | float]] = {"ck-tp-pbe": CK_TP_PBE}
