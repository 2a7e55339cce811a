"""The record of a run: what is committed stays, however the run ends, and opens again as it was."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simnet.errors import DataError, Diverged, InputError, Outcome, Starved
from simnet.record import Record, RecordWriter

HEADER = {"seed": 3, "versions": {"simnet": "0.1.0"}, "device": "cpu", "threads": 1, "tier": "arrays"}


def row(r: int, **more: float) -> dict[str, Any]:
    return {"round": r, "sim_time_s": 0.5 * r, "host_time_s": 0.1 * r, "wire_bytes": 100 * r, "messages": 4 * r, **more}


def write_all(directory: Path | None) -> RecordWriter:
    writer = RecordWriter(directory, HEADER, "seed: 3\n")
    writer.rounds([row(1, objective=2.0), row(2, objective=1.0)])
    writer.rounds([row(4, objective=0.5, accuracy=0.9)])
    writer.nodes([{"node": 0, "role": "server", "oracle": "fo", "compute_s": 1.5, "sent_bytes": np.int64(7)}])
    writer.links({"source": np.array([0, 1]), "target": np.array([1, 0]), "wire_bytes": np.array([5, 2**60])})
    writer.messages({"exchange": np.arange(3), "sent_s": np.array([0.1, 0.2, 0.3]), "delivered": [1, 0, 1]})
    writer.spans([{"node": 0, "kind": "compute", "start_s": 0.0, "end_s": 1.0, "round": 0}])
    summary = {"sim_time_s": 2.0, "log_hash": "ab12", "objective": math.nan, "bytes_by_kind": {"payload": np.int64(9)}}
    writer.finish(Outcome.FINISHED, summary, {"x": np.arange(6.0).reshape(2, 3)})
    return writer


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_what_was_written_is_what_is_read(where: str, tmp_path: Path) -> None:
    writer = write_all(tmp_path / "run" if where == "disk" else None)
    live = writer.record()
    writer.close()
    for record in [live] if where == "memory" else [live, Record.load(tmp_path / "run")]:
        assert record.header == {**HEADER, "log_hash": "ab12"}
        assert record.scenario == "seed: 3\n"
        assert record.outcome == "finished"
        assert record.ended is Outcome.FINISHED
        assert record.rounds["round"].tolist() == [1, 2, 4]
        assert record.rounds["wire_bytes"].dtype == np.int64
        np.testing.assert_array_equal(record.rounds["accuracy"], [np.nan, np.nan, 0.9])
        assert record.nodes["role"].tolist() == ["server"]
        assert record.nodes["sent_bytes"].tolist() == [7]
        assert record.links["wire_bytes"].tolist() == [5, 2**60]
        assert record.messages["delivered"].tolist() == [1, 0, 1]
        assert record.spans["kind"].tolist() == ["compute"]
        assert record.summary["bytes_by_kind"] == {"payload": 9}
        assert math.isnan(record.summary["objective"])
        np.testing.assert_array_equal(record.final["x"], np.arange(6.0).reshape(2, 3))


def test_numbers_that_are_not_finite_survive(tmp_path: Path) -> None:
    values = [math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 0.1]
    with RecordWriter(tmp_path / "run", HEADER, "") as writer:
        writer.rounds([row(r, objective=v) for r, v in enumerate(values)])
    np.testing.assert_array_equal(Record.load(tmp_path / "run").rounds["objective"], values)


def test_an_empty_record_has_the_columns_every_row_would_have(tmp_path: Path) -> None:
    RecordWriter(tmp_path / "run", HEADER, "").close()
    record = Record.load(tmp_path / "run")
    assert record.outcome == "interrupted: killed before the first round"
    assert record.rounds["round"].shape == (0,)
    assert record.links["wire_bytes"].dtype == np.int64
    assert record.summary == {}
    assert record.final == {}


def test_the_summary_is_valid_json_for_other_tools(tmp_path: Path) -> None:
    write_all(tmp_path / "run").close()
    text = (tmp_path / "run" / "summary.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "sim_time_s": 2.0,
        "log_hash": "ab12",
        "objective": None,
        "bytes_by_kind": {"payload": 9},
        "outcome": "finished",
    }


def test_a_finished_record_is_plain_files_and_opens_read_only(tmp_path: Path) -> None:
    write_all(tmp_path / "run").close()
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "final.npz",
        "record.sqlite",
        "scenario.yaml",
        "summary.json",
    ]
    before = (tmp_path / "run" / "record.sqlite").read_bytes()
    Record.load(tmp_path / "run")
    assert (tmp_path / "run" / "record.sqlite").read_bytes() == before


def test_a_record_opens_while_its_run_goes_on(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "run", HEADER, "") as writer:
        writer.rounds([row(1)])
        assert Record.load(tmp_path / "run").rounds["round"].tolist() == [1]
        writer.rounds([row(2)])
        assert Record.load(tmp_path / "run").rounds["round"].tolist() == [1, 2]


# ---- how a run ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "outcome", "text"),
    [
        (KeyboardInterrupt(), Outcome.INTERRUPTED, "interrupted: stopped by the user after round 2"),
        (Diverged("x is inf at node 3"), Outcome.DIVERGED, "diverged: x is inf at node 3"),
        (Starved("node 1 waits for node 2"), Outcome.STARVED, "starved: node 1 waits for node 2"),
        (MemoryError(), Outcome.TOO_LARGE, "too large: out of memory after round 2"),
        (ValueError("odd"), Outcome.INTERRUPTED, "interrupted: ValueError after round 2: odd"),
    ],
)
def test_an_exception_names_the_outcome(error: BaseException, outcome: Outcome, text: str, tmp_path: Path) -> None:
    with pytest.raises(type(error)), RecordWriter(tmp_path / "run", HEADER, "") as writer:
        writer.rounds([row(1), row(2)])
        raise error
    record = Record.load(tmp_path / "run")
    assert record.ended is outcome
    assert record.outcome == text
    assert record.rounds["round"].tolist() == [1, 2]


CHILD = """
import itertools, sys
from pathlib import Path
from simnet.record import RecordWriter

with RecordWriter(Path(sys.argv[1]), {"seed": 1}, "seed: 1") as writer:
    for r in itertools.count(1):
        writer.rounds([{"round": r, "sim_time_s": 0.5 * r, "wire_bytes": 10 * r, "messages": r, "objective": 1 / r}])
        writer.messages({"exchange": [r] * 50, "sent_s": [0.5 * r] * 50})
        print(r, flush=True)
"""


def stop_in_the_middle(directory: Path, how: signal.Signals) -> tuple[int, int]:
    """Run a writer that never ends, stop it after 20 rounds; returns (last round it told of, exit status)."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as child:
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(20)]
        time.sleep(0.01)
        child.send_signal(how)
        rest = child.stdout.read()  # not communicate, which passes over what readline has read ahead
    return max(told + [int(line) for line in rest.split("\n")[:-1] if line]), child.returncode


def test_kill_9_leaves_every_row_that_was_told_of(tmp_path: Path) -> None:
    told, status = stop_in_the_middle(tmp_path / "run", signal.SIGKILL)
    assert status == -signal.SIGKILL
    record = Record.load(tmp_path / "run")
    last = int(record.rounds["round"][-1])
    assert told <= last <= told + 1
    np.testing.assert_array_equal(record.rounds["round"], np.arange(1, last + 1))
    np.testing.assert_array_equal(record.rounds["objective"], 1 / np.arange(1, last + 1))
    assert np.bincount(record.messages["exchange"])[1 : told + 1].tolist() == [50] * told
    assert record.outcome == f"interrupted: killed after round {last}"
    assert record.ended is Outcome.INTERRUPTED
    assert record.scenario == "seed: 1"


def test_control_c_leaves_every_row_and_says_where_it_stopped(tmp_path: Path) -> None:
    told, _ = stop_in_the_middle(tmp_path / "run", signal.SIGINT)
    record = Record.load(tmp_path / "run")
    last = int(record.rounds["round"][-1])
    assert told <= last <= told + 1
    assert record.outcome == f"interrupted: stopped by the user after round {last}"


def test_a_killed_record_can_be_copied_and_overwritten(tmp_path: Path) -> None:
    stop_in_the_middle(tmp_path / "run", signal.SIGKILL)
    killed = Record.load(tmp_path / "run")
    copy = killed.save(tmp_path / "copy")
    assert copy.outcome == killed.outcome
    np.testing.assert_array_equal(copy.rounds["objective"], killed.rounds["objective"])
    RecordWriter(tmp_path / "run", HEADER, "", overwrite=True).close()
    assert Record.load(tmp_path / "run").rounds["round"].size == 0


def test_a_record_kept_in_memory_can_be_saved(tmp_path: Path) -> None:
    record = write_all(None).record()
    saved = record.save(tmp_path / "run")
    assert saved.directory == tmp_path / "run"
    assert saved.outcome == "finished"
    assert saved.header == record.header
    for table in ("rounds", "nodes", "links", "messages", "spans"):
        ours, theirs = getattr(saved, table), getattr(record, table)
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


# ---- what is refused ---------------------------------------------------------------------------------------------


def test_a_record_is_not_overwritten_unasked(tmp_path: Path) -> None:
    write_all(tmp_path / "run").close()
    with pytest.raises(InputError, match="already holds a record; name another directory"):
        RecordWriter(tmp_path / "run", HEADER, "")
    assert Record.load(tmp_path / "run").outcome == "finished"
    (tmp_path / "run" / "mine.txt").write_text("kept")
    with RecordWriter(tmp_path / "run", HEADER, "", overwrite=True) as writer:
        writer.rounds([row(1)])
    assert Record.load(tmp_path / "run").final == {}
    assert (tmp_path / "run" / "mine.txt").read_text() == "kept"


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        RecordWriter(tmp_path / "file" / "run", HEADER, "")


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such directory"):
        Record.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"it has no record\.sqlite"):
        Record.load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="it is a file; a record is a directory"):
        Record.load(tmp_path / "file")
    write_all(tmp_path / "runs" / "one").close()
    with pytest.raises(DataError, match="it holds the records one; name one of them"):
        Record.load(tmp_path / "runs")


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    writer = write_all(tmp_path / "run")
    writer.messages({"exchange": np.arange(5000), "sent_s": np.arange(5000.0)})
    writer.close()
    path = tmp_path / "run" / "record.sqlite"
    whole = path.read_bytes()
    for damaged in (b"not a database" * 100, whole[: len(whole) // 2], whole[:8192] + b"\xff" * 8192 + whole[16384:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"record\.sqlite .*(corrupt|cannot be read)"):
            Record.load(tmp_path / "run")
    path.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as a record"):
        Record.load(tmp_path / "run")


def test_corrupt_final_values_are_named(tmp_path: Path) -> None:
    write_all(tmp_path / "run").close()
    (tmp_path / "run" / "final.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DataError, match=r"final\.npz is corrupt"):
        Record.load(tmp_path / "run")


def test_a_record_of_another_layout_is_refused(tmp_path: Path) -> None:
    write_all(tmp_path / "run").close()
    db = sqlite3.connect(tmp_path / "run" / "record.sqlite")
    with db:
        db.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    db.close()
    with pytest.raises(DataError, match="layout 99, this simnet reads 1"):
        Record.load(tmp_path / "run")


def test_an_ending_that_has_no_name_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="bored"):
        RecordWriter(None, HEADER, "").end("bored: of it all")
