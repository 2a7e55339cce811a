"""A record as text: aligned, with units, the same for the same run but for the line of the host."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simnet.analysis.scales import common_unit
from simnet.analysis.table import number, rounds_table, summary, to_csv
from simnet.errors import InputError, Outcome
from simnet.record import Record, RecordWriter, first_reached

TARGETS = {
    "accuracy": {"target": 0.9, "value": 0.9, "round": 84, "wire_bytes": 35e6, "sim_time_s": 5.9},
    "objective": {"target": 0.1, "round": None},
    "consensus_distance": None,
}


def finished(host_time_s: float = 0.93, **summary_: Any) -> Record:
    writer = RecordWriter(None, {"name": "a ring", "seed": 3, "device": "cpu", "threads": 1}, "")
    r = np.arange(4, 201, 4)
    columns = {"round": r, "sim_time_s": 0.07 * r, "host_time_s": host_time_s * r / 200, "wire_bytes": 400_000 * r}
    columns |= {"messages": 32 * r, "objective": 0.25 + 2 / r, "consensus_distance": 1.0 / r, "accuracy": 1 - 1 / r}
    columns |= {"tracker_residual": np.full(len(r), 3.1e-9)}
    writer.rounds(columns)
    writer.nodes({"node": [0, 1], "compute_s": [3.0, 4.0], "exposed_comm_s": [10.0, 9.5], "idle_s": [1.0, 0.5]})
    writer.links({"source": [0, 1], "target": [1, 0], "messages": [3200, 3200], "lost_messages": [40, 8]})
    end = {"sim_time_s": 14.0, "host_time_s": host_time_s, "rounds": 200, "wire_bytes": 80_000_000, "messages": 6400}
    end |= {"bytes_by_kind": {"payload": 72e6, "index": 0, "retransmitted": 8e6}, "events_per_s": 1.2e6 / host_time_s}
    end |= {"tier": "arrays", "targets": TARGETS}
    writer.finish(Outcome.FINISHED, {**end, **summary_}, {})
    return writer.record()


SUMMARY = """\
a ring, 2 nodes, seed 3

outcome                           finished
                                  all rounds were run

simulated time                       14.00 s   200 rounds
  compute                             3.50 s    25.0 % mean node, 3.00 s to 4.00 s
  exposed communication               9.75 s    69.6 % mean node, 9.50 s to 10.00 s
  idle                                0.75 s     5.4 % mean node, 0.50 s to 1.00 s

bytes on the wire                   80.00 MB   6,400 messages, 48 lost
  payload                           72.00 MB    90.0 %
  retransmissions                    8.00 MB    10.0 %

after round 200
  objective                           0.2600
  consensus distance                0.005000
  accuracy                            0.9950
  tracker residual                    < 1e-6

target                          rounds  bytes on the wire  simulated time
  accuracy >= 0.9                   84              35 MB           5.9 s
  objective <= 0.1              not reached (last 0.2600)
  consensus distance            not reached (last 0.005000)

host: 930 ms, 1.29 Mevents/s, tier arrays, cpu, 1 thread
"""


def test_the_end_of_a_run_reads_like_this() -> None:
    assert summary(finished()) + "\n" == SUMMARY


def test_an_estimate_says_nothing_of_targets() -> None:
    record = finished()
    nothing_learned = {name: record.rounds[name] for name in ("round", "sim_time_s", "wire_bytes", "messages")}
    said = summary(dataclasses.replace(record, rounds=nothing_learned))
    assert "target" not in said and "after round" not in said


def test_only_the_host_line_depends_on_the_machine() -> None:
    slow, fast = summary(finished(9.0)).splitlines(), summary(finished(0.2)).splitlines()
    assert slow[:-1] == fast[:-1]
    assert slow[-1] != fast[-1]
    assert [line for line in slow if line.startswith("host:")] == [slow[-1]]


def test_an_interrupted_run_is_summed_up_from_its_rows() -> None:
    writer = RecordWriter(None, {"seed": 3}, "")
    writer.rounds([{"round": 8, "sim_time_s": 2.0, "wire_bytes": 900, "messages": 3, "objective": math.nan}])
    text = summary(writer.record())
    assert "interrupted: killed after round 8" in text
    assert "what it had reported is in the record" in text
    assert "8 rounds" in text
    assert "900 B   3 messages" in text
    assert "objective                              nan" in text


def test_a_run_that_reported_nothing_says_so() -> None:
    text = summary(RecordWriter(None, {}, "").record())
    assert "no round was reported" in text
    assert rounds_table(RecordWriter(None, {}, "").record()).startswith("round")


def test_a_table_of_rounds_has_one_unit_a_column_and_ends_with_the_last_row() -> None:
    lines = rounds_table(finished(), ["round", "sim_time_s", "wire_bytes", "objective"], every=20).splitlines()
    assert lines == [
        "round  simulated time (s)  bytes on the wire (MB)  objective",
        "    4                0.28                    1.60     0.7500",
        "   84                5.88                   33.60     0.2738",
        "  164               11.48                   65.60     0.2622",
        "  200               14.00                   80.00     0.2600",
    ]
    assert len(rounds_table(finished()).splitlines()) <= 23


def test_an_unknown_column_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'objective'"):
        rounds_table(finished(), ["objectiv"])
    with pytest.raises(InputError, match="did you mean 'accuracy'"):
        finished().reached("acuracy", 0.9)


def test_csv_gives_back_the_numbers(tmp_path: Path) -> None:
    record = finished()
    rounds = {**record.rounds, "objective": np.where(record.rounds["round"] == 4, np.nan, record.rounds["objective"])}
    path = to_csv(dataclasses.replace(record, rounds=rounds), tmp_path / "rounds.csv")
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["objective"] == ""
    assert [float(row["objective"]) for row in rows[1:]] == rounds["objective"][1:].tolist()
    assert [int(row["round"]) for row in rows] == rounds["round"].tolist()


def test_targets_are_reached_upwards_for_accuracy_and_downwards_for_the_rest() -> None:
    rounds = finished().rounds
    assert first_reached(rounds, "accuracy", 0.9) == {
        "value": 0.9,
        "round": 12,
        "wire_bytes": 4_800_000,
        "sim_time_s": pytest.approx(0.84),
    }
    assert first_reached(rounds, "objective", 0.3) is not None
    assert first_reached(rounds, "objective", 0.1) is None
    assert first_reached({**rounds, "accuracy": np.full(50, np.nan)}, "accuracy", 0.1) is None


def test_a_target_is_reached_also_in_single_precision() -> None:
    rounds = {**finished().rounds, "accuracy": np.full(50, float(np.float32(0.9)))}
    assert rounds["accuracy"][0] < 0.9
    assert first_reached(rounds, "accuracy", 0.9) is not None


def test_an_estimate_has_times_and_bytes_but_no_metrics() -> None:
    writer = RecordWriter(None, {"seed": 3}, "")
    writer.rounds([{"round": 8, "sim_time_s": 2.0, "wire_bytes": 900, "messages": 3}])
    writer.nodes([{"node": 0, "compute_s": 1.0}])
    text = summary(writer.record())
    assert "1 node, seed 3" in text
    assert "1.000 s    50.0 % mean node" in text
    assert "objective" not in text
    assert "exposed" not in text


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (0.25, "", "0.2500"),
        (123456.0, "", "123456"),
        (1e9, "", "1.000e9"),
        (-1.5e-7, "", "-1.500e-7"),
        (0.0, "", "0"),
        (math.inf, "", "inf"),
        (1e-9, "tracker_residual", "< 1e-6"),
        (1e-9, "consensus_distance", "1.000e-9"),
    ],
)
def test_numbers_are_short_and_honest(value: float, name: str, text: str) -> None:
    assert number(value, name) == text


@pytest.mark.parametrize(
    ("largest", "name", "unit"),
    [
        (2e-7, "sim_time_s", "ns"),
        (0.2, "sim_time_s", "ms"),
        (90.0, "sim_time_s", "s"),
        (1800.0, "sim_time_s", "min"),
        (86400.0, "sim_time_s", "h"),
        (0.0, "sim_time_s", "s"),
        (999.0, "wire_bytes", "B"),
        (2.5e10, "wire_bytes", "GB"),
        (math.inf, "objective", ""),
    ],
)
def test_a_column_takes_the_unit_of_its_largest_number(largest: float, name: str, unit: str) -> None:
    assert common_unit([0.0, largest], name)[1] == unit
