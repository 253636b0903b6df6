"""equispec eval, equispec check: how good a model is, and whether it keeps its promises."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from equispec.cli.shell import Json, note, print_json, show_table
from equispec.errors import InputError

Models = Annotated[
    list[str],
    typer.Argument(help="A shipped model, a model folder or a run folder; several are an ensemble.", metavar="MODEL"),
]


def evaluate(
    words: Annotated[
        list[str],
        typer.Argument(
            help="A shipped model, a model folder or a run folder, several being an ensemble; then a stick store "
            "(.h5), a folder of them, or a property store.",
            metavar="MODEL... DATA",
        ),
    ],
    split: Annotated[
        str, typer.Option(help="train, valid or test, as stored with the model; all for other data.", metavar="NAME")
    ] = "test",
    report: Annotated[
        Path | None, typer.Option(help="Write tables, pictures and a page to this folder.", metavar="DIR")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write the model's figures into its folder, for `models info`.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare a model with first principles.

    Spectra: the errors of the model and of baselines, native and as broad as in Shibata & Mizoguchi (2024). Energies,
    forces and other properties: mean absolute and root mean square errors, also in meV and kcal/mol.

    \b
    Examples:
      equispec eval ck-tensor data/ck-tp-pbe --report ck-tensor-report
      equispec eval runs/md17-ethanol ethanol.h5 --report ethanol-report
    """
    from equispec.data.hdf5 import format_of
    from equispec.data.properties import FORMAT

    *model, last = words
    if not model:
        raise InputError(f"{last}: a model and the data that it is compared with are needed, equispec eval MODEL DATA")
    data = Path(last)
    if not data.exists():
        raise InputError(f"{data}: no such file or folder; a store of reference data is needed")
    form = format_of(data)
    if form is None and data.is_file():
        raise InputError(f"{data}: no store of labelled data (.h5); make one of it with equispec data convert")
    if form == FORMAT:
        if record:
            raise InputError("--record is for models of spectra: a model of properties has no card")
        _evaluate_properties(model, data, split, report, json)
    else:
        _evaluate_spectra(model, data, split, report, record, json)
    if report is not None:
        note(f"wrote {report}")


def _evaluate_properties(model: list[str], data: Path, split: str, report: Path | None, json: bool) -> None:
    from equispec.workflows import property_report
    from equispec.workflows.property_evaluation import evaluate_properties

    result = evaluate_properties(model, data, split)
    if json:
        print_json(result.to_dict())
    else:
        names = [name if k < 2 else f">{name}" for k, name in enumerate(property_report.HEADINGS)]
        show_table(*names, title=property_report.title(result), rows=property_report.score_rows(result))
        for remark in property_report.remarks(result):
            print(remark)
        print(f"Time: {1e3 * result.seconds / result.structures:.1f} ms per structure in batches.")
    if report is not None:
        property_report.write_report(result, report)


def _evaluate_spectra(model: list[str], data: Path, split: str, report: Path | None, record: bool, json: bool) -> None:
    from equispec.workflows import evaluation_report
    from equispec.workflows.evaluation import evaluate as run

    result = run(model, data, split)
    if json:
        print_json(evaluation_report.metrics(result))
    else:
        columns = ("prediction", "resolution", *(f">{name.lower()}" for name in evaluation_report.HEADINGS))
        scores = [
            (name, resolution, *(evaluation_report.rounded(number) for number in numbers))
            for name, resolution, *numbers in evaluation_report.score_rows(result)
        ]
        found, timing = result.data, result.timing
        title = f"{found['split']} split of {found['store']}: {found['molecules']} molecules, {found['sites']} sites"
        show_table(*columns, title=title, rows=scores)
        print("Errors: mean squared errors in units of the squared mean intensity of the training set; 0 is perfect.")
        print(
            f"Time: {timing.batched_ms:.1f} ms per molecule in batches, {timing.single_ms:.1f} ms one by one "
            f"({timing.threads} threads, {timing.device})."
        )
        if result.coverage is not None:
            title = f"Held by the {100 * result.coverage.level:g} % band (± its mean half-width)"
            header, held = evaluation_report.coverage_rows(result.coverage)
            show_table(header[0], *(f">{name.lower()}" for name in header[1:]), title=title, rows=held)
            print(evaluation_report.flag_text(result.coverage))
        for text in result.notes:
            print(text)
    if record:
        evaluation_report.record_metrics(result, model)
    if report is not None:
        evaluation_report.write_report(result, report)


def check(model: Models, json: Json = False) -> None:
    """Check symmetries, forces against the energy, signs, batching and smoothness.

    Every check is one line that says what was measured, in double precision, and what is allowed. The exit code is 1
    if the model breaks a promise.

    \b
    Examples:
      equispec check ck-tensor
      equispec check runs/md17-ethanol
    """
    from equispec.workflows.checks import check_model, failed

    results = check_model(model)
    broken = failed(results)
    if json:
        print_json({"passed": not broken, "checks": [asdict(result) for result in results]})
    else:
        columns = ("check", "verdict", ">measured", "allowed", "in words")
        show_table(*columns, rows=[result.row for result in results])
        print(f"{len(results) - len(broken)} of {len(results)} kept." if broken else "All promises kept.")
    if broken:
        raise typer.Exit(1)
