"""Every tier and executor agrees also where messages share links, over scenarios that hypothesis makes up."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from simnet.models.topologies.underlays import dumbbell, fat_tree, switch
from tests.test_equality import check_all, comings_and_goings, scenarios


@st.composite
def shared(draw: st.DrawFn) -> dict[str, Any]:
    """One of the scenarios, with messages that share the links of an underlay or of the graph itself."""
    scenario: dict[str, Any] = draw(scenarios())
    network = scenario["network"]
    del network["ports"], network["receive_ports"]
    network["model"] = draw(st.sampled_from(("maxmin", "cm02", "lv08", "lv08_noxt", "tcp")))
    if network["model"] == "tcp":
        network["policy"] = "retry"
        network["tcp"] = {"control": draw(st.sampled_from(("cubic", "reno", "bbr"))), "warm": draw(st.booleans())}
    if network["loss_unit"] == "packet" and draw(st.booleans()):
        network["link"]["burst"] = {"to_bad": 0.1, "to_good": 0.5}
    under = draw(st.sampled_from((None, switch, dumbbell, fat_tree)))
    if under is not None:
        scenario["topology"] = network.pop("graph")
        network["graph"] = under(network.pop("nodes"))
    scenario["record"] |= {"timeline": draw(st.booleans())}
    return scenario


@settings(max_examples=40)
@given(scenario=shared(), chunk_rows=st.sampled_from((None, 2)))
def test_all_tiers_and_executors_agree_over_shared_links(scenario: dict[str, Any], chunk_rows: int | None) -> None:
    check_all(scenario, chunk_rows)


@settings(max_examples=20)
@given(data=st.data(), scenario=shared())
def test_all_tiers_and_executors_agree_over_shared_links_on_who_is_away(
    data: st.DataObject, scenario: dict[str, Any]
) -> None:
    network = scenario["network"]
    n = network.get("nodes") or sum(1 for v, router in network["graph"].nodes(data="router") if not router)
    scenario["nodes"] |= data.draw(comings_and_goings(n))
    check_all(scenario)
