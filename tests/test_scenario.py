"""Reading scenarios, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simnet.errors import InputError, ScenarioError, UnitError, UnknownName
from simnet.fields import Part
from simnet.parts import check_names
from simnet.scenario import Scenario, schema

TEXT = """\
name: try
network:
  nodes: 16
  graph: {name: erdos_renyi, p: 0.3}
  link: {bandwidth: 10 Mbit/s, latency: 5 ms, loss: 5 %}
  links:
    - {between: [0, 1], bandwidth: 1 Mbit/s}
    - {from: 0, to: 2, loss: 1e-3}
nodes:
  step: 10 ms
  jitter: 0.1
  groups:
    - {nodes: [0, 3], oracle: zo}
    - {fraction: 25 %, compute: 1 GFLOP/s}
problem: {name: Quadratic, dim: 5, batch: full}
algorithm: {name: DPSGD, eta: 0.1}
rounds: 200
target: {accuracy: 0.9}
stop: {bytes: 1 GB}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    return read(tmp_path, TEXT)


def read(folder: Path, text: str) -> Scenario:
    file = folder / "try.yaml"
    file.write_text(text, encoding="utf-8")
    return Scenario.read(file)


def minimal(**more: Any) -> Scenario:
    return Scenario(**({"network": {"nodes": 4}, "problem": "Quadratic", "algorithm": "DPSGD"} | more))


# ---- what is read -------------------------------------------------------------------------------------------------


def test_units_become_si_numbers(scenario: Scenario) -> None:
    assert (scenario.network.link.bandwidth, scenario.network.link.latency) == (1.25e6, 0.005)
    assert scenario.network.link.loss == 0.05
    assert scenario.nodes.step == {"*": 0.01}
    assert scenario.nodes.groups[1].compute == 1e9
    assert scenario.stop.bytes == 1e9


def test_a_part_is_a_name_with_parameters_or_an_object(scenario: Scenario) -> None:
    assert scenario.network.graph == Part("erdos_renyi", {"p": 0.3})
    assert scenario.mixing == Part("metropolis")
    given = nx.path_graph(4)
    assert minimal(network={"graph": given}).network.graph.object is given


def test_a_problem_keeps_its_own_keys_apart_from_the_kernels(scenario: Scenario) -> None:
    assert scenario.problem.params == {"dim": 5}
    assert scenario.problem.batch == "full"


def test_the_name_is_the_files_by_default(tmp_path: Path) -> None:
    assert read(tmp_path, TEXT.removeprefix("name: try\n")).name == "try"


def test_places_are_lines_and_columns_from_one(scenario: Scenario) -> None:
    assert scenario.place("rounds") == "try.yaml:17:9"
    assert scenario.place("network.link.loss") == "try.yaml:5:53"
    assert scenario.place("nodes.groups.1.fraction") == "try.yaml:14:18"
    assert scenario.place("problem.dim") == "try.yaml:15:33"
    assert minimal().place("rounds") == ""


def test_a_dump_reads_back_equal(scenario: Scenario, tmp_path: Path) -> None:
    assert read(tmp_path, scenario.dump()) == scenario


@given(
    st.integers(-(2**40), 2**40),
    st.floats(0, 0.999),
    st.floats(1e-300, 1e300),
    st.sampled_from(["no", "1e3", "a: b", "ring #5", "~", "yes", "ÅÄÖ", "0x10", "a\nb"]),
)
def test_every_value_survives_a_dump(seed: int, loss: float, bandwidth: float, name: str) -> None:
    import tempfile

    before = minimal(seed=seed, name=name, network={"nodes": 4, "link": {"loss": loss, "bandwidth": bandwidth}})
    with tempfile.TemporaryDirectory() as folder:
        assert read(Path(folder), before.dump()) == before


def test_of_takes_a_path_a_dict_or_a_scenario(scenario: Scenario) -> None:
    assert Scenario.of(scenario) is scenario
    assert scenario.source is not None
    assert Scenario.of(scenario.source) == Scenario.of(str(scenario.source)) == scenario
    assert Scenario.of({"network": {"nodes": 4}, "problem": "Quadratic", "algorithm": "DPSGD"}) == minimal()


def test_with_values_replaces_dotted_fields(scenario: Scenario) -> None:
    other = scenario.with_values(
        {
            "network.link.loss": "1 %",
            "nodes.groups.0.oracle": "fo",
            "network.graph.p": 0.5,
            "target": "{accuracy: 0.8}",
            "nodes.straggler": {"probability": 0.1, "slowdown": 5},
        }
    )
    assert other.network.link.loss == 0.01
    assert other.nodes.groups[0].oracle == "fo"
    assert other.network.graph == Part("erdos_renyi", {"p": 0.5})
    assert other.target == {"accuracy": 0.8}
    assert other.nodes.straggler is not None
    assert scenario.network.link.loss == 0.05


def test_a_parameter_can_be_set_under_a_plain_name() -> None:
    made = minimal().with_values({"algorithm.eta": "0.2", "problem.dim": 3})
    assert made.algorithm == Part("DPSGD", {"eta": 0.2})
    assert (made.problem.name, made.problem.params) == ("Quadratic", {"dim": 3})


def test_objects_survive_with_values() -> None:
    given = nx.path_graph(4)
    assert minimal(network={"graph": given}).with_values({"network.link.loss": 0.1}).network.graph.object is given


def test_a_step_may_differ_by_oracle() -> None:
    assert minimal(nodes={"step": {"gradient": "2 ms", "loss": 0.001}}).nodes.step == {"gradient": 0.002, "loss": 0.001}


def test_a_scenario_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        minimal().rounds = 3  # type: ignore[misc]


def test_the_schema_knows_every_section_and_its_words() -> None:
    made = schema()
    assert set(Scenario.model_fields) == set(made["properties"])
    assert made["$defs"]["Link"]["additionalProperties"] is False
    assert made["$defs"]["Link"]["properties"]["loss"]["description"].startswith("The probability")
    assert made["$defs"]["LinkOverride"]["properties"].keys() >= {"from", "to", "between"}


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "kind", "says"),
    [
        ("loss: 5 %", "loss: 1.2", ScenarioError,
         "try.yaml:5:53 network.link.loss = 1.2: must be at least 0 and below 1: the probability that a packet is "
         "lost, such as 0.01 or '1 %'"),
        ("loss: 5 %", "loss: 1", ScenarioError,
         "try.yaml:5:53 network.link.loss: a loss of 1 under `policy: retry` would send for ever"),
        ("loss: 5 %", "losss: 5 %", UnknownName,
         "try.yaml:5:47 network.link.losss: there is no such key; did you mean 'loss'?"),
        ("rounds: 200", "runds: 200", UnknownName, "try.yaml:17:1 runds: there is no such key; did you mean 'rounds'?"),
        ("rounds: 200", "xyzzy: 200", UnknownName, "xyzzy: there is no such key; known here: name, seed, network"),
        ("{between: [0, 1], bandwidth", "{between: [0, 1], bandwith", UnknownName,
         "try.yaml:7:25 network.links.0.bandwith: there is no such key; did you mean 'bandwidth'?"),
        ("10 Mbit/s", "20 ms", UnitError,
         "try.yaml:5:21 network.link.bandwidth: '20 ms' is a duration. Expected a bandwidth in bytes/s, "
         "such as '100 Mbit/s' or the bare number 1.25e7"),
        ("10 Mbit/s", "0", ScenarioError, "must be above 0 bytes/s"),
        ("5 ms", "-5 ms", ScenarioError, "network.link.latency = '-5 ms': must be at least 0 s"),
        ("1 GFLOP/s", "0", ScenarioError,
         "try.yaml:14:33 nodes.groups.1.compute = 0: must be above 0 FLOP/s, such as '10 GFLOP/s'"),
        ("rounds: 200", "rounds: 0", ScenarioError, "try.yaml:17:9 rounds = 0: must be at least 1"),
        ("rounds: 200", "rounds: many", ScenarioError, "rounds = 'many': must be a whole number"),
        ("rounds: 200", "rounds: 2.5", ScenarioError, "rounds = 2.5: must be a whole number"),
        ("rounds: 200", "rounds: true", ScenarioError, "rounds = True: must be a whole number"),
        ("oracle: zo", "oracle: zoo", ScenarioError,
         "try.yaml:13:31 nodes.groups.0.oracle = 'zoo': must be fo or zo; did you mean 'zo'?"),
        ("{nodes: [0, 3]", "{nodes: [0, 3], count: 2", ScenarioError,
         "try.yaml:13:7 nodes.groups.0: needs exactly one of"),
        ("{nodes: [0, 3]", "{nodes: [0.5]", ScenarioError, "nodes.groups.0.nodes.0 = 0.5: must be a host"),
        ("{from: 0, to: 2", "{from: 0", ScenarioError, "try.yaml:8:7 network.links.1: needs either `between: [a, b]`"),
        ("between: [0, 1]", "between: [0]", ScenarioError, "network.links.0.between.1: must be a list of two"),
        ("jitter: 0.1", "jitter: 1.5", ScenarioError, "nodes.jitter = 1.5: a uniform factor"),
        ("jitter: 0.1", "jitter: {law: unifrom}", ScenarioError, "did you mean 'uniform'?"),
        ("jitter: 0.1", "jitter: wild", ScenarioError, "nodes.jitter = 'wild': must hold keys such as law, spread"),
        ("jitter: 0.1", "straggler: {probability: 0.1}", ScenarioError, "nodes.straggler.slowdown: is required"),
        ("batch: full", "batch: 0", ScenarioError, "problem.batch = 0: must be the number of rows in a minibatch"),
        ("batch: full", "split: iid", ScenarioError, "try.yaml:15:10 problem: has a `split` but no `data` to split"),
        ("{name: DPSGD, eta: 0.1}", "{eta: 0.1}", ScenarioError, "try.yaml:16:12 algorithm: needs a `name`"),
        ("{name: DPSGD, eta: 0.1}", "[DPSGD]", ScenarioError, "algorithm: must be a name, or {name: ...,"),
        ("algorithm: {name: DPSGD, eta: 0.1}\n", "", ScenarioError, "try.yaml algorithm: is required"),
        ("accuracy: 0.9", "accuracy: high", ScenarioError, "target.accuracy = 'high': must be a number"),
        ("{bytes: 1 GB}", "{sim_time: 1 GB}", UnitError, "stop.sim_time: '1 GB' is a size. Expected a duration"),
        ("{bytes: 1 GB}", "1 GB", ScenarioError, "stop = '1 GB': must hold keys such as sim_time, bytes, at_target"),
        ("  nodes: 16", "  nodes: 16\n  nodes: 17", ScenarioError,
         "try.yaml:4:3: the key 'nodes' stands here a second time (first in line 3)"),
        ("[0, 1]", "[0, 1", ScenarioError, "try.yaml:7:"),
        ("name: try", "\tname: try", ScenarioError, "try.yaml:1:1: this is no YAML"),
    ],
)  # fmt: skip
def test_a_wrong_scenario_is_told_where_what_and_what_would_do(
    tmp_path: Path, old: str, new: str, kind: type[ScenarioError], says: str
) -> None:
    assert TEXT.count(old) == 1 or old in ("name: try", "[0, 1]", "  nodes: 16", "rounds: 200")
    with pytest.raises(ScenarioError) as error:
        read(tmp_path, TEXT.replace(old, new, 1))
    assert says in str(error.value)
    assert type(error.value) is kind
    assert "pydantic" not in str(error.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as error:
        read(tmp_path, TEXT.replace("rounds: 200", "runds: 200").replace("5 ms", "5 MB"))
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert "network.link.latency" in lines[0] and "runds" in lines[1]


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "just words\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ScenarioError, match=r"^try\.yaml: a scenario is a mapping: lines of `key: value`"):
        read(tmp_path, text)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "try.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ScenarioError, match="is not UTF-8 text"):
        Scenario.read(tmp_path / "try.yaml")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"network.link.loss": 1.2}, "--set network.link.loss = 1.2: must be at least 0 and below 1"),
        ({"network.links.5.loss": 0.1}, "network.links is a list with items 0 to 1; '5' is none of them"),
        ({"rounds.x": 3}, "rounds is 200 and holds no fields"),
        ({"network.lnk.loss": 0.1}, "--set network.lnk: there is no such key; did you mean 'link'?"),
        (
            {"network.mixing": "uniform"},
            "--set network.mixing: there is no such key; 'mixing' stands at the top level, beside 'network'",
        ),
        ({"target": "{accuracy: 0.9"}, "--set target = '{accuracy: 0.9': is no YAML"),
    ],
)
def test_a_wrong_setting_says_that_it_was_set(scenario: Scenario, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError) as error:
        scenario.with_values(values)
    assert says in str(error.value)


def test_an_empty_step_in_a_dotted_field_is_refused(scenario: Scenario) -> None:
    with pytest.raises(InputError, match=r"'network\.\.loss' is no dotted field"):
        scenario.with_values({"network..loss": 0.1})


def test_a_missing_file_is_told_of_the_nearest(scenario: Scenario, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no scenario .*: neither a file nor a shipped name; did you mean"):
        Scenario.read(tmp_path / "tryy.yaml")
    with pytest.raises(InputError, match="is a folder"):
        Scenario.read(tmp_path)


def test_python_errors_name_the_field_alone() -> None:
    with pytest.raises(ScenarioError, match=r"^network\.link\.loss = 1\.2: must be at least 0"):
        minimal(network={"nodes": 4, "link": {"loss": 1.2}})


def test_an_error_from_deeper_down_gets_its_place(scenario: Scenario) -> None:
    says = r"^try\.yaml:7:5 network\.links: there is no link 0 -> 9$"
    with pytest.raises(ScenarioError, match=says) as error, scenario.placing():
        raise ScenarioError("there is no link 0 -> 9", field="network.links")
    assert error.value.place == "try.yaml:7:5"


def test_names_are_checked_with_their_place(scenario: Scenario) -> None:
    good = scenario.with_values({"algorithm": "fractions:Fraction"})  # any callable without required parameters
    check_names(good)
    with pytest.raises(
        UnknownName, match=r"^try\.yaml:15:33 problem\.dmi: Quadratic has no parameter 'dmi'; did you mean"
    ):
        check_names(read(scenario.base_dir, TEXT.replace("dim: 5", "dmi: 5")))
