"""equispec doctor: is everything there?"""

from equispec.cli.shell import Json, print_json, show_table


def doctor(
    json: Json = False,
) -> None:
    """Look for what is missing.

    Versions, the torch build, devices, shipped models, and how to get what is not there.

    \b
    Example:
      equispec doctor
    """
    from equispec.workflows.doctor import diagnose

    findings = diagnose()
    if json:
        print_json({finding.name: {"found": finding.found, "ok": finding.ok} for finding in findings})
        return
    rows = [("✓" if finding.ok else "✗", finding.name, finding.found) for finding in findings]
    show_table("", "", "", rows=rows, names=False)
