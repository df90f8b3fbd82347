"""``dig-env doctor``: is this machine ready?"""

from __future__ import annotations

import sys

from rich.text import Text

from dig_env.agents.cli.output import Output, Printed


def doctor(output: Printed = Output()) -> None:
    """Check Python, libraries, Blender, disk, memory and GPU, and say what to do.

    Args:
        output: what is printed.
    """
    from dig_env.agents.cli.checks import diagnose

    findings = []
    for finding in diagnose():
        findings.append(finding)
        mark = ("ok  ", "green") if finding.ok else ("FAIL", "red")
        output.say(Text.assemble(mark, f" {finding.name}: {finding.detail}"))
        if finding.advice:
            output.say(f"     {finding.advice}")
    sound = all(finding.ok for finding in findings)
    output.result({"ok": sound, "findings": [finding.to_json() for finding in findings]})
    sys.exit(0 if sound else 1)
