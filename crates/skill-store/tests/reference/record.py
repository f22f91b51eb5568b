"""Writes the verdicts of the reference validator (PyPI: skills-ref) into corpus.json.

Usage: pip install skills-ref==0.1.1 && python3 record.py
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

from skills_ref.validator import validate

FILE = Path(__file__).with_name("corpus.json")


def is_valid(case):
    """Returns the verdict on a skill. An exception of the validator is a refusal."""
    character, count = case.get("fill", ["", 0])
    directory, text = (
        case[key].replace("{FILL}", character * count) for key in ("directory", "text")
    )
    with tempfile.TemporaryDirectory() as parent:
        skill = Path(parent) / directory
        skill.mkdir()
        (skill / "SKILL.md").write_bytes(text.encode())
        try:
            return not validate(skill)
        except Exception:
            return False


corpus = json.loads(FILE.read_text())
for case in corpus["cases"]:
    case["valid"] = is_valid(case)
lines = ",\n".join("  " + json.dumps(case) for case in corpus["cases"])
validator = json.dumps("skills-ref " + version("skills-ref"))
FILE.write_text(f'{{"validator": {validator}, "cases": [\n{lines}\n]}}\n')
