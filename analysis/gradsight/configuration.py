"""What a project asks for: which rules speak, and how loud.

Pure: whoever reads `[tool.gradsight]` builds a `Configuration` with `to_configuration`, and applies it to
findings that were computed without it. So results can be kept however the configuration changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from gradsight.finding import Finding, Severity

EVERY_RULE = "ALL"
_KEYS = ("select", "ignore", "exclude", "severity")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings of `[tool.gradsight]`. A selector is a code, the beginning of one (`GS1`), or `ALL`."""

    select: tuple[str, ...] = (EVERY_RULE,)
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()  # patterns as in a .gitignore, relative to the file that they stand in
    severity: tuple[
        tuple[str, Severity], ...
    ] = ()  # selector -> how loud its findings are, whatever the rule says


class BadConfiguration(ValueError):
    """A setting that cannot be meant; its text says what to write instead."""


def to_configuration(table: Mapping[str, object], codes: Collection[str]) -> Configuration:
    """The configuration that a `[tool.gradsight]` table stands for; `codes` are those of all rules.

    Raises:
        BadConfiguration: an unknown key or selector, or a value of the wrong type.
    """
    for key in table:
        if key not in _KEYS:
            raise BadConfiguration(f"`{key}` is no setting of Gradsight{_near(key, _KEYS)}")
    known = sorted({code[:length] for code in codes for length in range(1, len(code) + 1)} | {EVERY_RULE})

    def to_selector(value: str, key: str) -> str:
        if value.upper() not in known:
            raise BadConfiguration(f"`{key}` names `{value}`, which is no rule{_near(value.upper(), codes)}")
        return value.upper()

    def strings(key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = table.get(key, default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
            raise BadConfiguration(
                f'`{key}` must be a list of strings, such as `{key} = ["{_EXAMPLES[key]}"]`'
            )
        return tuple(value)

    loud = table.get("severity", {})
    if not isinstance(loud, Mapping):
        raise BadConfiguration(
            '`severity` must be a table from rule to severity: `severity = {GS301 = "warning"}`'
        )
    severities = {each.value: each for each in Severity}
    for code, value in loud.items():
        if value not in severities:
            raise BadConfiguration(
                f"`severity` of `{code}` is {value!r}; it must be one of {', '.join(severities)}"
                f"{_near(str(value), severities)}"
            )
    return Configuration(
        select=tuple(to_selector(each, "select") for each in strings("select", (EVERY_RULE,))),
        ignore=tuple(to_selector(each, "ignore") for each in strings("ignore", ())),
        exclude=strings("exclude", ()),
        severity=tuple((to_selector(code, "severity"), severities[value]) for code, value in loud.items()),
    )


_EXAMPLES = {"select": "GS1", "ignore": "GS301", "exclude": "legacy/"}


def apply(configuration: Configuration, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that the project wants to see, as loud as it wants them."""
    out = []
    for finding in findings:
        wanted = _closeness(finding.code, configuration.select)
        unwanted = _closeness(finding.code, configuration.ignore)
        if wanted < 0 or unwanted >= wanted:
            continue
        loud = [each for each in configuration.severity if _closeness(finding.code, each[:1]) >= 0]
        if loud:
            nearest = max(loud, key=lambda each: _closeness(finding.code, each[:1]))
            finding = replace(finding, severity=nearest[1])
        out.append(finding)
    return tuple(out)


def _closeness(code: str, selectors: Iterable[str]) -> int:
    """How long the longest selector is that names the rule (0 for ALL), -1 if none does."""
    return max(
        (
            0 if each == EVERY_RULE else len(each)
            for each in selectors
            if each == EVERY_RULE or code.startswith(each)
        ),
        default=-1,
    )


def _near(wrong: str, right: Iterable[str]) -> str:
    import difflib  # only on the way to an error message

    near = difflib.get_close_matches(wrong, list(right), n=3, cutoff=0.5)
    return f": did you mean {' or '.join(f'`{each}`' for each in near)}?" if near else ""
