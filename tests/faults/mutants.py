"""Remove one guard at a time; a test must notice: `python -m tests.faults.mutants [new | part of a guard's name]`.

Each mutant is a copy of the repository with one guard taken out. The list, with what noticed, is in
docs/reliability.md.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
WORKERS = min(4, len(os.sched_getaffinity(0)))
NEW = "new"
"""The argument that stands for the guards that are not in the list yet."""
BLOCK = re.compile(r"(<!-- guards -->\n).*?(<!-- /guards -->)", re.DOTALL)
COPIED = (
    "graft", "components", "pipelines", "tests", "expectations", "docs", "params.yaml", "pyproject.toml", "Makefile",
    "constraints.txt",
)  # fmt: skip


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
OWNERS, PACKED = "tests/core/test_owners.py", "tests/data/test_packed_sets.py"
STORE, UNDELIVERED = "tests/runs/test_store_file.py", "tests/runs/test_undelivered.py"
UNPACK = "tests/data/test_unpack.py"
SERVER = "tests/faults/test_tracking_server.py::test_a_server_that_fails_at_any_request_loses_neither_work_nor_record"
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
           "if adopted := find_unfinished(client, self.versions(), key, tags.get(PIPELINE_TAG)):",
           "if adopted := None:",
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
    Mutant("seeds have a range", "graft/params/quantities.py", "Field(ge=0, le=2**32 - 1)", "Field()",
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
    Mutant("a store appears when it is complete", "graft/runs/store_file.py", "with replacing(database) as temporary:",
           "if temporary := database:",
           "tests/runs/test_store_file.py::test_a_kill_while_the_store_is_made_leaves_one_that_works"),
    Mutant("a killed commit is undone", "graft/runs/store_file.py", "?mode=rw", "?mode=ro",
           "tests/runs/test_store_file.py::test_a_kill_in_a_commit_is_undone_by_whoever_opens_the_store_next"),
    Mutant("what MLflow does not take is kept", "graft/runs/tracking.py",
           "except Exception as error:", "except ZeroDivisionError as error:",
           "tests/runs/test_undelivered.py::test_an_outage_at_any_request_loses_neither_work_nor_record"),
    Mutant("one run at a time in a folder", "pipelines/local/occupied.py", "fcntl.LOCK_EX | fcntl.LOCK_NB",
           "fcntl.LOCK_SH | fcntl.LOCK_NB", "tests/pipelines/local/test_occupied.py"),
    Mutant("SIGTERM goes on to the children", "graft/runs/termination.py", "            child.terminate()\n",
           "            pass\n", "tests/runs/test_termination.py"),
    Mutant("runs without an owner are killed", "graft/runs/abandoned.py",
           "if not is_alive(run.data.tags[PROCESS_TAG])]", "if False]", "tests/runs/test_abandoned.py"),
    Mutant("no clock moves the start of a process", "graft/core/owners.py",
           "    if not _STAT.exists():\n        return _s", "    if True:\n        return _s",
           f"{OWNERS}::test_setting_the_clock_changes_neither_the_owner_nor_the_age"),
    Mutant("a zombie is not alive", "graft/core/owners.py",
           "if fields[_STATE] in _ENDED or int(fields[_FLAGS]) & _EXITING:", "if False:",
           f"{OWNERS}::test_a_killed_process_that_nobody_has_waited_for_is_not_alive"),
    Mutant("what a rerun has finished is not adopted again", "graft/serving/adoption.py",
           "one.tags.get(ADOPTED_TAG) or one.run_id", "one.run_id",
           f"{REGISTERED}::test_a_version_that_a_rerun_has_finished_is_not_adopted_again"),
    Mutant("a pipeline ends when all is in place", "graft/runs/tracking.py",
           "last = log.finishes_pipeline and PIPELINE_PROCESS not in os.environ", "last = log.finishes_pipeline",
           f"{REGISTERED}::test_a_pipeline_killed_after_its_last_step_registers_no_second_model"),
    Mutant("what a killed pipeline registered is adopted", "graft/serving/adoption.py",
           "    return _interrupted(client, tags.get(PARENT_TAG)) and", "    return False and",
           f"{REGISTERED}::test_a_pipeline_killed_after_its_last_step_registers_no_second_model"),
    Mutant("what another pipeline has reused is not adopted", "graft/serving/adoption.py",
           "and not _taken_over(client, run)", "",
           f"{REGISTERED}::test_a_version_that_a_pipeline_has_reused_is_its_own"),
    Mutant("a step that is tried again is adopted", "graft/serving/adoption.py",
           "if same or _interrupted", "if _interrupted",
           f"{REGISTERED}::test_a_pipeline_killed_after_its_last_step_registers_no_second_model"),
    Mutant("rows of a request", "graft/serving/limits.py", "if len(images) > rows:", "if False:",
           "tests/serving/test_limits.py::test_too_many_rows_and_bytes"),
    Mutant("pixels of a request", "graft/serving/limits.py", "min(transform.max_pixels, self._limits.pixels)",
           "transform.max_pixels", "tests/serving/test_limits.py::test_the_servers_own_limit_of_pixels"),
    Mutant("large images wait for their turn", "graft/serving/limits.py",
           "if not self._turns.acquire(timeout=PATIENCE_SECONDS):", "if not self._turns.acquire(timeout=0) and False:",
           "tests/serving/test_limits.py::test_large_images_wait_for_their_turn"),
    Mutant("no message repeats a password", "graft/core/credentials.py",
           "_USER_INFO.sub(rf\"\\1{_HIDDEN}@\", text)", "text",
           "tests/core/test_credentials.py"),
    Mutant("lengths of a saved set stay in its file", "graft/data/packed_sets.py", "batch.validate(full=True)", "pass",
           f"{PACKED}::test_lengths_that_lead_out_of_a_saved_file_are_an_error_not_the_end_of_the_process"),
    Mutant("a split stays in its folder", "graft/data/packed_sets.py", "if name != PurePosixPath(name).name]",
           "if False]", f"{PACKED}::test_a_split_cannot_lead_out_of_a_saved_set"),
    Mutant("a table is no bomb", "graft/data/packed_sets.py", "        _check_size(file, opened.metadata)\n", "",
           f"{PACKED}::test_a_table_that_unpacks_to_a_thousand_times_its_size_is_refused"),
    Mutant("setup asks for hashes", "Makefile", "pip --require-hashes -r $(SETUP_LOCK)", "pip -r $(SETUP_LOCK)",
           "tests/components/test_lock.py"),
    Mutant("a half-made store is set aside", "graft/runs/store_file.py", "        if _is_complete(database):\n",
           "        if True:\n", f"{STORE}::test_a_half_made_store_is_set_aside"),
    Mutant("a damaged store is one line", "graft/runs/store_file.py", "except DATABASE_FAULTS as error:",
           "except ZeroDivisionError as error:", f"{STORE}::test_a_damaged_store_is_one_line"),
    Mutant("what a store raises is one line", "graft/runs/mlflow_store.py",
           "library in (\"mlflow\", \"sqlalchemy\", \"sqlite3\", \"alembic\")", "False",
           f"{DISK}::test_whatever_a_store_raises_is_one_line_that_names_it"),
    Mutant("memory that is short is one line", "graft/core/boundary.py", "        if isinstance(error, MemoryError):",
           "        if False:", f"{DISK}::test_whatever_the_machine_lacks_is_one_line"),
    Mutant("what a parser raises is one line", "graft/core/boundary.py", "except Exception as fault:",
           "except ZeroDivisionError as fault:", "tests/continual/test_tensor_file.py"),
    Mutant("what an archive raises is one line", "graft/data/unpack.py", "except Exception as error:",
           "except ZeroDivisionError as error:", f"{UNPACK}::test_a_name_that_no_file_can_have"),
    Mutant("what was kept is delivered by the next step", "graft/runs/tracking.py",
           "        undelivered.deliver(record.uri)\n", "",
           f"{UNDELIVERED}::test_a_step_goes_on_without_a_server_that_answers_and_the_next_one_tells_it"),
    Mutant("a step goes on if MLflow fails while its run is opened", "graft/runs/tracking.py",
           "with usable_store(record.uri), patience(RECORDING):", "with patience(RECORDING):",
           f"{SERVER}[500-2-answers 500]"),
    Mutant("a step with inputs goes on without MLflow", "graft/runs/step.py", "goes_on=any(taken.values())",
           "goes_on=False",
           f"{UNDELIVERED}::test_a_step_goes_on_without_a_server_that_answers_and_the_next_one_tells_it"),
    Mutant("temporaries without an owner are swept", "graft/core/temporaries.py", "    _sweep(place)\n", "",
           "tests/core/test_temporaries.py"),
    Mutant("a lock is one for all processes", "graft/core/temporaries.py", "os.environ.get(_MACHINES) or", "",
           "tests/core/test_temporaries.py"),
    Mutant("images without features are noticed", "graft/backbones/incremental.py", "if filled != len(new):",
           "if False:", f"{CACHE}::test_images_that_got_no_features_are_noticed"),
    Mutant("files that were added are refused", "graft/core/checksums.py", "if every_file and (added",
           "if False and (added",
           "tests/core/test_checksums.py::test_what_was_added_is_refused_where_every_file_counts"),
    Mutant("a cell is read as it was", "graft/core/csv_table.py",
           "field[1:] if _MARKED.match(field) else field", "field",
           "tests/core/test_csv_table.py::test_a_formula_is_text_for_a_spreadsheet_and_itself_for_a_reader"),
    Mutant("nothing outside of a folder is read", "graft/data/safe_paths.py",
           "    if not Path(real).is_relative_to(root):", "    if False:",
           "tests/data/test_listing.py::test_links_pipes_and_loops_are_listed_and_not_read"),
    Mutant("nothing outside of a folder is written", "graft/data/unpack.py",
           "if pure.is_absolute() or \"..\" in pure.parts", "if pure.is_absolute()", "tests/data/test_unpack.py"),
    Mutant("a picture has a limit of pixels", "graft/imaging/decode.py", "width * height > max_pixels", "False",
           "tests/faults/test_fuzz.py::test_a_decompression_bomb_is_refused_by_its_header"),
    Mutant("code in weights is not run", "graft/backbones/weights.py", "weights_only=True", "weights_only=False",
           "tests/backbones/test_weights.py::test_code_in_a_file_of_weights_is_not_run"),
    Mutant("code in a program is not run", "graft/serving/server.py", "if _pickled(archive, entry):", "if False:",
           "tests/serving/test_packaging.py::test_a_program_with_a_pickle_is_refused"),
    Mutant("bytes of a request", "graft/serving/limits.py", "if (size := sum(map(len, images))) > most:",
           "if (size := 0) > most:", "tests/serving/test_limits.py::test_too_many_rows_and_bytes"),
    Mutant("bytes of a body", "graft/web/access.py", "int(length) > settings.limits.request_bytes", "False",
           "tests/web/test_access.py::test_limits_are_told_and_kept"),
    Mutant("a token is asked for", "graft/web/access.py",
           "not _has_token(headers.get(\"authorization\", \"\"), settings.token)", "False",
           "tests/web/test_access.py::test_a_token_keeps_the_model_from_those_who_lack_it"),
    Mutant("corrections have an end", "graft/web/corrections.py", "if len(labels) >= MOST_IMAGES:", "if False:",
           "tests/web/test_corrections.py::test_nobody_fills_the_disk_with_corrections"),
    Mutant("only the store in use is asked", "graft/runs/recorded_runs.py",
           "if uri != tracking_uri() and not is_on_this_machine(uri):", "if False:",
           "tests/runs/test_recorded_runs.py::test_a_summary_cannot_make_mlflow_log_in_somewhere"),
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
    """Try every mutant, those whose guard contains the first argument, or those not in the list; write the list."""
    page = PAGE.read_text(encoding="utf-8")
    wanted, known = sys.argv[1] if len(sys.argv) > 1 else "", listed(page)
    mutants = [one for one in MUTANTS if (one.guard not in known if wanted == NEW else wanted in one.guard)]
    tests = sorted({mutant.test for mutant in mutants})
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(WORKERS) as pool:
        copies = SimpleQueue[Path]()
        for number in range(WORKERS):
            copies.put(copied(Path(name) / str(number)))
        passing = pool.map(lambda test: borrowed(copies, lambda work: passes(test, work)), tests)
        if failing := [test for test, passed in zip(tests, passing, strict=True) if not passed]:
            raise SystemExit(f"fails with all guards in place: {', '.join(failing)}")
        missed = 0
        found = pool.map(lambda mutant: borrowed(copies, lambda work: caught(mutant, work)), mutants)
        for mutant, noticed in zip(mutants, found, strict=True):
            missed += not noticed
            said = "caught" if noticed else "**missed**"
            known[mutant.guard] = f"| {mutant.guard} | `{mutant.file}` | {said}: `{mutant.test}` |"
            print(known[mutant.guard], flush=True)
    rows = [known[mutant.guard] for mutant in MUTANTS if mutant.guard in known]
    text = "\n".join(["| guard | file | without it |", "|---|---|---|", *rows]) + "\n"
    PAGE.write_text(BLOCK.sub(lambda found: found[1] + text + found[2], page), encoding="utf-8")
    sys.exit(1 if missed else 0)


def listed(page: str) -> dict[str, str]:
    """Return the rows of the list by guard."""
    block = BLOCK.search(page)
    rows = [line for line in block[0].splitlines() if line.startswith("| ")][1:] if block else []
    return {row.split(" | ")[0].removeprefix("| "): row for row in rows}


def copied(folder: Path) -> Path:
    """Copy what the tests need of the repository."""
    folder.mkdir()
    for part in COPIED:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / part)
    return folder


def borrowed(copies: "SimpleQueue[Path]", work: Callable[[Path], bool]) -> bool:
    """Do some work in a copy that nobody else uses meanwhile."""
    copy = copies.get()
    try:
        return work(copy)
    finally:
        copies.put(copy)


if __name__ == "__main__":
    main()
