"""Turns the parser's page-long messages into one line."""

import re

_NOISE = re.compile(
    r"^(Expected a <class 'NoneType'>|Expected a path but .*|Does not validate against any of the Union subtypes)$"
)
_DENIED = re.compile(r", denied by the '\S+' entry of the import path denylist\. Add .*? to allow it\.")
_MOST = 3


def one_line(message: str, command: str = "") -> str:
    """Shorten a message of the config parser to what decides.

    Args:
        message: The parser's message, of any number of lines.
        command: The command whose help is pointed at; "" points at none.

    Returns:
        One line: the key that is wrong, and why.
    """
    keys = re.findall(r'Parser key "([^"]+)"', message)
    reasons = _reasons(message)
    text = "; ".join(reasons[:_MOST]) if reasons else " ".join(message.split())
    given = re.findall(r"^\s*Given value: (.*)$", message, flags=re.MULTILINE)
    if keys:
        shown = f" {given[-1]}" if given and _is_short(given[-1]) else ""
        text = f"{'.'.join(keys)}{shown}: {text}"
    text = _DENIED.sub(" in a config", text)
    text = re.sub(r"Expected an? <class '([\w.]+)'>", r"expected \1", text)
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    return f"{text}; see `naruto-vision {command} --help`" if "unrecognized" in text or "required" in text else text


def _is_short(value: str) -> bool:
    return len(value) <= 60 and not value.startswith("NestedArg(")


def _reasons(message: str) -> list[str]:
    """Return the entries of the parser's list of reasons, without those that say nothing."""
    entries: list[str] = []
    for line in (line.strip() for line in message.splitlines()):
        if line.startswith("- "):
            entries.append(line[2:])
        elif line.startswith(("Subtypes:", "Errors:", "Given value")):
            entries.append("")
        elif entries and entries[-1]:
            entries[-1] += f" {line}"
    useful = [entry.strip() for entry in entries if entry and not _NOISE.match(entry.strip())]
    return list(dict.fromkeys(useful))
