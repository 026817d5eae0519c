"""What `worldgen check` prints and writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldgen.data.check import FolderCheck, check_folder
from worldgen.data.clean import fix_folder
from worldgen.data.contact_sheet import contact_sheet, write_png
from worldgen.data.progress import say_progress
from worldgen.errors import InputError
from worldgen.files import check_writable


def check_and_fix(folder: Path, fix: Path | None, sheet: Path | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Checks a folder, says what was found, writes the contact sheet and the cleaned recordings. Returns the
    figures."""
    if sheet is not None:
        if sheet.suffix.lower() != ".png":
            raise InputError(f"--sheet is a .png, got {sheet}")
        check_writable(sheet, "--sheet")
    check = check_folder(folder, on_progress=say_progress(say))
    say_check(check, say)
    figures = check.to_json()
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        picture, num_shown = contact_sheet(check)
        write_png(sheet, picture)
        part = f", {num_shown} of {len(check.usable)} files, those with findings first"
        say(f"contact sheet: {sheet}" + (part if num_shown < len(check.usable) else ""))
    if fix is not None:
        if not check.usable:
            raise InputError(f"{folder} holds nothing that could be fixed")
        figures["fixed"] = fix_folder(check, fix, say)
    return figures


def say_check(check: FolderCheck, say: Callable[[str], None]) -> None:
    for file in check.files:
        report = file.report
        facts = f"{report.num_frames} frames, {report.width}x{report.height}" if report.status != "refused" else ""
        words = "; ".join(w for w in (report.reason, *report.notes, *file.findings()) if w)
        say(f"{report.status:9}{report.path}  {facts}  {words}".rstrip())
    figures = check.to_json()
    loud = [f.loudness_db for f in check.usable if f.loudness_db is not None]
    say(
        f"{len(check.usable)} of {len(check.files)} files usable, {figures['minutes']:.1f} minutes, "
        f"{figures['usable_minutes']:.1f} of them with something happening"
    )
    if loud:
        quiet = sum(f.peak_db is not None and f.peak_db < -60 for f in check.usable)
        say(f"sound: {len(loud)} files, {min(loud):.0f} to {max(loud):.0f} dBFS, {quiet} silent throughout")
    if total := sum(check.actions.values()):
        ranked = sorted(check.actions.items(), key=lambda item: -item[1])[:12]
        say("actions: " + ", ".join(f"{name} {count / total:.1%}" for name, count in ranked))
        answer = "cannot be told from this much" if check.lag is None else f"{check.lag} frames"
        say(f"lag of the picture behind its actions: {answer}")
    for words in check.findings():
        say(f"note: {words}")
