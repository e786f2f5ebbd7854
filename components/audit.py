"""Audit what is installed: bill of materials with licences, known vulnerabilities: `python -m components.audit`.

A package whose licence, or that of a library inside its wheel, asks for more than its text to be kept must be in
`REVIEWED`, with the reason why it may be used. `pip-audit` is asked about vulnerabilities where it is installed and its
service answers.
"""

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from components.vulnerabilities import look_for_vulnerabilities

OUT = Path("outputs/audit/environment.cdx.json")
RECIPROCAL = re.compile(
    r"\b[AL]?GPL|General Public License|\bMPL|Mozilla|\bEPL|Eclipse|\bEUPL|CC-BY-(?:SA|NC)|Proprietary", re.IGNORECASE
)
PERMISSIVE = re.compile(
    r"Apache|\bMIT\b|BSD|ISC|PSF|Python Software|HPND|Zlib|Unlicense|CC0|Public Domain|Zope", re.IGNORECASE
)
VAGUE = {"OSI Approved", "UNKNOWN", "Other/Proprietary License"}
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")
BUNDLED = "unchanged, as a file of its own; files of it that are changed stay under its licence"
OPTIONAL = "only in the extra `formats`, which no image has and nothing needs; pass it on with Graft under the GPL only"
NVIDIA = "NVIDIA's terms: comes with torch for CUDA, and may be used and passed on unchanged"
REVIEWED = {
    "asyncssh": "EPL-2.0 or GPL-2.0-or-later: used under EPL, unchanged (through DVC, for ssh remotes)",
    "certifi": f"MPL-2.0: {BUNDLED}",
    "dulwich": "Apache-2.0 or GPL-2.0-or-later: used under Apache-2.0 (through DVC)",
    "grandalf": "GPLv2 or EPL-1.0: used under EPL; only `dvc dag` imports it, Graft never does (through DVC)",
    "hypothesis": f"MPL-2.0: {BUNDLED}; for tests only",
    "orjson": f"MPL-2.0 and (Apache-2.0 or MIT): {BUNDLED}",
    "pathspec": f"MPL-2.0: {BUNDLED} (through DVC)",
    "pillow-heif": f"BSD, but its wheels hold libheif (LGPL) and x265 (GPLv2): {OPTIONAL}",
    "pillow-jxl-plugin": f"GPL-3.0-or-later: {OPTIONAL}",
    "pygit2": "GPLv2 with a linking exception, which allows use from programs of any licence (through DVC)",
    "shtab": f"MPL-2.0: {BUNDLED} (through DVC)",
    "tqdm": f"MPL-2.0 and MIT: {BUNDLED}",
}


def licence(distribution: Distribution) -> str:
    """Return what a package says of its licence, in one line; empty if it says nothing."""
    metadata: Any = distribution.metadata
    classifiers = [
        one.split(" :: ")[-1] for one in metadata.get_all("Classifier") or [] if one.startswith("License ::")
    ]
    stated = metadata.get("License-Expression") or " and ".join({*classifiers} - VAGUE) or metadata.get("License")
    if not stated or stated in VAGUE:
        stated = next((first for name in LICENCE_FILES if (first := _first_line(distribution, name))), "")
    of_wheel = _first_line(distribution, "LICENSES_bundled.txt", RECIPROCAL)
    return " ".join(f"{stated} {f'({of_wheel})' if of_wheel else ''}".split())[:160]


def _first_line(distribution: Distribution, file: str, wanted: re.Pattern[str] = re.compile(r"\w")) -> str:
    """Return the first line of a licence file with such a text; empty if there is none."""
    for path in distribution.files or ():
        if path.name == file and ".dist-info" in str(path):
            lines = path.locate().read_text(encoding="utf-8", errors="replace").splitlines()  # type: ignore[attr-defined]
            return next((line.strip() for line in lines if wanted.search(line)), "")
    return ""


def reviewed(name: str) -> str | None:
    """Return why a package may be used; None if nobody has looked at it."""
    return NVIDIA if name.startswith(("nvidia-", "cuda-")) else REVIEWED.get(name)


def questions(found: dict[str, str]) -> Iterator[str]:
    """Yield one line for each package whose licence nobody has looked at."""
    for name, text in sorted(found.items()):
        if reviewed(name) is None and RECIPROCAL.search(text):
            yield f"{name}: {text}: look at it, and write into components/audit.py why it may be used"


def bill_of_materials() -> dict[str, Any]:
    """Return the CycloneDX 1.5 document of this environment."""
    installed = {one.metadata["Name"].lower().replace("_", "-"): one for one in distributions()}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "graft"}},
        "components": [
            {
                "type": "library",
                "name": name,
                "version": one.version,
                "purl": f"pkg:pypi/{name}@{one.version}",
                "licenses": [{"license": {"name": licence(one) or "not stated"}}],
                **({"description": reason} if (reason := reviewed(name)) else {}),
            }
            for name, one in sorted(installed.items())
        ],
    }


def main() -> None:
    """Write the bill of materials; print what needs a look; exit with 1 if something does."""
    bill = bill_of_materials()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
    licences = {one["name"]: one["licenses"][0]["license"]["name"] for one in bill["components"]}
    known = {name for name, text in licences.items() if PERMISSIVE.search(text) or RECIPROCAL.search(text)}
    open_questions = list(questions(licences))
    looked_at = sum(reviewed(name) is not None for name in licences)
    print(f"{OUT}: {len(licences)} packages, {looked_at} with terms that were looked at")
    if unclear := sorted(name for name in set(licences) - known if reviewed(name) is None):
        print(f"licence not stated in a known form: {', '.join(unclear)}")
    print("\n".join(open_questions) or "no licence is left to look at")
    found = look_for_vulnerabilities()
    print("\n".join([f"vulnerabilities: {found.summary}", *found.known]))
    sys.exit(1 if open_questions or found.known else 0)


if __name__ == "__main__":
    main()
