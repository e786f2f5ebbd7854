"""Remove one guard at a time; a test must notice: `python -m tests.faults.mutants`.

Each mutant is a copy of the repository with one guard taken out. The list, with what noticed, is in
docs/reliability.md.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BLOCK = re.compile(r"(<!-- guards -->\n).*?(<!-- /guards -->)", re.DOTALL)
COPIED = ("graft", "components", "pipelines", "tests", "expectations", "docs", "params.yaml", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """One guard, and the test that sees that it is missing."""

    guard: str
    file: str
    old: str
    new: str
    test: str


ARTIFACTS, REGISTERED = "tests/faults/test_damaged_artifacts.py", "tests/faults/test_registered_models.py"
CACHE, DISK, PARAMETERS = "tests/faults/test_cache.py", "tests/faults/test_disk.py", "tests/faults/test_parameters.py"
MUTANTS = (
    Mutant("artifacts are compared with their checksums", "graft/core/artifact.py",
           "    check_folder(file.parent)\n", "", f"{ARTIFACTS}::test_a_record_that_is_valid_and_says_something_else"),
    Mutant("arrays are compared with their checksums", "graft/core/mapped_arrays.py", "    check_file(file)\n", "",
           f"{ARTIFACTS}::test_a_flipped_bit"),
    Mutant("an image is compared with its id", "graft/data/arrow_shards.py", "if not self._checked[row]:", "if False:",
           f"{CACHE}::test_an_image_that_is_not_what_its_id_says_is_refused"),
    Mutant("a cached segment is compared with its checksums", "graft/core/mapped_arrays.py",
           "    check_file(file)\n", "", f"{CACHE}::test_a_damaged_cache_changes_nothing"),
    Mutant("a damaged entry of the cache is remade", "graft/core/cache.py",
           "        check_folder(entry, every_file=True)\n", "", f"{CACHE}::test_a_damaged_cache_changes_nothing"),
    Mutant("a cache without room is a warning", "graft/core/cache.py",
           "    except (GraftError, OSError) as error:\n        warnings.warn(f\"{entry}: not kept",
           "    except ZeroDivisionError as error:\n        warnings.warn(f\"{entry}: not kept",
           f"{CACHE}::test_a_cache_without_room_costs_time_only"),
    Mutant("a version's files are compared with its tag", "graft/runs/registered_files.py",
           "    if FILES_TAG in tags:", "    if False:", f"{REGISTERED}::test_a_changed_version_is_refused"),
    Mutant("code is compared with its digest", "graft/serving/registered_content.py",
           "packed_code_digest(folder) != tags[\"code.digest\"]", "False",
           f"{REGISTERED}::test_a_version_of_an_earlier_graft_is_compared_by_its_digests"),
    Mutant("served labels are those of the model", "graft/serving/registered_content.py",
           "if None not in (labels, known) and labels != known:", "if False:",
           f"{REGISTERED}::test_a_version_of_an_earlier_graft_is_compared_by_its_digests"),
    Mutant("weights are compared with their digest", "graft/serving/registered_content.py",
           "if FILES_TAG not in tags and \"weights.digest\" in tags", "if False and \"weights.digest\" in tags",
           f"{REGISTERED}::test_a_version_of_an_earlier_graft_is_compared_by_its_digests"),
    Mutant("a temperature is positive", "graft/stats/temperature_scaling.py",
           "Field(gt=0.0, le=1000.0, allow_inf_nan=False)", "Field()",
           f"{REGISTERED}::test_impossible_numbers_in_a_bundle"),
    Mutant("weights are finite", "graft/backbones/from_tensors.py", "not torch.isfinite(tensor).all()", "False",
           f"{REGISTERED}::test_impossible_numbers_in_a_bundle"),
    Mutant("a killed registration is adopted", "graft/serving/registry.py",
           "if adopted := find_unfinished(client, self.versions(), key):", "if adopted := None:",
           f"{REGISTERED}::test_a_registration_killed_at_any_request_is_finished_by_its_rerun"),
    Mutant("space is reserved before it is mapped", "graft/core/mapped_arrays.py",
           "        os.posix_fallocate(descriptor, 0, size)\n", "        os.ftruncate(descriptor, size)\n",
           f"{DISK}::test_arrays_are_reserved_before_they_are_mapped"),
    Mutant("what a killed process left is swept", "graft/core/atomic.py", "                remove(left)\n",
           "                pass\n", "tests/core/test_atomic.py"),
    Mutant("text of a table is UTF-8", "graft/core/parquet.py", "        stored.validate(full=True)", "        #",
           "tests/faults/test_fuzz.py::test_every_reader"),
    Mutant("a message is one line", "graft/core/errors.py", ".translate(_SHOWN)", "", "tests/core/test_errors.py"),
    Mutant("a full disk is one line", "graft/runs/step.py", "machine_fault(error) or store_fault(error)", "None",
           f"{DISK}::test_whatever_the_machine_lacks_is_one_line"),
    Mutant("numbers have bounds", "graft/params/quantities.py",
           "Annotated[int, Field(ge=1, le=MOST_IMAGES_AT_ONCE)]", "int",
           f"{PARAMETERS}::test_every_number_has_a_lowest_and_a_highest_value"),
    Mutant("no parameter holds a password", "graft/params/section.py",
           "any(holds_credentials(text) for text in _texts(value))", "False",
           f"{PARAMETERS}::test_a_password_in_any_parameter_is_refused_and_never_repeated"),
    Mutant("a name is one for MLflow", "graft/params/register_model.py", "any(sign in name for sign in",
           "any(False and sign in name for sign in",
           f"{PARAMETERS}::test_a_name_that_mlflow_or_its_addresses_do_not_take_is_refused_before_training"),
    Mutant("a cell is no formula", "graft/core/csv_table.py", "return f\"'{cell}\" if", "return cell if",
           "tests/core/test_csv_table.py"),
    Mutant("latency is judged by CPU time under load", "graft/serving/latency.py",
           "np.median(np.minimum(clock, computed))", "np.median(clock)", "tests/serving/test_latency.py"),
    Mutant("a checkpoint is compared with its digest", "graft/training/checkpoints.py",
           "if digest and digest == _digest(tensors) else None", "if digest else None",
           "tests/training/test_checkpoints.py"),
)  # fmt: skip


def passes(test: str, work: Path) -> bool:
    """Return whether a test passes in a copy of the repository."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-x", "-p", "no:cacheprovider", test]
    environment = {name: value for name, value in os.environ.items() if name != "GRAFT_FAULTS_RESULTS"}
    environment["PYTHONPATH"] = str(work)
    environment.setdefault("GRAFT_SHARED", str(ROOT.parent / "shared"))
    return subprocess.run(command, cwd=work, env=environment, capture_output=True, check=False).returncode == 0


def caught(mutant: Mutant, work: Path) -> bool:
    """Return whether the test fails without the guard."""
    file = work / mutant.file
    content = file.read_text(encoding="utf-8")
    if mutant.old not in content:
        raise SystemExit(f"{mutant.file}: no guard {mutant.guard!r} any more; correct tests/faults/mutants.py")
    file.write_text(content.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return not passes(mutant.test, work)
    finally:
        file.write_text(content, encoding="utf-8")


def main() -> None:
    """Try every mutant, or those whose guard contains the first argument; write the list."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    mutants = [mutant for mutant in MUTANTS if wanted in mutant.guard]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for part in COPIED:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, work / part)
        failing = [test for test in sorted({mutant.test for mutant in mutants}) if not passes(test, work)]
        if failing:
            raise SystemExit(f"fails with all guards in place: {', '.join(failing)}")
        rows, missed = [], 0
        for mutant in mutants:
            found = caught(mutant, work)
            missed += not found
            said = "caught" if found else "**missed**"
            rows.append(f"| {mutant.guard} | `{mutant.file}` | {said}: `{mutant.test}` |")
            print(rows[-1], flush=True)
    if not wanted:
        text = "\n".join(["| guard | file | without it |", "|---|---|---|", *rows]) + "\n"
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(BLOCK.sub(lambda found: found[1] + text + found[2], page), encoding="utf-8")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
