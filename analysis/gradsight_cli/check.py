"""`gradsight check`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator

from gradsight import configuration
from gradsight.finding import Finding, Severity
from gradsight.text import Span

from gradsight_cli.checking import Checked, Task, check_all, check_text
from gradsight_cli.discovery import files
from gradsight_cli.formats import Texts
from gradsight_cli.painting import counted, printer, wants_colour
from gradsight_cli.projects import Projects
from gradsight_cli.reading import Unreadable, decode, decode_json, display, is_notebook, read
from gradsight_cli.surroundings import top_of


def check(options: argparse.Namespace) -> int:
    """Check the paths, print, and return the exit code."""
    projects = Projects(options.isolated)
    report = _Report(options)
    if "-" in options.paths:
        if len(options.paths) > 1:
            print("gradsight: `-` stands for standard input and takes no other paths", file=sys.stderr)
            return 2
        results: Iterable[tuple[str, Checked]] = [_check_standard_input(options)]
    else:
        results = _check_paths(options, projects, report)
    said: set[tuple[str, str, Span]] = set()
    elsewhere: dict[str, list[Finding]] = {}
    for path, checked in results:
        said.update(_identity(finding) for finding in checked.findings)
        for finding in checked.elsewhere:
            elsewhere.setdefault(finding.file, []).append(finding)
        report.add(_configured(checked, projects.of(os.path.dirname(path)).configuration))
    for file, findings in elsewhere.items():
        new = {key: one for one in findings if (key := _identity(one)) not in said}
        more = Checked(file, read(file).text, tuple(new.values()), fixes=((),) * len(new))
        report.add(_configured(more, projects.of(os.path.dirname(file)).configuration), counts=False)
    return report.finish()


def _identity(finding: Finding) -> tuple[str, str, Span]:
    """Equal for what two files show of a third one."""
    return os.path.abspath(finding.file), finding.code, finding.where


def _check_standard_input(options: argparse.Namespace) -> tuple[str, Checked]:
    path = options.stdin_filename or "-"
    name = display(path)
    try:
        raw = sys.stdin.buffer.read()
        file = decode_json(raw) if is_notebook(path) else decode(raw)
    except Unreadable as error:
        return path, Checked(name, problem=str(error))
    root = Projects(isolated=True).root_of(os.path.dirname(os.path.abspath(path)))
    task = Task(
        path, with_fixes=options.fixes, with_silences=options.explain_silence, root=top_of(path, root)
    )
    return path, check_text(name, file, task)


def _check_paths(
    options: argparse.Namespace, projects: Projects, report: _Report
) -> Iterator[tuple[str, Checked]]:
    tasks: dict[str, Task] = {}
    for path in options.paths:
        found = 0
        for file in files(path, projects):
            found += 1
            key = os.path.abspath(file)
            if key not in tasks:
                root = projects.of(os.path.dirname(file)).root
                cache = None if options.no_cache else root
                top = top_of(file, root)
                tasks[key] = Task(file, cache, options.fixes, options.explain_silence, top)
        if not found:
            report.warn(f"no Python files or notebooks below {display(path)}")
    jobs = options.jobs or _cores()
    checked = check_all(list(tasks.values()), jobs)
    if len(tasks) > 1 and sys.stderr.isatty():
        checked = _with_progress(checked, len(tasks), options.color)
    for task, result in zip(tasks.values(), checked, strict=True):
        yield task.path, result


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _configured(checked: Checked, wanted: configuration.Configuration) -> Checked:
    """The result as the project wants to see it; the fixes stay beside their findings."""
    kept = [
        (number, configuration.apply(wanted, [finding])) for number, finding in enumerate(checked.findings)
    ]
    return checked._replace(
        findings=tuple(finding for _, findings in kept for finding in findings),
        fixes=tuple(checked.fixes[number] for number, findings in kept if findings) if checked.fixes else (),
    )


class _Report:
    """Prints each file's findings as they come, where the format can, and counts."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._named = {display(path) for path in options.paths}
        self._format: str = options.output_format
        self._with_fixes: bool = options.fixes
        self._limit = Severity(options.fail_on).rank
        self._texts = Texts()
        self._printer = printer(sys.stdout, options.color) if self._format == "full" else None
        self._objects: list[dict[str, object]] = []
        self._problems: list[Checked] = []
        self._counts = dict.fromkeys(Severity, 0)
        self._files = 0

    def warn(self, message: str) -> None:
        """Say something that is no finding."""
        print(f"gradsight: {message}", file=sys.stderr)

    def add(self, checked: Checked, counts: bool = True) -> None:
        """Take in one file, or what others show of one that does not count itself."""
        if checked.passed_over is not None:
            if checked.file in self._named:
                self.warn(f"{checked.file}: passed over: {checked.passed_over}")
            return
        self._files += counts
        if checked.problem is not None:
            self._problems.append(checked)
            self.warn(f"{checked.file}: {checked.problem}")
            return
        for bug in checked.bugs:
            self.warn(f"{checked.file}: {bug}")
        self._texts.add(checked)
        for finding in checked.findings:
            self._counts[finding.severity] += 1
        self._print(checked)

    def _print(self, checked: Checked) -> None:
        if not checked.findings and not checked.silences:
            return
        if self._printer is not None:
            from gradsight_cli.formats import full

            self._printer.print(full.to_lines(checked, self._texts))
        elif self._format == "concise":
            from gradsight_cli.formats import concise

            for line in concise.to_lines(checked, self._texts):
                print(line)
        elif self._format == "github":
            from gradsight_cli.formats import github

            for line in github.to_lines(checked, self._texts):
                print(line)
        elif self._format == "json":
            from gradsight_cli.formats import json

            self._objects += json.to_objects(checked, self._texts, self._with_fixes)
        else:
            from gradsight_cli.formats import sarif

            self._objects += sarif.to_results(checked, self._texts)
        if checked.silences and self._format in ("github", "json", "sarif"):
            for silence in checked.silences:
                self.warn(f"{self._texts.head(silence.file, silence.where)} silent: {silence.reason}")

    def finish(self) -> int:
        """Print what comes at the end; returns the exit code."""
        if self._format == "json":
            from gradsight_cli.formats import json

            print(json.to_text(self._objects))
        elif self._format == "sarif":
            from gradsight_cli.formats import sarif

            print(sarif.to_text(self._objects, self._problems))
        elif self._printer is not None:
            if self._files > len(self._problems) or not self._problems:
                self._printer.print([[(self._summary(), "")]])
        if self._problems:
            return 2
        return int(any(count for severity, count in self._counts.items() if severity.rank <= self._limit))

    def _summary(self) -> str:
        checked = counted(self._files - len(self._problems), "file")
        found = [counted(count, severity.value) for severity, count in self._counts.items() if count]
        if not found:
            return f"{checked} checked: nothing found"
        return f"{checked} checked: {', '.join(found)}"


def _with_progress(results: Iterator[Checked], total: int, colour: str) -> Iterator[Checked]:
    """Show a bar on the terminal, once the work has taken so long that somebody wonders."""
    from time import monotonic

    begin = monotonic()
    done = 0
    for result in results:
        done += 1
        yield result
        if monotonic() - begin > 0.5:
            break
    if done == total:
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    console = Console(file=sys.stderr, no_color=not wants_colour(sys.stderr, colour))
    # No thread of its own, which would not survive the fork of a worker, and no hand on the other streams.
    bar = Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bar.add_task("checking", total=total, completed=done)
    shown = 0.0
    with bar:
        for result in results:
            bar.update(task, advance=1)
            if monotonic() - shown > 0.1:
                shown = monotonic()
                bar.refresh()
            if result.findings or result.silences or result.problem:  # out of the way of what is printed
                bar.stop()
                yield result
                bar.start()
            else:
                yield result
